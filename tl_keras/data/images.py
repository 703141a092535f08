"""Decode, orientation, colour, resize: the one definition of evaluation pixels.

Training's evaluation, prediction and export all see an image as `fit(decode(...))`. This module knows nothing of
labels, splits, batches or preprocessing. Pixels go to `pipeline`; the exported model calls `decode_graph` and `fit`.
"""

import re
import struct
import warnings
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from tl_keras.data.decode_graph import decode_graph as decode_graph
from tl_keras.errors import BadImageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
LETTERBOX_COLOUR = 128  # mid-grey: near zero after every preprocessing, and no edge against dark or bright photos

CONTRACT = f"1 {PIL.__version__}"  # which pixels these are; the number goes up with any change here that moves one

Pixels = NDArray[np.uint8]

_MAGIC = {  # Pillow's name of each format that is read -> how its files begin
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",
}
_SHOWN_BYTES = 12  # of a file that is no image, in the error
_PILLOW_NOISE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def decode(data: bytes, name: str) -> Pixels:
    """Decode an image file to upright RGB on white, the same on every machine.

    The first frame of an animation; EXIF orientation applied; grey repeated; alpha composited on white; of 16 bits the
    upper 8; CMYK as (255 - c) * (255 - k) // 255. An embedded colour profile is ignored.

    Args:
        data: the whole file. Its first bytes say what it is; a misleading ending does no harm.
        name: what an error calls it.

    Returns:
        uint8 (height, width, 3).

    Raises:
        BadImageError: empty, not of a known format, truncated or damaged, 32-bit, or over twice
            `PIL.Image.MAX_IMAGE_PIXELS` (179 million) pixels.
    """
    kind = _kind(data, name)
    _silence_pillow()
    try:
        with Image.open(BytesIO(data), formats=[kind]) as image:
            frame = image.tile[0].extents if kind == "GIF" else None
            image.load()
            _mend_info(image, data)
            pixels = _upright(_rgb(image), _orientation(image.info.get("exif", b"")))
            return pixels if frame is None else _on_canvas(pixels, frame)
    except Image.DecompressionBombError as error:
        raise BadImageError(f"{name}: is too large ({_one_line(error)})") from error
    except Exception as error:  # Pillow's readers raise a dozen types on damaged files, SyntaxError and KeyError among them
        raise BadImageError(f"{name}: is a truncated or damaged {kind} ({_one_line(error)})") from error


def fit(pixels: tf.Tensor, image_size: tuple[int, int], resize: str) -> tf.Tensor:
    """Bring pixels to a fixed size, antialiased (a triangle filter as wide as the shrinkage), rounded.

    Args:
        pixels: uint8 (h, w, 3) or (b, h, w, 3), at least 1 x 1; sizes may be unknown until the graph runs.
        image_size: (height, width) in pixels, H and W below.
        resize: 'crop' scales until the image covers (H, W) and keeps the centre; 'letterbox' scales until it lies
            within, at least one pixel thick, centred on `LETTERBOX_COLOUR`; 'stretch' scales each side by itself.
            The first two keep the aspect.

    Returns:
        uint8 (H, W, 3) or (b, H, W, 3).

    Raises:
        ValueError: another `resize`.
    """
    if resize not in _FITS:
        raise ValueError(f"resize={resize!r} is unknown; expected one of {', '.join(map(repr, _FITS))}.")
    pixels = tf.convert_to_tensor(pixels)
    if pixels.shape.rank == 3:
        return fit(pixels[tf.newaxis], image_size, resize)[0]
    fitted = _FITS[resize](pixels, tf.constant(image_size, tf.int32))
    return tf.ensure_shape(fitted, (pixels.shape[0], *image_size, 3))


def load(path: Path, image_size: tuple[int, int], resize: str) -> Pixels:
    """Read, decode and fit one file; safe to call from many threads, which then run in parallel.

    Returns:
        uint8 (H, W, 3); see `fit`.

    Raises:
        BadImageError: see `decode`; also a file that cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadImageError(f"{path}: cannot be read ({error.strerror})") from error
    fitted: Pixels = _compiled_fit(image_size, resize)(decode(data, str(path))).numpy()
    return fitted


def _kind(data: bytes, name: str) -> str:
    if not data:
        raise BadImageError(f"{name}: is empty (0 bytes)")
    for kind, magic in _MAGIC.items():
        if re.match(magic, data, re.DOTALL):
            return kind
    raise BadImageError(f"{name}: is not an image (first bytes {data[:_SHOWN_BYTES]!r})")


def _silence_pillow() -> None:
    """Ignore warnings that Pillow attributes to itself: damaged metadata, and sizes below the limit of an error.

    A filter for the process, set again where somebody has reset the filters, since `catch_warnings` is not safe in threads.
    """
    if _PILLOW_NOISE not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW_NOISE[3].pattern)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _mend_info(image: Image.Image, data: bytes) -> None:
    """The transparent grey of a 2- or 4-bit PNG, which Pillow leaves on the file's scale, on the scale of the pixels."""
    if image.format == "PNG" and image.mode == "L" and "transparency" in image.info:
        depth = data[24]  # 8-byte signature, the length and name of IHDR, width, height
        image.info["transparency"] *= 255 // (2 ** min(depth, 8) - 1)


