"""tf.train.Example read by hand is what protocol buffers read, and nothing breaks it but a ValueError."""

import numpy as np
import pytest

from tl_keras.data.shards.example import read_example

IMAGE = b"\x89PNG\r\n\x1a\n and so on"


@pytest.mark.parametrize(
    ("features", "label"),
    [
        ({"image/encoded": IMAGE, "image/class/text": b"cat", "image/class/label": 3}, "3\tcat"),
        ({"image/encoded": IMAGE, "image/class/text": b"cat", "image/class/label": -1}, "cat"),
        ({"image/encoded": IMAGE, "image/class/label": 3, "label": b"cat"}, "3\tcat"),
        ({"image/encoded": IMAGE, "image/class/text": b"cat"}, "cat"),
        ({"image/class/label": 300, "image/encoded": IMAGE, "image/class/text": b""}, "300"),
        ({"image": IMAGE, "label": 0}, "0"),
        ({"label": "größe".encode(), "image": IMAGE}, "größe"),
        ({"image": IMAGE, "label": -1}, None),
    ],
)
def test_the_image_and_its_label_are_found(example, features, label):
    record = example(features)
    found = read_example(record)
    assert (record[found.start : found.end], found.label) == (IMAGE, label)


def test_a_record_is_read_as_tensorflow_writes_it():
    import tensorflow as tf

    bytes_of = lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))  # noqa: E731
    features = {
        "image/height": tf.train.Feature(int64_list=tf.train.Int64List(value=[32])),
        "image/scale": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, 2])),
        "image/encoded": bytes_of(IMAGE),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[2**40, 1])),
        "image/nothing": tf.train.Feature(),
    }
    record = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    found = read_example(record)
    assert (record[found.start : found.end], found.label) == (IMAGE, str(2**40))


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"label": 1, "x": b""}, r"has no image: .* \(it has label, x\)"),
        ({"image": 3, "label": 1}, "has no image"),
        ({"image": IMAGE}, r"has no label: none of the features .* \(it has image\)"),
        ({"image": IMAGE, "label": b"\xff"}, "utf-8"),
        ({"image": IMAGE, "label": b"a\nb"}, "not the name or number of a class"),
    ],
)
def test_what_is_missing_is_told(example, features, said):
    with pytest.raises(ValueError, match=said):
        read_example(example(features))


def test_no_damage_is_more_than_a_value_error(example):
    record = example({"image/encoded": IMAGE, "image/class/text": b"cat", "image/class/label": 3})
    draws = np.random.default_rng(0)
    for number in range(2000):
        damaged = bytearray(record[: draws.integers(len(record))] if number % 2 else record)
        for place in draws.integers(len(record), size=3):
            if place < len(damaged):
                damaged[place] = draws.integers(256)
        try:
            found = read_example(bytes(damaged))
        except ValueError:
            continue
        assert 0 <= found.start <= found.end <= len(damaged)
