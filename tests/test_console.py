"""The terminal: lines that fit it without cutting a number, and tables that do."""

import io

import pytest
from rich.console import Console

from tl_keras.console import ConsoleProgress, fitted, plain_table

TRIAL = "trial 017  val_loss 0.2718  features.stages=all  features.selection=head2toe  features.keep=0.1234  train.head_penalty=0.005678"


def shown(*lines: str, width: int = 80, terminal: bool = True) -> list[str]:
    out = io.StringIO()
    progress = ConsoleProgress(Console(file=out, width=width, force_terminal=terminal, color_system=None))
    for line in lines:
        progress.line(line)
    return out.getvalue().splitlines()


def test_a_long_line_is_cut_between_its_fields() -> None:
    assert shown(TRIAL) == [
        "trial 017  val_loss 0.2718  features.stages=all  features.selection=head2toe",
        "    features.keep=0.1234  train.head_penalty=0.005678",
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
