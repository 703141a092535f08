"""The folder for what is computed, unpacked or downloaded once and of use to every later run on this machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`TL_KERAS_CACHE`, or ~/.cache/tl_keras."""
    return Path(os.environ.get("TL_KERAS_CACHE") or "~/.cache/tl_keras").expanduser()
