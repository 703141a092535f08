"""How the result of a mode is shown in a terminal: lines and tables, a function for each row of `modes`."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tl_keras import advice
from tl_keras.adaptations import ADABN
from tl_keras.errors import UserError
from tl_keras.launch import Asked
from tl_keras.run_folder import EXPORT_RECORD, TARGET_PREDICTIONS
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, figure_text
from tl_keras.terminal.choosing import difference_lines, ensemble_lines, ensemble_table, ranking_table, summary_table
from tl_keras.terminal.comparing import changed_lines, class_changes_table, compared_line, comparison_table, mcnemar_line
from tl_keras.terminal.deploying import compression_table, exports_table
from tl_keras.terminal.domains import adaptation_table, target_lines
from tl_keras.terminal.figures import (
    accuracy_line,
    confusion_lines,
    counts_line,
    metrics_table,
    multi_label_line,
    multi_label_table,
    range_line,
    regression_line,
    robustness_table,
    slices_lines,
)
from tl_keras.terminal.table import plain_table

if TYPE_CHECKING:
    from tl_keras.deploy.predictor import Prediction
    from tl_keras.workflows.plan import Plan

Parts = Iterator[str | Table]
OF_OTHERS = {"accuracy": "accuracy", "map": "mAP", "mae": "mean absolute error", "r2": "R2"}  # figures of a check -> their titles


def of_training(metrics: Mapping[str, Any], asked: Asked) -> Parts:
    """The test figures of a training run."""
    yield from figures(metrics)
    yield f"{metrics['timing']['total_s']:.1f} s; everything is in {asked.run_dir}"
    yield from advice.look_at_report(asked.run_dir)
    yield from advice.after_training(asked.config, asked.run_dir)


def of_adaptation(metrics: Mapping[str, Any], asked: Asked) -> Parts:
    """The methods by their scores, which need no labels; the figures on the target, where it has labels; and those on the source."""
    target = metrics["target"]
    yield adaptation_table(target)
    yield from target_lines(target)
    yield from (accuracy_line(f"source {split}", metrics[split]) for split in ("val", "test") if split in metrics)
    if ADABN in target["members"]:
        yield "the model is for the target alone: it sees the source through the target's BatchNorm statistics"
    yield f"{metrics['timing']['total_s']:.1f} s; predictions for the target are in {asked.run_dir / TARGET_PREDICTIONS}"
    yield from advice.look_at_report(asked.run_dir)
    yield from advice.use_run(asked.run_dir)


def figures(metrics: Mapping[str, Any]) -> Parts:
    """The figures of each class, which classes are confused, and those of each split."""
    task, title = metrics.get("task", SINGLE_LABEL), f"test: {metrics['data']['test']} images"
    if task == SINGLE_LABEL:
        yield metrics_table(metrics["test"], title)
        yield from confusion_lines(metrics["test"])
    elif task == MULTI_LABEL:
        yield multi_label_table(metrics["test"], title)
    line = {SINGLE_LABEL: accuracy_line, MULTI_LABEL: multi_label_line, REGRESSION: regression_line}[task]
    for split in ("val", "test"):
        if split in metrics:
            yield line(split, metrics[split])


def of_plan(plan: "Plan") -> Parts:
    """What a training run would do."""
    from tl_keras.config_file import used_to_yaml

    yield used_to_yaml(plan.config).rstrip()
    yield plain_table(("class", "train", "val", "test"), plan.splits, "images per split")
    yield plain_table(("phase", "trainable", "total", "epochs", "steps", "estimate"), plan.phases, "phases")
    yield f"about {plan.seconds:.0f} s of training on this machine, {plan.memory_gb:.1f} GB memory, {plan.disk_gb:.2f} GB disk"
    yield "dry run: nothing was trained and nothing was written; the same command without --dry-run does it"


def of_filling(result: Mapping[str, Any], part: tuple[int, int]) -> Parts:
    """What was stored of one part of the images, and what the store lacks still."""
    yield f"part {part[0]} of {part[1]}: {result['part']:,} of {result['images']:,} images; {result['computed']:,} computed now"
    left = result["missing"]
    rest = f"{left:,} are not there yet" if left else "all parts are there; the same command without --shard trains on them"
    yield f"stored in {result['folder']}" + (" and sent to the shared store" if left is None else f"; {rest}")


def of_check(result: Mapping[str, Any], asked: Asked) -> Parts:
    """What is wrong with the images: a line for each fault, and where to look."""
    from tl_keras.data.check.faults import FAULTS

    if result["findings"]:
        rows = [(FAULTS[name].title, FAULTS[name].severity, f"{number:,}") for name, number in result["findings"].items()]
        yield plain_table(("finding", "severity", "images"), rows, f"{result['images']:,} images")
    yield from result["notes"]
    for name, title in OF_OTHERS.items():
        if (found := result.get(f"{name}_of_others")) is not None:
            before, after = (figure_text(name, found[key]) for key in ("with_excluded", "without"))
            yield f"{title} on the other images, unseen: {before} when learning from the excluded ones too, {after} without them"
    if "trouble_with_list" in result:
        yield f"with exclude.csv: {result['trouble_with_list']}"
    yield result["verdict"]
    yield from advice.after_check(asked.config, asked.run_dir, result)


def of_ranking(result: Mapping[str, Any], asked: Asked) -> Parts:
    """The candidates, the best first, and which one to take."""
    yield ranking_table(result["candidates"], result["task"])
    yield result["why"]
    yield f"everything is in {asked.run_dir}"
    yield from advice.after_ranking(asked.config, result["chosen"])


def of_search(result: Mapping[str, Any], asked: Asked) -> Parts:
    """The figures of the best settings, and what they are better than."""
    from tl_keras.select.search.oracles import settings_text

    objective = result["objective"]
    yield from figures(result["metrics"])
    yield f"{result['trials']} trials, {result['failed']} failed; the best: {settings_text(result['settings'])}"
    before = result["baseline"][objective]
    yield f"{objective} {figure_text(objective, result['score'])} with it, {figure_text(objective, before)} with the initial settings"
    yield f"the winner's run is {asked.run_dir / 'best'}; everything is in {asked.run_dir}"
    yield from advice.look_at_report(asked.run_dir / "best")
    yield from advice.use_run(asked.run_dir / "best")


def of_crossval(result: Mapping[str, Any], asked: Asked) -> Parts:
    """Mean and spread of each figure over the folds."""
    yield summary_table(result["summary"], f"{len(result['folds'])} folds over the {result['images']} images of train and val; test unseen")
    yield from difference_lines(result["against"]["differences"] if "against" in result else {})
    yield f"everything is in {asked.run_dir}"
    yield from advice.after_crossval(asked.config, asked.run_dir)


def of_ensemble(result: Mapping[str, Any], asked: Asked) -> Parts:
    """The ensemble beside its members."""
    yield ensemble_table(result)
    yield from ensemble_lines(result)
    yield f"{result['metrics']['timing']['total_s']:.1f} s; everything is in {asked.run_dir}"
    yield from advice.look_at_report(asked.run_dir)
    yield from advice.use_run(asked.run_dir) if result["is_keras"] else ()


def of_evaluation(metrics: Mapping[str, Any], asked: Asked) -> Parts:
    """The test figures of an evaluation."""
    yield from figures(metrics)
    yield from slices_lines(metrics["slices"])
    if "robustness" in metrics:
        yield robustness_table(metrics)
    yield f"{metrics['timing']['total_s']:.1f} s; which images are wrong: {metrics['folder']}/predictions.csv"
    yield from metrics["missed"]
    yield from advice.use_run(asked.run_dir)


def of_comparison(result: Mapping[str, Any], asked: Asked) -> Parts:
    """The figures of both runs, where they differ, and what that comes to."""
    for name in ("a", "b"):
        yield compared_line(name, result)
    yield comparison_table(result)
    if "mcnemar" in result:
        yield class_changes_table(result["per_class"])
        yield mcnemar_line(result["mcnemar"])
    changed = result["changed"]
    yield from changed_lines(changed)
    if asked.output is not None:
        from tl_keras.workflows.compare import write_changed

        write_changed(asked.output, changed, result["task"])
        yield f"{asked.output}: {len(changed)} image{'s' * (len(changed) != 1)} of which the two say something else"
    yield result["verdict"]


def of_report(result: Mapping[str, Any], asked: Asked) -> Parts:
    """Where the page is."""
    yield f"{result['report']}: {result['bytes'] / 1e6:.2f} MB; open it in a browser"


def of_predictions(predictions: "Iterable[Prediction]", asked: Asked) -> Parts:
    """Write predictions as they come, and sum them up in a line where they do not go to the terminal.

    Raises:
        UserError: no file could be read.
    """
    from tl_keras.workflows.predict import write_predictions

    written = write_predictions(asked.output or sys.stdout, predictions)
    if written.bad:
        print(f"{written.bad} of {written.files} files could not be read; their lines say why", file=sys.stderr)
    if written.bad == written.files:
        raise UserError(f"none of {written.files} files could be read.")
    if asked.output is not None:
        good = written.files - written.bad
        told = counts_line(written.by_class, "image", good) if written.by_class else range_line(written.lowest, written.highest, good)
        yield f"{asked.output}: {told}"


def of_explanations(result: Mapping[str, Any], asked: Asked) -> Parts:
    """Where the pictures are, which files gave none, and whether the maps are the model's."""
    from tl_keras.workflows.explain import line_of

    bad = [each["error"] for each in result["images"] if "error" in each]
    yield from bad
    yield line_of(result["alikeness"])
    number = len(result["images"]) - len(bad)
    yield f"{number} picture{'s' * (number != 1)} in {result['folder']}"


