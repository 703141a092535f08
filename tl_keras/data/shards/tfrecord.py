"""A TFRecord file: records one after the other, each with its length before it and checksums.

Reference: the comment on the format in tensorflow/core/lib/io/record_writer.h. Only the checksum of each length is compared: it tells
any damage that would lead to a wrong place. What an image is, its content's id says.
"""

import struct
from collections.abc import Iterator
from functools import cache

from tl_keras.data.archives import LARGEST
from tl_keras.data.formats import HEAD_BYTES, image_format
from tl_keras.data.read_at import PlacedFile
from tl_keras.data.shards.example import read_example
from tl_keras.data.shards.sample import Sample

_HEADER, _SUM_BYTES = struct.Struct("<QI"), 4  # length and its checksum; after the data, theirs
_MASK = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reflected
_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # how gzip and zlib begin


def tfrecord_samples(file: PlacedFile, size: int) -> Iterator[Sample]:
    """The images of a TFRecord file in their order; they are named by the numbers of their records.

    Raises:
        ValueError: it is damaged or compressed, or a record is not of an image and its label.
        OSError: it cannot be read.
    """
    at, number = 0, 0
    while at < size:
        record = _record(file, at, size)
        try:
            start, end, label = read_example(record)
        except ValueError as error:
            raise ValueError(f"record {number} {error}") from error
        image = record[start:end]
        yield Sample(image_name(number, image[:HEAD_BYTES]), at + _HEADER.size + start, len(image), label, image)
        at += _HEADER.size + len(record) + _SUM_BYTES
        number += 1


def image_name(number: int, head: bytes) -> str:
    """What the image of a record is called: the number of the record, and what its first bytes say that it is."""
    return f"{number:08d}.{image_format(head) or 'jpg'}"


def _record(file: PlacedFile, at: int, size: int) -> bytes:
    if size - at < _HEADER.size:
        raise ValueError(f"it ends within the record at byte {at:,}")
    header = file.read_at(at, _HEADER.size)
    length, checksum = _HEADER.unpack(header)
    if checksum != masked_crc32c(header[:8]):
        if at == 0 and header.startswith(_COMPRESSED):
            raise ValueError("it is compressed as a whole: unpack it, as with gunzip")
        raise ValueError(f"the checksum at byte {at:,} is wrong")
    if length > size - at - _HEADER.size - _SUM_BYTES:
        raise ValueError(f"it ends within the record at byte {at:,}")
    if length > LARGEST:
        raise ValueError(f"the record at byte {at:,} has {length:,} bytes, more than any image")
    return file.read_at(at + _HEADER.size, length)


def masked_crc32c(data: bytes) -> int:
    """The checksum that the format has: CRC-32C, turned and shifted, so that one of data with checksums in them is a good one."""
    crc, table = 0xFFFFFFFF, _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


@cache
def _table() -> list[int]:
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ _POLYNOMIAL if byte & 1 else byte >> 1
        found.append(byte)
    return found
