"""Image bytes to pixels with TensorFlow ops alone, for exported models: the twin of `images.decode`.

It owns the few facts of the file formats that TensorFlow's decoders leave out: EXIF orientation, transparency, BMP
palettes, a GIF's canvas. It must not know Pillow or Python state: everything here is traced into a SavedModel.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import tensorflow as tf


class Step(NamedTuple):
    """One look at a file's structure: whether this block is the one sought, where its content lies, where the next is."""

    found: tf.Tensor
    begin: tf.Tensor
    end: tf.Tensor
    next: tf.Tensor


def decode_graph(data: tf.Tensor) -> tf.Tensor:
    """Decode an image file inside a graph, to the pixels of `images.decode`, bit for bit.

    That holds for JPEG (grey, CMYK, progressive, any subsampling), PNG, GIF, still WebP (lossy too) and uncompressed BMP
    of 8, 24 and 32 bits. One thing differs: a 16-bit RGB PNG with one transparent colour (tRNS), which Pillow cannot match: it is white
    here and keeps its colour there.

    Args:
        data: string scalar, the whole file.

    Returns:
        uint8 (height, width, 3).

    Raises:
        tf.errors.InvalidArgumentError: when run, on TIFF, other BMPs, animated WebP, damaged files and what is no image.
    """
    raw = tf.io.decode_raw(data, tf.uint8)
    head = tf.strings.substr(data, 0, 12) + b"\0" * 12
    matches = [tf.strings.substr(head, at, len(magic)) == magic for magic, at, _ in _DECODERS]
    decoders = [partial(decoder, data, raw) for *_, decoder in _DECODERS]
    pixels = tf.switch_case(tf.argmax(tf.cast([*matches, True], tf.int32), output_type=tf.int32), [*decoders, partial(_refuse_kind, raw)])
    return tf.ensure_shape(pixels, (None, None, 3))


def _refuse_kind(raw: tf.Tensor) -> tf.Tensor:
    return _refuse("Expected a JPEG, PNG, GIF, BMP or WebP file (TensorFlow reads no TIFF); its first bytes are", raw[:12])


def _refuse(reason: str, received: tf.Tensor) -> tf.Tensor:
    # As numbers: bytes that are no UTF-8 would make the error itself fail.
    with tf.control_dependencies([tf.debugging.Assert(tf.constant(False), [reason, tf.cast(received, tf.int64)], summarize=12)]):
        return tf.zeros((0, 0, 3), tf.uint8)


