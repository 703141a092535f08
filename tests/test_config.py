"""Every field round-trips, and every mistake is one line that says how to mend it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tl_keras.config import Config, TrainConfig, absolute, fields
from tl_keras.config_file import RENAMED, from_yaml, load_config, to_yaml, used_to_yaml
from tl_keras.errors import ConfigError
from tl_keras.modes import MODES

# A value other than the default for every setting, and what it needs beside it to be of use.
OTHER: dict[str, Any] = {
    "mode": "export",
    "data.source": "a: 'b' # ü",
    "data.nested_classes": True,
    "data.columns": {"path": "id", "label": "no"},
    "data.task": "regression",
    "data.label_separator": "|",
    "data.missing_values": "drop",
    "data.image_folder": "images",
    "data.val_fraction": 1e-05,
    "data.test_fraction": 0.1,
    "data.per_class": 5,
    "data.split_seed": 7,
    "data.stable_split": True,
    "data.group_pattern": r"(patient\d+)",
    "data.copies": "near",
    "data.image_size": (48, 64),
    "data.resize": "letterbox",
    "data.bit_depth": 12,
    "data.max_megapixels": 300.5,
    "data.on_bad_image": "error",
    "data.max_bad_fraction": 1.0,
    "data.exclude": "exclude.csv",
    "data.download": True,
    "data.download_timeout_s": 1e20,
    "data.cache_gb": 0.0,
    "data.augment.policy": "trivial",
    "data.augment.horizontal_flip": True,
    "data.augment.vertical_flip": True,
    "data.augment.rotation_range": 15.0,
    "data.augment.width_shift_range": 0.1,
    "data.augment.height_shift_range": 0.1,
    "data.augment.zoom_range": (0.8, 1.2),
    "data.augment.shear_range": 0.1 + 0.2,
    "data.augment.brightness_range": (0.0, 1.2),
    "data.augment.contrast_range": (0.8, 0.8),
    "data.augment.saturation_range": (0.8, 1.2),
    "data.augment.hue_range": 0.5,
    "data.augment.channel_shift_range": 20.5,
    "data.augment.grayscale": 0.25,
    "data.augment.random_resized_crop": (0.08, 1.0),
    "data.augment.crop_ratio": (1.0, 1.0),
    "data.augment.fill_mode": "wrap",
    "data.augment.cval": 128.0,
    "data.augment.auto": "trivial",
    "data.augment.rand_ops": 3,
    "data.augment.rand_magnitude": 0,
    "data.augment.random_erasing": 1.0,
    "model.backbone": "no",
    "model.weights": "null",
    "model.preprocessing": "caffe",
    "model.trust": True,
    "model.pooling": "flatten",
    "model.hidden": (1024, 64),
    "model.dropout": 0.0,
    "model.freeze_batchnorm": False,
    "features.views": 0,
    "features.stages": "last",
    "features.selection": "mutual_information",
    "features.keep": 0.25,
    "features.max_gb": 0.5,
    "train.epochs": 3,
    "train.batch_size": 1,
    "train.head_epochs": 2,
    "train.head_learning_rate": 0.003,
    "train.unfreeze_from": "stage4",
    "train.unfreeze_every": 2,
    "train.learning_rate": 1e-05,
    "train.layer_decay": 1.0,
    "train.optimizer": "sgd",
    "train.momentum": 0.0,
    "train.weight_decay": 0.0,
    "train.decay_towards": "start",
    "train.interpolate": True,
    "train.keep_features": 0.5,
    "train.sparsity": 0.8,
    "train.teacher": "saved_models/large",
    "train.teacher_weight": 0.9,
    "train.schedule": "onecycle",
    "train.cycles": 2,
    "train.warmup_fraction": 0.0,
    "train.step_epochs": 1,
    "train.step_factor": 0.5,
    "train.loss": "mse",
    "train.focal_gamma": 0.5,
    "train.head_c": 0.01,
    "train.mixup_alpha": 0.2,
    "train.cutmix_alpha": 1.0,
    "train.label_smoothing": 0.0,
    "train.clip_norm": None,
    "train.class_weights": {"0": 2.0, "yes": 1e-05, "größer": 1.0},
    "train.sampling": "balanced",
    "train.logit_adjustment": 1.5,
    "train.ema": 0.999,
    "train.save_minutes": 1.0,
    "train.patience": 1,
    "train.monitor": "val_accuracy",
    "rank.candidates": ("resnet50", "my.keras"),
    "rank.max_images": 100,
    "rank.max_ms": 2.5,
    "search.space": {"train.batch_size": {"choice": [8, 16]}},
    "search.tuner": "random",
    "search.trial": "finetune",
    "search.objective": "val_accuracy",
    "search.max_trials": 7,
    "search.max_minutes": 1.5,
    "search.max_epochs": 9,
    "search.keep_models": 1,
    "crossval.folds": 10,
    "crossval.repeats": 1,
    "crossval.training": "finetune",
    "crossval.against": "saved_models/other",
    "ensemble.members": ("resnet50", "saved_models/other"),
    "ensemble.method": "vote",
    "ensemble.meta": "linear",
    "ensemble.resamples": 3,
    "ensemble.rounds": 7,
    "adapt.target": "sketches/",
    "adapt.method": "coral",
    "adapt.max_minutes": 5.0,
    "export.parity_images": 1,
    "export.max_probability_difference": 0.5,
    "export.min_agreement": 0.5,
    "export.calibration_images": 3,
    "export.sign_key": "key.pem",
    "compress.sparsities": (0.25,),
    "compress.students": ("mobilenet_025",),
    "runtime.seed": 2**31 - 1,
    "runtime.engine": "tensorflow",
    "runtime.precision": "bfloat16",
    "runtime.deterministic": False,
    "runtime.threads": 2,
    "runtime.strategy": "mirrored",
    "runtime.cluster": "ray",
    "runtime.tracker": "wandb",
}
NEEDS: dict[str, dict[str, Any]] = {
    "data.augment.crop_ratio": {"data.augment.random_resized_crop": (0.5, 1.0)},
    "data.augment.cval": {"data.augment.fill_mode": "constant"},
    "data.augment.rand_ops": {"data.augment.auto": "rand"},
    "data.augment.rand_magnitude": {"data.augment.auto": "rand"},
    "features.keep": {"features.selection": "pca"},
    "train.momentum": {"train.optimizer": "sgd"},
    "train.teacher_weight": {"train.teacher": "saved_models/large"},
    "train.cycles": {"train.schedule": "cosine_restarts"},
    "data.columns": {"data.source": "labels.csv"},
    "data.image_folder": {"data.source": "labels.csv"},
    "data.task": {"data.source": "labels.csv"},
    "data.missing_values": {"data.source": "labels.csv"},
    "data.label_separator": {"data.source": "labels.csv", "data.task": "multi_label"},
    "train.step_epochs": {"train.schedule": "step"},
    "train.step_factor": {"train.schedule": "step"},
    "train.focal_gamma": {"train.loss": "focal"},
    "search.keep_models": {"search.trial": "finetune"},
    "search.max_epochs": {"search.tuner": "hyperband"},
    "ensemble.meta": {"ensemble.method": "stack"},
    "ensemble.resamples": {"ensemble.method": "bagging"},
    "ensemble.rounds": {"ensemble.method": "boosting"},
}


def value_of(config: Config, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def build(values: dict[str, Any]) -> Config:
    tree: dict[str, Any] = {"mode": "finetune"}
    for path, value in values.items():
        *sections, key = path.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[key] = value
    return Config.model_validate(tree)


def mistakes(*sets: str, text: str = "", folder: Path | None = None, mode: str = "finetune") -> list[str]:
    """The lines of the error, with the file called FILE."""
    file = folder / "flowers.yaml" if folder else None
    if file is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(mode, file=file, flags={}, sets=sets)
    return [line.replace(str(file), "FILE") if file else line for line in str(caught.value).split("\n")]


def test_table_of_other_values_is_complete() -> None:
    assert list(OTHER) == list(fields())


@pytest.mark.parametrize("path", OTHER)
def test_field_round_trips(path: str) -> None:
    config = build({path: OTHER[path], **NEEDS.get(path, {})})
    assert value_of(config, path) == OTHER[path] != value_of(build({}), path)
    again = from_yaml(to_yaml(config), "config.yaml")
    assert again == config
    assert type(value_of(again, path)) is type(OTHER[path])


def test_none_round_trips() -> None:
    empty = [path for path in OTHER if value_of(build({}), path) is None]
    assert "train.learning_rate" in empty
    assert all(value_of(from_yaml(to_yaml(build({})), "config.yaml"), path) is None for path in empty)


def test_what_is_shown_of_a_configuration_is_what_its_mode_uses() -> None:
    shown = yaml.safe_load(used_to_yaml(build({"mode": "extract", "data.source": "photos"})))
    assert list(shown) == ["mode", "data", "model", "features", "train", "export", "compress", "runtime"]
    assert list(shown["train"]) == ["batch_size", "teacher", "teacher_weight", "loss", "head_c", "class_weights", "logit_adjustment"]
    assert shown["data"]["source"] == "photos"
    assert "augment" not in shown["data"]
    assert "epochs" in yaml.safe_load(used_to_yaml(build({})))["train"]


@pytest.mark.parametrize("path", fields())
def test_field_is_described(path: str) -> None:
    assert fields()[path].description


def test_names_of_fields_are_unique() -> None:
    names = [path.rpartition(".")[2] for path in fields()]
    assert len(set(names)) == len(names) - 2, "adapt and ensemble have a method, adapt and search max_minutes"


@pytest.mark.parametrize("mode", list(MODES))
def test_every_mode_loads_with_the_defaults(mode: str) -> None:
    assert load_config(mode, file=None, flags={}, sets=[]) == Config.model_validate({"mode": mode})


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("mode: predict\nmodel: {backbone: vgg16, dropout: 0.5}\ntrain: {batch_size: 8, epochs: 9}\ndata:\n")
    flags = {"--backbone": ("model.backbone", "resnet50"), "--batch-size": ("train.batch_size", "16")}
    sets = ["train.batch_size=64", "train.learning_rate=1e-4", "train.batch_size=128", "data.augment={cval: 0}"]
    config = load_config("finetune", file=file, flags=flags, sets=sets)
    assert (config.mode, config.model.backbone, config.model.dropout) == ("finetune", "resnet50", 0.5)
    assert (config.train.batch_size, config.train.epochs, config.train.learning_rate) == (128, 9, 1e-4)


def test_a_run_folders_config_is_a_config_file(tmp_path: Path) -> None:
    config = build({"train.epochs": 3})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config("finetune", file=tmp_path / "config.yaml", flags={}, sets=[]) == config


def test_a_setting_that_was_renamed_names_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("crossval: {group_pattern: 'p(.)'}")
    with pytest.raises(ConfigError) as caught:
        load_config("crossval", file=file, sets=["crossval.group_pattern=x"])
    line = "crossval.group_pattern has been renamed: write data.group_pattern."
    assert str(caught.value).splitlines() == [f"{file}: {line}", f"--set: {line}"]


def test_a_run_of_an_older_version_is_read_under_the_new_names(tmp_path: Path) -> None:
    old = "mode: crossval\ncrossval: {{group_pattern: {}}}"
    assert from_yaml(old.format("p(.)"), "config.yaml").data.group_pattern == "p(.)"
    assert from_yaml(old.format("null"), "config.yaml").data.group_pattern is None
    searched = from_yaml(
        "mode: search\ntrain: {head_penalty: 0.5}\nsearch: {space: {train.head_penalty: {choice: [0.1]}, model.dropout: {choice: [0.2]}}}",
        "config.yaml",
    )
    assert searched.train.head_c == 0.5
    assert searched.search.space == {"train.head_c": {"choice": [0.1]}, "model.dropout": {"choice": [0.2]}}
    (tmp_path / "config.yaml").write_text(old.format("null"))  # every setting is in the file of a run
    assert load_config("extract", file=tmp_path / "config.yaml").data.group_pattern is None


def test_every_renamed_setting_has_a_new_name() -> None:
    assert set(RENAMED.values()) <= set(fields())
    assert not set(RENAMED) & set(fields())


def test_a_file_of_comments_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert load_config("extract", file=tmp_path / "a.yaml", flags={}, sets=[]) == Config(mode="extract")


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("train.learning_rate=1e-4", "train.learning_rate", 1e-4),
        ("train.learning_rate=", "train.learning_rate", None),
        ("train.clip_norm=null", "train.clip_norm", None),
        ("data.image_size=64", "data.image_size", 64),
        ("data.image_size=[64, 48]", "data.image_size", (64, 48)),
        ("data.augment.zoom_range=1e-1", "data.augment.zoom_range", 0.1),
        ("data.source=a=b", "data.source", "a=b"),
        ("train.class_weights={7: 2, rose: 1e-1}", "train.class_weights", {"7": 2.0, "rose": 0.1}),
        ("model.hidden=[]", "model.hidden", ()),
    ],
)
def test_set_reads_yaml(assignment: str, path: str, value: Any) -> None:
    assert value_of(load_config("finetune", file=None, flags={}, sets=[assignment]), path) == value


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("train.batch_size=many", "train.batch_size: got 'many', expected an integer >= 1."),
        ("train.batch_size=3.5", "train.batch_size: got 3.5, expected an integer >= 1."),
        ("train.batch_size=true", "train.batch_size: got True, expected an integer >= 1."),
        ("train.batch_size=0", "train.batch_size: got 0, expected an integer >= 1."),
        ("train.batch_size=", "train.batch_size: got None, expected an integer >= 1."),
        ("train.epochs=true", "train.epochs: got True, expected an integer >= 1, or null."),
        ("train.learning_rate=false", "train.learning_rate: got False, expected a number > 0, or null."),
        ("train.learning_rate=.nan", "train.learning_rate: got nan, expected a number > 0, or null."),
        ("train.clip_norm=.inf", "train.clip_norm: got inf, expected a number > 0, or null."),
        ("data.val_fraction=0.5", "data.val_fraction: got 0.5, expected a number > 0 and < 0.5."),
        ("data.download=perhaps", "data.download: got 'perhaps', expected true or false."),
        ("data.source=3", "data.source: got 3, expected text (in quotes, where it looks like a number)."),
        (
            "data.resize=corp",
            "data.resize: got 'corp', expected one of 'crop', 'letterbox', 'stretch'. Did you mean 'crop'?",
        ),
        (
            "data.image_size=[64]",
            "data.image_size: got [64], expected an integer >= 1 or a pair [height, width] of them, or null.",
        ),
        (
            "data.augment.zoom_range=1.5",
            "data.augment.zoom_range: got 1.5, expected a number >= 0 and < 1 or a pair [low, high] with 0 < low <= high.",
        ),
        *(
            (
                f"data.augment.width_shift_range={pixels}",
                f"data.augment.width_shift_range: got {pixels}, expected a fraction of the side, 0.0 to 1.0; for pixels divide them by the "
                "side, such as 0.05 for 5 of 100.",
            )
            for pixels in ("1", "5", "1.5", "[-2, 0, 2]")
        ),
        (
            "data.augment.contrast_range=[2, 1]",
            "data.augment.contrast_range: got [2, 1], expected a pair [low, high] with 0 <= low <= high, or null.",
        ),
        (
            "data.augment.random_resized_crop=[0.5, 2]",
            "data.augment.random_resized_crop: got [0.5, 2], expected a pair [low, high] with 0 < low <= high <= 1, or null.",
        ),
        ("model.hidden=[0]", "model.hidden: got [0], expected a list of integers >= 1."),
        ("model.hidden=256", "model.hidden: got 256, expected a list of integers >= 1. Write [256]."),
        (
            "train.unfreeze_from=block3",
            "train.unfreeze_from: got 'block3', expected 'all' or the name of a stage, such as 'stage3', or null.",
        ),
        (
            "train.class_weights=balancd",
            "train.class_weights: got 'balancd', expected 'none', 'balanced' or a mapping of class name to a "
            "weight > 0. Did you mean 'balanced'?",
        ),
        (
            "train.class_weights={rose: -1, tulip: 0}",
            "train.class_weights: got {'rose': -1, 'tulip': 0}, expected 'none', 'balanced' or a mapping of class name to a weight > 0.",
        ),
        ("features.views=-1", "features.views: got -1, expected an integer >= 0, or null."),
        ("features.stages=first", "features.stages: got 'first', expected one of 'last', 'all', or null."),
        (
            "features.selection=anva",
            "features.selection: got 'anva', expected one of 'none', 'head2toe', 'anova', 'chi2', 'mutual_information', 'l1', 'trees', "
            "'rfe', 'pca'. Did you mean 'anova'?",
        ),
        ("features.keep=0", "features.keep: got 0, expected a number > 0 and <= 1, or null."),
        ("features.keep=1.5", "features.keep: got 1.5, expected a number > 0 and <= 1, or null."),
        ("features.keep=0.5", "features.keep: got 0.5, which has no effect without selection."),
        ("features.max_gb=-1", "features.max_gb: got -1, expected a number >= 0."),
        ("train.mixup_alpha=-1", "train.mixup_alpha: got -1, expected a number >= 0."),
        ("train.cutmix_alpha=null", "train.cutmix_alpha: got None, expected a number >= 0."),
        (
            "runtime.precision=half",
            "runtime.precision: got 'half', expected one of 'auto', 'float32', 'bfloat16', 'float16'.",
        ),
        ("runtime.seed=2147483648", "runtime.seed: got 2147483648, expected an integer >= 0 and <= 2147483647."),
        ("train.learning_rte=1", "unknown key 'train.learning_rte'. Did you mean 'train.learning_rate'?"),
        ("data.batch_size=1", "unknown key 'data.batch_size'. 'batch_size' belongs in 'train.batch_size'."),
        ("batch_size=1", "unknown key 'batch_size'. 'batch_size' belongs in 'train.batch_size'."),
        ("data.zoom=1", "unknown key 'data.zoom'. Did you mean 'data.augment.zoom_range'?"),
        ("data.augmnt={}", "unknown key 'data.augmnt'. Did you mean 'data.augment'?"),
        ("trian={epochs: 3}", "unknown key 'trian'. Did you mean 'train'?"),
        (
            "xyz=1",
            "unknown key 'xyz'. Keys: 'mode', 'data', 'model', 'features', 'train', 'rank', 'search', 'crossval', 'ensemble', "
            "'adapt', 'export', 'compress', 'runtime'.",
        ),
        (
            "export.qqq=1",
            "unknown key 'export.qqq'. Keys of 'export': 'parity_images', 'max_probability_difference', 'min_agreement', "
            "'calibration_images', 'sign_key'.",
        ),
        (
            "train.class_weights.rose=2",
            "unknown key 'train.class_weights.rose'. Did you mean 'train.class_weights'?",
        ),
        (
            "export=3",
            "export: got 3, expected a mapping with keys 'parity_images', 'max_probability_difference', 'min_agreement', "
            "'calibration_images', 'sign_key'.",
        ),
        ("novalue", "got 'novalue', expected path=value, e.g. train.learning_rate=1e-3."),
        (
            "model.hidden=[1",
            "model.hidden: is not valid YAML: line 1: expected ',' or ']', but got '<stream end>'.",
        ),
        ("data.source=0b_", "data.source: is not valid YAML: invalid literal for int() with base 2: ''."),
        ("train.focal_gamma=3", "train.focal_gamma: got 3.0, which has no effect without loss: focal."),
        ("train.momentum=0.5", "train.momentum: got 0.5, which has no effect without optimizer: sgd."),
        ("train.step_epochs=5", "train.step_epochs: got 5, which has no effect without schedule: step."),
        ("train.cycles=3", "train.cycles: got 3, which has no effect without schedule: cosine_restarts."),
        ("data.augment.cval=9", "data.augment.cval: got 9.0, which has no effect without fill_mode: constant."),
    ],
)
def test_mistake_is_one_line(assignment: str, line: str) -> None:
    assert mistakes(assignment) == [f"--set: {line}"]


def test_contradictions_are_all_told() -> None:
    lines = mistakes("train.schedule=onecycle", "train.warmup_fraction=0.2", "train.step_factor=0.5")
    assert lines == [
        "--set: train.warmup_fraction: got 0.2, which has no effect without a schedule other than onecycle.",
        "--set: train.step_factor: got 0.5, which has no effect without schedule: step.",
    ]


def test_restarts_need_an_epoch_a_cycle_and_no_early_stop() -> None:
    restarts = ["train.schedule=cosine_restarts", "train.cycles=3"]
    assert mistakes(*restarts, "train.epochs=2", "train.patience=4") == [
        "--set: train.cycles: got 3, expected at most epochs, which is 2: a cycle ends with an epoch.",
        "--set: train.patience: got 4, expected null with schedule: cosine_restarts: a restart makes epochs worse for a while, which is "
        "not a reason to stop.",
    ]
    assert load_config("finetune", file=None, flags={}, sets=[*restarts, "train.epochs=3"]).train.cycles == 3


@pytest.mark.parametrize("name", ["mixup_alpha", "cutmix_alpha"])
def test_mixing_needs_a_batch(name: str) -> None:
    (line,) = mistakes(f"train.{name}=0.2", "train.batch_size=1")
    assert line.endswith(
        f"train.{name}: got 0.2, which has no effect without a batch_size > 1: an image is mixed with the next of its batch."
    )


@pytest.mark.parametrize("mode", ["extract", "search", "crossval"])
def test_restarts_need_more_than_a_head(mode: str, tmp_path: Path) -> None:
    line = "train.schedule: got 'cosine_restarts', which has no effect when only a head is trained: there are no snapshots."
    assert mistakes(text="train: {schedule: cosine_restarts}", folder=tmp_path, mode=mode) == [f"FILE: {line}"]
    assert mistakes("train.schedule=cosine_restarts", "model.hidden=[8]", mode=mode) == [f"--set: {line}"]


@pytest.mark.parametrize(
    ("mode", "sets"),
    [("finetune", []), ("pretrain", []), ("search", ["search.trial=finetune"]), ("crossval", ["crossval.training=finetune"])],
)
def test_restarts_are_for_backbones_that_train(mode: str, sets: list[str]) -> None:
    config = load_config(mode, file=None, flags={}, sets=["train.schedule=cosine_restarts", *sets])
    assert config.train.schedule == "cosine_restarts"


@pytest.mark.parametrize("setting", ["model.hidden=[8]", "train.loss=focal"])
def test_selection_needs_a_head_that_is_solved(setting: str) -> None:
    assert mistakes("features.selection=trees", setting) == [
        "--set: features.selection: got 'trees', which has no effect without a linear head and loss: cross_entropy."
    ]


def test_fractions_must_leave_something_to_train_on() -> None:
    assert mistakes("data.val_fraction=0.41", "data.test_fraction=0.4") == [
        "--set: data.test_fraction: got 0.4 beside val_fraction 0.41, expected a sum <= 0.8: only the rest is left for training."
    ]


def test_unknown_mode_names_the_nearest() -> None:
    modes = ", ".join(map(repr, MODES))
    line = f"--mode: mode: got 'finetun', expected one of {modes}. Did you mean 'finetune'?"
    assert mistakes(mode="finetun") == [line]


def test_all_mistakes_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("train:\n  batch_size: many\n  epochs: 3\n  epochs: 4\n  learning_rte: 1\nmodel: 3\ndata: {resize: x}\n")
    with pytest.raises(ConfigError) as caught:
        load_config("fly", file=file, flags={"--seed": ("runtime.seed", "x")}, sets=["novalue", "train.ema=2", "q=1"])
    lines = str(caught.value).replace(str(file), "FILE").split("\n")
    starts = [
        "FILE: line 4: key 'epochs' was given on line 3 already.",
        "FILE: unknown key 'train.learning_rte'.",
        "FILE: model: got 3, expected a mapping",
        "--set: got 'novalue'",
        "--set: unknown key 'q'",
        "--mode: mode: got 'fly'",
        "FILE: data.resize: got 'x'",
        "FILE: train.batch_size: got 'many'",
        "--set: train.ema: got 2",
        "--seed: runtime.seed: got 'x', expected an integer >= 0 and <= 2147483647.",
    ]
    assert len(lines) == len(starts)
    assert sorted(starts) == sorted(start for start in starts for line in lines if line.startswith(start))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("train: {epochs: 1, epochs: 2}", "FILE: line 1: key 'epochs' was given on line 1 already. Keep one."),
        ("train:\n  epochs: 1\n bad", "FILE: is not valid YAML: line 3: expected <block end>, but found '<scalar>'."),
        (
            "- 1",
            "FILE: got [1], expected a mapping with keys 'mode', 'data', 'model', 'features', 'train', 'rank', 'search', 'crossval', "
            "'ensemble', 'adapt', 'export', 'compress', 'runtime'.",
        ),
        ("train: [1]\n", "FILE: train: got [1], expected a mapping with keys 'epochs', 'batch_size', "),
        ("train:\n  batch_size: ok\n", "FILE: train.batch_size: got 'ok', expected an integer >= 1."),
        ("a\x01b", "FILE: is not valid YAML: unacceptable character #x0001: special characters are not allowed."),
    ],
)
def test_file_that_is_wrong(tmp_path: Path, text: str, line: str) -> None:
    (only,) = mistakes(text=text, folder=tmp_path)
    assert only.startswith(line)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"data: {source: \xfc}")
    for name, problem in [
        ("none.yaml", "cannot be read: No such file or directory."),
        ("", "cannot be read: Is a directory."),
        ("latin.yaml", "is not UTF-8 text."),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_config("extract", file=tmp_path / name, flags={}, sets=[])
        assert str(caught.value) == f"{tmp_path / name}: {problem} --config expects a YAML file."


def test_what_a_run_wrote_stays_readable_when_a_default_changes() -> None:
    text = to_yaml(build({})).replace("meta: mixture", "meta: linear").replace("momentum: 0.9", "momentum: 0.8")
    settled = from_yaml(text, "config.yaml")
    assert (settled.ensemble.meta, settled.train.momentum) == ("linear", 0.8)
    with pytest.raises(ConfigError, match=r"train\.batch_size"):
        from_yaml(text.replace("batch_size: 32", "batch_size: 0"), "config.yaml")


def test_from_yaml_needs_a_mode() -> None:
    with pytest.raises(ConfigError, match=r"^run/config.yaml: mode is missing, expected one of 'check', 'extract', "):
        from_yaml("train: {epochs: 3}", "run/config.yaml")


def test_config_is_frozen_and_closed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainConfig().epochs = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        TrainConfig.model_validate({"epoch": 3})


def test_replace_changes_one_setting() -> None:
    config = Config(mode="extract")
    changed = config.replace("data.augment.rotation_range", 5.0).replace("mode", "finetune")
    assert (changed.mode, changed.data.augment.rotation_range) == ("finetune", 5.0)
    assert changed.replace("data.augment.rotation_range", 0.0).replace("mode", "extract") == config == Config(mode="extract")
    with pytest.raises(ValueError, match="no setting 'sise' in DataConfig"):
        config.replace("data.sise", 1)


def test_a_path_becomes_absolute_and_a_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "photos"):
        (tmp_path / name).mkdir()
    assert [absolute(each, ("digits",)) for each in ("digits", "./digits", "photos", "gone")] == [
        "digits", str(tmp_path / "digits"), str(tmp_path / "photos"), "gone",
    ]  # fmt: skip


def test_import_is_free_of_tensorflow() -> None:
    code = "import sys, tl_keras.config; sys.exit(bool({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pretraining_refuses_to_freeze():
    with pytest.raises(ConfigError, match=r"train\.unfreeze_from: got 'stage2', expected 'all'"):
        load_config("pretrain", file=None, flags={}, sets=["train.unfreeze_from=stage2"])


def test_a_name_need_not_be_utf_8():
    source = os.fsdecode(b"ph\xf6tos")
    config = load_config("extract", flags={"--data": ("data.source", source), "--backbone": ("model.backbone", f"{source}.keras")})
    assert config.data.source == source
    text = to_yaml(config)
    text.encode("ascii")
    assert from_yaml(text, "config.yaml") == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.loss": "mse"}, "train.loss: got 'mse', expected 'auto', 'cross_entropy' or 'focal' with data.task: multi_label."),
        (
            {"train.monitor": "val_accuracy"},
            "train.monitor: got 'val_accuracy', expected 'val_loss' or 'val_map' with data.task: multi_label.",
        ),
        ({"train.class_weights": "balanced"}, "train.class_weights: got 'balanced', which has no effect without data.task: single_label."),
        ({"data.per_class": 5}, "per_class: got 5, which has no effect without task: single_label."),
        ({"features.selection": "anova"}, "features.selection: got 'anova', which has no effect without data.task: single_label."),
        ({"data.task": "regression", "train.loss": "focal"}, "train.loss: got 'focal', expected 'auto', 'mse' or 'huber'"),
        ({"data.task": "regression", "train.label_smoothing": 0.1}, "train.label_smoothing: got 0.1, which has no effect on numbers."),
        ({"data.task": "regression", "train.head_c": 1.0}, "train.head_c: got 1.0, which has no effect on numbers."),
        ({"data.task": "single_label", "train.monitor": "val_map"}, "train.monitor: got 'val_map', expected 'val_loss' or 'val_accuracy'"),
        ({"data.task": "single_label", "data.label_separator": "|"}, "label_separator: got '|', which has no effect without"),
    ],
)
def test_what_does_not_go_with_a_task_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        build({"mode": "extract", "data.source": "labels.csv", "data.task": "multi_label", **settings})
    assert message in str(caught.value)


@pytest.mark.parametrize("text", [",", "|", ">", ";"])
def test_a_sign_alone_is_a_text_on_the_command_line(text: str) -> None:
    config = load_config("extract", sets=["data.source=labels.csv", "data.task=multi_label", f"data.label_separator={text}"])
    assert config.data.label_separator == text


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ("{path: [a, b]}", "got a list for path, expected the name of one column; a list is for label alone."),
        ("{label: [a]}", "got 1 columns for label, expected two or more, each of them once."),
        ("{label: [a, b, a]}", "got 3 columns for label, expected two or more, each of them once."),
        (
            "{label: [a, 1]}",
            "got {'label': ['a', 1]}, expected a mapping of path, label, split, group, domain or weight to the name of a column (label "
            "also to a list of names), or null.",
        ),
    ],
)
def test_a_list_of_columns_is_of_classes(columns: str, line: str) -> None:
    assert mistakes("data.source=x.csv", f"data.columns={columns}") == [f"--set: data.columns: {line}"]
    found = load_config("extract", sets=["data.source=x.csv", "data.columns={label: [a, b], path: id}"])
    assert found.data.columns == {"label": ("a", "b"), "path": "id"}
    assert from_yaml(to_yaml(found), "again") == found


def test_a_list_of_columns_is_for_single_labels() -> None:
    (line,) = mistakes("data.source=x.csv", "data.task=multi_label", "data.columns={label: [a, b]}")
    assert line == "--set: data.columns: got a list for label, which needs task: single_label, not multi_label."
