"""Ensembles of runs on the same images: their models combined, or one model with an average of their weights.

A run that is given alone is taken apart into the snapshots that it kept.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.config import Config, fields
from tl_keras.data import dataset
from tl_keras.data.dataset import ImageData
from tl_keras.data.groups import blocks_of, groups_of
from tl_keras.data.label_texts import text_of
from tl_keras.data.pipeline import row_batches
from tl_keras.data.sources import absolute_source
from tl_keras.data.strata import stratified
from tl_keras.errors import ConfigError, DataError, RunFolderError
from tl_keras.evaluation.scoring import inference, score_pixels
from tl_keras.models.combined import combined_model, side_by_side
from tl_keras.models.outputs import OUTPUTS, Labels, Output, Regression
from tl_keras.models.rules import Probabilities, Rule
from tl_keras.models.saved import read_weights
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.select.crossval.folds import cut_groups
from tl_keras.select.ensemble.comparison import JUDGED_SPLITS, Answers, Ensemble, OutOfFold
from tl_keras.select.ensemble.heads import distinct
from tl_keras.select.ensemble.meta import fit_meta, rule_of
from tl_keras.select.ensemble.soup import Arrays, Score, Weights, greedy_soup
from tl_keras.tasks import figure_text
from tl_keras.trained_run import TrainedRun, data_root, open_run
from tl_keras.transfer.losses import class_weight_vector
from tl_keras.transfer.snapshots import snapshots_of

DECODED_AT_ONCE = 256  # images in memory where bad ones are looked for
FIXED_SECTIONS = ("data", "model", "features", "train", "rank", "search", "export")  # sections whose values the runs have fixed


@dataclass(frozen=True)
class Runs:
    """Classifiers on the same images.

    Attributes:
        config: what the ensemble's run folder keeps.
        data: their images and splits.
        names: of the classifiers.
        models: each float32 pixels (b, h, w, 3) -> logits (b, k).
        singles: the answers of each to 'val' and to 'test', (m, n, k).
        stages: the tensors of the first model in which stages of its backbone end; none of runs of earlier versions.
    """

    config: Config
    data: ImageData
    names: list[str]
    models: list[keras.Model]
    singles: dict[str, Probabilities]
    stages: dict[str, Any]


def of_runs(config: Config, folders: Sequence[RunFolder], run: RunFolder, progress: Progress) -> Ensemble:
    """Combine the models of runs.

    Args:
        run: the ensemble's own folder, to which splits.csv is copied.

    Raises:
        ConfigError: too few runs, settings that runs have settled, or a method that makes its members itself.
        RunFolderError: a folder without a model, or runs of other images, splits, classes or sizes.
    """
    method = config.ensemble.method
    if method not in FROM_RUNS:
        raise ConfigError(f"ensemble.method: got '{method}', which trains heads on backbones. Give names of backbones, not runs.")
    trained = [open_run(folder.path) for folder in folders]
    require_settled(config, trained[0])
    for other in trained[1:]:
        require_same(trained[0], other, moved=given_source(config) is not None)
    members = snapshots(trained[0]) if len(trained) == 1 else [(each.run.path.resolve().name, each.model) for each in trained]
    runs = open_runs(config, trained, members, progress)
    run_folder.write_atomically(run / run_folder.SPLITS, lambda file: shutil.copyfile(trained[0].run / run_folder.SPLITS, file))
    return FROM_RUNS[method](runs, progress)


def require_settled(config: Config, first: TrainedRun) -> None:
    """Raise ConfigError where a setting is given that the runs have settled, unless as the first did: an ensemble's own file has it so."""
    allowed = Config(mode="ensemble"), first.config
    taken = {"data.source", "data.group_pattern"} if config.ensemble.method == "stack" else {"data.source"}  # a stack cuts val into parts
    for path in fields():
        got, idle = attrgetter(path)(config), path.partition(".")[0] in FIXED_SECTIONS and path not in taken
        if idle and got not in [attrgetter(path)(each) for each in allowed]:
            raise ConfigError(f"{path}: got {got!r}, which has no effect on an ensemble of runs: their training has fixed it. Remove it.")


