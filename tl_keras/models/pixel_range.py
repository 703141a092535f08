"""The range of pixels that a network was trained on, inferred from what its first convolution would see of each.

Weights expect numbers around zero, of a size between a tenth and that of pixels. A file that divides by 255 itself shows its first
convolution [0, 1] where it gets pixels, and [0, 0.004] where it gets [0, 1]: so it wants pixels. Where an image comes through as it
is, nothing can be told. Knows arrays alone, not where they come from.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]  # (b, h, w, c)

# what goes in front -> what it makes of pixels 0..255
RANGES: dict[str, Callable[[Images], Images]] = {
    "none": lambda pixels: pixels,
    "zero_to_one": lambda pixels: pixels / np.float32(255),
    "minus_one_to_one": lambda pixels: pixels / np.float32(127.5) - np.float32(1),
}
NARROWEST, LARGEST = 0.1, 300.0  # of what weights expect: the spread of their input, and its largest number
OFF_CENTRE, CENTRED = 2.0, 0.2  # how far from zero the middle may lie, in spreads; and where it lies if the mean was taken off
SAME = 0.1  # in spreads: as close to what went in as chance allows


def range_wanted(see: Callable[[Images], NDArray[np.float32]], image_size: tuple[int, int]) -> str | None:
    """Find the range of pixels that a network's own preprocessing takes.

    Args:
        see: images (b, h, w, 3) as they are given to the network -> what its first convolution sees of them, (b, ..., c).
        image_size: height and width of the images in pixels.

    Returns:
        A key of `RANGES`; None where images come through unchanged, or where several ranges, or none, would make sense.
    """
    pixels = coloured_blocks(image_size)
    given = {kind: make(pixels) for kind, make in RANGES.items()}
    seen = {kind: _ends(see(images)) for kind, images in given.items()}
    if all(_alike(seen[kind], _ends(given[kind])) for kind in RANGES):
        return None
    if all(_alike(seen[kind], seen["none"]) for kind in RANGES):  # each image is standardised by itself
        return "none"
    possible = [kind for kind in RANGES if _is_sensible(seen[kind])]
    centred = [kind for kind in possible if _is_centred(seen[kind])]
    if len(possible) == 1:
        return possible[0]
    # A range around zero stays so, whatever it is multiplied by: that alone says nothing for it.
    return centred[0] if len(centred) == 1 and not (centred[0] == "minus_one_to_one" and "none" in possible) else None


def coloured_blocks(image_size: tuple[int, int]) -> Images:
    """Eight images (8, h, w, 3) of eight times eight random colours 0..255, the same in every run: they survive resizing and cropping."""
    height, width = image_size
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype(np.float32)
    return colours[:, np.arange(height) * 8 // height][:, :, np.arange(width) * 8 // width]


Ends = tuple[NDArray[np.float64], NDArray[np.float64]]  # a low and a high number of each channel


def _ends(seen: NDArray[np.float32]) -> Ends:
    """The 5th and the 95th percentile of each channel; of maps without their rim, which may be padding."""
    if seen.ndim == 4:
        rims = [side // 4 for side in seen.shape[1:3]]
        seen = seen[:, rims[0] : seen.shape[1] - rims[0], rims[1] : seen.shape[2] - rims[1]]
    low, high = np.percentile(seen.reshape(-1, seen.shape[-1]), (5, 95), axis=0)
    return low, high


def _alike(one: Ends, other: Ends) -> bool:
    """Whether the ends of all channels agree; channels may be swapped, or be more."""
    spread = float((other[1] - other[0]).max())
    return all(bool(np.all(np.abs(a - b.mean()) <= SAME * spread)) for a, b in zip(one, other, strict=True))


def _is_sensible(ends: Ends) -> bool:
    low, high = ends
    spread = high - low
    return bool(
        np.all(np.isfinite(spread))
        and np.all(spread >= NARROWEST)
        and np.all(np.maximum(np.abs(low), np.abs(high)) <= LARGEST)
        and np.all(np.abs(low + high) / 2 <= OFF_CENTRE * spread)
    )


def _is_centred(ends: Ends) -> bool:
    low, high = ends
    return bool(np.all(np.abs(low + high) / 2 <= CENTRED * (high - low)))
