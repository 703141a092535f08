"""Files that are called images: pixels, or one line; never a crash, a hang or a gigabyte."""

import io
import json
import os
import random
import shutil
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tl_keras.config import DataConfig
from tl_keras.data import dataset, images, sources
from tl_keras.data.depth import tell_depth
from tl_keras.data.walk import left_out_lines
from tl_keras.errors import BadImageError
from tl_keras.progress import Progress

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


def png_of(width: int, height: int, colour: int = 6, most: int = 2**29) -> bytes:
    """A PNG that says it is large and holds compressed zeros, of its pixels where these are no more than `most` bytes."""
    channels, packer = {0: 1, 2: 3, 3: 1, 6: 4}[colour], zlib.compressobj(1)
    row = bytes(1 + channels * width)
    rows = b"".join(packer.compress(row) for _ in range(height if len(row) * height <= most else 1)) + packer.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    palette = chunk(b"PLTE", bytes(3 * 256)) + chunk(b"tRNS", bytes(range(256))) if colour == 3 else b""
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif_of(width: int, height: int) -> bytes:
    """A GIF of one pixel on a canvas that may be large."""
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + b"\xf0\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"


BOMBS = {
    "png 65,535 squared": lambda: png_of(65_535, 65_535),
    "gif with a huge canvas": lambda: gif_of(65_535, 65_535),
    "gif just over the limit": lambda: gif_of(10_000, 10_001),
    "png just over the limit": lambda: png_of(10_000, 10_001, most=0),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once(name: str) -> None:
    assert outcome(BOMBS[name]()) == "refused"


def photo_of(kind: str, mode: str, **settings: Any) -> bytes:
    """A plain image of 100 megapixels; an animation has a second frame."""
    buffer = io.BytesIO()
    Image.new(mode, (10_000, 10_000), 1).save(buffer, kind, **settings)
    return buffer.getvalue()


LARGEST = {  # at the limit of 100 megapixels
    "rgba.png": lambda: png_of(10_000, 10_000),
    "canvas.gif": lambda: gif_of(10_000, 10_000),
    "palette.png": lambda: png_of(10_000, 10_000, colour=3),
    "animated.webp": lambda: photo_of("WEBP", "RGBA", save_all=True, append_images=[Image.new("RGBA", (10_000, 10_000), "red")], method=0),
    "padded.jpg": lambda: photo_of("JPEG", "CMYK", progressive=True).ljust(299_000_000, b"\0"),
}
MOST_MB = 1_500  # above the idle process
PEAK = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from tl_keras.data import images

def peak():
    "In kB; getrusage would count what the process that started this one had."
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

first, *files = map(Path, sys.argv[2:])
images.load(first, (64, 64), "crop")
idle = peak()
with ThreadPoolExecutor(8) as pool:
    assert all(len(found) == 64 for found in pool.map(lambda file: images.load(file, (64, 64), "crop"), files))
print((peak() - idle) // 1000)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc")
def test_the_largest_images_take_little_memory(
    python_alone: Callable[..., Any], tmp_path: Path, times: Callable[[int, int], int], report: Callable[..., None]
) -> None:
    """Eight decoders, of which each would take two gigabytes and more if its image were converted as a whole.

    The two worst files are looked at alone: with all five kinds at once it is 2.1 GB.
    """
    together = list(LARGEST)[: times(2, 3)] * times(1, 4)
    for names in [together, ["animated.webp"], ["padded.jpg"]][: times(1, 3)]:
        for name in {"first.png", *names}:
            (tmp_path / name).write_bytes(LARGEST[name]() if name in LARGEST else encoded("PNG"))
        peak = int(python_alone(PEAK, str(Path(__file__).parents[2]), "first.png", *names, cwd=tmp_path).stdout)
        report("large images" if names is together else names[0], MB_at_most=peak)
        assert 100 < peak < MOST_MB, names


@pytest.mark.skipif(os.name != "posix", reason="no FIFOs")
def test_odd_files_are_counted_and_nobody_waits_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "data" / name / f"{number}.png").write_bytes(encoded("PNG"))
    odd = tmp_path / "data" / "cat"
    os.mkfifo(odd / "fifo.jpg")
    (odd / "zero.jpg").symlink_to("/dev/zero")
    monkeypatch.chdir(odd)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket.jpg")
    for name, head in (("sparse.jpg", b""), ("sparse_jpeg.jpg", b"\xff\xd8\xff")):
        with (odd / name).open("wb") as file:
            file.write(head)
            file.truncate(2**31 if not head else 2**29)
    started = time.perf_counter()
    config = DataConfig(source=str(tmp_path / "data"))
    index = sources.open_source(config)
    assert left_out_lines(index.ignored) == ["left out 3 files: 3 FIFOs, sockets or devices (cat 3)"]
    tell_depth(index.files, 16, Progress())
    pixels = dataset.open_pixels(index, config, (16, 16))
    pixels.identify(Progress())
    pixels.decode_all()
    assert [index.paths[row] for row in sorted(pixels.bad)] == ["cat/sparse.jpg", "cat/sparse_jpeg.jpg"]
    assert "is not an image" in pixels.bad[min(pixels.bad)]
    assert "is a file of 537 MB" in pixels.bad[max(pixels.bad)]
    assert time.perf_counter() - started < LIMIT_S + 10


def test_explain_tells_of_files_that_are_none_and_explains_the_others(
    finished: Path, command_line: Any, photos: Path, tmp_path: Path, rng: random.Random, report: Callable[..., None]
) -> None:
    good = sorted(photos.rglob("*.png"))[0]
    (tmp_path / "bomb.png").write_bytes(BOMBS["png 65,535 squared"]())
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(mutated(good.read_bytes(), rng))
    shutil.copy(good, tmp_path / "good.png")
    run = shutil.copytree(finished, tmp_path / "run")
    command = command_line.run(["explain", run, *sorted(tmp_path.glob("*.png"))])
    assert (command.status, "Traceback" in command.text) == (0, False), command.text
    found = {Path(each["path"]).name: each for each in json.loads((run / "explanations" / "1" / "explanations.json").read_text())["images"]}
    assert len(found) == 8
    assert "error" in found["bomb.png"]
    assert "error" not in found["good.png"]
    report("images", images=8, refused=sum("error" in each for each in found.values()))
