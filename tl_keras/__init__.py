"""Transfer learning for images on Keras 3 and TensorFlow: from a folder of labelled images to a verified classifier.

Importing this package does not import TensorFlow; the functions below do when they are first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Config": "tl_keras.config",
    "load_config": "tl_keras.config_file",
    "UserError": "tl_keras.errors",
    "BACKBONES": "tl_keras.models.backbones",
    "train": "tl_keras.workflows",
    "rank": "tl_keras.workflows",
    "search": "tl_keras.workflows",
    "crossval": "tl_keras.workflows",
    "ensemble": "tl_keras.workflows",
    "evaluate": "tl_keras.workflows",
    "predict": "tl_keras.workflows",
    "export": "tl_keras.workflows",
}

__all__ = [
    "BACKBONES",
    "Config",
    "UserError",
    "__version__",
    "crossval",
    "ensemble",
    "evaluate",
    "export",
    "load_config",
    "predict",
    "rank",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tl_keras' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
