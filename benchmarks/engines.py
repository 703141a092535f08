"""What each engine makes of each backbone on this machine: images a second, and how far features move from TensorFlow's in float32.

    python benchmarks/engines.py [--backbones mobilenet_v2 resnet50 ...] [--image-size 224] [--photos FOLDER]

One batch of 32 images, the fastest of a few; noise, or photos, which differences should be read from. Backbones without weights on
this machine get random ones, whose features differ more or less than trained ones': read those as the size of the rounding, no more.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from floor import trunk_of
from processes import print_table

from tl_keras.config import DataConfig
from tl_keras.data.pipeline import Pixels
from tl_keras.data.sources import open_source
from tl_keras.models.engines import ENGINES, TENSORFLOW, ConversionError
from tl_keras.transfer.engine import candidate, timed
from tl_keras.transfer.trunk import BATCH_SIZE

BACKBONES = (
    "mobilenet_v2", "mobilenet", "small_resnet", "resnet50", "vgg16", "efficientnet_v2_b0", "densenet121", "inception_v3", "xception",
    "nasnet_mobile", "convnext_tiny",
)  # fmt: skip


def batch_of(photos: str | None, size: int) -> np.ndarray:
    """uint8 (32, size, size, 3)."""
    if photos is None:
        return np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, size, size, 3)).astype(np.uint8)
    index = open_source(DataConfig(source=photos))
    paths = [index.root / path for path in np.random.default_rng(0).permutation(index.paths)[:BATCH_SIZE]]
    return Pixels(paths, (size, size), "crop").read_good(np.arange(BATCH_SIZE))[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--photos")
    options = parser.parse_args()
    lower = candidate()
    ways = [(engine, "float32") for engine in ENGINES] + ([(TENSORFLOW, lower)] if lower else [])
    names = [engine if precision == "float32" else f"{engine} {precision}" for engine, precision in ways]
    header = ["backbone", *(part for name in names for part in (f"{name}, images/s", "differs"))]
    rows = []
    pixels = batch_of(options.photos, options.image_size)
    for backbone in options.backbones:
        cells: list[str] = []
        expected = None
        for engine, precision in ways:
            try:
                found, seconds = timed(trunk_of(backbone, options.image_size, precision, engine), pixels)
            except ConversionError as error:
                cells += [f"refused: {error}", ""]
                continue
            expected = found["pooled"] if expected is None else expected
            difference = np.linalg.norm(found["pooled"] - expected) / np.linalg.norm(expected)
            cells += [f"{BATCH_SIZE / seconds:.1f}", f"{difference:.0e}"]
        rows.append([backbone, *cells])
    print_table(header, rows)


if __name__ == "__main__":
    main()
