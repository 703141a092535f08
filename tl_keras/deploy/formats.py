"""How each export format is written, read without this package, and how closely it must agree with the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tl_keras.deploy import litert, standalone_reader
from tl_keras.deploy.described import describe
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.keras_file import write_keras
from tl_keras.deploy.onnx_file import write_onnx
from tl_keras.deploy.openvino_folder import write_openvino
from tl_keras.deploy.saved_model import write_saved_model
from tl_keras.export_formats import KERAS, LITERT, LITERT_DYNAMIC, LITERT_FLOAT16, LITERT_INT8, ONNX, OPENVINO, SAVED_MODEL

FLOAT = "float"  # the signature that takes float32 pixels at the size of the model, which every format has


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format of exported models.

    Attributes:
        write: writes a model to a path that does not exist; raises ExportError, its text without the path.
        describe: puts `Exported.description` into what was written; None where `write` does.
        answer: the function of `standalone_reader` that opens what was written, in a process that cannot import Keras.
        needs: the modules that reading it takes.
        allowance: each signature -> how many times `export.max_probability_difference` an answer may differ from the model's; None where
            numbers are rounded, and only the answers count. Every signature takes pixels but 'bytes', which takes files.
        is_calibrated: whether writing it takes images.
    """

    write: Callable[[Exported, Path], None]
    answer: Callable[[str], standalone_reader.Signatures]
    needs: tuple[str, ...]
    allowance: Mapping[str, float | None]
    is_calibrated: bool = False
    describe: Callable[[Exported, Path], None] | None = None

    @property
    def rounds(self) -> bool:
        """Whether numbers are rounded."""
        return None in self.allowance.values()

    @property
    def runtime(self) -> tuple[str, ...]:
        """What pip calls the packages that reading it takes."""
        return tuple(name.replace("_", "-") for name in self.needs)


def _litert(settings: litert.Settings, allowance: float | None, *, is_calibrated: bool = False) -> Format:
    return Format(
        write=partial(litert.write_litert, settings),
        answer=standalone_reader.open_litert,
        needs=("ai_edge_litert",),
        allowance={FLOAT: allowance},
        is_calibrated=is_calibrated,
        describe=describe,
    )


FORMATS: dict[str, Format] = {
    SAVED_MODEL: Format(
        write=write_saved_model,
        answer=standalone_reader.open_saved_model,
        needs=("tensorflow",),
        allowance={FLOAT: 1, "uint8": 1, "bytes": 10},  # two decoders of JPEG differ by a step of grey here and there
    ),
    KERAS: Format(
        write=write_keras, answer=standalone_reader.open_keras, needs=("tensorflow", "keras"), allowance={FLOAT: 1}, describe=describe
    ),
    LITERT: _litert(litert.plain, 1),
    LITERT_FLOAT16: _litert(litert.float16, None),
    LITERT_DYNAMIC: _litert(litert.dynamic, None),
    LITERT_INT8: _litert(litert.int8, None, is_calibrated=True),
    ONNX: Format(write=write_onnx, answer=standalone_reader.open_onnx, needs=("onnxruntime",), allowance={FLOAT: 1}),
    OPENVINO: Format(write=write_openvino, answer=standalone_reader.open_openvino, needs=("openvino",), allowance={FLOAT: 1}),
}
