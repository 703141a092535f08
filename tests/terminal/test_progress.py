"""Lines that fit a terminal without cutting a number."""

import io

import pytest
from rich.console import Console

from tl_keras.terminal.progress import ConsoleProgress, fitted

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
