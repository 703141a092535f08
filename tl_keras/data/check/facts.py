"""What one look at an image tells: its size, its light, how sharp it is, and a hash that its copies share.

One pass decodes every file in threads, by the decoder of training. What it found is kept by content below the cache, so
that the next pass looks only at what is new. What is a fault and what is not is for `faults` and `copies` to say.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tl_keras.cache import cache_folder
from tl_keras.data import images
from tl_keras.data.file_ids import ID_BYTES, Ids
from tl_keras.data.pipeline import decoding_threads
from tl_keras.errors import BadImageError
from tl_keras.run_folder import write_atomically

CONTRACT = 1  # goes up with any change here that moves a number

LOOKED_AT = 256  # pixels of the longer side at which light and sharpness are measured; smaller images as they are
HASHED = 8  # rows and columns of differences
THUMBNAIL = 16  # rows and columns
TIMED, QUICK_S = 32, 1e-3  # images that are timed, and the seconds that a small one takes at most
KEPT_EVERY = 4096  # images after which what was found is kept

FACT = np.dtype(
    [
        ("id", f"S{ID_BYTES}"),
        ("format", "S5"),  # by the first bytes, such as 'jpeg'
        ("height", "<u4"),
        ("width", "<u4"),
        ("brightness", "<f4"),  # mean grey, 0 to 255
        ("contrast", "<f4"),  # standard deviation of grey
        ("saturation", "<f4"),  # mean of max - min of red, green and blue, 0 to 255
        ("sharpness", "<f4"),  # standard deviation of the Laplacian of grey over that of grey; 0 without contrast
        ("hash", "<u8", (2,)),  # difference hash, along rows and along columns
        ("mirrored", "<u8", (2,)),  # that of the mirror image
        ("thumbnail", "u1", (THUMBNAIL, THUMBNAIL)),  # in grey
    ]
)

Facts = NDArray[np.void]  # (n,) of FACT
FLAT = 1e-3  # contrast below which there is none


def examine(
    paths: Sequence[Path], ids: Ids, decoding: images.Decoding, advance: Callable[[int], None] | None = None
) -> tuple[Facts, dict[int, str]]:
    """Look at every file once.

    Args:
        paths: n files.
        ids: (n,), what their contents are known by.
        advance: told how many files were just done.

    Returns:
        The facts of each file, (n,) of `FACT`, zeros where it does not decode; and the reason of each that does not, by position.

    Raises:
        DataError: there is too little memory to decode a file.
    """
    memory = _Memory(decoding)
    facts, new = memory.recall(ids)
    bad: dict[int, str] = {}

    def look(row: int) -> None:
        try:
            facts[row] = (ids[row], *images.look(paths[row], _facts, decoding))
        except BadImageError as error:
            bad[row] = str(error)

    if advance is not None and len(new) < len(ids):
        advance(len(ids) - len(new))
    with decoding_threads() as pool:
        for start in range(0, len(new), KEPT_EVERY):
            part = new[start : start + KEPT_EVERY].tolist()
            for _ in _each(look, part, pool):
                if advance is not None:
                    advance(1)
            memory.keep(facts[[row for row in part if row not in bad]])
    return facts, bad


def _each(look: Callable[[int], None], rows: Sequence[int], pool: ThreadPoolExecutor) -> Iterator[None]:
    """Look at each row, in threads unless one alone is quicker: small images take twice as long where threads wait for Python's lock."""
    started = time.perf_counter()
    for row in rows[:TIMED]:
        look(row)
        yield
    quick = time.perf_counter() - started < QUICK_S * len(rows[:TIMED])
    yield from (map if quick else pool.map)(look, rows[TIMED:])


def _facts(kind: str, pixels: images.Pixels) -> tuple[object, ...]:
    """The fields of `FACT` behind the id."""
    return (kind.encode(), *pixels.shape[:2], *light(pixels), *_hashes(pixels))


def light(pixels: images.Pixels) -> tuple[float, float, float, float]:
    """Brightness, contrast, saturation, sharpness."""
    image = Image.fromarray(pixels)
    image.thumbnail((LOOKED_AT, LOOKED_AT), Image.Resampling.BILINEAR)  # never larger
    small = np.asarray(image).astype(np.float32)
    grey = small @ np.array([0.299, 0.587, 0.114], np.float32)
    contrast = float(grey.std())
    padded = np.pad(grey, 1, mode="edge")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    sharpness = float(laplacian.std()) / contrast if contrast > FLAT else 0.0
    return float(grey.mean()), contrast, float((small.max(-1) - small.min(-1)).mean()), sharpness


def _hashes(pixels: images.Pixels) -> tuple[NDArray[np.uint64], NDArray[np.uint64], images.Pixels]:
    """The difference hash of an image, that of its mirror image, and its thumbnail.

    Reference: N. Krawetz 2013, "Kind of like that" (dHash), here along columns too.
    """
    grey = Image.fromarray(pixels).convert("L")
    wide, tall, thumbnail = (
        np.asarray(grey.resize(size, Image.Resampling.BOX, reducing_gap=3.0))
        for size in ((HASHED + 1, HASHED), (HASHED, HASHED + 1), (THUMBNAIL, THUMBNAIL))
    )
    return _signs(wide, tall), _signs(wide[:, ::-1], tall[:, ::-1]), thumbnail


def _signs(wide: images.Pixels, tall: images.Pixels) -> NDArray[np.uint64]:
    bits = [wide[:, 1:] > wide[:, :-1], tall[1:] > tall[:-1]]
    return np.array([np.packbits(each).view("<u8")[0] for each in bits], np.uint64)


class _Memory:
    """Facts of images that were looked at before, in one file for each way to decode: (n,) of `FACT`, ascending by id."""

    def __init__(self, decoding: images.Decoding) -> None:
        name = "".join(letter if letter.isalnum() else "-" for letter in f"{CONTRACT} {decoding.contract}")
        self._max_megapixels = decoding.max_megapixels
        self._file = cache_folder() / "facts" / f"{name}.npy"
        self._known = self._read()

    def _read(self) -> Facts:
        with suppress(OSError, ValueError, EOFError):  # a damaged file is as good as none
            found = np.load(self._file, mmap_mode="r")
            if found.dtype == FACT and found.ndim == 1:
                return np.asarray(found)
        return np.zeros(0, FACT)

    def recall(self, ids: Ids) -> tuple[Facts, NDArray[np.int64]]:
        """What is known of images, zeros for the others, and the positions of the others."""
        facts = np.zeros(len(ids), FACT)
        places = np.searchsorted(self._known["id"], ids)
        places[places == len(self._known)] = 0
        known = (self._known["id"][places] == ids) & (ids != b"") if len(self._known) else np.zeros(len(ids), bool)
        facts[known] = self._known[places[known]]
        too_large = facts["height"].astype(float) * facts["width"] > 1e6 * self._max_megapixels  # by a limit that was higher then
        facts[too_large], known[too_large] = np.zeros((), FACT), False
        return facts, np.flatnonzero(~known)

    def keep(self, found: Facts) -> None:
        """Keep more of them; another process that writes at the same moment may win, and then they are looked at again."""
        if not len(found):
            return
        both = np.concatenate([self._read(), found])
        self._known = both[np.unique(both["id"], return_index=True)[1]]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file, lambda path: np.save(path, self._known))
