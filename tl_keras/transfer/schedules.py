"""The learning rate of every step, as a pure function of the step.

Nothing here knows the optimizer that asks or the model that learns. Being pure, a schedule has no state to save: a
resumed run continues it from the optimizer's own count of steps.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from tl_keras.config import TrainConfig
from tl_keras.errors import ConfigError

# 1cycle as fastai and PyTorch run it: 30 % of the steps upward from peak / 25, the rest down to peak / 25e4.
ONECYCLE_RISE = 0.3
ONECYCLE_START = 1 / 25
ONECYCLE_END = 1 / 25e4


def make_schedule(train: TrainConfig, peak: float, steps: int, steps_per_epoch: int) -> "Schedule":
    """The schedule that `train` describes for a phase of `steps` optimiser updates with highest rate `peak`.

    Raises:
        ConfigError: there are more cycles than epochs.
    """
    restarts = train.schedule == "cosine_restarts"
    return Schedule(
        train.schedule,
        peak,
        steps,
        warmup_fraction=train.warmup_fraction,
        drop_steps=train.step_epochs * steps_per_epoch,
        drop_factor=train.step_factor,
        cycle_ends=[end * steps_per_epoch for end in cycle_ends(steps // steps_per_epoch, train.cycles)] if restarts else None,
    )


def cycle_ends(epochs: int, cycles: int) -> tuple[int, ...]:
    """The epochs, 1-based, with which the cycles of `cosine_restarts` end; the last of them is the last epoch.

    Cycles are as long as each other where that comes out even, and else differ by one epoch.

    Raises:
        ConfigError: there are more cycles than epochs.
    """
    if cycles > epochs:  # where the number of epochs was not known when the configuration was read
        raise ConfigError(f"train.cycles: got {cycles}, expected at most train.epochs, which is {epochs}: a cycle ends with an epoch.")
    return tuple(math.ceil(cycle * epochs / cycles) for cycle in range(1, cycles + 1))


@keras.saving.register_keras_serializable(package="tl_keras")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A rise to `peak`, then cosine to zero, once or again and again, drops by a factor, or nothing; or the whole of a 1cycle.

    The rise is linear over w = `warmup_fraction` of the steps: peak (t + 1) / (w + 1) at step t < w, so that step 0
    already learns and step w is the first at the peak. 1cycle has a rise of its own. The rate is 0 (1cycle: its end)
    after the last step.

    With restarts, step t of a cycle of c steps has the rate peak (1 + cos(pi t / c)) / 2: each begins at the peak. Only the
    first has a rise, taken out of its own steps so that every cycle ends where it would without: w is a fraction of that
    cycle, for a tenth of all steps would be half of the first of five.

    Args:
        kind: 'cosine' (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts), 'cosine_restarts' (Huang et al. 2017,
            arXiv:1704.00109, eq. 2), 'onecycle' (Smith & Topin 2017, arXiv:1708.07120; the rate only, the momentum stays),
            'step' or 'constant'.
        peak: the highest rate, above 0.
        steps: optimiser updates in all, at least 1.
        warmup_fraction: of `steps`, or of the first cycle's, in [0, 1).
        drop_steps: steps between two drops of 'step', counted from step 0.
        drop_factor: what a drop multiplies the rate by.
        cycle_ends: steps done at the end of each cycle of 'cosine_restarts', rising up to `steps`; None for one cycle.

    Raises:
        ValueError: an unknown kind, no steps, or cycles that do not rise up to the last step.
    """

    def __init__(
        self,
        kind: str,
        peak: float,
        steps: int,
        *,
        warmup_fraction: float = 0.0,
        drop_steps: int = 1,
        drop_factor: float = 1.0,
        cycle_ends: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if kind not in _SHAPES:
            raise ValueError(f"kind must be one of {sorted(_SHAPES)}. Received: kind={kind!r}")
        if steps < 1 or drop_steps < 1:
            raise ValueError(f"steps and drop_steps must be >= 1. Received: steps={steps}, drop_steps={drop_steps}")
        ends = [steps] if cycle_ends is None else list(cycle_ends)
        if any(end <= start for start, end in pairwise([0, *ends])) or ends[-1:] != [steps]:
            raise ValueError(f"cycle_ends must rise from above 0 to steps. Received: cycle_ends={ends}, steps={steps}")
        self.kind = kind
        self.peak = peak
        self.steps = steps
        self.warmup_fraction = warmup_fraction
        self.drop_steps = drop_steps
        self.drop_factor = drop_factor
        self.cycle_ends = ends

    @property
    def rise_steps(self) -> int:
        """Steps before the peak; at least one step is left for the peak itself."""
        fraction = ONECYCLE_RISE if self.kind == "onecycle" else self.warmup_fraction
        steps = self.cycle_ends[0] if self.kind == "cosine_restarts" else self.steps
        return min(round(fraction * steps), steps - 1)

    def __call__(self, step: Any) -> Any:
        """The rate of `step`, an integer scalar from 0; float32 scalar."""
        return self.peak * _SHAPES[self.kind](self, ops.cast(step, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "peak": self.peak,
            "steps": self.steps,
            "warmup_fraction": self.warmup_fraction,
            "drop_steps": self.drop_steps,
            "drop_factor": self.drop_factor,
            "cycle_ends": self.cycle_ends,
        }


# Each shape takes the schedule and the step, a float32 scalar, and gives a fraction of the peak.


def _cosine(schedule: Schedule, step: Any) -> Any:
    past = (step - schedule.rise_steps) / (schedule.steps - schedule.rise_steps)
    return _warm(schedule, step, _glide(past, 1.0, 0.0))


def _cosine_restarts(schedule: Schedule, step: Any) -> Any:
    ends = np.array(schedule.cycle_ends, np.float32)
    starts = np.array([schedule.rise_steps, *schedule.cycle_ends[:-1]], np.float32)
    cycle = ops.sum(ops.cast(step >= ends[:-1], "int32"))  # ends that lie behind; after the last step, the last cycle
    start, end = ops.take(starts, cycle), ops.take(ends, cycle)
    return _warm(schedule, step, _glide((step - start) / (end - start), 1.0, 0.0))


def _step(schedule: Schedule, step: Any) -> Any:
    return _warm(schedule, step, schedule.drop_factor ** ops.floor(step / schedule.drop_steps))


def _constant(schedule: Schedule, step: Any) -> Any:
    return _warm(schedule, step, ops.ones_like(step))


def _onecycle(schedule: Schedule, step: Any) -> Any:
    rise = schedule.rise_steps
    up = _glide(step / max(rise, 1), ONECYCLE_START, 1.0)
    down = _glide((step - rise) / max(schedule.steps - 1 - rise, 1), 1.0, ONECYCLE_END)
    return ops.where(step < rise, up, down)


def _warm(schedule: Schedule, step: Any, after: Any) -> Any:
    return ops.where(step < schedule.rise_steps, (step + 1) / (schedule.rise_steps + 1), after)


def _glide(past: Any, start: float, end: float) -> Any:
    """Half a cosine from `start` at `past` 0 to `end` at 1, and `end` from there on."""
    return end + (start - end) * (1 + ops.cos(math.pi * ops.clip(past, 0.0, 1.0))) / 2


_SHAPES = {
    "cosine": _cosine,
    "cosine_restarts": _cosine_restarts,
    "onecycle": _onecycle,
    "step": _step,
    "constant": _constant,
}
