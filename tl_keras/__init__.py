"""Transfer learning for images on Keras 3 and TensorFlow: from a folder of labelled images to a verified classifier.

    from tl_keras import export, predict, train

    metrics = train(data="photos/", backbone="mobilenet_v2", epochs=5)
    print(metrics["test"]["accuracy"])
    for found in predict(metrics["run_dir"], "new/"):
        print(found.path, found.label, found.probability)

`check`, `train`, `rank`, `search`, `crossval` and `ensemble` make a run folder; `evaluate`, `report`, `predict`, `explain`, `export`,
`verify` and `serve` use one, and `compare` two: see `help(tl_keras.train)` for the arguments. `save_images` makes a data set of arrays.
Importing this package does not import TensorFlow; the functions do when they are called.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tl_keras.modes import FUNCTIONS

if TYPE_CHECKING:
    from tl_keras.api import *  # noqa: F403
    from tl_keras.config import Config as Config
    from tl_keras.config_file import load_config as load_config
    from tl_keras.data.sources.arrays import save_images as save_images
    from tl_keras.errors import UserError as UserError
    from tl_keras.models.backbones import BACKBONES as BACKBONES
    from tl_keras.progress import Progress as Progress

__version__ = "0.1.0"

_PUBLIC = {
    "Config": "tl_keras.config",
    "load_config": "tl_keras.config_file",
    "UserError": "tl_keras.errors",
    "Progress": "tl_keras.progress",
    "BACKBONES": "tl_keras.models.backbones",
    "save_images": "tl_keras.data.sources.arrays",
    **dict.fromkeys(FUNCTIONS, "tl_keras.api"),
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tl_keras' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
