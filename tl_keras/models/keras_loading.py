"""A `.keras` file from anywhere, loaded so that nothing of its author's runs: in Keras' safe mode, its SavedModels looked at before.

What a file may be is for its callers: a backbone, or a run's model.
"""

import zipfile
from pathlib import Path

import keras

from tl_keras.models import hub_layer  # noqa: F401  registers the layer that holds SavedModels
from tl_keras.models.trust import graphs_in, require_safe

_REFUSED_BY_KERAS = "disallowed by default"  # in its errors for what its safe mode refuses
BROKEN = (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, zipfile.BadZipFile)  # of bad files


def load_keras_file(path: Path) -> keras.Model:
    """Load a model without its optimiser.

    Raises:
        BackboneError: a layer of it is a SavedModel that does more than compute.
        one of `BROKEN`: it is not a complete `.keras` file, or Keras refuses it; see `code_in`.
    """
    for files in graphs_in(path):
        require_safe(str(path), files)
    return keras.models.load_model(path, compile=False, safe_mode=True)


def code_in(error: BaseException | None) -> str | None:
    """What of its author's code Keras' safe mode has refused to run; None where the error is another one."""
    while error is not None:
        if _REFUSED_BY_KERAS in str(error):
            kind = next((kind for kind in ("Lambda", "TFSMLayer", "vocabulary") if kind in str(error)), "layer")
            what = {"Lambda": "a Lambda layer, which is Python code of its author", "TFSMLayer": "a TFSMLayer, which loads other files",
                    "vocabulary": "a layer that reads other files"}  # fmt: skip
            return f"it holds {what.get(kind, 'code of its author')}, and would run on this machine. Save it without that layer"
        error = error.__cause__ or error.__context__
    return None
