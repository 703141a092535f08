"""What a predictor says of paths, bytes and arrays, in order, is what the model says; what it holds is bounded."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.data import ahead, images
from tl_keras.data.ahead import Image
from tl_keras.deploy.predictor import Predictor
from tl_keras.errors import RunFolderError
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.trained_run import TrainedRun, open_run


@pytest.fixture(scope="module")
def opened(trained: tuple[Path, Path]) -> TrainedRun:
    return open_run(trained[0])


@pytest.fixture(scope="module")
def predictor(opened: TrainedRun) -> Predictor:
    return Predictor(opened)


@pytest.fixture(scope="module")
def files(trained: tuple[Path, Path]) -> list[Path]:
    return sorted(trained[1].rglob("*.*"))


def by_keras(opened: TrainedRun, pixels: Any) -> Any:
    return SINGLE_LABEL.answers(opened.model(np.asarray(pixels, np.float32), training=False).numpy())


def test_predictions_are_those_of_the_keras_model(opened: TrainedRun, predictor: Predictor, files: list[Path]) -> None:
    many = [files[place % len(files)] for place in range(ahead.BATCH_SIZE + 3)]
    found = list(predictor(many))
    assert [each.path for each in found] == list(map(str, many))
    expected = by_keras(opened, [images.load(file, opened.image_size, "crop") for file in many])
    np.testing.assert_allclose([list(each.probabilities.values()) for each in found], expected, atol=1e-6)
    assert [each.label for each in found] == [opened.index.classes[best] for best in expected.argmax(-1)]
    assert all(each.probability == each.probabilities[each.label] for each in found)


def test_a_path_its_bytes_and_its_pixels_are_one_image(predictor: Predictor, files: list[Path]) -> None:
    png = next(file for file in files if file.suffix == ".png")
    given: list[Image] = [png, str(png), png.read_bytes(), images.decode(png.read_bytes(), "png")]
    found = list(predictor(given))
    assert [each.path for each in found] == [str(png), str(png), "images[2]", "images[3]"]
    assert len({tuple(each.probabilities.values()) for each in found}) == 1


def test_what_is_not_an_image_is_named_and_ends_nothing(predictor: Predictor, files: list[Path], tmp_path: Path) -> None:
    wrong: list[Any] = [tmp_path / "gone.jpg", b"", b"text", np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
    found = list(predictor([*wrong, files[0]]))
    assert [each.error for each in found] == [
        f"{tmp_path}/gone.jpg: cannot be read (No such file or directory)",
        "images[1]: is empty (0 bytes)",
        "images[2]: is not an image (first bytes b'text')",
        "images[3]: is an array of uint8 (4, 4), expected uint8 (height, width, 3) in RGB",
        "images[4]: is an array of float32 (4, 4, 3), expected uint8 (height, width, 3) in RGB",
        None,
    ]
    assert [each.label for each in found[:5]] == [""] * 5
    assert list(predictor(wrong))[-1].error is not None  # a batch without a good image
    assert list(predictor([])) == []


def test_a_model_that_is_not_finite_is_refused(opened: TrainedRun, files: list[Path]) -> None:
    twin = keras.models.clone_model(opened.model)
    twin.set_weights([weight * np.nan for weight in twin.get_weights()])
    refused = Predictor(TrainedRun(opened.run, opened.config, twin, opened.index, opened.split))
    with pytest.raises(RunFolderError, match="numbers that are not finite"):
        list(refused(files[:1]))
