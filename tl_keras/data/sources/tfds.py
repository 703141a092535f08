"""Data sets of TensorFlow Datasets (TFDS), by name or by the folder that TFDS prepared, unpacked into class folders."""

import os
import re
import threading
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tl_keras.cache import cache_folder
from tl_keras.config import DataConfig
from tl_keras.data.formats import HEAD_BYTES, image_format
from tl_keras.data.sources.source import neighbour, path_of, unpack_once
from tl_keras.data.sources.tfds_folder import class_folder, folder_name, require_inside, require_own_features
from tl_keras.errors import DataError, first_line

NEAR = 0.8  # likeness from which an unknown TFDS name is taken for a misspelt one
TFDS_SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
_TFDS_NAME = re.compile(r"[a-z][a-z0-9_]*(/[\w.-]+)?(:[\d.]+)?")


def looks_like_tfds(source: str) -> bool:
    """Whether `source` has the form of a TFDS name: name, name/config, name:1.0.0 or name/config:1.0.0."""
    return _TFDS_NAME.fullmatch(source) is not None


def tfds_folder() -> Path:
    """The folder in which TFDS prepares data sets: `TFDS_DATA_DIR`, or ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def require_at_hand(config: DataConfig) -> None:
    """Raise DataError where the TFDS data set that `data.source` names is not on disk, and is not to be fetched."""
    if not config.download and not is_tfds_on_disk(config.source):
        looked = tfds_folder() / config.source.partition(":")[0]
        raise DataError(
            f"{config.source}: no such folder, and no TFDS data set of that name on disk (looked for {looked})."
            f"{neighbour(path_of(config.source))} "
            "Give a folder of class folders or 'digits'; a TFDS data set is fetched with --set data.download=true."
        )


def is_tfds_on_disk(name: str) -> bool:
    """Whether something is prepared under a TFDS name: in NAME/VERSION, or NAME/CONFIG/VERSION."""
    return next(_on_disk(name), None) is not None


def _on_disk(name: str) -> Iterator[Path]:
    folder = tfds_folder() / name.partition(":")[0]
    return (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if is_prepared_tfds(path))


def is_prepared_tfds(path: Path) -> bool:
    """Whether `path` is a folder that TFDS prepared (it describes itself in dataset_info.json)."""
    return os.path.isfile(path / "dataset_info.json")  # False for a folder that may not be read


def prepared_tfds(path: Path) -> Path:
    """Unpack a prepared TFDS folder, for example ~/tensorflow_datasets/tf_flowers/3.0.1, into class folders.

    Raises:
        DataError: the folder is damaged, or holds no labelled images.
    """
    require_own_features(path)
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(str(path))
    except Exception as error:  # whatever TFDS meets in files that it did not write so
        raise DataError(f"{path}: is not a complete TFDS data set ({first_line(error)}). Prepare it again.") from error
    return _unpack_tfds(builder)


def named_tfds(name: str, *, download: bool, timeout_s: float) -> Path:
    """Find a TFDS data set by name, on disk first, and unpack it into class folders.

    Args:
        name: a TFDS name; `TFDS_DATA_DIR` says where prepared sets lie (default: ~/tensorflow_datasets).
        download: whether a set that is not on disk may be fetched; nothing touches the network otherwise.
        timeout_s: seconds until a download is given up.

    Raises:
        DataError: no such name, not on disk and `download` is False, or the download failed or took too long.
    """
    builder = _builder(name)
    if not is_prepared_tfds(Path(builder.data_dir)):
        if not download:
            raise DataError(
                f"{name}: a TFDS data set that is not on disk (looked in {builder.data_dir}). "
                "Add --set data.download=true to fetch it, or give a folder of images."
            )
        _download(builder, name, timeout_s)
    return _unpack_tfds(builder)


def _builder(name: str) -> Any:
    for folder in _on_disk(name):
        require_own_features(folder)
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"), try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)  # the community's are listed by network
        near = get_close_matches(re.split("[/:]", name)[0], known, n=1, cutoff=NEAR)
        hint = f" Did you mean '{near[0]}'?" if near else " Give a folder of class folders, 'digits' or a TFDS name."
        raise DataError(f"{name}: no such folder, and no TFDS data set of that name.{hint}") from error
    except Exception as error:  # of no common type: a version or configuration that there is not, a package that is missing
        raise DataError(f"{name}: TFDS cannot open it ({first_line(error)}).") from error


def _download(builder: Any, name: str, timeout_s: float) -> None:
    failure: list[BaseException] = []

    def fetch() -> None:
        try:
            builder.download_and_prepare()
        except BaseException as error:  # carried over to the thread that waits
            failure.append(error)

    worker = threading.Thread(target=fetch, daemon=True, name="tfds-download")
    worker.start()
    worker.join(timeout_s)
    if worker.is_alive():
        raise DataError(
            f"{name}: the download took more than {timeout_s:g} s. Raise data.download_timeout_s, or prepare the set with TFDS."
        )
    if failure:
        kind = type(failure[0]).__name__
        raise DataError(f"{name}: the download failed ({kind}: {first_line(failure[0])}). Is there a network?") from failure[0]


def _unpack_tfds(builder: Any) -> Path:
    import tensorflow_datasets as tfds

    name, splits = builder.info.full_name, list(builder.info.splits)
    features = dict(builder.info.features.items()) if builder.info.features else {}
    if not isinstance(features.get("image"), tfds.features.Image) or not isinstance(features.get("label"), tfds.features.ClassLabel):
        raise DataError(f"{name}: holds {', '.join(sorted(features)) or 'nothing'}; a classifier needs an 'image' and a class 'label'.")
    if "train" not in splits:
        raise DataError(f"{name}: has no split 'train' (it has {', '.join(splits) or 'none'}).")
    folder = Path(builder.data_dir)
    require_inside(folder, (Path(file) for split in builder.info.splits.values() for file in split.filepaths))
    return unpack_once(cache_folder() / "tfds" / folder_name(name, folder), lambda temporary: _write_tfds(builder, temporary))


def _write_tfds(builder: Any, folder: Path) -> None:
    """Write every labelled example of the splits known by name; a test split may come unlabelled (-1), and is left out then."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    label = builder.info.features["label"]
    for split in (name for name in builder.info.splits if name in TFDS_SPLITS):
        try:
            examples = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
            for number, example in enumerate(examples.as_numpy_iterator()):
                if example["label"] >= 0:
                    name = class_folder(label.int2str(int(example["label"])), Path(builder.data_dir))
                    _write_image(folder / TFDS_SPLITS[split] / name, f"{split}-{number:07d}", example["image"])
        except (tf.errors.OpError, AssertionError) as error:
            raise DataError(f"{builder.data_dir}: cannot be read ({first_line(error)}). Prepare the set with TFDS again.") from error


def _write_image(folder: Path, stem: str, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.{_ending(data)}").write_bytes(data)


def _ending(data: bytes) -> str:
    """What the first bytes say that a file is; 'jpg' for what is not an image, which is found and counted when it is decoded."""
    return image_format(data[:HEAD_BYTES]) or "jpg"
