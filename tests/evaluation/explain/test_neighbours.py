"""The nearest training images are those with the nearest features, and what lies in the store is not computed again."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.data import images
from tl_keras.data.file_ids import file_id
from tl_keras.evaluation.explain import neighbours
from tl_keras.evaluation.explain.neighbours import References, open_references
from tl_keras.models.classifier import head_of
from tl_keras.progress import Progress
from tl_keras.trained_run import TrainedRun, open_run


class Bars(Progress):
    """Keeps the names of the bars."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Any]:
        self.names.append(name)
        yield lambda number: None


@pytest.fixture(scope="module")
def opened(trained: tuple[Path, Path]) -> TrainedRun:
    return open_run(trained[0])


def test_they_are_the_nearest_by_what_the_head_reads_and_no_copies(opened: TrainedRun, trained: tuple[Path, Path]) -> None:
    found = open_references(opened, trained[1], Progress())
    assert isinstance(found, References)
    assert sorted(found.index.paths) == sorted(opened.images("train", trained[1]).paths)
    features = keras.Model(opened.model.input, head_of(opened.model)[0].input)
    pixels = np.stack([images.load(trained[1] / path, opened.image_size, "crop") for path in found.index.paths])
    vectors = features(pixels.astype(np.float32)).numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for row in (0, 7):
        near = found.nearest(pixels[row], file_id(trained[1] / found.index.paths[row]), 4)
        cosines = vectors @ vectors[row]
        others = [other for other in np.argsort(-cosines) if other != row][:4]
        assert [each.path for each in near] == [found.index.paths[other] for other in others]
        np.testing.assert_allclose([each.cosine for each in near], cosines[others], atol=1e-4)
        assert [each.label for each in near] == [Path(each.path).parent.name for each in near]


def test_of_a_frozen_backbone_the_features_that_it_learned_from_are_taken(opened: TrainedRun, trained: tuple[Path, Path]) -> None:
    bars = Bars()
    assert isinstance(open_references(opened, trained[1], bars), References)
    assert bars.names == ["read files"]


def test_what_is_gone_or_another_image_is_no_neighbour(opened: TrainedRun, trained: tuple[Path, Path], tmp_path: Path) -> None:
    assert "none of the training images lies in" in str(open_references(opened, tmp_path, Progress()))
    shutil.copytree(trained[1], tmp_path / "photos")
    paths = sorted(opened.images("train", trained[1]).paths)
    (tmp_path / "photos" / paths[0]).unlink()
    shutil.copy(tmp_path / "photos" / paths[2], tmp_path / "photos" / paths[1])
    found = open_references(opened, tmp_path / "photos", Progress())
    assert isinstance(found, References)
    assert sorted(found.index.paths) == paths[2:]


def test_of_many_a_sample_is_taken(opened: TrainedRun, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST", 6)
    found = open_references(opened, trained[1], Progress())
    assert isinstance(found, References)
    assert found.index.sizes(np.arange(6)).tolist() == [2, 2, 2]
