"""How well frozen features suit a task, without training: published transferability metrics of features and labels.

LogME and CKA know labels as targets, real numbers (n, k): one-hot, which of several classes an image has, or numbers. The others are
defined for one class an image.

Owns their definitions, on arrays only; `rank` chooses among them. Features are (n, d), of any real dtype, d larger than n
or not; all arithmetic is float64. Of every metric more is better. None is an accuracy, and only values of the same labels
compare. A caller who wants several of one matrix makes `Spectra` of it, which each takes in its place: then it is
decomposed once. Everything here takes seconds for n = 2,000 and d = 10,000.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPECTRUM_FLOOR = 1e-12  # of the largest squared singular value: rounding stays below 1e-15, directions of real features above 1e-10
EVIDENCE_ROUNDS = 11  # of LogME's fixed point, at most; three or four do as a rule
EVIDENCE_TOLERANCE = 1e-3  # relative change of alpha / beta at which it has settled
EVIDENCE_FLOOR = 1e-5  # added to squared weights and residuals, so that a perfect fit stays finite
CLUSTER_ENERGY = 0.8  # share of the variance whose principal axes N-LEEP clusters in
CLUSTER_FLOOR = 1e-3  # of an axis' mean variance, added to a cluster's: one of a single image has none of its own
CLUSTER_ROUNDS = 50  # of expectation maximisation, at most

Array = NDArray[np.float64]
Integers = NDArray[np.integer]


@dataclass(frozen=True)
class Spectrum:
    """The thin decomposition of a matrix (n, d): all of it but the directions of its axes in the d features.

    Attributes:
        left: orthonormal columns (n, r), r at most n and d.
        values: squared singular values (r,), the largest first.
        width: d.
    """

    left: Array
    values: Array
    width: int

    @property
    def rows(self) -> Array:
        """The matrix' rows along its principal axes, (n, r): the same distances and angles as between rows (n, d)."""
        return self.left * np.sqrt(self.values)


class Spectra:
    """Features (n, d) with their decompositions, each made when a metric first asks for it, and kept.

    Attributes:
        features: real, (n, d), finite.

    Raises:
        ValueError: features of another shape, not finite, or (from a metric) with all rows the same.
    """

    def __init__(self, features: NDArray[Any]) -> None:
        self.features = _checked_features(features, "features")

    @cached_property
    def raw(self) -> Spectrum:
        """Of the features as they are."""
        return thin_spectrum(self.features)

    @cached_property
    def centred(self) -> Spectrum:
        """Of the features less their means."""
        return thin_spectrum(_centred(self.features))


Features = NDArray[Any] | Spectra


def thin_spectrum(matrix: NDArray[Any]) -> Spectrum:
    """Decompose a matrix (n, d) through the smaller of its Gram matrices, in float64.

    Directions whose squared singular value is below SPECTRUM_FLOOR of the largest are dropped: they hold rounding only.

    Raises:
        ValueError: the matrix is zero, as that of centred features is where all rows are the same.
    """
    x = np.asarray(matrix, np.float64)
    num, width = x.shape
    values, vectors = np.linalg.eigh(x @ x.T if num < width else x.T @ x)
    if not values[-1] > 0:
        raise ValueError(f"features must vary and not be 0. Received: {num} rows that are all the same")
    kept = np.flatnonzero(values > SPECTRUM_FLOOR * values[-1])[::-1]
    values, vectors = values[kept], vectors[:, kept]
    return Spectrum(vectors if num < width else x @ (vectors / np.sqrt(values)), values, width)


def log_me(features: Features, labels: Integers, num_classes: int) -> float:
    """LogME of classes: that of one-hot labels, see `log_me_of_targets`. Classes without images do not count.

    Args:
        features: (n, d), or their `Spectra`.
        labels: integers (n,) in 0..num_classes - 1, of two classes at least.
        num_classes: k.

    Returns:
        A real number of either sign; higher is better.

    Raises:
        ValueError: arguments that do not fit together, features that are not finite, labels of one class.
    """
    spectra, labels = _checked(features, labels, num_classes)
    return log_me_of_targets(spectra, np.eye(num_classes)[labels])


