"""The cells of a table file, as text: CSV in the ways that programs write it, and Parquet. What its columns mean is for `table` to say."""

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

from tl_keras.data.regular import open_regular
from tl_keras.errors import DataError, first_line

DELIMITERS = (",", ";", "\t")  # of those that the first line holds equally often, the first
INSTALL_PARQUET = "pip install pyarrow"


@dataclass(frozen=True)
class Cells:
    """Some columns of a table.

    Attributes:
        columns: name -> the text of each row, without blanks around it; '' for an empty cell.
        places: where each row is, to be told, such as "line 7".
    """

    columns: dict[str, list[str]]
    places: list[str]


@dataclass(frozen=True)
class TableKind:
    """How a kind of table is read; both functions raise DataError for a file that is damaged, or of another kind.

    Attributes:
        names: the names of the columns.
        cells: the cells of some columns, each of which is there once, and which of them hold numbers, which may be fractions.
    """

    names: Callable[[Path], list[str]]
    cells: Callable[[Path, Sequence[str], Collection[str]], Cells]


def csv_names(path: Path) -> list[str]:
    """The names in the first line of a CSV file."""
    with _opened(path) as file:
        return _header(path, file)[0]


def csv_cells(path: Path, wanted: Sequence[str], numbers: Collection[str] = ()) -> Cells:
    """Some columns of a CSV file, all of them text; blank lines are passed over."""
    wanted = list(dict.fromkeys(wanted))  # a column may have two roles
    columns: dict[str, list[str]] = {name: [] for name in wanted}
    places: list[str] = []
    with _opened(path) as file:
        names, delimiter, above = _header(path, file)
        places_of = [names.index(name) for name in wanted]
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            place = f"line {above + reader.line_num}"
            if len(row) != len(names):
                raise DataError(
                    f"{path}: {place} has {_cells(len(row))}, and the first line {_cells(len(names))}. "
                    f"Cells that hold {delimiter!r} need quotes."
                )
            places.append(place)
            for name, number in zip(wanted, places_of, strict=True):
                columns[name].append(row[number].strip())
    return Cells(columns, places)


def _cells(number: int) -> str:
    return f"{number} cell{'s' * (number != 1)}"


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with TextIOWrapper(BufferedReader(cast(Any, open_regular(path))), encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8. Save it as UTF-8; in Excel, as 'CSV UTF-8'.") from error
    except csv.Error as error:
        raise DataError(f"{path}: is not a CSV file, or a quote in it is not closed ({first_line(error)}). Mend that line.") from error


def _header(path: Path, file: TextIO) -> tuple[list[str], str, int]:
    """The names of the columns, what divides cells, and the number of lines that this took."""
    for above, line in enumerate(file, 1):
        if line.strip():
            delimiter = max(DELIMITERS, key=lambda each: len(next(csv.reader([line], delimiter=each))))
            return [name.strip() for name in next(csv.reader([line], delimiter=delimiter))], delimiter, above
    raise DataError(f"{path}: is empty. The first line names the columns: path,label.")


def parquet_names(path: Path) -> list[str]:
    """The names of the columns of a Parquet file."""
    with _parquet(path) as file:
        return list(file.schema_arrow.names)


def parquet_cells(path: Path, wanted: Sequence[str], numbers: Collection[str] = ()) -> Cells:
    """Some columns of a Parquet file, of text or whole numbers; fractions only where numbers are wanted."""
    with _parquet(path) as file:
        for name in wanted:
            if not (name in numbers and _is_fraction(file.schema_arrow.field(name).type)):
                _require_text(path, name, file.schema_arrow.field(name).type)
        found = file.read(columns=list(wanted)).to_pydict()
    columns = {name: ["" if value is None else str(value).strip() for value in found[name]] for name in wanted}
    return Cells(columns, [f"row {number + 1}" for number in range(file.metadata.num_rows)])


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: a Parquet file is read by pyarrow. Install it: {INSTALL_PARQUET}. Or save the table as CSV.") from error
    try:
        with open_regular(path) as file:
            yield parquet.ParquetFile(BufferedReader(cast(Any, file)))
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; Arrow's have none
            raise
        raise DataError(f"{path}: is not a Parquet file, or is damaged ({first_line(error)}). Write it again.") from error


def _is_fraction(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_floating(kind) or types.is_decimal(kind))


def _require_text(path: Path, name: str, kind: Any) -> None:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_boolean(kind)):
        raise DataError(
            f"{path}: column '{name}' holds {str(kind)[:60]}, expected text or whole numbers. "
            "Images inside of the table are not read: write them to files, and their paths into the table."
        )


KINDS: dict[str, TableKind] = {
    ".csv": TableKind(csv_names, csv_cells),
    ".tsv": TableKind(csv_names, csv_cells),
    ".parquet": TableKind(parquet_names, parquet_cells),
}
