"""The training modes: from images to a run folder."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras import __version__
from tl_keras import run_folder as names
from tl_keras.config import Config, RuntimeConfig, to_yaml
from tl_keras.data import dataset, splits
from tl_keras.data.dataset import ImageData
from tl_keras.data.sources import Index, open_source
from tl_keras.errors import ConfigError
from tl_keras.models.backbone_loading import build_backbone, native_image_size
from tl_keras.models.backbones import BACKBONES
from tl_keras.models.classifier import Classifier, build_classifier, count_parameters, unfreeze
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.transfer import defaults
from tl_keras.transfer.checkpoints import weights_view
from tl_keras.transfer.finetune import finetune
from tl_keras.transfer.head import train_head
from tl_keras.transfer.losses import class_weight_vector
from tl_keras.transfer.pretrain import pretrain, save_backbone
from tl_keras.transfer.task import Task
from tl_keras.workflows.scoring import Clock, measure, score
from tl_keras.workflows.trained import data_root, read_config

TRAININGS: dict[str, Callable[[Task], None]] = {"extract": train_head, "finetune": finetune, "pretrain": pretrain}
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def set_up(runtime: RuntimeConfig) -> None:
    """Seed Python, NumPy and TensorFlow, and set determinism, threads and the precision of new layers.

    Raises:
        ConfigError: float16 without a GPU, which would take hours for what float32 does in minutes.
    """
    if runtime.precision == "float16" and not tf.config.list_physical_devices("GPU"):
        raise ConfigError("runtime.precision: got 'float16', which needs a GPU, and none is found. Take 'bfloat16' or 'float32'.")
    keras.utils.set_random_seed(runtime.seed)
    if runtime.deterministic:
        tf.config.experimental.enable_op_determinism()
    if runtime.threads not in (None, tf.config.threading.get_intra_op_parallelism_threads()):
        tf.config.threading.set_intra_op_parallelism_threads(runtime.threads)
    keras.config.set_dtype_policy(POLICIES[runtime.precision])


def train(config: Config, run_dir: Path, *, resume: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Run one of the training modes, from images to a run folder.

    Args:
        config: `mode` is 'extract', 'finetune' or 'pretrain'; ignored where `resume` reads the run's own.
        run_dir: the run folder to make, or to continue.
        resume: go on with an interrupted run.

    Returns:
        What `metrics.json` holds.

    Raises:
        UserError: anything that the user can mend; a run folder made for it is gone again.
        KeyboardInterrupt: by Ctrl-C; the best weights so far are in `model.keras`.
    """
    clock, progress, run = Clock(), progress or Progress(), RunFolder(run_dir)
    if resume:
        config = read_config(run.require_resumable())
    set_up(config.runtime)
    with _undone_on_failure(run, resume):
        index = splits.read_splits(run / names.SPLITS, data_root(config))[0] if resume else open_source(config.data)
        task = prepare_task(config, index, run, progress)
        names.write_text(run / names.CONFIG, to_yaml(task.config))
        names.write_json(run / names.ENVIRONMENT, environment())
    clock.lap("prepare_s")
    try:
        TRAININGS[config.mode](task)
        clock.lap("train_s")
        return _finish(task, clock)
    except KeyboardInterrupt:
        _keep_best_so_far(task)
        raise
    finally:
        run.clear_scratch()


@contextmanager
def _undone_on_failure(run: RunFolder, resume: bool) -> Iterator[None]:
    new = False if resume else run.start()
    try:
        yield
    except BaseException:
        run.clear_scratch()
        if not resume:
            run.undo(keep_folder=not new)
        raise


def image_size_of(config: Config) -> tuple[int, int]:
    """(height, width) in pixels: what `data.image_size` says, or the backbone's native size."""
    size = config.data.image_size
    if size is None:
        size = native_image_size(config.model.backbone)
    return (size, size) if isinstance(size, int) else size


def build(config: Config, num_classes: int, weights: str) -> Classifier:
    """Build the classifier of a configuration; `weights` as in `model.weights`."""
    backbone = build_backbone(
        config.model.backbone,
        image_size=image_size_of(config),
        weights=weights,
        preprocessing=config.model.preprocessing,
    )
    return build_classifier(config.model, backbone, num_classes, config.runtime.seed)


