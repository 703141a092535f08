"""Metrics against double loops and scikit-learn, at the edges, and as JSON."""

import json
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics as sklearn_metrics

from tl_keras.evaluation.metrics import classification_metrics, figures_of, macro_figures, metric_of, regression_metrics
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Regression

CLASSES = ["ant", "bee", "cat", "dog"]


def guesses(num: int = 60, *, num_labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (num, 4) that are right more often than not, and labels below `num_labels`."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_labels, num)
    return SINGLE_LABEL.answers(rng.normal(size=(num, 4)) + 1.5 * np.eye(4)[labels]), labels


def certain(predicted: list[int], num_classes: int) -> np.ndarray:
    return np.eye(num_classes)[predicted]


@pytest.mark.parametrize("num_labels", [4, 3], ids=["every class", "a class without images"])
def test_metrics_are_those_of_double_loops(num_labels: int) -> None:
    probabilities, labels = guesses(num_labels=num_labels)
    result = classification_metrics(probabilities, labels, CLASSES)
    predicted = [max(range(4), key=row.__getitem__) for row in probabilities.tolist()]
    matrix = [[0] * 4 for _ in CLASSES]
    for true, guess in zip(labels, predicted, strict=True):
        matrix[true][guess] += 1
    present = []
    for i, name in enumerate(CLASSES):
        support, guessed, right = sum(matrix[i]), sum(row[i] for row in matrix), matrix[i][i]
        precision, recall = right / guessed if guessed else 0.0, right / support if support else 0.0
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        expected = {"precision": precision, "recall": recall, "f1": f1, "support": support}
        found = result["per_class"][name]
        assert {key: found[key] for key in expected} == pytest.approx(expected)
        present += [(precision, recall, f1)] if support else []
    macro = [sum(column) / num_labels for column in zip(*present, strict=True)]
    assert [result[key] for key in ("macro_precision", "macro_recall", "macro_f1")] == pytest.approx(macro)
    assert result["confusion_matrix"] == matrix
    assert result["accuracy"] == sum(matrix[i][i] for i in range(4)) / len(labels)
    log_loss = -sum(math.log(row[true]) for row, true in zip(probabilities, labels, strict=True)) / len(labels)
    assert result["log_loss"] == pytest.approx(log_loss, rel=1e-12)


def test_metrics_are_those_of_scikit_learn() -> None:
    probabilities, labels = guesses()
    result = classification_metrics(probabilities, labels, CLASSES)
    predicted = probabilities.argmax(axis=1)
    report = sklearn_metrics.classification_report(labels, predicted, target_names=CLASSES, output_dict=True)
    for name in CLASSES:
        assert result["per_class"][name]["f1"] == pytest.approx(report[name]["f1-score"])
        assert result["per_class"][name]["support"] == report[name]["support"]
    assert result["accuracy"] == pytest.approx(report["accuracy"])
    assert result["macro_precision"] == pytest.approx(report["macro avg"]["precision"])
    assert result["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    assert result["macro_recall"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted))
    assert result["log_loss"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities), rel=1e-12)
    own = labels[:, None] == np.arange(len(CLASSES))
    for name, figure in (("roc_auc", sklearn_metrics.roc_auc_score), ("average_precision", sklearn_metrics.average_precision_score)):
        assert [result["per_class"][each][name] for each in CLASSES] == pytest.approx(figure(own, probabilities, average=None))
    assert result["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr"))


@pytest.mark.parametrize(("correct", "num"), [(0, 5), (1, 2), (87, 100), (7, 7)])
def test_interval_is_wilsons_formula(correct: int, num: int) -> None:
    labels = np.zeros(num, int)
    result = classification_metrics(certain([0] * correct + [1] * (num - correct), 2), labels, ["a", "b"])
    z, rate = 1.959963984540054, correct / num
    centre = (rate + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(rate * (1 - rate) / num + z * z / (4 * num * num))
    assert result["accuracy_ci95"] == pytest.approx([centre - half, centre + half], abs=1e-12)


def test_a_class_never_seen_and_never_predicted_scores_zero_and_leaves_the_mean_alone() -> None:
    result = classification_metrics(certain([0, 1, 1], 3), np.array([0, 1, 1]), ["a", "b", "c"])
    assert result["per_class"]["c"] == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 0,
        "roc_auc": None,
        "average_precision": None,
    }
    assert (result["macro_precision"], result["macro_recall"], result["macro_f1"]) == (1.0, 1.0, 1.0)
    assert result["confusion_matrix"] == [[1, 0, 0], [0, 2, 0], [0, 0, 0]]


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    result = classification_metrics(certain([1], 2), np.array([0]), ["a", "b"])
    assert result["log_loss"] == pytest.approx(52 * math.log(2))
    assert classification_metrics(certain([0], 2), np.array([0]), ["a", "b"])["log_loss"] == 0.0


