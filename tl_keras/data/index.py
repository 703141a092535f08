"""A sample: a file, its label, its group, its content; all samples of a data set are an `Index`. Nothing is decoded here."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.file_ids import Ids, hash_files
from tl_keras.data.texts import Texts, packed
from tl_keras.data.walk import LeftOut
from tl_keras.errors import DataError
from tl_keras.models.outputs import SINGLE_LABEL, Labels, Output
from tl_keras.progress import Progress
from tl_keras.tasks import REGRESSION

SPLIT_NAMES = ("train", "val", "test")
UNLABELLED = -1


@dataclass(frozen=True, kw_only=True)
class Index:
    """The files of a data set, in a fixed order: by split, class and path; those of shards by split, shard and place.

    Paths, splits, groups and domains may be given as any sequences; they are kept packed, about 60 bytes a file in all.

    Attributes:
        root: the folder that `paths` are relative to.
        classes: names in Unicode's composed form (NFC), sorted; a label is a position in this tuple. In a regression, the name
            of the number.
        paths: POSIX paths relative to `root`, n of them.
        labels: of each image, as `output` says: int32 (n,), each in [0, len(classes)), or `UNLABELLED`; bool (n, len(classes)), which
            classes it has; or float32 (n,), its number.
        shares: float32 (n, len(classes)), soft labels: how much of each class an image is, >= 0 and of sum 1; `labels` are then the most
            probable classes. None where each image is of its class alone.
        output: what labels, and the outputs of a model that learns them, mean.
        given: the split of each file where the folders say it, each of `SPLIT_NAMES`; None where splits are to be cut.
        groups: the group of each file, such as its patient, which no cut takes apart; None where there are none.
        domains: where each file comes from, such as a camera; None where that is not known.
        weights: float32 (n,), how much each image counts in training, > 0; None where all count alike.
        pictures: int64 (n,), the number of each file's picture, which copies share; None where nobody has compared the pictures.
        ids: what the content of each file is known by; None where nobody has read the files yet.
        ignored: the files that are not images, or that cannot be read here; see `walk.left_out_lines`.
        notes: lines that say how the source was read, where that is not plain.
    """

    root: Path
    classes: tuple[str, ...]
    paths: Sequence[str]
    labels: NDArray[Any]
    shares: NDArray[np.float32] | None = None
    output: Output = SINGLE_LABEL
    given: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    domains: Sequence[str] | None = None
    weights: NDArray[np.float32] | None = None
    pictures: NDArray[np.int64] | None = None
    ids: Ids | None = None
    ignored: LeftOut = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", Texts.of(self.paths))
        for name in ("given", "groups", "domains"):
            values = getattr(self, name)
            if values is not None and not isinstance(values, Texts):
                object.__setattr__(self, name, packed(values, shared=True))
        for name in ("labels", "shares", "given", "groups", "domains", "weights", "pictures", "ids"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.paths):
                raise ValueError(f"{name} must have one value for each of {len(self.paths)} paths. Received: {len(values)}")

    @property
    def learned(self) -> Labels:
        """What a model learns, and is measured on: the labels, or soft ones where there are any."""
        return self.labels if self.shares is None else self.shares

    @property
    def files(self) -> Sequence[Path]:
        """The files as paths, made when they are asked for."""
        return _Files(self)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which files have a label, bool (n,)."""
        return self.labels != UNLABELLED if self.output == SINGLE_LABEL else np.ones(len(self.paths), bool)

    @property
    def label_numbers(self) -> NDArray[np.integer]:
        """A number for each file, (n,), that those with equal labels share."""
        if self.output == SINGLE_LABEL:
            return self.labels
        found: NDArray[np.integer] = np.unique(self.labels, axis=0, return_inverse=True)[1]
        return found

    def sizes(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of some files have each class, (k,); in a regression, how many there are, (1,)."""
        labels = self.labels[rows]
        if self.output.task == REGRESSION:
            return np.array([len(labels)])
        if labels.ndim == 2:
            return np.asarray(labels.sum(axis=0), np.int64)
        return np.bincount(labels[labels != UNLABELLED], minlength=len(self.classes))

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Some of the files, as an index whose splits are to be cut; what was left out of the folders is not its concern.

        Args:
            rows: positions, int64 (m,).
        """
        return replace(
            self,
            paths=Texts.of(self.paths).take(rows),
            labels=self.labels[rows],
            shares=None if self.shares is None else self.shares[rows],
            given=None,
            groups=None if self.groups is None else Texts.of(self.groups).take(rows),
            domains=None if self.domains is None else Texts.of(self.domains).take(rows),
            weights=None if self.weights is None else self.weights[rows],
            pictures=None if self.pictures is None else self.pictures[rows],
            ids=None if self.ids is None else self.ids[rows],
            ignored={},
            notes=(),
        )

    def identify(self, progress: Progress) -> Ids:
        """Read every file once: what its content is known by now, (n,); b"" for one that is gone."""
        with progress.bar("read files", len(self.paths)) as advance:
            return hash_files(self.files, advance)

    def identified(self, progress: Progress) -> Self:
        """The same index with the ids of its files as they are now."""
        return replace(self, ids=self.identify(progress))

    def require_unchanged(self, found: Ids, of: str) -> None:
        """Refuse files that are not what they were when the index was written, or are gone.

        Args:
            found: what `identify` says of them now.
            of: what they are to the user, such as "images of this run".

        Raises:
            DataError: a file is gone, or has other content; where the index has no ids, only that it is gone can be known.
        """
        changed = found == b"" if self.ids is None else found != self.ids
        if not changed.any():
            return
        gone, first = found == b"", int(np.flatnonzero(changed)[0])
        counts = {"missing": int(gone.sum()), "not what the run knows": int((changed & ~gone).sum())}
        fates = (f"{number} {'is' if number == 1 else 'are'} {fate}" for fate, number in counts.items() if number)
        raise DataError(
            f"{self.root}: of {len(self.paths)} {of}, {' and '.join(fates)}; the first is {self.paths[first]}. "
            "Put them back, or say with --data where they are."
        )


class _Files(Sequence[Path]):
    """The files of an index as paths, made when they are asked for: a million of them would take half a gigabyte."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index.paths)

    @overload
    def __getitem__(self, row: int) -> Path: ...
    @overload
    def __getitem__(self, row: slice) -> list[Path]: ...
    def __getitem__(self, row: int | slice) -> Path | list[Path]:
        paths = self._index.paths[row]
        return self._index.root / paths if isinstance(paths, str) else [self._index.root / path for path in paths]
