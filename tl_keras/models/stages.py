"""Stages of a backbone's graph: which layers belong to which, and where a network without a row in the table has its own.

A stage is one spatial resolution, the unit of freezing and of the rates towards the input: "the last 20 layers" would
cut residual blocks in two. Works on any flat functional graph of Keras and knows no table.
"""

from collections.abc import Iterator
from math import log2
from typing import Any

import keras

ACTIVATIONS = frozenset({"relu", "relu6", "leakyrelu", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish"}) | {
    "hard_silu",
    "hard_swish",
    "hardsilu",
}


def find_operation(model: keras.Model, name: str) -> Any | None:
    """Find an operation by its name, or by "relu#2" the third of those that Keras named relu, relu_1, ... by itself.

    The counter in such names runs on through a process, so the network built second has no "relu_2".
    """
    kind, marked, number = name.partition("#")
    if not marked:
        return next((operation for operation in model.operations if operation.name == name), None)
    counted = {}
    for operation in model.operations:
        suffix = operation.name.removeprefix(kind).removeprefix("_")
        if operation.name.startswith(kind) and (not suffix or suffix.isdecimal()):
            counted[int(suffix or 0)] = operation
    in_order = [counted[count] for count in sorted(counted)]
    return in_order[int(number)] if int(number) < len(in_order) else None


def layers_by_stage(model: keras.Model, boundaries: list[Any]) -> dict[str, tuple[str, ...]]:
    """Give each layer to the first stage whose boundary needs it, and what no boundary needs to the last.

    Args:
        model: A flat functional model.
        boundaries: The last operation of each stage, from input to output.

    Returns:
        "stage1", "stage2", ... -> names of layers, in the order of the graph.
    """
    parents = parents_of(model)
    stage_of: dict[int, int] = {}
    for number, boundary in enumerate(boundaries, start=1):
        waiting = [boundary]
        while waiting:
            operation = waiting.pop()
            if id(operation) not in stage_of:
                stage_of[id(operation)] = number
                waiting += parents[id(operation)]
    last = len(boundaries)
    return {
        f"stage{number}": tuple(layer.name for layer in model.layers if stage_of.get(id(layer), last) == number)
        for number in range(1, last + 1)
    }


def boundaries_by_resolution(model: keras.Model, first_convolution: Any) -> list[Any]:
    """Find the last operation of each resolution through whose output the whole graph passes.

    Args:
        model: A flat functional model with a fixed image size.
        first_convolution: What lies before it is preprocessing, not a stage.
    """
    height = smallest = model.input_shape[1]
    boundaries: dict[int, Any] = {}
    for operation in _bottlenecks(model, first_convolution):
        resolution = operation.output.shape[1]
        if resolution <= smallest:  # a padded image is on its way to the next stage
            # 299 pixels go to 149 and 147 in one stage: a stage is a halving.
            boundaries[round(log2(height / resolution))] = operation
            smallest = resolution
    return [*list(boundaries.values())[:-1], _producer(model)]


def parents_of(model: keras.Model) -> dict[int, list[Any]]:
    """The operations whose outputs each operation reads, by the id of the operation."""
    flatten = keras.tree.flatten
    producer = {id(tensor): operation for operation in model.operations for tensor in flatten(operation.output)}
    return {
        id(operation): [producer[id(tensor)] for tensor in flatten(operation.input) if id(tensor) in producer]
        for operation in model.operations
    }


def ancestors(model: keras.Model, tensor: Any, parents: dict[int, list[Any]]) -> set[int]:
    """The ids of the operations that a tensor depends on, its own one included; `parents` from `parents_of`."""
    waiting = [operation for operation in model.operations if any(output is tensor for output in keras.tree.flatten(operation.output))]
    found: set[int] = set()
    while waiting:
        operation = waiting.pop()
        if id(operation) not in found:
            found.add(id(operation))
            waiting += parents[id(operation)]
    return found


def activations_by_stage(model: keras.Model, boundaries: dict[str, Any]) -> dict[str, list[Any]]:
    """Find the most informative activations of each stage: those after which the number of channels changes.

    A block expands, filters and projects; of two activations with only a filter between them the first is passed over.

    Args:
        model: a flat functional model over images.
        boundaries: "stage1", ... -> the tensor that the stage outputs.

    Returns:
        "stage1", ... -> tensors (b, h, w, c), in the order of the graph; the stage's own output is the last of them.
    """
    parents = parents_of(model)
    children: dict[int, list[Any]] = {id(operation): [] for operation in model.operations}
    for operation in model.operations:
        for parent in parents[id(operation)]:
            children[id(parent)].append(operation)
    kept = [operation for operation in model.operations if _is_activation(operation) and not _filtered_next(operation, children)]
    found: dict[str, list[Any]] = {}
    before: set[int] = set()
    for name, tensor in boundaries.items():
        within = ancestors(model, tensor, parents) - before
        before |= within
        found[name] = [operation.output for operation in kept if id(operation) in within and operation.output is not tensor] + [tensor]
    return found


def _is_activation(operation: Any) -> bool:
    """Whether an operation ends in a nonlinearity and outputs a map of more than one place (a gate has one)."""
    name = getattr(getattr(operation, "activation", None), "__name__", type(operation).__name__).lower()
    return name in ACTIVATIONS and is_feature_map(operation.output) and max(operation.output.shape[1:3]) > 1


def _filtered_next(operation: Any, children: dict[int, list[Any]]) -> bool:
    """Whether the next activation has as many channels and nothing between them branches off or changes their number."""
    width, each = operation.output.shape[-1], operation
    while len(children[id(each)]) == 1:
        each = children[id(each)][0]
        if not is_feature_map(each.output) or each.output.shape[-1] != width or len(keras.tree.flatten(each.input)) > 1:
            return False
        if _is_activation(each):
            return True
    return False


def _bottlenecks(model: keras.Model, first: Any) -> Iterator[Any]:
    """Yield the operations from `first` on past which no other tensor reaches, if they output a feature map."""
    operations = model.operations
    position = {id(operation): index for index, operation in enumerate(operations)}
    last_use = list(range(len(operations)))
    for child, parents in parents_of(model).items():
        for parent in parents:
            last_use[position[id(parent)]] = max(last_use[position[id(parent)]], position[child])
    reach = 0  # the last place where an output of the operations so far is read
    for index, operation in enumerate(operations):
        if reach <= index and index >= position[id(first)] and is_feature_map(operation.output):
            yield operation
        reach = max(reach, last_use[index])


def is_feature_map(tensor: Any) -> bool:
    """Whether an operation's output is one tensor (b, h, w, c)."""
    return hasattr(tensor, "shape") and len(tensor.shape) == 4


def _producer(model: keras.Model) -> Any:
    return next(operation for operation in model.operations if operation.output is model.output)
