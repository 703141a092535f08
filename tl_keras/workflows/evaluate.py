"""Measuring a run's model again, on its own test split or on other labelled images."""

from pathlib import Path
from typing import Any

import numpy as np

from tl_keras import run_folder as names
from tl_keras.data import dataset, splits
from tl_keras.data.dataset import ImageData
from tl_keras.data.depth import tell_depth
from tl_keras.data.sources import Index, open_source
from tl_keras.errors import DataError
from tl_keras.models.classifier import count_parameters
from tl_keras.progress import Progress
from tl_keras.workflows.scoring import Clock, measure, score_pixels
from tl_keras.workflows.trained import ADVICE, Trained, open_run


def evaluate(run_dir: Path | str, *, source: str | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Measure a run's model again: on its own test split, or on other labelled images.

    Args:
        source: a folder of class folders. The run's own data in another place is recognised by its files and the test
            split alone is read; of other data every image is read (only test/, where it has splits).

    Returns:
        What `evaluation.json` in the run folder holds: the fields of `metrics.json` that apply.

    Raises:
        DataError: images are missing, do not decode, or belong to classes that the model does not know.
    """
    clock, progress = Clock(), progress or Progress()
    trained = open_run(run_dir)
    try:
        (trained.run / names.SCRATCH).mkdir(exist_ok=True)
        data, where = _evaluation_data(trained, source, progress)
        rows = data.rows("test")
        with progress.bar("evaluate test", len(rows)) as advance:
            probabilities = score_pixels(trained.model, data, rows, trained.config.train.batch_size, advance)
    finally:
        trained.run.clear_scratch()
    result = {
        "mode": "evaluate",
        "backbone": trained.backbone,
        "seed": trained.config.runtime.seed,
        "source": where,
        "data": {"test": len(data.rows("test")), "classes": len(data.classes), "skipped": len(data.pixels.bad)},
        "parameters": count_parameters(trained.model),
        "test": measure(data, "test", probabilities),
        "timing": clock.timing(),
    }
    names.write_json(trained.run / names.EVALUATION, result)
    return result


def _evaluation_data(trained: Trained, source: str | None, progress: Progress) -> tuple[ImageData, str]:
    config = trained.config.data if source is None else trained.config.data.model_copy(update={"source": source})
    found = open_source(config)
    known = len(set(trained.index.paths).intersection(found.paths))
    if source is None or 2 * known >= len(found.paths):  # names alone may coincide now and then
        progress.line("these are the run's own images: its test split is measured")
        index = _own_test(trained, found.root)
    else:
        progress.line("these are other images than the run's own: all are measured, or test/ where there is one")
        index = _relabel(found, trained.index.classes)
    tell_depth(dataset.files_of(index), config.bit_depth, progress, ADVICE)
    pixels = dataset.open_pixels(index, config, trained.image_size)
    dataset.keep_pixels(pixels, config, trained.run / names.SCRATCH)
    dataset.decode(pixels, config, progress)
    split = np.full(len(index.paths), "test", dtype="<U5")
    split[list(pixels.bad)] = splits.UNUSED
    return ImageData(index, pixels, split), str(found.root)


def _own_test(trained: Trained, root: Path) -> Index:
    """The run's test images below a folder; none may be missing, else the figures would be of other images."""
    wanted = trained.split == "test"
    own = tuple(path for path, is_test in zip(trained.index.paths, wanted, strict=True) if is_test)
    missing = [path for path in own if not (root / path).is_file()]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of the run's {len(own)} test images are missing, such as {missing[0]}. Put them back; "
            "other images that happen to have the names of the run's own need a folder with other names."
        )
    return Index(root, trained.index.classes, own, trained.index.labels[wanted], None, {})


def _relabel(found: Index, classes: tuple[str, ...]) -> Index:
    """Other labelled images under the labels of a model: classes are matched by name, never by position."""
    unknown = sorted(set(found.classes) - set(classes))
    if unknown:
        raise DataError(f"{found.root}: has a class '{unknown[0]}', which the model does not know. It knows {', '.join(classes)}.")
    keep = [row for row in range(len(found.paths)) if found.given is None or "test" not in found.given or found.given[row] == "test"]
    labels = np.asarray([classes.index(found.classes[found.labels[row]]) for row in keep], np.int32)
    return Index(found.root, classes, tuple(found.paths[row] for row in keep), labels, None, found.ignored)
