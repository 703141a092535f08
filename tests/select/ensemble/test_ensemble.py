"""Ensembles: what members are, that test and held-out images take no part, what is kept, what cannot be combined."""

import csv
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import keras
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

import tl_keras
from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.config_file import load_config
from tl_keras.data import dataset
from tl_keras.data.dataset import ImageData
from tl_keras.data.index import Index
from tl_keras.data.sources import open_source
from tl_keras.errors import ConfigError, DataError, RunFolderError, UserError
from tl_keras.evaluation.calibration import fit_temperature
from tl_keras.evaluation.conformal import class_thresholds, prediction_sets
from tl_keras.evaluation.intervals import corrected, paired
from tl_keras.evaluation.prediction_file import read_predictions
from tl_keras.models.outputs import OUTPUTS, SINGLE_LABEL, MultiLabel, Output, Regression
from tl_keras.models.rules import Average
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.select.ensemble import from_runs as runs_room
from tl_keras.select.ensemble import heads as making
from tl_keras.select.ensemble.comparison import Answers, Ensemble, OutOfFold, compare
from tl_keras.select.ensemble.from_backbones import FROM_BACKBONES, of_backbones
from tl_keras.select.ensemble.from_runs import FROM_RUNS, parts_of, require_same
from tl_keras.select.ensemble.heads import BoostedTrees, answer_out_of_fold, bag_heads, open_members, resample, solve_head
from tl_keras.select.ensemble.meta import fit_meta, fit_stacker
from tl_keras.select.ensemble.soup import greedy_soup
from tl_keras.trained_run import open_run
from tl_keras.transfer.head.problem import HeadProblem
from tl_keras.workflows.ensemble import ensemble, surest
from tl_keras.workflows.evaluate import evaluate
from tl_keras.workflows.export import export
from tl_keras.workflows.predict import predict
from tl_keras.workflows.train import train

PhotoFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache_of_ensembles"))


