"""What can be wrong with an image: a table of faults, and which images have those that a look at them shows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.check.copies import LEAST_CONTRAST, Copy, number_pictures
from tl_keras.data.check.facts import Facts
from tl_keras.data.index import SPLIT_NAMES

Severity = Literal["error", "warning", "note"]
Rows = NDArray[np.int64]

TINY = 0.25  # of the network's shorter side: such an image is enlarged more than four times
HUGE_MEGAPIXELS = 50
LONG = 3.0  # longer side over shorter side
BLURRED = 0.06  # sharpness: 1,000 photos of flowers have 0.09 to 2.2; blurred by 3 pixels of 256, 95 of 100 have less than 0.062
FENCE = 3.0  # interquartile ranges beyond the quartiles: the outer fence of a box plot
DEVIATIONS = 4.0  # standard deviations from the mean
LEAST_IMAGES = 20  # fewer have no usual
ENDINGS = {  # of the files of a format
    "jpeg": {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"},
    "png": {".png", ".apng"},
    "gif": {".gif"},
    "bmp": {".bmp", ".dib"},
    "webp": {".webp"},
    "tiff": {".tif", ".tiff"},
    "heic": {".heic", ".heif", ".hif"},
    "avif": {".avif"},
}
FAR_APART = 0.5  # of the standard deviation of numbers: further apart, those of two copies cannot both be right


@dataclass(frozen=True)
class Fault:
    """Something that can be wrong: its title, how bad that is, and what to do about it."""

    title: str
    severity: Severity
    advice: str


FAULTS: dict[str, Fault] = {  # in the order in which they are shown
    "unreadable": Fault("files that cannot be decoded", "error", "Replace or remove them. Training skips them."),
    "conflict": Fault("copies with different labels", "error", "One of the two labels is wrong. Correct it, or remove both."),
    "leak": Fault(
        "copies in different splits",
        "error",
        "Figures measured on them are too optimistic. Remove the copy that is not in test, or set data.copies=near.",
    ),
    "mislabelled": Fault(
        "labels that are likely wrong", "warning", "Look at each: move it to the class that it shows, or leave it if the label is right."
    ),
    "copy": Fault(
        "images that are there more than once", "warning", "Remove copies, or give them one group; they count twice in training."
    ),
    "blank": Fault("images without content", "warning", "Remove them: there is nothing to learn from one colour."),
    "blurred": Fault("blurred images", "note", "Keep them if the images to classify later are blurred too."),
    "tiny": Fault(
        "very small images", "note", "They are enlarged more than four times. Take larger originals, or a smaller data.image_size."
    ),
    "huge": Fault("very large images", "note", f"More than {HUGE_MEGAPIXELS} megapixels: most of the time goes into decoding them."),
    "long": Fault("very long or very tall images", "note", "data.resize=crop cuts most of them away; letterbox keeps all."),
    "unusual": Fault("images of unusual light or colour", "note", "Look at each: scans, screenshots and drawings often stand out here."),
    "outlier": Fault("images unlike all others", "note", "Look at each: it may not belong in this data set."),
    "ending": Fault(
        "files whose name has another format's ending", "note", "Training reads them by their content; other programs may not."
    ),
}


@dataclass(frozen=True)
class Finding:
    """One image with one fault.

    Attributes:
        row: the image.
        fault: a name of `FAULTS`.
        score: how clear it is, larger is clearer; only to be compared within a fault.
        detail: a few words for a person.
        other: the image that it is a copy of, where it is.
    """

    row: int
    fault: str
    score: float
    detail: str
    other: int | None = None


def faults_of_files(facts: Facts, bad: Mapping[int, str], paths: Sequence[str], image_size: tuple[int, int]) -> Iterator[Finding]:
    """What is wrong with single images, by what a look at them told.

    Args:
        facts: of all images, (n,).
        bad: position -> reason, of those that do not decode.
        image_size: (height, width) that the network gets.
    """
    yield from (Finding(row, "unreadable", 1.0, reason) for row, reason in sorted(bad.items()))
    good = np.setdiff1d(np.arange(len(facts)), list(bad))
    seen = facts[good]
    height, width = seen["height"].astype(float), seen["width"].astype(float)
    shorter, longer = np.minimum(height, width), np.maximum(height, width)
    blank = seen["contrast"] < LEAST_CONTRAST
    blurred = ~blank & (seen["sharpness"] < BLURRED)
    sizes = [f"{w:.0f} x {h:.0f} pixels" for h, w in zip(height, width, strict=True)]
    checks: dict[str, tuple[NDArray[np.bool_], NDArray[np.floating], Sequence[str]]] = {
        "blank": (blank, -seen["contrast"], [f"contrast {value:.1f} of 255" for value in seen["contrast"]]),
        "blurred": (blurred, -seen["sharpness"], [f"sharpness {value:.3f}" for value in seen["sharpness"]]),
        "tiny": (shorter < TINY * min(image_size), -shorter, sizes),
        "huge": (height * width > 1e6 * HUGE_MEGAPIXELS, height * width, sizes),
        "long": (longer > LONG * shorter, longer / np.maximum(shorter, 1), sizes),
    }
    for fault, (found, scores, details) in checks.items():
        yield from (Finding(int(good[row]), fault, float(scores[row]), details[row]) for row in np.flatnonzero(found).tolist())
    usual = np.flatnonzero(~blank & ~blurred)
    yield from _unusual(seen[usual], good[usual])
    yield from _endings(seen, good, paths)


def _unusual(seen: Facts, rows: Rows) -> Iterator[Finding]:
    """Images beyond the outer fence of the box plot and beyond four standard deviations of a statistic."""
    if len(rows) < LEAST_IMAGES:
        return
    largest: dict[int, Finding] = {}
    for name in ("brightness", "contrast", "saturation", "sharpness"):
        values = seen[name].astype(float)
        low, high = np.percentile(values, [25, 75])
        deviations = np.abs(values - values.mean()) / max(values.std(), 1e-9)
        outside = (values < low - FENCE * (high - low)) | (values > high + FENCE * (high - low))
        for place in np.flatnonzero(outside & (deviations > DEVIATIONS)):
            row, score = int(rows[place]), float(deviations[place])
            if row not in largest or score > largest[row].score:
                largest[row] = Finding(row, "unusual", score, f"{name} {values[place]:.3g}, {score:.1f} standard deviations from the mean")
    yield from largest.values()


def _endings(seen: Facts, good: Rows, paths: Sequence[str]) -> Iterator[Finding]:
    for kind, row in zip(seen["format"], good.tolist(), strict=True):
        ending = PurePosixPath(paths[row]).suffix.lower()
        if ending and ending not in ENDINGS[kind.decode()]:
            yield Finding(row, "ending", 1.0, f"holds {kind.decode().upper()} data, and is called {ending}")


Contradict = Callable[[int, int], bool]  # whether the labels of two copies of a picture cannot both be right


def of_classes(labels: NDArray[np.integer]) -> Contradict:
    """Labels contradict each other where they differ: numbers of labels (n,), negative where there is none."""
    return lambda row, other: labels[row] != labels[other] and min(labels[row], labels[other]) >= 0


def of_numbers(labels: NDArray[np.floating]) -> Contradict:
    """Numbers (n,) contradict each other where they differ by more than `FAR_APART` of the standard deviation of all."""
    limit = FAR_APART * float(labels.std())
    return lambda row, other: bool(abs(labels[row] - labels[other]) > limit)


def faults_of_copies(
    copies: Sequence[Copy], contradict: Contradict, split: NDArray[np.str_], label_of: Callable[[int], str]
) -> Iterator[Finding]:
    """What is wrong with copies: another of the same picture has another label, or is in another split, or there is one too many.

    Args:
        split: of all images, (n,), '' where it is not used.
        label_of: the label of an image as text.
    """
    by_picture = {row: rows for rows in _pictures(copies, len(split)) for row in rows}
    for copy in copies:
        others = [row for row in by_picture[copy.row] if row != copy.row]
        relabelled = [row for row in others if contradict(row, copy.row)]
        elsewhere = [row for row in others if split[row] != split[copy.row] and split[row] and split[copy.row]]
        fault = "conflict" if relabelled else "leak" if elsewhere else "copy"
        of = relabelled or elsewhere or [copy.of]
        other = copy.of if copy.of in of else of[0]
        detail = "the same file" if copy.likeness == 1 else f"the same picture, likeness {copy.likeness:.3f}"
        if fault == "conflict":
            detail += f", labelled {label_of(copy.row) or 'nothing'} and {label_of(other) or 'nothing'}"
        elif fault == "leak":
            detail += f", in {split[copy.row]} and {split[other]}"
        yield Finding(copy.row, fault, copy.likeness, detail, other)


def doubtful_copies(copies: Sequence[Copy], contradict: Contradict, split: NDArray[np.str_]) -> dict[int, str]:
    """The images to leave out of training because of their copies: position -> 'conflict' or 'leak'.

    If the labels of a picture's copies contradict each other, all of them; if they are in different splits, those that are not in the
    last of train, val and test.
    """
    doubtful: dict[int, str] = {}
    for rows in _pictures(copies, len(split)):
        if any(contradict(row, other) for row, other in combinations(rows, 2)):
            doubtful |= dict.fromkeys(rows, "conflict")
            continue
        last = max((SPLIT_NAMES.index(split[row]) for row in rows if split[row]), default=0)
        doubtful |= {row: "leak" for row in rows if split[row] and SPLIT_NAMES.index(split[row]) < last}
    return doubtful


def _pictures(copies: Sequence[Copy], num_images: int) -> list[list[int]]:
    """The images of each picture that has copies."""
    numbers = number_pictures(copies, num_images)
    groups: dict[int, list[int]] = {}
    for row in sorted({row for copy in copies for row in (copy.row, copy.of)}):
        groups.setdefault(int(numbers[row]), []).append(row)
    return list(groups.values())
