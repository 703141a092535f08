"""A run's model as a SavedModel that needs nothing but TensorFlow, checked against the model before it is called done.

Three signatures share one graph from pixels to probabilities; the resize policy and the labels are inside:

- `serving_default`: `pixels`, float32 (b, h, w, 3) in 0..255, already at the model's size;
- `uint8`: `pixels`, uint8 (b, any, any, 3), resized inside;
- `bytes`: `bytes`, string (b,), encoded JPEG, PNG, GIF, BMP or WebP files, decoded and turned upright inside.

Each answers `class` string (b,), `probability` float32 (b,), `probabilities` float32 (b, k), `classes` string (k,).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.data import images
from tl_keras.errors import ExportError
from tl_keras.run_folder import write_whole

SAVED_MODEL = "saved_model"
GRAPH_FORMATS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")  # what TensorFlow decodes
PIXEL_TOLERANCE = 1e-5
BYTES_TOLERANCE = 1e-3

_READER = """
import json, sys
sys.modules["keras"] = sys.modules["tl_keras"] = None  # importing either fails
import numpy as np
import tensorflow as tf
folder, files, answers = sys.argv[1:4]
loaded = tf.saved_model.load(folder)
names = json.load(open(files))
found = []
for name in names:
    answer = loaded.signatures["bytes"](bytes=tf.constant([open(name, "rb").read()]))
    found.append(answer["probabilities"].numpy()[0])
pixels = np.load(answers + ".pixels.npy")
plain = loaded.signatures["serving_default"](pixels=tf.constant(pixels.astype(np.float32)))["probabilities"].numpy()
small = loaded.signatures["uint8"](pixels=tf.constant(pixels))["probabilities"].numpy()
np.savez(answers, bytes=np.stack(found), float=plain, uint8=small)
"""


def export_saved_model(
    model: keras.Model, classes: Sequence[str], resize: str, folder: Path, parity_files: Sequence[Path]
) -> dict[str, float]:
    """Write a SavedModel and prove in another process, which imports only tensorflow, that it agrees with the model.

    Args:
        model: float32 pixels (b, h, w, 3) -> logits (b, k).
        classes: the k labels, in the order of the logits.
        resize: 'crop', 'letterbox' or 'stretch'.
        folder: where the SavedModel goes; one that lies there is replaced once the new one is proved.
        parity_files: images to compare on, at least one.

    Returns:
        The largest difference of a probability, for each of 'float', 'uint8' and 'bytes'.

    Raises:
        ExportError: the SavedModel could not be written, loaded, or differs; nothing is left in `folder`'s place.
    """
    differences: dict[str, float] = {}

    def write(temporary: Path) -> None:
        _archive(model, classes, resize).write_out(str(temporary), verbose=False)
        differences.update(compare(model, resize, temporary, parity_files))
        check(differences)

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder, write)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written ({error.strerror}).") from error
    return differences


def _archive(model: keras.Model, classes: Sequence[str], resize: str) -> Any:
    height, width = model.input.shape[1:3]
    labels = tf.constant([os.fsencode(name) for name in classes])  # as on disk: UTF-8, or what the user has

    def answer(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.nn.softmax(model(pixels, training=False))
        return {
            "class": tf.gather(labels, tf.argmax(probabilities, axis=-1)),
            "probability": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
            "classes": tf.identity(labels),
        }

    def from_uint8(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(tf.cast(images.fit(pixels, (height, width), resize), tf.float32))

    def from_bytes(data: tf.Tensor) -> dict[str, tf.Tensor]:
        fitted = tf.map_fn(
            lambda one: images.fit(images.decode_graph(one), (height, width), resize),
            data,
            fn_output_signature=tf.TensorSpec((height, width, 3), tf.uint8),
        )
        return answer(tf.cast(fitted, tf.float32))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", answer, [tf.TensorSpec((None, height, width, 3), tf.float32, name="pixels")])
    archive.add_endpoint("uint8", from_uint8, [tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")])
    archive.add_endpoint("bytes", from_bytes, [tf.TensorSpec((None,), tf.string, name="bytes")])
    return archive


def compare(model: keras.Model, resize: str, folder: Path, files: Sequence[Path]) -> dict[str, float]:
    """Measure the largest difference of probability between a model and a SavedModel loaded by tensorflow alone.

    Raises:
        ExportError: the SavedModel does not load or does not answer.
    """
    height, width = model.input.shape[1:3]
    pixels = np.stack([images.load(file, (height, width), resize) for file in files])
    expected = tf.nn.softmax(model(pixels.astype(np.float32), training=False)).numpy()
    found = _answers(folder, files, pixels)
    return {name: float(np.abs(found[name] - expected).max()) for name in ("float", "uint8", "bytes")}


def _answers(folder: Path, files: Sequence[Path], pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    with tempfile.TemporaryDirectory() as scratch:
        names, answers = Path(scratch) / "files.json", Path(scratch) / "answers.npz"
        names.write_text(json.dumps([str(file.resolve()) for file in files]))
        np.save(f"{answers}.pixels.npy", pixels)
        command = [sys.executable, "-c", _READER, str(folder.resolve()), str(names), str(answers)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ExportError(f"{folder.name}: does not load with tensorflow alone ({last}).")
        with np.load(answers) as loaded:
            return dict(loaded)


def check(differences: dict[str, float]) -> None:
    """Raise ExportError when a difference is larger than its tolerance."""
    for name, difference in differences.items():
        tolerance = BYTES_TOLERANCE if name == "bytes" else PIXEL_TOLERANCE
        if not difference <= tolerance:
            raise ExportError(
                f"the exported signature '{name}' differs from the model by {difference:.2g} in probability, more than {tolerance:g}."
            )


def parity_choice(files: Sequence[Path], number: int) -> list[Path]:
    """Choose up to `number` files, spread evenly over those that TensorFlow can decode."""
    known = [file for file in files if file.suffix.lower() in GRAPH_FORMATS]
    step = max(1, len(known) // number)
    return known[::step][:number]
