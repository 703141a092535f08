"""Where the features of a network end and its classifier begins, for networks that no row of the table knows.

A classifier is what follows the last feature map with weights for vectors only: pooling, Dense, BatchNorm. Where layers with weights
read tokens, or maps that the last one does not depend on, a feature map would leave them out: there the features are the vector
that the last Dense layer reads.
"""

from typing import Any

import keras

from tl_keras.models.stages import ancestors, is_feature_map, parents_of


def find_features(model: keras.Model) -> Any | None:
    """The symbolic tensor with the features of a flat model of one output: (b, h, w, c) or (b, d); None where it ends in tokens."""
    maps = [operation.output for operation in model.operations if is_feature_map(operation.output)]
    # A classifier may hold feature maps of one pixel.
    wide = [tensor for tensor in maps if tensor.shape[1:3] != (1, 1)]
    last = (wide or maps)[-1]
    needed = ancestors(model, last, parents_of(model))
    left_out = [operation for operation in model.operations if id(operation) not in needed and _is_beyond_vectors(operation)]
    return _vector(model) if left_out else last


def _is_beyond_vectors(operation: Any) -> bool:
    """Whether an operation has weights for more than a vector for each image."""
    read = [tensor.shape for tensor in keras.tree.flatten(operation.input) if hasattr(tensor, "shape")]
    return bool(getattr(operation, "weights", None)) and any(len(shape) > 2 and set(shape[1:-1]) != {1} for shape in read)


def _vector(model: keras.Model) -> Any | None:
    """What the last Dense layer reads, if vectors; else the output, if vectors."""
    dense = [each for each in model.operations if isinstance(each, keras.layers.Dense)]
    candidates = [dense[-1].input, model.output] if dense else [model.output]
    return next((tensor for tensor in candidates if len(tensor.shape) == 2), None)
