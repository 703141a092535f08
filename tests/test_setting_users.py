"""Who uses a setting: every setting has an answer, and what nothing uses is refused where somebody asked for it."""

import pytest

from tl_keras.config import fields
from tl_keras.config_file import load_config, make_config
from tl_keras.errors import ConfigError
from tl_keras.modes import MODES
from tl_keras.setting_users import CASES, USED_BY, users_of

MAKERS = [mode for mode in MODES.values() if mode.makes_run]


def refusals(mode: str, *sets: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(mode, sets=sets)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("path", [path for path in fields() if path != "mode"])
def test_every_setting_has_users(path):
    assert set(users_of(path)) <= {*MODES, *CASES}


def test_every_row_is_a_setting_or_a_section():
    known = set(fields())
    assert all(path in known or any(each.startswith(f"{path}.") for each in known) for path in USED_BY)
    assert {user for users in USED_BY.values() for user in users} >= set(CASES)


@pytest.mark.parametrize("mode", MAKERS, ids=lambda mode: mode.name)
def test_a_mode_uses_the_section_that_it_owns_and_others_do_not(mode):
    if mode.section is not None:
        assert mode.name in USED_BY[mode.section]
        others = [other for other in MAKERS if other is not mode]
        path = next(path for path in fields() if path.startswith(f"{mode.section}."))
        for other in others:
            assert "does not use it" in refusals(other.name, f"{path}=null")[0]


@pytest.mark.parametrize(
    ("mode", "sets", "line"),
    [
        ("extract", ["train.epochs=50"], "train.epochs: extract does not use it; finetune and pretrain do. Remove it; "),
        ("extract", ["train.head_epochs=5"], "train.head_epochs: extract does not use it; a head that learns by steps (model.hidden, "),
        ("extract", ["data.augment.hue_range=0.1"], "data.augment.hue_range: extract does not use it; finetune, pretrain and stored views"),
        ("finetune", ["train.head_learning_rate=1"], "train.head_learning_rate: finetune does not use it; a head that learns by steps"),
        ("finetune", ["rank.max_ms=5"], "rank.max_ms: finetune does not use it; rank and model.backbone=auto do. Remove it."),
        ("pretrain", ["features.views=2"], "features.views: pretrain does not use it; extract, finetune and ensemble do. Remove it."),
        ("rank", ["model.dropout=0.1"], "model.dropout: rank does not use it; "),
        ("search", ["train.epochs=5"], "train.epochs: search with search.trial=extract does not use it; finetune and pretrain do. Set "),
        ("crossval", ["train.patience=5"], "crossval with crossval.training=extract does not use it; finetune and pretrain do. Set "),
        ("crossval", ["export.parity_images=5"], "export.parity_images: crossval does not use it; a mode that leaves a model does."),
        ("ensemble", ["crossval.folds=3"], "crossval.folds: ensemble does not use it; crossval and ensemble.method=stack do. Remove it."),
    ],
)
def test_a_setting_that_nothing_uses_is_refused_with_who_does(mode, sets, line):
    (found,) = refusals(mode, *sets)
    assert line in found
    assert found.startswith("--set: ")


@pytest.mark.parametrize(
    ("mode", "sets"),
    [
        ("extract", ["model.hidden=[8]", "train.head_epochs=5", "train.weight_decay=0.1", "model.dropout=0.1"]),
        ("extract", ["train.loss=focal", "train.focal_gamma=3"]),
        ("extract", ["features.views=2", "data.augment.hue_range=0.1"]),
        ("extract", ["model.backbone=auto", "rank.max_ms=5"]),
        ("search", ["search.trial=finetune", "train.epochs=5"]),
        ("search", ["search.space={model.hidden: {choice: [[], [8]]}}", "train.head_epochs=5"]),
        ("crossval", ["crossval.training=finetune", "train.epochs=5", "train.patience=2"]),
        ("ensemble", ["ensemble.method=stack", "crossval.folds=3"]),
        ("rank", ["features.stages=last", "model.weights=none", "model.pooling=max"]),
    ],
)
def test_a_setting_that_is_used_in_this_case_is_taken(mode, sets):
    load_config(mode, sets=sets)


def test_all_mistakes_are_told_at_once_and_each_setting_once():
    lines = refusals("extract", "train.epochs=many", "train.batch_size=many", "train.schedule=cosine_restarts")
    assert sorted(line.split(":")[1].strip() for line in lines) == ["train.batch_size", "train.epochs", "train.schedule"]


def test_of_a_file_it_is_one_note(tmp_path):
    file, notes = tmp_path / "a.yaml", list[str]()
    file.write_text("train: {epochs: 9, patience: 3, batch_size: 8, weight_decay: 0.01}\nsearch: {max_trials: 7}\ncrossval: {folds: 3}\n")
    assert load_config("extract", file=file, note=notes.append).train.epochs == 9
    assert notes == [f"{file}: extract does not use train.epochs, train.patience, search.max_trials and crossval.folds"]
    load_config("extract", file=file)


def test_from_python_what_is_given_is_refused_and_what_a_configuration_brings_is_not():
    base = load_config("finetune", sets=["train.epochs=5"])
    assert make_config("extract", base, {}, {}).train.epochs == 5
    with pytest.raises(ConfigError, match=r"settings: train\.patience: extract does not use it"):
        make_config("extract", base, {}, {"train.patience": 5})
