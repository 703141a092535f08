"""The stories in `notebooks/`: each notebook is its source, executed; and the sources run, without a network."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]_*.py"))


def cells_of_source(path: Path) -> list[tuple[str, str]]:
    """(kind, text) of each cell of a py:percent file."""
    found = []
    for part in re.split(r"^# %%", path.read_text(), flags=re.MULTILINE)[1:]:
        mark, _, text = part.partition("\n")
        is_prose = "[markdown]" in mark
        found.append(("markdown" if is_prose else "code", re.sub(r"^# ?", "", text, flags=re.MULTILINE) if is_prose else text))
    return [(kind, text.strip()) for kind, text in found]


def cells_of_notebook(path: Path) -> list[dict]:
    return json.loads(path.with_suffix(".ipynb").read_text())["cells"]


def test_there_are_four_stories():
    assert len(SOURCES) == 4


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_its_source_executed(path):
    cells = cells_of_notebook(path)
    assert [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in cells] == cells_of_source(path), "notebooks/execute.py"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert len(path.with_suffix(".ipynb").read_bytes()) < 500_000


@pytest.mark.slow
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_story_runs(path, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run([sys.executable, "-W", "ignore", path], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
