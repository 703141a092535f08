"""Archives of made files, and what reading them comes to."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tl_keras.data import archives
from tl_keras.data.regular import open_regular
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
