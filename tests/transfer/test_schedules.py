"""Schedules against their twins in plain Python, over every step and beyond."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.config import TrainConfig
from tl_keras.errors import ConfigError
from tl_keras.transfer.schedules import Schedule, cycle_ends, make_schedule

PEAK = 0.02


def twin(kind: str, step: int, steps: int, warmup_fraction: float, drop_steps: int, drop_factor: float) -> float:
    if kind == "onecycle":
        rise, last = min(round(0.3 * steps), steps - 1), steps - 1
        if step < rise:
            return between(PEAK / 25, PEAK, step / rise)
        return between(PEAK, PEAK / 25e4, min((step - rise) / max(last - rise, 1), 1))
    rise = min(round(warmup_fraction * steps), steps - 1)
    if step < rise:
        return PEAK * (step + 1) / (rise + 1)
    if kind in ("cosine", "cosine_restarts"):  # restarts without cycles are one cosine
        return between(PEAK, 0, min((step - rise) / (steps - rise), 1))
    if kind == "step":
        return PEAK * drop_factor ** (step // drop_steps)
    return PEAK


def between(start: float, end: float, past: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * past))


@pytest.mark.parametrize("kind", ["cosine", "cosine_restarts", "onecycle", "step", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 0.99])
def test_schedule_equals_twin(kind: str, steps: int, warmup_fraction: float) -> None:
    schedule = Schedule(kind, PEAK, steps, warmup_fraction=warmup_fraction, drop_steps=3, drop_factor=0.5)
    rates = [float(schedule(step)) for step in range(steps + 5)]
    expected = [twin(kind, step, steps, warmup_fraction, 3, 0.5) for step in range(steps + 5)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=PEAK * 1e-6)
    assert all(rate > 0 for rate in rates[:steps])
    assert max(rates) <= PEAK * (1 + 1e-6)


def test_warmup_rises_from_above_zero_to_the_peak() -> None:
    schedule = Schedule("cosine", PEAK, 40, warmup_fraction=0.1)
    np.testing.assert_allclose([schedule(t) for t in range(5)], PEAK * np.array([0.2, 0.4, 0.6, 0.8, 1.0]), rtol=1e-6)
    assert schedule(5) < PEAK


def test_onecycle_starts_peaks_and_ends_where_the_paper_says() -> None:
    schedule = Schedule("onecycle", PEAK, 100, warmup_fraction=0.5)
    rates = np.array([schedule(t) for t in range(100)])
    np.testing.assert_allclose(rates[[0, 30, 99]], [PEAK / 25, PEAK, PEAK / 25e4], rtol=1e-3)
    assert rates.argmax() == 30


@pytest.mark.parametrize("cycles", [1, 3, 4])
def test_restarts_equal_the_paper(cycles: int) -> None:
    total, length = 24, math.ceil(24 / cycles)
    schedule = Schedule("cosine_restarts", PEAK, total, cycle_ends=range(length, total + 1, length))
    paper = [PEAK / 2 * (math.cos(math.pi * ((t - 1) % length) / length) + 1) for t in range(1, total + 1)]  # eq. 2
    np.testing.assert_allclose([schedule(step) for step in range(total)], paper, rtol=1e-5)
    assert [step for step in range(total) if float(schedule(step)) == np.float32(PEAK)] == list(range(0, total, length))
    assert float(schedule(total)) == float(schedule(total + 7)) == 0.0


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 0.5, 0.99])
def test_restarts_rise_in_the_first_cycle_alone_and_end_where_they_would_without(warmup_fraction: float) -> None:
    ends, total = [9, 14, 20], 20
    schedule = Schedule("cosine_restarts", PEAK, total, warmup_fraction=warmup_fraction, cycle_ends=ends)
    rise = min(round(warmup_fraction * 9), 8)
    expected = [PEAK * (step + 1) / (rise + 1) for step in range(rise)]
    for start, end in [(rise, 9), (9, 14), (14, 20)]:
        expected += [between(PEAK, 0, (step - start) / (end - start)) for step in range(start, end)]
    np.testing.assert_allclose([schedule(step) for step in range(total)], expected, rtol=1e-5, atol=PEAK * 1e-6)


@pytest.mark.parametrize(("epochs", "cycles", "ends"), [(9, 3, (3, 6, 9)), (20, 3, (7, 14, 20)), (7, 5, (2, 3, 5, 6, 7)), (4, 1, (4,))])
def test_cycles_end_with_epochs(epochs: int, cycles: int, ends: tuple[int, ...]) -> None:
    assert cycle_ends(epochs, cycles) == ends


def test_cycles_differ_by_an_epoch_at_most() -> None:
    for epochs in range(1, 40):
        for cycles in range(1, epochs + 1):
            ends = cycle_ends(epochs, cycles)
            lengths = np.diff([0, *ends])
            assert (len(ends), ends[-1]) == (cycles, epochs)
            assert 1 <= lengths.min() <= lengths.max() <= lengths.min() + (epochs % cycles > 0)


def test_more_cycles_than_epochs_is_a_mistake_of_the_user() -> None:
    with pytest.raises(
        ConfigError, match=r"^train\.cycles: got 5, expected at most train\.epochs, which is 4: a cycle ends with an epoch\.$"
    ):
        make_schedule(TrainConfig(schedule="cosine_restarts"), PEAK, steps=12, steps_per_epoch=3)


def test_make_schedule_counts_cycles_in_epochs() -> None:
    train = TrainConfig(schedule="cosine_restarts", cycles=2, warmup_fraction=0.0)
    schedule = make_schedule(train, PEAK, steps=15, steps_per_epoch=5)
    assert schedule.cycle_ends == [10, 15]
    np.testing.assert_allclose([schedule(t) for t in (0, 5, 10)], PEAK * np.array([1, 0.5, 1]), rtol=1e-6)
    assert make_schedule(TrainConfig(), PEAK, steps=15, steps_per_epoch=5).cycle_ends == [15]


@pytest.mark.parametrize("ends", [[], [5], [5, 5, 10], [0, 10], [7, 3, 10], [5, 11]])
def test_cycles_that_do_not_rise_to_the_last_step_are_refused(ends: list[int]) -> None:
    with pytest.raises(ValueError, match=r"cycle_ends must rise from above 0 to steps. Received: cycle_ends=\["):
        Schedule("cosine_restarts", PEAK, 10, cycle_ends=ends)


@pytest.mark.parametrize("kind", ["cosine", "cosine_restarts", "onecycle", "step", "constant"])
def test_schedule_is_the_same_in_a_graph_and_for_int64(kind: str) -> None:
    schedule = Schedule(kind, PEAK, 20, warmup_fraction=0.2, drop_steps=4, drop_factor=0.1, cycle_ends=[9, 20])
    graph = tf.function(lambda step: schedule(step))
    for step in (0, 3, 4, 8, 19, 30):
        rate = graph(tf.constant(step, tf.int64))
        assert rate.dtype == tf.float32
        np.testing.assert_allclose(rate, schedule(step), rtol=1e-6)


@pytest.mark.parametrize("kind", ["step", "cosine_restarts"])
def test_schedule_survives_serialisation(kind: str) -> None:
    schedule = Schedule(kind, PEAK, 20, warmup_fraction=0.2, drop_steps=4, drop_factor=0.1, cycle_ends=[7, 20])
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()
    assert float(again(9)) == float(schedule(9))


def test_make_schedule_counts_drops_in_epochs() -> None:
    train = TrainConfig(schedule="step", step_epochs=2, step_factor=0.5, warmup_fraction=0.0)
    schedule = make_schedule(train, PEAK, steps=30, steps_per_epoch=5)
    np.testing.assert_allclose([schedule(t) for t in (0, 9, 10, 19, 20)], PEAK * np.array([1, 1, 0.5, 0.5, 0.25]))


def test_schedule_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of .*Received: kind='linear'"):
        Schedule("linear", PEAK, 10)
    with pytest.raises(ValueError, match=r"steps and drop_steps must be >= 1. Received: steps=0, drop_steps=1"):
        Schedule("cosine", PEAK, 0)
