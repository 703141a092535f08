"""A linear head on frozen features, solved to its optimum: the linear probe (Alain & Bengio 2016, arXiv:1610.01644).

L-BFGS solves it for each of a path of values of C, and val chooses among them. Features may be larger than memory: they
are read chunk after chunk at each evaluation, and only small ones are kept. Knows arrays only; `problem` brings features
here, and `LinearProbe.on_raw` is what a Keras head gets.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.linalg import eigh
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from tl_keras.models.outputs import SINGLE_LABEL, Labels, Output, is_soft
from tl_keras.runtime import threads_in_force

C_PATH = tuple(10.0**power for power in np.arange(-5.0, 1.5, 0.5))  # scikit-learn's C, the weakest regularisation last
IN_MEMORY_BYTES = 128 * 10**6  # features up to this size are kept, standardised; larger ones are read anew each time
CHUNK_BYTES = 8 * 10**6  # read at once: two products with a chunk that stays in the processor's cache cost one read
VARIANCE_FLOOR = 1e-3  # of the mean variance: a feature that hardly moves is not blown up
ROUNDING = 1e-6  # relative: features whose deviation is below differ by rounding only
PATH_PATIENCE = 2  # values of C without a better val loss before the path ends
MAX_ITERATIONS = 300  # for one C: a large one on separable data has its optimum far away, and it does not win
TOLERANCE = 3e-4  # largest entry of the preconditioned gradient at the optimum; below, only the last digits move
LOSS_GAIN = 1e-7  # relative: a step that gains less is lost in the rounding of float32 products
STREAMED_LOSS_GAIN = 1e-4  # the same where each evaluation reads a file: val cannot tell such solutions apart
SAMPLED_ROWS = 2048  # how wide features go together is learned from so many rows,
ROWS_PER_FEATURE = 4  # and of narrower ones from so many a feature
RANK_FLOOR = 1e-6  # of the largest eigenvalue: a direction below it holds rounding only
CURVATURE_FLOOR = 1e-6  # where every probability is 0 or 1, as far as float32 can tell

Part = TypeVar("Part")
Result = TypeVar("Result")
Matrix = NDArray[np.floating]


class Features(Protocol):
    """Rows of features, float32 (n, d), that need not lie in memory: a slice of rows is an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]: ...


Pair = tuple[Features, Labels]


