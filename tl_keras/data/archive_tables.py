"""The tables of contents of zip and tar archives: which files there are, and where each lies.

An archive may come from a stranger. What cannot be read in place (encrypted files, methods other than deflate), and what only
an attack looks like (files that share bytes, headers that lead back), is refused here as a whole; names are looked at by `archives`.
"""

import io
import os
import posixpath
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tl_keras.data.archive_file import DEFLATED, NO_CHECKSUM, PLAIN, STORED, Member
from tl_keras.errors import DataError, first_line

_FORMS = {zipfile.ZIP_STORED: STORED, zipfile.ZIP_DEFLATED: DEFLATED}
_ENCRYPTED = 0x1  # a bit of a member's flags
_SAYS_UTF_8 = 0x800
_MADE_ON_DOS = 0  # where names are divided by backslashes, whatever the standard says
_LOCAL_HEADER_BYTES = 30
_LARGEST_NUMBER = 2**63 - 1  # bytes of any file on this planet; a zip archive may write more
_TAR_BLOCK = 512
_LONGEST_HEADER = 2**20  # bytes of one header in a tar archive; a lying one would have the whole archive read into memory
_MOST_LINKS = 8  # one after the other
_BROKEN = (  # what `zipfile` and `tarfile` raise on damaged archives
    zipfile.BadZipFile,
    tarfile.TarError,
    struct.error,
    NotImplementedError,
    ValueError,
    EOFError,
    LookupError,
    OverflowError,
    RecursionError,
    MemoryError,
    OSError,
)


class Listed(NamedTuple):
    """A line of a table of contents.

    Attributes:
        name: as the archive writes it.
        member: where the file lies; None for a folder.
        trouble: why a file cannot be opened; '' where it can be.
    """

    name: str
    member: Member | None
    trouble: str = ""


NOWHERE = Member(0, 0, 0, NO_CHECKSUM, PLAIN)  # of a file that cannot be opened

Table = Callable[[str, int], Iterator[Listed]]


def zip_table(path: str, descriptor: int) -> Iterator[Listed]:
    """The files and folders of a zip archive.

    Args:
        path: what errors call it.
        descriptor: of the open archive; it stays open.

    Raises:
        DataError: it is damaged or none, encrypted, compressed by other methods, or its files share bytes.
    """
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file, zipfile.ZipFile(file) as opened:
            infos = opened.infolist()
    except _BROKEN as error:
        raise _not_whole(path, "zip", error) from error
    _refuse_shared_bytes(path, infos)
    for info in infos:
        name = _name_of(info)
        yield Listed(name, None) if name.endswith("/") else _zipped(path, name, info)


def _name_of(info: zipfile.ZipInfo) -> str:
    """The name of a file. Many programs write UTF-8 without setting the flag for it, and Python decodes such names as code page 437."""
    name = info.filename.replace("\\", "/") if info.create_system == _MADE_ON_DOS else info.filename
    if info.flag_bits & _SAYS_UTF_8:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _zipped(path: str, name: str, info: zipfile.ZipInfo) -> Listed:
    if max(info.header_offset, info.compress_size, info.file_size) > _LARGEST_NUMBER:
        raise _not_whole(path, "zip", ValueError(f"{name!a} has {info.file_size:,} bytes"))
    if info.flag_bits & _ENCRYPTED:
        raise DataError(f"{path}: holds {name!a}, which is encrypted. Write the archive again without a password.")
    if info.compress_type not in _FORMS:
        method = zipfile.compressor_names.get(info.compress_type, f"method {info.compress_type}")  # type: ignore[attr-defined]
        raise DataError(
            f"{path}: holds {name!a}, which is compressed by {method}; files that are stored or deflated are read. "
            "Unpack it, and pack it again with zip -r."
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        return Listed(name, NOWHERE, "a symbolic link, which is not followed in a zip archive")
    return Listed(name, Member(info.header_offset, info.compress_size, info.file_size, info.CRC, _FORMS[info.compress_type]))


def _refuse_shared_bytes(path: str, infos: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive of which some bytes belong to several files: a few megabytes of those may inflate to a petabyte."""
    end = 0
    for start, packed, name in sorted((info.header_offset, info.compress_size, info.filename) for info in infos):
        if start < end:
            raise DataError(f"{path}: its file {name!a} shares bytes with another one, as in a zip bomb. Write the archive again.")
        end = start + _LOCAL_HEADER_BYTES + packed


def tar_table(path: str, descriptor: int) -> Iterator[Listed]:
    """The files and folders of a tar archive without compression; a link stands for the file of the archive that it leads to.

    Args:
        path: what errors call it.
        descriptor: of the open archive, at its beginning; it stays open.

    Raises:
        DataError: it is damaged, cut short, compressed or none.
    """
    files: dict[str, Member] = {}
    links: dict[str, tuple[str, str]] = {}
    try:
        for info in _tar_headers(descriptor):
            if info.issym() or info.islnk():
                links[posixpath.normpath(info.name)] = info.name, _link_target(info)
            elif info.isdir():
                yield Listed(info.name, None)
            elif info.isreg() and not info.issparse():
                member = Member(info.offset_data, info.size, info.size, NO_CHECKSUM, PLAIN)
                files[posixpath.normpath(info.name)] = member
                yield Listed(info.name, member)
            else:
                yield Listed(info.name, NOWHERE, "a sparse file, which is not read" if info.issparse() else "a FIFO or device")
    except _BROKEN as error:
        raise _not_whole(path, "plain tar", error) from error
    targets = {name: target for name, (_, target) in links.items()}
    for name, target in links.values():
        found = _follow(target, files, targets)
        yield Listed(name, found or NOWHERE, "" if found else f"a link to {target!a}, which is not a file in the archive")


def _tar_headers(descriptor: int) -> Iterator[tarfile.TarInfo]:
    with _Headers(os.dup(descriptor)) as file, tarfile.open(fileobj=file, mode="r:") as opened:
        before = -1
        while (info := opened.next()) is not None:
            if opened.offset <= before:
                raise tarfile.ReadError("a header leads back")
            before = opened.offset
            opened.members.clear()  # type: ignore[attr-defined]  # a kilobyte each
            yield info
        file.seek(opened.offset)
        rest = file.read(_LONGEST_HEADER)
        if rest[:_TAR_BLOCK] != bytes(_TAR_BLOCK):  # `next` takes any damage behind the first header for the end
            raise tarfile.ReadError(f"no header and no end at byte {opened.offset:,}")
        if rest.strip(b"\0"):
            raise tarfile.ReadError(f"more behind its end at byte {opened.offset:,}, as in several archives in one file")


class _Headers(io.FileIO):
    """A tar archive of which headers alone are read."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Some bytes, as many as a header may have."""
        if size is None or not 0 <= size <= _LONGEST_HEADER:
            raise ValueError("a header is too long")
        return super().read(size) or b""


def _link_target(info: tarfile.TarInfo) -> str:
    """The name that a link leads to; that of a symbolic one is relative to its folder."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(info.name), info.linkname) if info.issym() else info.linkname)


def _follow(name: str, files: dict[str, Member], links: dict[str, str]) -> Member | None:
    for _ in range(_MOST_LINKS):
        if name in files:
            return files[name]
        name = links.get(name, "")
    return None


def _not_whole(path: str, kind: str, error: BaseException) -> DataError:
    return DataError(f"{path}: is not a {kind} archive, or is damaged ({first_line(error)}). Copy or download it again.")
