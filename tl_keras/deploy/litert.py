"""A classifier as one LiteRT file (`.tflite`), of built-in operators only, with float32 pixels in and named float32 outputs.

What a program has to know besides goes to the end of the file, see `described`.
"""

import csv
import io
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tl_keras.deploy.exported import PIXELS, Exported
from tl_keras.errors import ExportError
from tl_keras.quiet import quiet

MOST_NAMED = 5  # layers that lose most, or operators that are missing
DEBUGGED = 8  # images on which layers are compared: it takes seconds for each

Settings = Callable[[Exported], dict[str, Any]]


def plain(exported: Exported) -> dict[str, Any]:
    """float32 throughout."""
    return {}


def float16(exported: Exported) -> dict[str, Any]:
    """Weights in float16."""
    return {"optimizations": [tf.lite.Optimize.DEFAULT], "target_spec.supported_types": [tf.float16]}


def dynamic(exported: Exported) -> dict[str, Any]:
    """Weights in int8; activations are rounded as they come, where a kernel takes them so."""
    return {"optimizations": [tf.lite.Optimize.DEFAULT]}


def int8(exported: Exported) -> dict[str, Any]:
    """Weights and activations in int8, but for what has no such kernel, as parts of the novelty.

    Raises:
        ExportError: there are no images to calibrate with.
    """
    if not exported.calibration:
        raise ExportError("int8 takes the ranges of its numbers from training images, and none is there. Say with --data where they are")
    return {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": partial(calibration_images, exported)}


def calibration_images(exported: Exported) -> Iterator[list[Any]]:
    """The only input, the pixels of one image after another."""
    for file in exported.calibration:
        yield [exported.pixels([file]).astype(np.float32)]


def write_litert(settings: Settings, exported: Exported, file: Path) -> None:
    """Write a file, without what `described` appends to it.

    Args:
        settings: what the converter is told, by the names of its attributes.

    Raises:
        ExportError: LiteRT has no built-in operator for a part of the graph, which is named.
    """
    chosen = settings(exported)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")  # of TensorFlow, about its own interpreter, which calibrates
        converter = _converter(exported, chosen, scratch)
        try:
            data, failed = converter.convert(), None
        except Exception as error:  # it raises several kinds, none documented
            data, failed = b"", error
    if failed is not None:
        raise ExportError(_reason(str(failed))) from failed
    file.write_bytes(data)


def _converter(exported: Exported, settings: dict[str, Any], scratch: str) -> Any:
    """A converter of the frozen graph, by way of a SavedModel, which names inputs and outputs."""
    frozen, names = exported.frozen, exported.output_names
    spec = tf.TensorSpec((None, *exported.image_size, 3), tf.float32, name=PIXELS)

    @tf.function(input_signature=[spec], autograph=False)
    def named(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, tf.nest.flatten(frozen(pixels)), strict=True))

    tf.saved_model.save(tf.Module(), scratch, signatures=named.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # Keras would add TensorFlow's own, which need another runtime
    for name, value in settings.items():
        *owner, last = name.split(".")
        setattr(getattr(converter, owner[0]) if owner else converter, last, value)
    return converter


def _reason(text: str) -> str:
    """What an error of the converter says, in one line: which operators are missing, or its first line."""
    found = sorted(set(re.findall(r"tf\.([A-Z]\w+)", text)))
    if found:
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        return f"LiteRT has no built-in operator for {', '.join(found[:MOST_NAMED])}{more} of this network; take onnx or openvino"
    return f"LiteRT's converter does not take this network ({(text.strip().splitlines() or ['no reason'])[0][:200]})"


def layers_that_lose_most(exported: Exported) -> list[str]:
    """The layers whose outputs int8 changes most, by the root of their mean squared error in steps of their rounding."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        few = replace(exported, calibration=exported.calibration[:DEBUGGED])
        converter = _converter(few, int8(few), scratch)
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=partial(calibration_images, few))
        debugger.run()
        table = io.StringIO()
        debugger.layer_statistics_dump(table)
    rows = list(csv.DictReader(io.StringIO(table.getvalue())))
    worst = sorted(rows, key=lambda row: -(float(row["mean_squared_error"]) ** 0.5) / float(row["scale"]))
    return [row["tensor_name"].partition(";")[0].partition("/")[2] or row["tensor_name"] for row in worst[:MOST_NAMED]]
