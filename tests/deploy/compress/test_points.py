"""What is told of a form: its size as it is and packed, its speed, and its line in the table."""

import csv
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tl_keras.deploy.compress import points as module
from tl_keras.deploy.compress.points import HEADER, compressed_bytes, speed_of, write_points


def test_packed_size_is_that_of_deflate_over_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)  # of files larger than a chunk
    rng = np.random.default_rng(0)
    contents = [rng.normal(size=5000).astype("float32"), np.where(rng.random(5000) < 0.8, 0, rng.normal(size=5000)).astype("float32")]
    for name, values in zip("ab", contents, strict=True):
        (tmp_path / name).write_bytes(values.tobytes())
    sizes = [len(zlib.compress(values.tobytes(), 9)) for values in contents]
    assert [compressed_bytes(tmp_path / name) for name in "ab"] == sizes
    assert sizes[1] < 0.5 * sizes[0]
    assert compressed_bytes(tmp_path) == sum(sizes)


def test_speed_is_asked_of_the_export_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    class Said:
        speed = {"single_ms": 2.0}  # noqa: RUF012

    monkeypatch.setattr(module, "ask", lambda *given, is_timed: asked.append((*given, is_timed)) or Said)
    assert speed_of("onnx", tmp_path / "model.onnx", (8, 6)) == {"single_ms": 2.0}
    ((form, artifact, pixels, _, is_timed),) = asked
    assert (form.needs, artifact.name, pixels.shape, is_timed) == (("onnxruntime",), "model.onnx", (1, 8, 6, 3), True)


def test_each_point_has_a_line_the_refused_too(tmp_path: Path) -> None:
    runs = {"original": {"backbone": "b", "zeros": 0.0, "val": {"accuracy": 0.5}, "test": {"accuracy": 0.25}}}
    point = {
        **{"run": "original", "format": "onnx", "file": "model.onnx", "bytes": 10, "compressed_bytes": 5, "images": 4, "agreement": 1.0},
        **{"accuracy": 0.75, "accuracy_ci95": [0.5, 0.9], "single_ms": 1.5, "images_per_second": 9.0},
    }
    write_points(tmp_path / "c.csv", runs, [point, {"run": "original", "format": "litert", "refused": "it differs"}])
    first, second = csv.DictReader((tmp_path / "c.csv").read_text().splitlines())
    assert tuple(first) == HEADER
    assert (first["accuracy"], first["low"], first["high"], first["val_accuracy"]) == ("0.75", "0.5", "0.9", "0.5")
    assert (second["refused"], second["bytes"], second["val_accuracy"]) == ("it differs", "", "0.5")
