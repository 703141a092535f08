"""Pictures are written, whatever classes are called, and nothing is drawn where there is nothing to see."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from tl_keras.data.dataset import ImageData
from tl_keras.data.index import Index
from tl_keras.evaluation.pictures import draw_average_precision, draw_confusion, draw_curves, draw_domains
from tl_keras.evaluation.scoring import draw_errors
from tl_keras.models.outputs import Regression
from tl_keras.transfer.adapt.plane import principal_plane

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


def test_what_is_true_lies_across_and_what_is_predicted_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    scatter = Axes.scatter
    monkeypatch.setattr(Axes, "scatter", lambda axes, x, y, **style: drawn.append((axes, x, y)) or scatter(axes, x, y, **style))
    labels, numbers = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    index = Index(root=Path(), classes=("age",), paths=("a", "b"), labels=labels, output=Regression())
    data = ImageData(index, None, np.array(["test", "test"]))
    draw_errors(tmp_path, data, {}, numbers[:, None], "test")
    ((axes, across, up),) = drawn
    assert (across.tolist(), axes.get_xlabel(), up.tolist(), axes.get_ylabel()) == ([1, 2], "age, true", [3, 4], "age, predicted")
    assert (tmp_path / "scatter.png").is_file()


@pytest.mark.parametrize(("num", "title"), [(3, "test: classes with their images"), (70, "test: the 60 worst of 70 classes")])
def test_the_worst_classes_are_drawn_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num: int, title: str) -> None:
    titles, values = [], []
    set_title, barh = Axes.set_title, Axes.barh
    monkeypatch.setattr(Axes, "set_title", lambda axes, text, **style: titles.append(text) or set_title(axes, text, **style))
    monkeypatch.setattr(Axes, "barh", lambda axes, y, width, **style: values.extend(width) or barh(axes, y, width, **style))
    per_class = {f"c{each}": {"average_precision": 1 - each / num, "support": 2} for each in range(num)}
    draw_average_precision(tmp_path / "p.png", {**per_class, "none": {"average_precision": None, "support": 0}}, "test")
    assert titles[0].startswith(title)
    assert (len(values), values) == (min(num, 60), sorted(values))


@pytest.mark.parametrize("methods", [("source_only",), ("source_only", "coral")])
def test_there_is_a_panel_for_each_way_to_see_two_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, ...]
) -> None:
    titles, drawn = list[str](), list[str]()
    monkeypatch.setattr(Axes, "set_title", lambda _, title, **__: titles.append(title))
    scatter = Axes.scatter
    monkeypatch.setattr(Axes, "scatter", lambda axes, *points, **more: (drawn.append(more["label"]), scatter(axes, *points, **more))[1])
    rows = np.random.default_rng(0).normal(size=(9, 4))
    draw_domains(tmp_path / "domains.png", dict.fromkeys(methods, principal_plane(rows, rows[:6] + 1)))
    assert titles == ["before", "after coral"][: len(methods)]
    assert drawn == ["source: 9 images", "target: 6 images"] * len(methods)
    with Image.open(tmp_path / "domains.png") as image:
        assert image.size == (594 * len(methods), 539)
