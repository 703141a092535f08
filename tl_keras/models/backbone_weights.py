"""Weights files: where they lie, whether they fit, and loading all of them or none.

Knows the three forms in which Keras keeps weights: `.h5` of Keras 2 and `keras.applications`, `.weights.h5`, and the
`.keras` archive. A file saved with a classifier on top fits a backbone of the same architecture. Knows nothing of
preprocessing and stages; `backbone_loading` hands in the finished graph.
"""

import io
import os
import socket
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from math import prod
from pathlib import Path
from typing import Any, TextIO

import h5py
import keras
import numpy as np

from tl_keras.errors import BackboneError, first_line
from tl_keras.models.backbone_kinds import imported
from tl_keras.models.backbones import Backbone

DOWNLOAD_TIMEOUT_S = 10.0  # without an answer from the server
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)  # of RGB in [0, 1]
WEIGHTS = ("pretrained", "imagenet", "none")  # values of `model.weights` that are not paths


def find_weights(name: str, row: Backbone | None, weights: str | None) -> Path | None:
    """Find the file that `model.weights` asks for, before anything is built.

    Args:
        name: The backbone, for messages.
        row: Its row of the table, or None for a backbone from a file, which has no published weights.
        weights: "pretrained", "imagenet", "none" (the random ones) or the path of a weights file; None for any, as they
            are about to be replaced.

    Raises:
        BackboneError: There is no such file, it does not hold weights, or the download failed.
    """
    if weights in (None, "none"):
        return None
    if weights not in WEIGHTS:
        return _weights_file(Path(weights).expanduser())
    if row is None or weights == "imagenet" != row.source_task:
        task = "no published weights" if row is None else f"weights trained on {row.source_task}, none on ImageNet"
        raise BackboneError(f"model.weights={weights!r}: backbone {name!r} has {task}. Expected 'pretrained', 'none' or a file.")
    return _weights_file(published_weights_file(row))


def load_weights(model: keras.Model, row: Backbone | None, path: Path) -> None:
    """Load a weights file, or a whole model's file with weights in it, into a backbone of the same architecture.

    Args:
        model: A flat functional backbone, newly built; after an error its weights are undefined.
        row: Its row of the table, if it was built from there.
        path: What `find_weights` found.

    Raises:
        BackboneError: `path` is damaged or holds the weights of another architecture.
    """
    try:
        if zipfile.is_zipfile(path):
            _load_archive(model, path)
        else:
            _load_hdf5(model, path)
    except _MisfitError as error:
        if not _is_nested(path):
            raise
        whole = f"Use --backbone {path} instead, or save" if zipfile.is_zipfile(path) else "Save"
        raise BackboneError(
            f"the weights file {path} does not fit backbone {model.name!r}: it is of a model that has its network as one layer. "
            f"{whole} the weights of that layer alone: model.get_layer(NAME).save_weights('inner.weights.h5')."
        ) from error
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BackboneError(f"{path} is damaged or holds no weights of Keras: {first_line(error)}.") from error
    if row is not None:
        _square_published_deviation(model)
    settle_normalization(model)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give a model the weights of another one with the same layers."""
    target.set_weights(source.get_weights())
    settle_normalization(target)


def published_weights_file(row: Backbone) -> Path:
    """Find the file of a row's published weights, in the package or in KERAS_HOME, or download it to KERAS_HOME.

    Raises:
        BackboneError: It is not there and did not come within seconds.
    """
    path = _published_path(row)
    if not path.is_file():
        _download(row, path)
    return path


def has_weights(row: Backbone) -> bool:
    """Whether the published weights of a row lie on this machine."""
    return _published_path(row).is_file()


def _published_path(row: Backbone) -> Path:
    if row.builder.startswith("tl_keras."):
        return Path(__file__).with_name("bundled") / row.weights_file
    return _keras_home() / "models" / row.weights_file


def import_builder(row: Backbone) -> Any:
    """Import the function that builds a row's network."""
    return imported(row.builder)


def _keras_home() -> Path:
    # The rule of Keras, which keeps its own answer private.
    home = Path.home() if os.access(Path.home(), os.W_OK) else Path(tempfile.gettempdir())
    return Path(os.environ.get("KERAS_HOME", home / ".keras")).expanduser()


def _download(row: Backbone, path: Path) -> None:
    """Let `keras.applications` fetch the file, as it alone knows the address and the hash."""
    shown = _FromSecondLine(sys.stderr)
    try:
        with socket_timeout(DOWNLOAD_TIMEOUT_S), redirect_stdout(shown):
            shape = (row.image_size, row.image_size, 3)
            import_builder(row)(include_top=False, weights="imagenet", input_shape=shape, **row.arguments)
        shown.release()
    except Exception as error:  # Keras raises bare Exceptions here
        raise BackboneError(
            f"the weights of backbone {row.name!r} are not on this machine and did not download "
            f"({first_line(error)}). Put the file {row.weights_file} into {path.parent}, or give a weights file with "
            f"--set model.weights=PATH, or use --backbone small_resnet, which ships with this package."
        ) from error


class _FromSecondLine(io.TextIOBase):
    """Passes text on once there is more than one line: Keras names the address before it knows that nobody answers."""

    def __init__(self, target: TextIO) -> None:
        self.target, self.held, self.released = target, "", False

    def write(self, text: str) -> int:
        self.held += text
        if self.released or self.held.partition("\n")[2]:
            self.release()
        return len(text)

    def release(self) -> None:
        """Pass on what is held, and from now on everything."""
        self.target.write(self.held)
        self.held, self.released = "", True

    def flush(self) -> None:
        self.target.flush()


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Let connections that are opened meanwhile give up after some seconds without an answer."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


