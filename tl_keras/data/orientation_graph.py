"""The orientation that a file gives for its image, with TensorFlow ops alone: the twin of `orientation`.

Each function takes a file as `graph_bytes` describes it, and returns the orientation: int64, 1 to 8.
"""

from collections.abc import Callable

import tensorflow as tf

from tl_keras.data.graph_bytes import Step, cut, find_blocks, holds, size, unsigned
from tl_keras.data.orientation import EXIF_MARK, LONGS, MAX_COMPRESSED, PNG_XMP, RAW_PROFILE, SHORTS, TAG, XMP_MARK

Block = tuple[tf.Tensor, tf.Tensor]  # where its content begins and ends; both 0 where there is none


def of_jpeg(data: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    """The orientation of a JPEG file."""

    def step(at: tf.Tensor) -> Step:  # 0xFF, marker, length (2 bytes, itself included), content
        marker, length = unsigned(raw, at + 1, 1), unsigned(raw, at + 2, 2)
        over = (unsigned(raw, at, 1) != 0xFF) | (marker == 0xDA)  # the scan begins
        is_app1 = (marker == 0xE1) & ~over
        following = tf.where(marker == 0xFF, at + 1, at + 2 + length)  # 0xFF may be repeated as a filler
        found = [is_app1 & holds(raw, at + 4, mark) for mark in (EXIF_MARK, XMP_MARK)]
        return Step(found, at + 4, at + 2 + length, tf.where(over, size(raw), following))

    exif, xmp = find_blocks(raw, 2, 2, step)
    return _first((exif, lambda: _of_exif(raw[exif[0] : exif[1]])), (xmp, lambda: _of_xmp(_text(data, xmp))))


def is_png_source(raw: tf.Tensor, at: tf.Tensor) -> list[tf.Tensor]:
    """Whether the chunk at a place is one of those that `of_png` takes, bool scalars in the same order."""
    name = unsigned(raw, at + 4, 4)
    sources = ((b"eXIf", b""), (b"tEXt", RAW_PROFILE), (b"zTXt", RAW_PROFILE), (b"iTXt", PNG_XMP))
    return [(name == int.from_bytes(kind, "big")) & holds(raw, at + 8, begins) for kind, begins in sources]


def of_png(data: tf.Tensor, raw: tf.Tensor, exif: Block, profile: Block, packed: Block, xmp: Block) -> tf.Tensor:
    """The orientation of a PNG file, of which these chunks were found."""
    return _first(
        (exif, lambda: _of_exif(raw[exif[0] : exif[1]])),
        (profile, lambda: _of_exif(_from_hex(_text(data, profile, len(RAW_PROFILE))))),
        (packed, lambda: _of_exif(_from_hex(_inflated(_text(data, packed, len(RAW_PROFILE) + 1))))),
        (xmp, lambda: _of_xmp(_png_xmp(_text(data, xmp, len(PNG_XMP))))),
    )


def of_webp(data: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    """The orientation of a WebP file."""
    flags = tf.where(holds(raw, 12, b"VP8X"), unsigned(raw, 20, 1), 0)  # what they deny is not there

    def step(at: tf.Tensor) -> Step:  # tag, length (4 bytes, little-endian), content, padded to even
        length = unsigned(raw, at + 4, 4, big_endian=False)
        found = [holds(raw, at, b"EXIF") & (flags // 8 % 2 == 1), holds(raw, at, b"XMP ") & (flags // 4 % 2 == 1)]
        return Step(found, at + 8, at + 8 + length, at + 8 + length + length % 2)

    exif, xmp = find_blocks(raw, 12, 2, step)
    return _first((exif, lambda: _of_exif(raw[exif[0] : exif[1]])), (xmp, lambda: _of_xmp(_text(data, xmp))))


def _first(*sources: tuple[Block, Callable[[], tf.Tensor]]) -> tf.Tensor:
    """What the first of some blocks says that is there and says more than 0; 1 where none does."""
    found = tf.constant(0, tf.int64)
    for block, read in sources:
        found = tf.cond((found == 0) & (block[1] > 0), read, lambda so_far=found: so_far)
    return tf.maximum(found, 1)


def _text(data: tf.Tensor, block: Block, skip: int = 0) -> tf.Tensor:
    """The content of a block as a string, without its first `skip` bytes."""
    end = tf.minimum(block[1], tf.cast(tf.strings.length(data), tf.int64))
    return cut(data, tf.minimum(block[0] + skip, end), end)


def _of_exif(exif: tf.Tensor) -> tf.Tensor:
    """See `orientation.of_exif`; of uint8 (n,)."""
    exif = tf.concat([exif, tf.zeros((14,), tf.uint8)], 0)  # so that the fixed fields can always be read
    marks = tf.where(holds(exif, 0, EXIF_MARK), tf.where(holds(exif, 6, EXIF_MARK), 12, 6), 0)
    tiff = exif[marks:]
    room = size(tiff) - 14
    is_big, is_little = holds(tiff, 0, b"MM\0*"), holds(tiff, 0, b"II*\0")

    def read(at: tf.Tensor | int, length: int) -> tf.Tensor:
        return tf.where(is_big, unsigned(tiff, at, length), unsigned(tiff, at, length, big_endian=False))

    directory = read(4, 4)
    number = tf.minimum(read(directory, 2), tf.maximum((room - directory - 2) // 12, 0))
    entries = directory + 2 + 12 * tf.range(number)  # tag, type, count, value: 2, 2, 4, 4 bytes
    dtype = read(entries + 2, 2)[..., tf.newaxis]
    is_short, is_long = (tf.reduce_any(dtype == types, -1) for types in (SHORTS, LONGS))
    value = tf.where(is_short, read(entries + 8, 2), tf.where(is_long, read(entries + 8, 4), 1))
    is_tag = (is_big | is_little) & (read(entries, 2) == TAG)
    return tf.concat([tf.boolean_mask(_sensible(value), is_tag), [0]], 0)[0]


def _sensible(value: tf.Tensor) -> tf.Tensor:
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _of_xmp(xmp: tf.Tensor) -> tf.Tensor:
    """See `orientation.of_xmp`; of a string. No regular expression: TensorFlow's stop at bytes that are not UTF-8."""
    after = tf.strings.split(xmp, b"tiff:Orientation")[1:] + b"\0\0\0"
    digits = tf.constant([b"%d" % digit for digit in range(10)])

    def digit_behind(mark: bytes) -> tf.Tensor:  # bool (parts, 10)
        is_marked = tf.strings.substr(after, 0, len(mark)) == mark
        return is_marked[:, tf.newaxis] & (tf.strings.substr(after, len(mark), 1)[:, tf.newaxis] == digits)

    found = digit_behind(b'="') | digit_behind(b">")
    digit = tf.argmax(tf.cast(found, tf.int32), -1)  # which of the ten was found: not a class
    value = tf.boolean_mask(digit, tf.reduce_any(found, -1))
    return tf.concat([_sensible(value), [0]], 0)[0]


def _png_xmp(text: tf.Tensor) -> tf.Tensor:
    """The text of an iTXt chunk behind its keyword: is compressed, method, language 0, translated keyword 0, text."""
    is_packed = tf.strings.substr(text, 0, 1) == b"\1"
    behind = tf.strings.split(cut(text + b"\0\0", 2, tf.maximum(tf.strings.length(text), 2)), b"\0", maxsplit=2)[-1]
    return tf.where(is_packed, _inflated(tf.where(is_packed, behind, b"")), text)


def _inflated(packed: tf.Tensor) -> tf.Tensor:
    """See `orientation._inflated`; fails on a damaged stream."""
    length = tf.strings.length(packed)
    is_good = (length > 0) & (length <= MAX_COMPRESSED)
    return tf.cond(is_good, lambda: tf.io.decode_compressed(packed, "ZLIB"), lambda: tf.constant(b""))


def _from_hex(text: tf.Tensor) -> tf.Tensor:
    """See `orientation._from_hex`; of a string, uint8 (n,)."""
    lines = tf.strings.split(text, b"\n")[3:]
    characters = tf.io.decode_raw(tf.strings.reduce_join(lines), tf.uint8)
    values = [int(chr(code), 16) if chr(code) in "0123456789abcdefABCDEF" else -1 for code in range(256)]
    nibbles = tf.gather(tf.constant(values, tf.int32), tf.cast(characters, tf.int32))
    nibbles = tf.boolean_mask(nibbles, nibbles >= 0)
    pairs = tf.reshape(nibbles[: tf.size(nibbles) // 2 * 2], (-1, 2))
    return tf.cast(pairs[:, 0] * 16 + pairs[:, 1], tf.uint8)
