"""What a lower precision buys each backbone on this machine: times faster, and how far its features move.

    python benchmarks/precision.py [--backbones mobilenet_v2 resnet50 ...] [--image-size 224]

One batch of 32 images of noise, the fastest of a few. Backbones without weights on this machine get random ones,
whose features differ more or less than trained ones': read those differences as the size of the rounding, no more.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from floor import trunk_of
from processes import print_table

from tl_keras.transfer.engine import candidate, timed
from tl_keras.transfer.trunk import BATCH_SIZE

BACKBONES = ("mobilenet_v2", "small_resnet", "resnet50", "vgg16", "efficientnet_v2_b0", "densenet121", "convnext_tiny")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--image-size", type=int, default=224)
    options = parser.parse_args()
    lower = candidate()
    if lower is None:
        raise SystemExit("this machine computes no precision below float32 natively")
    size = options.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, size, size, 3)).astype(np.uint8)
    rows = []
    for backbone in options.backbones:
        expected, seconds = timed(trunk_of(backbone, size, "float32"), pixels)
        found, seconds_lower = timed(trunk_of(backbone, size, lower), pixels)
        difference = np.linalg.norm(found["pooled"] - expected["pooled"]) / np.linalg.norm(expected["pooled"])
        cells = [BATCH_SIZE / seconds, BATCH_SIZE / seconds_lower]
        rows.append([backbone, *(f"{value:.1f}" for value in cells), f"{seconds / seconds_lower:.2f}", f"{difference:.2%}"])
    print_table(["backbone", "float32, images/s", f"{lower}, images/s", "ratio", "features differ"], rows)


if __name__ == "__main__":
    main()
