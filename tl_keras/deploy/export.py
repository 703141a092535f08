"""A run's model as a SavedModel that needs nothing but TensorFlow, checked against the model before it is called done.

Three signatures share one graph from pixels to probabilities; the resize policy and the labels are inside:

- `serving_default`: `pixels`, float32 (b, h, w, 3) in 0..255, already at the model's size;
- `uint8`: `pixels`, uint8 (b, any, any, 3), resized inside;
- `bytes`: `bytes`, string (b,), encoded JPEG, PNG, GIF, BMP or WebP files, decoded and turned upright inside.

Each answers `class` string (b,), `probability` float32 (b,), `probabilities` float32 (b, k), `classes` string (b, k): the
labels, in the order of the probabilities, once for each image, since TensorFlow Serving splits answers into rows and batches
and takes no output without the batch as its first dimension.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.data import images
from tl_keras.data.decode_graph import refused_kind
from tl_keras.data.formats import HEAD_BYTES
from tl_keras.data.regular import open_regular
from tl_keras.errors import ExportError
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.partial import clear_partial
from tl_keras.run_folder import write_whole

SAVED_MODEL = "saved_model"
PIXEL_TOLERANCE = 1e-5
BYTES_TOLERANCE = 1e-3

_READER = """
import json, re, sys
sys.modules["keras"] = sys.modules["tl_keras"] = None  # importing either fails
import numpy as np
import tensorflow as tf

def first_line(error):  # of what went wrong: where the graph's nodes are named, it is the last line before them
    text = re.sub(r"\\{\\{.*?\\}\\}", "", str(error).split("\\n\\t [[")[0]).replace("assertion failed:", "")
    line = (text.strip() or type(error).__name__).splitlines()[-1].strip()
    return re.sub(r"^\\[(.*?)\\](?= \\[)", r"\\1", line)  # an assertion's text is in brackets

folder, files, answers, said = sys.argv[1:]
names, refused, found = json.load(open(files)), {}, []
try:
    loaded = tf.saved_model.load(folder)
    for name in names:
        try:
            answer = loaded.signatures["bytes"](bytes=tf.constant([open(name, "rb").read()]))
            found.append(answer["probabilities"].numpy()[0])
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
            refused[name] = first_line(error)
    pixels = np.load(answers + ".pixels.npy")
    plain = loaded.signatures["serving_default"](pixels=tf.constant(pixels.astype(np.float32)))["probabilities"].numpy()
    small = loaded.signatures["uint8"](pixels=tf.constant(pixels))["probabilities"].numpy()
    np.savez(answers, bytes=np.asarray(found), float=plain, uint8=small)
    json.dump({"refused": refused}, open(said, "w"))
except Exception as error:
    json.dump({"failed": first_line(error)}, open(said, "w"))
"""


@dataclass(frozen=True)
class Agreement:
    """What a SavedModel and its model were compared on, and how far they are apart.

    Attributes:
        differences: the largest difference of a probability, for each of 'float', 'uint8' and, where it took a file, 'bytes'.
        refused: files that the signature 'bytes' did not take -> why; the other two were compared on them.
    """

    differences: dict[str, float]
    refused: dict[str, str]


def export_saved_model(
    model: keras.Model,
    classes: Sequence[str],
    resize: str,
    folder: Path,
    parity_files: Sequence[Path],
    decoding: images.Decoding = images.DEFAULT,
) -> Agreement:
    """Write a SavedModel and prove in another process, which imports only tensorflow, that it agrees with the model.

    Args:
        model: float32 pixels (b, h, w, 3) -> logits (b, k).
        classes: the k labels, in the order of the logits.
        resize: 'crop', 'letterbox' or 'stretch'.
        folder: where the SavedModel goes; one that lies there is replaced once the new one is proved.
        parity_files: images to compare on, at least one.
        decoding: how the model sees files.

    Raises:
        ExportError: the SavedModel could not be written, loaded, or differs, or takes none of the files although TensorFlow
            decodes their kind; nothing is left in `folder`'s place.
    """
    found: list[Agreement] = []

    def write(temporary: Path) -> None:
        archive = _archive(model, classes, resize, decoding)
        try:
            _write_out(archive, temporary)
        except tf.errors.OpError as error:  # TensorFlow writes by itself
            raise ExportError(f"{folder}: cannot be written ({str(error).strip().splitlines()[0]}).") from error
        found.append(compare(model, resize, temporary, parity_files, decoding, name=str(folder)))
        check(found[0].differences)

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_partial(folder.parent)
        write_whole(folder, write)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    return found[0]


def _archive(model: keras.Model, classes: Sequence[str], resize: str, decoding: images.Decoding) -> Any:
    height, width = model.input.shape[1:3]
    labels = tf.constant([os.fsencode(name) for name in classes])  # as on disk: UTF-8, or what the user has

    def answer(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = SINGLE_LABEL.probabilities_op(model(pixels, training=False))
        return {
            "class": tf.gather(labels, SINGLE_LABEL.decide_op(probabilities)),
            "probability": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
            "classes": tf.tile(labels[tf.newaxis], [tf.shape(probabilities)[0], 1]),
        }

    def from_uint8(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(tf.cast(images.fit(pixels, (height, width), resize), tf.float32))

    def from_bytes(data: tf.Tensor) -> dict[str, tf.Tensor]:
        fitted = tf.map_fn(
            lambda one: images.fit(images.decode_graph(one, decoding.bit_depth), (height, width), resize),
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


def _write_out(archive: Any, folder: Path) -> None:
    """Write a SavedModel. TensorFlow takes no path that is not UTF-8: such a folder is filled by way of another."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as scratch:
            archive.write_out(f"{scratch}/{SAVED_MODEL}", verbose=False)
            shutil.move(f"{scratch}/{SAVED_MODEL}", folder)
    else:
        archive.write_out(str(folder), verbose=False)


