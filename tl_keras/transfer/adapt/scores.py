"""How good a model may be on images without labels: what its probabilities and its predictions for mixed images tell.

None of these reads a label of the target. All are known to be fooled by a model that says the same of every image, so whether one has
collapsed is looked at first.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax  # of likenesses, not a class

Probabilities = NDArray[np.floating]

TEMPERATURE = 0.05  # of soft neighbourhood density


def entropy(probabilities: Probabilities) -> float:
    """Mean entropy of predictions (m, k) in nats: lower is better. Reference: Morerio et al. 2018, arXiv:1711.10288."""
    return float(_entropy(probabilities).mean())


def diversity(probabilities: Probabilities) -> float:
    """Entropy of the mean prediction, in nats: the most, log k, where all classes are predicted alike."""
    return float(_entropy(probabilities.mean(axis=0)))


def mutual_information(probabilities: Probabilities) -> float:
    """Between an image and its class, as the model sees it, in nats: `diversity` less `entropy`."""
    return diversity(probabilities) - entropy(probabilities)


def effective_classes(predicted: NDArray[np.integer], num_classes: int) -> float:
    """How many classes are predicted, counted as exp of the entropy of their shares: k where all alike, 1 where it is always the same."""
    shares = np.bincount(predicted, minlength=num_classes) / len(predicted)
    return float(np.exp(_entropy(shares)))


def mixed_agreement(predicted: NDArray[np.integer], of_partner: NDArray[np.integer], mixed: NDArray[np.integer]) -> float:
    """How often an image is predicted as before when some of an image of another predicted class is mixed in, in [0, 1].

    The mean over the classes that the larger parts are of, so that a class that swallows the others does not decide.

    Args:
        predicted: int (m,), for each image by itself.
        of_partner: int (m,), for the image that is mixed in.
        mixed: int (m,), for the mixed image.

    Reference: MixVal, inter-cluster probes (Hu et al. 2023, NeurIPS, arXiv:2310.18033).
    """
    other, hit = predicted != of_partner, predicted == mixed
    found = [hit[other & (predicted == label)].mean() for label in np.unique(predicted[other])]
    return float(np.mean(found)) if found else 0.0


def neighbourhood_density(probabilities: Probabilities) -> float:
    """Soft neighbourhood density (Saito et al. 2021, arXiv:2108.10860): higher is said to be better.

    Benchmarks found that it prefers collapsed models: it is shown as a warning and never decides.
    """
    unit = probabilities / np.linalg.norm(probabilities, axis=1, keepdims=True)
    similarity = unit @ unit.T / TEMPERATURE
    np.fill_diagonal(similarity, -np.inf)
    return float(_entropy(softmax(similarity, axis=1)).mean())  # of neighbours, not a class


def weighted_risk(losses: NDArray[np.floating], weights: NDArray[np.floating]) -> float:
    """Mean loss on val of the source, each image weighted by how much it looks like the target.

    Reference: Sugiyama, Krauledat & Müller 2007, JMLR 8, 985.
    """
    return float(losses @ weights / weights.sum())


def _entropy(p: Probabilities) -> NDArray[np.floating]:
    return -(p * np.log(np.maximum(p, 1e-30))).sum(axis=-1)
