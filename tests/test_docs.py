"""What the documents say can be typed: every command parses, every configuration loads, every file named is there."""

import re
import shlex
from pathlib import Path

import pytest

from tl_keras import run
from tl_keras.arguments import examples, read_options
from tl_keras.config_file import load_config
from tl_keras.modes import MODES, TRAININGS

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tl_keras" / "models" / "bundled" / "README.md", *CONFIGS]


def commands(text):
    """The arguments of every `python -m tl_keras.run`, `tl-keras` or bare `--mode` in a text, without optional [parts]."""
    found = [match.group(1) for match in re.finditer(r"tl_keras\.run (--mode(?: ?[^\n`# ]+)*)", text)]
    found += [match.group(1) for match in re.finditer(rf"tl-keras ((?:{'|'.join(MODES)})(?: ?[^\n`# ]+)*)", text)]
    found += [match.group(1) for match in re.finditer(r"`(--mode [^`]*)`", text)]
    return [shlex.split(re.sub(r"\[.*?\]", "", command)) for command in found]


def cases():
    return [pytest.param(command, id=" ".join(command)) for path in DOCUMENTS for command in commands(path.read_text())] + [
        pytest.param(command, id=" ".join(command)) for command in commands(examples())
    ]


@pytest.mark.parametrize("command", cases())
def test_every_command_is_one_that_the_program_takes(command):
    if command == ["--mode", "extract"] or (command[0] == "--mode" and "--resume" in command):
        command = [*command, "--run-dir", "RUN"] if "--run-dir" not in command else command
    options = read_options([re.sub(r"^runtime\.seed=S$", "runtime.seed=0", word) for word in command])
    if options.mode in TRAININGS and not options.resume:
        if options.config is not None:
            options.config = ROOT / options.config
        run.configure(options)


@pytest.mark.parametrize("setting", re.findall(r"--set ([\w.]+=[^\s`]+)", (ROOT / "README.md").read_text()))
def test_every_setting_in_the_readme_is_one(setting):
    section = setting.partition(".")[0]
    load_config(section if section in MODES else "finetune", sets=[setting.replace("=S", "=0")])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_loads_and_begins_with_its_command(path):
    mode = re.search(r"--mode (\w+)", path.read_text()).group(1)
    load_config(mode, file=path, flags={}, sets=[])
    assert f"configs/{path.name}" in path.read_text()


def test_files_named_in_the_documents_exist():
    for document in DOCUMENTS[:3]:
        for name in re.findall(r"`((?:configs|benchmarks|tl_keras|tests)/[\w/.]+\.\w+)`", document.read_text()):
            assert (ROOT / name).is_file(), f"{document.name} names {name}"


def test_no_document_holds_a_number_yet_to_be_measured():
    for document in DOCUMENTS:
        assert not re.search(r"RESULT_|_ROW|_TABLE|TODO", document.read_text()), document.name