def prepare_task(config: Config, index: Index, run: RunFolder, progress: Progress) -> Task:
    """Build the network, decode the images, cut the splits and fill the open settings."""
    classifier = build(config, len(index.classes), config.model.weights)
    data = dataset.prepare(index, config.data, image_size_of(config), run, progress)
    task = Task(resolve(config, classifier, len(data.rows("train"))), data, classifier, run, progress)
    check_names(task)
    return task


def check_names(task: Task) -> None:
    """Refuse a stage or a class that there is not before anything is trained."""
    unfreeze(task.classifier, task.config.train.unfreeze_from, freeze_batchnorm=True)
    class_weight_vector(task.config.train.class_weights, task.data.labels("train"), task.data.classes)


def resolve(config: Config, classifier: Classifier, num_train: int) -> Config:
    """Fill every open setting, and make paths absolute."""
    data = config.data.model_copy(update={"image_size": image_size_of(config), "source": _absolute(config.data.source)})
    model = config.model.model_copy(update={name: _absolute(getattr(config.model, name)) for name in ("backbone", "weights")})
    num_parameters = count_parameters(classifier.trunk)["total"]
    return defaults.resolve(config.model_copy(update={"data": data, "model": model}), num_train, tuple(classifier.stages), num_parameters)


def _absolute(name: str) -> str:
    """A path that later modes find from any folder; a name of a table or data set stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name not in (*BACKBONES, "digits") and path.exists() else name


def in_float32(task: Task) -> keras.Model:
    """The trained model without its optimiser, in float32 whatever the precision of its training."""
    if task.config.runtime.precision == "float32":
        return weights_view(task.classifier.model)
    keras.config.set_dtype_policy("float32")
    twin = build(task.config, len(task.data.classes), "none").model
    twin.set_weights(task.classifier.model.get_weights())
    return twin


def _finish(task: Task, clock: Clock) -> dict[str, Any]:
    run, config = task.run, task.config
    model = in_float32(task)
    names.write_whole(run / names.MODEL, model.save)
    if config.mode == "pretrain":
        save_backbone(task, model)
    scores = {split: score(model, task.data, split, config.train.batch_size, task.progress) for split in ("val", "test")}
    write_predictions(run / names.PREDICTIONS, task.data, "test", scores["test"])
    clock.lap("evaluate_s")
    metrics = {
        "mode": config.mode,
        "backbone": config.model.backbone,
        "seed": config.runtime.seed,
        "data": task.data.counts(),
        "parameters": count_parameters(task.classifier.model),
        **{split: measure(task.data, split, scores[split]) for split in ("val", "test")},
        "timing": clock.timing(),
    }
    names.write_json(run / names.METRICS, metrics)
    return metrics


def _keep_best_so_far(task: Task) -> None:
    if any((task.run / names.CHECKPOINTS).glob("*.weights.h5")):
        names.write_whole(task.run / names.MODEL, in_float32(task).save)


def write_predictions(path: Path, data: ImageData, split: str, probabilities: NDArray[np.float64]) -> None:
    """Write a CSV line per image: path, class, predicted class, its probability, then every class's probability."""
    header = ("path", "class", "predicted", "probability", *(f"p_{name}" for name in data.classes))

    def line(row: int, values: NDArray[np.float64]) -> list[str]:
        best = int(values.argmax())
        known = data.classes[data.index.labels[row]]
        return [
            data.index.paths[row],
            known,
            data.classes[best],
            f"{values[best]:.6f}",
            *(f"{value:.6f}" for value in values),
        ]

    names.write_csv(path, header, (line(row, values) for row, values in zip(data.rows(split), probabilities, strict=True)))


def environment() -> dict[str, Any]:
    """What a run ran on: versions, machine, devices."""
    packages = ("tensorflow", "keras", "numpy", "scikit-learn", "pillow")
    return {
        "tl_keras": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": [device.device_type for device in tf.config.list_physical_devices()],
    }
