"""A map over HTTP is that of `explain`, by answers alone, and takes no more of a server than others leave."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from tl_keras.data import images
from tl_keras.deploy.predictor import Predictor
from tl_keras.deploy.serve.app import make_app
from tl_keras.deploy.serve.batcher import MOST_AT_ONCE, Batcher
from tl_keras.deploy.serve.choice import Form
from tl_keras.deploy.serve.heat_map import AT_ONCE, NUM_IMAGES
from tl_keras.evaluation.explain.explainer import Explainer
from tl_keras.evaluation.explain.occlusion import occlusion
from tl_keras.evaluation.explain.overlay import peak
from tl_keras.models.outputs import MultiLabel, Output, Regression
from tl_keras.workflows.serve import serving

Serve = Callable[..., tuple[TestClient, Any]]


def test_it_is_the_map_that_explain_makes(serve: Serve, predictor: Predictor, files: list[Path]) -> None:
    client, service = serve()
    trained = predictor.trained
    pixels = images.load(files[0], trained.image_size, "crop")
    explainer = Explainer(trained.model, trained.index.output, {})
    answer = client.post("/predict", content=files[0].read_bytes()).json()["class"]
    for address, label in (("/explain", answer), ("/explain?label=wasp", "wasp")):
        found = client.post(address, content=files[0].read_bytes()).json()
        (expected,) = occlusion(explainer, pixels[None], [trained.index.classes.index(label)])
        assert found["label"] == label
        assert np.std(expected) > 0
        np.testing.assert_allclose(found["map"], expected, rtol=1e-3, atol=1e-4)
        assert found["peak"] == pytest.approx(peak(expected, "single_label"))
        assert (found["image_size"], found["resize"]) == (list(trained.image_size), "crop")
    assert service.metrics.images == 1 + 2 * NUM_IMAGES
    assert "tl_keras_novelty" in client.get("/metrics").text
    assert len(service.metrics._novelty) == 1  # images with a patch say nothing about what people send


class Corner(Predictor):
    """Tells how bright the upper left corner is, in the terms of another task."""

    def __init__(self, predictor: Predictor, output: Output, classes: tuple[str, ...]) -> None:
        index = predictor.trained.index
        number = len(index.paths)
        labels = np.zeros(number, np.float32) if isinstance(output, Regression) else np.zeros((number, len(classes)), bool)
        super().__init__(replace(predictor.trained, index=replace(index, classes=classes, output=output, labels=labels)))
        self.novelty = None

    def answers(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], None]:
        bright = pixels[:, :4, :4].mean(axis=(1, 2, 3)) / 255
        return np.stack([(1 - bright) / 2, 0.1 + 0.8 * bright], axis=1)[:, -len(self.trained.index.classes) :], None


@pytest.mark.parametrize(("output", "classes"), [(Regression(mean=0.0, scale=1.0), ("mass",)), (MultiLabel(), ("dark", "bright"))])
def test_it_suits_every_task(predictor: Predictor, output: Output, classes: tuple[str, ...]) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, :32] = 250
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    with (
        serving(Form("model", "0", Corner(predictor, output, classes))) as service,
        TestClient(make_app(service), raise_server_exceptions=False) as client,
    ):
        found = client.post("/explain", content=file.getvalue()).json()
        assert found["label"] == classes[-1]
        assert max(found["peak"]) < 0.3
        refused = client.post("/explain?label=x", content=file.getvalue())
        assert refused.status_code == 400
        assert ("has no classes" if len(classes) == 1 else "'x', which is not a class") in refused.json()["error"]


def test_what_cannot_be_explained_is_told_so(serve: Serve, files: list[Path]) -> None:
    client, service = serve()
    for address, body, status, words in (
        ("/explain", b"", 422, "image: is empty (0 bytes)."),
        ("/explain", b"<html>", 422, "image: is not an image"),
        ("/explain?label=bees", files[0].read_bytes(), 400, "label: got 'bees', which is not a class of the model."),
    ):
        found = client.post(address, content=body)
        assert (found.status_code, words in found.json()["error"]) == (status, True)
    assert client.get("/explain").status_code == 405
    assert service.loaded.batcher.num_inside == 0


def test_there_must_be_room_for_all_of_it(serve: Serve, predictor: Predictor, files: list[Path]) -> None:
    client, _ = serve(batcher=(batcher := Batcher(predictor.told, lambda *_: None, most_inside=NUM_IMAGES).start()))
    with batcher.places(1):
        found = client.post("/explain", content=files[0].read_bytes())
        assert (found.status_code, found.headers["retry-after"]) == (503, "1")
    assert client.post("/explain", content=files[0].read_bytes()).status_code == 200


def test_others_are_answered_in_between(serve: Serve, predictor: Predictor, files: list[Path]) -> None:
    begun, may, sizes = Event(), Event(), list[int]()

    def tell(pixels: NDArray[np.uint8]) -> Any:
        sizes.append(len(pixels))
        if sizes == [1, AT_ONCE]:
            begun.set()
            assert may.wait(10)
        return predictor.told(pixels)

    client, service = serve(batcher=Batcher(tell, lambda *_: None).start())
    done: list[str] = []

    def ask(address: str) -> None:
        assert client.post(address, content=files[0].read_bytes()).status_code == 200
        done.append(address)

    threads = [Thread(target=ask, args=[address]) for address in ("/explain", "/predict")]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    while service.loaded.batcher.num_inside != NUM_IMAGES + 1:
        pass
    may.set()
    for thread in threads:
        thread.join()
    assert sum(sizes) == NUM_IMAGES + 1
    assert max(sizes) <= AT_ONCE + 1 < MOST_AT_ONCE
    assert done == ["/predict", "/explain"]


def test_a_map_that_takes_too_long_is_given_up(serve: Serve, predictor: Predictor, files: list[Path]) -> None:
    may, sizes = Event(), list[int]()

    def tell(pixels: NDArray[np.uint8]) -> Any:
        sizes.append(len(pixels))
        assert len(sizes) == 1 or may.wait(10)
        return predictor.told(pixels)

    client, service = serve(batcher=Batcher(tell, lambda *_: None).start(), deadline_s=0.3)
    found = client.post("/explain", content=files[0].read_bytes())
    assert (found.status_code, found.json()["error"]) == (504, "There was no answer within 0.3 seconds.")
    assert service.loaded.batcher.num_inside == 0
    may.set()
    service.loaded.batcher.close()
    assert sum(sizes) <= 1 + AT_ONCE
