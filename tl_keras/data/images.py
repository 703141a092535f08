"""Decode, orientation, colour, resize: the one definition of evaluation pixels.

Training's evaluation, prediction and export all see an image as `resize(decode(...))`. This module knows nothing of
labels, splits, batches or preprocessing. Pixels go to `pipeline`; the exported model calls `decode_graph` and `resize`.
"""

import logging
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
import tensorflow as tf
from numpy.typing import NDArray
from PIL import AvifImagePlugin, BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from tl_keras.config import DataConfig
from tl_keras.data.decode_graph import REDUCTIONS, WHOLE_JPEG, refused_kind
from tl_keras.data.decode_graph import decode_graph as decode_graph
from tl_keras.data.formats import HEAD_BYTES, image_format
from tl_keras.data.orientation import of_exif, orientation, png_chunks
from tl_keras.data.regular import open_regular, size_of
from tl_keras.data.room import Room
from tl_keras.errors import BadImageError, DataError

LETTERBOX_COLOUR = 128  # mid-grey: near zero after every preprocessing, and no edge against dark or bright photos

CONTRACT = f"2 {PIL.__version__}"  # which pixels these are; the number goes up with any change here that moves one

Pixels = NDArray[np.uint8]
Seen = TypeVar("Seen")

_PLUGINS: dict[str, type[Image.Image]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}
_TIFF_CHANNELS = ("unknown pixel mode", "unknown data organization", "Invalid value for samples per pixel")  # as Pillow says it
_SHOWN_BYTES = 12  # of a file that is not an image, in the error
_PILLOW_NOISE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it would print between progress bars is in the error too
LARGE_WEBP = 30_000_000  # pixels: Pillow holds a WebP four times at once, `_large_webp` at most three times
_STRIP_PIXELS = 2**20  # that are converted at a time
_BYTES_OF_A_PIXEL = 4  # in a file, at most; 8-bit RGBA without compression has as many
_BYTES_OF_A_JPEG_PIXEL = 3  # a progressive CMYK one takes 12 bytes a pixel beside its file while it is decoded; none but noise has as many

# What all threads hold at once. A pixel takes about 12 bytes while it is decoded, so that any one file stays below 1.5 GB.
# The worst together reach 2.1 GB: a large file that waits, and 0.3 GB that TensorFlow keeps of the first large image that it resizes.
_PIXELS = Room(100_000_000)
_FILES = Room(2**28)  # bytes; whoever waits for pixels has taken these before, never the other way round

# glibc gives memory back to the system at once above 32 MB at most; below, each thread's arena keeps it. Pillow's default of 16 MB
# made twelve large images in eight threads hold 2.8 GB, of which 1.6 GB were free and nobody's.
Image.core.set_block_size(64 * 2**20)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Decoding:
    """What the settings of a run say of decoding.

    Attributes:
        bit_depth: of greys in 16-bit files: white is 2**bit_depth - 1, and what is brighter is white. Other files do not
            depend on it.
        max_megapixels: more are refused, and so are files of more than 4 bytes for each of these pixels, or JPEGs of more than 3.
    """

    bit_depth: int = 16
    max_megapixels: float = 100

    @classmethod
    def of(cls, config: DataConfig) -> "Decoding":
        """What a run's settings say."""
        return cls(config.bit_depth, config.max_megapixels)

    @property
    def contract(self) -> str:
        """Which pixels these are, for keys of what is computed from them."""
        return CONTRACT if self.bit_depth == 16 else f"{CONTRACT}, {self.bit_depth}-bit greys"


DEFAULT = Decoding()


class _NotReadError(Exception):
    """A file that may be whole, and whose kind is not read; the text says so behind the file's name, without a full stop."""


def decode(data: bytes, name: str, decoding: Decoding = DEFAULT) -> Pixels:
    """Decode an image file to upright RGB on white, the same on every machine.

    The first frame of an animation; orientation applied (see `orientation`); grey repeated; alpha composited on white; of 16
    bits the upper 8, or the upper 8 of `bit_depth` where greys are concerned; CMYK as (255 - c) * (255 - k) // 255. An embedded
    colour profile is ignored. A JPEG of more than `WHOLE_JPEG` pixels (179 million) is decoded at a half, a quarter or an eighth
    of its size, the largest that is not larger: JPEG's own reduction, which needs little memory and which TensorFlow has, too.

    Args:
        data: the whole file. Its first bytes say what it is; a misleading ending does no harm.
        name: what an error calls it.

    Returns:
        uint8 (height, width, 3).

    Raises:
        BadImageError: empty, not of a known format, truncated or damaged, of more than `max_megapixels`, or of pixels without
            a known range.
        DataError: there is too little memory.
    """
    with ExitStack() as held:
        return _decode(data, name, decoding, held)


