"""What a model gains from answering several views of an image at test: the image mirrored, or ten crops.

    python benchmarks/views.py RUN [RUN ...]

For finished runs with one class an image. Views are the image as `predict` sees it; that and its mirror image; and ten crops: the corners
and the centre of the image at 8/7 of the size, and their mirror images (Krizhevsky et al. 2012: 256 and 224 pixels). The mean of their
probabilities, or of their logits, is compared with the answer to the one view, on the test images of the run; each has the temperature
that is best on val, so that log loss and calibration error are not those of a mean that is merely less sure.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.data import dataset
from tl_keras.evaluation.calibration import fit_temperature
from tl_keras.evaluation.comparison import Answers, Pair, compare
from tl_keras.evaluation.metrics import classification_metrics
from tl_keras.models.engines import compile_saved
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.trained_run import TrainedRun, data_root, open_run

LARGER = 8 / 7
BATCH = 50

Images = NDArray[np.uint8]
Logits = NDArray[np.float64]


def mirrored(images: Images) -> Images:
    return images[:, :, ::-1]


def crops(images: Images, size: tuple[int, int]) -> Iterator[Images]:
    """The corners and the centre of images, each at `size`."""
    down, right = images.shape[1] - size[0], images.shape[2] - size[1]
    for top, left in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
        yield images[:, top : top + size[0], left : left + size[1]]


def logits_of(trained: TrainedRun, split: str) -> tuple[Logits, Logits, NDArray[np.int32]]:
    """Logits of the image and its mirror image, (2, n, k), those of ten crops, (10, n, k), and the labels."""
    config, size = trained.config, trained.image_size
    index = trained.images(split, data_root(config, trained.run, Progress()))
    larger = (round(LARGER * size[0]), round(LARGER * size[1]))
    plain, large = (dataset.open_pixels(index, config.data, each) for each in (size, larger))
    run = compile_saved(trained.model, config.runtime.engine)

    def answers(images: Images) -> Logits:
        return np.asarray(run(np.ascontiguousarray(images)), np.float64)

    two, ten = list[Logits](), list[Logits]()
    for first in range(0, len(index.paths), BATCH):
        rows = np.arange(first, min(first + BATCH, len(index.paths)))
        images = plain.read(rows)
        two.append(np.stack([answers(each) for each in (images, mirrored(images))]))
        ten.append(np.stack([answers(view) for each in crops(large.read(rows), size) for view in (each, mirrored(each))]))
    return np.concatenate(two, axis=1), np.concatenate(ten, axis=1), index.labels


def of_probabilities(logits: Logits) -> Logits:
    """Logits of the mean probabilities of views, (v, n, k) -> (n, k)."""
    return np.log(np.maximum(SINGLE_LABEL.answers(logits).mean(axis=0), 1e-12))


WAYS: dict[str, Callable[[Logits, Logits], Logits]] = {
    "one view": lambda two, ten: two[0],
    "and its mirror image, mean probability": lambda two, ten: of_probabilities(two),
    "and its mirror image, mean logit": lambda two, ten: two.mean(axis=0),
    "ten crops, mean probability": lambda two, ten: of_probabilities(ten),
    "ten crops, mean logit": lambda two, ten: ten.mean(axis=0),
}


def told(figures: dict[str, float | list[float]]) -> str:
    low, high = figures["difference_ci95"]  # type: ignore[misc]
    return f"{figures['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    print("| run | views | accuracy | difference | p | log loss | difference | ECE |")
    print("|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for run in parser.parse_args().runs:
        trained = open_run(run)
        *of_val, val_labels = logits_of(trained, "val")
        *of_test, labels = logits_of(trained, "test")
        base: Answers | None = None
        for name, way in WAYS.items():
            on_val, on_test = way(*of_val), way(*of_test)
            probabilities = SINGLE_LABEL.answers(on_test / fit_temperature(SINGLE_LABEL, on_val, val_labels))
            answers = Answers(SINGLE_LABEL.decide(probabilities), probabilities)
            base = base or answers
            found = compare(Pair(SINGLE_LABEL.task, labels, base, answers, probabilities.shape[1]))
            figures, ece = found["figures"], classification_metrics(probabilities, labels, trained.index.classes)
            differs = [told(figures[each]) if answers is not base else "" for each in ("accuracy", "log_loss")]
            p = f"{found['mcnemar']['p']:.2g}" if answers is not base else ""
            calibration = f"{ece['ece']:.3f} ({ece['ece_ci95'][0]:.3f} to {ece['ece_ci95'][1]:.3f})"
            cells = [f"{figures['accuracy']['b']:.3f}", differs[0], p, f"{figures['log_loss']['b']:.3f}", differs[1], calibration]
            print(f"| {run.name} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
