"""The Open Inference Protocol, version 2, over HTTP: tensors in JSON, or behind it as bytes, and answers as tensors in JSON.

Source: https://github.com/kserve/open-inference-protocol and, for tensors as bytes, Triton's extension of it `binary_tensor_data`.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from tl_keras.data.ahead import Image
from tl_keras.data.label_texts import COLUMNS, SEPARATOR
from tl_keras.deploy.predictor import Prediction
from tl_keras.deploy.serve.bodies import files_of, json_of, require_number
from tl_keras.tasks import REGRESSION, SINGLE_LABEL

PIXELS, IMAGE = "pixels", "image"
NUMBERS: dict[Any, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}  # what pixels may be, RGB from 0 to 255
EXTENSIONS = ["binary_tensor_data"]


class Inference(NamedTuple):
    """A request: the images, the names of the outputs that it wants (none: all), and its `id`."""

    images: list[Image]
    outputs: list[str]
    id: str | None


def inference_in(body: bytes, json_bytes: str | None) -> Inference:
    """What a body of `POST /v2/models/NAME/infer` asks.

    Args:
        json_bytes: the header Inference-Header-Content-Length: how many bytes of the body are JSON; what follows are tensors.

    Raises:
        HTTPException: 400, the request is not of the protocol, or its tensors are not those that the model takes; 413, too many images.
    """
    if json_bytes is not None and not (json_bytes.isascii() and json_bytes.isdigit() and int(json_bytes) <= len(body)):
        raise HTTPException(400, f"Inference-Header-Content-Length: got '{json_bytes}', of a body of {len(body)} bytes.")
    head = len(body) if json_bytes is None else int(json_bytes)
    given = json_of(body[:head])
    tensors = given.get("inputs") if isinstance(given, dict) else None
    if not isinstance(tensors, list) or len(tensors) != 1 or not isinstance(tensors[0], dict):
        raise HTTPException(400, f"inputs: expected one tensor, '{PIXELS}' or '{IMAGE}'.")
    wanted, asked_as = given.get("outputs", []), given.get("id")
    if not isinstance(wanted, list) or not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in wanted):
        raise HTTPException(400, 'outputs: expected a list such as [{"name": "class"}].')
    if not isinstance(asked_as, str | None):
        raise HTTPException(400, "id: expected a text.")
    return Inference(_images(tensors[0], body[head:]), [each["name"] for each in wanted], asked_as)


def _images(tensor: Mapping[str, Any], tail: bytes) -> list[Image]:
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if name not in (PIXELS, IMAGE):
        raise HTTPException(400, f"inputs: got a tensor {name!r}, expected '{PIXELS}' or '{IMAGE}'.")
    if not isinstance(shape, list) or not all(type(each) is int and each > 0 for each in shape):
        raise HTTPException(400, f"{name}: got the shape {shape!r}, expected a list of integers above 0.")
    raw = _raw(name, tensor, tail)
    if name == IMAGE:
        if datatype != "BYTES" or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
            raise HTTPException(400, f"{IMAGE}: got {datatype!r} of the shape {shape}, expected BYTES of the shape [n] or [n, 1].")
        require_number(shape[0])
        return list(_counted(_split(raw) if raw is not None else files_of(_flat(tensor), f"{IMAGE}.data"), shape))
    if not isinstance(datatype, str) or datatype not in NUMBERS or len(shape) != 4 or shape[3] != 3:
        raise HTTPException(400, f"{PIXELS}: got {datatype!r} of the shape {shape}, expected UINT8 or FP32 of the shape [n, h, w, 3].")
    require_number(shape[0])
    return list(_pixels(NUMBERS[datatype], tensor, raw, shape))


def _raw(name: str, tensor: Mapping[str, Any], tail: bytes) -> bytes | None:
    """The bytes of a tensor that come behind the JSON; None where its numbers are in the JSON."""
    parameters = tensor.get("parameters", {})
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None and not tail:
        return None
    if size != len(tail):
        raise HTTPException(400, f"{name}: got binary_data_size={size!r} and {len(tail)} bytes behind the JSON, expected the same number.")
    return tail


def _flat(tensor: Mapping[str, Any]) -> list[Any]:
    """The `data` of a tensor as one list, of which the protocol allows lists of lists."""
    found = tensor.get("data")
    while isinstance(found, list) and found and isinstance(found[0], list):
        if not all(isinstance(each, list) for each in found):
            break
        found = [item for each in found for item in each]
    if not isinstance(found, list):
        raise HTTPException(400, f"{tensor['name']}: expected a list 'data'.")
    return found


def _counted(files: Sequence[bytes], shape: Sequence[int]) -> Sequence[bytes]:
    if len(files) != shape[0]:
        raise HTTPException(400, f"{IMAGE}: got {len(files)} files, expected as many as its shape {shape} says.")
    return files


def _split(raw: bytes) -> list[bytes]:
    """Files that follow each other, each behind its length as a little-endian uint32."""
    found, at = [], 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if end > len(raw) or len(raw) - at < 4:
            raise HTTPException(400, f"{IMAGE}: its bytes end within a file.")
        found.append(raw[at + 4 : end])
        at = end
    return found


def _pixels(dtype: np.dtype[Any], tensor: Mapping[str, Any], raw: bytes | None, shape: Sequence[int]) -> NDArray[np.uint8]:
    """uint8 (n, h, w, 3), rounded."""
    number = prod(shape)
    if raw is not None:
        if len(raw) != number * dtype.itemsize:
            raise HTTPException(400, f"{PIXELS}: got {len(raw)} bytes, expected {number * dtype.itemsize} for the shape {shape}.")
        values: NDArray[Any] = np.frombuffer(raw, dtype)
    else:
        try:
            values = np.asarray(_flat(tensor), np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise HTTPException(400, f"{PIXELS}: its data is not a list of numbers.") from error
        if values.shape != (number,):
            raise HTTPException(400, f"{PIXELS}: got {values.size} numbers, expected {number} for the shape {shape}.")
    if not (values >= 0).all() or not (values <= 255).all():  # which holds for nothing that is not a number
        raise HTTPException(400, f"{PIXELS}: expected numbers from 0 to 255.")
    return values.round().astype(np.uint8).reshape(shape)


def inputs() -> list[dict[str, Any]]:
    """What the model takes, as the metadata says it; -1 is any size."""
    return [
        {"name": PIXELS, "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
        {"name": IMAGE, "datatype": "BYTES", "shape": [-1]},
    ]


def outputs(task: str, num_classes: int, *, has_novelty: bool, has_sets: bool) -> list[dict[str, Any]]:
    """What the model answers, likewise."""
    told = [{"name": COLUMNS[task], "datatype": "FP64" if task == REGRESSION else "BYTES", "shape": [-1]}]
    if task == SINGLE_LABEL:
        told.append({"name": "probability", "datatype": "FP64", "shape": [-1]})
    if task != REGRESSION:
        told.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, num_classes]})
    if has_novelty:
        told += [{"name": "novelty", "datatype": "FP64", "shape": [-1]}, {"name": "known", "datatype": "BOOL", "shape": [-1]}]
    if has_sets:
        told.append({"name": "prediction_set", "datatype": "BYTES", "shape": [-1]})
    return told


def answer(found: Sequence[Prediction], described: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Predictions as the tensors that a request wants.

    Args:
        described: see `outputs`.
        wanted: their names; none for all.

    Raises:
        HTTPException: 400, there is no such output.
    """
    known = [each["name"] for each in described]
    for name in wanted:
        if name not in known:
            raise HTTPException(400, f"outputs: got '{name}', expected some of {', '.join(known)}.")
    return [
        {**each, "shape": [len(found), *each["shape"][1:]], "data": [item for one in found for item in _values(one, each["name"])]}
        for each in described
        if not wanted or each["name"] in wanted
    ]


def _values(found: Prediction, name: str) -> list[Any]:
    """What an output says of one image, flat."""
    if name == COLUMNS[found.task]:
        return [found.value if found.task == REGRESSION else found.label]
    if name == "probabilities":
        return list(found.probabilities.values())
    if name == "prediction_set":
        return [SEPARATOR.join(found.prediction_set or ())]
    return [getattr(found, name)]