@pytest.fixture(scope="module")
def photos(photo_folder: PhotoFolder) -> Path:
    return photo_folder(classes=("cat", "dog", "owl"), per_class=20)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A second backbone, in a file: a random convolution, and another one than `own_backbone` has."""
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed=1))(
        keras.layers.Rescaling(1 / 255)(pixels)
    )
    path = tmp_path_factory.mktemp("other") / "other.keras"
    keras.Model(pixels, x).save(path)
    return str(path)


def config_of(photos: Path, *members: str, **sections: Any) -> Config:
    data = {"source": str(photos), "image_size": 16} | sections.pop("data", {})
    wanted = {"members": members} | sections.pop("ensemble", {})
    return Config.model_validate({"mode": "ensemble", "data": data, "ensemble": wanted, "crossval": {"folds": 3}, **sections})


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def ways_of(methods: Iterable[str]) -> list[Any]:
    """Settings of every method; all but one that averages and one that learns are slow."""
    ways = [*({"method": method} for method in methods), {"method": "stack", "meta": "linear"}]
    quick = ({"method": "average"}, {"method": "stack"})
    return [each if each in quick else pytest.param(each, marks=pytest.mark.slow) for each in ways]


Made = Callable[[dict[str, str]], tuple[Path, dict[str, Any]]]


def made_once(config: Callable[[dict[str, str]], Config], folder: Path) -> Made:
    """What makes the ensemble of some settings, once, and gives its run folder and its result. Not to be changed."""
    known: dict[str, tuple[Path, dict[str, Any]]] = {}

    def made(ways: dict[str, str]) -> tuple[Path, dict[str, Any]]:
        name = "-".join(ways.values())
        if name not in known:
            known[name] = folder / name, ensemble(config(ways), folder / name)
        return known[name]

    return made


# --- the comparison ------------------------------------------------------------------------------------------------


def answers(*wrong: set[int], num: int = 12) -> Answers:
    """What two single classifiers and an ensemble say of images of two classes; each is wrong, and unsure, on some."""
    labels = np.arange(num, dtype=np.int32) % 2
    truth = np.eye(2)[labels]
    missed = np.array([[row in each for row in range(num)] for each in wrong])[..., None]
    found = np.where(missed, 0.6 - 0.2 * truth, 0.1 + 0.8 * truth)
    return Answers(labels, found[:-1], found[-1])


def test_val_and_not_test_says_which_single_is_the_best() -> None:
    val, test = answers({0}, {0, 1, 2}, {1}), answers({0, 1, 2, 3}, set(), {5})
    data = cast(Any, SimpleNamespace(classes=("a", "b"), output=SINGLE_LABEL))
    found = Ensemble(Config(mode="ensemble"), data, ["one", "two"], val, test, None)
    result = compare(found)
    assert (result["judged_on"], result["best_single"]) == ("val", "one")
    right = np.arange(12) != 5, np.arange(12) > 3
    assert result["difference"] == {"test": {"mean": pytest.approx(3 / 12), "ci95": list(paired(*right))}}
    assert result["together"]["val"]["accuracy"] == pytest.approx(11 / 12)
    folds = [np.arange(start, 12, 3) for start in range(3)]
    learned = compare(replace(found, out_of_fold=OutOfFold(np.arange(12), answers({0, 1, 4}, {0}, {0, 3, 5}), folds)))
    assert (learned["judged_on"], learned["best_single"]) == ("out_of_fold", "two")
    assert learned["together"]["out_of_fold"]["accuracy"] == pytest.approx(9 / 12)
    gains = [-1 / 4, 0, -1 / 4]  # image 0 is wrong either way
    assert learned["difference"]["out_of_fold"] == {"mean": pytest.approx(-1 / 6), "ci95": pytest.approx(corrected(gains, 1 / 2))}
    assert learned["difference"]["test"]["mean"] == pytest.approx(-1 / 12)


@pytest.mark.parametrize("method", ["average", "vote"])
def test_all_answers_are_divided_by_the_temperature_of_those_that_are_judged_and_those_of_a_vote_are_not(method: str) -> None:
    val, test, held_out = (answers({0}, {1}, {place}) for place in (1, 5, 7))
    data = ImageData(Index(root=Path(), classes=("a", "b"), paths=(), labels=np.zeros(0)), cast(Any, None), np.zeros(0, "<U5"))
    config = Config.model_validate({"mode": "ensemble", "ensemble": {"method": method}})
    pixels = keras.Input((2,))
    model = keras.Model(pixels, keras.layers.Rescaling(1.0)(pixels))
    parts = [np.arange(6), np.arange(6, 12)]
    for more in ([], [OutOfFold(np.arange(12), held_out, parts)]):
        found = Ensemble(config, data, ["one", "two"], val, test, model, *more).decided
        judged = held_out if more else val
        temperature = fit_temperature(SINGLE_LABEL, np.log(judged.together), judged.labels) if method == "average" else 1.0
        assert found.temperature == temperature
        assert (temperature == 1) == (method == "vote")
        for before, after in ((val, found.val), (test, found.test), (judged, found.judged[1])):
            np.testing.assert_allclose(after.together, SINGLE_LABEL.answers(np.log(before.together) / temperature))
            assert after.singles is before.singles
        logits = np.array([[1.0, -2.0]], np.float32)
        np.testing.assert_allclose(found.model(logits), logits / temperature, rtol=1e-6)


def test_a_linear_meta_learner_has_the_class_weights_of_the_training() -> None:
    given, weights = answers({0, 1, 2, 5}, {2, 3, 6}, set()), np.array([1, 9], np.float32)
    parts = [np.arange(start, 12, 3) for start in range(3)]
    config = Config.model_validate({"mode": "ensemble", "ensemble": {"method": "stack", "meta": "linear"}})
    found = fit_meta(config, given.singles, given.labels, parts, weights, ["one", "two"])
    twin, even = (fit_stacker(given.singles, given.labels, parts, each)[0] for each in (weights, np.ones(2, np.float32)))
    np.testing.assert_array_equal(found.rule(given.singles), twin(given.singles))
    assert not np.allclose(found.rule(given.singles), even(given.singles), atol=1e-3)


def compared(output: Output, val: Answers, test: Answers, *more: Any, **about: Any) -> dict[str, Any]:
    """The comparison of three members and an ensemble; `more` is the rows of what they say out of fold, that, and its parts."""
    classes = tuple("abc"[: val.together.shape[-1]])
    data = ImageData(Index(root=Path(), classes=classes, paths=(), labels=np.zeros(0), output=output), cast(Any, None), np.zeros(0, "<U5"))
    config = Config.model_validate({"mode": "ensemble", "ensemble": {"method": about.get("method", "average")}})
    found = Ensemble(config, data, ["one", "two", "three"], val, test, None, *(OutOfFold(*each) for each in more)).decided
    return compare(found) | {"output": found.data.output, "temperature": found.temperature}


def test_members_that_say_numbers_are_compared_by_their_error_and_less_is_better() -> None:
    draws = np.random.default_rng(0)

    def said(*deviations: float, num: int = 200) -> Answers:
        labels = draws.normal(50, 10, num).astype(np.float32)
        found = np.stack([labels + draws.normal(0, each, num) for each in deviations])[..., None]
        return Answers(labels, found[:-1], found[-1])

    val, test = said(3, 1, 2, 0.5), said(1, 2, 3, 0.5)
    result = compared(Regression().fitted(val.labels), val, test)
    assert result["best_single"] == "two"
    errors = [np.abs(each[:, 0] - test.labels) for each in (test.together, test.singles[1])]
    gain = result["difference"]["test"]
    assert gain["mean"] == pytest.approx(errors[0].mean() - errors[1].mean())
    spread = 1.96 * (errors[0] - errors[1]).std() / np.sqrt(200)
    assert gain["ci95"] == pytest.approx([gain["mean"] - spread, gain["mean"] + spread], abs=0.1)
    assert result["together"]["test"]["mae"] == pytest.approx(errors[0].mean())
    assert result["singles"][0]["val"]["relative_squared_error"] == pytest.approx(
        ((val.singles[0, :, 0] - val.labels) ** 2).mean() / val.labels.astype(float).var()
    )
    folds = [np.arange(start, 200, 4) for start in range(4)]
    learned = compared(Regression().fitted(val.labels), val, test, (np.arange(200), said(3, 2, 1, 0.5), folds))
    assert (learned["judged_on"], learned["best_single"]) == ("out_of_fold", "three")
    assert learned["difference"]["out_of_fold"]["mean"] < 0


def test_members_that_find_several_classes_are_compared_by_average_precision_and_decide_by_thresholds_of_val() -> None:
    draws = np.random.default_rng(0)

    def said(*sharp: float, num: int = 300) -> Answers:
        labels = draws.random((num, 3)) < [0.5, 0.2, 0.1]
        found = np.stack([MultiLabel().answers(each * (labels - 0.5) + draws.normal(size=(num, 3)) - 2) for each in sharp])
        return Answers(labels, found[:-1], found[-1])

    val, test = said(1, 3, 2, 4), said(3, 2, 1, 4)
    result = compared(MultiLabel(), val, test)
    assert result["best_single"] == "two"
    assert result["output"] == MultiLabel().chosen(val.divided(result["temperature"], MultiLabel()).together, val.labels)
    mine, other = (MultiLabel().metric(each, test.labels) for each in (test.together, test.singles[1]))
    gain = result["difference"]["test"]
    assert gain["mean"] == pytest.approx(mine - other)
    assert gain["ci95"][0] < gain["mean"] < gain["ci95"][1]
    own = MultiLabel().chosen(val.singles[0], val.labels)
    expected = f1_score(test.labels, own.decide(test.singles[0]), average="macro")
    assert result["singles"][0]["test"]["macro_f1"] == pytest.approx(expected)
    parts = [np.arange(start, 300, 5) for start in range(5)]
    held_out = said(3, 1, 2, 4)
    learned = compared(MultiLabel(), val, test, (np.arange(300), held_out, parts))
    assert learned["output"] == MultiLabel().chosen(held_out.divided(learned["temperature"], MultiLabel()).together, held_out.labels)
    by_fold = [
        np.subtract(*(MultiLabel().metric(each[part], held_out.labels[part]) for each in (held_out.together, held_out.singles[0])))
        for part in parts
    ]
    assert learned["difference"]["out_of_fold"]["mean"] == pytest.approx(np.mean(by_fold))
    assert compared(MultiLabel(), val, test, method="vote")["output"] == MultiLabel()  # most members decide


# --- over backbones ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_two(photos: Path, own_backbone: str, other: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Ensembles of two backbones."""
    return made_once(lambda ways: config_of(photos, own_backbone, other, ensemble=ways), tmp_path_factory.mktemp("of_two"))