def given_source(config: Config) -> str | None:
    """Where the images of the runs are said to lie now; None where nothing is said."""
    source = config.data.source
    return None if source == type(config.data)().source else absolute_source(source)


def snapshots(trained: TrainedRun) -> list[tuple[str, keras.Model]]:
    """The models that a run came to at the end of each cycle of its rate.

    Raises:
        ConfigError: it kept no two.
        RunFolderError: one is gone, or cannot be read.
    """
    files = snapshots_of(trained.run)
    if len(files) < 2:
        raise ConfigError(
            f"ensemble.members: got {trained.run.path} alone, which kept no snapshots. Give two runs, or train one with "
            "--set train.schedule=cosine_restarts."
        )
    found = []
    for number, file in enumerate(files, start=1):
        model = open_run(trained.run.path).model
        with run_folder.reading(file, "a whole file of this run's weights", "Restore it, or train again."):
            read_weights(file, model)
        found.append((f"snapshot{number}", model))
    return found


def require_same(first: TrainedRun, other: TrainedRun, *, moved: bool) -> None:
    """Raise RunFolderError where two runs cannot be combined, or not compared: one's test images may be another's train.

    Args:
        moved: whether it is said where the images of all lie, which then need not be where each run had them.
    """
    task, other_task = (each.index.output.task for each in (first, other))
    if task != other_task:
        raise RunFolderError(
            f"{other.run.path}: was trained with data.task={other_task}, and {first.run.path} with {task}; their answers have no mean. "
            "Give runs of one task."
        )
    mine, theirs = ((each.index.classes, each.index.paths, each.split.tolist()) for each in (first, other))
    ids, other_ids = first.index.ids, other.index.ids
    by_content = ids is not None and other_ids is not None
    if mine != theirs or (ids is not None and other_ids is not None and not np.array_equal(ids, other_ids)):
        raise RunFolderError(
            f"{other.run.path}: was trained on other images, classes or splits than {first.run.path}; one could have learned what the "
            "other is tested on. Train both on the same --data with the same settings in data."
        )
    source, other_source = (each.config.data.source for each in (first, other))
    if not (moved or by_content) and source != other_source:
        raise RunFolderError(
            f"{other.run.path}: learned from images in {other_source}, and {first.run.path} from those in {source}; files of the same "
            "names may be other images. If they are the same, say with --data where they are."
        )
    require_labels(first, other)
    require_depth(first, other)
    sizes = ((each.image_size, each.config.data.resize) for each in (first, other))
    (size, resize), (other_size, other_resize) = sizes
    if (size, resize) != (other_size, other_resize):
        told = ["x".join(map(str, one)) + f" by {how}" for one, how in ((other_size, other_resize), (size, resize))]
        raise RunFolderError(
            f"{other.run.path}: takes images of {told[0]}, and {first.run.path} of {told[1]}; one model takes one. "
            "Train both with the same data.image_size and data.resize."
        )


def require_labels(first: TrainedRun, other: TrainedRun) -> None:
    """Raise RunFolderError where two runs learned other labels of the same images, as tables may have them, or in another unit."""
    if not np.array_equal(first.index.labels, other.index.labels):
        changed = first.index.labels != other.index.labels
        row = int(np.flatnonzero(changed if changed.ndim == 1 else changed.any(axis=1))[0])
        mine, theirs = (text_of(each.index, row) for each in (first, other))
        raise RunFolderError(
            f"{other.run.path}: learned other labels than {first.run.path}; the first is that of {first.index.paths[row]}, {theirs!r} and "
            f"{mine!r}. Train both with the same table."
        )
    if isinstance(first.index.output, Regression) and first.index.output != other.index.output:
        raise RunFolderError(
            f"{other.run / run_folder.OUTPUT}: has another mean or deviation of the numbers than that of {first.run.path}, which learned "
            "from the same ones. Restore the file that was changed."
        )


