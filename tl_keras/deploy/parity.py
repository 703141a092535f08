"""Whether an exported model agrees with the model: one harness for every format.

What was written is read by another process, `standalone_reader`, which can import neither Keras nor this package.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.archives import locate
from tl_keras.data.regular import open_regular
from tl_keras.deploy import standalone_reader
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.formats import Format
from tl_keras.deploy.parity_images import refused_by
from tl_keras.errors import ExportError


@dataclass(frozen=True)
class Agreement:
    """What an exported model and its model were compared on, and how far they are apart.

    Attributes:
        differences: the largest difference of an answer, for each signature; for 'bytes' where it took a file. Of a probability, or of
            the novelty, see `relative`; in a regression of a number, in standard deviations of those that it was trained on.
        refused: files that the signature 'bytes' did not take -> why; the others were compared on them.
    """

    differences: dict[str, float]
    refused: dict[str, str]


def compare(exported: Exported, form: Format, artifact: Path, files: Sequence[Path], *, name: str) -> Agreement:
    """Measure the largest difference between the answers of a model and of what was written of it.

    Args:
        artifact: what was written.
        files: images to compare on, at least one.
        name: what an error calls what was written.

    Raises:
        ExportError: it does not load or does not answer.
    """
    pixels = exported.pixels(files)
    expected = exported.answers(pixels)
    found, refused = ask(form, artifact, files, pixels, name)
    is_taken = np.array([str(file.resolve()) not in refused for file in files])
    if "bytes" in form.tolerance and not is_taken.any() and refused_by(files, 1)[1]:
        raise ExportError(f"{name}: its signature 'bytes' takes no test image ({next(iter(refused.values()))}).")
    everywhere = np.ones(len(files), bool)
    asked = {each: is_taken if each == "bytes" else everywhere for each in form.tolerance}
    width = sum(each.shape[1] for each in expected)
    if any(found[each].shape[1:] != (width,) for each, taken in asked.items() if taken.any()):
        raise ExportError(f"{name}: tells other outputs than the model.")
    differences = {each: _difference(exported, found[each], expected, taken) for each, taken in asked.items() if taken.any()}
    return Agreement(differences, refused)


def _difference(exported: Exported, found: NDArray[Any], expected: tuple[NDArray[Any], NDArray[Any]], taken: NDArray[np.bool_]) -> float:
    """How far answers and novelty (m, k or k + 1) are from those expected of all n images, of which m were taken."""
    answers, novelty = (each[taken] for each in expected)
    num = answers.shape[1]
    apart = exported.output.num_apart(found[:, :num], answers)
    return max(apart, relative(found[:, num:], novelty)) if novelty.size else apart


def relative(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """The largest difference of two novelties of an image: of one beyond 1, in units of itself; infinite for what is not a number."""
    apart = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    return float(apart.max()) if np.isfinite(apart).all() else float("inf")


def ask(
    form: Format, artifact: Path, files: Sequence[Path], pixels: NDArray[np.uint8], name: str
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """What is answered by each signature, and which files 'bytes' does not take -> why."""
    alone = f"with {' and '.join(form.needs)} alone"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        given = [str(readable(file, folder / str(number))) for number, file in enumerate(files)]
        (folder / "files.json").write_text(json.dumps(given))
        (folder / "signatures.json").write_text(json.dumps(list(form.tolerance)))
        np.save(folder / "pixels.npy", pixels)
        done = run_reader([form.answer.__name__, artifact.name, scratch], artifact.parent)  # the path of the artifact may not be UTF-8
        if done.returncode or not (folder / "said.json").is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            why = f"its process was ended by signal {-done.returncode}" if done.returncode < 0 else last
            raise ExportError(f"{name}: does not load {alone} ({why}).")
        said = json.loads((folder / "said.json").read_text())
        if "failed" in said:
            place = rf"{re.escape(str(artifact.resolve()))}|(?<![\w/{{|]){re.escape(artifact.name)}(?![\w.])"
            why = re.sub(place, lambda _: name, said["failed"])
            raise ExportError(f"{name}: does not answer {alone} ({why}).")
        with np.load(folder / "answers.npz") as loaded:
            return dict(loaded), {str(files[given.index(file)].resolve()): why for file, why in said["refused"].items()}


def readable(file: Path, copy: Path) -> Path:
    """A file for a process that does not know archives: itself, or a copy of what lies in one."""
    if locate(file) is None:
        return file.resolve()
    with open_regular(file) as opened:
        copy.write_bytes(opened.read())
    return copy


def run_reader(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `standalone_reader` in a process of its own, in a folder."""
    command = [sys.executable, "-P", str(standalone_reader.__file__), *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=folder)


def check(form: Format, differences: dict[str, float]) -> None:
    """Raise ExportError when a difference is larger than its tolerance."""
    for name, difference in differences.items():
        if not difference <= form.tolerance[name]:
            raise ExportError(
                f"the exported signature '{name}' differs from the model by {difference:.2g}, more than {form.tolerance[name]:g}."
            )