def log_me_of_targets(features: Features, targets: NDArray[Any]) -> float:
    """LogME: the log evidence per image of linear regression on targets, the mean over those that vary.

    For each target the precisions of weights and noise are those that make it most probable, by the authors' fixed point. Features are not
    centred and there is no intercept, so numbers are best given less their mean, and in standard deviations: else their unit counts. The
    authors' code leaves the d - r directions without features out of log |A| but not out of d log(alpha): where d > n its number is not
    the evidence of their equation. This one is, so that features of 0, and rotations, change nothing.

    Args:
        features: (n, d), or their `Spectra`.
        targets: (n, k), one of which varies at least: 0 and 1 for each class, or numbers.

    Returns:
        A real number of either sign; higher is better.

    Raises:
        ValueError: arguments that do not fit together, what is not finite, or targets that are the same for all images.

    Reference:
        You et al. 2021, arXiv:2102.11005 (the evidence, and the mean over targets); You et al. 2022, arXiv:2110.10545, and
        `_fit_fixed_point` of github.com/thuml/LogME (the fixed point).
    """
    spectra, targets = _spectra(features), _checked_features(targets, "targets").astype(np.float64)
    num = len(spectra.features)
    if len(targets) != num:
        raise ValueError(f"features and targets must have as many rows. Received: {num} and {len(targets)}")
    targets = targets[:, (targets != targets[0]).any(axis=0)]
    if not targets.size:
        raise ValueError(f"targets must vary. Received: {num} rows that are all the same")
    spectrum = spectra.raw
    energy, sizes = (spectrum.left.T @ targets) ** 2, (targets**2).sum(axis=0)
    return float(np.mean([_evidence(spectrum.values, each, size, num) for each, size in zip(energy.T, sizes, strict=True)]))


def _evidence(values: Array, energy: Array, size: float, num: int) -> float:
    """Log evidence per row of one target, at the fixed point of its two precisions.

    Args:
        values: squared singular values (r,) of the features.
        energy: squared products (r,) of the target with the left singular vectors.
        size: the target's squared norm.
        num: n.
    """
    outside = max(size - energy.sum(), 0.0)  # of the target's squared norm, what no weights reach
    ratio = 1.0  # alpha / beta, precision of weights by precision of noise
    for _ in range(EVIDENCE_ROUNDS):
        fitted, left_over = values / (values + ratio), ratio / (values + ratio)
        weights = (energy * fitted / (values + ratio)).sum()
        residual = (energy * left_over**2).sum() + outside
        alpha = fitted.sum() / (weights + EVIDENCE_FLOOR)
        beta = (num - len(values) + left_over.sum()) / (residual + EVIDENCE_FLOOR)
        last, ratio = ratio, alpha / beta
        if abs(ratio - last) <= EVIDENCE_TOLERANCE * last:
            break
    log_volume = num * np.log(beta / (2 * np.pi)) - np.log1p(values * (beta / alpha)).sum()
    return float(log_volume - beta * residual - alpha * weights) / (2 * num)


def h_score(features: Features, labels: Integers, num_classes: int) -> float:
    """H-score: how much of the features' variance, counted alike in each direction, lies between classes.

    tr(cov(f)^+ cov(E[f|y])). Directions below SPECTRUM_FLOOR do not count; the authors' code keeps all above 1e-15, which with
    features that repeat each other is rounding. Where r = n - 1, as with d >= n as a rule, it is the number of classes
    less 1 whatever the labels: then use `regularised_h_score`.

    Args:
        features: (n, d), or their `Spectra`.
        labels: integers (n,) in 0..num_classes - 1, of two classes at least.
        num_classes: k.

    Returns:
        Between 0 and the smaller of r and the number of classes with images less 1; higher is better.

    Raises:
        ValueError: arguments that do not fit together, features that are not finite or do not vary, labels of one class.

    Reference:
        Bao et al. 2019, arXiv:2212.10082, and `getHscore` of github.com/YaojieBao.
    """
    spectra, labels = _checked(features, labels, num_classes)
    return float(_shares_between(spectra.centred, labels).sum())


