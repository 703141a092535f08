"""A training task of a few small photographs, ready in a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from tl_keras.config import Config
from tl_keras.data.sources import open_source
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.transfer.prepare import prepare_task
from tl_keras.transfer.task import Task

MakeTask = Callable[..., Task]
PLAIN = {"random_resized_crop": None}  # no augmentation: the default is a crop


@pytest.fixture(scope="session")
def three_stages(save_three_stages: Callable[..., str]) -> str:
    """One that has to be told its preprocessing, as networks of single tests here rely on."""
    return save_three_stages(rescales=False)


@pytest.fixture(scope="session")
def task_photos(photo_folder: Callable[..., Path]) -> Path:
    """What all tasks learn from: twelve training images of two classes, two of val and two of test. Not to be changed."""
    return photo_folder(per_class=8)


@pytest.fixture
def make_task(tmp_path: Path, task_photos: Path, three_stages: str) -> MakeTask:
    """A factory of tasks: `make_task(run, mode, seed=, model={...}, train={...}, ...)`: random weights, 16 px, no augmentation.

    `run` names a run folder, and the same name again continues it. Tasks share their store, unless the test has `own_store`.
    """
    return task_maker(tmp_path, task_photos, three_stages)


@pytest.fixture(scope="module")
def make_lasting_task(tmp_path_factory: pytest.TempPathFactory, task_photos: Path, three_stages: str) -> MakeTask:
    """The same for tasks that several tests of a file look at."""
    return task_maker(tmp_path_factory.mktemp("lasting"), task_photos, three_stages)


def task_maker(folder: Path, photos: Path, backbone: str) -> MakeTask:
    """A factory of tasks whose run folders lie in `folder`."""

    def make(run: str = "run", mode: str = "finetune", *, seed: int = 0, progress: Progress | None = None, **sections: Any) -> Task:
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(seed)
        config = Config.model_validate(
            {
                "mode": mode,
                "runtime": {"seed": seed} | sections.get("runtime", {}),
                "data": {"source": str(photos), "image_size": 16, "augment": PLAIN} | sections.get("data", {}),
                "model": {"backbone": backbone, "preprocessing": "zero_to_one"} | sections.get("model", {}),
                "features": sections.get("features", {}),
                "train": {"epochs": 2, "batch_size": 8, "layer_decay": 0.5, "unfreeze_from": "all"} | sections.get("train", {}),
            }
        )
        run_folder = RunFolder(folder / run)
        run_folder.path.mkdir(exist_ok=True)
        return prepare_task(config, open_source(config.data), run_folder, progress or Progress())

    return make
