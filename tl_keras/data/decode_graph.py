"""Image bytes to pixels with TensorFlow ops alone, for exported models: the twin of `images.decode`.

It owns the few facts of the file formats that TensorFlow's decoders leave out: transparency, BMP palettes, a GIF's canvas;
orientation is `orientation_graph`'s. It must not know Pillow or Python state: everything here is traced into a SavedModel.
"""

import struct
from collections.abc import Callable
from functools import partial

import tensorflow as tf

from tl_keras.data import orientation_graph
from tl_keras.data.formats import HEAD_BYTES, image_format
from tl_keras.data.graph_bytes import Step, cut, find_blocks, holds, size, unsigned

WHOLE_JPEG = 2**29 // 3  # pixels: TensorFlow refuses larger ones; of a JPEG that is, a half, quarter or eighth is decoded
REDUCTIONS = (1, 2, 4, 8)

_BMP_DEPTHS = (8, 24, 32)


def decode_graph(data: tf.Tensor, bit_depth: int = 16) -> tf.Tensor:
    """Decode an image file inside a graph, to the pixels of `images.decode`, bit for bit.

    That holds for JPEG (grey, CMYK, progressive, any subsampling, any size), PNG, GIF, still WebP (lossy too) and uncompressed
    BMP of 8, 24 and 32 bits. One thing differs: a 16-bit RGB PNG with one transparent colour (tRNS), which Pillow cannot match:
    it is white here and keeps its colour there.

    Args:
        data: string scalar, the whole file.
        bit_depth: of 16-bit greys; see `images.Decoding`.

    Returns:
        uint8 (height, width, 3).

    Raises:
        tf.errors.InvalidArgumentError: when run, on TIFF, HEIC, AVIF, other BMPs, animated WebP, damaged files and what is no
            image. `refused_kind` says it of a file beforehand.
    """
    raw = tf.io.decode_raw(data, tf.uint8)
    head = tf.strings.substr(data, 0, 12) + b"\0" * 12
    matches = [tf.strings.substr(head, at, len(magic)) == magic for magic, at, _ in _DECODERS]
    decoders = [partial(decoder, data, raw, bit_depth) for *_, decoder in _DECODERS]
    first = tf.argmax(tf.cast([*matches, True], tf.int32), output_type=tf.int32)  # of the decoders, the first that matches: not a class
    pixels = tf.switch_case(first, [*decoders, partial(_refuse_kind, raw)])
    return tf.ensure_shape(pixels, (None, None, 3))


def refused_kind(head: bytes) -> str | None:
    """What `decode_graph` refuses a file for, in a word or two, such as 'TIFF'; None for one that it takes unless it is damaged.

    Args:
        head: the first `HEAD_BYTES` bytes of the file, or more.
    """
    kind, head = image_format(head), head.ljust(HEAD_BYTES, b"\0")
    if kind == "webp":
        return "animated WebP" if head[12:16] == b"VP8X" and head[20] & 2 else None
    if kind == "bmp":
        return _refused_bmp(*struct.unpack("<I10xHI", head[14:34]))
    return None if kind in ("jpeg", "png", "gif") else "unknown" if kind is None else kind.upper()


def _refused_bmp(header: int, depth: int, compression: int) -> str | None:
    if header < 40:
        return "OS/2 BMP"
    return "compressed BMP" if compression else None if depth in _BMP_DEPTHS else f"{depth}-bit BMP"


def _refuse_kind(raw: tf.Tensor) -> tf.Tensor:
    return _refuse("Expected a JPEG, PNG, GIF, BMP or WebP file (TensorFlow reads no TIFF, HEIC or AVIF); its first bytes are", raw[:12])


def _refuse(reason: str, received: tf.Tensor) -> tf.Tensor:
    # As numbers: bytes that are no UTF-8 would make the error itself fail.
    with tf.control_dependencies([tf.debugging.Assert(tf.constant(False), [reason, tf.cast(received, tf.int64)], summarize=12)]):
        return tf.zeros((0, 0, 3), tf.uint8)


