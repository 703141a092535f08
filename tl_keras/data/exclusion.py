"""`data.exclude`: images that training leaves out, such as those that `check` suspects."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.index import Index
from tl_keras.errors import DataError
from tl_keras.run_folder import DAMAGED, open_text, read_csv

PATH = "path"


def excluded(index: Index, file: str | None) -> NDArray[np.bool_]:
    """Which images of an index a list names, bool (n,); none without a list.

    Raises:
        DataError: the list cannot be read, or has no column 'path'.
    """
    if file is None:
        return np.zeros(len(index.paths), bool)
    names = set(read_list(Path(file).expanduser()))
    return np.fromiter((path in names for path in index.paths), bool, len(index.paths))


def read_list(file: Path) -> list[str]:
    """The paths in a list: a CSV file with a column 'path', relative to the data folder.

    Raises:
        DataError: see `excluded`.
    """
    try:
        with open_text(file) as opened:
            lines = read_csv(opened)
            header = [name.removeprefix("\ufeff") for name in next(lines, [])]
            if PATH not in header:
                raise DataError(f"data.exclude: {file} has no column '{PATH}' (its first line is {','.join(header) or 'empty'}).")
            place = header.index(PATH)
            return [line[place] for line in lines if len(line) > place]
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"data.exclude: {file} cannot be read ({reason}). Give a CSV file with a column '{PATH}'.") from error
