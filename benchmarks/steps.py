"""A training step of a whole backbone: as Keras runs it, and as `models.fused` does, with BatchNorm frozen and trained.

    python benchmarks/steps.py [--backbones mobilenet_v2 resnet50 ...] [--image-size 128] [--batch-size 32]

Forward, backward and AdamW on one batch of noise, random weights; the fastest of ten steps.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from processes import print_table

from tl_keras.config import ModelConfig
from tl_keras.models.backbone_loading import build_backbone
from tl_keras.models.classifier import ALL_STAGES, build_classifier, unfreeze
from tl_keras.models.fused import fused

BACKBONES = ("mobilenet_v2", "small_resnet", "resnet50", "efficientnet_v2_b0", "densenet121", "xception")
CLASSES, STEPS = 10, 10


def seconds_of_a_step(backbone: str, size: int, batch_size: int, *, is_frozen: bool, is_fused: bool) -> float:
    """The fastest of `STEPS` steps of a fresh network."""
    built = build_backbone(backbone, image_size=(size, size), weights="none")
    classifier = build_classifier(ModelConfig(), built, CLASSES, seed=0)
    unfreeze(classifier, ALL_STAGES, freeze_batchnorm=is_frozen)
    model = fused(classifier.model) if is_fused else classifier.model
    optimizer, loss = keras.optimizers.AdamW(1e-5), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            found = loss(labels, model(images, training=True))
        optimizer.apply(tape.gradient(found, model.trainable_variables), model.trainable_variables)
        return found

    images = tf.random.uniform((batch_size, size, size, 3), 0, 255)
    labels = tf.random.uniform((batch_size,), 0, CLASSES, tf.int32)
    step(images, labels)
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        step(images, labels).numpy()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    rows = []
    for backbone in options.backbones:
        cells = []
        for is_frozen in (True, False):
            plain, ours = (
                seconds_of_a_step(backbone, options.image_size, options.batch_size, is_frozen=is_frozen, is_fused=is_fused)
                for is_fused in (False, True)
            )
            cells += [f"{plain * 1e3:.0f}", f"{ours * 1e3:.0f}", f"{plain / ours:.2f}"]
        rows.append([backbone, *cells])
    columns = [f"{name}, {part}" for name in ("frozen", "trained") for part in ("Keras, ms", "fused, ms", "ratio")]
    print_table(["backbone", *columns], rows)


if __name__ == "__main__":
    main()