@pytest.mark.slow
@pytest.mark.parametrize("ways", ways_of(FROM_BACKBONES), ids=str)
def test_figures_are_those_of_the_predictions_and_the_model_is_the_ensemble(photos: Path, of_two: Made, ways: dict[str, str]) -> None:
    run, result = of_two(ways)
    assert "Verdict" in (run / run_folder.REPORT).read_text()
    lines = rows_of(run / run_folder.PREDICTIONS)
    classes = ("cat", "dog", "owl")
    truth = [classes.index(line["true_class"]) for line in lines]
    answers = np.array([[float(line[f"p_{name}"]) for name in classes] for line in lines])
    answers /= answers.sum(axis=1, keepdims=True)  # the file has six digits
    assert result["together"]["test"]["accuracy"] == pytest.approx(accuracy_score(truth, answers.argmax(axis=1)))
    assert result["together"]["test"]["log_loss"] == pytest.approx(log_loss(truth, answers), abs=1e-4)
    assert [one["name"] for one in result["singles"]] == ["own", "other"]
    assert result["is_keras"] == (run / run_folder.MODEL).is_file() == (ways["method"] != "boosting")
    assert {line["path"] for line in lines} == {line["path"] for line in rows_of(run / run_folder.SPLITS) if line["split"] == "test"}
    if result["is_keras"]:
        found = {each.path: each.probabilities for each in predict(run, [str(photos / line["path"]) for line in lines])}
        again = np.array([[found[str(photos / line["path"])][name] for name in classes] for line in lines])
        np.testing.assert_allclose(again, answers, atol=1e-5)


@pytest.mark.slow
def test_a_model_that_is_not_the_ensemble_is_not_kept(photos: Path, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Average, "logits", lambda self, members, row: members[1])
    with pytest.raises(RuntimeError, match="disagree"):
        ensemble(config_of(photos, "small_resnet", other), tmp_path / "R")
    assert not (tmp_path / "R").exists()


@pytest.mark.slow
def test_singles_are_what_extract_trains(of_two: Made, runs: list[Path]) -> None:
    _, result = of_two({"method": "average"})
    temperature = json.loads((runs[1] / run_folder.METRICS).read_text())["temperature"]
    for split, name in (("val", run_folder.VAL_PREDICTIONS), ("test", run_folder.PREDICTIONS)):
        found = read_predictions(runs[1] / name)
        before = found.probabilities**temperature  # of the head as it was solved
        own = np.take_along_axis(before / before.sum(axis=1, keepdims=True), found.labels[:, None], axis=1)
        assert result["singles"][1][split]["log_loss"] == pytest.approx(-np.log(own).mean(), abs=1e-4)


@pytest.mark.slow
def test_an_ensemble_exports_as_one_model(of_two: Made, tmp_path: Path) -> None:
    run = shutil.copytree(of_two({"method": "stack"})[0], tmp_path / "R")
    assert max(export(run)["formats"]["saved_model"]["largest_difference"].values()) < 1e-3


