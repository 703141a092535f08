"""What pictures share, and the pictures: labels stay inside and apart, ticks are readable, a gap where nothing counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tl_keras.select import axes as module
from tl_keras.select.axes import overlap, readable_ticks, shortened
from tl_keras.select.ranking import plot as front_module
from tl_keras.select.ranking.plot import draw_front
from tl_keras.select.ranking.rank import RankedBackbone
from tl_keras.select.search import plot as trials_picture
from tl_keras.select.search.oracles import Outcome, importance
from tl_keras.select.search.plot import draw_trials, evenly, heights, ticks
from tl_keras.select.search.space import read_space


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (3, 70, [5, 10, 20, 50]),
        (0.02, 0.6, [0.02, 0.05, 0.1, 0.2, 0.5]),
        (1e-5, 10, [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10]),
    ],
)
def test_ticks_are_1_2_5_and_powers_of_a_long_axis(low: float, high: float, expected: list[float]) -> None:
    assert readable_ticks(low, high) == pytest.approx(expected)


def test_a_long_name_keeps_its_ends() -> None:
    assert shortened("mobilenet_v2", 12) == "mobilenet_v2"
    assert shortened("a_backbone_of_mine_v3", 11) == "a_bac…ne_v3"


def judged_of(count: int) -> list[RankedBackbone]:
    draws = np.random.default_rng(0)
    names = [f"backbone_{number}" if number % 5 else f"/models/{'a_long_name_' * 8}{number}.keras" for number in range(count)]
    found = [(name, float(draws.uniform(0.8, 0.9)), float(10 ** draws.uniform(0, 2))) for name in names]
    return [RankedBackbone(name, (224, 224), accuracy, (accuracy - 0.02, accuracy + 0.02), {}, 10, ms) for name, accuracy, ms in found]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 25])
def test_labels_of_a_ranking_lie_inside_of_the_picture_and_not_on_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    seen: list[Any] = []
    real: Callable[..., None] = module.place_labels
    monkeypatch.setattr(front_module, "place_labels", lambda *given: seen.append(given) or real(*given))
    judged = judged_of(count)
    draw_front(tmp_path / "rank.png", judged, judged[0])
    ((axes, _, labels),) = seen
    frame = axes.get_window_extent()
    boxes = text_boxes(labels)
    assert len(boxes) == count
    assert max(len(label.get_text()) for label in labels) <= front_module.LONGEST_NAME
    assert all(frame.x0 <= left and right <= frame.x1 and frame.y0 <= bottom and top <= frame.y1 for left, bottom, right, top in boxes)
    assert not [place for place, one in enumerate(boxes) if any(overlap(one, other) for other in boxes[:place])]
    shown = [tick.get_text() for tick in axes.get_xticklabels()]
    assert len(shown) >= 2
    assert {text.replace(".", "").strip("0") for text in shown} <= {"1", "2", "5"}
    assert (tmp_path / "rank.png").read_bytes().startswith(b"\x89PNG")


def text_boxes(labels: list[Any]) -> list[tuple[float, float, float, float]]:
    """Of the texts alone, without the lines that tie them to their points."""
    from matplotlib.text import Text

    boxes = [Text.get_window_extent(label) for label in labels]
    return [(box.x0, box.y0, box.x1, box.y1) for box in boxes]


SPACE = read_space(
    {
        "features.selection": {"choice": ["none", "head2toe"]},
        "features.keep": {"float": [0.02, 0.6], "log": True, "when": {"features.selection": "head2toe"}},
        "train.epochs": {"int": [3, 40]},
    }
)


def test_what_does_not_count_has_no_height() -> None:
    selection, epochs, keep = (
        next(one for one in SPACE if one.path == path) for path in ("features.selection", "train.epochs", "features.keep")
    )
    assert np.isnan(heights([None, 0.02], keep)).tolist() == [True, False]
    assert heights(["none", "head2toe"], selection).tolist() == [0, 1]
    assert ticks(selection) == [("none", 0.0), ("head2toe", 1.0)]
    assert [text for text, _ in ticks(epochs)] == ["3", "10", "20", "30", "40"]
    assert [text for text, _ in ticks(keep)] == ["0.02", "0.05", "0.1", "0.2", "0.5", "0.6"]
    assert evenly(0.0, 0.35) == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("count", [1, 30])
def test_trials_are_drawn_without_what_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    lines: list[Any] = []
    real = trials_picture.draw_line
    monkeypatch.setattr(
        trials_picture, "draw_line", lambda axes, values, *rest, **more: lines.append(values) or real(axes, values, *rest, **more)
    )
    settings: list[dict[str, Any]] = [
        {"features.selection": "none", "train.epochs": 5},
        {"features.selection": "head2toe", "train.epochs": 9},
    ]
    settings[1]["features.keep"] = 0.1
    found = [Outcome(str(number), settings[number % 2], 1.0, {"val_loss": 0.3 + number / 100}, None) for number in range(count)]
    weights = importance(found, SPACE, "val_loss")
    draw_trials(tmp_path / "trials.png", [*found, Outcome("x", settings[0], 1.0, {}, "failed")], SPACE, "val_loss", weights)
    assert len(lines) == count
    assert sum(np.isnan(values).any() for values in lines) == (count + 1) // 2
    assert (tmp_path / "trials.png").read_bytes().startswith(b"\x89PNG")
