"""The training images that are most like an image to the model. Whoever serves a run says whether others may see them.

Their features and small copies are made at the start and stay in memory: of at most `neighbours.MOST` images, those that lie where the run
says and are still the same. Nothing that is asked names one.
"""

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tl_keras.data import images
from tl_keras.data.file_ids import id_of
from tl_keras.deploy.serve.batcher import Pixels
from tl_keras.errors import ConfigError
from tl_keras.evaluation.explain.neighbours import References, open_references
from tl_keras.evaluation.thumbnails import thumbnails
from tl_keras.progress import Progress
from tl_keras.trained_run import TrainedRun, data_root


@dataclass(frozen=True)
class TrainingPhotos:
    """Training images that are shown.

    Attributes:
        references: the images with their features.
        pictures: path of each -> a small copy, as the address of an `<img>`.
        number: how many are shown beside an image.
        thread: where features are computed: of one image at a time.
    """

    references: References
    pictures: Mapping[str, str]
    number: int
    thread: ThreadPoolExecutor

    async def nearest(self, pixels: Pixels, file: bytes) -> list[dict[str, Any]]:
        """The nearest to an image, for JSON: `label`, `cosine` of the features and `picture`; no path.

        Args:
            pixels: uint8 (h, w, 3) of the model's size.
            file: what they were decoded from; copies of it are left out.
        """
        found = await asyncio.wrap_future(self.thread.submit(self.references.nearest, pixels, id_of(file), self.number))
        return [{"label": each.label, "cosine": each.cosine, "picture": self.pictures[each.path]} for each in found]


@contextmanager
def opened_photos(trained: TrainedRun, number: int, source: str | None, progress: Progress) -> Iterator[TrainingPhotos]:
    """Read or compute the features of a run's training images, and make their small copies.

    Args:
        number: how many are shown beside an image, from 1.
        source: where the run's images lie now, if they have moved.

    Raises:
        ConfigError: the model has no features, or none of the images is there.
        DataError: the folder is not there.
    """
    root = data_root(trained.config, trained.run, progress, source)
    found = open_references(trained, root, progress)
    if isinstance(found, str):
        raise ConfigError(f"--neighbours: {found}. Leave it out.")
    paths = found.index.paths
    pictures = thumbnails([root / path for path in paths], images.Decoding.of(trained.config.data))
    with ThreadPoolExecutor(1, thread_name_prefix="neighbours") as thread:
        yield TrainingPhotos(found, dict(zip(paths, pictures, strict=True)), number, thread)
