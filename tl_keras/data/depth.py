"""Checks whether 16-bit files use their range: greys of 10 to 14 bits would be almost black to a network.

Only a few files are looked at, before any work begins, so that it is said in time and at every run, stored features or not.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tl_keras.data import images
from tl_keras.progress import Progress

LOOKED_AT = 32  # files, evenly spaced
USUAL_DEPTHS = (8, 10, 12, 14)


def tell_depth(files: Sequence[Path], bit_depth: int, progress: Progress, advice: str = "Set data.bit_depth={}.") -> None:
    """Say in one line that 16-bit greys are almost black under `bit_depth`, or largely white; nothing where they are not.

    Args:
        bit_depth: what `data.bit_depth` is now.
        advice: what to do, with a place for the depth that fits.
    """
    rows = np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int)) if len(files) else ()
    peaks = []
    for row in rows:
        peak = images.deep_grey_peak(files[row])
        if peak is not None:
            peaks.append(peak)
            if peak >= 2 ** max(USUAL_DEPTHS) and bit_depth == 16:
                return
    if text := _sentence(peaks, bit_depth):
        progress.line(f"{text} {advice.format(_depth_of(max(peaks)))}")


def _sentence(peaks: Sequence[int], bit_depth: int) -> str:
    depth = _depth_of(max(peaks)) if peaks else bit_depth
    found = f"16-bit files hold greys up to {max(peaks, default=0):,} only ({len(peaks)} looked at)"
    if depth < bit_depth:
        return f"{found}, which data.bit_depth={bit_depth} makes almost black."
    if depth > bit_depth:
        return f"{found.replace(' only', '')}; data.bit_depth={bit_depth} makes all above {2**bit_depth - 1:,} white."
    return ""


def _depth_of(peak: int) -> int:
    return next((depth for depth in USUAL_DEPTHS if peak < 2**depth), 16)
