"""AdamW and SGD whose updates are scaled variable by variable, which Keras does not offer.

Finetuning moves the early stages of a backbone less than the late ones. Scaling a gradient would do nothing under
Adam, which divides it out again, so the learning rate of each variable is scaled, and its decay with it. Which
variable gets which scale is decided elsewhere; the optimizer goes to `compile`, which wraps it in Keras'
LossScaleOptimizer under float16.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import keras

from tl_keras.config import TrainConfig


def make_optimizer(
    train: TrainConfig,
    schedule: keras.optimizers.schedules.LearningRateSchedule | float,
    scales: Mapping[str, float],
    first_steps: Mapping[str, int] | None = None,
    pruned: Collection[str] = (),
) -> keras.optimizers.Optimizer:
    """The optimizer that `train` describes, with its weight decay, clipping and averaged weights.

    Args:
        train: `optimizer`, `momentum`, `weight_decay`, `clip_norm` and `ema` are read.
        schedule: the learning rate, by step or constant.
        scales: what the update of a variable is multiplied by, >= 0, by `variable.path`; 1 where a path is missing.
        first_steps: the step, from 0, from which on a variable is updated, by its path; 0 where it is missing.
        pruned: the paths of variables whose weights stay zero, and their averages too, once they are.

    Returns:
        A fresh optimizer. With `train.ema` it averages the trainable weights after every step, and Keras' `fit` puts
        the averages in their place at its end; validation between epochs sees them through `SwapEMAWeights`.

    Raises:
        ValueError: a scale is negative or not finite.
    """
    settings: dict[str, Any] = {
        "learning_rate": schedule,
        "scales": scales,
        "first_steps": first_steps or {},
        "pruned": pruned,
        "decay": train.weight_decay,
        "towards_start": train.decay_towards == "start",
        "global_clipnorm": train.clip_norm,
    }
    if train.ema:
        settings |= {"use_ema": True, "ema_momentum": train.ema}
    if train.optimizer == "sgd":
        return ScaledSGD(momentum=train.momentum, **settings)
    return ScaledAdamW(**settings)


class _Scaled(keras.optimizers.Optimizer):
    """Goes before a Keras optimizer whose update is proportional to the learning rate that `update_step` gets.

    Adds to its arguments `scales`, `first_steps` and `pruned`, as in `make_optimizer`: before its first step a variable stands still, and
    only the averages of its gradient are kept, so that Adam's first update of it is as large as any other; `decay`, the decoupled weight
    decay: a step takes decay * learning rate * scale of each kernel off it; and `towards_start`: it takes so much of what the kernel has
    moved off it instead (L2-SP: Li, Grandvalet & Davoine 2018, arXiv:1802.01483). Keras' own `weight_decay` stays unset: it would be
    neither scaled nor kept from norms and biases, the variables of rank 0 and 1.
    """

    def __init__(
        self,
        *,
        scales: Mapping[str, float],
        decay: float,
        towards_start: bool = False,
        first_steps: Mapping[str, int] | None = None,
        pruned: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        for path, scale in scales.items():
            if not (math.isfinite(scale) and scale >= 0):
                raise ValueError(f"scales must be finite and >= 0. Received: {scale} for {path!r}")
        super().__init__(**kwargs)
        self.scales = dict(scales)
        self.first_steps = dict(first_steps or {})
        self.pruned = sorted(pruned)
        self.decay = decay
        self.towards_start = towards_start
        self._starts: list[Any] = []

    def build(self, variables: Any) -> None:
        """Take the variables to be trained; where it matters, what they are now is kept, and saved with the optimizer's state."""
        super().build(variables)
        if self._starts or not (self.decay and self.towards_start):
            return
        for variable in variables:
            start = self.add_variable_from_reference(variable, name="start") if len(variable.shape) > 1 else None
            if start is not None:
                start.assign(variable)
            self._starts.append(start)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # TensorFlow's backend hands over the tf.Variable inside the Keras variable, which does not know its path.
        place = self._get_variable_index(variable)
        path = self._trainable_variables[place].path
        rate = learning_rate * self.scales.get(path, 1.0)
        if first := self.first_steps.get(path, 0):
            rate = rate * keras.ops.cast(self.iterations >= first, rate.dtype)
        kept = keras.ops.cast(variable != 0, variable.dtype) if path in self.pruned else None
        if self.decay and len(variable.shape) > 1:
            moved = variable - self._starts[place] if self._starts else variable
            self.assign_sub(variable, moved * (self.decay * rate))
        super().update_step(gradient if kept is None else gradient * kept, variable, rate)
        if kept is not None:
            averages = [self._model_variables_moving_average[place]] if self.use_ema else []
            for each in (variable, *averages):
                self.assign(each, each * kept)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """The gradients as they are: on several devices they have been summed before they are clipped, see `replicas`."""
        return grads_and_vars

    def get_config(self) -> dict[str, Any]:
        own = {"scales": self.scales, "decay": self.decay, "towards_start": self.towards_start}
        return super().get_config() | own | {"first_steps": self.first_steps, "pruned": self.pruned}


@keras.saving.register_keras_serializable(package="tl_keras")
class ScaledAdamW(_Scaled, keras.optimizers.Adam):
    """Adam with decoupled weight decay. Reference: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2."""


@keras.saving.register_keras_serializable(package="tl_keras")
class ScaledSGD(_Scaled, keras.optimizers.SGD):
    """SGD with momentum and decoupled weight decay. Reference: arXiv:1711.05101, algorithm 1.

    The momentum collects updates that already bear their learning rate, as Keras and TensorFlow define it.
    """