def _on_canvas(pixels: Pixels, frame: tuple[int, int, int, int]) -> Pixels:
    """White around a GIF's first frame where that is smaller than the canvas; `frame` is left, top, right, bottom."""
    left, top, right, bottom = frame
    canvas = np.full_like(pixels, 255)
    canvas[top:bottom, left:right] = pixels[top:bottom, left:right]
    return canvas


def _rgb(image: Image.Image) -> Pixels:
    """uint8 (h, w, 3) of a loaded image of any mode."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels of mode {image.mode!r} have no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        return _rgb_from_16_bit(np.asarray(image), image.info.get("transparency"))
    if image.mode == "CMYK":
        cmyk = np.asarray(image)
        inverted = image.format == "JPEG" and "adobe" not in image.info  # Pillow takes every CMYK JPEG for Adobe's
        return _rgb_from_cmyk(255 - cmyk if inverted else cmyk)
    if image.has_transparency_data:
        return _on_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _rgb_from_16_bit(grey: NDArray[np.uint16], transparent: int | None) -> Pixels:
    upper = (grey >> 8).astype(np.uint8)
    if transparent is not None:
        upper[grey == transparent] = 255
    return np.repeat(upper[..., np.newaxis], 3, axis=-1)


def _rgb_from_cmyk(cmyk: Pixels) -> Pixels:
    light = 255 - cmyk.astype(np.uint16)
    return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)


def _on_white(rgba: Pixels) -> Pixels:
    colour, alpha = rgba[..., :3].astype(np.int32), rgba[..., 3:].astype(np.int32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory, 1 to 8; 1 where it is missing or makes no sense. (TIFF files: Pillow turns them.)"""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, min(directory + 2 + 12 * count, len(tiff) - 11), 12):
        tag, dtype, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == 0x0112 and dtype == 3:
            return value if 1 <= value <= 8 else 1
    return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation: transpose, then mirror left-right, then upside down, as the tag asks."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _crop(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    before = tf.cast(tf.shape(pixels)[1:3], tf.float32)
    after = tf.cast(size, tf.float32)
    scale = tf.reduce_max(after / before) * tf.ones((2,))
    return _resample(pixels, size, scale, (after - before * scale) / 2)


def _letterbox(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    before = tf.cast(tf.shape(pixels)[1:3], tf.float32)
    scale = tf.reduce_min(tf.cast(size, tf.float32) / before)
    inner = tf.maximum(tf.cast(tf.round(before * scale), tf.int32), 1)  # a 1 x 1000 image keeps one row of pixels
    first = (size - inner) // 2
    margins = tf.stack([first, size - inner - first], axis=1)
    return tf.pad(_stretch(pixels, inner), tf.pad(margins, [[1, 1], [0, 0]]), constant_values=LETTERBOX_COLOUR)


def _stretch(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    before = tf.cast(tf.shape(pixels)[1:3], tf.float32)
    return _resample(pixels, size, tf.cast(size, tf.float32) / before, tf.zeros((2,)))


def _resample(pixels: tf.Tensor, size: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """uint8 (b, h, w, 3) -> uint8 (b, *size, 3): output = scale * input + shift along each axis, what `tf.image.resize` runs."""
    resampled = tf.raw_ops.ScaleAndTranslate(
        images=pixels, size=size, scale=scale, translation=shift, kernel_type="triangle", antialias=True
    )
    return tf.saturate_cast(tf.round(resampled), tf.uint8)


_FITS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "crop": _crop,
    "letterbox": _letterbox,
    "stretch": _stretch,
}


@cache
def _compiled_fit(image_size: tuple[int, int], resize: str) -> Callable[[Pixels], tf.Tensor]:
    """`fit` as one graph for images of every size, traced once."""

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
    def fit_one(pixels: tf.Tensor) -> tf.Tensor:
        return fit(pixels, image_size, resize)

    def on_cpu(pixels: Pixels) -> tf.Tensor:
        with tf.device("CPU:0"):
            return fit_one(pixels)

    return on_cpu
