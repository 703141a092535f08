"""What an exported model answers, found out by a process that has nothing but the format's own runtime: a script, run by its path.

    python -P standalone_reader.py READER ARTIFACT SCRATCH MODULE...

It reads from the folder SCRATCH `pixels.npy` (images at the model's size, uint8) and `asked.json` (which `signatures` to ask, which `files`
to ask 'bytes' about, and whether to measure the speed, `is_timed`), and writes `said.json`; unless that says why all failed, `answers.npz`
too. Of the modules that may answer only those that are named can be imported. `parity` starts it.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH = 32
MOST_CALLS, LONGEST_S = 20, 2.0  # of each measurement
RUNTIMES = ("tensorflow", "keras", "tl_keras", "ai_edge_litert", "onnxruntime", "openvino")

Signatures = dict[
    str, Callable[[Any], Any]
]  # name -> what makes probabilities (b, k), or numbers (b, 1), of its input, and the novelty where it tells one


def open_saved_model(artifact: str) -> Signatures:
    """The signatures of a SavedModel: 'float' and 'uint8' take pixels (b, h, w, 3), 'bytes' takes a list of encoded files."""
    import tensorflow as tf

    loaded = tf.saved_model.load(artifact)
    plain, small, encoded = (loaded.signatures[name] for name in ("serving_default", "uint8", "bytes"))

    def answers(said: dict[str, Any]) -> Any:
        return joined({name: values.numpy() for name, values in said.items() if name in ("probabilities", "value", "novelty")})

    return {
        "float": lambda pixels: answers(plain(pixels=tf.constant(pixels, tf.float32))),
        "uint8": lambda pixels: answers(small(pixels=tf.constant(pixels))),
        "bytes": lambda files: answers(encoded(bytes=tf.constant(files))),
    }


def open_keras(artifact: str) -> Signatures:
    """The only signature of a `.keras` file, which Keras loads in its safe mode."""
    import keras

    model = keras.models.load_model(artifact, compile=False)
    return {"float": lambda pixels: joined(model.predict_on_batch(pixels.astype("float32")))}


def open_litert(artifact: str) -> Signatures:
    """The only signature of a LiteRT file."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=artifact, num_threads=threads()).get_signature_runner()
    return {"float": lambda pixels: joined(runner(pixels=pixels.astype("float32")))}


def open_onnx(artifact: str) -> Signatures:
    """The only signature of an ONNX file, on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave the processors to others
    session = onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {"float": lambda pixels: joined(dict(zip(names, session.run(names, {"pixels": pixels.astype("float32")}), strict=True)))}


def open_openvino(artifact: str) -> Signatures:
    """The only signature of OpenVINO IR, on the processor, in the precision that it was written in."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would report the import to its makers
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads()}
    compiled = openvino.Core().compile_model(str(Path(artifact, "model.xml")), "CPU", settings)
    request = compiled.create_infer_request()

    def answers(pixels: Any) -> Any:
        request.infer({"pixels": pixels.astype("float32")})
        return joined({output.get_any_name(): request.get_tensor(output).data.copy() for output in compiled.outputs})

    return {"float": answers}


READERS: dict[str, Callable[[str], Signatures]] = {
    reader.__name__: reader for reader in (open_saved_model, open_keras, open_litert, open_onnx, open_openvino)
}


def joined(said: dict[str, Any]) -> Any:
    """Answers (b, k) and novelty (b,) as one array (b, k) or (b, k + 1)."""
    import numpy as np

    found = said["probabilities"] if "probabilities" in said else said["value"]
    found = found.reshape(len(found), -1)
    return np.concatenate([found, said["novelty"].reshape(-1, 1)], axis=1) if "novelty" in said else found


def threads() -> int:
    """The processors that this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def first_line(error: Exception) -> str:
    """What went wrong: where the graph's nodes are named, it is the last line before them; an assertion's text is in brackets."""
    text = re.sub(r"\{\{.*?\}\}", "", str(error).split("\n\t [[")[0]).replace("assertion failed:", "")
    line = (text.strip() or type(error).__name__).splitlines()[-1].strip()
    return re.sub(r"^\[(.*?)\](?= \[)", r"\1", line)


def is_refusal(error: Exception) -> bool:
    """Whether an error says that one file was not taken, by the names of TensorFlow's errors, which it may not be there to import."""
    return type(error).__name__ in ("InvalidArgumentError", "DataLossError")


def batches(pixels: Any) -> Iterator[Any]:
    """Pixels, a few at a time."""
    for start in range(0, len(pixels), BATCH):
        yield pixels[start : start + BATCH]


def ask(signatures: Signatures, wanted: list[str], files: list[str], pixels: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The answers by signature, those of 'bytes' for the files that it took; and which it did not -> why."""
    import numpy as np

    found = {name: np.concatenate([signatures[name](part) for part in batches(pixels)]) for name in wanted if name != "bytes"}
    refused: dict[str, str] = {}
    rows = []
    for file in files if "bytes" in wanted else ():
        try:
            rows.append(signatures["bytes"]([Path(file).read_bytes()])[0])
        except Exception as error:
            if not is_refusal(error):
                raise
            refused[file] = first_line(error)
    return found | ({"bytes": np.asarray(rows)} if "bytes" in wanted else {}), refused


def seconds_of(call: Callable[[], object]) -> float:
    """The median of how long a call takes, over at most `MOST_CALLS` and about `LONGEST_S` seconds."""
    found: list[float] = []
    while not found or (len(found) < MOST_CALLS and sum(found) < LONGEST_S):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return sorted(found)[len(found) // 2]


def timed(answer: Callable[[Any], Any], pixels: Any) -> dict[str, float]:
    """How long one image takes, and how many a second there are in batches; both sizes have been asked for before."""
    import numpy as np

    many = np.resize(pixels, (BATCH, *pixels.shape[1:]))
    answer(many)
    return {"single_ms": 1e3 * seconds_of(lambda: answer(pixels[:1])), "images_per_second": BATCH / seconds_of(lambda: answer(many))}


def main(reader: str, artifact: str, scratch: str, *modules: str) -> None:
    """Answer, or say why not."""
    begun = time.perf_counter()
    for hidden in set(RUNTIMES) - set(modules):
        sys.modules[hidden] = None  # type: ignore[assignment]  # importing it fails
    import numpy as np

    folder = Path(scratch)
    try:
        asked = json.loads((folder / "asked.json").read_text())
        wanted = asked["signatures"]
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        signatures = READERS[reader](artifact)
        signatures[wanted[0]](pixels[:1])
        ready = time.perf_counter() - begun
        found, refused = ask(signatures, wanted, asked["files"], pixels)
        np.savez(folder / "answers.npz", **found)
        speed = {"cold_start_s": ready} | timed(signatures[wanted[0]], pixels) if asked["is_timed"] else {}
        said: dict[str, Any] = {"refused": refused, "speed": speed}
    except Exception as error:
        said = {"failed": first_line(error)}
    (folder / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