def require_depth(first: TrainedRun, other: TrainedRun) -> None:
    """Raise RunFolderError where two runs see the greys of 16-bit files differently."""
    depth, other_depth = (each.config.data.bit_depth for each in (first, other))
    if depth != other_depth:
        raise RunFolderError(
            f"{other.run.path}: sees 16-bit greys with data.bit_depth={other_depth}, and {first.run.path} with {depth}; one model sees "
            "them in one way. Train both with the same."
        )


def open_runs(config: Config, trained: Sequence[TrainedRun], members: Sequence[tuple[str, keras.Model]], progress: Progress) -> Runs:
    """Run all models over val and test at once, so that each image is decoded once.

    Args:
        members: names and models, which take the same images.

    Raises:
        DataError: an image is gone, or does not decode any more.
    """
    first = trained[0]
    source = given_source(config)
    settings = first.config.data if source is None else first.config.data.replace("source", source)
    index = replace(first.index, root=data_root(first.config, first.run, progress, source))
    if (pattern := config.data.group_pattern) is not None:
        settings = settings.replace("group_pattern", pattern)
        index = replace(index, groups=groups_of(index.paths, pattern))
    about = first.config.replace("data", settings)
    rows = np.flatnonzero(np.isin(first.split, JUDGED_SPLITS))
    used = index.take(rows)
    used.require_unchanged(used.identify(progress), "images that the runs were measured on")
    if source is not None:
        progress.line(f"the runs' own images of val and test are read from {source}")
    data = ImageData(index, dataset.open_pixels(index, settings, first.image_size), first.split).with_output(undecided(index.output))
    models = [model for _, model in members]
    everything = side_by_side(models)
    call, singles = inference(everything), {}
    for split in JUDGED_SPLITS:
        rows = data.rows(split)
        with progress.bar(f"evaluate {split}", len(rows)) as advance, bad_images_named(data, rows):
            singles[split] = np.moveaxis(score_pixels(everything, data, rows, first.config.train.batch_size, advance, call), 1, 0)
    wanted = config.ensemble.replace("members", tuple(str(each.run.path.resolve()) for each in trained))
    adapt = next((each.config.adapt for each in trained if each.config.is_adapted), first.config.adapt)
    kept = {"mode": "ensemble", "ensemble": wanted, "crossval": config.crossval, "runtime": config.runtime, "adapt": adapt}
    stages = replace(first, model=models[0]).stages if (first.run / run_folder.STAGES).is_file() else {}
    return Runs(about.model_copy(update=kept), data, distinct([name for name, _ in members]), models, singles, stages)


def undecided(output: Output) -> Output:
    """What the outputs of one run mean, without the thresholds that it has chosen for itself; the numbers of all have one scale."""
    return output if isinstance(output, Regression) else OUTPUTS[output.task]


@contextmanager
def bad_images_named(data: ImageData, rows: NDArray[np.int64]) -> Iterator[None]:
    """Let what fails inside for an image that cannot be read end with its name."""
    try:
        yield
    except tf.errors.OpError as error:
        for part in row_batches(rows, DECODED_AT_ONCE):
            data.pixels.read_good(part)
        if bad := data.pixels.bad:
            more = f" ({len(bad) - 1} more)" if len(bad) > 1 else ""
            raise DataError(f"{bad[min(bad)]}{more}. The runs were measured on it: restore it.") from error
        raise


def by_rule(runs: Runs, progress: Progress) -> Ensemble:
    """The mean answer of the models, or their vote."""
    return _combined(runs, rule_of(runs.config.ensemble.method, runs.data.output, runs.singles["val"], runs.data.labels("val")))


def stacked(runs: Runs, progress: Progress) -> Ensemble:
    """A meta-learner on the models, fitted on their answers to val, by which they chose but from which they did not learn."""
    labels, wanted, rows = runs.data.learned("val"), runs.config, runs.data.rows("val")
    val = runs.data.index.take(rows)
    parts = parts_of(stratified(val).labels, blocks_of(val), wanted.crossval.folds, wanted.data.split_seed)
    weights = class_weight_vector(wanted.train.class_weights, runs.data.labels("train"), runs.data.classes)
    meta = fit_meta(wanted, runs.singles["val"], labels, parts, weights, runs.names, runs.data.output)
    found = _combined(runs, meta.rule)
    out_of_fold = OutOfFold(rows, Answers(labels, runs.singles["val"], meta.answers), parts)
    return replace(found, out_of_fold=out_of_fold, notes={"learned_from": "val", **meta.notes})


