"""What the Dockerfile names is there, and its command is one; no daemon is asked to build it."""

import ast
import json
import re
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tl_keras.arguments import read_options
from tl_keras.deploy.serve.limits import OPEN
from tl_keras.modes import MODES
from tl_keras.workflows.serve import PORT, TOKEN

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STEPS = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in TEXT.splitlines() if line and line[0] != "#")]


def of(word: str) -> list[str]:
    """What stands behind an instruction, each time."""
    return [rest for each, rest in STEPS if each == word]


def one(word: str) -> str:
    (found,) = of(word)
    return found


def test_what_is_copied_is_there_and_not_ignored() -> None:
    given = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [source for rest in of("COPY") for source in rest.split()[:-1]]
    assert sources[-1] == f"${one('ARG')}"
    assert set(sources[:-1]) == set(given) - {"saved_models"}
    assert all((ROOT / source).exists() for source in sources[:-1])


def test_its_python_extras_and_packages_are_those_of_the_project() -> None:
    version = re.fullmatch(r"python:(\d+\.\d+)-slim", one("FROM"))
    assert version is not None
    assert Version(version[1]) in SpecifierSet(PROJECT["requires-python"])
    (install,) = (rest for rest in of("RUN") if rest.startswith("pip install"))
    found = re.search(r'--constraint (\S+) "\.\[(.*)\]" (\S+)', install)
    assert found is not None
    lock, extras, package = found.groups()
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert set(MODES["serve"].needs) <= {re.split(r"\W", each)[0] for each in PROJECT["optional-dependencies"]["serve"]}
    assert f"\n{package}==" in (ROOT / lock).read_text()


def test_the_command_is_one_and_gets_signals() -> None:
    program, *words = json.loads(one("ENTRYPOINT"))  # not of a shell, which would keep SIGTERM for itself
    assert program in PROJECT["scripts"]
    options = read_options(words)
    assert (options.mode, options.host, options.port) == ("serve", "0.0.0.0", None)
    assert str(options.run_dir) == of("COPY")[-1].split()[-1]
    assert read_options([*words, "--format", "onnx"]).formats == ["onnx"]


def test_health_is_asked_where_it_is_answered_without_a_token() -> None:
    assert one("EXPOSE") == str(PORT)
    program, flag, code = json.loads(one("HEALTHCHECK").partition("CMD ")[2])
    assert (program, flag) == ("python", "-c")
    (address,) = (node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant) and "http" in str(node.value))
    assert str(address).startswith(f"http://127.0.0.1:{PORT}/")
    assert str(address).partition(str(PORT))[2] in OPEN


def test_nobody_is_root_and_no_token_is_in_it() -> None:
    def place(word: str) -> list[int]:
        return [place for place, (each, _) in enumerate(STEPS) if each == word]

    assert one("USER") != "root"
    assert f"useradd --create-home --uid 10001 {one('USER')}" in of("RUN")
    assert max(place("RUN") + place("COPY")) < place("USER")[0] < place("ENTRYPOINT")[0]
    assert not of("ENV")
    assert TOKEN in (ROOT / "Dockerfile").read_text().partition("FROM")[0]
