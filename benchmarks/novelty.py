"""How well images of none of the classes are told from those of the classes: images of other kinds, and each class left out in turn.

    python benchmarks/novelty.py --mode finetune --data flowers/ --backbone mobilenet_v2 --unknown cifar10/ digits/ sketch/ --out runs/

The area under the ROC curve of each score, over the images of test (known) and unknown ones: at 0.5 a score knows nothing, 1 tells all. For
each class a run is trained without it; then all its images are unknown. `novelty` is what `predict` and exports tell. A run that is there
already is taken as it is. The last two scores are rivals on the same features that were not taken: Mahalanobis' distance to the nearest
class, with one shrunk covariance of features of length 1 (arXiv:2505.18032), and that to the nearest image of train (arXiv:2204.06507 with
k = 1).
"""

import argparse
import shutil
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

from tl_keras.config_file import load_config
from tl_keras.data import images
from tl_keras.data.images import Decoding
from tl_keras.deploy.predictor import Predictor
from tl_keras.models.engines import OPENVINO, compile_model
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.trained_run import TrainedRun, open_run
from tl_keras.workflows.train import train

SCORES = ("novelty", "maximum probability", "energy", "energy + residual (ViM)", "Mahalanobis", "1-NN")
MOST = 1000  # unknown images of each kind
Values = dict[str, NDArray[np.floating]]


def watch(run: Path) -> tuple[TrainedRun, keras.Model]:
    """A run, and its model with an output for everything that scores are made of."""
    trained = open_run(run)
    novelty, model = Predictor(trained).novelty, trained.model
    assert novelty is not None
    features, maps = novelty.basis.tensors(model)
    signs = (novelty.basis.signs(model.output, features, maps) - novelty.centre) / novelty.scale
    outputs = {"logits": model.output, "features": features, "signs": signs, "novelty": novelty.watched(model).output[:, -1:]}
    return trained, keras.Model(model.input, outputs)


def see(trained: TrainedRun, watched: keras.Model, files: list[Path]) -> Values:
    """The outputs of a model for some files."""
    run, data, parts = compile_model(watched, OPENVINO), trained.config.data, []
    for start in range(0, len(files), 64):
        batch = [images.load(file, trained.image_size, data.resize, Decoding.of(data)) for file in files[start : start + 64]]
        parts.append(run(np.stack(batch)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def unit(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Rivals:
    """The two scores that were not taken, fitted on the features of train."""

    def __init__(self, features: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
        self.rows = unit(features)
        self.means = np.stack([self.rows[labels == each].mean(axis=0) for each in np.unique(labels)])
        self.precision = None
        if features.shape[1] <= 2000:  # a covariance of more would take gigabytes
            self.precision = np.linalg.inv(ledoit_wolf(self.rows - self.means[labels], assume_centered=True)[0])

    def __call__(self, features: NDArray[np.floating]) -> list[NDArray[np.floating]]:
        rows = unit(features)
        nearest = -(rows @ self.rows.T).max(axis=1)
        if self.precision is None:
            return [np.full(len(rows), np.nan), nearest]
        return [np.min([np.einsum("nd,nd->n", (rows - each) @ self.precision, rows - each) for each in self.means], axis=0), nearest]


def scores(seen: Values, rivals: Rivals) -> list[NDArray[np.floating]]:
    """A row (n,) for each of `SCORES`."""
    probabilities, signs = SINGLE_LABEL.answers(seen["logits"]), seen["signs"]
    return [seen["novelty"][:, 0], -probabilities.max(axis=1), signs[:, 0], signs[:, :2].sum(axis=1), *rivals(seen["features"])]


def areas(run: Path, root: Path, unknown: dict[str, list[Path]]) -> dict[str, list[float]]:
    """The area of each score for each kind of unknown images."""
    trained, watched = watch(run)
    train, test = ([root / path for path in trained.images(split, root).paths] for split in ("train", "test"))
    rivals = Rivals(see(trained, watched, train)["features"], trained.images("train", root).labels)
    known = scores(see(trained, watched, test), rivals)
    found = {}
    for name, files in unknown.items():
        others = scores(see(trained, watched, files), rivals)
        truth = [0] * len(test) + [1] * len(files)
        found[name] = [area(truth, np.concatenate(pair)) for pair in zip(known, others, strict=True)]
    return found


def area(truth: list[int], values: NDArray[np.floating]) -> float:
    return float(roc_auc_score(truth, values)) if np.isfinite(values).all() else float("nan")


def trained_on(folder: Path, data: Path, arguments: argparse.Namespace) -> Path:
    """A run folder, trained unless it is there."""
    if not (folder / "metrics.json").is_file():
        train(load_config(arguments.mode, sets=[f"data.source={data}", f"model.backbone={arguments.backbone}"]), folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mode", choices=("extract", "finetune"), default="finetune")
    parser.add_argument("--data", type=Path, required=True, help="split folders of class folders")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--unknown", type=Path, nargs="+", required=True, help="a folder for each kind of unknown images")
    parser.add_argument("--out", type=Path, required=True, help="where runs lie, or are made")
    arguments = parser.parse_args()
    data, out = arguments.data.absolute(), arguments.out
    unknown = {}
    for folder in arguments.unknown:
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
        chosen = np.random.default_rng(0).permutation(len(files))[:MOST]
        unknown[folder.name] = [files[place] for place in np.sort(chosen)]
    found = areas(trained_on(out / f"{arguments.mode}_all", data, arguments), data, unknown)
    for name in sorted(path.name for path in (data / "train").iterdir()):
        kept = out / f"without_{name}"
        if not kept.is_dir():
            shutil.copytree(data, kept, ignore=shutil.ignore_patterns(name))
        run = trained_on(out / f"{arguments.mode}_without_{name}", kept, arguments)
        found |= areas(run, kept, {f"without {name}": sorted(data.glob(f"*/{name}/*"))})
    print(f"| unknown | {' | '.join(SCORES)} |\n|---|{'---:|' * len(SCORES)}")
    for name, values in found.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |")


if __name__ == "__main__":
    main()