def regularised_h_score(features: Features, labels: Integers, num_classes: int) -> float:
    """H-score with a covariance shrunk towards a multiple of the identity, which works where d > n too.

    (1 - a) tr(C^-1 cov(E[f|y])), C = (1 - a) cov(f) + a tr(cov(f)) / d I, and a as by Ledoit and Wolf. Covariances divide
    by n, as in the paper; code that divides the second by n - 1 gets n / (n - 1) times as much.

    Args:
        features: (n, d), or their `Spectra`.
        labels: integers (n,) in 0..num_classes - 1, of two classes at least.
        num_classes: k.

    Returns:
        Between 0 and `h_score`; higher is better.

    Raises:
        ValueError: arguments that do not fit together, features that are not finite or do not vary, labels of one class.

    Reference:
        Ibrahim, Ponomareva & Mazumder 2021, arXiv:2110.06893; Ledoit & Wolf 2004, A well-conditioned estimator for
        large-dimensional covariance matrices.
    """
    spectra, labels = _checked(features, labels, num_classes)
    spectrum = spectra.centred
    shrinkage = _shrinkage(spectrum)
    between = _shares_between(spectrum, labels)
    kept = (1 - shrinkage) * spectrum.values
    return float((kept / (kept + shrinkage * spectrum.values.sum() / spectrum.width)) @ between)


def _shares_between(centred: Spectrum, labels: Integers) -> Array:
    """Of the variance along each axis the share that lies between classes, (r,) in [0, 1]."""
    sums, counts = _class_sums(centred.left, labels)
    return np.asarray((1 / counts) @ sums**2)


def _shrinkage(centred: Spectrum) -> float:
    """Ledoit and Wolf's weight of the identity in [0, 1], from squared norms of rows and squared eigenvalues.

    0 for a single feature, whose variance is the identity's multiple already (as in scikit-learn).
    """
    num = len(centred.left)
    if centred.width == 1:
        return 0.0
    norms = centred.left**2 @ centred.values
    squares = (centred.values**2).sum() / num**2
    spread = squares - (centred.values.sum() / num) ** 2 / centred.width
    noise = ((norms**2).sum() / num - squares) / num
    return 1.0 if noise >= spread else float(noise / spread)


def leep(source_probabilities: NDArray[Any], labels: Integers, num_classes: int) -> float:
    """LEEP: the mean log probability of the labels, guessed from the source classifier's answer and how both go together.

    P(y|x) = sum over z of P(y|z) p(z|x), where P(y|z) is counted on the same images with p as weights.

    Args:
        source_probabilities: p(z|x) for s source classes, (n, s), or `source_clusters` where there is no source classifier:
            then it is N-LEEP.
        labels: integers (n,) in 0..num_classes - 1, of two classes at least.
        num_classes: k.

    Returns:
        At most 0, in nats; -H(Y) where the answers say nothing; higher is better.

    Raises:
        ValueError: arguments that do not fit together, rows that are not probabilities, labels of one class.

    Reference:
        Nguyen et al. 2020, arXiv:2002.12462: the expected empirical predictor and its mean log likelihood.
    """
    answers = _checked_features(source_probabilities, "source_probabilities").astype(np.float64)
    if answers.min() < 0 or not np.allclose(answers.sum(axis=1), 1, rtol=0, atol=1e-3):
        raise ValueError(
            "source_probabilities must be 0 or more, and each row must sum to 1. "
            f"Received: entries from {answers.min():.3g}, sums in {answers.sum(axis=1).min():.3g}..{answers.sum(axis=1).max():.3g}"
        )
    labels = _checked_labels(labels, len(answers), num_classes)
    answers = answers[:, answers.any(axis=0)]  # what is never answered has no P(y|z)
    classes, labels = np.unique(labels, return_inverse=True)
    joint = np.eye(len(classes))[labels].T @ answers
    given = joint / joint.sum(axis=0)  # P(y|z)
    return float(np.log(np.einsum("nz,nz->n", answers, given[labels])).mean())


