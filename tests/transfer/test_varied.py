"""Images that are all alike stop a training run with one line, in every mode that learns from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tl_keras.config import Config
from tl_keras.data.pipeline import Pixels
from tl_keras.data.sources import open_source
from tl_keras.errors import DataError
from tl_keras.progress import Progress
from tl_keras.select.ranking.rank import rank_candidates
from tl_keras.select.search.head_trials import HeadTrials
from tl_keras.transfer.task import Task
from tl_keras.transfer.varied import READ_AT_ONCE, require_varied
from tl_keras.workflows.crossval import crossval

MakeTask = Callable[..., Task]
BLACK = r"all {} images to learn from are the same once decoded, with pixel values from 0 to 0 of 0 to 255\. Look at .*\.png\."


def photos(folder: Path, values: list[int]) -> Path:
    """Two classes of grey images, each of a size of its own, so that no two files are equal."""
    for number, value in enumerate(values):
        path = folder / ("ant", "bee")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30 + number, 40), (value,) * 3).save(path)
    return folder


def pixels_of(folder: Path) -> Pixels:
    return Pixels(sorted(folder.rglob("*.png")), (16, 16), "crop")


@pytest.mark.parametrize("value", [0, 200])
def test_images_that_are_all_alike_are_refused(tmp_path: Path, value: int) -> None:
    pixels = pixels_of(photos(tmp_path, [value] * 20))
    with pytest.raises(DataError, match=f"all 20 images .* pixel values from {value} to {value} of 0 to 255"):
        require_varied(pixels, np.arange(20))


def test_one_image_that_differs_is_enough_and_no_more_are_read_than_that_takes(tmp_path: Path) -> None:
    folder = photos(tmp_path, [0] * 19 + [9])
    require_varied(pixels_of(folder), np.arange(20))
    pixels = pixels_of(photos(tmp_path / "varied", [0, 0, 5] + [0] * 30))
    require_varied(pixels, np.arange(33))
    assert pixels.good.sum() <= READ_AT_ONCE * 2


def test_a_file_that_does_not_decode_is_left_to_those_who_count_them(tmp_path: Path) -> None:
    folder = photos(tmp_path, [0] * 10)
    (folder / "ant" / "0.png").write_bytes(b"no image")
    pixels = pixels_of(folder)
    with pytest.raises(DataError, match="all 10 images"):
        require_varied(pixels, np.arange(10))
    assert list(pixels.bad) == [0]
    require_varied(pixels, np.array([0]))


@pytest.mark.parametrize("mode", ["extract", "finetune", "pretrain"])
def test_black_images_stop_every_training_before_it_begins(make_task: MakeTask, tmp_path: Path, mode: str) -> None:
    with pytest.raises(DataError, match=BLACK.format(28)):
        make_task(mode=mode, data={"source": str(photos(tmp_path / "photos", [0] * 40))})


def test_black_images_stop_ranking_folds_and_trials(tmp_path: Path) -> None:
    base: dict[str, Any] = {"data": {"source": str(photos(tmp_path / "photos", [0] * 40)), "image_size": 16}}
    config = Config.model_validate(base | {"mode": "extract", "rank": {"candidates": ["small_resnet"]}})
    with pytest.raises(DataError, match=BLACK.format(r"\d+")):
        HeadTrials(open_source(config.data), Progress())(config, 1.0)
    with pytest.raises(DataError, match=BLACK.format(r"\d+")):
        rank_candidates(config, open_source(config.data), Progress())
    with pytest.raises(DataError, match=BLACK.format(r"\d+")):
        crossval(Config.model_validate(base | {"mode": "crossval"}), tmp_path / "R")
