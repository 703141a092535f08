"""`python -m tl_keras.models.convert OLD NEW.keras`: a whole model of Keras 2, or in HDF5, becomes a `.keras` file of Keras 3.

For files that `--backbone` refuses with this command as its advice. Layers that only Keras 2 knows cannot be converted: the message
then says how to write a SavedModel instead.
"""

import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from tl_keras.errors import BackboneError, UserError
from tl_keras.models.file_kinds import holds_whole_model, is_of_keras_2
from tl_keras.quiet import quiet

USAGE = "usage: python -m tl_keras.models.convert OLD NEW.keras"


def convert(old: Path, new: Path) -> None:
    """Read a model of Keras 2, or in HDF5, and write it as a `.keras` file.

    Raises:
        BackboneError: `old` holds no whole model, or one that Keras 3 cannot express; `new` exists or has another ending.
    """
    if new.suffix != ".keras" or new.exists():
        raise BackboneError(f"{new}: expected the name of a new file that ends in .keras.")
    if not (is_of_keras_2(old) or holds_whole_model(old)):
        raise BackboneError(f"{old} is not a whole model of Keras 2, nor one in HDF5.")
    import keras

    from tl_keras.models.saved import write_model

    with tempfile.TemporaryDirectory() as scratch:
        file = _as_hdf5(old, Path(scratch))
        try:
            model = keras.models.load_model(file, compile=False, custom_objects={"DepthwiseConv2D": _depthwise})
        except Exception as error:  # of many kinds: whatever a layer makes of a configuration that it does not know
            folder = str(old.with_name(f"{old.stem}_saved_model"))
            raise BackboneError(
                f"{old}: Keras 3 cannot express this model ({_first_sentence(error)}). Write a SavedModel, whose folder is a --backbone: "
                f"python -c \"import tf_keras; tf_keras.models.load_model({str(old)!r}, compile=False).save({folder!r}, save_format='tf')\""
            ) from error
        write_model(new, model)


def _as_hdf5(old: Path, scratch: Path) -> Path:
    """The model as HDF5, a format that both versions read; Keras 2 writes it where `old` is an archive of its own.

    Keras goes by the ending of the name.
    """
    file = scratch / "model.h5"
    if not zipfile.is_zipfile(old):
        file.symlink_to(old.resolve())
        return file
    import tf_keras  # type: ignore[import-untyped]

    try:
        tf_keras.models.load_model(old, compile=False).save(file, save_format="h5")
    except Exception as error:  # of many kinds, as above
        raise BackboneError(f"{old} cannot be read by Keras 2 either ({_first_sentence(error)}).") from error
    return file


def _depthwise(**config: Any) -> Any:
    """Keras 2 writes down `groups`, which Keras 3 does not take."""
    import keras

    config.pop("groups", None)
    return keras.layers.DepthwiseConv2D(**config)


def _first_sentence(error: Exception) -> str:
    """What Keras says before the pages of configuration that follow."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0].partition(" using config")[0].rstrip(".")


def main(arguments: list[str]) -> int:
    """Convert, and return the exit status."""
    if len(arguments) != 2:
        print(USAGE, file=sys.stderr)
        return 2
    old, new = map(Path, arguments)
    mistake: UserError | None = None
    with quiet():
        try:
            convert(old, new)
        except UserError as error:
            mistake = error
    if mistake is not None:
        print(f"{type(mistake).__name__}: {mistake}", file=sys.stderr)
        return 2
    print(f"wrote {new}; use it as --backbone {new}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
