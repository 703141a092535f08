"""ArrayRecord files: by the package, which may be missing; what is damaged is told."""

import pytest

from tl_keras.data.read_at import PlacedFile
from tl_keras.data.shards import array_record
from tl_keras.errors import DataError


def test_the_package_is_asked_for_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(array_record, "is_installed", lambda package: False)
    with pytest.raises(DataError, match=r"x: to read ArrayRecord files: pip install array-record"):
        array_record.open_records(str(tmp_path / "x"))


def test_records_without_images_and_damage_are_told(tmp_path, example):
    module = pytest.importorskip("array_record.python.array_record_module")
    path = tmp_path / "x.array_record"
    writer = module.ArrayRecordWriter(str(path), "group_size:1")
    writer.write(example({"image": b"1", "label": 2}))
    writer.write(example({"label": 2}))
    writer.close()
    with pytest.raises(ValueError, match="record 1 has no image"):
        list(array_record.array_record_samples(PlacedFile(str(path)), path.stat().st_size))
    with pytest.raises(OSError, match="has no image"):
        array_record.open_image(array_record.open_records(str(path)), 1, "x/1.jpg")
    whole = path.read_bytes()
    for damaged in (b"no such file" * 10_000, b"", whole[:-10], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is not an ArrayRecord file, or is damaged"):
            array_record.open_records(str(path))
