"""Every row of the table of outputs: NumPy and graph agree, and targets, probabilities, decisions and loss fit together."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score

import tl_keras
from tl_keras import tasks
from tl_keras.models.outputs import OUTPUTS, PLAIN_LOSS, SINGLE_LABEL, MultiLabel, Output, Regression, from_json, to_json

K = 5
LABELS = np.random.default_rng(1).integers(0, K, 40).astype(np.int32)
HAS = np.random.default_rng(1).random((40, K)) < 0.3
NUMBERS = np.random.default_rng(1).normal(50, 20, 40).astype(np.float32)

ROWS: dict[str, tuple[Output, np.ndarray]] = {  # task -> the row, with something fitted, and labels
    tasks.SINGLE_LABEL: (SINGLE_LABEL, LABELS),
    tasks.MULTI_LABEL: (MultiLabel((0.1, 0.5, 0.9, 0.3, 0.7)), HAS),
    tasks.REGRESSION: (Regression().fitted(NUMBERS), NUMBERS),
}
SHARES = np.random.default_rng(3).dirichlet(np.full(K, 0.3), 40).astype(np.float32)  # soft labels
every_row = pytest.mark.parametrize(("row", "labels"), [*ROWS.values(), (SINGLE_LABEL, SHARES)], ids=[*ROWS, "soft"])
of_classes = pytest.mark.parametrize("row", [row for row, _ in ROWS.values() if row.task != tasks.REGRESSION], ids=list(ROWS)[:2])


def width(row: Output) -> int:
    return 1 if row.task == tasks.REGRESSION else K


def logits_of(scale: float, num: int = 40, k: int = K) -> np.ndarray:
    return np.random.default_rng(0).normal(0, scale, (num, k)).astype(np.float32)


def test_every_task_has_a_row_here_and_there() -> None:
    assert list(OUTPUTS) == list(ROWS) == list(tasks.TASKS)
    assert {name: row.task for name, row in OUTPUTS.items()} == {name: name for name in OUTPUTS}
    assert {name: tuple(row.monitored) for name, row in OUTPUTS.items()} == {name: task.monitored for name, task in tasks.TASKS.items()}


@every_row
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("traced", [False, True])
def test_numbers_and_graph_agree(row: Output, labels: np.ndarray, scale: float, traced: bool) -> None:
    logits = logits_of(scale, k=width(row))

    def graph(logits: tf.Tensor) -> tuple[tf.Tensor, ...]:
        answers = row.answers_op(logits)
        return answers, row.decide_op(answers), row.targets_op(tf.constant(labels), K)

    answers, decision, targets = (tf.function(graph) if traced else graph)(tf.constant(logits))
    np.testing.assert_allclose(answers, row.answers(logits), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.float64(decision), row.decide(row.answers(logits)), rtol=1e-5)
    np.testing.assert_allclose(targets, row.targets(labels, K), rtol=1e-6, atol=1e-6)
    assert targets.dtype == row.targets(labels, K).dtype == np.float32
    assert targets.shape == (40, width(row))


@every_row
def test_all_that_stands_before_the_classes_is_kept(row: Output, labels: np.ndarray) -> None:
    for shape in ((width(row),), (3, width(row)), (2, 3, width(row))):
        answers = row.answers(np.random.default_rng(2).normal(size=shape))
        assert answers.shape == shape
        assert answers.dtype == np.float64
        assert row.decide(answers).shape == (shape if row.task == tasks.MULTI_LABEL else shape[:-1])


@of_classes
def test_probabilities_are_probabilities_of_logits_of_any_size(row: Output) -> None:
    probabilities = row.answers(np.array([[0, 0, 0, 0, 0], [6e4, -6e4, 0, 0, 0], [-6e4] * 5], np.float16))
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    assert (probabilities <= 1).all()


@every_row
def test_targets_as_logits_are_right(row: Output, labels: np.ndarray) -> None:
    targets = row.targets(labels, K)
    logits = targets if row.task == tasks.REGRESSION else (targets - 0.5) * 100
    soft = labels is SHARES
    np.testing.assert_allclose(row.decide(row.answers(logits)), labels.argmax(1) if soft else labels, rtol=1e-5)
    assert row.metric(logits, labels) == pytest.approx(0 if row.task == tasks.REGRESSION else 1, abs=1e-5)
    if soft:  # they are the best answers, whose loss is not 0
        entropy = -(labels * np.log(labels)).sum(axis=1)
        np.testing.assert_allclose(row.plain_losses(np.log(labels), labels), entropy, rtol=1e-4, atol=1e-6)
    else:
        assert row.plain_losses(logits, labels).max() < 1e-6


@every_row
def test_what_training_measures_is_what_the_numbers_say(row: Output, labels: np.ndarray) -> None:
    logits, targets = logits_of(2.0, k=width(row)), row.targets(labels, K)
    expected = float(row.plain_losses(logits, labels).mean())
    assert float(row.loss()(targets, logits)) == pytest.approx(expected, rel=1e-5)
    measured, plain = row.metrics()
    for begin in (0, 20):
        for metric in (measured, plain):
            metric.update_state(targets[begin : begin + 20], logits[begin : begin + 20])
    assert (measured.name, plain.name) == (row.metric_name, PLAIN_LOSS)
    # Keras knows precision at 200 thresholds only, and interpolates
    assert float(measured.result()) == pytest.approx(row.metric(logits, labels), rel=1e-5 if row.metric_is_mean else 0.1)
    assert float(plain.result()) == pytest.approx(expected, rel=1e-5)
    assert set(row.monitored) <= set(row.history)
    assert row.monitored == {"val_loss": "min", f"val_{row.metric_name}": row.metric_direction}
    assert list(row.titles) == list(row.monitored)
    assert row.is_better("val_loss", 1.0, 2.0)
    assert row.is_better(row.val_metric, 1.0, 2.0) == (row.metric_direction == "min")


@of_classes
def test_smoothed_labels_are_smoothed_targets(row: Output) -> None:
    labels = dict(ROWS.values())[row]
    logits, targets = logits_of(2.0), row.targets(labels, K)
    smoothed = targets * 0.8 + 0.2 / (K if row == SINGLE_LABEL else 2)
    assert float(row.loss(0.2)(targets, logits)) == pytest.approx(float(row.loss()(smoothed, logits)), abs=1e-6)


@every_row
def test_what_was_fitted_is_read_back(row: Output, labels: np.ndarray) -> None:
    assert from_json(json.loads(json.dumps(to_json(row)))) == row
    for wrong in ({}, {"task": "other"}, {**to_json(row), "more": 1}):
        with pytest.raises((KeyError, ValueError)):
            from_json(wrong)


def test_a_number_is_learned_in_standard_deviations_and_answered_in_its_unit() -> None:
    row = Regression().fitted(NUMBERS)
    targets = row.targets(NUMBERS, 1)
    assert (targets.mean(), targets.std()) == pytest.approx((0, 1), abs=1e-5)
    np.testing.assert_allclose(row.answers(targets)[:, 0], NUMBERS, rtol=1e-5)
    assert row.num_apart(row.answers(targets), row.answers(targets + 0.5)) == pytest.approx(0.5, rel=1e-5)
    assert Regression().fitted(np.full(3, 7, np.float32)) == Regression(7.0, 1.0)  # no deviation to divide by
    assert Regression().fitted(np.full(99, 0.1, np.float32)).scale == 1.0  # nor one of rounding


def test_rounding_to_float32_is_no_difference_of_two_models() -> None:
    row = Regression(mean=2015.3, scale=0.7)
    logits = logits_of(1.0, k=1)
    exported = np.asarray(row.answers_op(tf.constant(logits)))
    assert np.abs(exported - row.answers(logits)).max() / row.scale > 1e-5
    assert row.num_apart(exported, row.answers(logits)) < 1e-6
    assert row.num_apart(exported, row.answers(logits + 0.01)) == pytest.approx(0.01, rel=0.1)
    assert not row.num_apart(np.full((1, 1), np.nan), np.zeros((1, 1))) <= 1


@pytest.mark.slow
def test_thresholds_are_those_with_the_best_f1_of_each_class() -> None:
    probabilities = SINGLE_LABEL.answers(logits_of(2.0))
    chosen = MultiLabel().chosen(probabilities, HAS)
    for k, threshold in enumerate(chosen.thresholds):
        tried = [f1_score(HAS[:, k], probabilities[:, k] >= each) for each in np.linspace(0, 1, 201)]
        assert f1_score(HAS[:, k], probabilities[:, k] >= threshold) >= max(tried)
        np.testing.assert_array_equal(chosen.decide(probabilities)[:, k], probabilities[:, k] >= threshold)
    np.testing.assert_array_equal(MultiLabel().decide(probabilities), probabilities >= 0.5)
    assert MultiLabel((0.25,)).decide(np.array([[0.25], [0.24]])).tolist() == [[True], [False]]


def test_probabilities_and_their_logarithms_agree() -> None:
    logits = logits_of(3.0).astype(np.float64)
    np.testing.assert_allclose(np.exp(SINGLE_LABEL.log_probabilities(logits)), SINGLE_LABEL.answers(logits), atol=1e-12)
    in_graph = SINGLE_LABEL.log_probabilities_op(tf.constant(logits))
    np.testing.assert_allclose(in_graph, SINGLE_LABEL.log_probabilities(logits), rtol=1e-6)


@every_row
def test_logits_of_answers_mean_them(row: Output, labels: np.ndarray) -> None:
    answers = row.answers(logits_of(2.0, k=width(row)))
    np.testing.assert_allclose(row.answers(row.logits(answers)), answers, rtol=1e-6)
    np.testing.assert_allclose(row.logits_op(tf.constant(answers), 1e-4), row.logits(answers, 1e-4), rtol=1e-9)
    logits = logits_of(10.0, k=width(row)).astype(np.float64)
    plain = OUTPUTS[row.task]
    np.testing.assert_allclose(plain.bounded_op(tf.constant(logits), 1e-4), plain.logits(plain.answers(logits), 1e-4), rtol=1e-5)
    for sure in (np.zeros(K), np.ones(K)):
        assert np.isfinite(row.logits(sure)).all()
        assert np.isfinite(row.logits_op(tf.constant(sure.astype(np.float32)), 1e-7)).all()


def test_an_image_without_a_label_has_no_target() -> None:
    assert not SINGLE_LABEL.targets([-1], K).any()
    assert not SINGLE_LABEL.targets_op(tf.constant([-1]), K).numpy().any()


def test_the_graph_form_makes_layers_that_can_be_saved(tmp_path: Path) -> None:
    logits = keras.Input((K,))
    model = keras.Model(logits, SINGLE_LABEL.logits_op(SINGLE_LABEL.answers_op(logits), 1e-4))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = SINGLE_LABEL.logits(SINGLE_LABEL.answers(logits_of(1.0)), 1e-4)
    np.testing.assert_allclose(loaded(logits_of(1.0)), expected, atol=1e-5)


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
        "import sys; from tl_keras.models.outputs import SINGLE_LABEL as row; p = row.answers([[1.0, 2.0]]);"
        "row.targets(row.decide(p), 2); sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_class_of_a_soft_label_is_the_most_probable_and_of_equals_the_first() -> None:
    shares = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [1 / 3, 1 / 3, 1 / 3]], np.float32)
    assert SINGLE_LABEL.classes_of(shares).tolist() == [1, 0, 0]
    assert SINGLE_LABEL.classes_of(np.array([2, 0], np.int32)).tolist() == [2, 0]
    assert SINGLE_LABEL.is_right(np.eye(3), shares).tolist() == [False, False, False]
    assert SINGLE_LABEL.is_right(np.eye(3)[[1, 0, 0]], shares).all()
