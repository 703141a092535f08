"""A classifier as OpenVINO IR: `model.xml`, the graph, and `model.bin`, its weights; what else a program has to know is in the first."""

import json
from pathlib import Path

from tl_keras.deploy.exported import PIXELS, Exported
from tl_keras.errors import ExportError
from tl_keras.models.engines import ConversionError, read_graph

GRAPH = "model.xml"
DESCRIPTION = "tl_keras"  # its key in rt_info


def write_openvino(exported: Exported, folder: Path) -> None:
    """Write a folder.

    Raises:
        ExportError: OpenVINO is not there, or does not take the graph.
    """
    try:
        model = read_graph(exported.frozen)
    except ConversionError as error:
        raise ExportError(f"OpenVINO does not take this network ({error})") from error
    import openvino

    for tensor in (*model.inputs, *model.outputs):
        own = [name for name in (PIXELS, *exported.output_names) if f"{name}:0" in tensor.get_names()]
        tensor.get_tensor().set_names(set(own))
    model.set_rt_info(json.dumps(exported.description), DESCRIPTION)
    folder.mkdir()
    openvino.save_model(model, folder / GRAPH, compress_to_fp16=False)
