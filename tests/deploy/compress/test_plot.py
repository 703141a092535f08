"""The picture of a compressed run: every point is there in both panels, and no label lies on another."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from tl_keras.deploy.compress import plot as module
from tl_keras.deploy.compress.plot import draw_points
from tl_keras.select.axes import overlap

FORMATS = ("litert", "litert_float16", "litert_int8", "onnx")


def points() -> list[dict[str, Any]]:
    """Twenty forms of five runs, some as large and as good as each other."""
    return [
        {
            **{"run": run, "format": form, "bytes": 9e6 / (place + 1) / 2**at, "single_ms": 5.0 / (place + 1)},
            **{"accuracy": 0.9 - 0.01 * place, "accuracy_ci95": [0.85 - 0.01 * place, 0.94]},
        }
        for place, run in enumerate(["original", "pruned_0.5", "pruned_0.8", "student_a", "a name " * 9])
        for at, form in enumerate(FORMATS)
    ]


def test_labels_lie_apart_and_each_point_is_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real: Callable[..., None] = module.place_labels
    monkeypatch.setattr(module, "place_labels", lambda *given: real(*given) or seen.append(given))
    draw_points(tmp_path / "c.png", points(), "original")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert len(seen) == 2
    for _, spots, labels in seen:
        assert [label.get_text() for label in labels] == [*FORMATS] * 5
        assert [y for _, y in spots] == [point["accuracy"] for point in points()]
        boxes = [Text.get_window_extent(label) for label in labels]  # without the lines that tie them to their points
        for one, other in combinations(boxes, 2):
            assert not overlap((one.x0, one.y0, one.x1, one.y1), (other.x0, other.y0, other.x1, other.y1))
    assert [x for x, _ in seen[0][1]] == [point["bytes"] / 1e6 for point in points()]
    assert [x for x, _ in seen[1][1]] == [point["single_ms"] for point in points()]


def test_without_test_images_there_is_nothing_to_draw(tmp_path: Path) -> None:
    draw_points(tmp_path / "c.png", [{"run": "original", "format": "onnx", "bytes": 1, "single_ms": 1.0}], "original")
    assert not (tmp_path / "c.png").exists()
