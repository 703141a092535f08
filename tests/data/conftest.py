"""Archives and shards of made files, and what reading them comes to."""

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tl_keras.data import archives
from tl_keras.data.regular import open_regular
from tl_keras.data.shards.tfrecord import masked_crc32c
from tl_keras.errors import DataError


def _write_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _write_tar(path: Path, files: Mapping[str, Any], form: int = tarfile.GNU_FORMAT) -> None:
    with tarfile.open(path, "w:", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)


@pytest.fixture(scope="session")
def pack() -> Callable[..., Path]:
    """`pack(path, files, **how)` writes a zip or tar archive, as the ending says.

    Files are name -> bytes; in a tar also name -> (type, target), for a link. `how` is the `method` of a zip, the `form` of a tar.
    """

    def write(path: Path, files: Mapping[str, Any], **how: int) -> Path:
        (_write_zip if path.suffix == ".zip" else _write_tar)(path, files, **how)
        return path

    return write


@pytest.fixture(scope="session")
def read() -> Callable[[Path], bytes]:
    """All bytes of a file, wherever it lies."""

    def read_all(path: Path) -> bytes:
        with open_regular(path) as file:
            return file.read()

    return read_all


@pytest.fixture(scope="session")
def reason(read: Callable[[Path], bytes]) -> Callable[[Path], str]:
    """Why a file cannot be read."""

    def reason_of(path: Path) -> str:
        with pytest.raises(OSError, match=r".") as caught:
            read(path)
        assert str(path).startswith(str(caught.value.filename))
        return str(caught.value.strerror)

    return reason_of


@pytest.fixture(scope="session")
def refusal() -> Callable[[Path], str]:
    """What is said of an archive as a whole."""

    def refusal_of(path: Path) -> str:
        with pytest.raises(DataError) as caught:
            archives.opened(str(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refusal_of


def _varint(number: int) -> bytes:
    found = bytearray()
    number %= 2**64
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


@pytest.fixture(scope="session")
def example() -> Callable[[Mapping[str, bytes | int]], bytes]:
    """A `tf.train.Example` of features with one value each, as protocol buffers write it."""

    def encoded(features: Mapping[str, bytes | int]) -> bytes:
        entries = b""
        for name, value in features.items():
            listed = _field(1, _field(1, value)) if isinstance(value, bytes) else _field(3, _field(1, _varint(value)))
            entries += _field(1, _field(1, name.encode()) + _field(2, listed))
        return _field(1, entries)

    return encoded


@pytest.fixture(scope="session")
def tfrecord() -> Callable[[Path, Iterable[bytes]], Path]:
    """`tfrecord(path, records)` writes a TFRecord file."""

    def write(path: Path, records: Iterable[bytes]) -> Path:
        with path.open("wb") as file:
            for record in records:
                length = struct.pack("<Q", len(record))
                file.write(length + struct.pack("<I", masked_crc32c(length)) + record + struct.pack("<I", masked_crc32c(record)))
        return path

    return write


@pytest.fixture
def shards(pack, example, tfrecord) -> Callable[..., Path]:
    """`shards(kind, folder, photos, per_shard)` writes the images of split folders of class folders as shards, the classes mixed.

    Kinds are 'cls', 'json' and 'folders', of which tars are made, 'tfrecord' and 'array_record'.
    """

    def write(kind: str, folder: Path, photos: Path, per_shard: int = 5) -> Path:
        folder.mkdir()
        for split in sorted(path.name for path in photos.iterdir()):
            files = sorted((photos / split).glob("*/*"), key=lambda file: (file.name, file.parent.name))
            for number, start in enumerate(range(0, len(files), per_shard)):
                _write_shard(kind, folder, f"{split}-{number:03d}", files[start : start + per_shard])
        return folder

    def _write_shard(kind: str, folder: Path, stem: str, files: list[Path]) -> None:
        if kind in ("tfrecord", "array_record"):
            names = [file.parent.name for file in files]
            records = [
                example({"image/encoded": file.read_bytes(), "image/class/text": name.encode(), "image/class/label": ord(name[0])})
                for file, name in zip(files, names, strict=True)
            ]
            if kind == "tfrecord":
                tfrecord(folder / f"{stem}.tfrecord", records)
                return
            writer = pytest.importorskip("array_record.python.array_record_module").ArrayRecordWriter(
                str(folder / f"{stem}.array_record"), "group_size:2"
            )
            for record in records:
                writer.write(record)
            writer.close()
            return
        members: dict[str, bytes] = {}
        for number, file in enumerate(files):
            label = file.parent.name
            key = f"{label}/{number:03d}" if kind == "folders" else f"{number:03d}"
            members[f"{key}{file.suffix}"] = file.read_bytes()
            if kind != "folders":
                members[f"{key}.{kind}"] = label.encode() if kind == "cls" else json.dumps({"label": label, "url": "x"}).encode()
        pack(folder / f"{stem}.tar", members)

    return write
