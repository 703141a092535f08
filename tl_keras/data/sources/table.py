"""From a table of paths and labels to an `Index`: a CSV, TSV or Parquet file with a row for each image.

Paths are relative to the table's folder, or to `data.image_folder`, or absolute. A table may lie in an archive, and list what is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import TABLE_SUFFIXES, DataConfig
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.label_texts import PROBABILITY, finite
from tl_keras.data.layouts import SPLIT_FOLDERS
from tl_keras.data.places import is_file, is_folder
from tl_keras.data.sources.source import path_of
from tl_keras.data.sources.table_columns import choose_columns, columns_note
from tl_keras.data.sources.table_file import KINDS
from tl_keras.data.sources.table_labels import Found, LabelCells, read_labels
from tl_keras.data.sources.table_paths import below_one_folder, find_files
from tl_keras.data.sources.table_shares import ShareCells, read_shares
from tl_keras.errors import ConfigError, DataError
from tl_keras.models.outputs import SINGLE_LABEL, Output
from tl_keras.tasks import MULTI_LABEL, REGRESSION

NO_NUMBER = {"", "nan", "na", "n/a", "null", "none"}  # cells of a column of numbers that hold none


@dataclass(frozen=True)
class Rows:
    """The rows of a table.

    Attributes:
        table: the file.
        folder: where its relative paths begin.
        columns: what a column says -> its name; see `choose_columns`.
        values: the same -> the text of each row.
        places: where each row is, such as "line 7".
        note: which columns were read, one line.
    """

    table: Path
    folder: Path
    columns: dict[str, str]
    values: dict[str, list[str]]
    places: list[str]
    note: str


def is_table(source: str) -> bool:
    """Whether a `data.source` is a table."""
    return source.lower().endswith(TABLE_SUFFIXES) and is_file(path_of(source))


def check_table(config: DataConfig) -> None:
    """Refuse a table that cannot be read; no more than the names of its columns are looked at.

    Raises:
        DataError: it is damaged, empty, or not a table.
    """
    table = path_of(config.source)
    KINDS[table.suffix.lower()].names(table)


def check_rows(config: DataConfig) -> None:
    """Refuse a table that cannot be trained on.

    Raises:
        UserError: as `scan_table`.
    """
    scan_table(config)


def table_root(config: DataConfig) -> Path:
    """The folder that the paths of the index are relative to; whether the images are there is not looked at."""
    return _paths_of(_read_rows(config))[0]


def scan_table(config: DataConfig) -> Index:
    """Find the images that a table lists.

    Raises:
        ConfigError: it says the groups, and so does `group_pattern`.
        DataError: cells are empty, images are not there, labels are not what `data.task` says (see `table_labels`), or a split has
            another name.
    """
    rows = _read_rows(config)
    if config.group_pattern is not None and "group" in rows.values:
        raise ConfigError(f"data.group_pattern: {rows.table} says the group of each image already. Remove one of the two.")
    index = _index(rows, _labels(rows, config))
    if index.given is not None and "train" not in index.given:
        raise DataError(f"{rows.table}: no row has the split 'train'. Add some; or rename the column, and splits are cut.")
    return index


def scan_known_table(config: DataConfig, classes: Sequence[str]) -> Index:
    """Find the images that a table lists for a model that knows its classes already; see `open_labelled`.

    What the settings of a run say of its own table counts as far as this one has such columns, and such a folder beside it.
    """
    rows = _read_rows(_as_far_as_there(config), of_run=True)
    index = _index(rows, _labels(rows, config, classes))
    if "test" in (index.given or ()):
        index = index.take(np.flatnonzero(np.fromiter(index.given or (), "<U5", len(index.paths)) == "test"))
    return replace(index, given=None, notes=(rows.note,))


def _as_far_as_there(config: DataConfig) -> DataConfig:
    table = path_of(config.source)
    names = KINDS[table.suffix.lower()].names(table)
    said = (config.columns or {}).items()
    columns = {role: each for role, each in said if set([each] if isinstance(each, str) else each) <= set(names)}
    beside = config.image_folder is not None and is_folder(table.parent / Path(config.image_folder).expanduser())
    return config.replace("columns", columns).replace("image_folder", config.image_folder if beside else None)


def paths_named(config: DataConfig) -> list[str]:
    """The paths of the images as a table has them; what the settings say of columns counts as far as it has such columns.

    Raises:
        DataError: it cannot be read, or cells are empty.
    """
    return _read_rows(_as_far_as_there(config.replace("image_folder", None))).values["path"]


def _read_rows(config: DataConfig, *, of_run: bool = False) -> Rows:
    """The rows of the table that `data.source` names, in which no value is missing that is used.

    Raises:
        DataError: there are none, values are missing, or the folder of the images is not there.
    """
    table = path_of(config.source)
    kind = KINDS[table.suffix.lower()]
    names = kind.names(table)
    chosen = choose_columns(table, names, config.columns or {}, config.task, of_run=of_run)
    cells = kind.cells(table, list(chosen.values()), [name for role, name in chosen.items() if _is_number(role, config.task)])
    if not cells.places:
        raise DataError(f"{table}: has no rows below the names of its columns. Add one for each image.")
    rows = Rows(
        table,
        _image_folder(config),
        chosen,
        {role: cells.columns[name] for role, name in chosen.items()},
        cells.places,
        columns_note(table, names, chosen),
    )
    return _without_missing(rows, config)


def _without_missing(rows: Rows, config: DataConfig) -> Rows:
    """The rows in which no value is missing; an image without any class has an empty cell where it may have several.

    Raises:
        DataError: values are missing where `data.missing_values` forbids it, or in every row.
    """
    whole = np.ones(len(rows.places), bool)
    for role, texts in rows.values.items():
        if role == "label" and config.task == MULTI_LABEL:
            continue
        nothing = NO_NUMBER if role != "weight" and _is_number(role, config.task) else {""}
        missing = np.array([text.lower() in nothing for text in texts])
        if missing.any() and config.missing_values == "error":
            first = int(np.flatnonzero(missing)[0])
            have = f"{missing.sum()} row{'s have' if missing.sum() > 1 else ' has'}"
            raise DataError(
                f"{rows.table}: {have} nothing in the column '{rows.columns[role]}'; the first is {rows.places[first]}. "
                "Fill them in, remove the rows, or set data.missing_values=drop."
            )
        whole &= ~missing
    if whole.all():
        return rows
    if not whole.any():
        raise DataError(f"{rows.table}: a value is missing in every row. Fill them in.")
    kept = np.flatnonzero(whole).tolist()
    left_out = len(whole) - len(kept)
    return replace(
        rows,
        values={role: [texts[row] for row in kept] for role, texts in rows.values.items()},
        places=[rows.places[row] for row in kept],
        note=f"{rows.note}; {left_out} row{'s' * (left_out > 1)} with missing values left out",
    )


def _image_folder(config: DataConfig) -> Path:
    folder = path_of(config.source).parent
    if config.image_folder is not None:
        folder = folder / Path(config.image_folder).expanduser()  # that alone, where it is absolute
        if not is_folder(folder):
            raise DataError(f"{folder}: no such folder; data.image_folder names it, relative to the folder of the table.")
    return folder


def _is_number(role: str, task: str) -> bool:
    """Whether the cells of a column are numbers."""
    return role == "weight" or role.startswith(PROBABILITY) or (role == "label" and task == REGRESSION)


def _labels(rows: Rows, config: DataConfig, known: Sequence[str] | None = None) -> Found:
    """The labels of all rows, in its order; see `read_labels` for the argument."""
    if "label" in rows.values:
        cells = LabelCells(rows.table, rows.columns["label"], rows.values["label"], rows.places, config.label_separator)
        return read_labels(cells, config.task, known)
    roles = {role.removeprefix(PROBABILITY): role for role in rows.values if role.startswith(PROBABILITY)}
    columns = {name: rows.columns[role] for name, role in roles.items()}
    texts = {name: rows.values[role] for name, role in roles.items()}
    return read_shares(ShareCells(rows.table, columns, texts, rows.places, votes="label" in (config.columns or {})), known)


def _index(rows: Rows, found: Found) -> Index:
    """The index of all rows, in its order: by split, class and path."""
    root, paths = _paths_of(rows)
    index = Index(
        root=root,
        classes=found.classes,
        paths=_existing(rows, root, paths),
        labels=found.labels,
        shares=found.shares,
        output=found.output,
        groups=_optional(rows, "group"),
        domains=_optional(rows, "domain"),
        weights=_weights(rows, found.output),
    )
    given = _splits(rows)
    place = [0] * len(paths) if given is None else [SPLIT_NAMES.index(split) for split in given]
    by_class = found.labels if found.output == SINGLE_LABEL else np.zeros(len(paths), int)
    order = np.array(sorted(range(len(paths)), key=lambda row: (place[row], by_class[row], index.paths[row])))
    return replace(index.take(order), given=None if given is None else tuple(given[row] for row in order), notes=(rows.note, *found.notes))


def _optional(rows: Rows, role: str) -> tuple[str, ...] | None:
    return tuple(rows.values[role]) if role in rows.values else None


def _weights(rows: Rows, output: Output) -> NDArray[np.float32] | None:
    """How much each row counts, where the table says it.

    Raises:
        DataError: a weight is not a number above 0, or labels are numbers, which a solved head takes as they are.
    """
    if "weight" not in rows.values:
        return None
    name = rows.columns["weight"]
    if output.task == REGRESSION:
        raise DataError(f"{rows.table}: data.columns gives the column '{name}' for weight, which has no effect with data.task=regression.")
    weights = np.array([finite(text) for text in rows.values["weight"]], np.float32)
    unfit = np.flatnonzero(~(weights > 0))
    if len(unfit):
        row = int(unfit[0])
        raise DataError(
            f"{rows.table}: {rows.places[row]} has {rows.values['weight'][row]!r} in the column '{name}', expected a weight above 0. "
            "Change it; to leave the image out, remove the row."
        )
    return weights


def _splits(rows: Rows) -> list[str] | None:
    """The split of each row, where the table says it."""
    if "split" not in rows.values:
        return None
    found = [SPLIT_FOLDERS.get(text.lower(), "") for text in rows.values["split"]]
    if "" in found:
        row = found.index("")
        raise DataError(
            f"{rows.table}: {rows.places[row]} has the split {rows.values['split'][row]!r}, expected one of {', '.join(SPLIT_NAMES)}. "
            "Change it; or rename the column, and splits are cut."
        )
    return found


def _paths_of(rows: Rows) -> tuple[Path, list[str]]:
    try:
        return below_one_folder(rows.values["path"], rows.folder)
    except ValueError as error:
        raise DataError(f"{rows.table}: its images lie on several drives. Bring them to one.") from error


def _existing(rows: Rows, root: Path, paths: Sequence[str]) -> tuple[str, ...]:
    found = find_files(root, paths)
    missing = [row for row, path in enumerate(found) if path is None]
    if missing:
        row, are = missing[0], "is" if len(missing) == 1 else "are"
        raise DataError(
            f"{rows.table}: of {len(paths)} images, {len(missing)} {are} not there; the first is {rows.values['path'][row]!r} "
            f"({rows.places[row]}), looked for at {str(root / paths[row])!r}. "
            "Put them there, or say with data.image_folder where the paths begin."
        )
    return tuple(path for path in found if path is not None)
