"""Data sets that are not folders of images yet, written out as such, once: scikit-learn's digits and TFDS.

One form for all data keeps everything after it simple: any image can be opened, listed in splits.csv and predicted
by its path. Encoded bytes are copied untouched, so a JPEG stays the JPEG that it was. The folders lie below
`TL_KERAS_CACHE` (default: ~/.cache/tl_keras) and appear whole or not at all.
"""

import io
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tl_keras.errors import DataError
from tl_keras.run_folder import write_whole

TFDS_SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
_TFDS_NAME = re.compile(r"[a-z][a-z0-9_]*(/[\w.-]+)?(:[\d.]+)?")


def cache_folder() -> Path:
    """The folder for what is unpacked or downloaded: `TL_KERAS_CACHE`, or ~/.cache/tl_keras."""
    return Path(os.environ.get("TL_KERAS_CACHE") or "~/.cache/tl_keras").expanduser()


def _unpack_once(folder: Path, write: Callable[[Path], None]) -> Path:
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder, write)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot unpack a data set here ({error.strerror}). Set TL_KERAS_CACHE to a folder that you may write to."
            ) from error
    return folder


def digits() -> Path:
    """Write scikit-learn's 1,797 handwritten digits (8x8 pixels, UCI, CC BY 4.0) as PNG files in ten class folders."""
    return _unpack_once(cache_folder() / "digits", _write_digits)


def _write_digits(folder: Path) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    for number, (image, label) in enumerate(zip(data.images, data.target, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).save(path)


def looks_like_tfds(source: str) -> bool:
    """Whether `source` has the form of a TFDS name: name, name/config, name:1.0.0 or name/config:1.0.0."""
    return _TFDS_NAME.fullmatch(source) is not None


def is_prepared_tfds(path: Path) -> bool:
    """Whether `path` is a folder that TFDS prepared (it describes itself in dataset_info.json)."""
    return (path / "dataset_info.json").is_file()


def prepared_tfds(path: Path) -> Path:
    """Unpack a prepared TFDS folder, for example ~/tensorflow_datasets/tf_flowers/3.0.1, into class folders."""
    import tensorflow_datasets as tfds

    return _unpack_tfds(tfds.builder_from_directory(str(path)))


def named_tfds(name: str, *, download: bool, timeout_s: float) -> Path:
    """Find a TFDS data set by name, on disk first, and unpack it into class folders.

    Args:
        name: a TFDS name; `TFDS_DATA_DIR` says where prepared sets lie (default: ~/tensorflow_datasets).
        download: whether a set that is not on disk may be fetched.
        timeout_s: seconds until a download is given up.

    Raises:
        DataError: no such name, not on disk and `download` is False, or the download failed or took too long.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        near = get_close_matches(name, [*tfds.list_builders(), "digits"], n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise DataError(f"{name}: no such folder, and no TFDS data set of that name.{hint}") from error
    if not is_prepared_tfds(Path(builder.data_dir)):
        if not download:
            raise DataError(
                f"{name}: a TFDS data set that is not on disk (looked in {builder.data_dir}). "
                "Add --set data.download=true to fetch it, or give a folder of images."
            )
        _download(builder, name, timeout_s)
    return _unpack_tfds(builder)


def _download(builder: Any, name: str, timeout_s: float) -> None:
    failure: list[BaseException] = []

    def fetch() -> None:
        try:
            builder.download_and_prepare()
        except BaseException as error:  # carried over to the thread that waits
            failure.append(error)

    worker = threading.Thread(target=fetch, daemon=True, name="tfds-download")
    with _socket_timeout(min(timeout_s, 30.0)):
        worker.start()
        worker.join(timeout_s)
    if worker.is_alive():
        raise DataError(
            f"{name}: the download took more than {timeout_s:g} s. Raise data.download_timeout_s, or prepare the set with TFDS."
        )
    if failure:
        first = str(failure[0]).strip().partition("\n")[0]
        raise DataError(f"{name}: the download failed ({type(failure[0]).__name__}: {first}). Is there a network?") from failure[0]


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _unpack_tfds(builder: Any) -> Path:
    features = builder.info.features
    if features is None or "image" not in features or "label" not in features:
        held = ", ".join(features) if features is not None else "nothing"
        raise DataError(f"{builder.info.full_name}: holds {held}; a classifier needs the features 'image' and 'label'.")
    unknown = sorted(set(builder.info.splits) - set(TFDS_SPLITS))
    if "train" not in builder.info.splits:
        raise DataError(f"{builder.info.full_name}: has no split 'train' (it has {', '.join(unknown)}).")
    folder = cache_folder() / "tfds" / builder.info.full_name
    return _unpack_once(folder, lambda temporary: _write_tfds(builder, temporary))


def _write_tfds(builder: Any, folder: Path) -> None:
    import tensorflow_datasets as tfds

    splits = [name for name in builder.info.splits if name in TFDS_SPLITS]
    label = builder.info.features["label"]
    for split in splits:
        examples = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        for number, example in enumerate(examples.as_numpy_iterator()):
            data = example["image"]
            name = label.int2str(int(example["label"])).replace("/", "_")
            path = folder / TFDS_SPLITS[split] / name / f"{number:07d}.{_ending(data)}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _ending(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as image:
        return str(image.format).lower()
