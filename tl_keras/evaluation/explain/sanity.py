"""A check of maps: with other weights in the network they must change, else they show edges of the image and not the model.

Reference: Adebayo et al. 2018, arXiv:1810.03292.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tl_keras.evaluation.explain.explainer import Explainer, Map
from tl_keras.models.classifier import head_of

HEAD, ALL = "head", "all"  # which weights are randomised
MOST_ALIKE = 0.5  # rank correlation from which on a map counts as the same


@contextmanager
def randomised(model: keras.Model, which: str = ALL, seed: int = 0) -> Iterator[None]:
    """Let a model have random weights inside: those of each kernel in random order, so that their size stays what it was.

    What has one number a channel, such as biases and BatchNorm, stays.

    Args:
        which: HEAD or ALL.
    """
    random = np.random.default_rng(seed)
    layers = [model] if which == ALL else head_of(model)
    kernels = [weight for layer in layers for weight in layer.weights if len(weight.shape) > 1 and "float" in str(weight.dtype)]
    before = [weight.numpy() for weight in kernels]
    try:
        for weight, values in zip(kernels, before, strict=True):
            weight.assign(random.permutation(values.ravel()).reshape(values.shape))
        yield
    finally:
        for weight, values in zip(kernels, before, strict=True):
            weight.assign(values)


def alikeness(
    explainer: Explainer,
    method: Callable[[Explainer, NDArray[np.uint8], Sequence[int]], list[Map]],
    pixels: NDArray[np.uint8],
    columns: Sequence[int],
    maps: Sequence[Map],
) -> dict[str, float]:
    """How alike maps are to those of the same model with random weights: the mean rank correlation, 1 where they are the same.

    Args:
        pixels: (n, h, w, 3), n at least 1.
        columns: what is explained.
        maps: of the model as it is.

    Returns:
        For the head, where one is known, and for all weights.
    """
    uncompiled = replace(explainer, run=None)  # what is compiled has its weights inside
    found = {}
    for which in (*([HEAD] if head_of(explainer.model) else []), ALL):
        with randomised(explainer.model, which):
            others = method(uncompiled, pixels, columns)
        found[which] = float(np.mean([rank_correlation(one, other) for one, other in zip(maps, others, strict=True)]))
    return found


def rank_correlation(one: Map, other: Map) -> float:
    """Spearman's rank correlation of two maps of one size, in [-1, 1]; 0 where one of them is the same everywhere."""
    ranks = [rankdata(each) - (each.size + 1) / 2 for each in (one, other)]
    length = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum() / length) if length else 0.0
