"""stages.json: where the stages of a saved classifier end, so that the model, read back, can be cut there again.

A stage is one resolution of the backbone, see `stages`; the output of the last is the feature map that explanations are made from.
A `.keras` file keeps the names of operations, and nothing of stages.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tl_keras.run_folder import write_json

Boundaries = Mapping[str, Any]  # "stage1", ... from input to output -> the symbolic tensor that the stage outputs


def write_stages(path: Path, model: keras.Model, boundaries: Boundaries) -> None:
    """Write stages.json: for each stage, from input to output, its name, the operation that ends it and the shape (h, w, c) of its output.

    Args:
        model: the classifier that is saved, a flat graph.
        boundaries: tensors of this model; none for a model through which no single backbone runs, such as an ensemble of several.
    """
    ends = {id(operation.output): operation.name for operation in model.operations if hasattr(operation.output, "shape")}
    lines = [{"name": name, "operation": ends[id(tensor)], "shape": list(tensor.shape[1:])} for name, tensor in boundaries.items()]
    write_json(path, {"stages": lines})


def read_stages(path: Path, model: keras.Model) -> dict[str, Any]:
    """Find the tensors that stages.json names in the model that was saved with it.

    Raises:
        OSError, ValueError, LookupError, TypeError: there is no such file, it is damaged, or it is another model's.
    """
    by_name = {operation.name: operation.output for operation in model.operations}
    found = {}
    for line in json.loads(path.read_text(encoding="utf-8"))["stages"]:
        tensor = by_name[line["operation"]]
        if list(tensor.shape[1:]) != line["shape"]:
            raise ValueError(f"{line['operation']} outputs {tuple(tensor.shape[1:])}, not {tuple(line['shape'])}")
        found[line["name"]] = tensor
    return found
