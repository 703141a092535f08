"""Distances between domains: by brute force, none where there is none, and more where domains are farther apart."""

import numpy as np
import pytest

from tl_keras.transfer.adapt.kernels import median_bandwidth
from tl_keras.transfer.adapt.measures import WIDTHS, classwise_mmd, coral_distance, proxy_a_distance, squared_mmd

DRAWS = np.random.default_rng(0)
X, SAME = DRAWS.normal(size=(120, 5)), DRAWS.normal(size=(100, 5))
FAR = SAME + 2


def test_mmd_is_that_of_all_pairs() -> None:
    x, y = X[:7], FAR[:6]
    gamma = median_bandwidth(np.concatenate([x, y]))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([np.exp(-gamma * width * ((a - b) ** 2).sum()) for width in WIDTHS]))

    within = [np.mean([kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]) for rows in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert squared_mmd(x, y) == pytest.approx(within[0] + within[1] - 2 * across)


@pytest.mark.parametrize("distance", [squared_mmd, lambda x, y: proxy_a_distance(x, y, np.random.default_rng(0))], ids=["mmd", "proxy_a"])
def test_a_distance_is_near_0_for_one_distribution_and_grows(distance) -> None:
    near, farther, far = (distance(X, each) for each in (SAME, SAME + 0.5, FAR))
    assert abs(near) < 0.4 * farther
    assert farther < far


def test_proxy_a_distance_ends_at_2() -> None:
    assert proxy_a_distance(X, SAME + 50, np.random.default_rng(0)) == 2


def test_coral_distance_sees_correlations_and_not_means() -> None:
    assert coral_distance(X, X + 7) == pytest.approx(0)
    assert coral_distance(X, 2 * X) == pytest.approx(9 * (np.cov(X, rowvar=False) ** 2).sum() / 100)


def test_classwise_mmd_leaves_out_what_one_domain_lacks() -> None:
    labels = np.arange(120) % 3
    assert classwise_mmd(X, FAR, labels, np.zeros(100, int)) == pytest.approx(squared_mmd(X[labels == 0], FAR))
    assert np.isnan(classwise_mmd(X, FAR, labels, np.full(100, 7)))
