"""Solved heads: one on a resample of numbers has the scale and the penalty of the head on all images."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tl_keras.config import Config
from tl_keras.models.outputs import Regression
from tl_keras.transfer.head.problem import HeadProblem


def test_a_head_of_numbers_on_a_resample_is_not_chosen_by_copies_of_what_is_left_out() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(80, 60)).astype(np.float32)
    numbers = (100 + 10 * x[:, 0] + draws.normal(0, 30, 80)).astype(np.float32)
    frozen = cast(Any, SimpleNamespace(stored=lambda kind, rows, num_views=0: x[rows]))
    problem = HeadProblem(frozen, cast(Any, numbers), ("value",), 0, Regression())
    config = Config.model_validate({"mode": "extract", "data": {"source": "labels.csv", "task": "regression"}})
    train, val = np.arange(60), np.arange(60, 80)
    whole = problem.solve(config, train, val)
    same = problem.solve(config, train, val, like=whole)
    np.testing.assert_allclose(same.probe.kernel, whole.probe.kernel, rtol=1e-5)
    resample = np.sort(draws.choice(train, 60))
    bag, misled = (problem.solve(config, resample, val, like=like) for like in (whole, None))
    assert (bag.output, bag.probe.c) == (whole.output, pytest.approx(whole.probe.c))
    assert misled.output != whole.output
    assert misled.probe.c > 9 * whole.probe.c  # a copy of an image tells its number
