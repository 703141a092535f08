"""The report of a finished run, made again: by a later version, or with its images in another place."""

from pathlib import Path
from typing import Any

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.errors import DataError, RunFolderError
from tl_keras.evaluation.explain.small import SmallMaps, small_maps
from tl_keras.evaluation.report.page import render
from tl_keras.evaluation.report.record import read_record
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process
from tl_keras.trained_run import data_root, open_run, read_config

FINISHED = "Give the folder of a finished run, or finish it with --resume."


@restoring_process()
def report(run_dir: Path | str, *, source: str | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Write a run's report.html again, from what lies in its folder.

    Args:
        source: where its images lie now, if they have moved. Where they are gone, the report has no pictures.

    Returns:
        `report`, the path of the file, and `bytes`, its size.

    Raises:
        RunFolderError: the run is not finished, was not measured on test, or a file of it is damaged.
        DataError: there is nothing of that name at `source`.
    """
    progress, run = progress or Progress(), RunFolder.at(run_dir)
    metrics = run_folder.read_json(run / run_folder.METRICS, "the figures of a run", FINISHED)
    config = read_config(run)
    root, path = _root(run, config, source, progress), run / run_folder.REPORT
    with run_folder.reading(run / run_folder.METRICS, "the figures of a run", FINISHED):  # which a stranger may have written
        page = render(read_record(run, config, metrics, root, None if root is None else _maps(run, progress)))
    run_folder.write_text(path, page)
    return {"report": str(path), "bytes": path.stat().st_size}


def _maps(run: RunFolder, progress: Progress) -> SmallMaps | None:
    """What makes maps with the run's model; None, and a line that says why, where the model cannot be read."""
    try:
        trained = open_run(run.path)
        return small_maps(trained.model, trained.index.output, trained.stages, trained.index.classes, trained.config.data)
    except RunFolderError as error:
        progress.line(f"no maps: {error}")
        return None


def _root(run: RunFolder, config: Config, source: str | None, progress: Progress) -> Path | None:
    """Where the images of a run lie; None, and a line that says why, where they are gone."""
    try:
        return data_root(config, run, progress, source)
    except DataError as error:
        if source is not None:
            raise
        progress.line(f"no pictures: {error}")
        return None
