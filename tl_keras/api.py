"""The functions for Python: the modes of the command line, under the names that the command line uses.

`train(data="photos/", backbone="mobilenet_v2", epochs=5)` is `tl-keras finetune photos/ --backbone mobilenet_v2 --epochs 5`.
Each checks what it is given before it imports TensorFlow, without TensorFlow's noise, and shows its progress where somebody
watches: in a terminal and in a notebook. To have none, pass `progress=Progress()`.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tl_keras.arguments import run_of
from tl_keras.config import Config, fields
from tl_keras.config_file import make_config
from tl_keras.errors import ConfigError, UserError, from_os
from tl_keras.interrupts import noted_interrupts
from tl_keras.launch import (
    check_files,
    check_images,
    check_more_runs,
    check_names,
    check_output,
    check_run,
    import_workflow,
    make_run_dir,
    makes_folder,
    new_run_dir,
    prepare_for_workers,
    remove_unused,
    restoring_environment,
    stored_config,
)
from tl_keras.modes import CLASSIFIERS, MODES
from tl_keras.packages import require_packages
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.short_forms import MOST_MEANT, SHORT_FORMS, either, nearest, setting_named, settings_called
from tl_keras.stepwise import StepwiseProgress

if TYPE_CHECKING:
    from tl_keras.data.index import Index
    from tl_keras.deploy.predictor import Prediction

__all__ = [
    "adapt",
    "check",
    "compare",
    "compress",
    "crossval",
    "ensemble",
    "evaluate",
    "explain",
    "export",
    "predict",
    "rank",
    "report",
    "search",
    "serve",
    "train",
    "verify",
]

Given = ParamSpec("Given")
Result = TypeVar("Result")
ImageSize = int | tuple[int, int]
Settings = Mapping[str, object]


def told(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let an argument that there is not be a ConfigError, which says what is meant.

    A `UserError` has no traceback of this package's inside: its text is the whole explanation. So is that of a full disk.
    """
    known = inspect.signature(function).parameters

    @wraps(function)
    def checked(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        for name in kwargs:
            if name not in known:
                raise ConfigError(f"{function.__name__}(): there is no argument '{name}'.{instead_of(name, list(known))}")
        try:
            with restoring_environment(), noted_interrupts():
                return function(*args, **kwargs)
        except UserError as error:
            raise error.with_traceback(None) from None
        except OSError as error:
            raise from_os(error) from error
        finally:
            remove_unused()

    return checked


def instead_of(name: str, known: Sequence[str]) -> str:
    """What to write in place of an argument that there is not, as a sentence; empty where nothing is really like it."""
    short = {form.setting: parameter for parameter, form in SHORT_FORMS.items() if parameter in known}
    near = nearest(name, known)
    if near and not setting_named(name, fields()):
        return f" Did you mean '{near}'?"
    called = settings_called(name, fields())
    if len(called) == 1 and called[0] in short:
        return f" Did you mean '{short[called[0]]}'?"
    if not called or len(called) > MOST_MEANT or "settings" not in known:
        return ""
    return f" Write settings={{{either(called)}: ...}}."


@told
def train(
    config: Config | None = None,
    run_dir: Path | str | None = None,
    *,
    mode: str | None = None,
    data: Path | str | None = None,
    backbone: Path | str | None = None,
    weights: Path | str | None = None,
    image_size: ImageSize | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    index: "Index | None" = None,
    scored: Sequence[str] = ("val", "test"),
) -> dict[str, Any]:
    """Train a classifier, from images to a run folder.

    Args:
        config: what to start from, such as `load_config("extract", file="my.yaml")`; the defaults where there is none.
        run_dir: the run folder to make, or to continue; by default a new one below saved_models/.
        mode: 'finetune' (the default), 'extract' or 'pretrain'.
        data: a folder of class folders, a .zip or .tar archive of them, a table of paths and labels (.csv, .tsv, .parquet), the address
            of one of these (s3://, gs://, ...), 'digits', or the name or folder of a TFDS data set.
        backbone: a name such as 'resnet50', a .keras file, the folder or address of a TF-Hub module, 'keras_hub:PRESET' or 'auto'.
        weights: of the backbone: a file, 'pretrained', 'imagenet' or 'none'.
        image_size: pixels a side, or (height, width).
        epochs: passes of finetuning or pretraining.
        batch_size: images per step.
        learning_rate: peak rate of finetuning or pretraining.
        seed: of all that is random.
        settings: any others by their paths, such as `{"train.weight_decay": 0.05}`; they come last.
        resume: go on with the interrupted training in `run_dir`, with its own settings; `data` says where its images lie now.
        progress: who hears of it; by default a terminal or a notebook, if there is one.
        index: the images, in place of those that `data` names.
        scored: the splits that are measured at the end.

    Returns:
        What `metrics.json` holds, and `run_dir`.

    Raises:
        UserError: anything that the caller can mend; a run folder made for it is gone again.
    """
    short = short_forms(
        data=data,
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    config, folder = prepare(CLASSIFIERS, mode, config, run_dir, short, settings, resume=resume, look=index is None)
    moved = str(data) if resume and data is not None else None
    return make_run(config, folder, progress, resume=resume, index=index, scored=scored, source=moved)


@told
def adapt(
    config: Config | None = None,
    run_dir: Path | str | None = None,
    *,
    data: Path | str | None = None,
    target: Path | str | None = None,
    backbone: Path | str | None = None,
    weights: Path | str | None = None,
    image_size: ImageSize | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a classifier on one domain for another, whose images have no labels.

    Args:
        data: labelled images of the source domain, as in `train`.
        target: images of the target domain: a folder of them, or what `data` may be. Labels, where there are any, are read for the
            figures at the end only.
        backbone: which features are compared and learned from, as in `train`.
        settings: any others by their paths, such as `{"adapt.method": "coral"}`; they come last.
        resume: go on with the interrupted run in `run_dir`, with its own settings.

    Returns:
        What `metrics.json` holds, and `run_dir`; `target` says how the target domain fares.

    Raises:
        UserError: anything that the caller can mend; a run folder made for it is gone again.
    """
    short = short_forms(data=data, target=target, backbone=backbone, weights=weights, image_size=image_size, seed=seed)
    config, folder = prepare(("adapt",), None, config, run_dir, short, settings, resume=resume)
    return make_run(config, folder, progress, resume=resume)


@told
def rank(
    config: Config | None = None,
    run_dir: Path | str | None = None,
    *,
    data: Path | str | None = None,
    backbones: Sequence[Path | str] | None = None,
    weights: Path | str | None = None,
    image_size: ImageSize | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Say which backbone suits the images.

    Args:
        backbones: candidates; by default each whose weights lie on this machine.

    The others are those of `train`.

    Returns:
        What `rank.json` holds, and `run_dir`.

    Raises:
        UserError: anything that the caller can mend; a folder made for it is gone again.
    """
    short = short_forms(data=data, weights=weights, image_size=image_size, seed=seed) | listed("rank.candidates", backbones)
    config, folder = prepare(("rank",), None, config, run_dir, short, settings)
    return make_run(config, folder, progress)


@told
def check(
    config: Config | None = None,
    run_dir: Path | str | None = None,
    *,
    data: Path | str | None = None,
    backbone: Path | str | None = None,
    weights: Path | str | None = None,
    image_size: ImageSize | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    fix: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Find what is wrong with images and labels before training.

    Args:
        backbone: what sees the images; by its features labels are doubted.
        fix: 'quarantine' writes exclude.csv, for the setting `data.exclude`.

    The others are those of `train`.

    Returns:
        What `check.json` holds, and `run_dir`.

    Raises:
        UserError: anything that the caller can mend; a folder made for it is gone again.
    """
    if fix not in (None, "quarantine"):
        raise ConfigError(f"fix: got {fix!r}, expected 'quarantine' or None.")
    short = short_forms(data=data, backbone=backbone, weights=weights, image_size=image_size, seed=seed)
    config, folder = prepare(("check",), None, config, run_dir, short, settings)
    return make_run(config, folder, progress, fix=fix)


@told
def search(
    config: Config | None = None,
    run_dir: Path | str | None = None,
    *,
    data: Path | str | None = None,
    backbone: Path | str | None = None,
    weights: Path | str | None = None,
    image_size: ImageSize | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    resume: bool = False,
    workers: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Try settings by their score on val, and train the best as an ordinary run in `best/` of the run folder.

    Args:
        workers: processes to start on this machine for the trials; 0: they run in this one.

    The others are those of `train`.

    Returns:
        What `search.json` holds, and `run_dir`.

    Raises:
        UserError: anything that the caller can mend; a folder made for it is gone again.
    """
    short = short_forms(
        data=data,
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    config, folder = prepare(("search",), None, config, run_dir, short, settings, resume=resume)
    if workers:
        prepare_for_workers()
    return make_run(config, folder, progress, resume=resume, workers=workers)


@told
def crossval(
    config: Config | None = None,
    run_dir: Path | str | None = None,
    *,
    data: Path | str | None = None,
    backbone: Path | str | None = None,
    weights: Path | str | None = None,
    image_size: ImageSize | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on every fold of train and val, and say how good that is on what was held out; the arguments are those of `train`.

    Returns:
        What `crossval.json` holds, and `run_dir`.

    Raises:
        UserError: anything that the caller can mend; a folder made for it is gone again.
    """
    short = short_forms(
        data=data,
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    config, folder = prepare(("crossval",), None, config, run_dir, short, settings, resume=resume)
    return make_run(config, folder, progress, resume=resume)


@told
def ensemble(
    config: Config | None = None,
    run_dir: Path | str | None = None,
    *,
    members: Sequence[Path | str] | None = None,
    data: Path | str | None = None,
    weights: Path | str | None = None,
    image_size: ImageSize | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Combine several classifiers into one.

    Args:
        members: backbones, or the folders of runs on the same images.

    The others are those of `train`.

    Returns:
        What `ensemble.json` holds, and `run_dir`.

    Raises:
        UserError: anything that the caller can mend; a folder made for it is gone again.
    """
    short = short_forms(data=data, weights=weights, image_size=image_size, seed=seed) | listed("ensemble.members", members)
    config, folder = prepare(("ensemble",), None, config, run_dir, short, settings)
    return make_run(config, folder, progress)


@told
def evaluate(
    run_dir: Path | str,
    *,
    data: Path | str | None = None,
    min_accuracy: float | None = None,
    max_ece: float | None = None,
    corrupt: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a run's model again: on its own test split, or on other labelled images.

    Args:
        run_dir: the folder of a run.
        data: a folder or archive of class folders, or a table; by default the run's own images.
        min_accuracy: what the accuracy has to reach, in [0, 1].
        max_ece: what the calibration error may be at most, likewise.
        corrupt: also measure it on the images blurred, noisy, compressed and dark, at three strengths each.

    Returns:
        What `evaluations/N/evaluation.json` in the run folder holds, where `missed` has a line for each bound that is not kept, and with
        `corrupt`, `robustness` a row for each corruption and strength; and `folder`, where that is.

    Raises:
        UserError: anything that the caller can mend.
    """
    run, source = run_of(run_dir), None if data is None else str(data)
    check_run(run, source)
    evaluate_run, progress = begin("evaluate", None, progress)
    found: dict[str, Any] = evaluate_run(run, source=source, min_accuracy=min_accuracy, max_ece=max_ece, corrupt=corrupt, progress=progress)
    return found


@told
def compare(run_dir: Path | str, against: Path | str, *, progress: Progress | None = None) -> dict[str, Any]:
    """Compare two finished runs, A and B, on the test images that both have and that neither has learned from.

    Args:
        run_dir: the folder of A.
        against: the folder of B.

    Returns:
        `verdict`, a sentence; `is_told`, whether a difference can be told; `figures`, by their names those of A and B and B's less A's
        (`a`, `b`, `difference`, each with `..._ci95`); with one class an image `mcnemar` and `per_class`; `images`, how many were compared;
        `changed`, a row for each image of which the two say something else.

    Raises:
        UserError: anything that the caller can mend.
    """
    run, other = run_of(run_dir), run_of(against)
    for folder in (run, other):
        check_run(folder, needs_model=False)
    compare_runs, progress = begin("compare", None, progress)
    found: dict[str, Any] = compare_runs(run, against=other, progress=progress)
    return found


@told
def report(
    run_dir: Path | str,
    others: Iterable[Path | str] = (),
    *,
    output: Path | str | None = None,
    data: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a run's report.html again, from what lies in its folder; or one page that puts several runs side by side.

    Args:
        run_dir: the folder of a run.
        others: the folders of more runs.
        output: the page for several runs, a file ending in .html; needed with `others`.
        data: where the images lie now, if they have moved.

    Returns:
        `report`, the path of the file, and `bytes`, its size.

    Raises:
        UserError: anything that the caller can mend.
    """
    run, source, page = run_of(run_dir), None if data is None else str(data), None if output is None else Path(output)
    check_output(page, MODES["report"].writes)
    check_run(run, source)
    folders = check_more_runs(run, list(others), page)
    report_run, progress = begin("report", None, progress)
    found: dict[str, Any] = report_run(run, others=folders, output=page, source=source, progress=progress)
    return found


@told
def predict(
    run_dir: Path | str,
    paths: Path | str | Iterable[Path | str],
    *,
    coverage: float | None = None,
    min_precision: float | None = None,
    format: str | None = None,
    progress: Progress | None = None,
) -> "Iterator[Prediction]":
    """Classify files with a run's model, a batch at a time as they are asked for.

    Args:
        run_dir: the folder of a run.
        paths: a file, a folder (searched for images) or a glob; or several of them.
        coverage: the share of images, between 0 and 1, in whose `prediction_set` the true class shall be; None makes no sets.
        min_precision: the share of answers that are `accepted`, between 0 and 1, that shall be right; None accepts and refuses none.
        format: the export that answers in place of the model, such as 'onnx'; None for the model.

    Returns:
        One `Prediction` for each file, in order; that of a file that cannot be read has an `error`.

    Raises:
        UserError: at once, where there is no such run or file.
    """
    words = file_names(paths)
    run = run_of(run_dir)
    check_run(run)
    check_files(words)
    steps = None if progress is not None else steps_in_terminal()
    predict_files, progress = begin("predict", None, steps or progress)
    chosen = [] if format is None else [format]
    found: Iterator[Prediction] = predict_files(
        run, words, coverage=coverage, min_precision=min_precision, formats=chosen, progress=progress
    )
    found = found if steps is None else steps.wiped_before_each(found)
    return chain([first for first in [next(found, None)] if first is not None], found)  # the first batch shows what is wrong


@told
def explain(
    run_dir: Path | str,
    paths: Path | str | Iterable[Path | str],
    *,
    method: str | None = None,
    label: str | None = None,
    neighbours: int | None = None,
    data: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Show what the answers of a run's model rest on: a picture of each file, with its maps and the training images nearest to it.

    Args:
        run_dir: the folder of a run.
        paths: a file, a folder (searched for images) or a glob; or several of them.
        method: 'grad_cam', which is the default, 'integrated_gradients' or 'occlusion'.
        label: the class that is explained; None explains what the model answers.
        neighbours: how many training images are shown beside each file, 0 to 8; 3 by default.
        data: where the run's images lie now, if they have moved.

    Returns:
        What `explanations/N/explanations.json` in the run folder holds; and `folder`, where that is.

    Raises:
        UserError: anything that the caller can mend.
    """
    words, run, source = file_names(paths), run_of(run_dir), None if data is None else str(data)
    check_run(run, source)
    check_files(words)
    explain_run, progress = begin("explain", None, progress)
    found: dict[str, Any] = explain_run(run, words, method=method, label=label, neighbours=neighbours, source=source, progress=progress)
    return found


@told
def export(
    run_dir: Path | str,
    *,
    formats: str | Sequence[str] = (),
    settings: Settings | None = None,
    data: Path | str | None = None,
    min_accuracy: float | None = None,
    max_ece: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a run's model for other programs, and prove that what is written agrees with it on images of the run.

    Args:
        run_dir: the folder of a run.
        formats: 'saved_model', which is the default, 'keras', 'litert', 'litert_float16', 'litert_dynamic', 'litert_int8', 'onnx',
            'openvino'; one or several.
        settings: of the section `export` that differ from the run's, such as `{"export.min_agreement": 0.99}`.
        data: where the run's images lie now, if they have moved.
        min_accuracy: what the accuracy on test in metrics.json has to reach, in [0, 1]; else nothing is exported.
        max_ece: what the calibration error there may be at most, likewise.

    Returns:
        What `export/export.json` holds, see `docs/exporting.md`; `folder`; `exported`, the formats that were written; and `missed`, a line
        for each bound that is not kept: of a format that differs too much from the model, which is not kept then, or of the model
        itself, of which nothing is exported then; and `signature`, where that of all files is, None without `export.sign_key`.

    Raises:
        UserError: anything that the caller can mend.
    """
    run, source = run_of(run_dir), None if data is None else str(data)
    check_run(run, source)
    export_run, progress = begin("export", None, progress)
    chosen = [formats] if isinstance(formats, str) else list(formats)
    bounds = {"min_accuracy": min_accuracy, "max_ece": max_ece}
    found: dict[str, Any] = export_run(run, formats=chosen, settings=settings or {}, source=source, **bounds, progress=progress)
    return found


@told
def verify(run_dir: Path | str, *, public_key: Path | str | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Compare the files of a run's export with what its record says of them; nothing of it is loaded or run.

    Args:
        run_dir: the folder of a run.
        public_key: a file with the public part of the key that the export has to be signed by; None looks at no signature.

    Returns:
        `folder`; `files`, how many were compared; `signed`, whether the signature holds, None where nobody asked; and `wrong`, a line for
        each file that is missing, changed or one too many, and for a signature that does not hold.

    Raises:
        UserError: anything that the caller can mend.
    """
    run = run_of(run_dir)
    check_run(run)
    verify_run, progress = begin("verify", None, progress)
    found: dict[str, Any] = verify_run(run, public_key=public_key, progress=progress)
    return found


@told
def compress(
    run_dir: Path | str,
    *,
    formats: str | Sequence[str] = (),
    settings: Settings | None = None,
    data: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make smaller and faster forms of a run, pruned, taught to smaller backbones and rounded; and measure what each costs.

    Args:
        run_dir: the folder of a run with one class an image.
        formats: as in `export`; by default 'litert', 'litert_float16' and 'litert_int8'.
        settings: of the sections `compress`, `export`, `rank` and `train` that differ from the run's, such as
            `{"compress.sparsities": [0.9]}`.
        data: where the run's images lie now, if they have moved.

    Returns:
        What `compress/compress.json` in the run folder holds, see `docs/compressing.md`; and `folder`, where that is. Started again, it
        goes on where it was.

    Raises:
        UserError: anything that the caller can mend.
    """
    run, source = run_of(run_dir), None if data is None else str(data)
    check_run(run, source)
    compress_run, progress = begin("compress", None, progress)
    chosen = [formats] if isinstance(formats, str) else list(formats)
    found: dict[str, Any] = compress_run(run, formats=chosen, settings=settings or {}, source=source, progress=progress)
    return found


@told
def serve(
    run_dir: Path | str,
    *,
    host: str | None = None,
    port: int | None = None,
    format: str | None = None,
    coverage: float | None = None,
    access_log: bool = False,
    neighbours: int | None = None,
    data: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Answer over HTTP with a run, until SIGTERM or Ctrl-C; then finish what was accepted. See `docs/serving.md`.

    Args:
        run_dir: the folder of a run.
        host: the address to listen on; None for this machine only.
        port: None for 8000, 0 for any that is free.
        format: the export that answers, such as 'onnx'; None for the fastest that agreed with the model, else the model.
        coverage: as for `predict`; None for 0.9, where the run has prediction sets.
        access_log: whether each request is written to the standard error, a line of JSON.
        neighbours: how many training images the page shows beside an image, 0 to 8; none by default, since whoever asks gets to see them.
        data: where the run's images lie now, if they have moved.

    Returns:
        `requests` and `images`: how many were answered.

    Raises:
        UserError: anything that the caller can mend.
    """
    require_packages("serve", MODES["serve"].needs)
    run, source = run_of(run_dir), None if data is None else str(data)
    check_run(run, source)
    run_server, progress = begin("serve", None, progress)
    formats = [] if format is None else [format]
    own: dict[str, Any] = {"coverage": coverage, "access_log": access_log, "neighbours": neighbours, "source": source}
    found: dict[str, Any] = run_server(run, host=host, port=port, formats=formats, **own, progress=progress)
    return found


def short_forms(**values: object) -> dict[str, object]:
    """The short forms that are given, by their names."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items() if value is not None}


def listed(setting: str, names: Sequence[Path | str] | None) -> dict[str, object]:
    """A setting that is a list of names; empty where it is not given."""
    if names is None:
        return {}
    return {setting: [str(name) for name in ([names] if isinstance(names, str | Path) else names)]}


def file_names(paths: Path | str | Iterable[Path | str]) -> list[str]:
    """One path or several, as texts."""
    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    for path in several:
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"paths: got a {type(path).__name__}, expected a path, a glob, or a list of them.")
    return [os.fspath(path) for path in several]


def prepare(
    modes: Sequence[str],
    mode: str | None,
    base: Config | None,
    run_dir: Path | str | None,
    short: Mapping[str, object],
    settings: Settings | None,
    *,
    resume: bool = False,
    look: bool = True,
) -> tuple[Config, Path]:
    """The configuration and the folder of a run that is made, or gone on with; what they name is there.

    Args:
        modes: those that the function is for.
        look: whether the data has to be there.

    Raises:
        UserError: it is not, or an argument is wrong.
    """
    if base is not None and not isinstance(base, Config):
        raise ConfigError(f"config: got {base!r}, expected a Config, as load_config makes it. Images are given as data={base!r}.")
    if resume:
        moved = short.get("data") if "extract" in modes else None
        if run_dir is None or settings or mode or set(short) - {"data" if moved is not None else ""}:
            raise ConfigError("resume: continues with the settings of the run in run_dir. Give run_dir, and no settings.")
        check_images(None if moved is None else str(moved))
        return stored_config(run_of(run_dir), modes), run_of(run_dir)
    default = "finetune" if "finetune" in modes else modes[0]
    wanted = mode or (base.mode if base is not None and len(modes) > 1 else default)
    if wanted not in modes:
        raise ConfigError(f"mode: got {wanted!r}, expected one of {', '.join(modes)}.")
    as_it_is = base is not None and base.mode == wanted and not short and not settings
    config = base if base is not None and as_it_is else make_config(wanted, base, short, settings or {})
    makes = makes_folder(config.mode)
    if run_dir is not None and makes:
        RunFolder(run_of(run_dir)).require_free()
    if look:
        check_names(config)
    if run_dir is not None:
        return config, run_of(run_dir)
    return config, make_run_dir(config) if makes else new_run_dir(config)


def make_run(config: Config, folder: Path, progress: Progress | None, **given: Any) -> dict[str, Any]:
    """Run the mode of a configuration; what its run folder's record holds, and `run_dir`."""
    function, progress = begin(config.mode, config, progress)
    progress.line(f"run folder {folder}")
    return {"run_dir": str(folder)} | function(config, folder, progress=progress, **given)


def begin(mode: str, config: Config | None, progress: Progress | None) -> tuple[Callable[..., Any], Progress]:
    """Import what does a mode, and TensorFlow without its noise, and find out who hears of the progress."""
    return import_workflow(MODES[mode].run, config), listener() if progress is None else progress


def steps_in_terminal() -> StepwiseProgress | None:
    """A terminal for the progress of a loop that the caller drives, if somebody watches one."""
    return StepwiseProgress(sys.stderr) if sys.stderr is not None and sys.stderr.isatty() else None


def listener() -> Progress:
    """A notebook or a terminal, if somebody watches one."""
    from rich.console import Console

    from tl_keras.notebook import NotebookProgress
    from tl_keras.terminal.progress import ConsoleProgress

    console = Console(stderr=True)
    if console.is_jupyter:
        return NotebookProgress()
    return ConsoleProgress(console) if console.is_terminal else Progress()
