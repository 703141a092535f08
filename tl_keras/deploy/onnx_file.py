"""A classifier as one ONNX file, with float32 pixels in and named float32 outputs; the rest that a program has to know is its metadata."""

import json
import logging
from pathlib import Path
from typing import Any

import tensorflow as tf

from tl_keras.deploy.exported import PIXELS, Exported
from tl_keras.errors import ExportError
from tl_keras.quiet import quiet

OPSET = 17  # of ONNX 1.12 (2022), which every runtime in use reads
DESCRIPTION = "tl_keras"  # the key of the metadata


def write_onnx(exported: Exported, file: Path) -> None:
    """Write a file.

    Raises:
        ExportError: tf2onnx does not take the graph, or it is larger than the 2 GB of a file.
    """
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    names = exported.output_names
    renamed = {f"{name}:0": name for name in (PIXELS, *names)}
    graph = without_erfc(exported.frozen.graph.as_graph_def())
    with quiet():
        try:
            model, _ = tf2onnx.convert.from_graph_def(
                graph,
                input_names=[f"{PIXELS}:0"],
                output_names=[f"{name}:0" for name in names],
                opset=OPSET,
                tensors_to_rename=renamed,
            )
            failed = None
        except Exception as error:  # it raises several kinds, none documented
            model, failed = None, error
    if failed is not None:
        why = (str(failed).strip().splitlines() or ["no reason"])[0][:200]
        raise ExportError(f"ONNX's converter does not take this network ({why})") from failed
    onnx.helper.set_model_props(model, {DESCRIPTION: json.dumps(exported.description)})
    file.write_bytes(model.SerializeToString())


def without_erfc(graph: Any) -> Any:
    """The same graph with 1 - erf(x) for each erfc(x), which ONNX does not have: TensorFlow writes exact GELU with it."""
    new = type(graph)()
    new.CopyFrom(graph)
    del new.node[:]
    for node in graph.node:
        if node.op != "Erfc":
            new.node.add().CopyFrom(node)
            continue
        dtype = node.attr["T"]
        erf, one, rest = (new.node.add() for _ in range(3))
        erf.CopyFrom(node)
        erf.op, erf.name = "Erf", f"{node.name}/erf"
        one.op, one.name = "Const", f"{node.name}/one"
        one.attr["dtype"].CopyFrom(dtype)
        one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0, dtype=dtype.type))
        rest.op, rest.name = "Sub", node.name
        rest.input.extend([one.name, erf.name])
        rest.attr["T"].CopyFrom(dtype)
    return new
