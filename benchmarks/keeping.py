"""Does it help to keep what the backbone knew? L2-SP and WiSE-FT with few labels, on clean and on corrupted images.

    python benchmarks/keeping.py --data flowers/ [--shots 5 20] [--seeds 5] [--backbone mobilenet_v2]

Each run is finetuned on so many images of each class, and measured on test as it is and under four corruptions: blur, noise, JPEG
artefacts and too little light. Half a minute for each run.
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from processes import print_table

import tl_keras

VARIANTS = {
    "finetune": {},
    "L2-SP 0.1": {"train.decay_towards": "start", "train.weight_decay": 0.1},
    "L2-SP 1": {"train.decay_towards": "start", "train.weight_decay": 1.0},
    "WiSE-FT": {"train.interpolate": True},
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


def corrupted(source: Path, folder: Path) -> dict[str, Path]:
    """The test split under each corruption, as PNG files in class folders."""
    for name, change in CORRUPTIONS.items():
        for path in sorted((source / "test").rglob("*.*")):
            place = folder / name / path.parent.name / f"{path.stem}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            change(Image.open(path).convert("RGB")).save(place)
    return {name: folder / name for name in CORRUPTIONS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = corrupted(Path(options.data), Path(folder))
        for shots in options.shots:
            rows = []
            for name, settings in VARIANTS.items():
                found = []
                for seed in range(options.seeds):
                    run = Path(folder, f"{shots}-{name}-{seed}")
                    own = {"data.per_class": shots, "runtime.seed": seed, "data.split_seed": seed, **settings}
                    tl_keras.train(data=options.data, backbone=options.backbone, run_dir=run, settings=own, scored=("val",))
                    found.append([tl_keras.evaluate(run, data=each)["test"]["accuracy"] for each in images.values()])
                mean, spread = np.mean(found, axis=0), np.std(found, axis=0)
                means = [np.mean(each[1:]) for each in found]
                cells = [f"{a:.3f} ± {b:.3f}" for a, b in zip(mean, spread, strict=True)]
                rows.append([name, *cells, f"{np.mean(means):.3f} ± {np.std(means):.3f}"])
            print(f"\n{shots} images of each class\n")
            print_table(["variant", *CORRUPTIONS, "mean of the corrupted"], rows)


if __name__ == "__main__":
    main()
