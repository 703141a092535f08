"""The stories in `notebooks/`: each notebook is its source, executed; and the sources run, without a network."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]_*.py"))
ALL_DIGITS = ("enumerate(zip(digits.images, digits.target", "enumerate(zip(digits.images[:400], digits.target[:400]")
NETWORK = re.compile(r"\b(train\(|adapt\()(?=mode=|data=)")  # what is called with the default backbone
FEWER = {  # where only the code is tested, a story does less: (what it says, what is run)
    "1_feature_extraction": [ALL_DIGITS],
    "2_finetuning": [("images[20:70]", "images[20:30]"), ("whole = {", 'whole = {"train.epochs": 1, ')],
    "3_choosing": [
        ('"low" / str(label), images)', '"low" / str(label), images[:20])'),
        ("images[30:130]", "images[30:50]"),
        ("epochs=4", "epochs=1"),
        ('repeats": 2', 'repeats": 1'),
        ('"search.max_trials": 30', '"search.max_trials": 3'),
    ],
    "4_from_run_to_production": [ALL_DIGITS, ("number >= 1597", "number >= 300")],
    "5_another_domain": [
        ("enumerate(zip(digits.images, digits.target", "enumerate(zip(digits.images[:250], digits.target[:250]"),
        ("number < 900", "number < 150"),
        ('("noisy", "moved", "inverted"):', '("noisy",):'),
        ('"train.epochs": 10', '"train.epochs": 1'),
    ],
}


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


def test_there_are_five_stories():
    assert len(SOURCES) == 5


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
@pytest.mark.usefixtures("quick_exports")
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_story_runs(path, three_stages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    code = path.read_text()
    for said, fewer in FEWER.get(path.stem, []):
        assert code.count(said) == 1
        code = code.replace(said, fewer)
    code, num = NETWORK.subn(rf"\1backbone={three_stages!r}, ", code.replace('"small_resnet"', repr(three_stages)))
    assert num >= 1
    exec(compile(code, path.name, "exec"), {})
    plt.close("all")
