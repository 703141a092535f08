"""Studies: every tuner finds the optimum's side, a kill repeats nothing, failures say why, 0 is a seed."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from keras_tuner.src import backend

from tl_keras.errors import RunFolderError, UserError
from tl_keras.select.search import oracles as module
from tl_keras.select.search.oracles import Outcome, best, importance, open_study, outcomes, run_study
from tl_keras.select.search.space import read_space

SPACE = read_space({"train.head_c": {"float": [1e-4, 10.0], "log": True}, "features.stages": {"choice": ["last", "all"]}})
GRID = read_space({"train.head_c": {"choice": [0.01, 0.1, 1.0]}, "features.stages": {"choice": ["last", "all"]}})
WIDE = read_space(
    {
        "model.pooling": {"choice": ["avg", "max"]},
        "features.stages": {"choice": ["last", "all"]},
        "features.keep": {"choice": [0.1, 0.2, 0.3], "when": {"features.stages": "all"}},
        "train.head_c": {"float": [1e-4, 10.0], "log": True},
        "model.dropout": {"choice": [0.0, 0.1, 0.2, 0.3, 0.4]},
    }
)
TUNERS = ["random", "grid", "bayesian", "hyperband"]
EPOCHS = 9


def loss(settings: dict[str, Any]) -> float:
    return (math.log10(settings["train.head_c"]) + 1) ** 2 + (settings["features.stages"] == "last")


def evaluate(_: str, settings: dict[str, Any], share: float) -> dict[str, float]:
    return {"val_loss": loss(settings) / share, "val_accuracy": 1 / (1 + loss(settings))}


def opened(folder: Path, tuner: str, space: Any = None, **options: Any) -> Any:
    chosen = (GRID if tuner == "grid" else SPACE) if space is None else space
    wanted = {"objective": "val_loss", "max_trials": 30, "max_epochs": EPOCHS, "seed": 0, **options}
    return open_study(folder / "study", tuner, chosen, **wanted)


def ran(oracle: Any, space: Any, judge: Any = evaluate, told: list[Outcome] | None = None) -> list[Outcome]:
    told = [] if told is None else told
    run_study(oracle, space, judge, told.append, tuner_id="t", max_epochs=EPOCHS)
    return told


def space_of(tuner: str) -> Any:
    return GRID if tuner == "grid" else SPACE


@pytest.mark.parametrize("tuner", TUNERS)
def test_every_tuner_finds_the_better_side(tmp_path: Path, tuner: str) -> None:
    told = ran(opened(tmp_path, tuner), space_of(tuner))
    assert len(told) == (6 if tuner == "grid" else 30)
    winner = best(told, "val_loss")[0]
    assert winner.settings["features.stages"] == "all"
    assert winner.metrics["val_loss"] < 0.3
    assert winner.share == 1
    assert min(each.metrics["val_loss"] for each in told if each.share == 1) == winner.metrics["val_loss"]
    assert {round(each.share * EPOCHS) for each in told} == ({1, 3, 9} if tuner == "hyperband" else {9})
    assert all(each.metrics["seconds"] >= 0 for each in told)


@pytest.mark.parametrize("name", ["/tmp/x", "../../x", "1/../..", "", "x", "\u0663", "9" * 12])
def test_a_study_of_a_stranger_whose_trial_is_no_number(tmp_path: Path, name: str) -> None:
    ran(opened(tmp_path, "random", max_trials=2), SPACE)
    file = tmp_path / "study/trial_0/trial.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"trial_id": name}))
    with pytest.raises(RunFolderError, match=r"study: this study is damaged \(.* is not the number of a trial"):
        opened(tmp_path, "random", max_trials=2)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null", b"{}", b'{"ongoing_trials": 3}'])
@pytest.mark.parametrize("name", ["oracle.json", "trial_0/trial.json"])
def test_a_study_that_is_damaged(tmp_path: Path, name: str, content: bytes) -> None:
    ran(opened(tmp_path, "random", max_trials=2), SPACE)
    (tmp_path / "study" / name).write_bytes(content)
    with pytest.raises(RunFolderError, match=r"study: this study is damaged \(.*\)\. Start the search again in another --run-dir\."):
        opened(tmp_path, "random", max_trials=2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: {"features.stagez": values.pop("features.stages"), **values}, "'features.stages'"),
        (lambda values: values | {"features.stages": '"alx"'}, "features.stages: .* is not one of its choices"),
        (lambda values: values | {"train.head_c": 1e9}, "train.head_c: .* is not between"),
        (lambda values: values | {"train.head_c": "1"}, "train.head_c: .* is not between"),
    ],
)
def test_a_study_with_a_trial_of_another_space(tmp_path: Path, change: Any, words: str) -> None:
    ran(opened(tmp_path, "random", max_trials=2), SPACE)
    file = tmp_path / "study/trial_0/trial.json"
    trial = json.loads(file.read_text())
    trial["hyperparameters"]["values"] = change(trial["hyperparameters"]["values"])
    file.write_text(json.dumps(trial))
    with pytest.raises(RunFolderError, match=rf"study: this study is damaged \({words}.*\)\. Start the search again"):
        opened(tmp_path, "random", max_trials=2)


@pytest.mark.parametrize("name", ["oracle.json", "trial_0/trial.json"])
def test_a_study_with_a_folder_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    ran(opened(tmp_path, "random", max_trials=2), SPACE)
    (tmp_path / "study" / name).unlink()
    (tmp_path / "study" / name).mkdir()
    with pytest.raises(RunFolderError, match=r"study: this study is damaged \(.*\)\. Start the search again in another --run-dir\."):
        opened(tmp_path, "random", max_trials=2)


@pytest.mark.parametrize(("most", "left"), [(4, True), (6, False), (30, False)])
def test_a_grid_knows_whether_combinations_are_left(tmp_path: Path, most: int, left: bool) -> None:
    oracle = opened(tmp_path, "grid", max_trials=most)
    ran(oracle, GRID)
    assert oracle.has_more() is left


def test_a_grid_that_is_cut_short_is_spread_over_the_whole(tmp_path: Path) -> None:
    told = ran(opened(tmp_path, "grid", WIDE, max_trials=40), WIDE)
    for path, size in (("model.pooling", 2), ("features.stages", 2), ("train.head_c", 10), ("model.dropout", 5)):
        assert len({each.settings.get(path) for each in told}) == size
    assert len({json.dumps(each.settings, sort_keys=True) for each in told}) == 40


def test_a_grid_tries_each_combination_that_counts_once(tmp_path: Path) -> None:
    space = [each for each in WIDE if each.path not in ("model.dropout", "model.pooling")]
    told = ran(opened(tmp_path, "grid", space, max_trials=1000), space)
    assert len(told) == len({json.dumps(each.settings, sort_keys=True) for each in told}) == 10 * (1 + 3)


def test_the_seed_of_a_grid_is_its_order(tmp_path: Path) -> None:
    runs = [
        [each.settings for each in ran(opened(tmp_path / name, "grid", seed=seed), GRID)] for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert runs[0] == runs[1] != runs[2]
    assert sorted(map(json.dumps, runs[0])) == sorted(map(json.dumps, runs[2]))


def test_bayesian_gathers_where_it_is_good(tmp_path: Path) -> None:
    told = ran(opened(tmp_path, "bayesian"), SPACE)
    early, late = (sum(loss(each.settings) for each in part) / len(part) for part in (told[:6], told[-10:]))
    assert late < early / 2
    assert len({json.dumps(each.settings) for each in told}) == 30


@pytest.mark.slow
@pytest.mark.parametrize("tuner", TUNERS)
def test_a_killed_study_goes_on_and_repeats_no_trial_that_ended(tmp_path: Path, tuner: str) -> None:
    told: list[Outcome] = []

    def killed(trial: str, settings: dict[str, Any], share: float) -> dict[str, float]:
        if len(told) == 4:
            raise KeyboardInterrupt
        return evaluate(trial, settings, share)

    with pytest.raises(KeyboardInterrupt):
        ran(opened(tmp_path, tuner), space_of(tuner), killed, told)
    again = opened(tmp_path, tuner)
    assert [each.trial for each in outcomes(again, space_of(tuner), EPOCHS)] == [each.trial for each in told]
    assert outcomes(again, space_of(tuner), EPOCHS) == told
    rest = ran(again, space_of(tuner))
    assert not {each.trial for each in rest} & {each.trial for each in told}
    assert len(told) + len(rest) == (6 if tuner == "grid" else 30)
    settings = [json.dumps([each.settings, each.share]) for each in told + rest]
    assert len(set(settings)) == len(settings)


@pytest.mark.slow
@pytest.mark.parametrize("tuner", TUNERS)
@pytest.mark.parametrize("at", [4, 15])
def test_a_killed_study_comes_to_the_trials_of_an_unbroken_one(tmp_path: Path, tuner: str, at: int) -> None:
    at = min(at, 5) if tuner == "grid" else at
    told: list[Outcome] = []

    def killed(trial: str, settings: dict[str, Any], share: float) -> dict[str, float]:
        if len(told) == at:
            raise KeyboardInterrupt
        return evaluate(trial, settings, share)

    with pytest.raises(KeyboardInterrupt):
        ran(opened(tmp_path / "killed", tuner), space_of(tuner), killed, told)
    rest = ran(opened(tmp_path / "killed", tuner), space_of(tuner))
    whole = ran(opened(tmp_path / "whole", tuner), space_of(tuner))
    assert [(each.trial, each.settings, each.share) for each in told + rest] == [(each.trial, each.settings, each.share) for each in whole]


@pytest.mark.parametrize("tuner", TUNERS)
def test_trials_are_read_back_in_the_order_in_which_they_began(tmp_path: Path, tuner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = ran(opened(tmp_path, tuner, max_trials=5), space_of(tuner))
    listed = backend.io.glob
    monkeypatch.setattr(backend.io, "glob", lambda pattern: sorted(listed(pattern), reverse=True))  # TensorFlow's is any
    assert list(opened(tmp_path, tuner, max_trials=5).trials) == [each.trial for each in told]


def test_a_kill_between_a_trial_s_end_and_the_study_s_file_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = opened(tmp_path, "random", max_trials=5)
    saves: list[int] = []
    real = module.ResumableOracleMixin.save

    def save(self: Any) -> None:
        saves.append(1)
        if len(saves) == 4:  # the second trial's end
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(module.ResumableOracleMixin, "save", save)
    with pytest.raises(KeyboardInterrupt):
        ran(oracle, SPACE)
    monkeypatch.setattr(module.ResumableOracleMixin, "save", real)
    again = opened(tmp_path, "random", max_trials=5)
    assert len(outcomes(again, SPACE, EPOCHS)) == 2
    assert [int(each.trial) for each in ran(again, SPACE)] == [2, 3, 4]


@pytest.mark.slow
def test_same_seed_same_trials_and_zero_is_a_seed(tmp_path: Path) -> None:
    runs = [
        [each.settings for each in ran(opened(tmp_path / name, "random", seed=seed), SPACE)]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_trial_that_fails_says_why_and_the_study_goes_on(tmp_path: Path, value: float) -> None:
    def judge(trial: str, settings: dict[str, Any], share: float) -> dict[str, float]:
        if int(trial) == 1:
            raise UserError("the head is too wide")
        return {"val_loss": value, "val_accuracy": 0.1} if int(trial) == 3 else evaluate(trial, settings, share)

    oracle = opened(tmp_path, "bayesian", max_trials=12)
    told = ran(oracle, SPACE, judge)
    assert [each.cause for each in told if each.cause] == ["the head is too wide", "its loss is not a finite number."]
    assert outcomes(opened(tmp_path, "bayesian", max_trials=12), SPACE, EPOCHS) == told
    assert {1, 3}.isdisjoint({int(each.trial) for each in best(told, "val_loss")})
    assert len(told) == 12


def test_all_trials_may_fail(tmp_path: Path) -> None:
    def judge(*_: Any) -> dict[str, float]:
        raise UserError("no")

    told = ran(opened(tmp_path, "random", max_trials=5), SPACE, judge)
    assert [each.cause for each in told] == ["no"] * 5
    assert best(told, "val_loss") == []


def test_a_defect_is_no_failed_trial(tmp_path: Path) -> None:
    def judge(*_: Any) -> dict[str, float]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ran(opened(tmp_path, "random"), SPACE, judge)


@pytest.mark.slow
def test_accuracy_is_better_when_larger(tmp_path: Path) -> None:
    told = ran(opened(tmp_path, "random", objective="val_accuracy"), SPACE)
    ranked = best(told, "val_accuracy")
    assert [each.metrics["val_accuracy"] for each in ranked] == sorted((each.metrics["val_accuracy"] for each in told), reverse=True)


def test_no_trial_begins_after_its_time(tmp_path: Path) -> None:
    assert ran(opened(tmp_path, "random", until=time.monotonic() - 1), SPACE) == []


@pytest.mark.slow
def test_importance_is_what_moves_the_score(tmp_path: Path) -> None:
    told = ran(opened(tmp_path, "random"), SPACE)
    shares = importance(told, SPACE, "val_loss")
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["train.head_c"] > 0.6
    flat = [Outcome(each.trial, each.settings, 1.0, {"val_loss": 1.0}, None) for each in told]
    assert importance(flat, SPACE, "val_loss") == {"train.head_c": 0.0, "features.stages": 0.0}
