"""Every row of the table of outputs: NumPy and graph agree, and targets, probabilities, decisions and loss fit together."""

import math
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tl_keras
from tl_keras.models.outputs import LOG_LOSS, OUTPUTS, SINGLE_LABEL, Output

K = 5
LABELS = np.random.default_rng(1).integers(0, K, 40).astype(np.int32)

every_row = pytest.mark.parametrize("row", OUTPUTS.values(), ids=list(OUTPUTS))


def logits_of(scale: float, num: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(0, scale, (num, K)).astype(np.float32)


@every_row
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("traced", [False, True])
def test_numbers_and_graph_agree(row: Output, scale: float, traced: bool) -> None:
    logits = logits_of(scale)

    def graph(logits: tf.Tensor) -> tuple[tf.Tensor, ...]:
        probabilities = row.probabilities_op(logits)
        return (
            probabilities,
            row.log_probabilities_op(logits),
            row.logits_op(probabilities, 1e-4),
            row.targets_op(row.decide_op(probabilities), K),
        )

    found = (tf.function(graph) if traced else graph)(tf.constant(logits))
    probabilities = row.probabilities(logits)
    expected = (
        probabilities,
        row.log_probabilities(logits),
        row.logits(probabilities, 1e-4),
        row.targets(row.decide(probabilities), K),
    )
    for in_graph, numbers, relative in zip(found, expected, (0, 1e-6, 1e-5, 0), strict=True):
        assert np.isfinite(numbers).all()
        np.testing.assert_allclose(in_graph.numpy(), numbers, rtol=relative, atol=1e-6)


@every_row
@pytest.mark.parametrize("shape", [(K,), (3, K), (2, 3, K)])
def test_all_that_stands_before_the_classes_is_kept(row: Output, shape: tuple[int, ...]) -> None:
    logits = np.random.default_rng(2).normal(size=shape)
    probabilities = row.probabilities(logits)
    assert probabilities.shape == row.log_probabilities(logits).shape == row.logits(probabilities, 1e-4).shape == shape
    assert probabilities.dtype == np.float64
    assert row.targets(row.decide(probabilities), K).shape == shape


@every_row
def test_probabilities_are_probabilities_of_logits_of_any_size(row: Output) -> None:
    logits = np.array([[0, 0, 0, 0, 0], [6e4, -6e4, 0, 0, 0], [-6e4] * 5], np.float16)
    probabilities = row.probabilities(logits)
    assert (probabilities >= 0).all()
    assert (probabilities <= 1).all()
    np.testing.assert_allclose(np.exp(row.log_probabilities(logits.astype(np.float64))), probabilities, atol=1e-12)


@every_row
def test_logits_of_probabilities_mean_them(row: Output) -> None:
    probabilities = row.probabilities(logits_of(2.0))
    np.testing.assert_allclose(row.probabilities(row.logits(probabilities, 1e-12)), probabilities, atol=1e-9)
    assert np.isfinite(row.logits(np.zeros(K), 1e-7)).all()


@every_row
def test_what_is_certain_is_decided_and_right(row: Output) -> None:
    targets = row.targets(LABELS, K)
    assert targets.dtype == np.float32
    assert row.is_right(targets, LABELS).all()
    assert not row.is_right(targets, (LABELS + 1) % K).any()
    np.testing.assert_array_equal(row.targets_op(tf.constant(LABELS), K).numpy(), targets)


@every_row
def test_an_image_without_a_label_has_no_target(row: Output) -> None:
    assert not row.targets([-1], K).any()
    assert not row.targets_op(tf.constant([-1]), K).numpy().any()


@every_row
def test_what_training_measures_is_what_the_numbers_say(row: Output) -> None:
    logits, targets = logits_of(2.0), row.targets(LABELS, K)
    expected = float(-(targets * row.log_probabilities(logits)).sum(axis=-1).mean())
    assert float(row.loss()(targets, logits)) == pytest.approx(expected, abs=1e-6)
    smoothed = targets * 0.8 + 0.2 / K
    assert float(row.loss(0.2)(targets, logits)) == pytest.approx(float(row.loss()(smoothed, logits)), abs=1e-6)
    right, log_loss = row.metrics()
    for metric in (right, log_loss):
        metric.update_state(targets, logits)
    assert (right.name, log_loss.name) == (row.metric_name, LOG_LOSS)
    assert float(right.result()) == pytest.approx(row.is_right(row.probabilities(logits), LABELS).mean())
    assert float(log_loss.result()) == pytest.approx(expected, abs=1e-6)
    assert set(row.monitored) <= set(row.history)
    assert row.monitored == {"val_loss": "min", f"val_{row.metric_name}": "max"}


@every_row
def test_the_graph_form_makes_layers_that_can_be_saved(row: Output, tmp_path) -> None:
    logits = keras.Input((K,))
    model = keras.Model(logits, row.logits_op(row.probabilities_op(logits), 1e-4))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(logits_of(1.0)), row.logits(row.probabilities(logits_of(1.0)), 1e-4), atol=1e-5)


def test_probabilities_of_a_single_label_are_the_double_loop() -> None:
    logits = logits_of(3.0)
    expected = [[math.exp(x) / sum(math.exp(other) for other in row) for x in row] for row in logits.tolist()]
    np.testing.assert_allclose(SINGLE_LABEL.answers(logits), expected, rtol=1e-12)


def test_of_equal_classes_the_first_is_decided() -> None:
    tied = np.array([[0.2, 0.4, 0.4], [0.5, 0.0, 0.5]])
    assert SINGLE_LABEL.decide(tied).tolist() == SINGLE_LABEL.decide_op(tf.constant(tied)).numpy().tolist() == [1, 0]


def test_nothing_else_in_the_package_says_what_outputs_mean() -> None:
    package = Path(tl_keras.__file__).parent
    words = re.compile("softmax|argmax|one_hot|to_categorical")
    lines = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        if path != package / "models" / "outputs.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if words.search(line) and "not a class" not in line
    ]
    assert not lines, "use a row of `models.outputs`, or say in a comment on the line that it is not a class"


def test_numbers_need_neither_keras_nor_tensorflow() -> None:
    code = (
        "import sys; from tl_keras.models.outputs import SINGLE_LABEL as row; p = row.probabilities([[1.0, 2.0]]);"
        "row.targets(row.decide(p), 2); sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
