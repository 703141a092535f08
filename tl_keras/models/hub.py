"""Backbones from TF-Hub: a SavedModel in a folder or at an address becomes a layer, or one line says why it cannot.

Owns what can be wrong with such a module: where it lies, what it takes and what it outputs. `hub_layer` calls it,
`backbone_loading` puts the preprocessing in front. Where its graph does not tell, a module of TF-Hub wants RGB in [0, 1], which is
TF-Hub's common signature for images (https://www.tensorflow.org/hub/common_signatures/images).
"""

import warnings
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import tensorflow as tf

from tl_keras.errors import BackboneError, first_line
from tl_keras.models.backbone_kinds import ADDRESSES, SAVED_MODEL
from tl_keras.models.backbone_weights import DOWNLOAD_TIMEOUT_S, socket_timeout
from tl_keras.models.hub_layer import HubModule, Interface, SavedModule, describe

IMAGE_SIZE = 224  # of a module that takes images of any size
HUB_PREPROCESSING = "zero_to_one"
SIGNATURES = ("default", "serving_default")  # of TF-Hub before TensorFlow 2, and of TensorFlow
_WRONG = (OSError, LookupError, TypeError, ValueError, RuntimeError, AttributeError, tf.errors.OpError)  # of bad files


def module_image_size(backbone: str) -> int:
    """Read the height of the images that a module takes; `IMAGE_SIZE` where it takes any."""
    folder = _folder(backbone)
    size = _fixed_image_size(folder, (folder / SAVED_MODEL).stat().st_mtime_ns)
    return IMAGE_SIZE if size is None else size[0]


def read_module(backbone: str, image_size: tuple[int, int]) -> HubModule:
    """Read a module as a layer.

    Args:
        backbone: a folder, or an address of tfhub.dev or Kaggle, which `tensorflow_hub` fetches once and keeps under
            TFHUB_CACHE_DIR.
        image_size: height and width of the images in pixels.

    Raises:
        BackboneError: it is not there and does not come, is damaged, or does not turn one batch of RGB images of this
            size into one batch of features.
    """
    folder = _folder(backbone)
    module = _open(folder, with_weights=True)
    entry, fixed = _entry(folder, module)
    if fixed not in (None, image_size):
        raise BackboneError(
            f"image_size={tuple(image_size)}: module {folder} takes images of {fixed} only. Set data.image_size=[{fixed[0]}, {fixed[1]}]."
        )
    return HubModule(_interface(folder, module, entry, image_size), module, name="hub_module")


def is_written_by_keras(backbone: str, module: HubModule) -> bool:
    """Whether a folder holds what `model.export` of Keras 3 or `model.save` of Keras 2 wrote; TF-Hub's, which may too, have an address."""
    loaded = module.require_module().loaded
    of_keras_2, of_keras_3 = hasattr(loaded, "keras_api"), hasattr(loaded, "serve") and hasattr(loaded, "non_trainable_variables")
    return not backbone.startswith(ADDRESSES) and (of_keras_2 or of_keras_3)


def _folder(backbone: str) -> Path:
    if not backbone.startswith(ADDRESSES):
        return Path(backbone).expanduser()
    try:
        with warnings.catch_warnings(), socket_timeout(DOWNLOAD_TIMEOUT_S):
            warnings.simplefilter("ignore")  # of pkg_resources, which it imports
            import tensorflow_hub  # only for an address: what lies in a folder needs it not

            folder = Path(tensorflow_hub.resolve(backbone))
    except _WRONG as error:
        raise BackboneError(
            f"the module {backbone} is not on this machine and did not download ({first_line(error)}). Where there is a "
            f"network, download it, and give its folder as --backbone; or set TFHUB_CACHE_DIR to a cache that has it."
        ) from error
    if not (folder / SAVED_MODEL).is_file():
        raise _unusable(folder, f"it holds no {SAVED_MODEL}; it is what came from {backbone}")
    return folder


def _open(folder: Path, *, with_weights: bool) -> SavedModule:
    try:
        return SavedModule(folder, with_weights=with_weights)
    except _WRONG as error:
        raise _unusable(folder, f"it does not load as a SavedModel ({first_line(error)})") from error


@lru_cache(maxsize=8)
def _fixed_image_size(folder: Path, _changed: int) -> tuple[int, int] | None:
    """What `_entry` says of a module's image size, read once while its file stays as it is."""
    return _entry(folder, _open(folder, with_weights=False))[1]


