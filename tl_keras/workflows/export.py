"""Exporting a run's model, with proof that what is written agrees with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tl_keras import run_folder
from tl_keras.config_file import with_own_sections
from tl_keras.data.images import Decoding
from tl_keras.data.splits import stratified_sample
from tl_keras.data.strata import stratified
from tl_keras.deploy.export import export_model, files_in, hashes_of, read_exports, require_converters, require_formats
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.formats import FORMATS
from tl_keras.deploy.litert import layers_that_lose_most
from tl_keras.deploy.model_card import JSON, MARKDOWN, card_of, text_of
from tl_keras.deploy.parity import Agreement, Reference
from tl_keras.deploy.parity_images import describe, refused_by, spread
from tl_keras.deploy.signature import SIGNATURE, open_signer, sign
from tl_keras.errors import ExportError, ParityError
from tl_keras.evaluation.bounds import missed, require_bounds
from tl_keras.evaluation.metrics import figures_of, share
from tl_keras.evaluation.novelty import LEAST_IMAGES
from tl_keras.evaluation.novelty_file import read_novelty
from tl_keras.export_formats import EXPORT_FORMATS, FORMAT_NAMES, LITERT_INT8
from tl_keras.links import require_no_way_out
from tl_keras.models.outputs import SingleLabel
from tl_keras.progress import Progress
from tl_keras.runtime import restoring_process
from tl_keras.trained_run import TrainedRun, data_root, open_run, still_there

SEED = 0  # of the images that int8 is calibrated on
MOST_UNSEEN = 1000  # images of val that a novelty threshold of rounded numbers is found by: they are in memory at once


@restoring_process()
def export(
    run_dir: Path | str,
    *,
    formats: Sequence[str] = (),
    settings: Mapping[str, Any] | Sequence[str] = (),
    source: str | None = None,
    min_accuracy: float | None = None,
    max_ece: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the model of a run into its `export/` and prove that what is written agrees with it on images of the run.

    Args:
        formats: keys of `EXPORT_FORMATS`; none for the first.
        settings: of the section `export` that differ from the run's, by their paths, or as `path=value`.
        source: where the run's images lie now, if they have moved.
        min_accuracy: what the accuracy on test in metrics.json has to reach, in [0, 1].
        max_ece: what the calibration error there may be at most, likewise.

    Returns:
        What `export/export.json` holds; `folder`, where that is; `exported`, the formats that were written; and `missed`, a line for each
        bound that is not kept: of a format that differs too much from the model, of which an earlier export stays, or of the model itself,
        of which nothing is exported then; and `signature`, where that of all files is, None without `export.sign_key`.

    Raises:
        ConfigError: a format that there is not, or whose packages are not installed; a bound that no model of this task can be held to; a
            key that cannot sign.
        ExportError: no image to compare on, or a format that does not take the model.
        RunFolderError: it holds no trained model, or its export is a link to another folder.
    """
    progress = progress or Progress()
    chosen = list(dict.fromkeys(formats)) or [FORMAT_NAMES[0]]
    require_formats(chosen)
    require_converters(chosen)
    require_no_way_out(Path(run_dir), run_folder.EXPORT)
    trained = open_run(run_dir)
    own, folder = with_own_sections(trained.config, ("export",), settings).export, trained.run / run_folder.EXPORT
    signer = None if own.sign_key is None else open_signer(Path(own.sign_key))
    if lines := missed_by(trained, {"min_accuracy": min_accuracy, "max_ece": max_ece}):
        return {"folder": str(folder), "exported": [], "missed": lines, "signature": None}
    root = data_root(trained.config, trained.run, progress, source)
    seen = images_to_compare(trained, root, own.parity_images, progress)
    exported = exported_of(trained, root, own.calibration_images if any(FORMATS[name].is_calibrated for name in chosen) else 0)
    if exported.novelty is not None and len(exported.unseen) < LEAST_IMAGES and any(FORMATS[name].rounds for name in chosen):
        progress.line(
            f"what rounds numbers keeps the model's novelty threshold: one of its own takes {LEAST_IMAGES} images of val, and "
            f"{len(exported.unseen)} are there"
        )
    reference = Reference.of(exported, seen.files)
    result: dict[str, Any] = {"formats": read_exports(folder)} | {
        "images": [str(file) for file in seen.files],
        "test_images": seen.num_test,
        "refused_kinds": seen.refused,
    }
    if seen.num_test:
        result["model"] = _figure(trained, seen, reference.answers[: seen.num_test])
    done, lines = list[str](), list[str]()
    for name in chosen:
        target = folder / EXPORT_FORMATS[name].file
        progress.line(f"writing {target} and comparing it with the model on {len(seen.files)} images of the run")
        try:
            found = export_model(exported, target, reference, own, kind=name)
        except ParityError as error:
            lines.append(f"{target}: is not kept: {error}.{_losing(exported, name)}")
            continue
        for file, why in found.refused.items():
            progress.line(f"the signature 'bytes' refuses {file} ({why}), on which the other two were compared")
        if not done and (folder / SIGNATURE).is_file():
            (folder / SIGNATURE).unlink()
            progress.line(f"removed {folder / SIGNATURE}, which was of the files before")
        result["formats"][name] = _row(target, found, trained, seen)
        done.append(name)
        run_folder.write_json(folder / run_folder.EXPORT_RECORD, result)
    if done:
        write_card(trained, exported, result["formats"], folder)
        if signer is not None:
            sign(signer, folder)  # after the last file
    signature = str(folder / SIGNATURE) if done and signer is not None else None
    return result | {"folder": str(folder), "exported": done, "missed": lines, "signature": signature}


