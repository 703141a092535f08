"""Exporting a run's model, with proof that the artifact agrees with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl_keras import run_folder
from tl_keras.data.images import Decoding
from tl_keras.deploy.export import export_model
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.formats import SAVED_MODEL
from tl_keras.deploy.parity_images import describe, refused_by, spread
from tl_keras.errors import ExportError
from tl_keras.evaluation.bounds import missed, require_bounds
from tl_keras.evaluation.novelty_file import read_novelty
from tl_keras.links import require_no_way_out
from tl_keras.progress import Progress
from tl_keras.runtime import restoring_process
from tl_keras.trained_run import TrainedRun, data_root, open_run


@restoring_process()
def export(
    run_dir: Path | str,
    *,
    source: str | None = None,
    min_accuracy: float | None = None,
    max_ece: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `export/saved_model` in a run folder and prove that it agrees with the model on images of the test split.

    Args:
        source: where the run's images lie now, if they have moved.
        min_accuracy: what the accuracy on test in metrics.json has to reach, in [0, 1].
        max_ece: what the calibration error there may be at most, likewise.

    Returns:
        What `export/parity.json` holds: the files compared, the largest difference per signature, and which test images the
        signature 'bytes' refuses: how many of each kind, and which of the files compared, with the reason. `missed` is empty then; where it
        has a line for a bound that is not kept, it is all there is: nothing was written.

    Raises:
        ConfigError: a bound that no model of this task can be held to.
        ExportError: no image to compare on, or the artifact differs.
        RunFolderError: it holds no trained model, or its export is a link to another folder.
    """
    progress = progress or Progress()
    require_no_way_out(Path(run_dir), run_folder.EXPORT)
    trained = open_run(run_dir)
    if lines := missed_by(trained, {"min_accuracy": min_accuracy, "max_ece": max_ece}):
        return {"missed": lines}
    root = data_root(trained.config, trained.run, progress, source)
    there = trained.files_there("test", root)
    if not there:
        raise ExportError(f"{root}: none of the run's test images is there to compare the export with. Say with --data where they are.")
    number = trained.config.export.parity_images
    refused, files = refused_by(there, number)
    if refused:
        progress.line(describe(refused, len(there)))
    if not files:
        progress.line("no test image is left to compare that signature on; the two that take pixels are compared")
        files = spread(there, number)
    folder = trained.run / run_folder.EXPORT / SAVED_MODEL
    progress.line(f"writing {folder} and comparing it with the model on {len(files)} test images")
    data = trained.config.data
    exported = Exported(
        trained.model, trained.index.classes, data.resize, Decoding.of(data), trained.index.output, read_novelty(trained.run, trained.model)
    )
    found = export_model(exported, folder, files, kind=SAVED_MODEL)
    if "bytes" in found.differences:
        for file, why in found.refused.items():
            progress.line(f"the signature 'bytes' refuses {file} ({why}), on which the other two were compared")
    result = {
        "saved_model": str(folder),
        "images": [str(file) for file in files],
        "largest_difference": found.differences,
        "refused_by_bytes": {"kinds": dict(refused), "files": found.refused},
    }
    run_folder.write_json(trained.run / run_folder.EXPORT / "parity.json", result)
    return {**result, "missed": []}


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