def _jpeg(data: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    def step(at: tf.Tensor) -> Step:  # 0xFF, marker, length (2 bytes, itself included), content
        marker, length = _number(raw, at + 1, 1), _number(raw, at + 2, 2)
        found = (marker == 0xE1) & (_number(raw, at + 4, 6) == _tag(b"Exif\0\0"))
        over = (_number(raw, at, 1) != 0xFF) | (marker == 0xDA)  # the scan begins
        following = tf.where(marker == 0xFF, at + 1, at + 2 + length)  # 0xFF may be repeated as a filler
        return Step(found & ~over, at + 4, at + 2 + length, tf.where(over, _size(raw), following))

    pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")  # libjpeg's default, so Pillow's
    return _upright(pixels, _orientation(_find(raw, 2, step)))


def _png(data: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    def chunk(tag: bytes) -> tf.Tensor:
        def step(at: tf.Tensor) -> Step:  # length (4 bytes), tag, content, checksum
            length, kind = _number(raw, at, 4), _number(raw, at + 4, 4)
            return Step(kind == _tag(tag), at + 8, at + 8 + length, at + 12 + length)

        return _find(raw, 8, step)

    colour_type = _number(raw, 25, 1)
    has_alpha = (colour_type >= 4) | (tf.size(chunk(b"tRNS")) > 0)
    pixels = tf.cond(
        has_alpha,  # only then: asked for an alpha that is not there, decode_png makes up a wrong one below 8 bits
        lambda: _on_white(tf.io.decode_png(data, channels=4)),
        lambda: tf.io.decode_png(data, channels=3),
    )
    return _upright(pixels, _orientation(chunk(b"eXIf")))


def _webp(data: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    def step(at: tf.Tensor) -> Step:  # tag, length (4 bytes, little-endian), content, padded to even
        length = _number(raw, at + 4, 4, big_endian=False)
        return Step(_number(raw, at, 4) == _tag(b"EXIF"), at + 8, at + 8 + length, at + 8 + length + length % 2)

    # Of an animation TensorFlow 2.21's decode_webp writes 4 channels into memory meant for 3, and corrupts the process.
    is_animated = (_number(raw, 12, 4) == _tag(b"VP8X")) & (_number(raw, 20, 1) // 2 % 2 == 1)
    pixels = tf.cond(
        is_animated,
        lambda: _refuse("Expected a still WebP (TensorFlow cannot decode animated ones); its flags are", raw[20]),
        lambda: _on_white(tf.io.decode_webp(data)[0]),
    )
    return _upright(pixels, _orientation(_find(raw, 12, step)))


def _bmp(data: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    def little(at: tf.Tensor | int, size: int) -> tf.Tensor:
        return _number(raw, at, size, big_endian=False)

    header, depth, compression, colours = little(14, 4), little(28, 2), little(30, 4), little(46, 4)

    def by_palette() -> tf.Tensor:
        entries = 14 + header + 4 * tf.range(tf.where((colours == 0) | (colours > 256), tf.constant(256, tf.int64), colours))
        palette = tf.stack([little(entries + channel, 1) for channel in (2, 1, 0)], axis=-1)  # stored blue, green, red, 0
        return tf.cast(tf.gather(palette, tf.cast(tf.io.decode_bmp(data)[..., 0], tf.int32)), tf.uint8)

    def refuse() -> tf.Tensor:
        return _refuse("Expected an uncompressed BMP of 8, 24 or 32 bits; bits and compression are", tf.stack([depth, compression]))

    known = (header >= 40) & (compression == 0) & tf.reduce_any(depth == [8, 24, 32])
    return tf.case([(known & (depth == 8), by_palette), (known, lambda: tf.io.decode_bmp(data)[..., :3])], default=refuse)


def _gif(data: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    """The first frame on a white canvas, its transparent colour white: the file is cut and mended, then decoded."""
    frame, control, end = _gif_layout(raw)
    left, top, width, height = tf.unstack(_number(raw, frame + tf.constant([1, 3, 5, 7], tf.int64), 2, big_endian=False))
    still = _cut(data, 0, end) + b";"
    still = _replaced(still, frame + 1, b"\0\0\0\0")  # left and top: the decoder has no canvas and would clip the frame
    local = _gif_colours(raw, frame + 9)
    palette = tf.where(local > 0, frame + 10, 13)
    entry = palette + 3 * _number(raw, control + 3, 1)
    is_transparent = (control > 0) & (_number(raw, control, 1) % 2 == 1)
    in_palette = entry < palette + 3 * tf.where(local > 0, local, _gif_colours(raw, 10))
    still = tf.cond(
        is_transparent & in_palette,
        lambda: _replaced(_replaced(still, control, b"\0"), entry, b"\xff\xff\xff"),
        lambda: still,
    )
    canvas_width, canvas_height = tf.unstack(_number(raw, tf.constant([6, 8], tf.int64), 2, big_endian=False))
    rows = [top, tf.maximum(canvas_height - top - height, 0)]
    columns = [left, tf.maximum(canvas_width - left - width, 0)]
    return tf.pad(tf.io.decode_gif(still)[0], [rows, columns, [0, 0]], constant_values=255)


def _gif_layout(raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Where the first frame's descriptor, the flags of its graphic control (0 if none) and the frame's end are."""

    def unfinished(at: tf.Tensor, in_blocks: tf.Tensor, frame: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return (at < _size(raw)) & (in_blocks | (frame == 0))

    def step(at: tf.Tensor, in_blocks: tf.Tensor, frame: tf.Tensor, control: tf.Tensor) -> tuple[tf.Tensor, ...]:
        first, second = _number(raw, at, 1), _number(raw, at + 1, 1)
        extension, image = ~in_blocks & (first == 0x21), ~in_blocks & (first == 0x2C)
        after = tf.where(in_blocks, at + 1 + first, _size(raw))  # a data block is its length, then as many bytes
        after = tf.where(extension, at + 2, after)
        after = tf.where(image, at + 10 + 3 * _gif_colours(raw, at + 9) + 1, after)
        in_blocks = extension | image | (in_blocks & (first > 0))
        return after, in_blocks, tf.where(image, at, frame), tf.where(extension & (second == 0xF9), at + 3, control)

    zero = tf.constant(0, tf.int64)
    at, _, frame, control = tf.while_loop(unfinished, step, (13 + 3 * _gif_colours(raw, 10), tf.constant(False), zero, zero))
    return frame, control, tf.minimum(at, _size(raw))


def _gif_colours(raw: tf.Tensor, flags: tf.Tensor | int) -> tf.Tensor:
    """How many colours the palette has that the flag byte at this place announces."""
    packed = _number(raw, flags, 1)
    return tf.where(packed >= 0x80, tf.bitwise.left_shift(tf.constant(2, tf.int64), packed % 8), 0)


def _replaced(text: tf.Tensor, at: tf.Tensor, new: bytes) -> tf.Tensor:
    return _cut(text, 0, at) + new + _cut(text, at + len(new), tf.strings.length(text))


def _cut(text: tf.Tensor, begin: tf.Tensor | int, end: tf.Tensor) -> tf.Tensor:
    begin = tf.cast(begin, tf.int64)
    return tf.strings.substr(text, begin, tf.cast(end, tf.int64) - begin)


def _on_white(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 (h, w, 3 or 4) -> uint8 (h, w, 3)."""
    opaque = tf.fill(tf.concat([tf.shape(pixels)[:2], [1]], 0), tf.constant(255, tf.uint8))
    rgba = tf.cast(tf.concat([pixels, opaque], -1)[..., :4], tf.int32)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undo an EXIF orientation; see `images`."""
    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    pixels = tf.cond(tf.reduce_any(orientation == [2, 3, 6, 7]), lambda: tf.reverse(pixels, [1]), lambda: pixels)
    return tf.cond(tf.reduce_any(orientation == [3, 4, 7, 8]), lambda: tf.reverse(pixels, [0]), lambda: pixels)


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation, int64 1 to 8, in an EXIF block, uint8 (n,); 1 where it is missing or makes no sense."""
    exif = tf.concat([exif, tf.zeros((14,), tf.uint8)], 0)  # so that the fixed fields can always be read
    tiff = tf.cond(_number(exif, 0, 6) == _tag(b"Exif\0\0"), lambda: exif[6:], lambda: exif)
    size = _size(tiff) - 14
    is_big, is_little = _number(tiff, 0, 4) == _tag(b"MM\0*"), _number(tiff, 0, 4) == _tag(b"II*\0")

    def read(at: tf.Tensor | int, length: int) -> tf.Tensor:
        return tf.where(is_big, _number(tiff, at, length), _number(tiff, at, length, big_endian=False))

    directory = read(4, 4)
    room = tf.maximum((size - directory - 2) // 12, 0)
    entries = directory + 2 + 12 * tf.range(tf.minimum(read(directory, 2), room))  # tag, type, count, value: 2, 2, 4, 4 bytes
    wanted = (is_big | is_little) & (read(entries, 2) == 0x0112) & (read(entries + 2, 2) == 3)
    value = tf.concat([tf.boolean_mask(read(entries + 8, 2), wanted), [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _find(raw: tf.Tensor, start: int, step: Callable[[tf.Tensor], Step]) -> tf.Tensor:
    """The content of the first block that `step` finds, from `start` on; uint8 (n,), empty where there is none."""

    def unfinished(at: tf.Tensor, _: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        return (at < _size(raw)) & (end == 0)

    def advance(at: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, ...]:
        block = step(at)
        return block.next, tf.where(block.found, block.begin, begin), tf.where(block.found, block.end, end)

    zero = tf.constant(0, tf.int64)
    _, begin, end = tf.while_loop(unfinished, advance, (tf.constant(start, tf.int64), zero, zero))
    return raw[begin:end]


def _number(raw: tf.Tensor, at: tf.Tensor | int, size: int, *, big_endian: bool = True) -> tf.Tensor:
    """Unsigned integers of `size` bytes at each place, int64 of the shape of `at`; past the end the last byte is repeated."""
    places = tf.convert_to_tensor(at, tf.int64)[..., tf.newaxis] + tf.range(size, dtype=tf.int64)
    digits = tf.cast(tf.gather(raw, tf.minimum(places, _size(raw) - 1)), tf.int64)
    exponents = range(size - 1, -1, -1) if big_endian else range(size)
    return tf.reduce_sum(digits * tf.constant([256**exponent for exponent in exponents], tf.int64), axis=-1)


def _tag(name: bytes) -> int:
    return int.from_bytes(name, "big")


def _size(raw: tf.Tensor) -> tf.Tensor:
    return tf.size(raw, tf.int64)


_DECODERS: tuple[tuple[bytes, int, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]], ...] = (  # magic, its place, decoder
    (b"\xff\xd8\xff", 0, _jpeg),
    (b"\x89PNG\r\n\x1a\n", 0, _png),
    (b"GIF8", 0, _gif),
    (b"BM", 0, _bmp),
    (b"WEBP", 8, _webp),
)
