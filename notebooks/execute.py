"""`python notebooks/execute.py [NAME ...]`: run the stories of this folder, and write each with its outputs as a notebook.

The sources are the `.py` files; the `.ipynb` files are made from them. Needs the dependency group `notebooks`.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient

HERE = Path(__file__).parent
SOURCES = sorted(HERE.glob("[0-9]_*.py"))


def execute(source: Path) -> None:
    """Run a story in a kernel of its own, and write it beside its source."""
    notebook = jupytext.read(source)
    notebook.metadata = {
        "language_info": {"name": "python"},
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    }
    NotebookClient(notebook, timeout=600, record_timing=False, resources={"metadata": {"path": str(HERE)}}).execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem}-{number}"[:64]  # the same at every run
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if is_seen(output)]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    jupytext.write(notebook, source.with_suffix(".ipynb"), fmt="ipynb")


def is_seen(output: dict) -> bool:
    """Whether an output shows anything: a progress bar that is done is empty, and what TensorFlow says of the machine is noise."""
    return output.get("name") != "stderr" and output.get("data", {}).get("text/plain") != ""


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    for source in [path for path in SOURCES if not sys.argv[1:] or path.stem in sys.argv[1:]]:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as cache:  # as if nothing had run before
            os.environ["TL_KERAS_CACHE"] = cache
            execute(source)
        print(f"{source.with_suffix('.ipynb').name}: {time.perf_counter() - began:.0f} s")
