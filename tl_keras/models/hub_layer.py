"""A TensorFlow SavedModel as a layer of Keras 3, whose variables train, are saved and come back like those of any layer.

`hub.KerasLayer` is a layer of Keras 2, and `keras.layers.TFSMLayer` keeps its variables from optimisers and checkpoints.
Knows neither folders nor users: `hub` finds out how a SavedModel wants to be called and says so in an `Interface`.

A `.keras` file with this layer holds the SavedModel's graph as an asset and the weights where all weights lie; nothing
is downloaded again. To load one without `tl_keras`' own command line, import this module first.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tl_keras.models.trust import digest, files_of, require_safe


@dataclass(frozen=True)
class Interface:
    """How a SavedModel is called, and what it outputs.

    Attributes:
        sha256: of the SavedModel's graph and assets, which its weights are not part of.
        signature: the name of the signature to call; None where the SavedModel itself is called.
        modes: the values that its argument `training` may have; empty where it has no such argument.
        output: the key of the features where it outputs a dictionary, else None.
        features: the shape of one image's features, (d,) or (h, w, c).
        variables: name, shape, dtype and whether it trains, of each variable that it reads; those that train come first.
    """

    sha256: str
    signature: str | None
    modes: tuple[bool, ...]
    output: str | None
    features: tuple[int, ...]
    variables: tuple[tuple[str, tuple[int, ...], str, bool], ...]


class SavedModule:
    """A SavedModel in memory, and the files that it came from.

    Args:
        folder: where its `saved_model.pb` lies.
        with_weights: read its variables too; without, each of them must be assigned before it is read.

    Raises:
        BackboneError: it does more than compute, and is not trusted on this machine.
        OSError, ValueError, tf.errors.OpError: it cannot be read, or not by this TensorFlow.
    """

    def __init__(self, folder: Path, *, with_weights: bool) -> None:
        self.files = files_of(folder)
        require_safe(str(folder), self.files)
        options = tf.saved_model.LoadOptions(experimental_skip_checkpoint=not with_weights)
        self.loaded = tf.saved_model.load(str(folder), options=options)

    @property
    def sha256(self) -> str:
        """Of all files, their names included."""
        return digest(self.files)

    def call(self, interface: Interface, pixels: tf.Tensor, training: bool) -> Any:
        """The features of pixels (b, h, w, 3); only the key of a dictionary is chosen, nothing is converted."""
        if interface.signature is not None:
            function = self.loaded.signatures[interface.signature]
            (name,) = function.structured_input_signature[1]
            found = function(**{name: pixels})
        else:
            found = self.loaded(pixels, **({"training": training} if interface.modes else {}))
        return found if interface.output is None else found[interface.output]

    def trace(self, interface: Interface, training: bool, image_size: tuple[int, int]) -> Any:
        """The graph of one way to call it.

        Raises:
            TypeError, ValueError: it cannot be called so.
        """
        function = tf.function(lambda pixels: self.call(interface, pixels, training), autograph=False)
        return function.get_concrete_function(tf.TensorSpec((None, *image_size, 3), tf.float32))

    def variables(self, interface: Interface, image_size: tuple[int, int]) -> list[tuple[Any, bool]]:
        """The tf.Variables that it reads when it is called, and whether each trains; those that do come first.

        What its author left out of `trainable_variables`, where there is such a list, does not train.
        """
        read: dict[int, Any] = {}
        for mode in interface.modes or (False,):
            function = self.trace(interface, mode, image_size)
            by_handle = {id(variable.handle): variable for variable in function.graph.variables}  # in no order that lasts
            read |= {id(by_handle[id(taken)]): by_handle[id(taken)] for taken in function.captured_inputs if id(taken) in by_handle}
        authors = getattr(self.loaded, "trainable_variables", None)
        ids = {id(variable) for variable in (read.values() if authors is None else authors)}
        found = [(variable, id(variable) in ids and variable.trainable and variable.dtype.is_floating) for variable in read.values()]
        return sorted(found, key=lambda pair: not pair[1])

    @property
    def losses(self) -> list[Callable[[], Any]]:
        """What its author adds to a loss: the regularisation of its weights."""
        return list(getattr(self.loaded, "regularization_losses", None) or ())


@keras.saving.register_keras_serializable(package="tl_keras")
class HubModule(keras.layers.Layer):
    """A SavedModel as a layer: float32 images (b, h, w, 3) -> features (b, d) or (b, h, w, c), in float32.

    Whatever the precision of the layers around it, images go in as float32 and it computes as its graph was written.
    While `freeze_batchnorm` is set it is called as in inference also when it trains: its weights learn, its BatchNorm
    statistics and dropout stay still.

    Args:
        interface: how it is called; a mapping where it comes from a file.
        module: the SavedModel; None in a layer that is about to be loaded from a file.
    """

    def __init__(self, interface: Interface | Mapping[str, Any], module: SavedModule | None = None, **settings: Any) -> None:
        super().__init__(**{**settings, "dtype": "float32"})
        self.interface = interface if isinstance(interface, Interface) else _interface(interface)
        self.freeze_batchnorm = True
        self.module = module

    @property
    def has_training_mode(self) -> bool:
        """Whether it can be called so that BatchNorm learns and dropout drops."""
        return True in self.interface.modes

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Make a Keras variable for each of its own, and put its own inside where they are there already."""
        self.image_size = (int(input_shape[1]), int(input_shape[2]))
        for place, (name, shape, dtype, trains) in enumerate(self.interface.variables):
            self.add_weight(
                name=f"{name.replace('/', '.')}_{place}", shape=shape, dtype=dtype, trainable=trains, initializer="zeros", autocast=False
            )
        if self.module is not None:
            self._adopt(self.module, keep=False)

    def _adopt(self, module: SavedModule, *, keep: bool) -> None:
        """Let each Keras variable hold the SavedModel's own; `keep` the values that the Keras variables have."""
        found = module.variables(self.interface, self.image_size)
        if describe(found) != self.interface.variables:
            raise ValueError(f"layer {self.name!r}: the SavedModel does not read the variables that it was saved with.")
        self.module = module
        for mine, (theirs, _) in zip(self.weights, found, strict=True):
            if keep:
                theirs.assign(mine.value)
            mine._value = theirs  # Keras' constructor would copy it

    def call(self, pixels: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """Compute features; its regularisation is added to the loss where it trains."""
        module = self.require_module()
        trains = bool(training) and self.trainable
        if trains:
            for loss in module.losses:
                self.add_loss(loss())
        learns = trains and self.has_training_mode and not self.freeze_batchnorm
        return tf.cast(module.call(self.interface, pixels, learns), tf.float32)

    def require_module(self) -> SavedModule:
        """The SavedModel, which a layer that was made from a configuration alone does not have."""
        if self.module is None:
            raise RuntimeError(
                f"layer {self.name!r} has no SavedModel: it was made from a configuration alone. Load the whole .keras file."
            )
        return self.module

    def compute_output_spec(self, pixels: Any, training: bool | None = False) -> Any:
        """Known without the SavedModel, which a file brings last."""
        return keras.KerasTensor((pixels.shape[0], *self.interface.features), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"interface": asdict(self.interface)}

    def save_assets(self, folder: str) -> None:
        """Called by Keras: write the SavedModel without its weights."""
        for name, content in self.require_module().files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def load_assets(self, folder: str) -> None:
        """Called by Keras once the weights are loaded."""
        self._adopt(SavedModule(Path(folder), with_weights=False), keep=True)


def describe(variables: list[tuple[Any, bool]]) -> tuple[tuple[str, tuple[int, ...], str, bool], ...]:
    """What `Interface.variables` says of the variables of a SavedModel."""
    return tuple((variable.name.partition(":")[0], tuple(variable.shape), variable.dtype.name, trains) for variable, trains in variables)


def _interface(config: Mapping[str, Any]) -> Interface:
    """An interface as it comes back from JSON, which has no tuples."""
    variables = tuple((name, tuple(shape), dtype, trains) for name, shape, dtype, trains in config["variables"])
    return Interface(**{**config, "modes": tuple(config["modes"]), "features": tuple(config["features"]), "variables": variables})