def test_of_equal_probabilities_the_first_class_is_predicted() -> None:
    assert classification_metrics([[0.5, 0.5]], [0], ["a", "b"])["confusion_matrix"] == [[1, 0], [0, 0]]


def test_result_survives_json() -> None:
    probabilities, labels = guesses()
    result = classification_metrics(probabilities.astype("float32"), labels.astype("int32"), CLASSES)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result) == [
        "accuracy",
        "accuracy_ci95",
        *(
            name
            for figure in ("macro_precision", "macro_recall", "macro_f1", "log_loss", "ece", "roc_auc")
            for name in (figure, f"{figure}_ci95")
        ),
        "reliability",
        "per_class",
        "confusion_matrix",
    ]


@pytest.mark.slow
def test_intervals_are_those_of_the_figures_of_resamples() -> None:
    probabilities, labels = guesses()
    result = classification_metrics(probabilities, labels, CLASSES)
    draws = np.random.default_rng(1)
    found = []
    for _ in range(300):
        rows = draws.integers(0, len(labels), len(labels))
        found.append(classification_metrics(probabilities[rows], labels[rows], CLASSES))
    for name in ("macro_precision", "macro_recall", "macro_f1", "log_loss"):
        deviation = np.std([each[name] for each in found])
        low, high = result[f"{name}_ci95"]
        assert low < result[name] < high
        assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.25)


