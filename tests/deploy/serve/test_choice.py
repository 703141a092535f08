"""Which form of a run answers: the fastest that agreed with the model and is what was compared, or the one that was asked for."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tl_keras.deploy.export import hashes_of
from tl_keras.deploy.serve import choice
from tl_keras.deploy.serve.choice import MODEL, open_form
from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.export_formats import EXPORT_FORMATS
from tl_keras.run_folder import EXPORT_RECORD, write_json
from tl_keras.trained_run import TrainedRun, open_run

Export = Callable[..., TrainedRun]


@pytest.fixture
def exported(trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """A factory of runs with exports of these speeds, whose files are anything."""
    monkeypatch.setattr(choice, "ExportedPredictor", lambda run, kind, thresholds: kind)

    def make(**speeds: float) -> TrainedRun:
        folder = Path(shutil.copytree(trained[0], tmp_path / "R"))
        (folder / "export").mkdir()
        rows: dict[str, Any] = {}
        for name, speed in speeds.items():
            target = folder / "export" / EXPORT_FORMATS[name].file
            target.write_text(name)
            rows[name] = {"file": target.name, "bytes": len(name), "sha256": hashes_of(target), "agreement": 1.0}
            rows[name] |= {"largest_difference": {"float": 0.0}, "single_ms": 1.0, "images_per_second": speed}
        write_json(folder / "export" / EXPORT_RECORD, {"formats": rows})
        return open_run(folder)

    return make


def test_the_fastest_export_answers(exported: Export, heard: Any) -> None:
    assert open_form(exported(onnx=10, litert_int8=30, litert=20), None, heard)[::2] == ("litert_int8", "litert_int8")
    assert not heard.lines


def test_the_one_that_was_asked_for_answers(exported: Export, heard: Any) -> None:
    assert open_form(exported(onnx=10, litert=20), "onnx", heard)[0] == "onnx"


def test_without_exports_the_model_answers(trained: tuple[Path, Path], exported: Export, heard: Any) -> None:
    assert open_form(open_run(trained[0]), None, heard)[0] == MODEL
    run = exported(onnx=1)
    (run.run / "export" / EXPORT_FORMATS["onnx"].file).unlink()
    assert open_form(run, None, heard)[0] == MODEL


def test_an_export_whose_package_is_not_here_is_left_out(exported: Export, heard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "is_installed", lambda name: name != "ai-edge-litert")
    assert open_form(exported(onnx=10, litert=20), None, heard)[0] == "onnx"
    assert heard.lines == ["the export 'litert' is left out: ai-edge-litert is not installed here"]


def test_what_was_not_compared_with_the_model_does_not_answer(exported: Export, heard: Any) -> None:
    run = exported(onnx=1)
    with pytest.raises(
        ConfigError, match=r"has no export 'openvino' that was compared with the model\. Write it: .*export .*--format openvino"
    ):
        open_form(run, "openvino", heard)
    (run.run / "export" / EXPORT_FORMATS["onnx"].file).write_text("another")
    for asked in (None, "onnx"):
        with pytest.raises(RunFolderError, match=r"model\.onnx: is not what was compared with the model\. Export it again: "):
            open_form(run, asked, heard)


def test_a_damaged_record_is_told_in_a_line(exported: Export, heard: Any) -> None:
    run = exported(onnx=10)
    for found in ({"formats": {"onnx": {}}}, {"formats": {"no_format": {}}}, {}):
        write_json(run.run / "export" / EXPORT_RECORD, found)
        with pytest.raises(RunFolderError, match=r"export\.json: is damaged.*Delete it, and export again"):
            open_form(run, None, heard)


def test_the_version_is_that_of_the_files(exported: Export, heard: Any) -> None:
    run = exported(onnx=1).run
    file = run / "export" / EXPORT_FORMATS["onnx"].file
    told = subprocess.run(
        "sha256sum model.onnx | sha256sum", shell=True, cwd=file.parent, capture_output=True, text=True, check=True
    ).stdout
    assert choice.choose(run, None, heard) == ("onnx", told[:12])
    file.unlink()
    kind, version = choice.choose(run, None, heard)
    assert kind == MODEL
    assert version not in told
