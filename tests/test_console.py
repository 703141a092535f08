"""The terminal: lines that fit it without cutting a number, and tables that do."""

import io

import numpy as np
import pytest
from rich.console import Console

from tl_keras.console import ConsoleProgress, confusion_lines, difference_lines, fitted, plain_table, summary_table, target_lines

TRIAL = "trial 017  val_loss 0.2718  features.stages=all  features.selection=head2toe  features.keep=0.1234  train.head_c=0.005678"


def shown(*lines: str, width: int = 80, terminal: bool = True) -> list[str]:
    out = io.StringIO()
    progress = ConsoleProgress(Console(file=out, width=width, force_terminal=terminal, color_system=None))
    for line in lines:
        progress.line(line)
    return out.getvalue().splitlines()


def test_a_long_line_is_cut_between_its_fields() -> None:
    assert shown(TRIAL) == [
        "trial 017  val_loss 0.2718  features.stages=all  features.selection=head2toe",
        "    features.keep=0.1234  train.head_c=0.005678",
    ]


def test_a_long_sentence_is_cut_between_words_and_a_path_stays_whole() -> None:
    path = "/tmp/" + "folder-with-a-name/" * 6
    lines = shown(f"test accuracy 0.9250 (95 % interval 0.8800 to 0.9540), which is what there is to say of it; see {path}")
    assert lines == [
        "test accuracy 0.9250 (95 % interval 0.8800 to 0.9540), which is what there is to",
        "    say of it; see",
        f"    {path}",
    ]


@pytest.mark.parametrize(
    "line", ["train it: python -m tl_keras.run --mode finetune --data " + "x" * 60, "then: tl-keras predict " + "x" * 80]
)
def test_a_command_stays_one_line_that_can_be_copied(line: str) -> None:
    assert fitted(line, 80) == line


def test_what_is_no_terminal_gets_whole_lines() -> None:
    assert shown(TRIAL, terminal=False) == [TRIAL]


def test_short_lines_and_their_spaces_stay() -> None:
    assert shown("finetune   1/30  loss 0.4") == ["finetune   1/30  loss 0.4"]
    assert shown("  indented", "") == ["  indented", ""]


def test_a_table_folds_its_names_and_no_number() -> None:
    out = io.StringIO()
    rows = [("a_backbone_whose_name_is_long_" * 3, "224x224", "0.912", "0.890 to 0.931", "123.45", "25.61")]
    header = ("backbone", "pixels", "accuracy", "95 % interval", "ms", "M weights")
    Console(file=out, width=80).print(plain_table(header, rows, "title"))
    text = out.getvalue()
    for number in rows[0][1:]:
        assert f" {number} " in text
    assert max(map(len, text.splitlines())) <= 80


def confused(classes: list[str], counts: int = 7) -> list[str]:
    matrix = np.full((len(classes), len(classes)), 0)
    np.fill_diagonal(matrix, counts)
    matrix[0, -1] = 3
    return confusion_lines({"per_class": {name: {} for name in classes}, "confusion_matrix": matrix.tolist()})


def test_a_confusion_matrix_has_a_row_for_each_true_class():
    lines = confused(["ant", "[bold]bee"])
    assert lines[0].split() == ["true", "\\", "predicted", "ant", "[bold]bee"]
    assert [line.split() for line in lines[1:]] == [["ant", "7", "3"], ["[bold]bee", "·", "7"]]


@pytest.mark.parametrize("counts", [7, 123_456])
def test_ten_classes_of_long_names_fit_and_no_number_is_cut(counts):
    lines = confused([f"a long name of a class, number {place}" for place in range(10)], counts)
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[-10:] == [str(place) for place in range(1, 11)]
    assert all(line.split()[-10:].count(str(counts)) == 1 for line in lines[1:])


def test_more_classes_are_left_to_the_picture():
    assert confused([str(place) for place in range(11)]) == []


@pytest.mark.parametrize(("mae", "shown"), [(2.4373e30, "2.437e+30"), (2.4373e-9, "2.437e-09"), (2.4373, "2.437")])
def test_a_figure_in_the_unit_of_the_labels_is_four_digits_whatever_its_size(mae: float, shown: str) -> None:
    found = {"mae": {"mean": mae, "deviation": mae, "ci95": [mae, mae]}, "r2": {"mean": 0.5, "deviation": 0.1, "ci95": [-0.25, 0.75]}}
    cells = [list(column.cells) for column in summary_table(found, "title").columns]
    assert cells == [["mae", "r2"], [shown, "0.5000"], [shown, "0.1000"], [f"{shown} to {shown}", "-0.2500 to 0.7500"]]
    first, second = difference_lines(found)
    assert first == f"against the other: mae +{shown} (95 % interval +{shown} to +{shown}), a clear difference"
    assert "r2 +0.5000 (95 % interval -0.2500 to +0.7500), which may be chance" in second


def test_a_distance_that_cannot_be_told_is_left_out():
    apart = {"mmd": 0.1, "coral": None, "proxy_a": 2.0, "classwise_mmd": None}
    lines = target_lines({"distances": {"source_only": apart}})
    assert lines == ["distance between the domains: MMD 0.1, proxy A-distance 2"]
