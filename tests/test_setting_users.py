"""Who uses a setting: every setting has an answer, and what nothing uses is refused where somebody asked for it."""

from operator import attrgetter

import pytest

from tl_keras.config import Config, Section, fields
from tl_keras.config_file import load_config, make_config
from tl_keras.errors import ConfigError
from tl_keras.modes import MODES, load
from tl_keras.setting_users import CASES, USED_BY, at_work, is_used, users_of

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
        (
            "extract",
            ["train.epochs=50"],
            "train.epochs: extract does not use it; finetune, pretrain and adapt ",
        ),
        (
            "extract",
            ["train.head_epochs=5"],
            "train.head_epochs: extract does not use it; a head trained by gradient steps (model.hidden, ",
        ),
        ("extract", ["export.sign_key=key.pem"], "export.sign_key: extract does not use it; export does. Remove it."),
        ("extract", ["data.augment.hue_range=0.1"], "data.augment.hue_range: extract does not use it; finetune, pretrain, stored views"),
        (
            "finetune",
            ["train.head_learning_rate=1"],
            "train.head_learning_rate: finetune does not use it; a head trained by gradient steps",
        ),
        (
            "extract",
            ["train.mixup_alpha=0.2"],
            "train.mixup_alpha: extract does not use it; finetune and pretrain do. Remove it.",
        ),
        (
            "extract",
            ["model.hidden=[8]", "train.cutmix_alpha=1"],
            "train.cutmix_alpha: extract does not use it; finetune and pretrain do.",
        ),
        ("finetune", ["rank.max_ms=5"], "rank.max_ms: finetune does not use it; rank and model.backbone=auto do. Remove it."),
        ("pretrain", ["features.views=2"], "features.views: pretrain does not use it; extract, finetune and ensemble do. Remove it."),
        ("rank", ["model.dropout=0.1"], "model.dropout: rank does not use it; "),
        (
            "search",
            ["train.epochs=5"],
            "train.epochs: search with search.trial=extract does not use it; finetune, pretrain and adapt ",
        ),
        (
            "crossval",
            ["train.patience=5"],
            "crossval with crossval.training=extract does not use it; finetune, pretrain and adapt ",
        ),
        ("crossval", ["export.parity_images=5"], "export.parity_images: crossval does not use it; a mode that produces a model does."),
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


# --- what runs really read -----------------------------------------------------------------------------------------

LATER = {
    "data.cache_gb",
    *(path for path in fields() if path.startswith(("export.", "compress."))),
}  # by `evaluate`, `export` and `compress`, from the run's own configuration
ELSEWHERE = {  # of a data set of TFDS, or a table
    *("data.download", "data.download_timeout_s"),
    *("data.columns", "data.image_folder", "data.label_separator", "data.missing_values"),
}
RESOLVED = {"data.augment.policy"}  # into other settings, before anything runs
BESIDE_ANOTHER = {  # see `Config`
    *("features.keep", "train.cycles", "train.focal_gamma", "train.momentum", "train.teacher_weight"),
    *("data.augment.cval", "data.augment.rand_ops", "data.augment.rand_magnitude"),
}
WITHOUT_EFFECT = {  # read to fill what is open, or to build a head that is not trained
    *("data.augment", "features.stages", "features.views", "model.backbone", "model.dropout", "model.hidden", "train.epochs"),
    *(
        "train.decay_towards",
        "train.label_smoothing",
        "train.loss",
        "train.layer_decay",
        "train.learning_rate",
        "train.optimizer",
        "train.schedule",
        "train.teacher",
        "train.unfreeze_from",
    ),
    *(
        "train.monitor",
        "train.cutmix_alpha",
        "train.mixup_alpha",
    ),  # where two domains train: their defaults mix nothing, and another figure chooses
    *("data.max_bad_fraction", "data.on_bad_image", "model.pooling"),  # which `check` chooses itself
}


def path_of(section: type[Section], kind: type[Section] = Config, prefix: str = "") -> str | None:
    """Where a section lies in a configuration, with a dot behind it."""
    if kind is section:
        return prefix
    inner = {name: field.annotation for name, field in kind.model_fields.items() if isinstance(field.annotation, type)}
    found = [path_of(section, below, f"{prefix}{name}.") for name, below in inner.items() if issubclass(below, Section)]
    return next((path for path in found if path is not None), None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "sets"),
    [
        ("extract", ["features.views=1", "features.selection=anova", "data.augment.rotation_range=1.5"]),
        ("finetune", ["train.epochs=1", "data.augment.rotation_range=2.5"]),
        ("pretrain", ["train.epochs=1", "data.augment.rotation_range=3.5"]),
        ("adapt", ["adapt.method=standardise"]),
        ("adapt", ["adapt.method=mcc", "train.epochs=1"]),
        ("adapt", ["adapt.method=mcc", "train.epochs=1", "train.unfreeze_from=all", "data.augment.rotation_range=5.5"]),
        ("rank", []),
        ("check", ["data.augment.rotation_range=4.5"]),
    ],
)
def test_a_run_reads_what_it_is_said_to_use_and_nothing_else_has_an_effect(photo_folder, own_backbone, tmp_path, monkeypatch, mode, sets):
    """The angles are this test's own: graphs that augment are kept by their settings, and another test's would be read no more."""
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache"))
    photos = photo_folder(per_class=12, size=(16, 16))
    sets = [f"model.backbone={own_backbone}", *sets] if mode != "rank" else [f"rank.candidates=[{own_backbone}]"]
    if mode == "adapt":
        sets.append(f"adapt.target={photo_folder(per_class=12, size=(17, 16))}")
    config = load_config(mode, sets=[f"data.source={photos}", "data.image_size=16", *sets])
    read, places, get = set[str](), dict[type[Section], str](), Section.__getattribute__

    def noted(section, name):
        kind = type(section)
        if name in kind.model_fields:
            read.add(places.setdefault(kind, path_of(kind)) + name)
        return get(section, name)

    monkeypatch.setattr(Section, "__getattribute__", noted)
    load(MODES[mode].run)(config, tmp_path / "R")
    monkeypatch.undo()
    working = at_work(lambda path: attrgetter(path)(config))
    used = {path for path in fields() if is_used(path, working)} - {"mode"}
    assert used - read <= LATER | ELSEWHERE | RESOLVED | BESIDE_ANOTHER
    idle = {path for path in read & set(fields()) if not is_used(path, working)}
    assert {path for path in idle if not WITHOUT_EFFECT & {path, path.rpartition(".")[0]}} == set()
