"""A linear head on frozen features, solved to its optimum: the linear probe (Alain & Bengio 2016, arXiv:1610.01644).

scikit-learn solves it for each of a path of penalties, and val chooses among them. Knows arrays only; `head` brings
features here and puts the solution into the Keras head, by `Standardiser.fold` on raw features.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

PENALTIES = tuple(10.0**power for power in np.arange(-5.0, 1.5, 0.5))  # scikit-learn's C, weakest penalty last
CHUNK_ROWS = 4096  # rows measured at once, so that a file of features never lies in memory as a whole
VARIANCE_FLOOR = 1e-3  # of the mean variance: a feature that hardly moves is not blown up
PATIENCE = 4  # penalties without a better val loss before the path ends


@dataclass(frozen=True)
class Standardiser:
    """Shift and scale that give each feature mean 0 and variance 1 (at most): `mean` and `scale`, float32 (d,)."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def fit(cls, features: NDArray[np.float32]) -> "Standardiser":
        """Measure features float32 (n, d)."""
        chunks = [slice(start, start + CHUNK_ROWS) for start in range(0, len(features), CHUNK_ROWS)]
        mean = np.sum([features[rows].sum(axis=0, dtype=np.float64) for rows in chunks], axis=0) / len(features)
        variance = np.sum([((features[rows] - mean) ** 2).sum(axis=0) for rows in chunks], axis=0) / len(features)
        floor = VARIANCE_FLOOR * variance.mean() + 1e-12
        return cls(mean.astype(np.float32), np.sqrt(variance + floor).astype(np.float32))

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return (features - self.mean) / self.scale

    def fold(self, dense: keras.layers.Dense) -> None:
        """Change a layer that expects standardised features so that it takes raw ones and answers the same."""
        kernel, bias = dense.get_weights()
        kernel = kernel / self.scale[:, None]
        dense.set_weights([kernel, bias - self.mean @ kernel])


@dataclass(frozen=True)
class LinearProbe:
    """A solved linear head on standardised features: kernel (d, k), bias (k,), and how it was chosen."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    penalty: float
    val_loss: float
    val_accuracy: float


def fit_linear_probe(
    train: tuple[NDArray[np.float32], NDArray[np.int32]],
    val: tuple[NDArray[np.float32], NDArray[np.int32]],
    class_weights: NDArray[np.float32],
    on_penalty: Callable[[LinearProbe], None] | None = None,
) -> LinearProbe:
    """Solve multinomial logistic regression for a path of L2 penalties, each from the last one's solution.

    Args:
        train: standardised features float32 (n, d) and labels int32 (n,), every class present.
        val: likewise; the penalty with the lowest log loss here is taken.
        class_weights: float32 (k,), the weight of each class.
        on_penalty: told of each solution as it is found.
    """
    (x, y), (x_val, y_val) = train, val
    solver = LogisticRegression(solver="lbfgs", max_iter=300, warm_start=True)
    best: LinearProbe | None = None
    worse = 0
    for penalty in PENALTIES:
        solver.set_params(C=penalty)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a weak penalty that is not worth solving does not win
            solver.fit(x, y, sample_weight=class_weights[y])
        probabilities = solver.predict_proba(x_val)
        loss = float(log_loss(y_val, probabilities, labels=solver.classes_))
        found = LinearProbe(*_two_sided(solver), penalty, loss, float((probabilities.argmax(1) == y_val).mean()))
        if on_penalty is not None:
            on_penalty(found)
        if best is None or loss < best.val_loss:
            best, worse = found, 0
        elif (worse := worse + 1) == PATIENCE:
            break
    if best is None:
        raise ValueError("PENALTIES is empty.")
    return best


def _two_sided(solver: LogisticRegression) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    kernel, bias = solver.coef_.T, solver.intercept_
    if kernel.shape[1] == 1:  # two classes: scikit-learn keeps one column, the log odds of the second class
        kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.array([-bias[0] / 2, bias[0] / 2])
    return kernel.astype(np.float32), bias.astype(np.float32)
