"""A classifier as a SavedModel that needs nothing but TensorFlow.

Three signatures share one graph from pixels to probabilities; the resize policy and the labels are inside:

- `serving_default`: `pixels`, float32 (b, h, w, 3) in 0..255, already at the model's size;
- `uint8`: `pixels`, uint8 (b, any, any, 3), resized inside;
- `bytes`: `bytes`, string (b,), encoded JPEG, PNG, GIF, BMP or WebP files, decoded and turned upright inside.

Each answers `class` string (b,), `probability` float32 (b,), `probabilities` float32 (b, k), `classes` string (b, k): the
labels, in the order of the probabilities, once for each image, since TensorFlow Serving splits answers into rows and batches
and takes no output without the batch as its first dimension. Where an image may have several classes, `found` bool (b, k) says which
probabilities reach their threshold, in place of `class` and `probability`. A regression answers `value` float32 (b,) alone. Where the
run tells images of none of the classes, there are `novelty` float32 (b,), larger is stranger, and `known` bool (b,) too.
"""

import os
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tl_keras.data import images
from tl_keras.deploy.exported import Exported
from tl_keras.errors import ExportError
from tl_keras.tasks import MULTI_LABEL, REGRESSION


def write_saved_model(exported: Exported, folder: Path) -> None:
    """Write a SavedModel.

    Raises:
        ExportError: TensorFlow cannot write it.
    """
    try:
        write_out(archive_of(exported), folder)
    except tf.errors.OpError as error:  # TensorFlow writes by itself
        raise ExportError(f"cannot be written ({str(error).strip().splitlines()[0]})") from error


def archive_of(exported: Exported) -> Any:
    """The three signatures, ready to be written."""
    model, size, resize, output = exported.watched, exported.image_size, exported.resize, exported.output
    decode = decoder(exported.decoding.bit_depth)
    labels = tf.constant([os.fsencode(name) for name in exported.classes])  # as on disk: UTF-8, or what the user has

    def strangeness(found: tf.Tensor) -> dict[str, tf.Tensor]:
        if exported.novelty is None:
            return {}
        return {"novelty": found[:, -1], "known": exported.novelty.is_known(found[:, -1])}

    def answer(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        found = model(pixels, training=False)
        answers = output.answers_op(found[:, : len(exported.classes)])
        decision = output.decide_op(answers)
        if output.task == REGRESSION:
            return {"value": decision}
        told = {**strangeness(found), "probabilities": answers, "classes": tf.tile(labels[tf.newaxis], [tf.shape(answers)[0], 1])}
        if output.task == MULTI_LABEL:
            return {"found": decision, **told}
        return {"class": tf.gather(labels, decision), "probability": tf.reduce_max(answers, axis=-1), **told}

    def from_uint8(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(tf.cast(images.resize(pixels, size, resize), tf.float32))

    def from_bytes(data: tf.Tensor) -> dict[str, tf.Tensor]:
        fitted = tf.map_fn(
            lambda one: images.resize(decode(one), size, resize),
            data,
            fn_output_signature=tf.TensorSpec((*size, 3), tf.uint8),
        )
        return answer(tf.cast(fitted, tf.float32))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", answer, [tf.TensorSpec((None, *size, 3), tf.float32, name="pixels")])
    archive.add_endpoint("uint8", from_uint8, [tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")])
    archive.add_endpoint("bytes", from_bytes, [tf.TensorSpec((None,), tf.string, name="bytes")])
    return archive


@cache
def decoder(bit_depth: int) -> Any:
    """`images.decode_graph` as a traced graph: it takes seconds to trace, and what writes a SavedModel traces each signature twice."""
    decode = tf.function(partial(images.decode_graph, bit_depth=bit_depth), input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    return decode.get_concrete_function()


def write_out(archive: Any, folder: Path) -> None:
    """Write a SavedModel. TensorFlow takes no path that is not UTF-8: such a folder is filled by way of another."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as scratch:
            archive.write_out(f"{scratch}/saved_model", verbose=False)
            shutil.move(f"{scratch}/saved_model", folder)
    else:
        archive.write_out(str(folder), verbose=False)
