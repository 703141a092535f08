"""Pruning against plain loops, and through real training: how many weights are zero, which, and that they stay so."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.config import TrainConfig
from tl_keras.errors import ConfigError
from tl_keras.progress import Progress
from tl_keras.transfer.finetune import finetune
from tl_keras.transfer.optimizers import make_optimizer
from tl_keras.transfer.phases import Phase
from tl_keras.transfer.pruning import RAMP, TIMES, Pruning, prunable, pruned, zeros_in
from tl_keras.transfer.task import Task

MakeTask = Callable[..., Task]


def kernels(seed: int = 0) -> list[np.ndarray]:
    """Three kernels of different shapes and scales."""
    rng = np.random.default_rng(seed)
    shapes = (((3, 3, 2, 4), 1.0), ((5, 7), 0.01), ((1, 1, 4, 6), 30.0))
    return [rng.normal(0, scale, shape).astype(np.float32) for shape, scale in shapes]


def twin(found: list[np.ndarray], share: float) -> list[np.ndarray]:
    """LAMP by its definition, weight by weight."""
    scored = []
    for place, kernel in enumerate(found):
        flat = kernel.ravel().astype(np.float64)
        for at, weight in enumerate(flat):
            scored.append((weight**2 / sum(other**2 for other in flat if other**2 >= weight**2), place, at))
    left = [kernel.ravel().copy() for kernel in found]
    for _, place, at in sorted(scored)[: int(np.ceil(share * len(scored)))]:
        left[place][at] = 0
    return [flat.reshape(kernel.shape) for flat, kernel in zip(left, found, strict=True)]


@pytest.mark.parametrize("share", [0.0, 0.013, 0.5, 0.9])
def test_the_weights_of_the_lowest_scores_are_gone(share: float) -> None:
    for found, expected in zip(pruned(kernels(), share), twin(kernels(), share), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_is_zero_stays_so_while_more_goes_and_scale_does_not_matter() -> None:
    once = pruned(kernels(), 0.3)
    again = pruned(once, 0.6)
    for one, other in zip(once, again, strict=True):
        assert not other[one == 0].any()
    assert sum(int((each == 0).sum()) for each in again) == np.ceil(0.6 * sum(each.size for each in again))
    scaled = pruned([1000 * kernels()[0], *kernels()[1:]], 0.6)
    for one, other in zip(pruned(kernels(), 0.6), scaled, strict=True):
        np.testing.assert_array_equal(one == 0, other == 0)
    assert all(each.any() for each in pruned(kernels(), 0.97))  # no kernel is lost


def test_a_kernel_of_zeros_costs_no_other_a_weight() -> None:
    empty, other = pruned([np.zeros((2, 5), np.float32), kernels()[1]], 10 / 45)
    assert not empty.any()
    np.testing.assert_array_equal(other, kernels()[1])


@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_the_share_of_zeros_grows_by_the_cube_up_to_what_is_asked_for(steps: int) -> None:
    pruning = Pruning(0.8, (), steps)
    shares = [pruning.share_at(step) for step in range(steps)]
    ramp = int(RAMP * steps)
    for step in range(ramp):
        assert shares[step] == pytest.approx(0.8 + (0.0 - 0.8) * (1 - step / ramp) ** 3)  # as the paper has it
    assert shares[ramp:] == [0.8] * (steps - ramp)  # and there is such a step
    due = [step for step in range(steps) if pruning.is_due(step)]
    assert due[-1] == ramp
    assert len(due) <= 2 * TIMES + 1


@pytest.mark.parametrize(("steps", "passed_over"), [(1, 0), (5, 3), (19, 12)])
def test_the_first_epoch_that_counts_ends_with_all_weights_gone_that_have_to_be(steps: int, passed_over: int) -> None:
    phase = Phase("finetune", steps, 1, 0.1, {}, None, pruning=Pruning(0.8, (), steps))
    assert phase.passed_over(1) == passed_over
    assert not Pruning(0.8, (), steps).is_due(passed_over + 1)
    assert Phase("finetune", steps, 1, 0.1, {}, None).passed_over(1) == 0


@pytest.mark.parametrize(
    "own",
    [{}, {"optimizer": "sgd"}, {"ema": 0.9}, {"decay_towards": "start"}],
    ids=["adamw", "sgd", "averages", "decay towards the start"],
)
def test_what_is_pruned_stays_zero_whatever_the_gradient_says(own: dict[str, Any]) -> None:
    train = TrainConfig.model_validate({"weight_decay": 0.1, **own})
    variables = [keras.Variable(value, name=name) for value, name in zip(kernels()[:2], "ab", strict=True)]
    optimizer = make_optimizer(train, 0.1, {}, pruned=["a"])
    optimizer.build(variables)
    step = tf.function(lambda grads: optimizer.apply(grads))
    step([tf.ones(each.shape) for each in variables])  # momenta and averages of what goes later are there
    for each in variables:
        each.assign(np.where(np.arange(each.numpy().size).reshape(each.shape) % 2, 0, each.numpy()))
    gone = np.arange(variables[0].numpy().size).reshape(variables[0].shape) % 2 == 1
    for _ in range(3):
        step([tf.ones(each.shape) for each in variables])
    assert not variables[0].numpy()[gone].any()
    assert variables[0].numpy()[~gone].all()
    assert variables[1].numpy().all()  # which is not pruned, and learns again
    if train.ema:
        averages = optimizer._model_variables_moving_average[0].numpy()
        np.testing.assert_array_equal(averages == 0, gone)


def network_task(make_task: MakeTask, tmp_path: Any, **train: Any) -> Task:
    """A task of a backbone with all kinds of layers."""
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, 2, name="first")(pixels)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(keras.layers.BatchNormalization(name="norm")(x))
    x = keras.layers.SeparableConv2D(8, 3, name="separable")(x)
    x = keras.layers.Conv2D(16, 1, name="pointwise")(keras.layers.LayerNormalization(name="layer_norm")(x))
    keras.Model(pixels, keras.layers.Dense(16, name="dense")(x)).save(tmp_path / "all.keras")
    return make_task(model={"backbone": str(tmp_path / "all.keras")}, train=train)


def test_only_kernels_of_whole_convolutions_and_of_dense_layers_are_pruned(make_task: MakeTask, tmp_path: Any) -> None:
    task = network_task(make_task, tmp_path, sparsity=0.5)
    found = {variable.path for variable in prunable(task.classifier)}
    assert found == {"separable/pointwise_kernel", "pointwise/kernel", "dense/kernel"}


def test_what_does_not_train_is_not_pruned(make_task: MakeTask) -> None:
    task = make_task(train={"unfreeze_from": "stage3"})
    assert [variable.path for variable in prunable(task.classifier)] == ["stage3_conv/kernel"]


def test_a_stage_without_kernels_is_refused(make_task: MakeTask, tmp_path: Any) -> None:
    x = pixels = keras.Input((16, 16, 3))
    for name in ("one", "two"):
        x = keras.layers.DepthwiseConv2D(3, 2, "same", name=name)(x)
    keras.Model(pixels, x).save(tmp_path / "thin.keras")
    with pytest.raises(ConfigError, match=r"train\.sparsity: got 0\.5, but no stage that trains has kernels to prune"):
        make_task(model={"backbone": str(tmp_path / "thin.keras")}, train={"sparsity": 0.5})


class StopAt(Progress):
    """Ctrl-C as the line of the second epoch of finetuning comes."""

    def line(self, text: str) -> None:
        if text.startswith("finetune   2/"):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_that_was_killed_ends_like_another_with_as_many_zeros_as_were_asked_for(make_task: MakeTask) -> None:
    settings = {"train": {"sparsity": 0.7, "epochs": 3, "ema": 0.5, "weight_decay": 0.5, "unfreeze_from": "stage3"}}
    whole, stopped = make_task("whole", **settings), make_task("run", progress=StopAt(), **settings)
    finetune(whole)
    with pytest.raises(KeyboardInterrupt):
        finetune(stopped)
    resumed = make_task("run", **settings)
    finetune(resumed)
    for one, other in zip(whole.classifier.model.weights, resumed.classifier.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    kernels = [variable.numpy() for variable in prunable(resumed.classifier)]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels)
    assert zeros == np.ceil(0.7 * sum(kernel.size for kernel in kernels))
    total = sum(weight.numpy().size for weight in resumed.classifier.model.weights)
    assert zeros / total <= zeros_in(resumed.classifier.model) < zeros / total + 0.2  # biases and means that begin at zero
