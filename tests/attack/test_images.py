"""Files that are called images: pixels, or one line; never a crash, a hang or a gigabyte."""

import io
import random
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tl_keras.data import images
from tl_keras.errors import BadImageError

FORMATS = {
    "JPEG": {"quality": 80}, "PNG": {}, "GIF": {}, "BMP": {}, "WEBP": {"quality": 80}, "TIFF": {}, "TIFF lzw": {"compression": "tiff_lzw"},
    "PNG 16": {}, "PNG palette": {}, "JPEG progressive": {"progressive": True},
}  # fmt: skip
LIMIT_S = 5.0


def encoded(name: str) -> bytes:
    """A small image of a format."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8)
    image = Image.fromarray(pixels)
    if name == "PNG 16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if name == "PNG palette":
        image = image.quantize(17)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, name.split()[0], **FORMATS[name], **({"exif": exif} if name in ("JPEG", "PNG", "WEBP") else {}))
    return buffer.getvalue()


def outcome(data: bytes) -> str:
    """'decoded' or 'refused'; anything else is an error of ours."""
    started, text = time.perf_counter(), ""
    try:
        pixels = images.decode(data, "photos/cat/1.jpg")
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert min(pixels.shape) >= 1
        found = "decoded"
    except BadImageError as refusal:
        text = str(refusal)
        found = "refused"
    assert "\n" not in text
    assert " at 0x" not in text
    assert time.perf_counter() - started < LIMIT_S
    return found


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes cut short, flipped, removed, doubled or replaced by extremes."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place, width = rng.randrange(len(content) + 1), rng.choice((1, 2, 4, 16, 200))
        kind = rng.randrange(5)
        if kind == 0:
            content[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            content[place : place + width] = rng.choice((b"\xff", b"\0", b"\x7f")) * width
        elif kind == 2:
            del content[place : place + width]
        elif kind == 3:
            content[place:place] = content[place : place + width]
        else:
            del content[max(16, place) :]
    return bytes(content)


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_images(name: str, rng: random.Random, times: Callable[[int, int], int], report: Callable[..., None]) -> None:
    data = encoded(name)
    assert outcome(data) == "decoded"
    for _ in range(times(20, 200)):
        report("images", images=1, **{outcome(mutated(data, rng)): 1})


def png_of(width: int, height: int, colour: int = 6) -> bytes:
    """A PNG that says it is large and holds one compressed run of zeros."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = zlib.compress(b"\0" * ((1 + channels * width) * height), 9) if width * height <= 2**27 else zlib.compress(b"\0" * 1000)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BOMBS = {
    "png 65,535 squared": lambda: png_of(65_535, 65_535),
    "gif with a huge canvas": lambda: b"GIF89a\xff\xff\xff\xff\xf0\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once(name: str) -> None:
    assert outcome(BOMBS[name]()) == "refused"