def test_top_5_is_scikit_learns_and_only_of_more_classes() -> None:
    draws = np.random.default_rng(0)
    probabilities, labels = draws.dirichlet(np.ones(12), 300), draws.integers(0, 12, 300)
    result = classification_metrics(probabilities, labels, [f"c{k}" for k in range(12)])
    assert result["top_5_accuracy"] == pytest.approx(sklearn_metrics.top_k_accuracy_score(labels, probabilities, k=5))
    assert "top_5_accuracy" not in classification_metrics(np.full((1, 5), 0.2), [4], list("abcde"))
    equal = classification_metrics(np.full((6, 6), 1 / 6), np.arange(6), list("abcdef"))
    assert equal["top_5_accuracy"] == pytest.approx(5 / 6)  # of equal ones the first, as for the prediction


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "Received no images"),
        ([[0.5, 0.5]], [0, 1], r"\(1, 2\), labels of shape \(2,\) and 2 classes do not fit together"),
        ([[0.2, 0.3, 0.5]], [0], r"expected \(n, 2\) and \(n,\)"),
        ([0.5, 0.5], [0, 1], r"probabilities of shape \(2,\)"),
        ([[0.5, 0.5]], [[0]], r"labels of shape \(1, 1\)"),
        ([[0.5, 0.5]], [2], r"labels lie in 2..2, expected 0..1"),
        ([[0.5, 0.5]], [-1], r"labels lie in -1..-1, expected 0..1"),
        ([[0.5, 0.5]], [0.0], "labels are float64, expected integers"),
        ([[2.0, -1.0]], [0], "Received logits"),
        ([[3.0, 1.0]], [0], "Received logits"),
        ([[np.nan, 1.0]], [0], "each row must sum to 1"),
    ],
)
def test_wrong_arguments_are_named(probabilities: object, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_metrics(probabilities, labels, ["a", "b"])


@pytest.mark.slow
def test_tensorflow_is_not_imported() -> None:
    script = "import sys, tl_keras.evaluation.metrics; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def several(num: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (num, 4) that are right more often than not, and which classes images have, the last of which none has."""
    rng = np.random.default_rng(0)
    labels = rng.random((num, 4)) < [0.5, 0.2, 0.1, 0.0]
    return special.expit(rng.normal(size=(num, 4)) + 2.0 * labels - 1), labels


def test_figures_of_several_labels_are_those_of_scikit_learn() -> None:
    probabilities, labels = several()
    output = MultiLabel((0.5, 0.4, 0.3, 0.5))
    result = figures_of(output, probabilities, labels, CLASSES)
    found = probabilities >= [0.5, 0.4, 0.3, 0.5]
    assert result["map"] == pytest.approx(sklearn_metrics.average_precision_score(labels[:, :3], probabilities[:, :3]))
    assert result["micro_f1"] == pytest.approx(sklearn_metrics.f1_score(labels, found, average="micro"))
    assert result["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(labels[:, :3], found[:, :3], average="macro"))
    assert result["exact_match"] == pytest.approx(sklearn_metrics.accuracy_score(labels, found))
    log_losses = [sklearn_metrics.log_loss(labels[:, k], probabilities[:, k], labels=[0, 1]) for k in range(4)]
    assert result["log_loss"] == pytest.approx(np.mean(log_losses))
    report = sklearn_metrics.classification_report(labels, found, target_names=CLASSES, output_dict=True, zero_division=0)
    for k, name in enumerate(CLASSES):
        row = result["per_class"][name]
        expected = [report[name][key] for key in ("precision", "recall", "f1-score")]
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(expected)
        assert (row["support"], row["threshold"]) == (labels[:, k].sum(), output.thresholds[k])
    assert result["per_class"]["dog"]["average_precision"] is None
    json.dumps(result, allow_nan=False)


def test_figures_of_numbers_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(50, 10, 60).astype(np.float32)
    numbers = labels + rng.normal(2, 5, 60)
    result = figures_of(Regression(), numbers[:, None], labels, ["age"])
    assert result["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(labels, numbers))
    assert result["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(labels, numbers))
    assert result["r2"] == pytest.approx(sklearn_metrics.r2_score(labels, numbers))
    assert result["bias"] == pytest.approx((numbers - labels).mean())
    json.dumps(result, allow_nan=False)


def test_each_figure_lies_in_its_interval() -> None:
    labels = np.random.default_rng(1).normal(size=60).astype(np.float32)
    for result in (figures_of(MultiLabel(), *several(), CLASSES), figures_of(Regression(), labels[:, None] * 0.9, labels, ["age"])):
        for name, (low, high) in ((name, result[name]) for name in result if name.endswith("_ci95")):
            assert low < result[name.removesuffix("_ci95")] < high, name


@pytest.mark.parametrize("labels", [np.full(5, 3, np.float32), np.array([2], np.float32)])
def test_where_nothing_varies_nothing_is_explained(labels: np.ndarray) -> None:
    result = figures_of(Regression(), labels[:, None] + 1.0, labels, ["age"])
    assert (result["r2"], result["mae"], result["mae_ci95"]) == (0, 1, [1, 1])


def test_the_interval_of_many_rare_classes_is_around_the_figure() -> None:
    rng = np.random.default_rng(0)
    labels, probabilities = rng.random((60, 100)) < 0.02, rng.random((60, 100))
    result = figures_of(MultiLabel(), probabilities, labels, [f"c{number}" for number in range(100)])
    low, high = result["map_ci95"]  # copies of an image raise the average precision of its classes in nearly each resample
    assert 0 <= low < result["map"] - 0.01
    assert result["map"] + 0.01 < high <= 1


def test_resamples_in_which_nothing_varies_leave_the_interval_of_r2_finite() -> None:
    labels = np.array([0.7, *[0.1] * 19], np.float32)  # a third of the resamples have equal labels alone
    assert regression_metrics(labels + 0.5, labels)["r2_ci95"][0] > -1e6


def test_figures_of_one_class_alone_are_those_of_the_images_with_it() -> None:
    rng = np.random.default_rng(0)
    labels, probabilities = rng.random((60, 1)) < 0.2, rng.random((60, 1))
    found = figures_of(MultiLabel(), probabilities, labels, ["warm"])["per_class"]["warm"]
    said = probabilities > 0.5
    assert found["support"] == labels.sum()
    assert found["precision"] == pytest.approx((labels & said).sum() / said.sum())
    assert found["recall"] == pytest.approx((labels & said).sum() / labels.sum())


def test_a_split_without_any_class_has_figures_too() -> None:
    result = figures_of(MultiLabel(), np.full((3, 4), 0.1), np.zeros((3, 4), bool), CLASSES)
    assert (result["map"], result["micro_f1"], result["macro_f1"], result["exact_match"]) == (0, 0, 0, 1)


def test_answers_that_do_not_fit_their_labels_are_refused() -> None:
    for output, answers, labels in (
        (MultiLabel(), np.zeros((3, 4)), np.zeros((2, 4), bool)),
        (MultiLabel(), np.zeros((0, 4)), np.zeros((0, 4), bool)),
        (Regression(), np.zeros((3, 1)), np.zeros(2, np.float32)),
        (Regression(), np.zeros((0, 1)), np.zeros(0, np.float32)),
    ):
        with pytest.raises(ValueError, match="do not fit together"):
            figures_of(output, answers, labels, CLASSES)


def test_the_metric_of_a_resample_is_that_of_its_images() -> None:
    draws = np.random.default_rng(3)
    probabilities, labels = guesses(40)
    has, numbers = draws.random((40, 4)) < 0.3, draws.normal(5, 2, 40).astype(np.float32)
    cases = (
        (SINGLE_LABEL, probabilities, labels),
        (MultiLabel(), 0.5 * draws.random((40, 4)) + 0.4 * has, has),
        (Regression(5.0, 2.0), numbers[:, None] + draws.normal(size=(40, 1)), numbers),
    )
    times = draws.multinomial(40, np.full(40, 1 / 40), 3).astype(np.int32)
    for output, answers, truth in cases:
        found = metric_of(output, answers, truth)(times)
        for place, drawn in enumerate(times):
            rows = np.repeat(np.arange(40), drawn)
            assert found[place] == pytest.approx(output.metric(output.logits(answers[rows]), truth[rows]), rel=1e-6)


def test_soft_labels_are_judged_by_their_most_probable_class_and_by_all_of_their_shares() -> None:
    rng = np.random.default_rng(0)
    probabilities, shares = rng.dirichlet(np.ones(4), 50), rng.dirichlet(np.full(4, 0.5), 50).astype(np.float32)
    shares[:5] = np.eye(4)[:1]
    result, hard = (classification_metrics(probabilities, labels, CLASSES) for labels in (shares, shares.argmax(axis=1)))
    assert result["log_loss"] == pytest.approx(
        np.mean([stats.entropy(p) + stats.entropy(p, q) for p, q in zip(shares, probabilities, strict=True)])
    )
    assert result["label_entropy"] == pytest.approx(np.mean([stats.entropy(p) for p in shares]), rel=1e-5)
    same = classification_metrics(shares.astype(np.float64), shares, CLASSES)
    assert same["log_loss"] == pytest.approx(same["label_entropy"], rel=1e-9)
    assert {name: value for name, value in result.items() if name not in ("log_loss", "log_loss_ci95", "label_entropy")} == {
        name: value for name, value in hard.items() if name not in ("log_loss", "log_loss_ci95")
    }
    with pytest.raises(ValueError, match="do not fit together"):
        classification_metrics(probabilities, shares[:, :3], CLASSES)


def test_macro_figures_of_many_images_and_classes_take_little_memory() -> None:
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 2000, (2, 4000))
    times = random.multinomial(4000, np.full(4000, 1 / 4000), 2)
    tracemalloc.start()
    found = macro_figures(labels, predicted, 2000)(times)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6  # images times classes are 8 million
    for row, own in zip(found, times, strict=True):
        seen = np.repeat(np.arange(4000), own)
        scores = sklearn_metrics.precision_recall_fscore_support(
            labels[seen], predicted[seen], labels=np.unique(labels[seen]), average="macro", zero_division=0
        )
        np.testing.assert_allclose(row, scores[:3])