def chunks(features: Features) -> list[slice]:
    """Slices of at most CHUNK_BYTES that cover the rows in order."""
    rows = max(1, int(CHUNK_BYTES // (4 * features.shape[1])))
    return [slice(start, min(start + rows, len(features))) for start in range(0, len(features), rows)]


def sums(features: Features) -> Matrix:
    """The sum of the rows, float64 (d,)."""
    found = np.zeros(features.shape[1])
    for rows in chunks(features):
        found += features[rows].sum(axis=0, dtype=np.float64)
    return found


def squares(features: Features, mean: Matrix) -> Matrix:
    """The sum of the squares of what rows differ from a mean (d,) by, float64 (d,)."""
    found = np.zeros(features.shape[1])
    for rows in chunks(features):
        found += ((features[rows] - mean) ** 2).sum(axis=0)
    return found


@dataclass(frozen=True)
class Standardiser:
    """Shift and scale that give each feature mean 0 and variance 1 (at most): `mean` and `scale`, float32 (d,)."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def fit(cls, features: Features) -> "Standardiser":
        """Measure features float32 (n, d)."""
        mean = sums(features) / len(features)
        return cls.of(mean, squares(features, mean) / len(features))

    @classmethod
    def of(cls, mean: Matrix, variance: Matrix) -> "Standardiser":
        """The one of features with this mean and variance, float64 (d,)."""
        if variance.mean() <= ROUNDING**2 * np.mean(mean**2):  # the same for all: what little they differ by is not a signal
            return cls(mean.astype(np.float32), np.ones(len(mean), np.float32))
        floor = VARIANCE_FLOOR * variance.mean() + 1e-12
        return cls(mean.astype(np.float32), np.sqrt(variance + floor).astype(np.float32))

    @classmethod
    def identity(cls, width: int) -> "Standardiser":
        """Leave `width` features as they are."""
        return cls(np.zeros(width, np.float32), np.ones(width, np.float32))

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return (features - self.mean) / self.scale

    def fold(self, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The kernel (d, k) and bias (k,) that make of raw features what those given make of standardised ones."""
        kernel = kernel / self.scale[:, None]
        return kernel, bias - self.mean @ kernel


class StandardisedRows:
    """Features as a standardiser shows them: kept standardised where they are small, and else left where they are.

    Args:
        features: raw, float32 (n, d).
        standardise: applied when they are read (see `logits`, which folds it into the weights instead).
        keep: small ones are kept; not where they are read once.
        threads: that work on chunks; None for as many as TensorFlow has.
    """

    def __init__(self, features: Features, standardise: Standardiser, *, keep: bool = True, threads: int | None = None) -> None:
        self.shape = (len(features), features.shape[1])
        self._features, self._standardise = features, standardise
        self.in_memory = keep and 4 * self.shape[0] * self.shape[1] <= IN_MEMORY_BYTES
        if self.in_memory:
            self._features = _gather(features, standardise)
            self._standardise = Standardiser.identity(features.shape[1])
        self._pool = ThreadPoolExecutor(threads or threads_in_force())  # which starts a thread only when there is something to do

    def read(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Chunks of standardised features in order, each with its rows."""
        return ((rows, self._standardise(self._features[rows])) for rows in chunks(self._features))

    def sample(self, num: int) -> Iterator[NDArray[np.float32]]:
        """Chunks of about `num` standardised rows, evenly spaced; of all where there are no more."""
        step = max(1, self.shape[0] // num)
        return (self._standardise(self._features[rows][-rows.start % step :: step]) for rows in chunks(self._features))

    def turned(self, vectors: NDArray[np.float32]) -> "StandardisedRows":
        """The rows in other coordinates, (n, r), for orthonormal vectors (d, r)."""
        coordinates = np.concatenate([x @ vectors for _, x in self.read()])
        return StandardisedRows(coordinates, Standardiser.identity(vectors.shape[1]))

    def mapped(self, weights: Matrix, work: Callable[[slice, NDArray[np.float32], NDArray[np.float32]], Result]) -> Iterator[Result]:
        """What `work` makes of each chunk, in order; a chunk is read and worked on in a thread, without a standardised copy.

        Args:
            weights: (d + 1, k) for standardised features, the bias as last row.
            work: is given a chunk's rows, its raw features (m, d) and its logits (m, k).
        """
        kernel = weights[:-1] / self._standardise.scale[:, None]
        bias = (weights[-1] - self._standardise.mean @ kernel).astype(np.float32)
        kernel = kernel.astype(np.float32)

        def one(rows: slice) -> Result:
            x = self._features[rows]
            return work(rows, x, x @ kernel + bias)

        parts = chunks(self._features)
        return in_order(self._pool, one, parts) if len(parts) > 1 else map(one, parts)

    def gradient(self, kernel: Matrix, bias: Matrix) -> Matrix:
        """Gradient (d + 1, k) by standardised weights, from that by raw ones (k, d) and by the bias (k,)."""
        centred = (kernel - np.outer(bias, self._standardise.mean)) / self._standardise.scale
        return np.vstack([centred.T, bias])


def in_order(pool: ThreadPoolExecutor, work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """What `work` makes of each part, in order, with a few parts in the hands of the pool at once."""
    coming: deque[Future[Result]] = deque()
    for part in parts:
        coming.append(pool.submit(work, part))
        if len(coming) > 2 * pool._max_workers:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def _gather(features: Features, standardise: Standardiser) -> NDArray[np.float32]:
    kept = np.empty((len(features), features.shape[1]), np.float32)
    for rows in chunks(features):
        kept[rows] = standardise(features[rows])
    return kept


class Objective(Protocol):
    """A loss of weights (d + 1, k) as L-BFGS sees it; for the attributes see `LogLoss`."""

    shape: tuple[int, int]
    total_weight: float
    first_curvature: float
    columns: int

    @property
    def loss_gain(self) -> float: ...

    def __call__(self, weights: Matrix) -> tuple[float, Matrix, float]: ...


class LogLoss:
    """Weighted mean loss of a linear head on rows, as a function of its weights (d + 1, k).

    Args:
        rows: standardised features (n, d).
        labels: (n,) or (n, k).
        row_weights: (n,), how much each row counts.
        num_classes: k.
        total_weight: what `row_weights` add up to where there are other rows, whose losses are added to these; None for their own.

    Attributes:
        first_curvature: the mean of p (1 - p) where nothing is known.
        columns: how many columns of weights scikit-learn has for one of these.
    """

    first_curvature = 0.25
    columns = 1

    def __init__(
        self,
        rows: StandardisedRows,
        labels: Labels,
        row_weights: NDArray[np.floating],
        num_classes: int,
        total_weight: float | None = None,
    ) -> None:
        self.rows, self.labels = rows, labels
        self.shape = (rows.shape[1] + 1, num_classes)
        self.total_weight = total_weight or float(row_weights.sum(dtype=np.float64))
        self.row_weights = (row_weights / self.total_weight).astype(np.float32)

    @property
    def loss_gain(self) -> float:
        """Relative: a step that gains less is the last."""
        return LOSS_GAIN if self.rows.in_memory else STREAMED_LOSS_GAIN

    def __call__(self, weights: Matrix) -> tuple[float, Matrix, float]:
        """The loss, its gradient (d + 1, k) float64, and the mean of p (1 - p), the scale of its second derivative."""

        def part(rows: slice, x: NDArray[np.float32], logits: NDArray[np.float32]) -> tuple[float, float, Matrix, Matrix]:
            weight = self.row_weights[rows]
            losses, curvatures, residuals = self.terms(logits, self.labels[rows])
            residuals *= weight[:, None]
            loss, curvature = (float(np.dot(weight, each)) for each in (losses, curvatures))
            return loss, curvature, residuals.T @ x, residuals.sum(axis=0, dtype=np.float64)

        kernel, bias = np.zeros(self.shape[::-1])[:, :-1], np.zeros(self.shape[1])
        loss = curvature = 0.0
        for part_loss, part_curvature, part_kernel, part_bias in self.rows.mapped(weights, part):
            loss += part_loss
            curvature += part_curvature
            kernel += part_kernel
            bias += part_bias
        return loss, self.rows.gradient(kernel, bias), max(curvature, 0.0) / self.shape[1]

    def terms(self, logits: NDArray[np.float32], labels: Labels) -> tuple[Matrix, Matrix, Matrix]:
        """The loss of each row (n,), the sum of its p (1 - p) over the classes (n,), and p less the target (n, k), which may be changed."""
        raise NotImplementedError


class CrossEntropy(LogLoss):
    """Multinomial: labels are int32 (n,), one class each, or soft ones, float32 (n, k), whose most probable class says the weight."""

    def __init__(
        self,
        rows: StandardisedRows,
        labels: Labels,
        class_weights: NDArray[np.float32],
        weights: NDArray[np.floating] | None = None,
        total_weight: float | None = None,
    ) -> None:
        row_weights = class_weights[SINGLE_LABEL.classes_of(labels)].astype(np.float64)
        super().__init__(rows, labels, row_weights if weights is None else row_weights * weights, len(class_weights), total_weight)
        self.first_curvature = (1 - 1 / len(class_weights)) / len(class_weights)
        self.columns = 2 if len(class_weights) == 2 else 1  # there they share one column w, here -w/2 and w/2, of half of its square

    def terms(self, logits: NDArray[np.float32], labels: Labels) -> tuple[Matrix, Matrix, Matrix]:
        log_probabilities = SINGLE_LABEL.log_probabilities(logits)
        probabilities = np.exp(log_probabilities)
        curvatures = 1 - np.einsum("nk,nk->n", probabilities, probabilities)
        if is_soft(labels):
            losses = -np.einsum("nk,nk->n", log_probabilities, labels).astype(np.float64)
            probabilities -= labels
        else:
            own = (np.arange(len(logits)), labels)
            losses = -log_probabilities[own].astype(np.float64)
            probabilities[own] -= 1
        return losses, curvatures, probabilities


class BinaryCrossEntropy(LogLoss):
    """The sum over the classes of a logistic regression for each: labels are bool (n, k)."""

    def terms(self, logits: NDArray[np.float32], labels: Labels) -> tuple[Matrix, Matrix, Matrix]:
        probabilities = special.expit(logits)
        losses = (np.logaddexp(np.float32(0), logits) - logits * labels).sum(axis=1, dtype=np.float64)
        curvatures = (probabilities * (1 - probabilities)).sum(axis=1)
        return losses, curvatures, probabilities - labels


@dataclass(frozen=True)
class LinearProbe:
    """A solved linear head on standardised features: kernel (d, k), bias (k,), and how it was chosen."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    c: float
    val_loss: float
    val_metric: float

    def on_raw(self, standardise: Standardiser) -> "LinearProbe":
        """The same head for raw features."""
        kernel, bias = standardise.fold(self.kernel, self.bias)
        return replace(self, kernel=kernel, bias=bias)

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Logits (n, k) of features (n, d) such as it takes, which are read in chunks."""
        return np.concatenate([features[rows] @ self.kernel + self.bias for rows in chunks(features)])


def judge(weights: Matrix, rows: StandardisedRows, labels: Labels, output: Output = SINGLE_LABEL) -> tuple[float, float]:
    """Plain loss and metric of weights (d + 1, k), the bias as last row, on standardised rows.

    A metric that is a mean over images needs a chunk of them at a time; the others, such as mAP, need the logits of all.
    """
    if not output.metric_is_mean:
        logits = np.concatenate(list(rows.mapped(weights, lambda rows, x, logits: logits)))
        return judge_logits(logits, labels, output)

    def part(rows: slice, _: NDArray[np.float32], logits: NDArray[np.float32]) -> tuple[float, float]:
        own = labels[rows]
        return float(output.plain_losses(logits, own).sum(dtype=np.float64)), output.metric(logits, own) * len(own)

    losses, metrics = zip(*rows.mapped(weights, part), strict=True)
    return sum(losses) / len(labels), sum(metrics) / len(labels)


def judge_logits(logits: NDArray[np.float32], labels: Labels, output: Output) -> tuple[float, float]:
    """Plain loss and metric of logits (n, k)."""
    return float(output.plain_losses(logits, labels).mean(dtype=np.float64)), output.metric(logits, labels)


@threadpool_limits.wrap(limits=1, user_api="blas")  # many small products: threads that wait for each other take longer than one
def fit_linear_probe(
    train: Pair,
    val: Pair,
    standardise: Standardiser,
    class_weights: NDArray[np.float32],
    c: float | None = None,
    on_solution: Callable[[LinearProbe], None] | None = None,
    output: Output = SINGLE_LABEL,
    weights: NDArray[np.float32] | None = None,
    axes: "Axes | None" = None,
) -> LinearProbe:
    """Solve logistic regression with an L2 penalty for a path of values of C, each from the last one's solution.

    It is multinomial where an image has one class, and one for each class where it may have several.

    Args:
        train: raw features float32 (n, d), in memory or not, and labels, as `output` says.
        val: likewise; the C with the lowest log loss here is taken.
        standardise: what the solution's kernel and bias expect to be applied to features.
        class_weights: float32 (k,), the weight of each class; all 1 where an image may have several.
        c: scikit-learn's C, the only one to solve for; None goes through `C_PATH`.
        on_solution: called with each solution as it is found.
        output: what labels mean.
        weights: float32 (n,), how much each image counts beside its class; None where all count alike.
        axes: of rows much like these, so that they are not measured again: the optimum does not depend on them, and of few rows they are
            measured all the same.
    """
    rows, rows_val = StandardisedRows(train[0], standardise), StandardisedRows(val[0], standardise)
    num, width = rows.shape
    few, span = num < width and num <= SAMPLED_ROWS, None
    axes = Axes.of(rows) if few or axes is None else axes
    varied = len(axes.spectrum) > 0  # else all rows are the same, and the bias answers
    if few and varied and axes.vectors is not None:  # the optimum lies in the span of the rows
        rows, rows_val, span = rows.turned(axes.vectors), rows_val.turned(axes.vectors), axes.vectors
        axes = Axes(None, axes.spectrum, 0.0)
    objective = objective_of(output, rows, train[1], class_weights, weights)
    return best_of_path(objective, axes, c, lambda found: judge(found, rows_val, val[1], output), on_solution, span)


def objective_of(
    output: Output,
    rows: StandardisedRows,
    labels: Labels,
    class_weights: NDArray[np.float32],
    weights: NDArray[np.floating] | None,
    total_weight: float | None = None,
) -> LogLoss:
    """The loss of what labels mean; for the arguments see `fit_linear_probe` and `LogLoss`."""
    own = np.ones(len(labels)) if weights is None else weights
    if output == SINGLE_LABEL:
        return CrossEntropy(rows, labels, class_weights, own, total_weight)
    return BinaryCrossEntropy(rows, labels, own, len(class_weights), total_weight)


def best_of_path(
    objective: Objective,
    axes: "Axes",
    c: float | None,
    judged: Callable[[Matrix], tuple[float, float]],
    on_solution: Callable[[LinearProbe], None] | None,
    span: NDArray[np.float32] | None = None,
) -> LinearProbe:
    """The solution of a path of values of C that is best on val.

    Args:
        judged: weights (d + 1, k) -> loss and metric on val.
        span: (d', d), the directions that the objective's features are coordinates along; None where they are the features.
    """
    best: LinearProbe | None = None
    worse = 0
    for each, found_weights in _path(objective, axes, C_PATH if c is None else (c,)):
        kernel, bias = found_weights[:-1].astype(np.float32), found_weights[-1].astype(np.float32)
        found = LinearProbe(kernel if span is None else span @ kernel, bias, each, *judged(found_weights))
        if on_solution is not None:
            on_solution(found)
        if best is None or found.val_loss < best.val_loss:
            best, worse = found, 0
        elif (worse := worse + 1) == PATH_PATIENCE:
            break
    if best is None:
        raise ValueError("C_PATH is empty.")
    return best


class Sampled(Protocol):
    """Rows (n, d) of which a sample is to be had; see `StandardisedRows`."""

    shape: tuple[int, int]

    def sample(self, num: int) -> Iterator[NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Axes:
    """Principal axes of standardised rows.

    Attributes:
        vectors: orthonormal, float32 (d, r), r at most the number of rows that were sampled; None for the coordinate axes.
        spectrum: mean square of the rows along each, (r,).
        rest: the same along any direction that is left.
    """

    vectors: NDArray[np.float32] | None
    spectrum: Matrix
    rest: float

    @classmethod
    def of(cls, rows: Sampled) -> "Axes":
        """Measure a sample of the rows, of which there may be fewer than features: about SAMPLED_ROWS where those are wide."""
        width = rows.shape[1]
        num = ROWS_PER_FEATURE * width if width <= 2 * SAMPLED_ROWS else SAMPLED_ROWS
        if min(num, rows.shape[0]) < width:
            x = np.concatenate(list(rows.sample(num)))
            scatter, count = x @ x.T, len(x)
        else:
            scatter, count = np.zeros((width, width), np.float32), 0
            for x in rows.sample(num):
                scatter += x.T @ x
                count += len(x)
        total = float(np.trace(scatter)) / count
        spectrum, vectors = eigh(scatter / count, overwrite_a=True, check_finite=False)
        kept = spectrum > RANK_FLOOR * spectrum[-1]
        spectrum, vectors = spectrum[kept], vectors[:, kept]
        if len(scatter) != width:
            vectors = x.T @ (vectors / np.sqrt(count * spectrum))
        return cls(vectors, spectrum, max(total - float(spectrum.sum()), 0.0) / max(width - len(spectrum), 1))

    def leading(self) -> NDArray[np.float32]:
        """The vectors (d, r), or the coordinate axes (d, d), those along which the rows vary most first."""
        vectors = np.eye(len(self.spectrum), dtype=np.float32) if self.vectors is None else self.vectors
        return vectors[:, np.argsort(-self.spectrum, kind="stable")]

    def scaled(self, matrix: Matrix, along: Matrix, rest: float) -> Matrix:
        """Scale a (d, k) matrix along each axis, and in all other directions alike."""
        if self.vectors is None:
            return along[:, None] * matrix
        coordinates = self.vectors.T @ matrix.astype(np.float32)
        return rest * matrix + self.vectors @ ((along - rest)[:, None] * coordinates).astype(np.float32)


def _path(objective: Objective, axes: Axes, path: Sequence[float]) -> Iterator[tuple[float, Matrix]]:
    """Each C with its solution (d + 1, k), from the strongest regularisation on."""
    weights: Matrix = np.zeros(objective.shape)
    curvature = objective.first_curvature
    for c in path:
        decay = objective.columns / (c * objective.total_weight)
        weights, curvature = _minimise(objective, weights, decay, axes, max(curvature, CURVATURE_FLOOR))
        yield c, weights


def _minimise(objective: Objective, start: Matrix, decay: float, axes: Axes, curvature: float) -> tuple[Matrix, float]:
    """Weights (d + 1, k) of least loss and penalty, and the curvature there.

    L-BFGS sees the weights scaled along the principal axes of the rows: there the second derivative, about
    `curvature * x.T @ x + decay`, is near the identity, so that it needs a fifth of the steps.
    """
    along, rest, bias = np.sqrt(curvature * axes.spectrum + decay), float(np.sqrt(curvature * axes.rest + decay)), float(np.sqrt(curvature))
    found_curvature = 0.0

    def scaled(weights: Matrix, power: int) -> Matrix:
        return np.vstack([axes.scaled(weights[:-1], along**power, rest**power), weights[-1:] * bias**power])

    def evaluate(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal found_curvature
        weights = scaled(flat.reshape(objective.shape), -1)
        loss, gradient, found_curvature = objective(weights)
        penalised = decay * weights
        penalised[-1] = 0  # the bias is free
        return loss + 0.5 * float(np.vdot(penalised, weights)), scaled(gradient + penalised, -1).ravel().astype(np.float64)

    options = {"maxiter": MAX_ITERATIONS, "gtol": TOLERANCE, "ftol": objective.loss_gain}
    found = minimize(evaluate, scaled(start, 1).ravel(), jac=True, method="L-BFGS-B", options=options)
    return scaled(found.x.reshape(objective.shape), -1), found_curvature
