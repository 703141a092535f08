"""Exporting a model in one of the formats, checked against the model before it is called done."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tl_keras.deploy.exported import Exported
from tl_keras.deploy.formats import FORMATS
from tl_keras.deploy.parity import Agreement, check, compare
from tl_keras.errors import ExportError
from tl_keras.partial import clear_partial
from tl_keras.run_folder import write_atomically


def export_model(exported: Exported, target: Path, files: Sequence[Path], *, kind: str) -> Agreement:
    """Write a model and prove, in a process that cannot import Keras, that what was written agrees with it.

    Args:
        target: where the file or folder goes; one that lies there is replaced once the new one is proved.
        files: images to compare on, at least one.
        kind: a key of `FORMATS`.

    Raises:
        ExportError: a package is missing; it could not be written or loaded, or differs, or takes none of the files although their kind
            is decoded; nothing is left in the target's place.
    """
    form, found = FORMATS[kind], list[Agreement]()
    missing = [name for name in form.needs if find_spec(name) is None]
    if missing:
        raise ExportError(f"{target}: needs {' and '.join(missing)}, which is not installed. Install it: pip install {' '.join(missing)}.")

    def write(temporary: Path) -> None:
        try:
            form.write(exported, temporary)
        except ExportError as error:
            raise ExportError(f"{target}: {error}.") from error
        found.append(compare(exported, form, temporary, files, name=str(target)))
        check(form, found[0].differences)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        clear_partial(target.parent)
        write_atomically(target, write)
    except OSError as error:
        raise ExportError(f"{target}: cannot be written ({error.strerror or error}).") from error
    return found[0]