def test_the_same_seed_gives_the_same_ensemble_and_another_other_resamples(photos: Path, other: str) -> None:
    def found(seed: int) -> list[float]:
        config = config_of(photos, other, ensemble={"method": "bagging", "resamples": 3}, runtime={"seed": seed})
        return of_backbones(config, open_source(config.data), Progress()).test.together.tolist()

    assert found(0) == found(0) != found(1)


@pytest.mark.slow
def test_labels_of_test_take_no_part(photos: Path, other: str) -> None:
    config = config_of(photos, "small_resnet", other, ensemble={"method": "stack"})
    index = open_source(config.data)
    split = dataset.cut(index, config.data, {})
    labels = index.labels.copy()
    labels[split == "test"] = (labels[split == "test"] + 1) % 3
    given = tuple(split.tolist())
    again, expected = (of_backbones(config, replace(index, labels=each, given=given), Progress()) for each in (labels, index.labels))
    np.testing.assert_array_equal(again.test.together, expected.test.together)
    np.testing.assert_array_equal(again.val.together, expected.val.together)


def test_out_of_fold_each_image_is_answered_by_heads_that_have_not_seen_it(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(photos, "small_resnet")
    index = open_source(config.data)
    members = open_members(config, ["small_resnet"], index, Progress())
    found = answer_out_of_fold(members, config, Progress())
    split = members[0].data.split
    monkeypatch.setattr(making, "cut_folds", lambda *_: found.folds)  # they are stratified: other labels would cut others
    assert found.rows.tolist() == np.flatnonzero(split != "test").tolist()
    assert sorted(np.concatenate([fold.held_out for fold in found.folds])) == list(range(len(found.rows)))
    fold = found.folds[0]
    labels = index.labels.copy()
    labels[found.rows[fold.held_out]] = (labels[found.rows[fold.held_out]] + 1) % 3
    changed = replace(index, labels=labels)
    twin = replace(members[0], data=replace(members[0].data, index=changed), opened=replace(members[0].opened, index=changed))
    again = answer_out_of_fold([twin], config, Progress())
    np.testing.assert_array_equal(again.probabilities[:, fold.held_out], found.probabilities[:, fold.held_out])
    others = np.setdiff1d(np.arange(len(found.rows)), fold.held_out)
    assert not np.isclose(again.probabilities[:, others], found.probabilities[:, others]).all(axis=(0, 2)).any()


def test_a_stack_learns_from_augmented_views_too(photos: Path, other: str) -> None:
    views = config_of(photos, other, data={"augment": {"horizontal_flip": True}}, features={"views": 1})
    with_views, without = (
        answer_out_of_fold(open_members(config, [other], open_source(config.data), Progress()), config, Progress())
        for config in (views, config_of(photos, other))
    )
    assert with_views.probabilities.shape == without.probabilities.shape
    assert not np.allclose(with_views.probabilities, without.probabilities, atol=1e-3)


@pytest.mark.slow
def test_resamples_keep_the_classes_and_leave_images_out(photos: Path) -> None:
    labels = np.repeat(np.arange(3), [5, 30, 65]).astype(np.int32)
    rows = resample(labels, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [5, 30, 65]
    assert 0.55 < len(np.unique(rows)) / len(rows) < 0.72  # 1 - 1/e of large classes
    members = open_members(config_of(photos, "small_resnet"), ["small_resnet"], open_source(config_of(photos).data), Progress())
    first, second = bag_heads(members[0], 2, seed=0)
    assert not np.array_equal(first.kernel, second.kernel)
    assert not np.array_equal(first.kernel, solve_head(members[0]).kernel)


def test_a_bag_of_all_images_and_their_views_is_the_head_on_them(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(photos, data={"augment": {"horizontal_flip": True}}, features={"views": 2})
    member = open_members(config, ["small_resnet"], open_source(config.data), Progress())[0]
    monkeypatch.setattr(making, "resample", lambda labels, _: np.arange(len(labels)))
    np.testing.assert_array_equal(bag_heads(member, 1, seed=0)[0].kernel, solve_head(member).kernel)


def test_boosting_learns_from_no_more_than_memory_is_given_to(photos: Path, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(photos, other, ensemble={"method": "boosting", "rounds": 5})
    index = open_source(config.data)
    assert of_backbones(config, index, Progress()).notes["images"] == 42
    members = open_members(config, [other], index, Progress())
    monkeypatch.setattr(making, "BOOSTED_BYTES", 20 * 4 * members[0].features("val").shape[1])
    found = of_backbones(config, index, Progress())
    assert found.notes["images"] == 20
    assert len(found.test.together) == 9


def test_val_chooses_how_long_boosting_goes_on(photos: Path) -> None:
    config = config_of(photos, "small_resnet")
    member = open_members(config, ["small_resnet"], open_source(config.data), Progress())[0]
    labels, val = member.data.index.labels.copy(), member.data.rows("val")
    labels[val] = (labels[val] + 1) % 3
    wrong = replace(member, data=replace(member.data, index=replace(member.data.index, labels=labels)))
    assert (BoostedTrees([member], 5, seed=0).rounds, BoostedTrees([wrong], 5, seed=0).rounds) == (5, 1)


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_trees_and_bags_learn_several_classes_and_numbers(task: str) -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(300, 10)).astype(np.float32)
    numbers, has = (
        (100 + 20 * x[:, 0] + draws.normal(size=300)).astype(np.float32),
        np.column_stack([x[:, 0] > 0.5, x[:, 1] > 1, x[:, 0] > 9]),
    )
    labels = has if task == "multi_label" else numbers
    output: Output = MultiLabel() if task == "multi_label" else Regression().fitted(numbers[:200])
    classes = ("a", "b", "none has it") if task == "multi_label" else ("value",)
    split = np.repeat(["train", "val", "test"], [200, 50, 50])
    index = Index(root=Path(), classes=classes, paths=tuple(map(str, range(300))), labels=labels, output=output)
    frozen = cast(Any, SimpleNamespace(stored=lambda kind, rows, num_views=0: x[rows]))
    settings = Config.model_validate({"mode": "extract", "data": {"source": "labels.csv", "task": task}})
    problem = HeadProblem(frozen, labels, classes, 0, OUTPUTS[task])
    opened = cast(Any, SimpleNamespace(config=settings, frozen=frozen, problem=problem))
    member = making.FrozenMember("one", opened, ImageData(index, cast(Any, None), split))
    trees = BoostedTrees([member], 30, seed=0)
    bag = [making.answer(head, cast(Any, x[250:]), output) for head in bag_heads(member, 3, seed=0)]
    for answers in (trees("test"), *bag):
        assert answers.shape == (50, len(classes))
        if task == "multi_label":
            assert MultiLabel().metric(answers, labels[250:]) > 0.9
        else:
            assert np.abs(answers[:, 0] - labels[250:]).mean() < 8  # of a deviation of 20
    assert not np.array_equal(bag[0], bag[1])
    if task == "multi_label":
        assert not trees("test")[:, 2].any()


def test_the_largest_size_is_taken_for_all_unless_one_is_set(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    progress = Progress()
    progress.line = told.append  # type: ignore[method-assign]
    open_size = config_of(photos, data={"image_size": None})
    found = making.with_one_size(open_size, ["mobilenet_075", "mobilenet_v2"], progress)
    assert found.data.image_size == 224
    assert told == ["images of 224 pixels a side for all (mobilenet_075's own is 192)"]
    assert making.with_one_size(config_of(photos), ["mobilenet_075", "mobilenet_v2"], progress).data.image_size == 16
    sizes = {"one/my.keras": 64, "two/my.keras": 32}
    monkeypatch.setattr(making, "native_image_size", lambda name, *, trust: sizes[name])
    assert making.with_one_size(open_size, list(sizes), progress).data.image_size == 64
    assert told[1:] == ["images of 64 pixels a side for all (my's own is 32)"]
    assert making.distinct(["a", "b", "a"]) == ["a#1", "b", "a#2"]


def test_a_vote_is_compared_with_its_model_where_no_member_is_near_a_tie() -> None:
    near, sure, unsure = [0.50, 0.49, 0.01], [0.9, 0.1, 0.0], [0.6, 0.4, 0.0]
    singles = np.array([[near, sure, unsure, sure], [sure, sure, unsure, sure]])
    found = surest(SINGLE_LABEL, Answers(np.zeros(4, np.int32), singles, singles[0]))
    assert found is not None
    assert found.tolist() == [1, 3, 2, 0]
    assert surest(Regression(), Answers(np.zeros(4, np.float32), singles[..., :1], singles[0, :, :1])) is None


def test_where_a_member_votes_by_thresholds_near_is_near_one_of_them() -> None:
    labels = np.array([[True], [True], [False], [False]])
    one, other = np.array([[0.9], [0.6], [0.2], [0.1]]), np.array([[0.5], [0.7], [0.1], [0.0]])  # thresholds 0.4 and 0.3
    found = surest(MultiLabel(), Answers(labels, np.array([one, other]), one))
    assert found is not None
    assert found[0] == 3


# --- over runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(photos: Path, other: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs on the same images."""
    root = tmp_path_factory.mktemp("runs")
    for name, backbone in (("first", "small_resnet"), ("second", other)):
        config = {"mode": "extract", "data": {"source": str(photos), "image_size": 16}, "model": {"backbone": backbone}}
        train(Config.model_validate(config), root / name)
    return [root / "first", root / "second"]


def of_runs(runs: list[Path], **sections: Any) -> Config:
    wanted = {"members": [str(run) for run in runs]} | sections.pop("ensemble", {})
    return Config.model_validate({"mode": "ensemble", "ensemble": wanted, "crossval": {"folds": 3}, **sections})


@pytest.fixture(scope="module")
def of_both(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Ensembles of the two runs."""
    return made_once(lambda ways: of_runs(runs, ensemble=ways), tmp_path_factory.mktemp("of_both"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["average", "stack"])
def test_probabilities_are_calibrated_on_what_members_have_not_learned_from_and_sets_follow(
    photos: Path, of_both: Made, of_two: Made, method: str
) -> None:
    for made, num in ((of_both, 9), (of_two, 9 if method == "average" else 51)):  # a stack of backbones is judged on train and val
        run, result = made({"method": method})
        metrics = result["metrics"]
        val, test = (read_predictions(run / name) for name in (run_folder.VAL_PREDICTIONS, run_folder.PREDICTIONS))
        assert len(val.labels) == num
        own = val.probabilities[np.arange(num), val.labels]
        assert metrics[result["judged_on"]]["log_loss"] == pytest.approx(-np.log(own).mean(), abs=1e-4)
        before = np.log(np.maximum(val.probabilities, 1e-7)) * metrics["temperature"]
        assert metrics["temperature"] == pytest.approx(fit_temperature(SINGLE_LABEL, before, val.labels), rel=0.02)
        limits = class_thresholds(val.probabilities, val.labels, 0.9)
        sets = prediction_sets(test.probabilities, limits)
        assert metrics["prediction_sets"]["mean_size"] == pytest.approx(sets.sum(axis=1).mean())
    files = [str(photos / line["path"]) for line in rows_of(run / run_folder.PREDICTIONS)]
    for found, known, inside in zip(predict(run, files, coverage=0.9), test.probabilities, sets, strict=True):
        assert list(found.probabilities.values()) == pytest.approx(known.tolist(), abs=1e-3)
        if np.abs(known - limits).min() > 1e-3:
            assert found.prediction_set == tuple(np.array(test.classes)[inside])


@pytest.mark.slow
def test_an_ensemble_of_adapted_runs_is_not_calibrated_on_the_source(runs: list[Path], photos: Path, tmp_path: Path) -> None:
    config = shutil.copytree(runs[1], tmp_path / "adapted") / run_folder.CONFIG
    config.write_text(config.read_text().replace("mode: extract", "mode: adapt").replace("target: null", "target: sketches"))
    metrics = ensemble(of_runs([runs[0], tmp_path / "adapted"]), tmp_path / "R")["metrics"]
    assert metrics["temperature"] == 1
    assert not {"prediction_sets", "accepting"} & set(metrics)
    with pytest.raises(RunFolderError, match="a run for another domain than that of its val has nothing that --coverage could follow from"):
        next(predict(tmp_path / "R", [str(photos)], coverage=0.5))


@pytest.mark.parametrize("ways", ways_of(method for method in FROM_RUNS if method != "soup"), ids=str)
def test_runs_are_combined_and_compared_with_their_own_figures(runs: list[Path], of_both: Made, ways: dict[str, str]) -> None:
    made, result = of_both(ways)
    for run, single in zip(runs, result["singles"], strict=True):
        metrics = json.loads((run / run_folder.METRICS).read_text())
        assert single["name"] == run.name
        assert single["test"]["log_loss"] == pytest.approx(metrics["test"]["log_loss"], abs=1e-4)
    assert (made / run_folder.SPLITS).read_bytes() == (runs[0] / run_folder.SPLITS).read_bytes()
    assert result["metrics"]["data"]["train"] == 42
    assert open_run(made).stages == {}
    where = "out_of_fold" if ways["method"] == "stack" else "val"  # which a stack has learned from
    assert {"val", "out_of_fold"} & set(result["metrics"]) == {where}
    assert result["metrics"][where]["log_loss"] == result["together"][where]["log_loss"]


def test_an_ensemble_is_evaluated_as_any_run(of_both: Made, tmp_path: Path) -> None:
    made, result = of_both({"method": "average"})
    found = evaluate(shutil.copytree(made, tmp_path / "R"))
    assert found["test"]["accuracy"] == result["metrics"]["test"]["accuracy"]
    assert found["test"]["log_loss"] == pytest.approx(result["metrics"]["test"]["log_loss"], abs=1e-5)
    assert found["backbone"] == "first + second"


def test_a_class_with_one_image_cannot_be_stacked_on() -> None:
    assert sorted(np.concatenate(parts_of(np.array([0, 0, 1, 1, 1], np.int32), None, 5, 0))) == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="each class needs two images"):
        parts_of(np.array([0, 1, 1], np.int32), None, 5, 0)


@pytest.mark.slow
def test_an_ensembles_own_configuration_makes_it_again(runs: list[Path], of_both: Made, tmp_path: Path) -> None:
    made, first = of_both({"method": "vote"})
    again = ensemble(load_config("ensemble", file=made / run_folder.CONFIG, flags={}, sets=()), tmp_path / "R")
    assert {**again, "metrics": None} == {**first, "metrics": None, "members": [str(run) for run in runs]}


def test_images_of_one_group_are_in_one_part() -> None:
    labels, groups = np.tile(np.arange(2, dtype=np.int32), 12), np.repeat(np.arange(6), 4)
    parts = parts_of(labels, groups, 3, 0)
    assert sorted(np.concatenate(parts)) == list(range(24))
    assert sorted(group for part in parts for group in set(groups[part])) == list(range(6))
    with pytest.raises(DataError, match="needs two groups of images in val"):
        parts_of(labels, groups * 0, 3, 0)


@pytest.mark.slow
def test_a_stack_of_runs_keeps_groups_together(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="matches nothing in the path"):
        ensemble(of_runs(runs, ensemble={"method": "stack"}, data={"group_pattern": "patient(.)"}), tmp_path / "R")
    result = ensemble(of_runs(runs, ensemble={"method": "stack"}, data={"group_pattern": "(.)[.]"}), tmp_path / "R")
    assert result["judged_on"] == "out_of_fold"


def test_an_ensemble_of_runs_that_are_one_is_that_one(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[1], tmp_path / "again" / "second")
    result = ensemble(of_runs([runs[1], tmp_path / "again" / "second"]), tmp_path / "R")
    assert [one["name"] for one in result["singles"]] == ["second#1", "second#2"]
    assert result["difference"]["test"]["mean"] == 0
    mine, own = (read_predictions(run / run_folder.PREDICTIONS).probabilities for run in (tmp_path / "R", runs[1]))
    before = mine ** result["metrics"]["temperature"]
    np.testing.assert_allclose(before / before.sum(axis=1, keepdims=True), own, atol=1e-4)


def test_runs_of_other_splits_or_sizes_are_refused(runs: list[Path], tmp_path: Path) -> None:
    first, larger = open_run(runs[0]), keras.Input((20, 20, 3))
    for twin, words in (
        (replace(first, split=np.roll(first.split, 1)), "was trained on other images, classes or splits"),
        (replace(first, model=keras.Model(larger, larger)), "takes images of 20x20 by crop"),
        (replace(first, config=first.config.replace("data.resize", "stretch")), "takes images of 16x16 by stretch"),
        (replace(first, config=first.config.replace("data.bit_depth", 12)), "greys with data.bit_depth=12, and .*first with 16;"),
    ):
        with pytest.raises(RunFolderError, match=words):
            require_same(first, twin, moved=False)
    config = shutil.copytree(runs[0], tmp_path / "twin") / run_folder.CONFIG
    config.write_text(config.read_text().replace("resize: crop", "resize: stretch"))
    with pytest.raises(RunFolderError, match="twin: takes images of 16x16 by stretch"):
        ensemble(of_runs([runs[0], tmp_path / "twin"]), tmp_path / "R")
    assert not (tmp_path / "R").exists()


def test_runs_that_learned_other_labels_or_scales_are_refused(runs: list[Path], tmp_path: Path) -> None:
    first = open_run(runs[0])
    labels = first.index.labels.copy()
    labels[1] = (labels[1] + 1) % 3
    with pytest.raises(
        RunFolderError, match=rf"first: learned other labels than .*; the first is that of {first.index.paths[1]}, 'dog' and"
    ):
        require_same(first, replace(first, index=replace(first.index, labels=labels)), moved=False)
    numbers = np.arange(len(labels), dtype=np.float32)
    one, other = (replace(first, index=replace(first.index, labels=numbers, output=Regression(5.0, each))) for each in (1.0, 2.0))
    require_same(one, one, moved=False)
    with pytest.raises(RunFolderError, match=r"output\.json: has another mean or deviation"):
        require_same(one, other, moved=False)


def test_runs_are_of_the_same_images_by_content_and_only_without_it_by_the_folder(runs: list[Path], tmp_path: Path) -> None:
    first = open_run(runs[0])
    data = first.config.data.model_copy(update={"source": "elsewhere"})
    twin = replace(first, run=RunFolder(tmp_path / "twin"), config=first.config.model_copy(update={"data": data}))
    require_same(first, twin, moved=False)
    older = replace(twin, index=replace(twin.index, ids=None))
    with pytest.raises(RunFolderError, match=r"twin: learned from images in elsewhere, and .*first from those in .*; files of the same"):
        require_same(first, older, moved=False)
    require_same(first, older, moved=True)
    ids = twin.index.ids.copy()
    ids[3] = ids[4]
    with pytest.raises(RunFolderError, match="twin: was trained on other images"):
        require_same(first, replace(twin, index=replace(twin.index, ids=ids)), moved=True)


def test_an_image_that_cannot_be_read_any_more_is_named(runs: list[Path], photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "moved")
    tested = next(line["path"] for line in rows_of(runs[0] / run_folder.SPLITS) if line["split"] == "test")
    for spoil, words in (
        (lambda file: file.write_bytes(file.read_bytes()[:90]), "1 is not what the run knows"),
        (Path.unlink, "1 is missing"),
    ):
        spoil(tmp_path / "moved" / tested)
        told = f"moved: of 18 images that the runs were measured on, {words}; the first is {tested}"
        with pytest.raises(DataError, match=told):
            ensemble(of_runs(runs, data={"source": str(tmp_path / "moved")}), tmp_path / "R")
        assert not (tmp_path / "R").exists()


@pytest.mark.slow
def test_images_that_have_moved_are_found_with_data(
    runs: list[Path], of_both: Made, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos, tmp_path / "moved")
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        result = ensemble(of_runs(runs, data={"source": "moved"}), tmp_path / "R")
    assert load_config("ensemble", file=tmp_path / "R" / run_folder.CONFIG).data.source == str(tmp_path / "moved")
    assert result["together"] == of_both({"method": "average"})[1]["together"]
    assert json.loads((tmp_path / "R" / run_folder.ENSEMBLE).read_text())["members"] == [str(run) for run in runs]


@pytest.mark.slow
def test_a_soup_is_one_network_with_the_average_of_weights(runs: list[Path], tmp_path: Path) -> None:
    second = open_run(runs[1])
    train(second.config.replace("train.head_c", 0.01), tmp_path / "third")
    result = ensemble(of_runs([runs[1], tmp_path / "third"], ensemble={"method": "soup"}), tmp_path / "R")
    by_name = {"second": runs[1], "third": tmp_path / "third"}
    kept = [keras.models.load_model(by_name[name] / run_folder.MODEL).get_weights() for name in result["in_soup"]]
    soup = keras.models.load_model(tmp_path / "R" / run_folder.MODEL)
    for mine, *theirs in zip(soup.get_weights(), *kept, strict=True):
        np.testing.assert_allclose(mine, np.mean(theirs, axis=0), rtol=1e-6, atol=1e-7)
    best = max(one["val"]["accuracy"] for one in result["singles"])
    assert result["together"]["val"]["accuracy"] >= best
    assert list(open_run(tmp_path / "R").stages) == list(second.stages) != []
    with pytest.raises(UserError, match="are of different networks"):
        ensemble(of_runs(runs, ensemble={"method": "soup"}), tmp_path / "E")


def test_averages_are_tried_without_changing_the_members(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def noting(members: Any, load: Any, score: Any) -> Any:
        before = {name: load(name).arrays for name in members}
        score([np.zeros_like(array) for array in before["second#1"]])
        for name, arrays in before.items():
            for one, other in zip(arrays, load(name).arrays, strict=True):
                np.testing.assert_array_equal(one, other)
            looked_at.append(name)
        assert score(before["second#1"]).loss == pytest.approx(members["second#1"].loss, rel=1e-4)
        return greedy_soup(members, load, score)

    monkeypatch.setattr(runs_room, "greedy_soup", noting)
    shutil.copytree(runs[1], tmp_path / "again" / "second")
    ensemble(of_runs([runs[1], tmp_path / "again" / "second"], ensemble={"method": "soup"}), tmp_path / "R")
    assert looked_at == ["second#1", "second#2"]


@pytest.mark.slow
def test_a_run_alone_is_taken_apart_into_its_snapshots(photos: Path, own_backbone: str, tmp_path: Path) -> None:
    settings = {
        "mode": "finetune",
        "data": {"source": str(photos), "image_size": 16},
        "model": {"backbone": own_backbone},
        "train": {"schedule": "cosine_restarts", "cycles": 2, "epochs": 2, "batch_size": 16},
        "features": {"views": 0},
    }
    train(Config.model_validate(settings), tmp_path / "run")
    result = ensemble(of_runs([tmp_path / "run"]), tmp_path / "R")
    assert [one["name"] for one in result["singles"]] == ["snapshot1", "snapshot2"]
    first, last = result["singles"]
    assert first["test"]["log_loss"] != last["test"]["log_loss"]
    (tmp_path / "run" / "snapshots" / "1.weights.h5").write_bytes(b"cut short")
    with pytest.raises(RunFolderError, match=r"1.weights.h5: is damaged, or is not a whole file of this run's weights"):
        ensemble(of_runs([tmp_path / "run"]), tmp_path / "E")
    shutil.rmtree(tmp_path / "run" / "snapshots")
    with pytest.raises(ConfigError, match="kept no snapshots"):
        ensemble(of_runs([tmp_path / "run"]), tmp_path / "E")


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "sections", "words"),
    [
        ((), {}, "ensemble.members: got none"),
        (("small_resnet",), {}, "got small_resnet alone, and 'average' needs two"),
        (
            ("small_resnet", "vgg16"),
            {"ensemble": {"method": "soup"}},
            "averages the weights of runs, and small_resnet is not a run folder",
        ),
        (("small_resnet", "vgg16"), {"model": {"hidden": [8]}}, "solves linear heads"),
        (("small_resnet", "vgg16"), {"runtime": {"precision": "bfloat16"}}, "expected 'auto' or 'float32'"),
    ],
)
def test_what_backbones_cannot_be_combined(photos: Path, tmp_path: Path, members: tuple[str, ...], sections: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ensemble(config_of(photos, *members, **sections), tmp_path / "R")
    assert not (tmp_path / "R").exists()


def test_what_runs_cannot_be_combined(runs: list[Path], tmp_path: Path) -> None:
    for config, words in (
        (of_runs(runs[:1]), "first alone, which kept no snapshots"),
        (of_runs([runs[0], Path("vgg16")]), "there is no folder or file vgg16"),
        (of_runs([runs[0], runs[0].parent]), "is a run and .* is not"),
        (of_runs([runs[0], runs[0].with_name("frist")]), "no folder or file .*frist. Did you mean '.*first'"),
        (of_runs([Path("no/such/run"), Path("no/such/other")]), "there is no folder or file no/such/run"),
        (of_runs([runs[0], runs[1].parent / "second" / ".." / "first"]), "is given twice"),
        (of_runs(runs, ensemble={"method": "bagging"}), "trains heads on backbones"),
        (of_runs(runs, data={"image_size": 20}), "data.image_size: got 20, which has no effect"),
        (of_runs(runs, model={"pooling": "max"}), "model.pooling: got 'max', which has no effect"),
    ):
        with pytest.raises(ConfigError, match=words):
            ensemble(config, tmp_path / "R")
        assert not (tmp_path / "R").exists()


def test_what_is_no_keras_model_says_so(of_two: Made, tmp_path: Path) -> None:
    run, _ = of_two({"method": "boosting"})
    with pytest.raises(RunFolderError, match="Its parts are not all Keras models"):
        evaluate(run)
    with pytest.raises(RunFolderError, match="Its parts are not all Keras models"):
        ensemble(of_runs([run]), tmp_path / "E")


def test_what_is_no_keras_model_is_compared_all_the_same(of_two: Made) -> None:
    boosted, average = (of_two({"method": method})[0] for method in ("boosting", "average"))
    assert not (boosted / run_folder.MODEL).is_file()
    assert tl_keras.compare(boosted, against=average)["images"] > 0
