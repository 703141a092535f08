"""The report of a finished run, made again: by a later version, or with its images in another place. Or one page for several runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tl_keras import run_folder
from tl_keras.errors import RunFolderError
from tl_keras.evaluation.explain.small import SmallMaps, small_maps
from tl_keras.evaluation.report.page import render
from tl_keras.evaluation.report.record import read_record
from tl_keras.partial import clear_partial
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process
from tl_keras.trained_run import data_root_if_there, open_run, read_config
from tl_keras.workflows.side_by_side import side_by_side

FINISHED = "Give the folder of a finished run, or finish it with --resume."


@restoring_process()
def report(
    run_dir: Path | str,
    *,
    others: Sequence[Path | str] = (),
    output: Path | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a run's report.html again, from what lies in its folder; or one page that puts several runs side by side.

    Args:
        others: more runs.
        output: the page for several runs.
        source: where the images lie now, if they have moved. Where they are gone, the report has no pictures.

    Returns:
        `report`, the path of the file, and `bytes`, its size.

    Raises:
        RunFolderError: a run is not finished, was not measured on test, or a file of it is damaged; or runs have other tasks or classes.
        DataError: there is nothing of that name at `source`.
    """
    progress = progress or Progress()
    path = RunFolder.at(run_dir) / run_folder.REPORT if output is None else output
    page = _page(RunFolder.at(run_dir), source, progress) if output is None else side_by_side([run_dir, *others], source, progress)
    clear_partial(path.parent)
    run_folder.write_text(path, page)
    return {"report": str(path), "bytes": path.stat().st_size}


def _page(run: RunFolder, source: str | None, progress: Progress) -> str:
    metrics = run_folder.read_json(run / run_folder.METRICS, "the figures of a run", FINISHED)
    config = read_config(run)
    root = data_root_if_there(config, run, progress, source)
    with run_folder.reading(run / run_folder.METRICS, "the figures of a run", FINISHED):  # which a stranger may have written
        return render(read_record(run, config, metrics, root, None if root is None else _maps(run, progress)))


def _maps(run: RunFolder, progress: Progress) -> SmallMaps | None:
    """What makes maps with the run's model; None, and a line that says why, where the model cannot be read."""
    try:
        trained = open_run(run.path)
        return small_maps(trained.model, trained.index.output, trained.stages, trained.index.classes, trained.config.data)
    except RunFolderError as error:
        progress.line(f"no maps: {error}")
        return None
