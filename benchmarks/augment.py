"""Images a second of the augmentation alone, as training runs it: through tf.data, uint8 in and uint8 out, batch after batch.

    python benchmarks/augment.py [--image-size 96] [--batch-size 32] [--repeats 5]

Random pixels that are in memory already, so that neither disk nor decoding counts; the fastest of some passes. 'none' is the stream
itself: what shuffling, draws and gathering cost.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from processes import print_table

from tl_keras.augment_policies import POLICIES
from tl_keras.config import AugmentConfig
from tl_keras.data.augment import augment_batch, is_identity
from tl_keras.data.draws import draw

EVERYTHING = {"horizontal_flip": True, "rotation_range": 15, "zoom_range": 0.2, "hue_range": 0.05, "channel_shift_range": 10}
NAMED = {
    **{name: {"policy": name} for name in POLICIES},
    "flip alone": {"policy": "none", "horizontal_flip": True},
    "light and more": {"policy": "light", **EVERYTHING},
}


def images_a_second(augment: AugmentConfig, images: tf.Tensor, batch_size: int, repeats: int) -> float:
    """The rate of the fastest of some epochs over images that lie in memory, as `pipeline.train_batches` makes its batches."""
    num = len(images)

    def numbers(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        drawn = tf.zeros((0,)) if is_identity(augment) else draw(0, tf.constant(1, tf.int64), place)
        return place, drawn

    def views(places: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        return augment_batch(augment, tf.gather(images, places), draws)

    stream = tf.data.Dataset.range(num).map(numbers).batch(batch_size).map(views, num_parallel_calls=2, deterministic=True).prefetch(2)
    seconds = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        for _ in stream:
            pass
        seconds.append(time.perf_counter() - started)
    return num / min(seconds[1:])  # the first one builds the graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    shape = (options.images, options.image_size, options.image_size, 3)
    images = tf.cast(tf.random.stateless_uniform(shape, (0, 0), 0, 256, tf.int32), tf.uint8)
    rates = {
        name: images_a_second(AugmentConfig.model_validate(given), images, options.batch_size, options.repeats)
        for name, given in NAMED.items()
    }
    rows = [[name, f"{rate:,.0f}", f"{1e6 / rate:,.0f}"] for name, rate in rates.items()]
    print_table(["policy", "images/s", "microseconds an image"], rows)


if __name__ == "__main__":
    main()
