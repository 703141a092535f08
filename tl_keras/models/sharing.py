"""Shared computation of several networks: layers at their beginning that are equal, with equal weights, run only once.

Finetunings of one backbone share all that stayed frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tl_keras.models.stages import parents_of

Place = tuple[int, int]  # an operation's position in its graph, and which of its outputs


@dataclass(frozen=True)
class Shared:
    """Networks cut where they begin to differ.

    Attributes:
        trunk: the input of the first -> what the tails read, a list.
        tails: the rest of each, from a list of tensors to its output.
        reads: for each tail, which of the trunk's outputs it takes, in order.
    """

    trunk: keras.Model
    tails: list[keras.Model]
    reads: list[list[int]]

    def __call__(self, inputs: Any) -> list[Any]:
        """The output of each network for the same input, symbolic; tails are named member1, member2, ..."""
        found = keras.tree.flatten(self.trunk(inputs))
        return [tail([found[read] for read in reads]) for tail, reads in zip(self.tails, self.reads, strict=True)]


def cut_shared(models: Sequence[keras.Model]) -> Shared | None:
    """Cut networks of one input and one output where they begin to differ; None where nothing with weights is alike.

    Operations are compared position by position, as those of training runs of one backbone are in one order. What is alike only in
    part, or after a difference, is left to the tails.
    """
    graphs = [model.operations for model in models]
    alike = _alike(models, graphs)
    ends = [
        next(place for place, each in enumerate(graph) if each.output is model.output) for model, graph in zip(models, graphs, strict=True)
    ]
    if any(end in alike for end in ends) or not any(graphs[0][place].weights for place in alike if hasattr(graphs[0][place], "weights")):
        return None
    read = [_read(graph, alike) for graph in graphs]
    every = sorted({place for each in read for place in each})
    trunk = keras.Model(models[0].input, [_tensor(graphs[0], place) for place in every], name="shared")
    tails = [
        keras.Model([_tensor(graph, place) for place in each], model.output, name=f"member{number}")
        for number, (model, graph, each) in enumerate(zip(models, graphs, read, strict=True), start=1)
    ]
    return Shared(trunk, tails, [[every.index(place) for place in each] for each in read])


def _alike(models: Sequence[keras.Model], graphs: Sequence[list[Any]]) -> set[int]:
    """Positions of the operations that are equal in all networks, and so is everything that they depend on."""
    parents = []
    for model, graph in zip(models, graphs, strict=True):
        position, found = {id(each): place for place, each in enumerate(graph)}, parents_of(model)
        parents.append([[position[id(parent)] for parent in found[id(each)]] for each in graph])
    alike: set[int] = set()
    for place, operations in enumerate(zip(*graphs, strict=False)):
        reads = [each[place] for each in parents]
        if (
            all(read == reads[0] for read in reads)
            and alike.issuperset(reads[0])
            and all(_equal(operations[0], each) for each in operations[1:])
        ):
            alike.add(place)
    return alike


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other) or _settings(one) != _settings(other):
        return False
    mine, theirs = getattr(one, "weights", []), getattr(other, "weights", [])
    return len(mine) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def _settings(operation: Any) -> dict[str, Any]:
    """What an operation does: not its name, nor whether and from where its weights are trained."""
    ignored = ("name", "trainable", "kernel_initializer", "bias_initializer")
    return {name: value for name, value in operation.get_config().items() if name not in ignored}


def _read(graph: list[Any], alike: set[int]) -> list[Place]:
    """Outputs of shared operations that others read, in order."""
    places = {id(tensor): (place, number) for place in alike for number, tensor in enumerate(keras.tree.flatten(graph[place].output))}
    rest = (each for place, each in enumerate(graph) if place not in alike)
    return sorted({places[id(tensor)] for each in rest for tensor in keras.tree.flatten(each.input) if id(tensor) in places})


def _tensor(graph: list[Any], place: Place) -> Any:
    return keras.tree.flatten(graph[place[0]].output)[place[1]]
