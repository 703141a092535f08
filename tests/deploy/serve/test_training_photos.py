"""Training images are shown where the owner says so, the nearest first, and nothing else of them."""

import base64
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tl_keras.data import images
from tl_keras.data.file_ids import file_id
from tl_keras.deploy.predictor import Predictor
from tl_keras.deploy.serve.training_photos import TrainingPhotos, opened_photos
from tl_keras.errors import ConfigError
from tl_keras.evaluation.thumbnails import SIDE
from tl_keras.progress import Progress
from tl_keras.workflows.serve import serve as run_server

Serve = Callable[..., tuple[TestClient, Any]]
NUMBER = 3


@pytest.fixture(scope="module")
def photos(predictor: Predictor, trained: tuple[Path, Path]) -> Iterator[TrainingPhotos]:
    with opened_photos(predictor.trained, NUMBER, str(trained[1]), Progress()) as found:
        yield found


def test_none_are_shown_unless_the_owner_says_so(serve: Serve, files: list[Path]) -> None:
    client, _ = serve()
    found = client.post("/neighbours", content=files[0].read_bytes())
    assert (found.status_code, "--neighbours N" in found.json()["error"]) == (404, True)
    assert 'data-shows-photos="false"' in client.get("/").text


def test_they_are_those_of_explain_as_small_copies(
    serve: Serve, predictor: Predictor, photos: TrainingPhotos, trained: tuple[Path, Path]
) -> None:
    client, service = serve(photos=photos)
    assert 'data-shows-photos="true"' in client.get("/").text
    path = photos.references.index.paths[0]
    pixels = images.load(trained[1] / path, predictor.trained.image_size, "crop")
    expected = photos.references.nearest(pixels, file_id(trained[1] / path), NUMBER)
    assert path not in [each.path for each in expected]  # a copy
    for _ in range(2):
        found = client.post("/neighbours", content=(trained[1] / path).read_bytes()).json()["neighbours"]
        assert [(each["label"], each["cosine"]) for each in found] == [
            (each.label, pytest.approx(each.cosine, abs=1e-5)) for each in expected
        ]
    for each, near in zip(found, expected, strict=True):
        assert set(each) == {"label", "cosine", "picture"}
        kind, _, data = each["picture"].partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(BytesIO(base64.b64decode(data))) as picture, Image.open(trained[1] / near.path) as whole:
            assert max(picture.size) <= SIDE
            small = [np.asarray(one.convert("RGB").resize((8, 8)), float) for one in (picture, whole)]
        assert np.abs(small[0] - small[1]).mean() < 12
    assert service.loaded.batcher.num_inside == 0


def test_what_is_asked_is_bounded_as_all_else(serve: Serve, photos: TrainingPhotos, files: list[Path]) -> None:
    client, service = serve(photos=photos)
    found = client.post("/neighbours", content=b"<html>")
    assert (found.status_code, "image: is not an image" in found.json()["error"]) == (422, True)
    with service.loaded.batcher.places(128):
        assert client.post("/neighbours", content=files[0].read_bytes()).status_code == 503
    assert client.post("/neighbours", content=files[0].read_bytes()).status_code == 200
    secret, _ = serve(photos=photos, token="a token of enough letters")
    assert secret.post("/neighbours", content=files[0].read_bytes()).status_code == 401


def test_what_is_not_the_image_of_training_is_not_shown(predictor: Predictor, trained: tuple[Path, Path], tmp_path: Path) -> None:
    paths = sorted(predictor.trained.images("train", trained[1]).paths)
    shutil.copytree(trained[1], tmp_path / "photos")
    shutil.copy(trained[1] / paths[1], tmp_path / "photos" / paths[0])
    with opened_photos(predictor.trained, NUMBER, str(tmp_path / "photos"), Progress()) as found:
        assert sorted(found.pictures) == paths[1:]
    (tmp_path / "none").mkdir()
    with (
        pytest.raises(ConfigError, match=r"^--neighbours: none of the training images lies in .*\. Leave it out\.$"),
        opened_photos(predictor.trained, NUMBER, str(tmp_path / "none"), Progress()),
    ):
        pass


def test_where_images_lie_is_asked_only_to_show_them(run: Path, trained: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"^--data: says where the images are that --neighbours N shows\. Give both, or neither\.$"):
        run_server(run, source=str(trained[1]))
    with pytest.raises(ConfigError, match=r"^--neighbours: got 9, expected an integer from 0 to 8\.$"):
        run_server(run, neighbours=9)