def _entry(folder: Path, module: SavedModule) -> tuple[str | None, tuple[int, int] | None]:
    """Find what of a SavedModel takes images.

    Returns:
        The name of a signature, or None where the SavedModel itself is called; and the only image size that it takes,
        or None where it takes any.
    """
    loaded = module.loaded
    functions: dict[str | None, list[Any]] = {}
    if callable(loaded):
        functions[None] = list(getattr(loaded.__call__, "concrete_functions", ()))
    functions |= {name: [loaded.signatures[name]] for name in SIGNATURES if name in getattr(loaded, "signatures", {})}
    refused = []
    for entry, ways in functions.items():
        taken = [_tensors(way) for way in ways]
        images = [specs[0] for specs in taken if _takes_images(specs)]
        if images:
            sizes = {tuple(spec.shape[1:3]) for spec in images if spec.shape.rank}
            free = len(sizes) != 1 or None in next(iter(sizes))
            return entry, None if free else next(iter(sizes))
        refused += taken
    if not refused:
        raise _unusable(folder, f"it cannot be called and has no signature {' or '.join(map(repr, SIGNATURES))}")
    inputs = ", ".join(f"{spec.dtype.name} {spec.shape}" for spec in refused[0]) or "nothing"
    raise _unusable(folder, f"it takes {inputs}, not one batch of images, float32 (None, height, width, 3)")


def _tensors(function: Any) -> list[Any]:
    """The tensors that a function takes, without the flag for training."""
    specs = [spec for spec in tf.nest.flatten(function.structured_input_signature) if isinstance(spec, tf.TensorSpec)]
    return [spec for spec in specs if spec.dtype != tf.bool]


def _takes_images(specs: list[Any]) -> bool:
    if len(specs) != 1 or specs[0].dtype != tf.float32:
        return False
    shape = specs[0].shape
    return shape.rank is None or (shape.rank == 4 and shape[0] is None and shape[3] in (None, 3))


def _interface(folder: Path, module: SavedModule, signature: str | None, image_size: tuple[int, int]) -> Interface:
    """Try how a module is called, and call it once."""
    interface = Interface(module.sha256, signature, (), None, (), ())
    if signature is not None:
        _check_variables(folder, module.loaded.signatures[signature])
    else:
        modes = tuple(mode for mode in (False, True) if _traces(module, replace(interface, modes=(mode,)), mode, image_size))
        interface = replace(interface, modes=modes if False in modes else ())
    try:
        found = module.call(interface, tf.zeros((1, *image_size, 3)), False)
    except _WRONG as error:
        raise _unusable(folder, f"images of {tuple(image_size)} fail in it ({first_line(error)})") from error
    interface = replace(interface, output=_output(folder, found))
    features = found if interface.output is None else found[interface.output]
    if features.shape.rank not in (2, 4) or not features.dtype.is_floating:
        raise _unusable(
            folder, f"it outputs {features.dtype.name} {features.shape} for one image, neither features (1, d) nor (1, h, w, c)"
        )
    return replace(interface, features=tuple(features.shape[1:]), variables=describe(module.variables(interface, image_size)))


def _check_variables(folder: Path, function: Any) -> None:
    """Refuse variables that neither a layer nor a file of Keras can hold, as weights would be lost without a word."""
    if any(operation.type in ("Variable", "VariableV2") for operation in function.graph.get_operations()):
        raise _unusable(folder, "it has reference variables of TensorFlow 1; write it again after tf.compat.v1.enable_resource_variables()")


def _traces(module: SavedModule, interface: Interface, training: bool, image_size: tuple[int, int]) -> bool:
    try:
        module.trace(interface, training, image_size)
    except (TypeError, ValueError):
        return False
    return True


def _output(folder: Path, found: Any) -> str | None:
    """Choose among outputs: TF-Hub calls the features 'default'."""
    if tf.is_tensor(found):
        return None
    if isinstance(found, dict) and (len(found) == 1 or "default" in found):
        return "default" if "default" in found else str(next(iter(found)))
    names = ", ".join(sorted(found)) if isinstance(found, dict) else f"{len(found)} of them"
    raise _unusable(folder, f"it has no output 'default' among several ({names})")


def _unusable(folder: Path, why: str) -> BackboneError:
    return BackboneError(f"module {folder} cannot be a backbone: {why}.")
