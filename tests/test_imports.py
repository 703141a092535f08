"""Imports go one way: a room knows only the rooms above it in this list."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).parents[1] / "tl_keras"
ROOMS = [
    (
        "adaptations",
        "augment_policies",
        "errors",
        "explanations",
        "export_formats",
        "file_locks",
        "partial",
        "cache",
        "claim",
        "control_groups",
        "interrupts",
        "links",
        "meeting",
        "modes",
        "packages",
        "config",
        "config_file",
        "cores",
        "plain_yaml",
        "progress",
        "quiet",
        "run_folder",
        "runtime",
        "setting_users",
        "short_forms",
        "tasks",
        "tf_config",
    ),
    ("models.outputs", "models.precision_recall"),  # what labels and outputs mean, which data and models share
    ("data",),
    ("models",),
    ("advice", "arguments", "trained_run"),
    ("transfer",),
    ("evaluation",),
    ("select",),
    ("deploy",),
    ("workflows",),
    ("terminal",),
    ("api", "launch", "notebook", "reference", "results", "run", "stepwise", "__main__"),
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def imported_rooms(path: Path) -> set[str]:
    """The rooms of this package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "tl_keras":
            names = [f"tl_keras.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        found |= {room_of(name.split(".")[1:]) for name in names if name.startswith("tl_keras.")}
    return found - {"__version__"}


def room_of(parts: Sequence[str]) -> str:
    """The room of a module: the first part of its name, where the first two are none."""
    return whole if (whole := ".".join(parts[:2])) in RANK else parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down(path):
    room = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
    later = {name for name in imported_rooms(path) if RANK[name] > RANK[room]}
    assert not later, f"{room} imports {later}"


def test_every_public_name_is_there():
    import tl_keras

    for name in tl_keras.__all__:
        assert getattr(tl_keras, name) is not None
        assert not isinstance(getattr(tl_keras, name), ModuleType), f"{name} is a room of the package, which hides what is public"
    with pytest.raises(AttributeError, match="no attribute 'tain'"):
        tl_keras.tain  # noqa: B018


def test_importing_the_package_does_not_import_tensorflow():
    code = "import sys, tl_keras, tl_keras.config, tl_keras.errors, tl_keras.run; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