def of_export(result: Mapping[str, Any], asked: Asked) -> Parts:
    """How far each format is from the model, how large and how fast; and which bounds are missed."""
    if rows := {name: result["formats"][name] for name in result["exported"]}:
        yield exports_table(rows, result)
        yield (
            "same: share of the images with the same classes; apart: largest difference of a probability; start: seconds until a new "
            "process answers; ms: of one image; per s: images in batches of 32. Times are of this machine, by the format's own runtime"
        )
    yield from result["missed"]
    if not result["exported"]:
        yield "nothing was exported"
    if result["signature"]:
        yield f"signed: {result['signature']}"
    for name in result["exported"]:
        yield from advice.after_export(name, f"{result['folder']}/{result['formats'][name]['file']}")


def of_verification(result: Mapping[str, Any], asked: Asked) -> Parts:
    """What of an export is not as it was written."""
    yield from result["wrong"]
    if result["wrong"]:
        return
    yield f"{result['folder']}: {result['files']:,} files have the SHA-256 that {EXPORT_RECORD} tells"
    yield "signed by that key" if result["signed"] else "who wrote them only a signature tells: --public-key"


def of_compression(result: Mapping[str, Any], asked: Asked) -> Parts:
    """Each form of a run: how large, how good and how fast; and which were refused."""
    yield compression_table(result)
    yield (
        "MB: packed, as in a ZIP file; accuracy: on the images of test that exports are compared on, its interval in compress.csv; ms: of "
        "one image; per s: images in batches of 32. Times are of this machine as it is now; the same command measures them again"
    )
    yield from (f"{point['run']}, {point['format']}: refused: {point['refused']}" for point in result["points"] if "refused" in point)
    yield f"a chart, a table and the runs are in {result['folder']}"
    yield from advice.after_compression(result)


def of_serving(result: Mapping[str, Any], asked: Asked) -> Parts:
    """How much was answered."""
    yield f"ended, and nothing is left unanswered: {result['requests']:,} requests, {result['images']:,} images by the model"