def nce(source_labels: Integers, labels: Integers) -> float:
    """NCE: minus the conditional entropy of the labels where the source label is known, -H(Y|Z).

    Args:
        source_labels: any integers (n,), such as the source classifier's answers.
        labels: integers (n,), 0 or more, of two classes at least.

    Returns:
        Between -H(Y) and 0, in nats; 0 where the source label settles the label; higher is better.

    Raises:
        ValueError: lengths that differ, what is not an integer, labels of one class.

    Reference:
        Tran, Nguyen & Hassner 2019, arXiv:1908.08142.
    """
    sources = np.asarray(source_labels)
    if sources.ndim != 1 or not len(sources) or not np.issubdtype(sources.dtype, np.integer):
        raise ValueError(f"source_labels must be integers (n,). Received: {sources.dtype} of shape {sources.shape}")
    labels = _checked_labels(labels, len(sources), None)
    _, pair, joint = np.unique(np.stack([sources, labels]), axis=1, return_inverse=True, return_counts=True)
    _, source, marginal = np.unique(sources, return_inverse=True, return_counts=True)
    return float(np.log(joint[pair.ravel()] / marginal[source]).mean())


def trans_rate(features: Features, labels: Integers, num_classes: int, eps: float = 1e-4) -> float:
    """TransRate: how much shorter the code of the features gets once the labels are known, R(Z) - R(Z|Y).

    R(Z) = 1/2 log det(I + Z'Z / (n eps)) for features Z less their overall mean, and R(Z|Y) the mean over images of the
    rate of their class' rows, which the same mean centres. The paper's ten lines of code take the mean over classes, the
    same where these are of one size; the released code weighs them by their images, as here, which never gives less than 0.
    It grows with the features' scale and width (the released code scales rows to length 1 and the variance to 1, and
    divides by the rank): scale features alike to compare backbones.

    Args:
        features: (n, d), or their `Spectra`.
        labels: integers (n,) in 0..num_classes - 1, of two classes at least.
        num_classes: k.
        eps: squared distortion of the code, positive.

    Returns:
        0 or more, in nats; higher is better.

    Raises:
        ValueError: arguments that do not fit together, features that are not finite or do not vary, labels of one class.

    Reference:
        Huang et al. 2022, arXiv:2106.09362, and github.com/Long-Kai/TransRate.
    """
    if not (np.isfinite(eps) and eps > 0):
        raise ValueError(f"eps must be positive. Received: {eps}")
    spectra, labels = _checked(features, labels, num_classes)
    spectrum = spectra.centred
    rate = np.log1p(spectrum.values / (len(labels) * eps)).sum() / 2
    rows = spectrum.rows
    for label in np.unique(labels):
        of_class = rows[labels == label]
        rate -= len(of_class) / len(labels) * _coding_rate(of_class, eps)
    return float(rate)


def _coding_rate(rows: Array, eps: float) -> float:
    """1/2 log det(I + Z'Z / (n eps)) of rows Z, through the smaller Gram matrix."""
    num, width = rows.shape
    gram = rows @ rows.T if num < width else rows.T @ rows
    return float(np.linalg.slogdet(np.eye(len(gram)) + gram / (num * eps))[1] / 2)


def linear_cka(features: Features, targets: Features) -> float:
    """Linear CKA: how alike two sets of features see the distances between the same images.

    |Y'X|^2 / (|X'X| |Y'Y|) in Frobenius norms, columns centred. Rotations and one scale of either change nothing. It is the
    biased estimate: that of unrelated features is not 0, and near 1 where d is much larger than n.

    Args:
        features: (n, d1), or their `Spectra`.
        targets: (n, d2), or their `Spectra`; such as one-hot labels.

    Returns:
        In [0, 1]; 1 for the same features; higher is more alike.

    Raises:
        ValueError: numbers of rows that differ, features that are not finite, or all rows the same.

    Reference:
        Kornblith et al. 2019, arXiv:1905.00414, eq. 4 with linear kernels.
    """
    x, y = _centred_rows(features, "features"), _centred_rows(targets, "targets")
    num, width, other = len(x), x.shape[1], y.shape[1]
    if num != len(y):
        raise ValueError(f"features and targets must have as many rows. Received: {num} and {len(y)}")
    if num * (width + other) < width * width + width * other + other * other:
        kernel, target = x @ x.T, y @ y.T
        shared = np.vdot(kernel, target)
    else:
        kernel, target = x.T @ x, y.T @ y
        shared = np.linalg.norm(y.T @ x) ** 2
    return float(shared / (np.linalg.norm(kernel) * np.linalg.norm(target)))


