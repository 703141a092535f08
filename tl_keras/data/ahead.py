"""Images given by paths, bytes or arrays, decoded in order in threads, some of them ahead of whoever takes them."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import DataConfig
from tl_keras.data import images
from tl_keras.errors import BadImageError

BATCH_SIZE = 32  # 16 to 128 differ by 5 %
BATCHES_AHEAD = 4, 16  # at least and at most: what is decoded while a model is read or its graph is built need not be waited for later
BYTES_AHEAD = 64 * 2**20  # of pixels; where images are large, fewer are decoded ahead

Image = Path | str | bytes | NDArray[np.uint8]
Loaded = NDArray[np.uint8] | str  # the pixels, or why there are none


class Ahead:
    """Batches of decoded images; decoding begins at once.

    Args:
        given: files by their paths, the bytes of files, or decoded RGB images, uint8 (h, w, 3). An image without a path is called
            "images[N]" by its place.
        image_size: (height, width) in pixels, to which they are resized.
        config: how they are decoded and resized.
        pool: threads to decode in.
    """

    def __init__(self, given: Iterable[Image], image_size: tuple[int, int], config: DataConfig, pool: ThreadPoolExecutor) -> None:
        self.image_size = image_size
        self._config, self._pool = config, pool
        self._waiting = enumerate(given)
        self._coming: deque[tuple[str, Future[Loaded]]] = deque()
        fewest, most = (batches * BATCH_SIZE for batches in BATCHES_AHEAD)
        self._submit(max(fewest, min(most, BYTES_AHEAD // (3 * image_size[0] * image_size[1]))))

    def batches(self) -> Iterator[list[tuple[str, Loaded]]]:
        """Names and pixels, or reasons, in order; whoever does not take all must `close`.

        Raises:
            DataError: there is too little memory to decode an image.
        """
        while self._coming:
            batch = [self._coming.popleft() for _ in range(min(BATCH_SIZE, len(self._coming)))]
            loaded = [(name, future.result()) for name, future in batch]
            self._submit(len(batch))
            yield loaded

    def close(self) -> None:
        """Let go what has not been decoded."""
        while self._coming:
            self._coming.popleft()[1].cancel()

    def _submit(self, num: int) -> None:
        for place, image in islice(self._waiting, num):
            name = str(image) if isinstance(image, Path | str) else f"images[{place}]"
            self._coming.append((name, self._pool.submit(self._load, image, name)))

    def _load(self, image: Image, name: str) -> Loaded:
        try:
            return load_image(image, name, self.image_size, self._config)
        except BadImageError as error:
            return str(error)


def load_image(image: Image, name: str, image_size: tuple[int, int], config: DataConfig) -> NDArray[np.uint8]:
    """The pixels of an image, uint8 (h, w, 3): decoded where it is a file, and resized.

    Args:
        image: see `Ahead`.
        name: what an error calls one without a path.
        image_size: (height, width) in pixels.
        config: how it is decoded and resized.

    Raises:
        BadImageError: it does not decode.
        DataError: there is too little memory.
    """
    decoding = images.Decoding.of(config)
    if isinstance(image, Path | str):
        return images.load(Path(image), image_size, config.resize, decoding)
    if isinstance(image, bytes):
        return images.load_bytes(image, name, image_size, config.resize, decoding)
    return images.load_array(image, name, image_size, config.resize)
