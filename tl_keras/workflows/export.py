"""Exporting a run's model, with proof that the artifact agrees with it."""

from pathlib import Path
from typing import Any

from tl_keras import run_folder as names
from tl_keras.deploy import export as exporting
from tl_keras.errors import ExportError
from tl_keras.progress import Progress
from tl_keras.workflows.trained import data_root, open_run


def export(run_dir: Path | str, *, source: str | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Write `export/saved_model` in a run folder and prove that it agrees with the model on images of the test split.

    Args:
        source: where the run's images lie now, if they have moved.

    Returns:
        What `export/parity.json` holds: the files compared and the largest difference per signature.

    Raises:
        ExportError: no image to compare on, or the artifact differs.
    """
    progress = progress or Progress()
    trained = open_run(run_dir)
    root = data_root(trained.config, trained.run, source)
    there = trained.files_there("test", root)
    files = exporting.parity_choice(there, trained.config.export.parity_images)
    if not there:
        raise ExportError(f"{root}: none of the run's test images is there to compare the export with. Say with --data where they are.")
    if not files:
        raise ExportError(
            f"{root}: none of the run's test images is of a format that TensorFlow decodes ({', '.join(exporting.GRAPH_FORMATS)}). "
            "Convert some of them to PNG."
        )
    folder = trained.run / names.EXPORT / exporting.SAVED_MODEL
    progress.line(f"writing {folder} and comparing it with the model on {len(files)} test images")
    differences = exporting.export_saved_model(trained.model, trained.index.classes, trained.config.data.resize, folder, files)
    result = {"saved_model": str(folder), "images": [str(file) for file in files], "largest_difference": differences}
    names.write_json(trained.run / names.EXPORT / "parity.json", result)
    return result