def _decode(data: bytes, name: str, decoding: Decoding, held: ExitStack) -> Pixels:
    """The same; the room that the pixels take is given back when `held` ends."""
    kind = _kind_of(data, name)
    _silence_pillow()
    try:
        with _open(kind, data) as image:
            _check_size(image, decoding)
            if kind == "jpeg":
                _reduce(image)
            num_pixels = image.width * image.height
            held.enter_context(_PIXELS.taking(num_pixels + num_pixels // 2 * (kind == "webp")))
            if kind == "webp" and num_pixels > LARGE_WEBP:
                return _large_webp(image, data)
            return _pixels(image, kind, data, decoding.bit_depth)
    except _NotReadError as error:
        raise BadImageError(f"{name}: {error}") from error
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise _no_memory(name) from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"{name}: is a larger {kind.upper()} than Pillow reads ({_one_line(error)})") from error
    except Exception as error:  # Pillow's readers raise a dozen types on damaged files, SyntaxError and KeyError among them
        raise BadImageError(f"{name}: is a truncated or damaged {kind.upper()} ({_one_line(error)})") from error


def _kind_of(head: bytes, name: str) -> str:
    if not head:
        raise BadImageError(f"{name}: is empty (0 bytes)")
    kind = image_format(head)
    if kind is None:
        raise BadImageError(f"{name}: is not an image (first bytes {head[:_SHOWN_BYTES]!r})")
    return kind


def _no_memory(name: str) -> DataError:
    """Not a `BadImageError`: the file may be whole, and the next one would not fare better."""
    return DataError(f"{name}: there is too little memory to decode it. Free some, or lower data.max_megapixels.")


def resize(pixels: tf.Tensor, image_size: tuple[int, int], mode: str) -> tf.Tensor:
    """Bring pixels to a fixed size, antialiased (a triangle filter as wide as the shrinkage), rounded.

    Args:
        pixels: uint8 (h, w, 3) or (b, h, w, 3), at least 1 x 1; sizes may be unknown until the graph runs.
        image_size: (height, width) in pixels, H and W below.
        mode: 'crop' scales until the image covers (H, W) and keeps the centre; 'letterbox' scales until it lies
            within, at least one pixel thick, centred on `LETTERBOX_COLOUR`; 'stretch' scales each side by itself.
            The first two keep the aspect.

    Returns:
        uint8 (H, W, 3) or (b, H, W, 3).

    Raises:
        ValueError: another `mode`.
    """
    if mode not in _RESIZERS:
        raise ValueError(f"mode={mode!r} is unknown; expected one of {', '.join(map(repr, _RESIZERS))}.")
    pixels = tf.convert_to_tensor(pixels)
    if pixels.shape.rank == 3:
        return resize(pixels[tf.newaxis], image_size, mode)[0]
    fitted = _RESIZERS[mode](pixels, tf.constant(image_size, tf.int32))
    return tf.ensure_shape(fitted, (pixels.shape[0], *image_size, 3))


def load(path: Path, image_size: tuple[int, int], resize: str, decoding: Decoding = DEFAULT) -> Pixels:
    """Read, decode and resize one file; safe to call from many threads, which then run in parallel.

    Returns:
        uint8 (H, W, 3); see `resize`.

    Raises:
        BadImageError: see `decode`; also a file that cannot be read, or is not a regular one.
        DataError: there is too little memory.
    """
    with ExitStack() as held:
        return _fitted(_decode(_read(path, decoding, held), str(path), decoding, held), str(path), image_size, resize)


def look(path: Path, at: Callable[[str, Pixels], Seen], decoding: Decoding = DEFAULT) -> Seen:
    """Read and decode one file, and hand its format and its pixels, uint8 (h, w, 3), to `at` while the memory for them is held.

    Raises:
        BadImageError: see `load`.
        DataError: there is too little memory.
    """
    with ExitStack() as held:
        data = _read(path, decoding, held)
        return at(_kind_of(data[:HEAD_BYTES], str(path)), _decode(data, str(path), decoding, held))


def load_bytes(data: bytes, name: str, image_size: tuple[int, int], resize: str, decoding: Decoding = DEFAULT) -> Pixels:
    """The same for a file that is in memory; `name` is what an error calls it."""
    with ExitStack() as held:
        return _fitted(_decode(data, name, decoding, held), name, image_size, resize)


def load_array(pixels: Pixels, name: str, image_size: tuple[int, int], resize: str) -> Pixels:
    """The same for an image that is decoded and upright: uint8 (h, w, 3), red first.

    Raises:
        BadImageError: it has another shape or type, or no pixels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise BadImageError(f"{name}: is an array of {pixels.dtype} {pixels.shape}, expected uint8 (height, width, 3) in RGB")
    return _fitted(pixels, name, image_size, resize)


def _fitted(pixels: Pixels, name: str, image_size: tuple[int, int], resize: str) -> Pixels:
    if pixels.shape[:2] == image_size:  # what every mode of resizing gives, for half of the time that a small image takes
        return pixels
    try:
        fitted: Pixels = _compiled_resize(image_size, resize)(pixels).numpy()
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise _no_memory(name) from error
    return fitted


def _read(path: Path, decoding: Decoding, held: ExitStack) -> bytes:
    """All of an image file; of another no more than its first bytes."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
            most = _BYTES_OF_A_JPEG_PIXEL if _kind_of(head, str(path)) == "jpeg" else _BYTES_OF_A_PIXEL
            size = size_of(file)
            if size > most * 1e6 * max(1, decoding.max_megapixels):
                raise BadImageError(
                    f"{path}: is a file of {size / 1e6:,.0f} MB, more than {most} bytes for each of "
                    f"data.max_megapixels={decoding.max_megapixels:g}. Raise it if you trust the file."
                )
            held.enter_context(_FILES.taking(size))
            return file.read()  # `head + file.read()` would hold a large file twice
    except OSError as error:
        raise BadImageError(f"{path}: cannot be read ({error.strerror})") from error
    except MemoryError as error:
        raise _no_memory(str(path)) from error


def _open(kind: str, data: bytes) -> Any:
    """Pillow's reader of a kind of file, by itself: `Image.open` would choose one anew, and refuse large images for all alike."""
    if kind == "png":
        data = _without_annexes(data)
    plugin = _heif_plugin() if kind == "heic" else _PLUGINS[kind]
    if kind == "avif" and not AvifImagePlugin.SUPPORTED:
        raise _NotReadError("is an AVIF image, which this build of Pillow does not read. Install another: pip install 'pillow>=11.3'")
    try:
        image: Any = plugin(BytesIO(data))  # type: ignore[call-arg]
    except SyntaxError as error:
        if kind == "tiff" and str(error) in _TIFF_CHANNELS:
            raise _NotReadError(
                f"is a TIFF whose number or type of channels is not read ({_one_line(error)}). Save it as 8-bit grey or RGB"
            ) from error
        raise
    return image


def _heif_plugin() -> Any:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise _NotReadError("is a HEIC image, which pillow-heif reads. Install it: pip install pillow-heif") from error
    return HeifImageFile


def _without_annexes(png: bytes) -> bytes:
    """A PNG with nothing but what its pixels need: Pillow gives up on a long text or a wrong checksum where it does not matter."""
    whole = memoryview(png)  # a slice of it is no copy
    kept, at, size = [whole[:8]], 8, 8
    for name, begin, end in png_chunks(png):
        if not name.isalpha() or end + 4 > len(png):
            break  # damaged: Pillow says how
        is_needed = name[0] & 0x20 == 0  # a capital letter
        if is_needed or (name == b"tRNS" and zlib.crc32(png[begin - 4 : end]) == int.from_bytes(png[end : end + 4], "big")):
            kept.append(whole[begin - 8 : end + 4])
            size += end + 12 - begin
        at = end + 4
    return png if size == at else b"".join([*kept, whole[at:]])


def _reduce(jpeg: JpegImagePlugin.JpegImageFile) -> None:
    width, height = jpeg.size
    for ratio in REDUCTIONS:
        if -(-width // ratio) * -(-height // ratio) <= WHOLE_JPEG:
            break
    if ratio > 1:
        jpeg.draft(None, (width // ratio, height // ratio))


def _check_size(image: Image.Image, decoding: Decoding) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > decoding.max_megapixels:
        shown = f"{megapixels:,.0f}" if megapixels >= 1 else f"{megapixels:g}"
        raise _NotReadError(
            f"has {shown} megapixels ({image.width} x {image.height}), more than data.max_megapixels={decoding.max_megapixels:g}. "
            "Raise it if you trust the file"
        )


def _pixels(image: Any, kind: str, data: bytes, bit_depth: int) -> Pixels:
    """uint8 (h, w, 3), upright, filled strip by strip: a conversion of the whole would take several times as much."""
    left, top, right, bottom = image.tile[0].extents if kind == "gif" else (0, 0, None, None)
    image.load()
    _mend_info(image, data)
    turn = _orientation(image, kind, data)
    shape = (image.width, image.height) if turn >= 5 else (image.height, image.width)
    pixels = np.empty((*shape, 3), np.uint8)
    as_stored = _unturned(pixels, turn)
    if kind == "gif":
        pixels.fill(255)  # around a first frame that is smaller than the canvas
    to_rgb = _converter(image, bit_depth)
    for begin, strip in _strips(image):
        rows = slice(max(begin, top), min(begin + strip.height, image.height if bottom is None else bottom))
        if rows.start < rows.stop:
            as_stored[rows, left:right] = to_rgb(strip)[rows.start - begin : rows.stop - begin, left:right]
    return pixels


def _large_webp(image: Any, data: bytes) -> Pixels:
    if refused_kind(data[:HEAD_BYTES]) is None:
        with tf.device("CPU:0"):
            decoded = tf.io.decode_webp(data).numpy()[0]
    else:
        decoded = _first_frame(image)
    turn = orientation("webp", data)
    pixels = np.empty((*_upright(decoded, turn).shape[:2], 3), np.uint8)
    as_stored, rows = _unturned(pixels, turn), max(1, _STRIP_PIXELS // decoded.shape[1])
    for begin in range(0, len(decoded), rows):
        strip = decoded[begin : begin + rows]
        as_stored[begin : begin + rows] = strip if strip.shape[-1] == 3 else _on_white(strip)
    return pixels


def _first_frame(animation: Any) -> Pixels:
    """uint8 (h, w, 3 or 4) of an animated WebP that is not loaded: what its decoder gives, without Pillow's copy of it."""
    frame = np.frombuffer(animation._get_next()[0], np.uint8).reshape(animation.height, animation.width, 4)
    del animation._decoder  # with its two canvases
    return frame if animation.mode == "RGBA" else frame[..., :3]


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """A loaded image cut into strips of rows, each with the row that it begins with."""
    rows = max(1, _STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for begin in range(0, image.height, rows):
        yield begin, image.crop((0, begin, image.width, min(begin + rows, image.height)))


def _orientation(image: Image.Image, kind: str, data: bytes) -> int:
    if kind in ("heic", "avif"):  # their own transformations count, which the plugins apply or say in EXIF's way
        return of_exif(image.info.get("exif") or b"") or 1
    return orientation(kind, data)  # of TIFF files 1: Pillow turns them


def deep_grey_peak(path: Path) -> int | None:
    """The largest value in a PNG or TIFF file of 16-bit greys; None for other files, and for those that do not decode."""
    _silence_pillow()
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
            kind = image_format(head)
            file.seek(0)
            if kind == "png" and head[24:26] == b"\x10\0":  # the depth, and grey without alpha
                with ExitStack() as held:
                    return _peak(_open(kind, _read(path, DEFAULT, held)))
            return _peak(TiffImagePlugin.TiffImageFile(file)) if kind == "tiff" else None
    except Exception:  # whoever decodes it says what is wrong with it
        return None


def shorter_side(path: Path) -> int | None:
    """Pixels on the shorter side of an image as its header says; None for a file that is not read."""
    _silence_pillow()
    try:
        with ExitStack() as held:
            data = _read(path, DEFAULT, held)
            return min(_open(_kind_of(data[:HEAD_BYTES], str(path)), data).size)
    except Exception:  # whoever decodes it says what is wrong with it
        return None


def _peak(image: Image.Image) -> int | None:
    num_pixels = image.width * image.height
    if not image.mode.startswith("I;16") or num_pixels > DEFAULT.max_megapixels * 1e6:
        return None
    with _PIXELS.taking(num_pixels):
        image.load()
        return max(int(np.asarray(strip).max()) for _, strip in _strips(image))


def _silence_pillow() -> None:
    """Ignore warnings that Pillow attributes to itself: damaged metadata, and sizes below the limit of an error.

    A filter for the process, set again where somebody has reset the filters, since `catch_warnings` is not safe in threads.
    """
    if _PILLOW_NOISE not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW_NOISE[3].pattern)


def _one_line(error: Exception) -> str:
    """What Pillow says, without the address of an object, which is another at each run."""
    return " ".join(re.sub(r"<[\w.]+ object at 0x\w+>", "the file", str(error)).split()) or type(error).__name__


def _mend_info(image: Image.Image, data: bytes) -> None:
    """The transparent grey of a 2- or 4-bit PNG, which Pillow leaves on the file's scale, on the scale of the pixels."""
    if image.format == "PNG" and image.mode == "L" and "transparency" in image.info:
        depth = data[24]  # 8-byte signature, the length and name of IHDR, width, height
        image.info["transparency"] *= 255 // (2 ** min(depth, 8) - 1)


def _converter(image: Image.Image, bit_depth: int) -> Callable[[Image.Image], Pixels]:
    """What makes uint8 (h, w, 3) of the strips of a loaded image of any mode."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray
    if image.mode in ("I", "F"):
        raise _NotReadError(_no_range(image))
    if image.mode.startswith("I;16"):
        transparent = image.info.get("transparency")
        return lambda strip: _rgb_from_16_bit(np.asarray(strip), transparent, bit_depth)
    if image.mode == "CMYK":
        inverted = image.format == "JPEG" and "adobe" not in image.info  # Pillow takes every CMYK JPEG for Adobe's
        return lambda strip: _rgb_from_cmyk(255 - np.asarray(strip) if inverted else np.asarray(strip))
    if image.has_transparency_data:
        return lambda strip: _on_white(np.asarray(strip.convert("RGBA")))
    return lambda strip: np.asarray(strip.convert("RGB"))


def _no_range(image: Image.Image) -> str:
    lowest, highest = [], []
    for _, strip in _strips(image):
        values = np.asarray(strip)
        values = values[np.isfinite(values)]
        if values.size:
            lowest.append(values.min())
            highest.append(values.max())
    held = f" ({min(lowest):.4g} to {max(highest):.4g} here)" if lowest else ""
    number = "floating-point numbers" if image.mode == "F" else "32-bit or signed integers"
    return f"its pixels are {number}{held}, whose white level is not known. Scale all such images in the same way and save them with 8 bits"


def _rgb_from_16_bit(grey: NDArray[np.uint16], transparent: int | None, bit_depth: int) -> Pixels:
    upper = np.minimum(grey >> (bit_depth - 8), 255).astype(np.uint8)
    if transparent is not None:
        upper[grey == transparent] = 255
    return np.repeat(upper[..., np.newaxis], 3, axis=-1)


def _rgb_from_cmyk(cmyk: Pixels) -> Pixels:
    light = 255 - cmyk.astype(np.uint16)
    return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)


def _on_white(rgba: Pixels) -> Pixels:
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)  # 255 * 255 + 127 is less than 2**16
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation: transpose, then mirror left-right, then upside down, as the tag asks. A view."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _unturned(upright: Pixels, orientation: int) -> Pixels:
    """An upright image as it lies in the file, a view: what is written there appears upright."""
    return _upright(upright, {6: 8, 8: 6}.get(orientation, orientation))


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


_RESIZERS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "crop": _crop,
    "letterbox": _letterbox,
    "stretch": _stretch,
}


@cache
def _compiled_resize(image_size: tuple[int, int], mode: str) -> Callable[[Pixels], tf.Tensor]:
    """`resize` as one graph for images of every size, traced once."""

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)], autograph=False)
    def resize_one(pixels: tf.Tensor) -> tf.Tensor:
        return resize(pixels, image_size, mode)

    def on_cpu(pixels: Pixels) -> tf.Tensor:
        with tf.device("CPU:0"):
            return resize_one(pixels)

    return on_cpu
