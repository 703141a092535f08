"""The peer: Keras' own guide to transfer learning (keras.io/guides/transfer_learning), on a folder of images.

    python benchmarks/keras_guide.py --data FOLDER [--epochs 10] [--unfreeze-from LAYER --unfrozen-epochs 5]

The guide's steps as it writes them: flips and rotations mapped over the training set, `batch(64).prefetch().cache()`,
`base_model(x, training=False)`, pooling, dropout 0.2, Adam; then the base unfrozen at 1e-5. Changed: MobileNetV2 at 224
pixels for Xception at 150, five classes for two, and, where a layer is named, only the layers from it on unfrozen. The
folder has train/ val/ test/. Prints one line of JSON; seconds start after the imports.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from keras import layers

SIZE = (224, 224)


def datasets(data: str):
    """train, val and test as the guide makes them."""

    def read(split):
        return keras.utils.image_dataset_from_directory(
            f"{data}/{split}", image_size=SIZE, batch_size=None, shuffle=split == "train", seed=0, verbose=False
        )

    train, val, test = read("train"), read("val"), read("test")
    num_classes = len(train.class_names)
    augmentation = [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)]

    def augment(image, label):
        for layer in augmentation:
            image = layer(image)
        return image, label

    train = train.map(augment)
    return [each.batch(64).prefetch(tf.data.AUTOTUNE).cache() for each in (train, val, test)], num_classes


def build(num_classes: int):
    """The guide's model, its base frozen."""
    base = keras.applications.MobileNetV2(weights="imagenet", input_shape=(*SIZE, 3), include_top=False)
    base.trainable = False
    inputs = keras.Input((*SIZE, 3))
    x = layers.Rescaling(scale=1 / 127.5, offset=-1)(inputs)
    x = base(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return base, keras.Model(inputs, layers.Dense(num_classes)(x))


def fit(model, rate: float, train, val, epochs: int) -> None:
    """Compile and fit, as the guide does before and after unfreezing."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
    model.fit(train, epochs=epochs, validation_data=val, verbose=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--unfreeze-from", default=None)
    parser.add_argument("--unfrozen-epochs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    started = time.perf_counter()
    (train, val, test), num_classes = datasets(options.data)
    base, model = build(num_classes)
    fit(model, 1e-3, train, val, options.epochs)
    frozen = time.perf_counter()
    if options.unfrozen_epochs:
        names = [layer.name for layer in base.layers]
        base.trainable = True
        for layer in base.layers[: names.index(options.unfreeze_from) if options.unfreeze_from else 0]:
            layer.trainable = False
        fit(model, 1e-5, train, val, options.unfrozen_epochs)
    unfrozen = time.perf_counter()
    accuracy = model.evaluate(test, verbose=0)[1]
    found = {"frozen_s": frozen - started, "unfrozen_s": unfrozen - frozen, "seconds": time.perf_counter() - started, "accuracy": accuracy}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
