"""A classifier as a `.keras` file that Keras alone loads: pixels in, named answers out, where a run's own model.keras tells logits."""

from pathlib import Path

from tl_keras.deploy.exported import Exported
from tl_keras.errors import ExportError
from tl_keras.models.saved import write_model

PACKAGE = "keras"


def write_keras(exported: Exported, file: Path) -> None:
    """Write a file.

    Raises:
        ExportError: a layer is of another package than Keras.
    """
    for layer in exported.named._flatten_layers():
        package = type(layer).__module__.partition(".")[0]
        if package != PACKAGE:
            raise ExportError(f"its layer '{layer.name}' is of {package}, without which Keras does not load it; take saved_model")
    write_model(file, exported.named)