def _jpeg(data: tf.Tensor, raw: tf.Tensor, _: int) -> tf.Tensor:
    def reduced(ratio: int) -> tf.Tensor:  # libjpeg's default method, so Pillow's
        return tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")

    height, width = tf.unstack(tf.cast(tf.io.extract_jpeg_shape(data), tf.int64)[:2])
    num_pixels = tf.stack([-(-height // ratio) * -(-width // ratio) for ratio in REDUCTIONS])
    chosen = tf.minimum(tf.reduce_sum(tf.cast(num_pixels > WHOLE_JPEG, tf.int32)), len(REDUCTIONS) - 1)
    pixels = tf.switch_case(chosen, [partial(reduced, ratio) for ratio in REDUCTIONS])
    return _upright(pixels, orientation_graph.of_jpeg(data, raw))


def _png(data: tf.Tensor, raw: tf.Tensor, bit_depth: int) -> tf.Tensor:
    def step(at: tf.Tensor) -> Step:  # length (4 bytes), tag, content, checksum
        length = unsigned(raw, at, 4)
        found = [holds(raw, at + 4, b"tRNS"), *orientation_graph.is_png_source(raw, at)]
        return Step(found, at + 8, at + 8 + length, at + 12 + length)

    transparency, *sources = find_blocks(raw, 8, 5, step)
    depth, colour_type = unsigned(raw, 24, 1), unsigned(raw, 25, 1)
    has_alpha = (colour_type >= 4) | (transparency[1] > 0)
    pixels = tf.cond(
        has_alpha,  # only then: asked for an alpha that is not there, decode_png makes up a wrong one below 8 bits
        lambda: _on_white(tf.io.decode_png(data, channels=4)),
        lambda: tf.io.decode_png(data, channels=3),
    )
    if bit_depth < 16:
        is_deep_grey = (depth == 16) & (colour_type == 0)
        transparent = tf.where(transparency[1] > 0, unsigned(raw, transparency[0], 2), -1)
        pixels = tf.cond(is_deep_grey, lambda: _deep_grey(data, transparent, bit_depth), lambda: pixels)
    return _upright(pixels, orientation_graph.of_png(data, raw, *sources))


def _deep_grey(data: tf.Tensor, transparent: tf.Tensor, bit_depth: int) -> tf.Tensor:
    grey = tf.cast(tf.io.decode_png(data, channels=1, dtype=tf.uint16), tf.int32)
    upper = tf.where(grey == tf.cast(transparent, tf.int32), 255, tf.minimum(grey // 2 ** (bit_depth - 8), 255))
    return tf.repeat(tf.cast(upper, tf.uint8), 3, axis=-1)


def _webp(data: tf.Tensor, raw: tf.Tensor, _: int) -> tf.Tensor:
    # Of an animation TensorFlow 2.21's decode_webp writes 4 channels into memory meant for 3, and corrupts the process.
    is_animated = holds(raw, 12, b"VP8X") & (unsigned(raw, 20, 1) // 2 % 2 == 1)
    pixels = tf.cond(
        is_animated,
        lambda: _refuse("Expected a still WebP (TensorFlow cannot decode animated ones); its flags are", raw[20]),
        lambda: _on_white(tf.io.decode_webp(data)[0]),
    )
    return _upright(pixels, orientation_graph.of_webp(data, raw))


def _bmp(data: tf.Tensor, raw: tf.Tensor, _: int) -> tf.Tensor:
    def little(at: tf.Tensor | int, size: int) -> tf.Tensor:
        return unsigned(raw, at, size, big_endian=False)

    header, depth, compression, colours = little(14, 4), little(28, 2), little(30, 4), little(46, 4)

    def by_palette() -> tf.Tensor:
        entries = 14 + header + 4 * tf.range(tf.where((colours == 0) | (colours > 256), tf.constant(256, tf.int64), colours))
        palette = tf.stack([little(entries + channel, 1) for channel in (2, 1, 0)], axis=-1)  # stored blue, green, red, 0
        return tf.cast(tf.gather(palette, tf.cast(tf.io.decode_bmp(data)[..., 0], tf.int32)), tf.uint8)

    def refuse() -> tf.Tensor:
        return _refuse("Expected an uncompressed BMP of 8, 24 or 32 bits; bits and compression are", tf.stack([depth, compression]))

    known = (header >= 40) & (compression == 0) & tf.reduce_any(depth == _BMP_DEPTHS)
    return tf.case([(known & (depth == 8), by_palette), (known, lambda: tf.io.decode_bmp(data)[..., :3])], default=refuse)


def _gif(data: tf.Tensor, raw: tf.Tensor, _: int) -> tf.Tensor:
    """The first frame on a white canvas, its transparent colour white: the file is cut and mended, then decoded."""
    frame, control, end = _gif_layout(raw)
    left, top, width, height = tf.unstack(unsigned(raw, frame + tf.constant([1, 3, 5, 7], tf.int64), 2, big_endian=False))
    still = cut(data, 0, end) + b";"
    still = _replaced(still, frame + 1, b"\0\0\0\0")  # left and top: the decoder has no canvas and would clip the frame
    local = _gif_colours(raw, frame + 9)
    palette = tf.where(local > 0, frame + 10, 13)
    entry = palette + 3 * unsigned(raw, control + 3, 1)
    is_transparent = (control > 0) & (unsigned(raw, control, 1) % 2 == 1)
    in_palette = entry < palette + 3 * tf.where(local > 0, local, _gif_colours(raw, 10))
    still = tf.cond(
        is_transparent & in_palette,
        lambda: _replaced(_replaced(still, control, b"\0"), entry, b"\xff\xff\xff"),
        lambda: still,
    )
    canvas_width, canvas_height = tf.unstack(unsigned(raw, tf.constant([6, 8], tf.int64), 2, big_endian=False))
    rows = [top, tf.maximum(canvas_height - top - height, 0)]
    columns = [left, tf.maximum(canvas_width - left - width, 0)]
    return tf.pad(tf.io.decode_gif(still)[0], [rows, columns, [0, 0]], constant_values=255)


def _gif_layout(raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Where the first frame's descriptor, the flags of its graphic control (0 if none) and the frame's end are."""

    def unfinished(at: tf.Tensor, in_blocks: tf.Tensor, frame: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return (at < size(raw)) & (in_blocks | (frame == 0))

    def step(at: tf.Tensor, in_blocks: tf.Tensor, frame: tf.Tensor, control: tf.Tensor) -> tuple[tf.Tensor, ...]:
        first, second = unsigned(raw, at, 1), unsigned(raw, at + 1, 1)
        extension, image = ~in_blocks & (first == 0x21), ~in_blocks & (first == 0x2C)
        after = tf.where(in_blocks, at + 1 + first, size(raw))  # a data block is its length, then as many bytes
        after = tf.where(extension, at + 2, after)
        after = tf.where(image, at + 10 + 3 * _gif_colours(raw, at + 9) + 1, after)
        in_blocks = extension | image | (in_blocks & (first > 0))
        return after, in_blocks, tf.where(image, at, frame), tf.where(extension & (second == 0xF9), at + 3, control)

    zero = tf.constant(0, tf.int64)
    at, _, frame, control = tf.while_loop(unfinished, step, (13 + 3 * _gif_colours(raw, 10), tf.constant(False), zero, zero))
    return frame, control, tf.minimum(at, size(raw))


def _gif_colours(raw: tf.Tensor, flags: tf.Tensor | int) -> tf.Tensor:
    """How many colours the palette has that the flag byte at this place announces."""
    packed = unsigned(raw, flags, 1)
    return tf.where(packed >= 0x80, tf.bitwise.left_shift(tf.constant(2, tf.int64), packed % 8), 0)


def _replaced(text: tf.Tensor, at: tf.Tensor, new: bytes) -> tf.Tensor:
    return cut(text, 0, at) + new + cut(text, at + len(new), tf.strings.length(text))


def _on_white(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 (h, w, 3 or 4) -> uint8 (h, w, 3)."""
    opaque = tf.fill(tf.concat([tf.shape(pixels)[:2], [1]], 0), tf.constant(255, tf.uint8))
    rgba = tf.cast(tf.concat([pixels, opaque], -1)[..., :4], tf.uint16)  # 255 * 255 + 127 is less than 2**16
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undo an EXIF orientation; see `images`."""
    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    pixels = tf.cond(tf.reduce_any(orientation == [2, 3, 6, 7]), lambda: tf.reverse(pixels, [1]), lambda: pixels)
    return tf.cond(tf.reduce_any(orientation == [3, 4, 7, 8]), lambda: tf.reverse(pixels, [0]), lambda: pixels)


_DECODERS: tuple[tuple[bytes, int, Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]], ...] = (  # magic, its place, decoder
    (b"\xff\xd8\xff", 0, _jpeg),
    (b"\x89PNG\r\n\x1a\n", 0, _png),
    (b"GIF8", 0, _gif),
    (b"BM", 0, _bmp),
    (b"WEBP", 8, _webp),
)
