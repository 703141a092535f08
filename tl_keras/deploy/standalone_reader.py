"""What an exported model answers, found out by a process that knows neither Keras nor this package: a script, run by its path.

    python -P standalone_reader.py READER ARTIFACT SCRATCH

It reads from the folder SCRATCH `files.json` (image files), `pixels.npy` (what they look like at the model's size, uint8) and
`signatures.json` (which signatures to ask), and writes `said.json`; unless that says why all failed, `answers.npz` too. `parity` starts it.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Signatures = dict[
    str, Callable[[Any], Any]
]  # name -> what makes probabilities (b, k), or numbers (b, 1), of its input, and the novelty where it tells one


def open_saved_model(artifact: str) -> Signatures:
    """The signatures of a SavedModel: 'float' and 'uint8' take pixels (b, h, w, 3), 'bytes' takes a list of encoded files."""
    import tensorflow as tf

    loaded = tf.saved_model.load(artifact)
    plain, small, encoded = (loaded.signatures[name] for name in ("serving_default", "uint8", "bytes"))

    def answers(said: dict[str, Any]) -> Any:
        found = said["probabilities"] if "probabilities" in said else said["value"][:, None]
        return tf.concat([found, said["novelty"][:, None]], axis=1).numpy() if "novelty" in said else found.numpy()

    return {
        "float": lambda pixels: answers(plain(pixels=tf.constant(pixels, tf.float32))),
        "uint8": lambda pixels: answers(small(pixels=tf.constant(pixels))),
        "bytes": lambda files: answers(encoded(bytes=tf.constant(files))),
    }


READERS: dict[str, Callable[[str], Signatures]] = {reader.__name__: reader for reader in (open_saved_model,)}


def first_line(error: Exception) -> str:
    """What went wrong: where the graph's nodes are named, it is the last line before them; an assertion's text is in brackets."""
    text = re.sub(r"\{\{.*?\}\}", "", str(error).split("\n\t [[")[0]).replace("assertion failed:", "")
    line = (text.strip() or type(error).__name__).splitlines()[-1].strip()
    return re.sub(r"^\[(.*?)\](?= \[)", r"\1", line)


def is_refusal(error: Exception) -> bool:
    """Whether an error says that one file was not taken, by the names of TensorFlow's errors, which it may not be there to import."""
    return type(error).__name__ in ("InvalidArgumentError", "DataLossError")


def ask(signatures: Signatures, wanted: list[str], files: list[str], pixels: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The answers by signature, those of 'bytes' for the files that it took; and which it did not -> why."""
    import numpy as np

    found = {name: signatures[name](pixels) for name in wanted if name != "bytes"}
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


def main(reader: str, artifact: str, scratch: str) -> None:
    """Answer, or say why not."""
    for hidden in ("keras", "tl_keras"):
        sys.modules[hidden] = None  # type: ignore[assignment]  # importing it fails
    import numpy as np

    folder = Path(scratch)
    try:
        wanted, files = (json.loads((folder / name).read_text()) for name in ("signatures.json", "files.json"))
        found, refused = ask(READERS[reader](artifact), wanted, files, np.load(folder / "pixels.npy"))
        np.savez(folder / "answers.npz", **found)
        said = {"refused": refused}
    except Exception as error:
        said = {"failed": first_line(error)}  # type: ignore[dict-item]
    (folder / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
