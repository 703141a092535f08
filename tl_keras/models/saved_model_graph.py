"""What the graph of a SavedModel shows: the range of pixels that its own preprocessing takes, and whether it ends in a classifier.

The graph is looked at with its functions inlined and its variables as constants, from the images to the first operation with a kernel.
"""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tl_keras.models.hub_layer import Interface, SavedModule
from tl_keras.models.pixel_range import range_wanted
from tl_keras.quiet import quiet

LARGEST_GRAPH = 1_500_000_000  # bytes of variables: a graph is one message of at most 2 GB
_KERNELS = {"Conv2D", "_FusedConv2D", "DepthwiseConv2dNative", "XlaConvV2", "MatMul", "BatchMatMulV2", "Einsum"}
_PROBABILITIES = {"Softmax", "Sigmoid"}
_PASSING_ON = {"Identity", "Reshape", "Squeeze", "Cast", "StopGradient"}


@dataclass(frozen=True)
class GraphFacts:
    """What a SavedModel's graph tells.

    Attributes:
        wants: the preprocessing in front of it that makes the range which its own takes, a key of `pixel_range.RANGES`; None where
            the graph does not tell.
        gives_probabilities: its last operation makes probabilities of logits.
    """

    wants: str | None = None
    gives_probabilities: bool = False


def look_into(module: SavedModule, interface: Interface, image_size: tuple[int, int]) -> GraphFacts:
    """Look into the graph of a SavedModel that is called on float32 images (b, h, w, 3); one that is too large tells nothing."""
    function = module.trace(interface, False, image_size)
    if sum(variable.shape.num_elements() * variable.dtype.size for variable in function.graph.variables) > LARGEST_GRAPH:
        return GraphFacts()
    with quiet():  # a session of the graph optimiser announces itself
        flat = convert_variables_to_constants_v2(function)
    return GraphFacts(_wanted(flat, image_size), _last_operation(flat.outputs[0]) in _PROBABILITIES)


def _wanted(flat: Any, image_size: tuple[int, int]) -> str | None:
    seen = _first_kernel_input(flat)
    if seen is None:
        return None
    see = flat.prune(flat.inputs[0], seen)
    return range_wanted(lambda images: tf.cast(see(tf.constant(images)), tf.float32).numpy(), image_size)


def _first_kernel_input(flat: Any) -> Any | None:
    """What the first operation with a kernel reads of the images, a tensor of the graph."""
    of_images = {flat.inputs[0].ref()}
    for operation in flat.graph.get_operations():  # each comes after those that it reads
        read = [tensor for tensor in operation.inputs if tensor.ref() in of_images]
        if read and operation.type in _KERNELS:
            return read[0]
        if read:
            of_images.update(tensor.ref() for tensor in operation.outputs)
    return None


def _last_operation(output: Any) -> str:
    operation = output.op
    while operation.type in _PASSING_ON:
        operation = operation.inputs[0].op
    return str(operation.type)
