"""None of these: how strange an image is to a classifier, from what its network computes on the way to the logits.

Three signs are added up, each less its mean on val and in its standard deviations there:

- energy: no class speaks for the image;
- residual: its features lie off the directions in which those of train differ;
- style, where the network goes on from frozen feature maps: the mean and the spread of their channels are not those of train. A drawing
  or a tiny picture made large may have the features of a flower, but not its texture.

One definition serves training, `predict` and every export: a piece of graph on the network's own tensors. What is fitted is a few arrays,
however many images there are. Knows neither runs nor files.

Reference: the first two are ViM (Wang et al. 2022, arXiv:2203.10807), which adds energy (Liu et al. 2020, arXiv:2010.03759) and residual;
channel statistics of lower layers are those of Lee et al. 2018, arXiv:1807.03888, sec. 2.2, each channel for itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import keras
import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from tl_keras.evaluation.conformal import least_images, threshold

FALSE_ALARMS = 0.05  # the share of images of the classes that are called none of these
LEAST_IMAGES = least_images(1 - FALSE_ALARMS)  # of val, that a threshold takes: 19
NUM_DIRECTIONS = 64  # of 1280 features of five kinds of flowers 16 to 64 do equally well, 256 worse
ENERGY = 0  # the place of the energy among the signs
VARIANCE = 1e-6  # added before a square root: a channel may be the same everywhere

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Basis:
    """What is fitted on images of train.

    Attributes:
        features: the name of the operation whose output are the features (b, d).
        maps: the same of feature maps (b, h, w, c) whose style is looked at; may be none.
        mean: float32 (d,), of the features.
        directions: float32 (d, r), orthonormal: the principal ones.
        style_mean: float32 (s,), of the styles, see `styles`.
        style_scale: float32 (s,), their standard deviations.
    """

    features: str
    maps: tuple[str, ...]
    mean: Array
    directions: Array
    style_mean: Array
    style_scale: Array

    def signs(self, logits: Any, features: Any, maps: Sequence[Any]) -> Any:
        """Energy, residual and, where there are maps, style of each image, (b, 2 or 3), from tensors (b, k), (b, d) and (b, h, w, c)."""
        ops = keras.ops
        off = ops.cast(features, "float32") - self.mean
        off = off - ops.matmul(ops.matmul(off, self.directions), self.directions.T)
        found = [-ops.logsumexp(logits, axis=-1), ops.sqrt(ops.sum(off**2, axis=-1))]
        if maps:
            found.append(ops.sqrt(ops.mean(((styles(maps) - self.style_mean) / self.style_scale) ** 2, axis=-1)))
        return ops.stack(found, axis=-1)

    def tensors(self, model: keras.Model) -> tuple[Any, list[Any]]:
        """The tensors of a flat model that hold features and maps.

        Raises:
            LookupError, ValueError: it is another model.
        """
        by_name = {operation.name: operation.output for operation in model.operations}
        features, maps = by_name[self.features], [by_name[name] for name in self.maps]
        if tuple(features.shape[1:]) != self.mean.shape or 2 * sum(each.shape[-1] for each in maps) != len(self.style_mean):
            raise ValueError("it is of another model")
        return features, maps


@dataclass(frozen=True)
class Novelty:
    """How strange an image is, and from where on it is none of the classes.

    Attributes:
        basis: what is fitted on train.
        centre: float32 (2 or 3,), the means of the signs on val.
        scale: float32 (2 or 3,), their standard deviations there.
        threshold: images above it are called none of these.
    """

    basis: Basis
    centre: Array
    scale: Array
    threshold: float

    def score(self, signs: Array) -> Array:
        """The novelty of each image, float32 (n,), larger is stranger, from signs (n, 2 or 3)."""
        found: Array = ((signs - self.centre) / self.scale).sum(axis=-1).astype(np.float32)
        return found

    def with_threshold_of(self, novelty: Array) -> Self:
        """The same with the threshold that follows from the novelty (n,) of images that the network has not learned of, at least
        `LEAST_IMAGES`, as another form of the network tells it.
        """
        return replace(self, threshold=-threshold(-novelty.astype(np.float64), 1 - FALSE_ALARMS))

    def is_known(self, novelty: Any) -> Any:
        """Whether images, or a tensor of them, are like those of the classes, bool (n,)."""
        return novelty <= np.float32(self.threshold)

    def watched(self, model: keras.Model) -> keras.Model:
        """A model with one more output at the end, the novelty: pixels (b, h, w, 3) -> (b, k + 1).

        Raises:
            LookupError, ValueError: it was fitted on another model.
        """
        features, maps = self.basis.tensors(model)
        signs = (self.basis.signs(model.output, features, maps) - self.centre) / self.scale
        return keras.Model(model.input, keras.ops.concatenate([model.output, keras.ops.sum(signs, axis=-1, keepdims=True)], axis=-1))

    def arrays(self) -> dict[str, Any]:
        """All of it, to be written."""
        return {**vars(self.basis), "maps": np.array(self.basis.maps, str), **{name: vars(self)[name] for name in OWN}}


OWN = ("centre", "scale", "threshold")


def from_arrays(found: Mapping[str, NDArray[Any]]) -> Novelty:
    """What `Novelty.arrays` told.

    Raises:
        LookupError, ValueError, TypeError: it is something else.
    """
    mean, directions, *rest = (
        np.asarray(found[name], np.float32) for name in ("mean", "directions", "style_mean", "style_scale", "centre", "scale")
    )
    num_signs = 3 if len(found["maps"]) else 2
    shapes = [mean.shape[:1], rest[0].shape[:1], rest[0].shape[:1], (num_signs,), (num_signs,)]
    if [each.shape for each in (mean, *rest)] != shapes or directions.shape[:1] != mean.shape or directions.ndim != 2:
        raise ValueError("its arrays do not go together")
    if not all(np.isfinite(each).all() for each in (mean, directions, *rest, found["threshold"])):
        raise ValueError("it holds numbers that are not finite")
    basis = Basis(str(found["features"]), tuple(map(str, found["maps"])), mean, directions, rest[0], rest[1])
    return Novelty(basis, rest[2], rest[3], float(found["threshold"]))


def styles(maps: Sequence[Any]) -> Any:
    """The mean and then the standard deviation of each channel of each feature map (b, h, w, c), float32 (b, 2 * sum of c)."""
    ops = keras.ops
    moments = [ops.moments(ops.cast(each, "float32"), axes=(1, 2)) for each in maps]
    return ops.concatenate([part for mean, variance in moments for part in (mean, ops.sqrt(variance + VARIANCE))], axis=-1)


def fit_basis(features_name: str, map_names: Sequence[str], features: Array, style: Array) -> Basis | None:
    """Fit on features (n, d) and styles (n, s) of n images of train; None where there are too few images or features for any direction."""
    num = min(NUM_DIRECTIONS, features.shape[1] // 2, (len(features) - 1) // 2)
    if num < 1:
        return None
    mean, spread = features.mean(axis=0, dtype=np.float64), style.std(axis=0, dtype=np.float64)
    return Basis(
        features=features_name,
        maps=tuple(map_names),
        mean=mean.astype(np.float32),
        directions=principal_directions(features - mean, num),
        style_mean=style.mean(axis=0, dtype=np.float64).astype(np.float32),
        style_scale=np.where(spread > 0, spread, 1).astype(np.float32),
    )


def principal_directions(rows: NDArray[np.floating], num: int) -> Array:
    """The `num` directions in which centred rows (n, d) differ most, orthonormal columns (d, num), by the smaller of two covariances."""
    is_wide = rows.shape[1] > len(rows)
    square = rows @ rows.T if is_wide else rows.T @ rows
    last = len(square) - 1
    found = linalg.eigh(square, subset_by_index=(last - num + 1, last))[1]
    return np.linalg.qr(rows.T @ found if is_wide else found)[0].astype(np.float32)


def fit_novelty(basis: Basis, signs: Array) -> Novelty | None:
    """Fit on the signs (n, 2 or 3) of val, of which the network has not learned; None of fewer than 19 images.

    Of new images of the classes, at most `FALSE_ALARMS` are above the threshold on average (split conformal prediction, see `conformal`).
    """
    if len(signs) < LEAST_IMAGES:
        return None
    spread = signs.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    found = Novelty(basis, signs.mean(axis=0, dtype=np.float64).astype(np.float32), scale, 0.0)
    return found.with_threshold_of(found.score(signs))


def with_energy_of(signs: Array, logits: Array) -> Array:
    """The signs of images as they are with other logits (n, k), as after a division by a temperature."""
    found = signs.copy()
    found[:, ENERGY] = -special.logsumexp(logits, axis=-1)
    return found
