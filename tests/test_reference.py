"""Every setting and mode as text: complete, without TensorFlow, and in the documents as it is now."""

import subprocess
import sys
from pathlib import Path

import pytest

from tl_keras import run
from tl_keras.augment_policies import POLICIES
from tl_keras.config import fields
from tl_keras.modes import MODES
from tl_keras.reference import TABLES, modes_table, policies_table, settings_lines, settings_tables, with_tables

ROOT = Path(__file__).parents[1]


def test_every_setting_is_printed_with_default_range_meaning_and_users(capsys):
    assert run.main(["settings"]) == 0
    printed = capsys.readouterr().out
    for path, field in fields().items():
        if path != "mode":
            assert f"\n{path}: " in f"\n{printed}"
            assert field.description.split()[-1] in printed
    assert all(len(line) <= 100 for line in printed.splitlines())


def test_a_section_or_one_setting_is_printed():
    assert list(settings_lines("train.epochs")) == [
        "train.epochs: null",
        "    Number of epochs of finetuning or pretraining.",
        "    Expected: an integer >= 1, or null.",
        "    Used by finetune, pretrain and adapt with a method that trains the backbone.",
    ]
    assert [line for line in settings_lines("data") if line.startswith("data.augment.hue_range: ")]
    assert not [line for line in settings_lines("data.augment") if line.startswith("data.source")]


def test_a_section_that_there_is_not_is_one_line(capfd):
    assert run.main(["settings", "trian"]) == 2
    assert capfd.readouterr().err.endswith("Did you mean 'train'?\n")


def test_settings_are_printed_without_tensorflow():
    code = "import sys\nfrom tl_keras import run\nrun.main(['settings', 'train'])\n"
    code += "sys.exit(bool({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.slow
def test_the_tables_name_everything():
    assert all(f"| `{path}` |" in settings_tables() for path in fields() if path != "mode")
    assert all(f"| `{name}` |" in modes_table() for name in MODES)
    assert all(f"| `{name}` |" in policies_table() for name in POLICIES)
    assert all(f"`{option}: " in policies_table() for values in POLICIES.values() for option in values)


@pytest.mark.parametrize(
    ("document", "table"),
    [
        ("README.md", "modes"),
        ("docs/settings.md", "settings"),
        ("docs/training.md", "policies"),
        ("docs/adapting.md", "adaptations"),
        ("docs/backbones.md", "backbones"),
        ("docs/exporting.md", "exports"),
    ],
)
def test_a_document_is_current(document, table):
    text = (ROOT / document).read_text()
    assert TABLES[table]() in text
    assert with_tables(text) == text, f"write its table again: python -m tl_keras.reference {document}"
