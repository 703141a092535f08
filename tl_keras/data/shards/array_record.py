"""An ArrayRecord file: records of tf.train.Example in groups that may be compressed, read by number with the package array_record.

Reference: github.com/google/array_record.
"""

import errno
import io
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

from tl_keras.data.formats import HEAD_BYTES
from tl_keras.data.read_at import PlacedFile
from tl_keras.data.shards.example import read_example
from tl_keras.data.shards.sample import Sample
from tl_keras.data.shards.tfrecord import image_name
from tl_keras.errors import DataError, first_line
from tl_keras.packages import is_installed

PACKAGE = "array-record"
_AT_ONCE = 64  # records read together while all are
_READING = threading.Lock()  # a reader is not said to be safe for several threads


def open_records(path: str) -> Any:
    """A reader of the records of a file.

    Raises:
        DataError: the package is not installed, or the file is damaged.
    """
    if not is_installed(PACKAGE):
        raise DataError(f"{path}: to read ArrayRecord files: pip install {PACKAGE}")
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(path)
    if not reader.ok():
        raise DataError(f"{path}: is not an ArrayRecord file, or is damaged. Copy or download it again.")
    return reader


def array_record_samples(file: PlacedFile, size: int) -> Iterator[Sample]:
    """The images of an ArrayRecord file in their order; they are named by the numbers of their records.

    Raises:
        DataError: the package is not installed.
        ValueError: it is damaged, or a record is not of an image and its label.
    """
    reader = open_records(file.path)
    total = reader.num_records()
    for first in range(0, total, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, total))
        for number, record in zip(numbers, _read(reader, list(numbers)), strict=True):
            try:
                start, end, label = read_example(record)
            except ValueError as error:
                raise ValueError(f"record {number} {error}") from error
            image = record[start:end]
            yield Sample(image_name(number, image[:HEAD_BYTES]), number, len(image), label, image)


def open_image(reader: Any, number: int, path: str) -> BinaryIO:
    """The image of a record, as a file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        (record,) = _read(reader, [number])
        start, end, _ = read_example(record)
    except ValueError as error:
        raise OSError(errno.EIO, first_line(error), path) from error
    return io.BytesIO(record[start:end])


def _read(reader: Any, numbers: list[int]) -> list[bytes]:
    try:
        with _READING:
            records: list[bytes] = reader.read(numbers)
    except Exception as error:  # of no common type
        raise ValueError(first_line(error)) from error
    return records
