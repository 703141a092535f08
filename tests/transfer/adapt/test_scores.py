"""Scores without labels: by hand on a few predictions."""

import numpy as np
import pytest

from tl_keras.transfer.adapt.scores import (
    diversity,
    effective_classes,
    entropy,
    mixed_agreement,
    mutual_information,
    neighbourhood_density,
    weighted_risk,
)

SURE = np.eye(3)[[0, 1, 2, 0, 1, 2]]
UNSURE = np.full((6, 3), 1 / 3)
COLLAPSED = np.eye(3)[[0] * 6]


def test_entropy_diversity_and_their_difference() -> None:
    assert (entropy(SURE), entropy(UNSURE), entropy(COLLAPSED)) == pytest.approx((0, np.log(3), 0))
    assert (diversity(SURE), diversity(UNSURE), diversity(COLLAPSED)) == pytest.approx((np.log(3), np.log(3), 0))
    assert (mutual_information(SURE), mutual_information(UNSURE), mutual_information(COLLAPSED)) == pytest.approx((np.log(3), 0, 0))


def test_effective_classes() -> None:
    assert effective_classes(np.array([0, 1, 2, 3]), 4) == pytest.approx(4)
    assert effective_classes(np.zeros(5, int), 4) == pytest.approx(1)
    assert 1 < effective_classes(np.array([0, 0, 0, 1]), 4) < 2


def test_mixed_agreement_is_the_mean_over_classes_of_pairs_of_different_classes() -> None:
    predicted, of_partner = np.array([0, 0, 0, 0, 1, 1]), np.array([1, 1, 1, 0, 0, 1])
    mixed = np.array([0, 0, 1, 1, 0, 1])  # of class 0 two of three hold, the fourth is no such pair; of class 1 none of one
    assert mixed_agreement(predicted, of_partner, mixed) == pytest.approx((2 / 3 + 0) / 2)
    assert mixed_agreement(predicted, predicted, predicted) == 0  # nothing to tell by


def test_density_prefers_what_has_collapsed() -> None:
    assert neighbourhood_density(COLLAPSED) > neighbourhood_density(SURE)  # which is why it never decides


def test_weighted_risk() -> None:
    assert weighted_risk(np.array([1.0, 3.0]), np.array([3.0, 1.0])) == pytest.approx(1.5)
