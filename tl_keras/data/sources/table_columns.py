"""Which column of a table says what: by the usual names, or as `data.columns` says."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

from tl_keras.config import Column
from tl_keras.data.label_texts import PROBABILITY
from tl_keras.data.sources.class_folders import class_name
from tl_keras.data.sources.source import NEAR
from tl_keras.errors import DataError
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS

USUAL: dict[str, frozenset[str]] = {  # what a column says -> its names, in lower case and without blanks, '_' and '-'
    "path": frozenset({"path", "file", "filename", "filepath", "image", "imagepath"}),
    "label": frozenset({"label", "class", "category", "target", "species"}),
    "split": frozenset({"split", "subset"}),
    "group": frozenset({"group"}),
    "domain": frozenset({"domain"}),
    "weight": frozenset(),  # only where `data.columns` says so: many tables have the weight of an animal
}
USUAL_FOR_TASK = {  # further names of the label
    MULTI_LABEL: frozenset({"classes", "labels", "categories", "tags"}),
    REGRESSION: frozenset({"value", "number", "score"}),
}
NEEDED = ("path", "label")


def choose_columns(
    table: Path, names: Sequence[str], said: Mapping[Column, str | tuple[str, ...]], task: str = SINGLE_LABEL, *, of_run: bool = False
) -> dict[str, str]:
    """The column that says the path, the label and so on, as far as there is one.

    Soft labels have a column for each class: those that `said` lists, or, where no column is called like a label, those called p_CLASS.

    Args:
        names: of all columns.
        said: what `data.columns` says.
        task: what labels are.
        of_run: whether the settings are those of a run, which the user cannot change.

    Returns:
        What a column says -> its name; "path" is always there, and "label", or of soft labels p_CLASS for each class.

    Raises:
        DataError: there is none for the path, or the label; several may be; or one that was said is not there.
    """
    single = {role: name for role, name in said.items() if isinstance(name, str)}
    several = {name: role for role, each in said.items() if not isinstance(each, str) for name in each}
    for role, name in [*single.items(), *((role, name) for name, role in several.items())]:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=NEAR)
            hint = f"Did you mean '{near[0]}'?" if near else f"It has {_and(names)}."
            raise DataError(f"{table}: has no column '{name}', which data.columns gives for {role}. {hint}")
    chosen: dict[str, str] = {}
    shares = _columns_of_classes(table, names, single, several, task)
    for role in get_args(Column):
        if role == "label" and shares:
            continue
        taken = {*single.values(), *shares.values()}
        meant = [single[role]] if role in single else [name for name in names if name not in taken and _is_usual(name, role, task)]
        if meant and names.count(meant[0]) > 1:
            raise DataError(f"{table}: has several columns '{meant[0]}'. Rename all but the one that says the {role}.")
        if len(meant) > 1:
            mend = "Rename all but one of them." if of_run else _say(role, meant[0])
            raise DataError(f"{table}: several of its columns may be the {role} ({_and(meant)}). {mend}")
        if meant:
            chosen[role] = meant[0]
        elif role in NEEDED:
            usual = ", ".join(sorted(_usual(role, task)))
            none = f"{table}: none of its columns ({_and(names)}) is known to be the {role}; known are {usual}."
            if of_run:
                raise DataError(f"{none} Rename the one that is to '{role}'; the model was trained with data.task={task}.")
            other = _other_task(names) if role == "label" and task == SINGLE_LABEL else ""
            raise DataError(f"{none} {_say(role, 'NAME')} The first line of the table names the columns.{other}")
    return chosen | shares


def _columns_of_classes(
    table: Path, names: Sequence[str], single: Mapping[Column, str], several: Iterable[str], task: str
) -> dict[str, str]:
    """Of soft labels p_CLASS for each class -> the name of its column, which may be that or CLASS; none where labels are not soft.

    Args:
        single: what `data.columns` says of one column each.
        several: the list that it says is the label.
    """
    columns = list(several)
    if not columns and task == SINGLE_LABEL and "label" not in single and not any(_is_usual(name, "label", task) for name in names):
        columns = [name for name in names if name.startswith(PROBABILITY) and name not in single.values()]
        columns = columns if len(columns) > 1 else []
    begin = PROBABILITY if all(name.startswith(PROBABILITY) for name in columns) else ""
    found: dict[str, str] = {}
    for column in columns:
        role = f"{PROBABILITY}{class_name(column.removeprefix(begin))}"
        if role in found or names.count(column) > 1:
            raise DataError(f"{table}: has several columns for the class '{class_name(column.removeprefix(begin))}'. Rename all but one.")
        found[role] = column
    return found


def columns_note(table: Path, names: Sequence[str], chosen: Mapping[str, str]) -> str:
    """One line that says which columns are read, and which are not."""
    used = [name if name.lower() == role else f"{name} ({role})" for role, name in chosen.items() if not role.startswith(PROBABILITY)]
    shares = [name for role, name in chosen.items() if role.startswith(PROBABILITY)]
    if shares:
        used.append(f"{', '.join(shares)} (shares of the classes)")
    rest = [name or "one without a name" for name in names if name not in chosen.values()]
    return f"{table.name}: columns read: {', '.join(used)}" + (f"; not used: {', '.join(rest)}" if rest else "")


def _is_usual(name: str, role: str, task: str) -> bool:
    return "".join(letter for letter in name.lower() if letter not in " _-") in _usual(role, task)


def _usual(role: str, task: str) -> frozenset[str]:
    return USUAL[role] | USUAL_FOR_TASK.get(task, frozenset()) if role == "label" else USUAL[role]


def _other_task(names: Sequence[str]) -> str:
    """What to add where a column is called as labels of another task are, which nobody has asked for."""
    meant = ((name, task) for name in names for task in USUAL_FOR_TASK if _is_usual(name, "label", task))
    return next((f" If '{name}' holds {TASKS[task].labels} for each image, add --set data.task={task}." for name, task in meant), "")


def _say(role: str, name: str) -> str:
    return f"Say which is: --set data.columns='{{{role}: {name}}}'."


def _and(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