@dataclass(frozen=True)
class Seen:
    """The images that exports are compared on: those of test first, whose figure is measured too; the others only fill them up.

    Attributes:
        labels: of the files.
        num_test: how many of the files are of test.
        refused: how many test images TensorFlow does not decode, of each kind.
    """

    files: Sequence[Path]
    labels: Any
    num_test: int
    refused: Mapping[str, int]


def images_to_compare(trained: TrainedRun, root: Path, number: int, progress: Progress) -> Seen:
    """Choose images of test, evenly spread; where there are too few, of val and train too. Those that TensorFlow does not decode come last.

    Raises:
        ExportError: none is there.
    """
    files, labels, num_test, refused_of_test = list[Path](), [], 0, dict[str, int]()
    for split in ("test", "val", "train"):
        if len(files) >= number:
            break
        there = still_there(trained.images(split, root))
        paths = [root / path for path in there.paths]
        refused, chosen = refused_by(paths, number - len(files))
        refused_of_test |= refused if split == "test" else {}
        if split == "test" and refused:
            progress.line(describe(refused, len(paths)))
            if not chosen:
                progress.line("no test image is left to compare that signature on; the two that take pixels are compared")
        if not chosen and not files:
            chosen = spread(paths, number)
        places = {path: place for place, path in enumerate(paths)}
        labels.append(there.labels[[places[path] for path in chosen]])
        files += chosen
        num_test += len(chosen) if split == "test" else 0
    if not files:
        raise ExportError(f"{root}: none of the run's images is there to compare the export with. Say with --data where they are.")
    return Seen(files, np.concatenate(labels), num_test, refused_of_test)


def exported_of(trained: TrainedRun, root: Path, num_calibration: int = 0) -> Exported:
    """What is exported of a run; with some training images, of each class by its share, where a format is calibrated on them; and where
    there is a novelty with images of val.
    """
    data, index, novelty = trained.config.data, trained.index, read_novelty(trained.run, trained.model)
    calibration = _some(trained, root, "train", num_calibration) if num_calibration else []
    unseen = [] if novelty is None else _some(trained, root, "val", MOST_UNSEEN)
    return Exported(trained.model, index.classes, data.resize, Decoding.of(data), index.output, novelty, calibration, unseen)


def _some(trained: TrainedRun, root: Path, split: str, number: int) -> list[Path]:
    """Up to `number` images of a split that are still there, of each class by its share."""
    images = trained.images(split, root)
    chosen = still_there(images.take(stratified_sample(stratified(images).labels, number, SEED)))
    return [root / path for path in chosen.paths]


def write_card(trained: TrainedRun, exported: Exported, formats: Mapping[str, Any], folder: Path) -> None:
    """Write the card of what lies in `export/`, for programs and for people."""
    found = [trained.run / name for name in (run_folder.METRICS, run_folder.ENVIRONMENT)]
    metrics, environment = (run_folder.read_json(file, "the record of a run", "Restore it.") if file.is_file() else {} for file in found)
    card = card_of(trained.config, metrics, environment, exported.description, formats)
    run_folder.write_json(folder / JSON, card)
    run_folder.write_text(folder / MARKDOWN, text_of(card))


def _figure(trained: TrainedRun, seen: Seen, answers: Any) -> dict[str, Any]:
    """The figure of the task on the test images among those that were looked at, with its interval."""
    output, labels, answers = trained.index.output, seen.labels[: seen.num_test], np.asarray(answers, np.float64)
    if isinstance(output, SingleLabel):  # whose other figures take probabilities that sum to 1, as rounded ones need not
        return share(output.metric_name, output.is_right(answers, labels))
    figures = figures_of(output, answers, labels, trained.index.classes)
    return {name: figures[name] for name in (output.metric_name, f"{output.metric_name}_ci95")}


def _row(target: Path, found: Agreement, trained: TrainedRun, seen: Seen) -> dict[str, Any]:
    row: dict[str, Any] = {
        "file": target.name,
        "images": len(seen.files),
        "bytes": sum(file.stat().st_size for file in files_in(target)),
        "sha256": hashes_of(target),
        "largest_difference": found.differences,
        "agreement": found.agreement,
        **found.speed,
    }
    if found.novelty_differences:
        row |= {
            "largest_novelty_difference": found.novelty_differences,
            "known_agreement": found.known_agreement,
            "novelty_threshold": found.novelty_threshold,
        }
    if found.refused:
        row["refused_by_bytes"] = found.refused
    if seen.num_test:
        row |= _figure(trained, seen, found.answers[: seen.num_test])
    return row


def _losing(exported: Exported, name: str) -> str:
    """Which layers lose most, where that can be told."""
    if name != LITERT_INT8:
        return ""
    return f" The layers that lose most: {', '.join(layers_that_lose_most(exported))}."


def missed_by(trained: TrainedRun, bounds: Mapping[str, float | None]) -> list[str]:
    """A line for each bound that the figures of a run's test split do not keep.

    Raises:
        ConfigError: see `require_bounds`.
        RunFolderError: the run has no such figures.
    """
    require_bounds(bounds, trained.index.output.task)
    if set(bounds.values()) == {None}:
        return []
    file, mend = trained.run / run_folder.METRICS, "Train again, or leave out the bounds."
    with run_folder.reading(file, "the metrics of a run that was measured on test", mend):
        return missed(run_folder.read_json(file, "the metrics of a run", mend)["test"], bounds)
