"""Does it help to keep what the backbone knew, or what a larger run says? Finetuning with few labels, on clean and on corrupted images.

    python benchmarks/keeping.py --data flowers/ [--shots 5 20] [--seeds 5] [--backbone mobilenet_v2]
    python benchmarks/keeping.py --data flowers/ --backbone mobilenet_025 --teacher efficientnet_lite0.keras --variants finetune

Each run is finetuned on so many images of each class, and measured on test as it is and under four corruptions: blur, noise, JPEG
artefacts and too little light. Half a minute for each run.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from processes import print_rows, print_table

import tl_keras
from tl_keras.deploy.predictor import Predictor
from tl_keras.trained_run import open_run

VARIANTS = {
    "finetune": {},
    "L2-SP 1": {"train.decay_towards": "start", "train.weight_decay": 1.0},
    "L2-SP 30": {"train.decay_towards": "start", "train.weight_decay": 30.0},
    "DELTA 0.1": {"train.keep_features": 0.1},
    "DELTA 1": {"train.keep_features": 1.0},
    "WiSE-FT": {"train.interpolate": True},
    "from stage3": {"train.unfreeze_from": "stage3"},
    "from stage3, gradually": {"train.unfreeze_from": "stage3", "train.unfreeze_every": 8},
}


def noisy(image: Image.Image) -> Image.Image:
    """Gaussian noise of standard deviation 30."""
    pixels = np.asarray(image, np.float32)
    return Image.fromarray(np.clip(pixels + np.random.default_rng(0).normal(0, 30, pixels.shape), 0, 255).astype(np.uint8))


def recompressed(image: Image.Image) -> Image.Image:
    """JPEG of quality 8."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=8)
    return Image.open(buffer).convert("RGB")


CORRUPTIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "clean": lambda image: image,
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(min(image.size) / 60)),
    "noise": noisy,
    "JPEG": recompressed,
    "light": lambda image: image.point(lambda value: int(value * 0.35)),
}


def corrupted(source: Path) -> tuple[list[str], dict[str, list[Image.Image]]]:
    """The classes of the images of test, and these under each corruption."""
    paths = sorted((source / "test").rglob("*.*"))
    images = [Image.open(path).convert("RGB") for path in paths]
    return [path.parent.name for path in paths], {name: [change(image) for image in images] for name, change in CORRUPTIONS.items()}


def accuracies(run: Path, classes: list[str], images: dict[str, list[Image.Image]]) -> list[float]:
    """Of a run's model under each corruption; the model is read and compiled once."""
    predictor = Predictor(open_run(run))

    def accuracy(of: list[Image.Image]) -> float:
        found = predictor(np.asarray(image) for image in of)
        return float(np.mean([each.label == name for each, name in zip(found, classes, strict=True)]))

    return [accuracy(of) for of in images.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--teacher", help="backbone of a run on the same few images that teaches")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME", help="; ".join(VARIANTS))
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    classes, images = corrupted(Path(options.data))
    first: list[Any] = []  # the figures of the first row, (seeds, columns)

    def row(name: str, shots: int, backbone: str, folder: Path, settings: dict[str, Any], teachers: Path | None = None) -> None:
        """Train with each seed, measure, and print a line of the table."""
        found = []
        for seed in range(options.seeds):
            own = {"data.per_class": shots, "runtime.seed": seed, "data.split_seed": seed, **settings}
            own |= {} if teachers is None else {"train.teacher": str(teachers / str(seed))}
            tl_keras.train(data=options.data, backbone=backbone, run_dir=folder / str(seed), settings=own, scored=("val",))
            found.append(accuracies(folder / str(seed), classes, images))
            print(name, seed, *found[-1], file=sys.stderr, flush=True)
        columns = np.column_stack([found, np.mean(found, axis=1, where=np.arange(len(images)) > 0)])
        first.append(columns)
        gain = (columns - first[0])[:, [0, -1]]
        print_rows([[name, *(f"{np.mean(each):.3f} ± {np.std(each):.3f}" for each in (*columns.T, *gain.T))]])

    for shots in options.shots:
        print(f"\n{shots} images of each class\n")
        print_table(["variant", *CORRUPTIONS, "mean of the corrupted", "gain, clean", "gain, corrupted"], [])
        first.clear()
        with tempfile.TemporaryDirectory() as folder:
            teachers = Path(folder, "teachers")
            for name in options.variants:
                row(name, shots, options.backbone, Path(folder, name), VARIANTS[name])
            if options.teacher:
                row("the teacher", shots, options.teacher, teachers, {})
                row("taught by it", shots, options.backbone, Path(folder, "taught"), {}, teachers)


if __name__ == "__main__":
    main()
