"""What an adaptation keeps among the checkpoints of a run, for its end and for `--resume`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.errors import DataError
from tl_keras.models.zip_members import open_arrays
from tl_keras.run_folder import ADAPTATION, CHECKPOINTS, read_json, reading, write_atomically
from tl_keras.transfer.adapt.plane import Plane
from tl_keras.transfer.adapt.statistics import Statistics
from tl_keras.transfer.adapt.target import Target
from tl_keras.transfer.checkpoints import AGAIN
from tl_keras.transfer.task import Task

ON_TARGET = "target.npz"  # what the head that is kept and the one that was not adapted say of the target
OF_TARGET = "statistics.npz"  # the BatchNorm statistics of the target, where the head is for those
OF_SOURCE = "source_statistics.npz"  # and those of the source, where the network is trained
PLANES = "planes.npz"  # both domains in a plane, before and after
ON_IMAGES = "images"  # in ON_TARGET: which images the answers are for; no method has this name


def read_adaptation(task: Task) -> dict[str, Any]:
    """What `adaptation.json` holds."""
    return read_json(task.run / ADAPTATION, "the record of an adaptation", AGAIN)


def write_answers(task: Task, answers: Mapping[str, NDArray[np.floating]]) -> None:
    """Keep probabilities (m, k) for the target, by method."""
    arrays = {**answers, ON_IMAGES: np.array(task.the_target.known_by)}
    write_atomically(task.run / CHECKPOINTS / ON_TARGET, partial(_savez, arrays))


def write_statistics_of(task: Task, name: str, statistics: Statistics) -> None:
    """Keep the BatchNorm statistics of a domain: `OF_SOURCE` or `OF_TARGET`."""
    named = {f"{place:04}": values for place, values in enumerate(statistics)}
    write_atomically(task.run / CHECKPOINTS / name, partial(_savez, named))


def read_statistics_of(task: Task, name: str) -> Statistics | None:
    """The BatchNorm statistics of a domain; None where none were kept."""
    path = task.run / CHECKPOINTS / name
    if not path.is_file():
        return None
    with reading(path, "BatchNorm statistics", AGAIN), open_arrays(path) as found:
        return [found[each] for each in found]


def write_planes(task: Task, planes: Mapping[str, Plane]) -> None:
    """Keep both domains in a plane, by the method whose head sees them there."""
    parts = {f"{name} {part}": values for name, plane in planes.items() for part, values in vars(plane).items()}
    write_atomically(task.run / CHECKPOINTS / PLANES, partial(_savez, parts))


def read_planes(task: Task) -> dict[str, Plane]:
    """What `write_planes` kept.

    Raises:
        UserError: the file is gone or damaged.
    """
    path = task.run / CHECKPOINTS / PLANES
    with reading(path, "the domains in a plane", AGAIN), open_arrays(path) as found:
        parts = {tuple(name.split()): found[name] for name in found}
    methods = dict.fromkeys(method for method, _ in parts)
    return {method: Plane(**{part: values for (own, part), values in parts.items() if own == method}) for method in methods}


def _savez(arrays: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:  # of a path it would make another name
        np.savez(file, **arrays)


def read_answers(task: Task, target: Target) -> dict[str, Any]:
    """Probabilities (m, k) for the target of the head that is kept and of the one that was not adapted, by their methods.

    Raises:
        DataError: the images are no longer those that the answers are for.
        UserError: the file is gone or damaged.
    """
    path = task.run / CHECKPOINTS / ON_TARGET
    with reading(path, "the answers for the target", AGAIN), open_arrays(path) as found:
        said = {name: found[name] for name in found}
    if str(said.pop(ON_IMAGES)) != target.known_by:
        raise DataError(
            f"{target.index.root}: the images of the target are not those that this run was adapted to. Put them back, or start a new run."
        )
    return said
