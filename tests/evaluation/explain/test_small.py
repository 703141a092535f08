"""Small maps for a page: of the answer, for files that decode, where the network has a feature map."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tl_keras.config import DataConfig
from tl_keras.evaluation.explain.explainer import Explainer
from tl_keras.evaluation.explain.small import small_maps
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.workflows.report import report

CLASSES = ("red", "green", "blue")


def test_each_file_has_the_map_of_its_answer(finder: Explainer, scene: Callable[..., Any], tmp_path: Path) -> None:
    maps = small_maps(finder.model, SINGLE_LABEL, finder.stages, CLASSES, DataConfig())
    assert maps is not None
    Image.fromarray(scene(0, 0, 2)[0]).save(tmp_path / "a.png")
    Image.fromarray(scene(0, 0, 2)[0]).save(tmp_path / "b.png")
    (tmp_path / "bad.png").write_bytes(b"")
    found = maps.addresses({tmp_path / "a.png": "red", tmp_path / "b.png": "blue", tmp_path / "bad.png": "red", tmp_path / "c.png": ""})
    assert list(found) == [tmp_path / "a.png", tmp_path / "b.png"]
    assert len(set(found.values())) == 2
    assert all(each.startswith("data:image/jpeg;base64,") for each in found.values())
    assert small_maps(finder.model, SINGLE_LABEL, {}, CLASSES, DataConfig()) is None


def test_the_report_has_a_map_beside_each_example_and_makes_it_again(trained: tuple[Path, Path], tmp_path: Path, heard: Any) -> None:
    page = (trained[0] / "report.html").read_text()
    examples = page[page.index('aria-labelledby="examples"') :].partition("</section>")[0]
    assert examples.count("<figcaption>map for ") == examples.count('class="card"') > 5
    shutil.copytree(trained[0], tmp_path / "R")
    report(tmp_path / "R")
    assert (tmp_path / "R" / "report.html").read_text().count("<figcaption>map for ") == examples.count('class="card"')
    (tmp_path / "R" / "model.keras").unlink()
    report(tmp_path / "R", progress=heard)
    assert "map for" not in (tmp_path / "R" / "report.html").read_text()
    assert [line.partition(":")[0] for line in heard.lines] == ["no maps"]
