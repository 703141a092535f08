"""Each kind of image is recognised by its first bytes, and nothing else is."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, features

from tl_keras.data.formats import HEAD_BYTES, image_format

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))


def encoded(kind, image=PHOTO, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ftyp(own, *compatible):
    brands = own + b"\0\0\0\0" + b"".join(compatible)
    return (8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands + b"\0\0\0\x10meta"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("jpeg", encoded("JPEG")),
        ("jpeg", encoded("MPO", save_all=True, append_images=[PHOTO])),
        ("png", encoded("PNG")),
        ("gif", encoded("GIF")),
        ("gif", encoded("GIF").replace(b"GIF89a", b"GIF87a")),
        ("bmp", encoded("BMP")),
        ("bmp", encoded("BMP", PHOTO.convert("1"))),
        ("webp", encoded("WEBP")),
        ("webp", encoded("WEBP", save_all=True, append_images=[PHOTO.rotate(90)])),
        ("tiff", encoded("TIFF")),
        ("tiff", encoded("TIFF", big_tiff=True)),
        ("tiff", b"MM\0*\0\0\0\x08"),
        ("heic", ftyp(b"heic", b"mif1", b"heic")),
        ("heic", ftyp(b"mif1", b"mif1", b"heic")),
        ("heic", ftyp(b"heix")),
        ("avif", ftyp(b"avif", b"avif", b"mif1", b"miaf")),
        ("avif", ftyp(b"mif1", b"mif1", b"avif")),
    ],
)
def test_an_image_is_recognised_by_its_first_bytes(name, data):
    assert image_format(data[:HEAD_BYTES]) == name
    assert image_format(data) == name


@pytest.mark.skipif(not features.check("avif"), reason="a Pillow without AVIF")
def test_avif_is_recognised():
    assert image_format(encoded("AVIF")[:HEAD_BYTES]) == "avif"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"hello",
        b"BM is how this text begins, and goes on for a while",
        b"<html><body>Not found",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        b"\0\0\0\x18ftypisom\0\0\0\0mif1avif",  # a video that lists the brand of an image
        b"II*\0\x10\0\0\0CR\x02\0",  # Canon's raw format
        b"%PDF-1.7",
    ],
)
def test_anything_else_is_none(data):
    assert image_format(data[:HEAD_BYTES]) is None


def test_it_needs_neither_tensorflow_nor_pillow():
    code = "import sys, tl_keras.data.formats; sys.exit('tensorflow' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