def compare(
    model: keras.Model, resize: str, folder: Path, files: Sequence[Path], decoding: images.Decoding = images.DEFAULT, *, name: str
) -> Agreement:
    """Measure the largest difference of probability between a model and a SavedModel loaded by tensorflow alone.

    Args:
        name: what an error calls the SavedModel.

    Raises:
        ExportError: the SavedModel does not load or does not answer.
    """
    height, width = model.input.shape[1:3]
    pixels = np.stack([images.load(file, (height, width), resize, decoding) for file in files])
    expected = SINGLE_LABEL.probabilities_op(model(pixels.astype(np.float32), training=False)).numpy()
    found, refused = _answers(folder, files, pixels, name)
    is_taken = np.array([str(file.resolve()) not in refused for file in files])
    if not is_taken.any() and refused_by(files, 1)[1]:
        raise ExportError(f"{name}: its signature 'bytes' takes no test image ({next(iter(refused.values()))}).")
    differences = {each: float(np.abs(found[each] - expected).max()) for each in ("float", "uint8")}
    if is_taken.any():
        differences["bytes"] = float(np.abs(found["bytes"] - expected[is_taken]).max())
    return Agreement(differences, refused)


def _answers(folder: Path, files: Sequence[Path], pixels: NDArray[np.uint8], name: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """What a SavedModel says of files in each signature, and which files 'bytes' does not take -> why."""
    with tempfile.TemporaryDirectory() as scratch:
        names, answers, said = (Path(scratch) / each for each in ("files.json", "answers.npz", "said.json"))
        names.write_text(json.dumps([str(file.resolve()) for file in files]))
        np.save(f"{answers}.pixels.npy", pixels)
        command = [sys.executable, "-P", "-c", _READER, folder.name, str(names), str(answers), str(said)]  # a path may not be UTF-8
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=folder.parent)
        if done.returncode or not said.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            why = f"its process was ended by signal {-done.returncode}" if done.returncode < 0 else last
            raise ExportError(f"{name}: does not load with tensorflow alone ({why}).")
        told = json.loads(said.read_text())
        if "failed" in told:
            place = rf"{re.escape(str(folder.resolve()))}|(?<![\w/{{|]){re.escape(folder.name)}(?![\w.])"
            why = re.sub(place, lambda _: name, told["failed"])
            raise ExportError(f"{name}: does not answer with tensorflow alone ({why}).")
        with np.load(answers) as loaded:
            return dict(loaded), told["refused"]


def describe(refused: Mapping[str, int], num_files: int) -> str:
    """Say which test images the signature 'bytes' will not take, as one line.

    Args:
        refused: how many there are of each kind, at least one.
        num_files: test images in all.
    """
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(refused.items(), key=lambda each: (-each[1], each[0])))
    number = sum(refused.values())
    return f"the signature 'bytes' will refuse {number:,} of {num_files:,} test images, which TensorFlow does not decode: {kinds}"


def check(differences: dict[str, float]) -> None:
    """Raise ExportError when a difference is larger than its tolerance."""
    for name, difference in differences.items():
        tolerance = BYTES_TOLERANCE if name == "bytes" else PIXEL_TOLERANCE
        if not difference <= tolerance:
            raise ExportError(
                f"the exported signature '{name}' differs from the model by {difference:.2g} in probability, more than {tolerance:g}."
            )


def refused_by(files: Sequence[Path], number: int) -> tuple[Counter[str], list[Path]]:
    """Sort out files that the signature 'bytes' refuses for their kind.

    Returns:
        How many of all files there are of each kind that is refused; and up to `number` of the others, spread evenly.
    """
    kinds = [_kind(file) for file in files]
    taken = [file for file, kind in zip(files, kinds, strict=True) if kind is None]
    return Counter(kind for kind in kinds if kind is not None), spread(taken, number)


def spread(files: Sequence[Path], number: int) -> list[Path]:
    """Up to `number` of some files, evenly spaced."""
    step = max(1, len(files) // number)
    return list(files[::step][:number])


def _kind(file: Path) -> str | None:
    try:
        with open_regular(file) as opened:
            return refused_kind(opened.read(HEAD_BYTES))
    except OSError:
        return "unreadable"
