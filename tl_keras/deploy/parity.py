"""Whether an exported model agrees with the model: one harness for every format.

What was written is read by another process, `standalone_reader`, which can import the runtime of its format and no other.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.regular import open_regular
from tl_keras.deploy import standalone_reader
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.formats import FLOAT, Format
from tl_keras.deploy.parity_images import refused_by
from tl_keras.errors import ExportError, ParityError
from tl_keras.evaluation.novelty import LEAST_IMAGES
from tl_keras.tasks import REGRESSION


@dataclass(frozen=True)
class Agreement:
    """What an exported model and its model were compared on, and how far they are apart.

    Attributes:
        differences: the largest difference of an answer, for each signature; for 'bytes' where it took a file. Of a probability; in a
            regression of a number, in standard deviations of those that it was trained on.
        novelty_differences: the same of the novelty, see `relative`; empty where there is none.
        refused: files that the signature 'bytes' did not take -> why; the others were compared on them.
        agreement: the share of images that both give the same classes; None of numbers.
        known_agreement: the share of images that both call known, or both none of the classes, each by its own threshold; None where there
            is no novelty.
        novelty_threshold: that of what was written, likewise.
        answers: what the first signature answers, (n, k).
        speed: see `standalone_reader.timed`, and `cold_start_s`, until the first answer of a new process.
    """

    differences: dict[str, float]
    novelty_differences: dict[str, float]
    refused: dict[str, str]
    agreement: float | None
    known_agreement: float | None
    novelty_threshold: float | None
    answers: NDArray[Any]
    speed: dict[str, float]


class Bounds(Protocol):
    """How far an exported model may be from the model: the settings of `export`."""

    @property
    def max_probability_difference(self) -> float:
        """Of float formats."""

    @property
    def min_agreement(self) -> float:
        """The share of images that both must give the same classes."""


@dataclass(frozen=True)
class Reference:
    """What formats are compared with: images, and what the model says of them.

    Attributes:
        files: n images, at least one.
        pixels: uint8 (n, h, w, 3), at the size of the model.
        answers: (n, k).
        novelty: (n, 1), or (n, 0) where there is none.
        known: whether the model calls them known, bool of the same shape.
    """

    files: Sequence[Path]
    pixels: NDArray[np.uint8]
    answers: NDArray[Any]
    novelty: NDArray[Any]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, exported: Exported, files: Sequence[Path]) -> "Reference":
        """Ask the model."""
        pixels = exported.pixels(files)
        answers, novelty = exported.answers(pixels)
        known = np.zeros(novelty.shape, bool) if exported.novelty is None else exported.novelty.is_known(novelty)
        return cls(files, pixels, answers, novelty, known)


class Said(NamedTuple):
    """What was written answers to some images: by signature, and which files 'bytes' does not take -> why; and how fast, where asked."""

    answers: dict[str, NDArray[Any]]
    refused: dict[str, str]
    speed: dict[str, float]


def compare(exported: Exported, form: Format, artifact: Path, reference: Reference, *, name: str) -> Agreement:
    """Measure how far the answers of what was written of a model are from the model's.

    Args:
        exported: the model, with the novelty threshold of what was written.
        artifact: what was written.
        name: what an error calls what was written.

    Raises:
        ExportError: it does not load or does not answer.
    """
    files = reference.files
    said = ask(form, artifact, reference.pixels, name, files=files, is_timed=True)
    is_taken = np.array([str(file.resolve()) not in said.refused for file in files])
    if "bytes" in form.allowance and not is_taken.any() and refused_by(files, 1)[1]:
        raise ExportError(f"{name}: its signature 'bytes' takes no test image ({next(iter(said.refused.values()))}).")
    everywhere = np.ones(len(files), bool)
    asked = {each: is_taken if each == "bytes" else everywhere for each in form.allowance}
    num = reference.answers.shape[1]
    width = num + reference.novelty.shape[1]
    if any(said.answers[each].shape[1:] != (width,) for each, taken in asked.items() if taken.any()):
        raise ExportError(f"{name}: tells other outputs than the model.")
    apart, strange = dict[str, float](), dict[str, float]()
    for each, taken in asked.items():
        if taken.any():
            apart[each] = exported.output.num_apart(said.answers[each][:, :num], reference.answers[taken])
            if exported.novelty is not None:
                strange[each] = relative(said.answers[each][:, num:], reference.novelty[taken])
    answers, novelty = np.split(said.answers[FLOAT], [num], axis=1)
    same = None if exported.output.task == REGRESSION else _share_alike(*map(exported.output.decide, (answers, reference.answers)))
    own = exported.novelty
    known = None if own is None else _share_alike(own.is_known(novelty), reference.known)
    return Agreement(apart, strange, said.refused, same, known, None if own is None else own.threshold, answers, said.speed)


def _share_alike(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The share of images of which two say the same, (n,) or (n, k)."""
    return float((found == expected).reshape(len(found), -1).all(axis=1).mean())


