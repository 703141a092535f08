"""TFRecord files: records where TensorFlow finds them, and damage told in a line."""

import gzip
import zlib

import pytest

from tl_keras.data.read_at import PlacedFile
from tl_keras.data.shards.tfrecord import masked_crc32c, tfrecord_samples

IMAGE = b"\xff\xd8\xff and so on"


def samples(path):
    return list(tfrecord_samples(PlacedFile(str(path)), path.stat().st_size))


def test_checksums_are_those_of_the_standard():
    assert masked_crc32c(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) % 2**32  # RFC 3720 has more


def test_images_are_where_they_are_said_to_be(tmp_path, example, tfrecord):
    path = tfrecord(tmp_path / "x.tfrecord", [example({"image": IMAGE + bytes([number]), "label": number}) for number in range(3)])
    found = samples(path)
    assert [(each.name, each.label) for each in found] == [(f"{number:08d}.jpeg", str(number)) for number in range(3)]
    for number, each in enumerate(found):
        assert path.read_bytes()[each.start : each.start + each.size] == each.image == IMAGE + bytes([number])


def test_a_file_of_tensorflow_is_read(tmp_path, example):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "x")) as writer:
        for number in range(2):
            writer.write(example({"image": IMAGE, "label": number}))
    assert [each.label for each in samples(tmp_path / "x")] == ["0", "1"]


def test_damage_is_told(tmp_path, example, tfrecord):
    record = example({"image": IMAGE, "label": 1})
    path = tfrecord(tmp_path / "x.tfrecord", [record, record])
    whole = path.read_bytes()

    def told(content):
        path.write_bytes(content)
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            samples(path)
        return str(caught.value)

    second = len(whole) // 2
    assert told(whole[:-1]) == f"it ends within the record at byte {second}"
    assert told(whole[: second + 5]) == f"it ends within the record at byte {second}"
    assert told(bytes([whole[0] ^ 1]) + whole[1:]) == "the checksum at byte 0 is wrong"
    assert told(gzip.compress(whole)) == told(zlib.compress(whole)) == "it is compressed as a whole: unpack it, as with gunzip"
    tfrecord(path, [record, b"\xff" * 20])
    assert told(path.read_bytes()).startswith("record 1 is not a")
