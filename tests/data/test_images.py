"""Evaluation pixels: what decode makes of each kind of file, what fit does to geometry and values, what load raises."""

import io
import os
import struct
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, features

from tl_keras.config import DataConfig
from tl_keras.data import images
from tl_keras.errors import BadImageError, DataError

FLOWERS = Path(__file__).parents[2] / "../shared/data/flowers"
RESIZES = ("crop", "letterbox", "stretch")
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
ALPHA = np.random.default_rng(1).integers(0, 256, (6, 9, 1), np.uint8)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(rows, depth, colour_type, transparent=b""):
    """A PNG of whole bytes a sample, as Pillow cannot write it."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = rows.shape[:2]
    samples = rows.reshape(height, -1).astype(">u2" if depth == 16 else "u1")
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples))
    chunks = [(b"IHDR", header), *([(b"tRNS", transparent)] if transparent else []), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def on_white(colour, alpha):
    return np.rint(colour * (alpha / 255.0) + 255 * (1 - alpha / 255.0))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_decode_returns_the_pixels_of_a_lossless_file(kind):
    data = encode(Image.fromarray(PIXELS), kind, **({"lossless": True} if kind == "WEBP" else {}))
    decoded = images.decode(data, "a")
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, PIXELS)


def test_decode_repeats_grey():
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(images.decode(encode(Image.fromarray(grey), "PNG"), "a"), np.stack([grey] * 3, -1))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_decode_looks_up_a_palette(kind):
    palette = Image.fromarray(PIXELS).quantize(16)
    np.testing.assert_array_equal(images.decode(encode(palette, kind), "a"), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_decode_puts_alpha_on_white(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encode(Image.fromarray(np.concatenate([PIXELS, ALPHA], -1)), kind, **options)
    np.testing.assert_array_equal(images.decode(data, "a"), on_white(PIXELS, ALPHA))


def test_decode_puts_grey_with_alpha_on_white():
    data = encode(Image.fromarray(np.concatenate([PIXELS[..., :1], ALPHA], -1), "LA"), "PNG")
    np.testing.assert_array_equal(images.decode(data, "a"), np.repeat(on_white(PIXELS[..., :1], ALPHA), 3, -1))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_decode_makes_the_transparent_palette_entry_white(kind):
    palette = Image.fromarray(PIXELS).quantize(16)
    expected = np.asarray(palette.convert("RGB")).copy()
    expected[np.asarray(palette) == 3] = 255
    np.testing.assert_array_equal(images.decode(encode(palette, kind, transparency=3), "a"), expected)


def test_decode_mixes_half_transparent_palette_entries_with_white():
    palette = Image.fromarray(PIXELS).quantize(4)
    alpha = np.array([0, 100, 200, 255])[np.asarray(palette)][..., np.newaxis]
    data = encode(palette, "PNG", transparency=bytes([0, 100, 200, 255]))
    np.testing.assert_array_equal(images.decode(data, "a"), on_white(np.asarray(palette.convert("RGB")), alpha))


def test_decode_makes_the_transparent_grey_of_16_bits_white():
    grey = np.array([[0x1234, 0x1235], [0xFF00, 0x00FF]])
    data = png(grey, 16, 0, transparent=struct.pack(">H", 0x1234))
    np.testing.assert_array_equal(images.decode(data, "a")[..., 0], [[255, 0x12], [0xFF, 0x00]])


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3)])
def test_decode_keeps_the_upper_byte_of_16_bits(colour_type, channels):
    rows = np.random.default_rng(2).integers(0, 65536, (5, 4, channels))
    np.testing.assert_array_equal(images.decode(png(rows, 16, colour_type), "a"), np.broadcast_to(rows >> 8, (5, 4, 3)))


def test_decode_keeps_the_upper_byte_of_a_16_bit_tiff():
    grey = np.array([[0x1234, 0xFFFF]], np.uint16)
    np.testing.assert_array_equal(images.decode(encode(Image.fromarray(grey), "TIFF"), "a")[..., 0], [[0x12, 0xFF]])


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "floating-point numbers"), (np.int32, "32-bit or signed integers")])
def test_decode_refuses_pixels_without_a_known_range(dtype, kind):
    data = encode(Image.fromarray(np.array([[-1000, 3071]], dtype)), "TIFF")
    reason = rf"^a: its pixels are {kind} \(-1000 to 3071 here\), whose white level is not known\. Scale .* with 8 bits$"
    with pytest.raises(BadImageError, match=reason):
        images.decode(data, "a")


def test_decode_says_which_tiffs_are_not_read():
    data = encode(Image.fromarray(PIXELS), "TIFF").replace(struct.pack("<HHII", 277, 3, 1, 3), struct.pack("<HHII", 277, 3, 1, 7))
    with pytest.raises(BadImageError, match=r"^a: is a TIFF whose number or type of channels is not read \(.*\)\. Save"):
        images.decode(data, "a")


@pytest.mark.parametrize("bit_depth", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_decode_scales_greys_of_fewer_bits(kind, bit_depth):
    grey = np.array([[0, 1, 100, 255, 256, 1023, 4095, 4096, 16383, 65535]], np.uint16)
    decoded = images.decode(encode(Image.fromarray(grey), kind), "a", images.Decoding(bit_depth))
    np.testing.assert_array_equal(decoded[0, :, 0], [min(value >> (bit_depth - 8), 255) for value in grey[0].tolist()])


def test_decode_scales_nothing_but_16_bit_greys():
    for data in (encode(Image.fromarray(PIXELS), "PNG"), png(np.arange(0, 60_000, 5_000).reshape(2, 2, 3), 16, 2)):
        np.testing.assert_array_equal(images.decode(data, "a", images.Decoding(bit_depth=12)), images.decode(data, "a"))


def test_decoding_without_settings_is_that_of_the_default_settings():
    assert images.Decoding.of(DataConfig()) == images.DEFAULT
    assert images.Decoding.of(DataConfig(bit_depth=12, max_megapixels=500)) == images.Decoding(12, 500)


def test_the_bit_depth_is_part_of_what_pixels_are_known_by():
    contracts = [images.Decoding(bit_depth).contract for bit_depth in range(8, 17)]
    assert len(set(contracts)) == 9
    assert contracts[-1] == images.CONTRACT == images.Decoding(max_megapixels=500).contract


def test_decode_reads_a_jpeg_of_several_images():
    image = Image.fromarray(PIXELS)
    data = encode(image, "MPO", save_all=True, append_images=[image.rotate(90)])
    np.testing.assert_array_equal(images.decode(data, "a"), images.decode(encode(image, "JPEG"), "a"))


@pytest.mark.skipif(not features.check("avif"), reason="a Pillow without AVIF")
@pytest.mark.parametrize("orientation", [1, 6])
def test_decode_reads_avif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(PIXELS), "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    np.testing.assert_allclose(images.decode(data, "a.jpg"), images._upright(PIXELS, orientation), atol=4)


def test_decode_reads_heic():
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, the extra 'heic', is not installed")
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(PIXELS)).save(file, quality=100, chroma=444)
    np.testing.assert_allclose(images.decode(file.getvalue(), "a.jpg"), PIXELS, atol=6)


def test_decode_says_how_to_read_heic(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadImageError, match=r"^a: is a HEIC image, which pillow-heif reads\. Install it: pip install pillow-heif$"):
        images.decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a")


def test_decode_reads_heic_by_the_plugin(monkeypatch):
    def plugin(file):
        assert file.read(12)[4:] == b"ftypheic"
        image = Image.fromarray(PIXELS)
        image.info["exif"] = None
        return image

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(HeifImageFile=plugin))
    np.testing.assert_array_equal(images.decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a"), PIXELS)


def test_an_error_is_the_same_at_every_run(monkeypatch):
    def fail(file):
        raise ValueError(f"cannot read {file!r}")

    monkeypatch.setitem(images._PLUGINS, "jpeg", fail)
    with pytest.raises(BadImageError, match=r"damaged JPEG \(cannot read the file\)$"):
        images.decode(b"\xff\xd8\xff", "a")


def test_decode_reads_a_png_whose_text_is_damaged_and_leaves_pillow_as_it_is():
    data = encode(Image.fromarray(PIXELS), "PNG")
    text = b"tEXtComment\0hello"
    wrong = data[:33] + struct.pack(">I", len(text) - 4) + text + b"\0\0\0\0" + data[33:]
    np.testing.assert_array_equal(images.decode(wrong, "a"), PIXELS)
    with pytest.raises(SyntaxError, match="checksum"):
        PngImagePlugin.PngImageFile(io.BytesIO(wrong)).load()
    limits = (ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK, Image.MAX_IMAGE_PIXELS)
    assert limits == (False, ImageFile.SAFEBLOCK, 2**30 // 4 // 3)


def test_decode_still_refuses_a_png_with_a_wrong_checksum_of_its_header():
    data = bytearray(encode(Image.fromarray(PIXELS), "PNG"))
    data[29] ^= 1
    with pytest.raises(BadImageError, match=r"is a truncated or damaged PNG .*checksum"):
        images.decode(bytes(data), "a")


@pytest.mark.parametrize("colour", [(255, 0, 0), (10, 200, 90), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_decode_brings_cmyk_to_rgb(kind, colour):
    data = encode(Image.new("RGB", (16, 16), colour).convert("CMYK"), kind)
    np.testing.assert_allclose(images.decode(data, "a")[8, 8], colour, atol=2)


def test_decode_takes_the_first_frame():
    frames = [Image.fromarray(PIXELS).quantize(8), Image.new("P", (9, 6))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(images.decode(data, "a"), np.asarray(frames[0].convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_decode_turns_an_image_upright(kind, orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8], upright[:8, 16:], upright[8:, :8] = (
        (250, 0, 0),
        (0, 250, 0),
        (0, 0, 250),
    )  # three different corners
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    stored = images._upright(upright, undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = images.decode(encode(Image.fromarray(stored), kind, exif=exif), "a")
    assert decoded.shape == upright.shape
    np.testing.assert_allclose(decoded[4::8, 4::8], upright[4::8, 4::8], atol=60)


@pytest.mark.parametrize("tag", [{274: 6}, {700: b'<x tiff:Orientation="6"/>'}])
def test_decode_turns_a_tiff_by_its_tag_or_its_xmp(tag):
    data = encode(Image.fromarray(PIXELS), "TIFF", tiffinfo=tag)
    np.testing.assert_array_equal(images.decode(data, "a"), images._upright(PIXELS, 6))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_agrees_with_pillow(orientation):
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(images._upright(PIXELS, orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello", r"is not an image \(first bytes b'hello'\)"),
        (b"<html><body>Not found", r"is not an image \(first bytes b'<html><body>'\)"),
        (b"BM is how this text begins", "is not an image"),
        (b"BM" + b"\0" * 12 + b"\x28\0\0\0", "is a truncated or damaged BMP"),
        (b"\xff\xd8\xff", "is a truncated or damaged JPEG"),
    ],
)
def test_decode_names_what_is_no_image(data, reason):
    with pytest.raises(BadImageError, match=rf"^roses/1\.jpg: {reason}") as caught:
        images.decode(data, "roses/1.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_decode_refuses_a_truncated_file(kind):
    data = encode(Image.fromarray(np.repeat(np.repeat(PIXELS, 8, 0), 8, 1)), kind)
    with pytest.raises(BadImageError, match=f"^a: is a truncated or damaged {kind} "):
        images.decode(data[: len(data) * 3 // 4], "a")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decode_refuses_what_is_larger_than_allowed(kind, monkeypatch):
    monkeypatch.setattr(images, "WHOLE_JPEG", 20_000)
    data = encode(Image.new("1", (200, 100)), kind)
    assert images.decode(data, "a", images.Decoding(max_megapixels=0.02)).shape == (100, 200, 3)
    monkeypatch.setattr(images, "WHOLE_JPEG", 100)  # what the file has is counted, not what would be decoded of it
    with pytest.raises(BadImageError, match=r"^a: has 0.02 megapixels \(200 x 100\), more than data\.max_megapixels=0\.01\. Raise it"):
        images.decode(data, "a", images.Decoding(max_megapixels=0.01))


@pytest.mark.parametrize("side", [9_500, 60_000])  # over Pillow's warning, over its error
def test_decode_refuses_a_decompression_bomb(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    reason = "is a truncated or damaged PNG" if side == 9_500 else "has 3,600 megapixels"
    with pytest.raises(BadImageError, match=f"^a: {reason} "):
        images.decode(data, "a")


@pytest.mark.parametrize("rows", [1, 4, 5])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "P", "PA", "CMYK", "I;16", "GIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pixels_do_not_depend_on_the_strips_that_they_are_converted_in(mode, rows, orientation, monkeypatch):
    rng, exif, options = np.random.default_rng(5), Image.Exif(), {}
    photo = Image.fromarray(rng.integers(0, 256, (13, 9, 4), np.uint8))
    kind = {"CMYK": "TIFF", "GIF": "GIF"}.get(mode, "PNG")
    image = Image.fromarray(rng.integers(0, 65536, (13, 9), np.uint16)) if mode == "I;16" else photo
    if mode in ("P", "PA", "GIF"):
        image, options = photo.convert("RGB").quantize(7), {"transparency": bytes(range(0, 210, 30)) if mode == "PA" else 3}
    elif mode != "I;16":
        image = photo.convert(mode)
    exif[0x0112] = orientation
    data = encode(image, kind, **options, **({} if kind == "GIF" else {"exif": exif}))
    if kind == "GIF":  # a first frame that is smaller than the canvas
        data = data[:6] + struct.pack("<HH", 12, 15) + data[10:]
    whole = images.decode(data, "a")
    monkeypatch.setattr(images, "_STRIP_PIXELS", 9 * rows)
    np.testing.assert_array_equal(images.decode(data, "a"), whole)
    assert whole.flags.c_contiguous


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_large_webp_has_the_same_pixels(mode, lossless, orientation, frames, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Image.fromarray(np.random.default_rng(6).integers(0, 256, (23, 17, 4), np.uint8)).convert(mode)
    more = {"save_all": True, "append_images": [Image.new(mode, photo.size)] * (frames - 1)} if frames > 1 else {}
    data = encode(photo, "WEBP", lossless=lossless, exif=exif, **more)
    expected = images.decode(data, "a")
    monkeypatch.setattr(images, "LARGE_WEBP", 1)
    monkeypatch.setattr(images, "_STRIP_PIXELS", 17 * 5)
    monkeypatch.setattr(images, "_pixels", None)
    np.testing.assert_array_equal(images.decode(data, "a"), expected)
    with pytest.raises(BadImageError, match=r"^a: is a truncated or damaged WEBP "):
        images.decode(data[: len(data) * 3 // 4], "a")


def test_too_little_memory_is_not_a_damaged_file(monkeypatch):
    monkeypatch.setattr(images, "_pixels", lambda *_: bytearray(2**60))
    with pytest.raises(DataError, match=r"^a: there is too little memory to decode it\. Free some, or lower data\.max_meg") as caught:
        images.decode(encode(Image.fromarray(PIXELS), "PNG"), "a")
    assert not isinstance(caught.value, BadImageError)


def test_decode_does_not_warn_of_damaged_metadata():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\0\0"  # a resolution that lies beyond the end
    data = encode(Image.fromarray(PIXELS), "JPEG", exif=exif)
    data = data.replace(b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00", b"\xff\xe0\x00\x10XXXX\x00\x01\x01\x00")  # so that Pillow looks for it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="Truncated File Read"):
            Image.open(io.BytesIO(data)).load()
        assert images.decode(data, "a").shape == (6, 9, 3)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (300, 7), (37, 53), (8, 16), (2, 1000)])
def test_fit_keeps_a_constant_image_constant(resize, shape):
    fitted = images.resize(np.full((*shape, 3), (17, 128, 255), np.uint8), (8, 16), resize).numpy()
    assert fitted.shape == (8, 16, 3)
    assert fitted.dtype == np.uint8
    content = fitted if resize != "letterbox" else fitted[(fitted != images.LETTERBOX_COLOUR).any(-1)]
    assert content.size > 0
    np.testing.assert_array_equal(content, np.broadcast_to([17, 128, 255], content.shape))


@pytest.mark.parametrize("resize", RESIZES)
def test_fit_leaves_an_image_of_that_size_alone(resize):
    np.testing.assert_array_equal(images.resize(PIXELS, (6, 9), resize), PIXELS)


@pytest.mark.parametrize(("shape", "size"), [((50, 90), (16, 16)), ((90, 50), (20, 12)), ((9, 14), (32, 32)), ((61, 61), (7, 30))])
@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_fit_agrees_with_pillow(resize, shape, size):
    pixels = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    height, width = shape
    box = (0.0, 0.0, width, height)
    if resize == "crop":
        scale = max(size[0] / height, size[1] / width)
        left, top = (width - size[1] / scale) / 2, (height - size[0] / scale) / 2
        box = (left, top, left + size[1] / scale, top + size[0] / scale)
    expected = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    np.testing.assert_allclose(images.resize(pixels, size, resize), np.asarray(expected, np.int32), atol=1)


def test_fit_shrinks_by_a_triangle_filter():
    row = np.array([0, 0, 0, 0, 240, 0, 0, 0, 0, 0, 0, 0], np.uint8)
    fitted = images.resize(np.repeat(row[np.newaxis, :, np.newaxis], 3, -1), (1, 3), "stretch").numpy()[0, :, 0]
    weights = np.array([[max(0.0, 1 - abs((x + 0.5) / 4 - (out + 0.5))) for x in range(12)] for out in range(3)])
    np.testing.assert_array_equal(fitted, np.rint(weights / weights.sum(1, keepdims=True) @ row))


def test_fit_keeps_a_ramp_linear():
    ramp = np.repeat(np.repeat(np.arange(0, 256, dtype=np.uint8)[np.newaxis, :, np.newaxis], 64, 0), 3, -1)
    fitted = images.resize(ramp, (16, 64), "stretch").numpy()[8, 1:-1, 0]
    np.testing.assert_allclose(fitted, np.arange(64)[1:-1] * 4 + 1.5, atol=0.5)


@pytest.mark.parametrize("shape", [(20, 60), (60, 20)])
def test_crop_keeps_the_centre(shape):
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[shape[0] // 2 - 10 : shape[0] // 2 + 10, shape[1] // 2 - 10 : shape[1] // 2 + 10] = 200
    np.testing.assert_array_equal(images.resize(pixels, (20, 20), "crop"), np.full((20, 20, 3), 200))


@pytest.mark.parametrize(("shape", "size"), [((30, 90), (32, 32)), ((90, 31), (32, 48)), ((1, 1000), (32, 32)), ((1000, 1), (15, 15))])
def test_letterbox_keeps_all_of_the_image_in_the_middle(shape, size):
    fitted = images.resize(np.zeros((*shape, 3), np.uint8), size, "letterbox").numpy()
    margin = (fitted == images.LETTERBOX_COLOUR).all(-1)
    assert ((fitted == 0).all(-1) | margin).all()
    for axis in (0, 1):
        inside = np.flatnonzero(~margin.all(1 - axis))
        scale = min(size[0] / shape[0], size[1] / shape[1])
        assert len(inside) == inside[-1] - inside[0] + 1 >= 1
        assert abs(len(inside) - shape[axis] * scale) < 1
        assert 0 <= (size[axis] - 1 - inside[-1]) - inside[0] <= 1


@pytest.mark.parametrize("resize", RESIZES)
def test_fit_does_not_distort_a_disc(resize):
    row, column = np.mgrid[:120, :200]
    disc = np.where((row - 59.5) ** 2 + (column - 99.5) ** 2 < 40**2, 255, 0).astype(np.uint8)
    light = images.resize(np.repeat(disc[..., np.newaxis], 3, -1), (48, 48), resize).numpy()[..., 0] > 191
    height, width = light.any(1).sum(), light.any(0).sum()
    assert (abs(int(height) - int(width)) <= 1) == (resize != "stretch")


@pytest.mark.parametrize("resize", RESIZES)
def test_fit_in_a_graph_equals_fit_eager_and_a_batch_its_images(resize):
    pixels = np.random.default_rng(4).integers(0, 256, (3, 33, 47, 3), np.uint8)
    single = np.stack([images.resize(one, (16, 12), resize) for one in pixels])
    in_graph = tf.function(lambda x: images.resize(x, (16, 12), resize), input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    assert in_graph.get_concrete_function().output_shapes.as_list() == [None, 16, 12, 3]
    np.testing.assert_array_equal(images.resize(pixels, (16, 12), resize), single)
    np.testing.assert_array_equal(in_graph(pixels), single)


def test_resize_refuses_an_unknown_policy():
    with pytest.raises(ValueError, match=r"mode='squash' is unknown; expected one of 'crop', 'letterbox', 'stretch'"):
        images.resize(PIXELS, (4, 4), "squash")


@pytest.mark.parametrize("resize", RESIZES)
def test_load_is_fit_of_decode(tmp_path, resize):
    (tmp_path / "a.jpg").write_bytes(encode(Image.fromarray(PIXELS), "JPEG"))
    loaded = images.load(tmp_path / "a.jpg", (5, 5), resize)
    assert isinstance(loaded, np.ndarray)
    np.testing.assert_array_equal(loaded, images.resize(images.decode((tmp_path / "a.jpg").read_bytes(), "a"), (5, 5), resize))


def test_load_names_the_file(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(BadImageError, match=r"a\.jpg: is empty"):
        images.load(tmp_path / "a.jpg", (5, 5), "crop")
    with pytest.raises(BadImageError, match=r"b\.jpg: cannot be read \(No such file"):
        images.load(tmp_path / "b.jpg", (5, 5), "crop")


def test_load_reads_regular_files_alone_and_of_what_is_no_image_the_first_bytes(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(BadImageError, match=r"a\.jpg: cannot be read \(a FIFO, not a regular file\)$"):
        images.load(tmp_path / "a.jpg", (5, 5), "crop")
    with pytest.raises(BadImageError, match=r"^/dev/zero: cannot be read \(a device, not a regular file\)$"):
        images.load(Path("/dev/zero"), (5, 5), "crop")
    for name, head, reason in (
        ("b.jpg", b"", "is not an image"),
        ("c.jpg", b"\xff\xd8\xff", r"is a file of 2,199,023 MB, more than 3 bytes"),
    ):
        with (tmp_path / name).open("wb") as file:
            file.write(head)
            file.truncate(2**41)
        with pytest.raises(BadImageError, match=rf"{name}: {reason}"):
            images.load(tmp_path / name, (5, 5), "crop")
        assert images.deep_grey_peak(tmp_path / name) is None


def test_load_in_threads_traces_once_and_mixes_nothing_up(tmp_path):
    paths = [tmp_path / f"{value}.png" for value in range(40)]
    for value, path in enumerate(paths):
        path.write_bytes(encode(Image.new("RGB", (10 + value, 60 - value), (value,) * 3), "PNG"))
    together = threading.Barrier(4, timeout=20)

    def load(path):
        if int(path.stem) < 4:
            together.wait()
        return images.load(path, (11, 13), "crop")

    with ThreadPoolExecutor(4) as pool:
        for value, loaded in enumerate(pool.map(load, paths)):
            np.testing.assert_array_equal(loaded, np.full((11, 13, 3), value))
    assert images._compiled_resize((11, 13), "crop") is images._compiled_resize((11, 13), "crop")


@pytest.mark.shared
def test_photos_decode_and_fit_as_pillow_has_them():
    for path in sorted(FLOWERS.rglob("*.jpg"))[::100]:
        photo = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(images.decode(path.read_bytes(), "a"), photo)
        np.testing.assert_array_equal(images.decode_graph(path.read_bytes()), photo)
        expected = np.asarray(Image.fromarray(photo).resize((96, 96), Image.Resampling.BILINEAR), np.int32)
        np.testing.assert_allclose(images.load(path, (96, 96), "stretch"), expected, atol=1)


def test_the_memory_of_large_images_goes_back_to_the_system():
    assert Image.core.get_block_size() > 2**25  # glibc's largest threshold; smaller blocks stay in the arena of their thread
