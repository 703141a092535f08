"""Affine maps of features, and features seen through one: what alignment does to a domain, and what folds into a head."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.transfer.head.probe import Features, Standardiser

Matrix = NDArray[np.floating]


@dataclass(frozen=True)
class Affine:
    """x -> (x - shift) @ matrix, with float32 (d,) and (d, r); a matrix (d,) is a diagonal one."""

    shift: NDArray[np.float32]
    matrix: NDArray[np.float32]

    @classmethod
    def of(cls, shift: Matrix, matrix: Matrix) -> "Affine":
        """The map of these numbers, in float32."""
        return cls(shift.astype(np.float32), matrix.astype(np.float32))

    @classmethod
    def identity(cls, width: int) -> "Affine":
        """Leave `width` features as they are."""
        return cls(np.zeros(width, np.float32), np.ones(width, np.float32))

    @classmethod
    def standardising(cls, standardise: Standardiser) -> "Affine":
        """What a standardiser does."""
        return cls(standardise.mean, (1 / standardise.scale).astype(np.float32))

    @property
    def width(self) -> int:
        """How many features it makes."""
        return self.matrix.shape[-1]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        centred = x - self.shift
        found: Any = centred * self.matrix if self.matrix.ndim == 1 else centred @ self.matrix
        return np.asarray(found, np.float32)

    def then(self, matrix: Matrix) -> "Affine":
        """This map, and then a matrix (r, s)."""
        product = self.matrix[:, None] * matrix if self.matrix.ndim == 1 else self.matrix @ matrix
        return Affine.of(self.shift, product)

    def fold(self, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The kernel (d, k) and bias (k,) that make of raw features what those given make of mapped ones."""
        kernel = (self.matrix[:, None] * kernel if self.matrix.ndim == 1 else self.matrix @ kernel).astype(np.float32)
        return kernel, (bias - self.shift @ kernel).astype(np.float32)


class MappedFeatures:
    """Features through an affine map, float32 (n, r), mapped when they are read.

    Args:
        features: float32 (n, d), in memory or not.
    """

    def __init__(self, features: Features, mapping: Affine) -> None:
        self._features, self._mapping = features, mapping
        self.shape = (len(features), mapping.width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        return self._mapping(self._features[rows])


def sample(features: Features, most: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """At most so many rows, drawn without replacement: their positions, ascending, and the rows."""
    rows = np.arange(len(features)) if len(features) <= most else np.sort(rng.choice(len(features), most, replace=False))
    return rows, np.concatenate([features[slice(row, row + 1)] for row in rows]) if len(rows) < len(features) else features[slice(None)]
