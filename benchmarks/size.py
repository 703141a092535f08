"""Cost against size: features and probe on more and more images; time, peak memory, accuracy.

    python benchmarks/size.py --zip cifar10_train.zip [--sizes 500 5000 50000]

The zip holds images in class folders below one folder train/ (CIFAR-10's training images do). Of each class a tenth is
the test split, drawn once; of the rest the first images are taken, so that smaller sizes are parts of larger ones. MobileNetV2
at 96 pixels, features of all stages, nothing stored before; each size in a process of its own, seconds after the imports.
"""

import argparse
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from processes import ours, print_table

SETTINGS = ("data.image_size=96", "features.stages=all", "data.val_fraction=0.02")


def unpack(archive: Path, folder: Path, size: int) -> Path:
    """Write a stratified part of the archive as train/ and test/ class folders."""
    with zipfile.ZipFile(archive) as source:
        by_class: dict[str, list[str]] = {}
        for name in sorted(name for name in source.namelist() if not name.endswith("/")):
            by_class.setdefault(Path(name).parent.name, []).append(name)
        for label, (name, files) in enumerate(sorted(by_class.items())):
            order = np.random.default_rng([0, label]).permutation(files)[: size // len(by_class)]
            for place, file in enumerate(order):
                target = folder / ("test" if place < len(order) // 10 else "train") / name / Path(file).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read(str(file)))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zip", required=True, type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 5000, 50_000])
    parser.add_argument("--backbone", default="mobilenet_v2")
    options = parser.parse_args()
    rows, peaks = [], []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            data = unpack(options.zip, Path(folder) / "data", size)
            found = ours("extract", str(data), *SETTINGS, backbone=options.backbone, cache=str(Path(folder) / "cache"))
        peaks.append(found["peak_gb"])
        laps = found["timing"]
        rows.append(
            [
                f"{size:,}",
                *(f"{laps[name]:.1f}" for name in ("prepare_s", "train_s", "total_s")),
                f"{peaks[-1]:.2f}",
                f"{found['accuracy']:.4f}",
            ]
        )
    print_table(["images", "features, s", "head, s", "all, s", "peak memory, GB", "test accuracy"], rows)
    print(f"peak memory of the largest over that of the one before: {peaks[-1] / peaks[-2]:.2f}" if len(peaks) > 1 else "")


if __name__ == "__main__":
    main()
