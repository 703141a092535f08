"""A tiny finished run, shared by the tests of what is done with one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tl_keras import workflows
from tl_keras.config import Config
from tl_keras.progress import Progress

CLASSES = ("ant", "bee", "wasp")


class Lines(Progress):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def heard() -> Lines:
    """A listener that keeps the lines."""
    return Lines()


@pytest.fixture(scope="session")
def trained(photo_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder, and its images: 30 of three classes, 6 of them its test split. Not to be changed: take a copy."""
    photos = photo_folder(classes=CLASSES, per_class=10, size=(16, 16))
    run = tmp_path_factory.mktemp("trained") / "R"
    data = {"source": str(photos), "image_size": 16}
    workflows.train(Config.model_validate({"mode": "extract", "data": data, "model": {"weights": "none"}}), run)
    return run, photos
