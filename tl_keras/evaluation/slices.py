"""How good a model is on parts of the test images: of one group, small or large, dark or bright, blurred or sharp.

A model that is right on average may fail on the photos of one camera, or at night. Which parts do worse than the rest, and whether that can
be chance, is said here; where it is shown is for the report and the terminal.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tl_keras.cores import usable_cpus
from tl_keras.data import images
from tl_keras.data.check.facts import light
from tl_keras.data.images import Decoding
from tl_keras.data.index import Index
from tl_keras.errors import BadImageError
from tl_keras.evaluation.intervals import bootstrap
from tl_keras.evaluation.metrics import share
from tl_keras.models.outputs import Labels, Output, SingleLabel
from tl_keras.progress import Progress
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

LEAST_IMAGES = 10  # of a slice: of fewer there is nothing to tell
MOST_LOOKED_AT = 1000  # images that are decoded for this
SURE = 0.05  # a p that is less is not taken for chance
QUARTERS = 4
FIGURES = {SINGLE_LABEL: "accuracy", MULTI_LABEL: "exact_match", REGRESSION: "mae"}  # the mean of what an image contributes


@dataclass(frozen=True)
class Quantity:
    """Something that is measured of each image, by which images are cut into quarters.

    Attributes:
        unit: what a range of its numbers is called.
        lowest: what the images with the lowest numbers are called.
        highest: likewise.
    """

    unit: str
    lowest: str
    highest: str


QUANTITIES = {
    "size": Quantity("shorter side {} pixels", "smallest", "largest"),
    "brightness": Quantity("mean grey {} of 255", "darkest", "brightest"),
    "sharpness": Quantity("{}", "most blurred", "sharpest"),
}


def slices(
    index: Index, root: Path | None, decoding: Decoding, task: str, outcomes: NDArray[np.bool_] | NDArray[np.float64], progress: Progress
) -> dict[str, Any]:
    """The figure of a model on each part of the images that were measured, the worst first.

    Groups are those of the index. Size, light and sharpness are those of the files, of at most 1,000 images evenly spread over all;
    sharpness is the standard deviation of the Laplacian of grey over that of grey, at 256 pixels. Files that are gone, were replaced or
    do not decode are in no slice of these.

    Args:
        index: of the n images.
        root: the folder that its paths are relative to; None where nobody knows where they lie now.
        decoding: as the run has it.
        task: of the model.
        outcomes: (n,), see `outcomes`.

    Returns:
        `figure`, its name; `looked_at`, how many images were decoded; `slices`, each with `by`, `name`, `images`, the figure and its
        `..._ci95`, `rest`, the figure of the images that are not in it, and `p`: how probable so large a difference to these is (Fisher's
        exact test; of errors that of Mann and Whitney), times the number of slices; and `worst`, the first that is clearly worse than the
        rest, p < 0.05; None where there is none.
    """
    name = FIGURES[task]
    values = {} if root is None else look_at(replace(index, root=root), decoding, progress)
    parts = [*_groups(index), *(part for by, of_each in values.items() for part in quarters(by, of_each))]
    found = [{"by": by, "name": told, **_judged(name, outcomes, rows, among)} for by, told, rows, among in parts]
    for each in found:
        each["p"] = min(1.0, each["p"] * len(found))
    sign = -1 if task == REGRESSION else 1
    found.sort(key=lambda each: sign * each[name])
    overall = sign * float(outcomes.mean())
    worst = next((each for each in found if sign * each[name] < overall and each["p"] < SURE), None)
    looked_at = int(max((np.isfinite(each).sum() for each in values.values()), default=0))
    return {"figure": name, "looked_at": looked_at, "slices": found, "worst": worst}


def outcomes(output: Output, answers: NDArray[np.float64], labels: Labels) -> NDArray[np.bool_] | NDArray[np.float64]:
    """What each image contributes to the figure of a slice, (n,): whether every class is right; of a number the absolute error."""
    if isinstance(output, SingleLabel):
        return output.is_right(answers, labels)
    decided = output.decide(answers)
    return (decided == labels).all(axis=1) if output.task == MULTI_LABEL else np.abs(decided.astype(np.float64) - labels)


def look_at(index: Index, decoding: Decoding, progress: Progress) -> dict[str, NDArray[np.float64]]:
    """Measure each of `QUANTITIES` of some images: by its name (n,), NaN of an image that was not looked at or cannot be."""
    rows = np.unique(np.linspace(0, len(index.paths) - 1, min(len(index.paths), MOST_LOOKED_AT)).astype(np.int64))
    some = index.take(rows)
    content = some.identify(Progress())
    same = content != b"" if some.ids is None else content == some.ids
    found = np.full((len(QUANTITIES), len(index.paths)), np.nan)
    with ThreadPoolExecutor(usable_cpus()) as pool, progress.bar("look at test images", int(same.sum())) as advance:
        files = [index.root / index.paths[row] for row in rows[same]]
        for row, numbers in zip(rows[same], pool.map(lambda file: _look(file, decoding), files), strict=True):
            found[:, row] = numbers
            advance(1)
    return dict(zip(QUANTITIES, found, strict=True))


def _look(file: Path, decoding: Decoding) -> tuple[float, float, float]:
    try:
        return images.look(file, _numbers, decoding)
    except BadImageError:
        return (np.nan,) * 3


def _numbers(kind: str, pixels: images.Pixels) -> tuple[float, float, float]:
    """`QUANTITIES` of an image."""
    brightness, _, _, sharpness = light(pixels)
    return float(min(pixels.shape[:2])), brightness, sharpness


Part = tuple[str, str, NDArray[np.int64], NDArray[np.int64]]  # by what, its name, the rows in it, the rows that it was taken from


def _groups(index: Index) -> Iterator[Part]:
    if index.groups is None:
        return
    names, numbers = np.unique(np.array(index.groups), return_inverse=True)
    for number, name in enumerate(names.tolist()):
        rows = np.flatnonzero(numbers == number)
        if LEAST_IMAGES <= len(rows) < len(numbers):
            yield "group", name, rows, np.arange(len(numbers))


def quarters(by: str, values: NDArray[np.float64]) -> Iterator[Part]:
    """The images in four parts of about the same size, from the lowest numbers to the highest; those with equal numbers stay together.

    Args:
        by: one of `QUANTITIES`.
        values: (n,), NaN for images that are in no part.
    """
    known, quantity = np.flatnonzero(np.isfinite(values)), QUANTITIES[by]
    if not len(known):
        return
    _, own, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    part = (QUARTERS * (np.cumsum(counts) - counts / 2) / len(known)).astype(np.int64)[own]  # by the rank in the middle of its equals
    present = np.unique(part)
    for number in present.tolist() if len(present) > 1 else ():
        rows = known[part == number]
        if len(rows) >= LEAST_IMAGES:
            named = {present[0]: f"{quantity.lowest}, ", present[-1]: f"{quantity.highest}, "}.get(number, "")
            ends = dict.fromkeys(f"{end:.3g}" for end in (values[rows].min(), values[rows].max()))  # one, where they are equal
            yield by, named + quantity.unit.format(" to ".join(ends)), rows, known


def told(by: str, name: str) -> str:
    """Which images are in a slice, in words."""
    if by not in QUANTITIES:
        return f"images of the {by} '{name}'"
    extreme, comma, between = name.partition(", ")
    return f"the {extreme} images ({by}: {between})" if comma else f"images of a {by} in between ({name})"


def _judged(name: str, outcomes: NDArray[Any], rows: NDArray[np.int64], among: NDArray[np.int64]) -> dict[str, Any]:
    """The figure of a slice with its interval, and how far it is from the other images."""
    inside, rest = outcomes[rows], outcomes[np.setdiff1d(among, rows)]
    if outcomes.dtype == bool:
        table = [[int(each.sum()), int((~each).sum())] for each in (inside, rest)]
        return {"images": len(rows), **share(name, inside), "rest": float(rest.mean()), "p": float(stats.fisher_exact(table).pvalue)}
    value, ends = bootstrap(len(rows), lambda times: (times @ inside / len(rows))[:, None])
    p = float(stats.mannwhitneyu(inside, rest).pvalue)
    return {"images": len(rows), name: float(value[0]), f"{name}_ci95": ends[:, 0].tolist(), "rest": float(rest.mean()), "p": p}
