"""The table of export formats: plain text, for the command line and the docs. How each is written and read is in `deploy.formats`."""

from dataclasses import dataclass

SAVED_MODEL, KERAS, ONNX, OPENVINO = "saved_model", "keras", "onnx", "openvino"
LITERT, LITERT_FLOAT16, LITERT_DYNAMIC, LITERT_INT8 = "litert", "litert_float16", "litert_dynamic", "litert_int8"


@dataclass(frozen=True)
class ExportFormat:
    """A format.

    Attributes:
        file: the name of its file or folder in `export/` of a run.
        help: what it is.
        needs: the packages, as pip calls them, that take part in an export of it, besides those that this package needs itself.
    """

    file: str
    help: str
    needs: tuple[str, ...] = ()


_LITERT = ("ai-edge-litert",)

EXPORT_FORMATS = {
    SAVED_MODEL: ExportFormat("saved_model", "a SavedModel, for TensorFlow and TensorFlow Serving; decodes and resizes files itself"),
    KERAS: ExportFormat("model.keras", "a Keras model that tells probabilities; loads without this package"),
    LITERT: ExportFormat("model.tflite", "LiteRT (TensorFlow Lite) for phones and small computers, float32", _LITERT),
    LITERT_FLOAT16: ExportFormat("model_float16.tflite", "LiteRT with weights in float16: half the size", _LITERT),
    LITERT_DYNAMIC: ExportFormat("model_dynamic.tflite", "LiteRT with weights in int8, computed on in float32 or int8", _LITERT),
    LITERT_INT8: ExportFormat(
        "model_int8.tflite", "LiteRT with weights and activations in int8, whose ranges are those of training images", _LITERT
    ),
    ONNX: ExportFormat("model.onnx", "ONNX, for onnxruntime and what else reads it, float32", ("tf2onnx", "onnx", "onnxruntime")),
    OPENVINO: ExportFormat("openvino", "OpenVINO IR, for processors and graphics of Intel, float32"),
}
FORMAT_NAMES = tuple(EXPORT_FORMATS)  # the first is the default