def _weights_file(path: Path) -> Path:
    if not path.exists():
        raise BackboneError(
            f"model.weights: there is no file {path}. Expected 'pretrained', 'imagenet', 'none' or the path of a "
            f".h5, .weights.h5 or .keras file."
        )
    if not (h5py.is_hdf5(path) or zipfile.is_zipfile(path)):
        raise BackboneError(f"{path} is not a weights file, or is cut short. Expected a .h5, .weights.h5 or .keras file.")
    return path


def _load_archive(model: keras.Model, path: Path) -> None:
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member, "r") as file:
        _check_kernels(model, file, path)
    _load_by_path(model, path)


def _load_hdf5(model: keras.Model, path: Path) -> None:
    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        if "layer_names" in group.attrs or "layer_names0" in group.attrs:
            _load_by_order(model, group, path)
            return
        if not path.name.endswith(".weights.h5"):
            raise BackboneError(f"{path} has the form of a .weights.h5 file: rename it, for Keras looks at the name.")
        _check_kernels(model, file, path)
    _load_by_path(model, path)


def _load_by_order(model: keras.Model, group: Any, path: Path) -> None:
    """Load Keras 2's form: a list of layers in the order of the graph; their names mean nothing."""
    layers = [layer for layer in model.layers if layer.weights]
    saved = [tensors for name in _names(group, "layer_names") if (tensors := _tensors(group[name]))]
    head = saved[len(layers) :]
    if len(saved) < len(layers) or any(_is_kernel(tensor.shape) for tensors in head for tensor in tensors):
        raise _misfit(model, path, f"it holds {len(saved)} layers with weights, {len(layers)} are expected")
    for layer, tensors in zip(layers, saved, strict=False):
        expected = [tuple(variable.shape) for variable in _variables(layer)]
        found = [tensor.shape for tensor in tensors]
        if expected != found:
            raise _misfit(model, path, f"layer {layer.name!r} expects the shapes {expected}, the file has {found}")
    for layer, tensors in zip(layers, saved, strict=False):
        for variable, tensor in zip(_variables(layer), tensors, strict=True):
            variable.assign(tensor)


def _variables(layer: Any) -> list[Any]:
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _names(group: Any, attribute: str) -> list[str]:
    """Read a list of names; HDF5 limits an attribute to 64 KB, so Keras may have cut it into numbered pieces."""
    pieces = [attribute] if attribute in group.attrs else []
    while (piece := f"{attribute}{len(pieces)}") in group.attrs:
        pieces.append(piece)
    return [n.decode() if isinstance(n, bytes) else n for piece in pieces for n in group.attrs[piece]]


def _tensors(group: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(group[name]) for name in _names(group, "weight_names")]


def _load_by_path(model: keras.Model, path: Path) -> None:
    """Load Keras 3's form: a tree by class and number of each layer; Keras refuses a layer of another shape."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # "layers will retain their freshly-initialized weights"
            model.load_weights(path)
    except (ValueError, UserWarning) as error:
        raise _misfit(model, path, first_line(error)) from error


def _check_kernels(model: keras.Model, file: h5py.File, path: Path) -> None:
    """Refuse a deeper network whose first layers happen to fit: Keras ignores what is left over in a file.

    A classifier on top is left over too, but has no kernel of more than one pixel.
    """
    shapes: list[tuple[int, ...]] = []

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            shapes.append(item.shape)

    file.visititems(collect)
    expected = [tuple(variable.shape) for variable in model.weights]
    theirs, ours = (Counter(filter(_is_kernel, either)) for either in (shapes, expected))
    if theirs != ours:
        raise _misfit(
            model,
            path,
            f"it holds {len(shapes)} weight tensors, {len(expected)} are expected; a kernel of the file alone is "
            f"{next(iter(theirs - ours), None)}, one of the backbone alone {next(iter(ours - theirs), None)}",
        )


def _is_nested(path: Path) -> bool:
    """Whether most kernels of a file lie in one layer, which is a model itself; a block of a network has fewer."""
    with ExitStack() as stack:
        source: Any = path
        if zipfile.is_zipfile(path):
            source = stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open("model.weights.h5"))
        file = stack.enter_context(h5py.File(source, "r"))
        layers = file.get("layers", file.get("model_weights", file))
        kernels = [_count_kernels(layer) for layer in layers.values()]
    return max(kernels, default=0) > max(1, sum(kernels) / 2)


def _count_kernels(group: Any) -> int:
    found: list[str] = []

    def count(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and _is_kernel(item.shape):
            found.append(name)

    if isinstance(group, h5py.Group):
        group.visititems(count)
    return len(found)


def _is_kernel(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 4 and prod(shape[:-2]) > 1


class _MisfitError(BackboneError):
    """A file with the weights of another architecture."""


def _misfit(model: keras.Model, path: Path, why: str) -> _MisfitError:
    return _MisfitError(f"the weights file {path} does not fit backbone {model.name!r}: {why}.")


def _square_published_deviation(model: keras.Model) -> None:
    """Mend the variance of EfficientNet's published files, which hold ImageNet's deviation in its place.

    `keras.applications` makes up for it with one more Rescaling, but only for weights="imagenet": a model that
    loads the same file by its path computes something else (tensorflow/tensorflow#49930).
    """
    for layer in _normalizations(model):
        _, variance, _ = layer.weights
        if np.allclose(variance, IMAGENET_DEVIATION, atol=1e-3):
            variance.assign(np.square(IMAGENET_DEVIATION))


def settle_normalization(model: keras.Model) -> None:
    """Make Normalization use its weights: it keeps a copy of them from the time when it was built or loaded."""
    for layer in _normalizations(model):
        layer.finalize_state()


def _normalizations(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization) and layer.weights]
