"""Archives that a stranger may have made, read so that a small file does not become a large memory.

The data of the members of a `.keras` file are stored as they are, or shrink to a twentieth at best; those of a bomb shrink to a thousandth.
"""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_TIMES = 100  # that a member may be larger than what is stored of it
FREE = 1_000_000  # bytes that are no bomb, whatever they came from


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member.

    Raises:
        KeyError: there is none of that name.
        ValueError: it says that it is much larger than what is stored of it.
    """
    about = archive.getinfo(name)
    if about.file_size > MOST_TIMES * about.compress_size + FREE:  # zipfile reads no more than that size
        raise ValueError(f"{name} in it is {about.file_size:,} bytes packed into {about.compress_size:,}")
    return archive.read(name)


@contextmanager
def open_arrays(path: Path) -> "Iterator[Mapping[str, NDArray[Any]]]":
    """The arrays of a file that `numpy.savez` wrote.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: it is none, or holds arrays that are packed, which `savez` does not do, or that do not fit
            into the memory.
    """
    import numpy as np

    content = BytesIO(path.read_bytes())  # of a damaged file by its path, NumPy leaves it open
    with zipfile.ZipFile(content) as archive:
        if any(about.compress_type != zipfile.ZIP_STORED for about in archive.infolist()):
            raise ValueError("its arrays are packed")
    content.seek(0)
    with np.load(content) as found:
        try:
            yield found
        except MemoryError as error:
            raise ValueError("it says of an array that it is larger than the memory") from error
