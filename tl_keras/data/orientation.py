"""The orientation that a file gives for its image: EXIF, ImageMagick's copy of EXIF in a PNG, and XMP.

`orientation_graph` is the twin of this module inside exported models. Both read the bytes themselves: Pillow gives what
it finds under names that differ between formats, and refuses files whose metadata are odd and whose pixels are not.
"""

import re
import struct
import zlib
from collections.abc import Iterator

EXIF_MARK = b"Exif\0\0"  # before the EXIF block of a JPEG; some writers put it there twice, and in other formats too
XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
RAW_PROFILE = b"Raw profile type exif\0"  # ImageMagick writes EXIF into a PNG's text, as hexadecimal digits
PNG_XMP = b"XML:com.adobe.xmp\0"
TAG = 0x0112
SHORTS, LONGS = (3, 8), (4, 9, 13)  # TIFF's integer types of 2 and of 4 bytes
MAX_COMPRESSED = 2**17  # bytes: anything longer is not an orientation, and might inflate to a thousand times as much

_XMP_TAG = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation(kind: str, data: bytes) -> int:
    """The EXIF orientation of a JPEG, PNG or WebP file, 1 to 8; 1 where it is missing or makes no sense.

    The first source that has the tag decides: EXIF, then the raw profile, then XMP.

    Args:
        kind: as `formats.image_format` calls it.
        data: the whole file.
    """
    sources = {"jpeg": _in_jpeg, "png": _in_png, "webp": _in_webp}
    return next(filter(None, sources[kind](data)), 1) if kind in sources else 1


def of_exif(exif: bytes) -> int:
    """The orientation in the first directory of an EXIF block: 0 where there is none, 1 for a value that makes no sense."""
    tiff = re.sub(rb"^(?:Exif\0\0){1,2}", b"", exif)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 0
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return 0
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, min(directory + 2 + 12 * count, len(tiff) - 11), 12):
        tag, dtype = struct.unpack_from(order + "HH", tiff, entry)
        if tag == TAG:
            code = "H" if dtype in SHORTS else "I" if dtype in LONGS else None
            value = struct.unpack_from(order + code, tiff, entry + 8)[0] if code else 1
            return value if 1 <= value <= 8 else 1
    return 0


def of_xmp(xmp: bytes) -> int:
    """The orientation in an XMP packet: 0 where there is none, 1 for a value that makes no sense."""
    found = _XMP_TAG.search(xmp)
    return 0 if found is None else int(found[1]) if 1 <= int(found[1]) <= 8 else 1


def _in_jpeg(data: bytes) -> Iterator[int]:
    parts = [content for marker, content in _segments(data) if marker == 0xE1]
    yield of_exif(_first(parts, EXIF_MARK))
    yield of_xmp(_first(parts, XMP_MARK))


def _in_png(data: bytes) -> Iterator[int]:
    sources = [(name, data[begin:end]) for name, begin, end in png_chunks(data) if name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")]

    def first(name: bytes, begins: bytes = b"") -> bytes:
        return _first([content for found, content in sources if found == name], begins)

    yield of_exif(first(b"eXIf"))
    yield of_exif(_from_hex(first(b"tEXt", RAW_PROFILE)[len(RAW_PROFILE) :]))
    yield of_exif(_from_hex(_inflated(first(b"zTXt", RAW_PROFILE)[len(RAW_PROFILE) + 1 :])))
    xmp = first(b"iTXt", PNG_XMP)[len(PNG_XMP) :]  # is compressed, method, language 0, translated keyword 0, text
    yield of_xmp(_inflated(xmp[2:].split(b"\0", 2)[-1]) if xmp[:1] == b"\1" else xmp)


def _in_webp(data: bytes) -> Iterator[int]:
    flags = data[20] if data[12:16] == b"VP8X" and len(data) > 20 else 0  # what they deny is not there
    chunks = list(_webp_chunks(data))
    yield of_exif(next((content for name, content in chunks if name == b"EXIF" and flags & 8), b""))
    yield of_xmp(next((content for name, content in chunks if name == b"XMP " and flags & 4), b""))


def _first(parts: list[bytes], begins: bytes) -> bytes:
    return next((part for part in parts if part.startswith(begins)), b"")


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the pixels."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        if jpeg[at + 1] == 0xFF:  # may be repeated as a filler
            at += 1
            continue
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        yield jpeg[at + 1], jpeg[at + 4 : end]
        at = end


def png_chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk, and where its content begins and ends, which may lie behind the end of a file that was cut short.

    Before the content are its length and the name, 4 bytes each; a checksum of 4 bytes follows it.
    """
    at = 8
    while at + 8 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], at + 8, end
        at = end + 4


def _webp_chunks(webp: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(webp):
        length = int.from_bytes(webp[at + 4 : at + 8], "little")
        yield webp[at : at + 4], webp[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _from_hex(text: bytes) -> bytes:
    """What a raw profile holds: an empty line, its name, its length, then lines of digits."""
    digits = re.sub(rb"[^0-9A-Fa-f]", b"", b"".join(text.split(b"\n")[3:]))
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode())


def _inflated(compressed: bytes) -> bytes:
    """Zlib's stream unpacked, as far as it goes; nothing for one that is damaged or too long. (The twin fails on a damaged one.)"""
    if not compressed or len(compressed) > MAX_COMPRESSED:
        return b""
    try:
        return zlib.decompressobj().decompress(compressed)
    except zlib.error:
        return b""
