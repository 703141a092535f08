"""What can be wrong with an image: a table of faults, and which images have those that a look at them shows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.check.copies import LEAST_CONTRAST, Copy, number_pictures
from tl_keras.data.check.facts import Facts
from tl_keras.data.check.robust import middle_and_spread
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
FAR_APART = 0.5  # of the spread of numbers: less may be two honest judgements; two so far apart put 6 % of the variance out of reach


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
    "mirrored": Fault(
        "mirror images with different labels",
        "warning",
        "If your labels tell left from right, that is right: train without data.augment.horizontal_flip. Else one label is wrong.",
    ),
    "mislabelled": Fault("labels that are likely wrong", "warning", "Look at each: correct the label, or leave it if it is right."),
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
        likely: the label that it should have by all that is known, as text, where its own is suspect.
    """

    row: int
    fault: str
    score: float
    detail: str
    other: int | None = None
    likely: str = ""


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


@dataclass(frozen=True)
class Apart:
    """Something that images of one picture have in common unless it is wrong: their label, or their split.

    Attributes:
        values: float64 (n,), NaN for an image that has none.
        limit: two images differ if their values are further apart.
    """

    values: NDArray[np.float64]
    limit: float = 0.0

    def differ(self, row: int, other: int) -> bool:
        """Whether two images differ."""
        return bool(abs(self.values[row] - self.values[other]) > self.limit)

    def opposites(self, rows: Rows) -> Rows:
        """For each of some images one of them that it differs from, itself where it differs from none; (m,), in one pass.

        One that differs from any differs from the one with the smallest or from the one with the largest value.
        """
        known, found = rows[~np.isnan(self.values[rows])], rows.copy()
        for end in (self.values[known].argmax(), self.values[known].argmin()) if len(known) else ():  # a place, not a class
            found[np.abs(self.values[rows] - self.values[known[end]]) > self.limit] = known[end]
        return found

    def are_apart(self, rows: Rows, others: Rows) -> bool:
        """Whether an image of one set differs from one of another."""
        here, there = (each[~np.isnan(each)] for each in (self.values[rows], self.values[others]))
        return bool(len(here) and len(there) and max(here.max() - there.min(), there.max() - here.min()) > self.limit)


def of_classes(labels: NDArray[np.integer]) -> Apart:
    """Labels differ where they are not equal: numbers of labels (n,), negative where there is none."""
    return Apart(np.where(labels < 0, np.nan, labels))


def of_numbers(labels: NDArray[np.floating]) -> Apart:
    """Numbers (n,) differ where they are further apart than `FAR_APART` of their spread."""
    return Apart(labels.astype(np.float64), FAR_APART * middle_and_spread(labels)[1])


def _of_splits(split: NDArray[np.str_]) -> Apart:
    """Splits (n,) differ where both are used."""
    values = np.full(len(split), np.nan)
    for number, name in enumerate(SPLIT_NAMES):
        values[split == name] = number
    return Apart(values)


def faults_of_copies(copies: Sequence[Copy], labels: Apart, split: NDArray[np.str_], label_of: Callable[[int], str]) -> Iterator[Finding]:
    """What is wrong with copies: another of the same picture has another label, or is in another split, or there is one too many.

    Args:
        split: of all images, (n,), '' where it is not used.
        label_of: the label of an image as text.
    """
    splits, (relabelled, elsewhere) = _of_splits(split), np.tile(np.arange(len(split)), (2, 1))
    picture = _number_pictures(copies, labels)
    for rows in _pictures(copies, picture):
        relabelled[rows], elsewhere[rows] = labels.opposites(rows), splits.opposites(rows)
    for copy in copies:
        row, is_same = copy.row, picture[copy.row] == picture[copy.of]
        detail = (
            "the same file" if copy.likeness == 1 else f"the same picture{', mirrored' * copy.is_mirrored}, likeness {copy.likeness:.3f}"
        )
        if relabelled[row] != row:
            fault, other = "conflict", copy.of if is_same and labels.differ(row, copy.of) else int(relabelled[row])
        elif elsewhere[row] != row:
            fault, other = "leak", copy.of if is_same and splits.differ(row, copy.of) else int(elsewhere[row])
            detail += f", in {split[row]} and {split[other]}"
        else:
            fault, other = "copy" if is_same or not labels.differ(row, copy.of) else "mirrored", copy.of
        own, others = label_of(row), label_of(other)
        if fault in ("conflict", "mirrored") or (own and others and own != others):
            detail += f", labelled {own or 'nothing'} and {others or 'nothing'}"
        yield Finding(row, fault, copy.likeness, detail, other)


def doubtful_copies(copies: Sequence[Copy], labels: Apart, split: NDArray[np.str_]) -> dict[int, str]:
    """The images to leave out of training because of their copies: position -> 'conflict' or 'leak'.

    If the labels of a picture's copies contradict each other, all of them; if they are in different splits, those that are not in the
    last of train, val and test.
    """
    doubtful: dict[int, str] = {}
    for rows in _pictures(copies, _number_pictures(copies, labels)):
        if (labels.opposites(rows) != rows).any():
            doubtful |= dict.fromkeys(rows.tolist(), "conflict")
            continue
        last = max((SPLIT_NAMES.index(split[row]) for row in rows if split[row]), default=0)
        doubtful |= {row: "leak" for row in rows.tolist() if split[row] and SPLIT_NAMES.index(split[row]) < last}
    return doubtful


def _number_pictures(copies: Sequence[Copy], labels: Apart) -> Rows:
    """The number of each image's picture, (n,). Where a label changes with the mirror, as left and right do, a mirror image is another."""
    num_images = len(labels.values)
    picture, mirrored = number_pictures(copies, num_images), np.zeros(num_images, bool)
    for copy in sorted(copies, key=lambda copy: copy.row):  # what it is a copy of comes before it
        mirrored[copy.row] = mirrored[copy.of] ^ copy.is_mirrored
    for rows in _pictures(copies, picture) if mirrored.any() else ():
        if labels.are_apart(rows[mirrored[rows]], rows[~mirrored[rows]]):
            picture[rows[mirrored[rows]]] += num_images
    return picture


def _pictures(copies: Sequence[Copy], picture: Rows) -> list[Rows]:
    """The images of each picture that has copies, ascending."""
    rows = np.unique([row for copy in copies for row in (copy.row, copy.of)]).astype(np.int64)
    order = np.argsort(picture[rows], kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(picture[rows[order]])) + 1) if len(rows) else []
