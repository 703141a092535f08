"""A frozen part of a network as one graph with its constants folded: pixels in, features out, as fast as they come.

What is frozen has no variables that change, so they become constants of the graph, and TensorFlow folds BatchNorm into
the convolutions before it. `fingerprint` says which features these are: the same for the same computation, whatever
the layers are called. What is done with the features, `features` knows.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.errors import TrainingError
from tl_keras.models.engines import TENSORFLOW, Outputs, Runner, compile_model
from tl_keras.models.folded import has_finite_weights
from tl_keras.models.stages import ancestors, parents_of
from tl_keras.runtime import building_as

BATCH_SIZE = 32  # chunks of images are multiples of it

NOT_FINITE = "the backbone outputs numbers that are not finite. Set runtime.precision=float32, or repair its weights."


class Trunk:
    """Frozen outputs of a network.

    Args:
        source: a functional model over pixels; whatever trains in it later, here it is as it was when called first.
        outputs: names of the outputs -> their symbolic tensors in `source`.
        engine: what runs it, see `models.engines`.
    """

    def __init__(self, source: keras.Model, outputs: Mapping[str, Any], engine: str = TENSORFLOW) -> None:
        self.shapes = {name: tuple(tensor.shape[1:]) for name, tensor in outputs.items()}
        self.outputs = dict(outputs)
        self.source = source
        self.engine = engine
        with building_as(source):
            self._model = keras.Model(source.input, self.outputs)
        self._run: Runner | None = None

    def only(self, names: Iterable[str]) -> "Trunk":
        """The trunk of some of the outputs: it ends at the last that they need."""
        if set(names) == set(self.outputs):
            return self
        return Trunk(self.source, {name: self.outputs[name] for name in names}, self.engine)

    def on(self, engine: str) -> "Trunk":
        """The same on another engine."""
        return self if engine == self.engine else Trunk(self.source, self.outputs, engine)

    def __call__(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run on uint8 pixels (b, h, w, 3), any b.

        Raises:
            ConversionError: the engine does not take this network.
            TrainingError: a feature is not finite, as in float16 where it overflows.
        """
        found = self.fold()(pixels)
        if not all(np.isfinite(values).all() for values in found.values()):
            raise TrainingError(NOT_FINITE)
        return found

    @property
    def is_folded(self) -> bool:
        """Whether the graph is built."""
        return self._run is not None

    def fold(self) -> Runner:
        """Build the graph, once; called before there are pixels, it need not be waited for when they come.

        Raises:
            ConversionError: the engine does not take this network.
            TrainingError: a weight is not finite.
        """
        if self._run is None:
            if not has_finite_weights(self._model):
                raise TrainingError(NOT_FINITE)
            self._run = compile_model(self._model, self.engine)
        return self._run

    def fingerprints(self) -> dict[str, str]:
        """What each output is computed by: a hash of its operations, their weights and the version of TensorFlow."""
        return {name: _fingerprint(self._model, tensor) for name, tensor in self._model.output.items()}


def _fingerprint(model: keras.Model, tensor: Any) -> str:
    """Hash what a tensor depends on, in the order of the graph, with operations numbered instead of named."""
    needed = ancestors(model, tensor, parents_of(model))
    operations = [operation for operation in model.operations if id(operation) in needed]
    number = {
        id(output): [place, which]
        for place, operation in enumerate(operations)
        for which, output in enumerate(keras.tree.flatten(operation.output))
    }
    # Keras keeps the constants of a call in its nodes alone
    calls = {id(node.operation): node.arguments for nodes in model._nodes_by_depth.values() for node in nodes}
    digest = hashlib.sha256(f"{tf.__version__} {keras.__version__}".encode())
    for operation in operations:
        call = calls[id(operation)]
        given = keras.tree.map_structure(lambda each: number.get(id(each), each), [call.args, call.kwargs])
        described = [type(operation).__name__, _nameless(operation.get_config()), given]
        digest.update(json.dumps(described, sort_keys=True, default=_described).encode())
        for weight in getattr(operation, "weights", ()):
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    digest.update(json.dumps(number[id(tensor)]).encode())
    return digest.hexdigest()


def _described(value: Any) -> str:
    """What JSON does not know: an array by the hash of its bytes, whatever its size."""
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest() if hasattr(value, "__array__") else str(value)


def _nameless(config: Any) -> Any:
    """A layer's configuration without names, which count on through a process, and without what trains later."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return config["config"]["name"]
        return {key: _nameless(value) for key, value in config.items() if key not in ("name", "trainable")}
    return [_nameless(value) for value in config] if isinstance(config, list | tuple) else config