def souped(runs: Runs, progress: Progress) -> Ensemble:
    """One network with the average of those members' weights that val does not suffer from."""
    data, model = runs.data, runs.models[0]
    labels, call, own = data.learned("val"), inference(model), weights_of(model)
    members = dict(zip(runs.names, runs.models, strict=True))

    def load(name: str) -> Weights:
        return own if members[name] is model else weights_of(members[name])  # the first is what averages are tried in

    def answer(split: str) -> Probabilities:
        rows = data.rows(split)
        with progress.bar(f"evaluate {split}", len(rows)) as advance:
            return score_pixels(model, data, rows, runs.config.train.batch_size, advance, call)

    def score(weights: Arrays) -> Score:
        model.set_weights(weights)
        return score_of(answer("val"), labels, data.output)

    singles = {name: score_of(one, labels, data.output) for name, one in zip(runs.names, runs.singles["val"], strict=True)}
    soup, output = greedy_soup(singles, load, score), data.output
    for step in soup.steps:
        fate, metric = "stays in" if step.kept else "is left out", output.turned(output.val_metric, step.score.merit)
        told = f"{output.metric_title} {figure_text(output.metric_name, metric)} and {output.loss_title} {step.score.loss:.4f}"
        progress.line(f"soup: {step.member} {fate}; with it, val has {told}")
    model.set_weights(soup.weights.arrays)
    val, test = (Answers(data.learned(split), runs.singles[split], answer(split)) for split in JUDGED_SPLITS)
    return Ensemble(runs.config, data, runs.names, val, test, model, notes={"in_soup": list(soup.members)}, stages=runs.stages)


def weights_of(model: keras.Model) -> Weights:
    """A copy of a model's weights. Their names leave out the layers', which Keras numbers by what was built before."""
    return Weights(tuple(weight.name for weight in model.weights), [np.array(weight) for weight in model.weights])


def score_of(answers: Probabilities, labels: Labels, output: Output) -> Score:
    """The metric and the loss of answers (n, k)."""
    logits = output.logits(answers)
    return Score(output.turned(output.val_metric, output.metric(logits, labels)), float(output.plain_losses(logits, labels).mean()))


def parts_of(labels: NDArray[np.int32], blocks: NDArray[np.int64] | None, num: int, seed: int) -> list[NDArray[np.int64]]:
    """Cut images into parts: `num`, or as many as the rarest class has images, or as there are blocks.

    Args:
        labels: classes, or strata.
        blocks: int64 (n,), images of one block stay together; None where each is alone, and each class in every part.

    Raises:
        DataError: a class has one image, or there is one block.
    """
    from sklearn.model_selection import StratifiedKFold

    num = min(num, int(np.bincount(labels).min()))
    if num < 2:
        raise DataError("ensemble.method: 'stack' learns from val, where each class needs two images, and one has one. Take 'average'.")
    if blocks is None:
        return [part for _, part in StratifiedKFold(num, shuffle=True, random_state=seed).split(labels, labels)]
    if (num := min(num, len(np.unique(blocks)))) < 2:
        raise DataError("ensemble.method: 'stack' needs two groups of images in val, and there is one. Take 'average'.")
    return list(cut_groups(labels, blocks, num, seed))


def _combined(runs: Runs, rule: Rule) -> Ensemble:
    val, test = (Answers(runs.data.learned(split), runs.singles[split], rule(runs.singles[split])) for split in JUDGED_SPLITS)
    return Ensemble(runs.config, runs.data, runs.names, val, test, combined_model(runs.models, rule, runs.data.output.task))


FROM_RUNS: dict[str, Callable[[Runs, Progress], Ensemble]] = {"average": by_rule, "vote": by_rule, "stack": stacked, "soup": souped}
