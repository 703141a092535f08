"""Images that are decoded ahead come in order, whatever they were given as, and few of them wait."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tl_keras.config import DataConfig
from tl_keras.data import ahead as module
from tl_keras.data.ahead import Ahead


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize(("side", "waiting"), [(8, 16), (2400, 4), (1500, 9)])
def test_decoding_begins_at_once_and_stays_a_few_batches_ahead(
    side: int, waiting: int, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 2)
    monkeypatch.setattr(module, "BYTES_AHEAD", 18 * 3 * 1500**2)
    monkeypatch.setattr(Ahead, "_load", lambda self, image, name: image)
    asked: list[int] = []

    def endless() -> Iterator[str]:
        while True:
            asked.append(1)
            yield str(len(asked))

    coming = Ahead(endless(), (side, side), DataConfig(), pool)
    assert len(asked) == 2 * waiting
    for number, batch in zip(range(1, 4), coming.batches(), strict=False):
        assert batch == [(name, name) for name in (str(2 * number - 1), str(2 * number))]
        assert len(asked) == 2 * (waiting + number)
    coming.close()
    assert list(coming.batches()) == []


def test_paths_bytes_and_arrays_come_in_order_with_their_names(photo: Path, pool: ThreadPoolExecutor) -> None:
    pixels = np.asarray(Image.open(photo))
    given = [photo, str(photo), photo.read_bytes(), pixels, b"text"]
    (batch,) = Ahead(given, (8, 8), DataConfig(resize="stretch"), pool).batches()
    assert [name for name, _ in batch] == [str(photo), str(photo), "images[2]", "images[3]", "images[4]"]
    assert all(np.array_equal(found, batch[0][1]) for _, found in batch[:4])
    assert batch[4][1] == "images[4]: is not an image (first bytes b'text')"
