"""A record as TensorFlow and TFDS write them, a `tf.train.Example`: where its image lies, and its label.

A message of protocol buffers is read here by hand, which takes 40 lines: an image is then a place in the file, not a copy, and no
TensorFlow is needed.

Reference: tensorflow/core/example/feature.proto; protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tl_keras.data.shards.sample import label_of, numbered

IMAGES = ("image/encoded", "image")  # names of features, the first that is there
LABELS = ("image/class/text", "image/class/label", "label")  # the first name and the first number of them
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10
_FEATURE, _KEY, _VALUE, _BYTES_LIST, _INT64_LIST = 1, 1, 2, 1, 3


class Feature(NamedTuple):
    """The first value of a feature: the place of its bytes in the record, or a number; None where it has none."""

    place: tuple[int, int] | None
    number: int | None


class Labelled(NamedTuple):
    """Where an image begins and ends in its record, and its label, see `Sample`: None where that is -1, as in test data without labels."""

    start: int
    end: int
    label: str | None


def read_example(record: bytes) -> Labelled:
    """Find the image and the label of a record.

    Raises:
        ValueError: it is not a whole `tf.train.Example`, or has no image or no label.
    """
    features = dict(_features(record))
    image = next((features[name].place for name in IMAGES if name in features), None)
    if image is None:
        raise ValueError(f"has no image: of the features {' and '.join(IMAGES)} neither holds bytes (it has {_names(features)})")
    return Labelled(*image, _label(record, features))


def _label(record: bytes, features: dict[str, Feature]) -> str | None:
    found = [features[name] for name in LABELS if name in features]
    place = next((place for place, _ in found if place is not None and place[0] < place[1]), None)
    number = next((number for _, number in found if number is not None), None)
    if place is None and number is None:
        raise ValueError(f"has no label: none of the features {', '.join(LABELS)} (it has {_names(features)})")
    name = None if place is None else label_of(record[slice(*place)])
    if number is None or number < 0:
        return name
    return str(number) if name is None else numbered(number, name)


def _names(features: dict[str, Feature]) -> str:
    return ", ".join(sorted(features)[:8]) or "none"


def _features(record: bytes) -> Iterator[tuple[str, Feature]]:
    for field, start, end in _fields(record, 0, len(record)):
        if field == _FEATURE:  # all features
            for inner, *place in _fields(record, start, end):
                if inner == _FEATURE:  # one of them: its name and its values
                    parts = {number: (first, last) for number, first, last in _fields(record, *place)}
                    name = record[slice(*parts.get(_KEY, (0, 0)))].decode("utf-8", "replace")
                    yield name, _first_value(record, *parts.get(_VALUE, (0, 0)))


def _first_value(record: bytes, start: int, end: int) -> Feature:
    for kind, first, last in _fields(record, start, end):
        for _, value, after in _fields(record, first, last) if kind in (_BYTES_LIST, _INT64_LIST) else ():
            if kind == _BYTES_LIST:
                return Feature((value, after), None)
            if value < after:
                number, _ = _varint(record, value, after)
                return Feature(None, number - 2**64 if number >= 2**63 else number)
    return Feature(None, None)


def _fields(record: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Each field of a message between two places: its number, and where its value begins and ends."""
    while at < end:
        key, at = _varint(record, at, end)
        wire = key & 7
        if wire == _BYTES:
            size, at = _varint(record, at, end)
            after = at + size
        elif wire == _VARINT:
            after = _varint(record, at, end)[1]
        elif wire in _FIXED:
            after = at + _FIXED[wire]
        else:
            raise ValueError("is not a tf.train.Example")
        if after > end:
            raise ValueError("is not a whole tf.train.Example")
        yield key >> 3, at, after
        at = after


def _varint(record: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of a few bytes, and where it ends."""
    found = 0
    for place in range(at, min(end, at + _LONGEST_VARINT)):
        found |= (record[place] & 0x7F) << 7 * (place - at)
        if record[place] < 0x80:
            return found, place + 1
    raise ValueError("is not a whole tf.train.Example")
