"""How an adapted run does on its target domain: the only place that reads the target's labels, after everything is chosen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.adaptations import SOURCE_ONLY
from tl_keras.evaluation.metrics import figures_of
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.select.ranking.transferability import nce
from tl_keras.transfer.adapt.record import read_adaptation, read_answers
from tl_keras.transfer.adapt.target import Target
from tl_keras.transfer.task import Task


def measure_target(task: Task, target: Target) -> dict[str, Any]:
    """Write what the model says of each image of the target, and measure it where there are labels.

    Returns:
        `images` and `skipped`; what `adaptation.json` holds; and, where there are labels, `figures`: those of the head that was not
        adapted, and of the one that was kept, by their methods; and `relations` likewise, see `relation_of_classes`.
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
    known = index.labels[rows][labelled]
    found = {"images": len(rows), "skipped": len(target.pixels.bad), **report}
    if not labelled.any():
        return found
    figures = {name: figures_of(SINGLE_LABEL, values[labelled], known, classes) for name, values in said.items()}
    relations = {name: relation_of_classes(values[labelled], known, classes) for name, values in said.items()}
    return {**found, "figures": figures, "relations": relations}


def relation_of_classes(probabilities: NDArray[np.floating], labels: NDArray[np.integer], classes: Sequence[str]) -> dict[str, Any]:
    """What the classes of a source have in common with those of a target, as the source's head sees it.

    Args:
        probabilities: (n, k) of the head for images of the target.
        labels: int (n,), their true classes.
        classes: k names.

    Returns:
        `mean_probabilities`: of each class that the target has, the mean over its images of the probability of each class. `nce`: minus
        the entropy in nats of the true class where the predicted one is known, at most 0, which is reached where each prediction stands for
        one class; None where all images are of one class, of which it says nothing.

    Reference:
        Tran, Nguyen & Hassner 2019, arXiv:1908.08142.
    """
    there = np.unique(labels)
    means = {classes[label]: dict(zip(classes, probabilities[labels == label].mean(axis=0).tolist(), strict=True)) for label in there}
    told = nce(SINGLE_LABEL.decide(probabilities), labels) if len(there) > 1 else None
    return {"nce": told, "mean_probabilities": means}