def source_clusters(features: Features, num_clusters: int, seed: int) -> Array:
    """Source probabilities for `leep` where a backbone comes without its classifier: a mixture of Gaussians, as in N-LEEP.

    In the principal axes that hold 80 % of the variance. Each Gaussian has a variance for each axis: the paper's full
    covariances are singular where a cluster has fewer images than axes, and slow.

    Args:
        features: (n, d), or their `Spectra`.
        num_clusters: s in 1..n; the paper takes five for each class. Well below n: an image in a cluster of its own is
            always guessed right.
        seed: of the first clusters. The same seed gives the same probabilities.

    Returns:
        float64 (n, s), each row a distribution.

    Raises:
        ValueError: features that are not finite or do not vary, a number of clusters that is out of range.

    Reference:
        Li et al. 2021, arXiv:2011.11200.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    spectrum = _spectra(features).centred
    if not 1 <= num_clusters <= len(spectrum.left):
        raise ValueError(f"num_clusters must lie in 1..{len(spectrum.left)}, the number of rows. Received: {num_clusters}")
    energy = np.cumsum(spectrum.values) / spectrum.values.sum()
    num_axes = int(np.searchsorted(energy, CLUSTER_ENERGY)) + 1
    rows = spectrum.rows[:, :num_axes]
    mixture = GaussianMixture(num_clusters, covariance_type="diag", reg_covar=CLUSTER_FLOOR, max_iter=CLUSTER_ROUNDS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture that still moves serves as well
        rows = rows / np.sqrt((rows**2).mean())
        probabilities: Array = mixture.fit(rows).predict_proba(rows)
    return probabilities


def _class_sums(rows: Array, labels: Integers) -> tuple[Array, Array]:
    """Sums (c, r) of the rows (n, r) of each class that has any, and how many those are, (c,)."""
    classes, position, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.eye(len(classes))[position].T @ rows, counts.astype(np.float64)


def _centred(features: NDArray[Any]) -> Array:
    """Features less their means, float64 (n, d); exactly 0 where a feature is constant."""
    x: Array = features.astype(np.float64) - features[0].astype(np.float64)
    x -= x.mean(axis=0)
    return x


def _centred_rows(features: Features, name: str) -> Array:
    """Centred features (n, d), or the same in principal axes (n, r) where their `Spectra` are there."""
    if isinstance(features, Spectra):
        return features.centred.rows
    x = _centred(_checked_features(features, name))
    if not x.any():
        raise ValueError(f"{name} must vary. Received: {len(x)} rows that are all the same")
    return x


def _spectra(features: Features) -> Spectra:
    return features if isinstance(features, Spectra) else Spectra(features)


def _checked(features: Features, labels: Integers, num_classes: int) -> tuple[Spectra, Integers]:
    """Raises ValueError where features and labels do not fit together."""
    spectra = _spectra(features)
    return spectra, _checked_labels(labels, len(spectra.features), num_classes)


def _checked_features(features: NDArray[Any], name: str) -> NDArray[Any]:
    x = np.asarray(features)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"{name} must be a matrix with rows and columns. Received: shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite. Received: {int((~np.isfinite(x)).sum())} entries that are not")
    return x


def _checked_labels(labels: Integers, num: int, num_classes: int | None) -> Integers:
    found = np.asarray(labels)
    if found.shape != (num,) or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"labels must be integers, one for each of {num} rows. Received: {found.dtype} of shape {found.shape}")
    if found.min() < 0 or (num_classes is not None and found.max() >= num_classes):
        allowed = "be 0 or more" if num_classes is None else f"lie in 0..{num_classes - 1}"
        raise ValueError(f"labels must {allowed}. Received: {found.min()}..{found.max()}")
    if found.min() == found.max():
        raise ValueError(f"labels must be of two classes at least. Received: class {found[0]} only")
    return found
