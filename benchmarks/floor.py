"""The frozen pass against its floor: decoding the images, plus the bare backbone on pixels already in memory.

    python benchmarks/floor.py --data FOLDER [--backbones mobilenet_v2 resnet50 vgg16] [--repeats 3]

Floor and pass are measured in one process, in turns, on the same images, with the same engine. The pass reads files,
decodes, resizes, runs the backbone, hashes and writes the features. 'Plain Keras' is the bare backbone as
`model(x, training=False)` in a tf.function, its constants not folded. Backbones without weights on this machine get
random ones: the arithmetic is the same. The last line is the worst ratio of
OpenVINO in float32.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from processes import median, print_table

from tl_keras.config import AugmentConfig, DataConfig, ModelConfig
from tl_keras.data.pipeline import Pixels
from tl_keras.data.sources import open_source
from tl_keras.errors import BackboneError
from tl_keras.models.backbone_loading import build_backbone
from tl_keras.models.classifier import build_classifier
from tl_keras.models.engines import OPENVINO, OPENVINO_BFLOAT16, TENSORFLOW
from tl_keras.progress import Progress
from tl_keras.runtime import building, building_as
from tl_keras.transfer.engine import candidate
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.store import Store
from tl_keras.transfer.trunk import BATCH_SIZE, Trunk


def trunk_of(backbone: str, image_size: int, precision: str, engine: str = TENSORFLOW) -> Trunk:
    """The frozen backbone with its pooling, in one precision, on one engine."""
    keras.utils.set_random_seed(0)  # random weights are the same in every precision
    with building(precision):
        try:
            built = build_backbone(backbone, image_size=(image_size, image_size))
        except BackboneError:  # no weights here
            built = build_backbone(backbone, image_size=(image_size, image_size), weights="none")
        classifier = build_classifier(ModelConfig(), built, 2, 0)
    return Trunk(classifier.model, {"pooled": classifier.trunk.output}, engine)


def seconds(call, *arguments) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def one_plain(model: keras.Model):
    """The bare backbone as Keras runs it: batches through a tf.function, no constants folded."""
    call = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False))

    def run(pixels: np.ndarray) -> None:
        for start in range(0, len(pixels), BATCH_SIZE):
            call(pixels[start : start + BATCH_SIZE])

    return run


def one_decode(paths: list[Path], size: tuple[int, int]) -> None:
    Pixels(paths, size, "crop").decode_all()


def measured(trunk: Trunk, paths: list[Path], size: tuple[int, int], repeats: int) -> dict[str, list[float]]:
    """Seconds of decoding, of the bare backbone folded and plain, and of the pass, in turns."""
    pixels = Pixels(paths, size, "crop").read_good(np.arange(len(paths)))[1]
    with building_as(trunk.source):
        plain = one_plain(keras.Model(trunk.source.input, trunk.outputs["pooled"]))
    trunk(pixels[:BATCH_SIZE])
    plain(pixels[:BATCH_SIZE])
    found: dict[str, list[float]] = {"decode": [], "bare": [], "plain": [], "pass": []}
    for _ in range(repeats):
        found["decode"].append(seconds(one_decode, paths, size))
        found["bare"].append(seconds(trunk, pixels))
        found["plain"].append(seconds(plain, pixels))
        with tempfile.TemporaryDirectory() as folder:
            found["pass"].append(seconds(one_pass, trunk, paths, size, Path(folder)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2", "resnet50", "vgg16"])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    index = open_source(DataConfig(source=options.data))
    paths = [index.root / path for path in np.random.default_rng(0).permutation(index.paths)[: options.images]]
    size = (options.image_size, options.image_size)
    table, worst = [], 0.0
    for backbone in options.backbones:
        for engine in (TENSORFLOW, OPENVINO, *([OPENVINO_BFLOAT16] if candidate() else [])):
            found = measured(trunk_of(backbone, options.image_size, "float32", engine), paths, size, options.repeats)
            ratio = median([a / (b + c) for a, b, c in zip(found["pass"], found["decode"], found["bare"], strict=True)])
            worst = max(worst, ratio) if engine == OPENVINO else worst
            table.append([f"{backbone} {engine}", *(f"{median(values):.2f}" for values in found.values()), f"{ratio:.2f}"])
    print_table(["backbone", "decode, s", "bare, s", "plain Keras, s", "pass, s", "pass / floor"], table)
    print(f"{len(paths)} images; worst ratio of openvino {worst:.2f}")


def one_pass(trunk: Trunk, paths: list[Path], size: tuple[int, int], folder: Path) -> None:
    """What a run does to have the features of these images."""
    pixels = Pixels(paths, size, "crop")
    pixels.identify(Progress())
    frozen = FrozenFeatures(Store(folder, 10.0), trunk, pixels, AugmentConfig(), {"backbone": "benchmark", "stages": "last"})
    frozen.compute([np.arange(len(paths))], Progress(), lambda: None)


if __name__ == "__main__":
    main()
