"""Pictures are written, whatever classes are called, and nothing is drawn where there is nothing to see."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from tl_keras.evaluation.pictures import draw_confusion, draw_curves

HEADER = "phase,epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds,head_c\n"


@pytest.mark.parametrize("classes", [("cat", "dog"), ("$x^{", "gr\udcfcn", "猫", "a\nb", "n" * 200), tuple(map(str, range(70)))])
def test_a_confusion_matrix_is_drawn_for_any_names_and_number_of_classes(tmp_path: Path, classes: tuple[str, ...]) -> None:
    draw_confusion(tmp_path / "confusion.png", np.eye(len(classes), dtype=int).tolist(), classes, "test")
    with Image.open(tmp_path / "confusion.png") as image:
        width, height = image.size
        assert 300 <= width <= 2000
        assert 300 <= height <= 2000
        assert len(np.unique(np.asarray(image.convert("L")))) > 2
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]


def test_curves_are_drawn_from_two_lines_on(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    assert not draw_curves(tmp_path / "curves.png", history)
    history.write_text(f"{HEADER}head,0,0.5,0.9,0.6,0.8,,0.1,0.01\n")
    assert not draw_curves(tmp_path / "curves.png", history)
    history.write_text(
        f"{HEADER}head,0,0.5,0.9,0.6,0.8,,0.1,0.01\nfinetune,1,,0.9,0.6,0.8,0.001,2.0,\nfinetune,2,0.4,0.9,0.6,0.8,0.001,2.0,\n"
    )
    assert draw_curves(tmp_path / "curves.png", history)
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1100, 440)


def test_a_figure_that_no_epoch_has_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of mixed images there is no accuracy."""
    history, named = tmp_path / "history.csv", list[str]()
    history.write_text(f"{HEADER}finetune,1,0.5,,0.6,0.8,0.001,2.0,\nfinetune,2,0.4,,0.6,0.8,0.001,2.0,\n")
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, *values, **style: named.append(style["label"]) or plot(axes, *values, **style))
    assert draw_curves(tmp_path / "curves.png", history)
    assert named == ["train (as it is lowered)", "val (log loss)", "val"]