def relative(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """The largest difference of two novelties of an image: of one beyond 1, in units of itself; infinite for what is not a number."""
    apart = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    return float(apart.max()) if np.isfinite(apart).all() else float("inf")


def with_own_threshold(exported: Exported, form: Format, artifact: Path, *, name: str) -> Exported:
    """What is exported, with the novelty threshold of the rounded numbers of what was written: by the same rule as the model's, from what
    it answers to images that the network has not learned of. As it is where nothing is rounded, or there are too few images.

    Raises:
        ExportError: it does not load or does not answer.
    """
    if not form.rounds or exported.novelty is None or len(exported.unseen) < LEAST_IMAGES:
        return exported
    said = ask(form, artifact, exported.pixels(exported.unseen), name)
    return replace(exported, novelty=exported.novelty.with_threshold_of(said.answers[FLOAT][:, -1]))


def ask(form: Format, artifact: Path, pixels: NDArray[np.uint8], name: str, *, files: Sequence[Path] = (), is_timed: bool = False) -> Said:
    """Ask what was written, in a process of its own.

    Args:
        pixels: uint8 (n, h, w, 3), at the size of the model.
        files: what the signature 'bytes' is asked about.
        is_timed: whether to measure how fast it is.

    Raises:
        ExportError: it does not load or does not answer.
    """
    alone = f"with {' and '.join(form.needs)} alone"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        given = [str(readable(file, folder / str(number))) for number, file in enumerate(files)]
        asked = {"files": given, "signatures": list(form.allowance), "is_timed": is_timed}
        (folder / "asked.json").write_text(json.dumps(asked))
        np.save(folder / "pixels.npy", pixels)
        done = run_reader(
            [form.answer.__name__, artifact.name, scratch, *form.needs], artifact.parent
        )  # the path of the artifact may not be UTF-8
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
            refused = {str(files[given.index(file)].resolve()): why for file, why in said["refused"].items()}
            return Said(dict(loaded), refused, said["speed"])


def readable(file: Path, copy: Path) -> Path:
    """A file for a process that knows neither archives nor shards: itself, or a copy of what lies in one."""
    if file.is_file():
        return file.resolve()
    with open_regular(file) as opened:
        copy.write_bytes(opened.read())
    return copy


def run_reader(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `standalone_reader` in a process of its own, in a folder."""
    command = [sys.executable, "-P", str(standalone_reader.__file__), *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=folder)


def check(form: Format, found: Agreement, bounds: Bounds) -> None:
    """Refuse what is further from the model than its bounds allow.

    Raises:
        ParityError: the bound that it misses.
    """
    for name, difference in found.differences.items():
        for each in (difference, found.novelty_differences.get(name, 0.0)):
            _check_difference(f"signature '{name}'", each, form.allowance[name], bounds)
    if found.agreement is not None and found.agreement < bounds.min_agreement:
        raise ParityError(f"it gives the classes of the model to {found.agreement:.3f} of the images, fewer than {bounds.min_agreement:g}")


def _check_difference(what: str, difference: float, times: float | None, bounds: Bounds) -> None:
    if times is None:
        if not np.isfinite(difference):
            raise ParityError(f"its {what} answers what is not a number")
    elif not difference <= times * bounds.max_probability_difference:
        most = times * bounds.max_probability_difference
        raise ParityError(f"its {what} differs from the model by {difference:.2g}, more than {most:g}")
