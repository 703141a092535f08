"""What runs a network whose weights no longer change: a function from pixels to outputs, compiled by one of a few engines.

OpenVINO runs the same graph of constants on a CPU about twice as fast as TensorFlow's own kernels, with numbers that agree to 1e-5, and
several times as fast where the processor multiplies bfloat16. It takes no part in training, and not every graph converts.
"""

import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.models.folded import fold, freeze
from tl_keras.runtime import threads_in_force

TENSORFLOW, OPENVINO, OPENVINO_BFLOAT16 = "tensorflow", "openvino", "openvino_bfloat16"
ENGINES = (TENSORFLOW, OPENVINO, OPENVINO_BFLOAT16)
PRECISIONS = {OPENVINO: "f32", OPENVINO_BFLOAT16: "bf16"}  # of arithmetic; weights and outputs are float32
TENSORFLOW_BATCH = 32  # 16 to 128 differ by 5 %
OPENVINO_BATCH = 4  # a request for each core or two; 32 is a fourth slower

LOGITS = "logits"

Pixels = NDArray[np.uint8]  # (n, h, w, 3), any n
Outputs = dict[str, NDArray[np.float32]]  # name of an output -> (n, ...)
Runner = Callable[[Pixels], Outputs]


class ConversionError(Exception):
    """An engine does not take a graph; the text says why."""


def is_here(engine: str) -> bool:
    """Whether an engine is installed; 'auto' is."""
    return engine not in PRECISIONS or openvino_version() is not None


@cache
def openvino_version() -> str | None:
    """The version that is installed, without importing it; None where there is none, as on systems that it is not made for."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def compile_model(model: keras.Model, engine: str) -> Runner:
    """Compile a model in inference mode, with its weights as they are now.

    Images go through in batches of one size, the last one filled up, so that an image's outputs do not depend on its company.

    Args:
        model: one input of pixels, a dictionary of outputs, in float32 where the engine is not TensorFlow.

    Raises:
        ConversionError: the engine does not take it.
    """
    return _in_tensorflow(model) if engine == TENSORFLOW else _in_openvino(model, PRECISIONS[engine])


def compile_saved(model: keras.Model, engine: str) -> Callable[[Pixels], NDArray[np.float32]]:
    """Compile a finished model, whose only output is logits, for batches of images that may be few.

    Args:
        model: in float32, as models are saved.
        engine: the `runtime.engine` of its run. Where it is not installed, or does not take this model, TensorFlow is taken, whose
            numbers differ in the sixth digit.

    Returns:
        A function of uint8 pixels (b, h, w, 3) to float32 logits (b, k).
    """
    named = keras.Model(model.input, {LOGITS: model.output})
    run: Runner | None = None
    if engine != TENSORFLOW and can_begin():
        with suppress(ConversionError):
            run = _in_openvino(named, PRECISIONS[OPENVINO])
    chosen = run or _in_tensorflow(named, None)
    return lambda pixels: chosen(pixels)[LOGITS]


def can_begin() -> bool:
    """Whether OpenVINO is the engine to begin with: it is installed, and there is no GPU, which TensorFlow uses."""
    return is_here(OPENVINO) and not tf.config.list_physical_devices("GPU")


def _in_tensorflow(model: keras.Model, size: int | None = TENSORFLOW_BATCH) -> Runner:
    """Args: size: of each batch; None for the next power of two, so that few images are not filled up to many."""
    call = fold(model, size)

    def run(pixels: Pixels) -> Outputs:
        filled = size or min(TENSORFLOW_BATCH, 1 << (len(pixels) - 1).bit_length())
        parts = [call(tf.convert_to_tensor(batch)) for batch in _batches(pixels, filled)]
        return {name: np.concatenate([part[name].numpy() for part in parts])[: len(pixels)] for name in model.output}

    return run


def _in_openvino(model: keras.Model, precision: str) -> Runner:
    compiled, names = _converted(_core(), model, precision)
    # not an AsyncInferQueue: its threads call Python, and may wait for the lock that whoever lets it go holds
    requests = [compiled.create_infer_request() for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))]

    def run(pixels: Pixels) -> Outputs:
        num = -len(pixels) % OPENVINO_BATCH + len(pixels)
        found = {name: np.empty((num, *compiled.output(tensor).shape[1:]), np.float32) for name, tensor in names.items()}

        def collect(request: Any, start: int) -> None:
            request.wait()
            for name, tensor in names.items():
                found[name][start : start + OPENVINO_BATCH] = request.get_tensor(tensor).data

        running: deque[tuple[Any, int]] = deque()
        idle = list(requests)
        try:
            for place, batch in enumerate(_batches(pixels, OPENVINO_BATCH)):
                if not idle:
                    collect(*running[0])
                    idle.append(running.popleft()[0])
                request = idle.pop()
                request.start_async({0: batch})
                running.append((request, place * OPENVINO_BATCH))
            while running:
                collect(*running[0])
                running.popleft()
        finally:  # by Ctrl-C: what runs must end before its memory goes
            for request, _ in running:
                request.wait()
        return {name: values[: len(pixels)] for name, values in found.items()}

    return run


def _converted(core: Any, model: keras.Model, precision: str) -> tuple[Any, Mapping[str, str]]:
    """The model compiled by OpenVINO, and the name of each output -> that of its tensor there."""
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads_in_force(),
    }
    frozen = freeze(model, OPENVINO_BATCH)
    if frozen is None:
        raise ConversionError("it is too large for one graph")
    try:
        compiled = core.compile_model(read_graph(frozen), "CPU", settings)
        names = dict(zip(sorted(model.output), (tensor.name for tensor in frozen.outputs), strict=True))
        for tensor in names.values():
            compiled.output(tensor)
    except (RuntimeError, OSError) as error:
        raise ConversionError(_reason(str(error))) from error
    return compiled, names


def read_graph(frozen: Any) -> Any:
    """What OpenVINO makes of a graph of constants, see `folded.freeze`: its own model, which can be compiled, or written to files.

    Raises:
        ConversionError: it does not take the graph.
    """
    core = _core()
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "graph.pb")  # OpenVINO reads this form from files alone
            file.write_bytes(frozen.graph.as_graph_def().SerializeToString())
            return core.read_model(file)
    except (RuntimeError, OSError) as error:
        raise ConversionError(_reason(str(error))) from error


def _reason(text: str) -> str:
    """What an error of OpenVINO says: its summary begins with two dashes; before that are places in its source."""
    lines = [line.strip().removeprefix("-- ") for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if f"-- {line}" in text]
    return (marked or lines[-1:] or ["it gives no reason"])[0][:200]


def _batches(pixels: Pixels, size: int) -> Iterator[Pixels]:
    for start in range(0, len(pixels), size):
        batch = np.ascontiguousarray(pixels[start : start + size])
        yield batch if len(batch) == size else np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)])


@cache
def _core() -> Any:
    """OpenVINO, one for the life of the process.

    Each has a stack for signals of its own, and puts back that of the one before when it goes: in another order than they came, the
    process is left with one that is gone, and ends with the next signal.
    """
    with _hidden("openvino_telemetry"):  # it reports each import to its makers; nothing is sent from here
        import openvino
    return openvino.Core()


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let importing a package fail inside, unless it was imported before."""
    absent = package not in sys.modules
    if absent:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules[package]
