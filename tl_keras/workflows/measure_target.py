"""How an adapted run does on its target domain: the only place that reads the target's labels, after everything is chosen."""

from typing import Any

import numpy as np

from tl_keras import run_folder
from tl_keras.adaptations import SOURCE_ONLY
from tl_keras.evaluation.metrics import figures_of
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.adapt.record import read_adaptation, read_answers
from tl_keras.transfer.adapt.target import Target
from tl_keras.transfer.task import Task


def measure_target(task: Task, target: Target) -> dict[str, Any]:
    """Write what the model says of each image of the target, and measure it where there are labels.

    Returns:
        `images` and `skipped`; what `adaptation.json` holds; and, where there are labels, `figures`: those of the head that was not
        adapted, and of the one that was kept, by their methods.
    """
    report = read_adaptation(task)
    said = read_answers(task, target)
    classes, index, rows = task.data.classes, target.index, target.rows
    kept = said[report["method"]]
    labelled = index.labelled[rows]
    names = np.array(classes)
    truth = [classes[label] if has else "" for label, has in zip(index.labels[rows], labelled, strict=True)]
    run_folder.write_csv(
        task.run / run_folder.TARGET_PREDICTIONS,
        ("path", "true_class", "predicted_class", "probability", f"predicted_by_{SOURCE_ONLY}"),
        (
            (index.paths[row], true, own, f"{probability:.6f}", before)
            for row, true, own, probability, before in zip(
                rows, truth, names[SINGLE_LABEL.decide(kept)], kept.max(axis=1), names[SINGLE_LABEL.decide(said[SOURCE_ONLY])], strict=True
            )
        ),
    )
    figures = {
        name: figures_of(SINGLE_LABEL, values[labelled], index.labels[rows][labelled], classes)
        for name, values in said.items()
        if labelled.any()
    }
    return {"images": len(rows), "skipped": len(target.pixels.bad), **report, **({"figures": figures} if figures else {})}
