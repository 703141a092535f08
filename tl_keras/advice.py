"""Suggestions for the next step, as commands that can be pasted: the last lines of a mode."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_keras.arguments import program
from tl_keras.export_formats import SAVED_MODEL
from tl_keras.run_folder import BACKBONE, CHECK_PAGE, CONFIG, EXCLUDE, EXPORT, REPORT
from tl_keras.short_forms import SHORT_FORMS, flag_of

if TYPE_CHECKING:
    from tl_keras.config import Config

NEW_IMAGES = "NEW_PHOTOS/"  # what the user puts a folder in place of
WHICH_IMAGES = (
    *(
        "task",
        "label_separator",
        "nested_classes",
        "columns",
        "image_folder",
        "missing_values",
        "group_pattern",
        "copies",
        "stable_split",
        "split_seed",
        "val_fraction",
        "test_fraction",
    ),
    *("per_class", "bit_depth", "max_megapixels"),
)  # settings of data beside its source


def command(*words: object) -> str:
    """A command line of this program, quoted for a shell."""
    return f"{program()} {shlex.join(map(str, words))}"


def go_on(mode: str, run_dir: Path, workers: int = 0) -> str:
    """The command that goes on with an interrupted run, in as many processes of this machine as it had."""
    return command(mode, "--resume", "--run-dir", run_dir, *(("--workers", workers) if workers else ()))


def after_compression(result: Mapping[str, Any]) -> Iterator[str]:
    """How to use one of the smaller forms: the fastest of the one that is best on val."""
    runs, made = result["runs"], [point for point in result["points"] if "refused" not in point and point["run"] != "original"]
    if made:
        best = max(made, key=lambda point: (runs[point["run"]]["val"]["accuracy"], -point["single_ms"]))
        yield "next: answer with one of them, such as the best on val"
        yield f"  {command('serve', runs[best['run']]['folder'], '--format', best['format'])}"


def look_at_report(run_dir: Path) -> Iterator[str]:
    """Where a person sees what a run is worth."""
    if (run_dir / REPORT).is_file():
        yield f"look at {run_dir / REPORT}"


def use_run(run_dir: Path) -> Iterator[str]:
    """How to use a model that is there."""
    yield "next: use it on other images"
    yield f"  {command('predict', run_dir, NEW_IMAGES)}"
    if not (run_dir / EXPORT).is_dir():
        yield "or export it, such as to ONNX, LiteRT or a SavedModel"
        yield f"  {command('export', run_dir)}"


def after_training(config: "Config", run_dir: Path) -> Iterator[str]:
    """How to use a model, and what may make a better one."""
    if config.mode == "pretrain":
        yield "next: finetune what was pretrained on other images"
        yield f"  {command('finetune', NEW_IMAGES, '--backbone', run_dir / BACKBONE)}"
        return
    yield from use_run(run_dir)
    if config.mode == "extract":
        yield "or see whether finetuning does better"
        yield f"  {command('finetune', config.data.source, *short_flags(config, config.model.backbone))}"
    elif config.data.source == "digits":
        yield "or take photos of your own, a folder for each class"
        yield f"  {command('finetune', NEW_IMAGES, '--backbone', 'mobilenet_v2')}"


def short_flags(config: "Config", backbone: str) -> Iterator[str]:
    """The options that a finetuning of the same images takes over, where they are not the defaults."""
    from tl_keras.config import fields

    values, known = config.model_dump(), fields()
    yield from ("--backbone", backbone)
    for name in ("weights", "image_size", "batch_size", "seed"):
        section, _, key = SHORT_FORMS[name].setting.partition(".")
        value = values[section][key]
        if value != known[SHORT_FORMS[name].setting].default:
            yield flag_of(name)
            yield str(list(value)) if isinstance(value, tuple) else str(value)
    for name in WHICH_IMAGES:
        value = values["data"][name]
        if value != known[f"data.{name}"].default:
            yield from ("--set", f"data.{name}={json.dumps(value, ensure_ascii=False)}")  # JSON is YAML, too


def after_check(config: "Config", run_dir: Path, result: Mapping[str, Any]) -> Iterator[str]:
    """Where to look, and how to train without what is suspect."""
    yield f"look at {run_dir / CHECK_PAGE}; everything is in {run_dir}"
    if result.get("excluded") and "trouble_with_list" not in result:
        yield f"next: train without the {result['excluded']} suspect images, once you have looked at them"
        data = (config.data.source, *short_flags(config, config.model.backbone))
        yield f"  {command('finetune', *data, '--set', f'data.exclude={run_dir / EXCLUDE}')}"


def after_ranking(config: "Config", chosen: str) -> Iterator[str]:
    """How to train what ranks first."""
    yield "next: train it"
    yield f"  {command('finetune', config.data.source, *short_flags(config, chosen))}"


def after_crossval(config: "Config", run_dir: Path) -> Iterator[str]:
    """How to train on all folds together."""
    yield "next: train one model, and measure it on test"
    yield f"  {command(config.crossval.training, '--config', run_dir / CONFIG)}"


def after_export(name: str, path: str) -> Iterator[str]:
    """How to load what was exported."""
    if name == SAVED_MODEL:
        yield "next: load it in Python, without this package; it takes the bytes of image files"
        yield f"  tensorflow.saved_model.load({path!r}).signatures['bytes']"
