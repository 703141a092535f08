"""What is asked over HTTP is answered as `predict` answers it; what cannot be is refused at once, and the server goes on."""

import base64
import json
import re
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from starlette.testclient import TestClient

from tl_keras.data import images
from tl_keras.deploy.predictor import Predictor, as_json
from tl_keras.deploy.serve.batcher import Batcher
from tl_keras.deploy.serve.choice import Form
from tl_keras.deploy.serve.limits import MOST_IMAGES, OPEN, Bodies
from tl_keras.errors import RunFolderError
from tl_keras.workflows.predict import predict

Serve = Callable[..., tuple[TestClient, Any]]
TOKEN = "a token of enough letters"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def is_like(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether two answers are the same; floats to the sixth digit, since batches may add in another order."""
    return found.keys() == expected.keys() and all(
        value == pytest.approx(expected[name], abs=1e-6) if isinstance(value, float | dict) else value == expected[name]
        for name, value in found.items()
    )


@pytest.fixture(scope="module")
def expected(run: Path, files: list[Path]) -> list[dict[str, Any]]:
    found = [as_json(each) for each in predict(run, [str(file) for file in files], coverage=0.5)]
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]  # a tuple is a list there


def tensor(data: Any, datatype: str = "BYTES", **more: Any) -> dict[str, Any]:
    return {"name": "image" if datatype == "BYTES" else "pixels", "datatype": datatype, "shape": list(np.shape(data)), "data": data, **more}


# --- what is answered ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_files_are_answered_as_predict_does(serve: Serve, files: list[Path], expected: list[dict[str, Any]]) -> None:
    client, _ = serve()
    assert {"class", "probability", "novelty", "known", "prediction_set", "probabilities"} == set(expected[0])
    for file, each in zip(files, expected, strict=True):
        for kind in ({}, {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "image/webp"}):
            found = client.post("/predict", content=file.read_bytes(), headers=kind)
            assert found.status_code == 200
            assert is_like(found.json(), each)
    many = client.post("/predict", json={"images": [b64(file.read_bytes()) for file in files]}).json()["predictions"]
    assert all(map(is_like, many, expected))


def test_tensors_are_answered_as_predict_does(
    serve: Serve, predictor: Predictor, files: list[Path], expected: list[dict[str, Any]]
) -> None:
    client, service = serve()
    data = [file.read_bytes() for file in files]
    pixels = np.stack([images.load(file, predictor.trained.image_size, "crop") for file in files])
    as_bytes = b"".join(len(each).to_bytes(4, "little") + each for each in data)
    place = f"/v2/models/{service.name}/infer"

    def behind(head: dict[str, Any], tail: bytes) -> dict[str, Any]:
        text = json.dumps({"inputs": [{**head, "parameters": {"binary_data_size": len(tail)}}]}).encode()
        return {"content": text + tail, "headers": {"Inference-Header-Content-Length": str(len(text))}}

    asked = [
        {"json": {"inputs": [tensor([b64(each) for each in data])]}},
        {"json": {"inputs": [tensor([[b64(each)] for each in data])]}},
        {"json": {"inputs": [tensor(pixels.tolist(), "UINT8")]}},
        {"json": {"inputs": [tensor(pixels.ravel().tolist(), "FP32", shape=list(pixels.shape))]}},
        behind({"name": "image", "datatype": "BYTES", "shape": [3]}, as_bytes),
        behind({"name": "pixels", "datatype": "UINT8", "shape": list(pixels.shape)}, pixels.tobytes()),
        behind({"name": "pixels", "datatype": "FP32", "shape": list(pixels.shape)}, pixels.astype("<f4").tobytes()),
    ]
    for each in asked:
        told = client.post(place, **each).json()
        assert (told["model_name"], told["model_version"]) == (service.name, "0")
        found = {output["name"]: output for output in told["outputs"]}
        assert found["class"]["data"] == [one["class"] for one in expected]
        assert found["known"]["data"] == [one["known"] for one in expected]
        assert found["prediction_set"]["data"] == [";".join(one["prediction_set"]) for one in expected]
        assert found["probabilities"]["shape"] == [3, 3]
        np.testing.assert_allclose(
            found["probabilities"]["data"], [p for one in expected for p in one["probabilities"].values()], atol=1e-6
        )
        np.testing.assert_allclose(found["novelty"]["data"], [one["novelty"] for one in expected], atol=1e-5)
    few = client.post(place, json={"id": "7", "inputs": [tensor([b64(data[0])])], "outputs": [{"name": "probability"}]}).json()
    assert (few["id"], [each["name"] for each in few["outputs"]]) == ("7", ["probability"])


def test_the_metadata_names_what_infer_takes_and_answers(serve: Serve, files: list[Path]) -> None:
    client, service = serve()
    assert client.get("/v2").json()["name"] == "tl_keras"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get(f"/v2/models/{service.name}/ready").json()["ready"]
    told = client.get(f"/v2/models/{service.name}").json()
    assert told["parameters"] == {"classes": ["ant", "bee", "wasp"]}
    answered = client.post(f"/v2/models/{service.name}/infer", json={"inputs": [tensor([b64(files[0].read_bytes())])]}).json()["outputs"]
    assert [(each["name"], each["datatype"]) for each in answered] == [(each["name"], each["datatype"]) for each in told["outputs"]]


def test_prometheus_reads_what_was_counted(serve: Serve, files: list[Path]) -> None:
    client, _ = serve()
    for place in ("/predict", "/predict", "/nowhere"):
        client.post(place, content=files[0].read_bytes())
    client.post("/predict", content=b"")
    found = client.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = found.text.splitlines()
    for line in (
        'tl_keras_info{form="model",version="0"} 1',
        'tl_keras_requests_total{route="predict",status="200"} 2',
        'tl_keras_requests_total{route="predict",status="422"} 1',
        'tl_keras_requests_total{route="none",status="404"} 1',
        'tl_keras_request_seconds_bucket{le="+Inf"} 2',
        "tl_keras_request_seconds_count 2",
        "tl_keras_images_total 2",
        "tl_keras_inside_images 0",
        "tl_keras_recent_images 2",
        "tl_keras_unknown_share 0",
    ):
        assert line in lines
    values = [float(line.rpartition(" ")[2]) for line in lines if not line.startswith("# ")]
    assert np.isfinite(values).all()


def test_the_rules_of_the_docs_name_what_is_counted(serve: Serve, files: list[Path]) -> None:
    client, _ = serve()
    client.post("/predict", content=files[0].read_bytes())
    docs = Path(__file__).parents[3] / "docs" / "serving.md"
    groups = yaml.safe_load(docs.read_text().partition("```yml\n")[2].partition("```")[0])["groups"]
    named = {name for group in groups for rule in group["rules"] for name in re.findall(r"tl_keras_\w+", rule["expr"])}
    assert len(named) == 5
    assert named <= set(re.findall(r"^tl_keras_\w+", client.get("/metrics").text, re.MULTILINE))


# --- what is refused -----------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG of 40,000 x 40,000 pixels in a few kilobytes."""
    parts = (b"IHDR" + (40_000).to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0]), b"IDAT" + zlib.compress(bytes(10**6)), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join((len(part) - 4).to_bytes(4) + part + zlib.crc32(part).to_bytes(4) for part in parts)


def cut_jpeg() -> bytes:
    whole = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "JPEG")
    return whole.getvalue()[:900]


JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"", {}, 422, "image: is empty (0 bytes)."),
        (b"<html>", {}, 422, "image: is not an image"),
        (cut_jpeg(), {}, 422, "image: is a truncated or damaged JPEG"),
        (bomb(), {}, 422, "has 1,600 megapixels (40000 x 40000), more than data.max_megapixels=100"),
        (b"--x\r\n\r\n--x--", FORM, 415, "Forms are not read. Send the bytes of an image file, or JSON"),
        (b"{", JSON, 400, "The body is not JSON"),
        (b"\xff\xfe", JSON, 400, "The body is not JSON"),
        (b"[" * 100_000, JSON, 400, "The body is not JSON"),
        (b"[" + b"9" * 5000 + b"]", JSON, 400, "The body is not JSON"),
        (b"[]", JSON, 400, "no list 'images'"),
        (b'{"images": []}', JSON, 400, "no list 'images' with an image in it"),
        (b'{"images": ["/etc/passwd.jpg"]}', JSON, 400, "images[0]: is not base64"),
        (b'{"images": [7]}', JSON, 400, "images[0]: is not base64"),
        (b'{"images": ["YWJj"]}', JSON, 422, "images[0]: is not an image (first bytes b'abc')"),
        (json.dumps({"images": ["YQ=="] * (MOST_IMAGES + 1)}).encode(), JSON, 413, "Got 33 images, expected at most 32"),
    ],
    ids=lambda given: str(given)[:40],
)
def test_a_bad_body_is_told_what_is_wrong_with_it(one: TestClient, body: bytes, headers: dict[str, str], status: int, words: str) -> None:
    found = one.post("/predict", content=body, headers=headers)
    assert found.status_code == status
    assert words in found.json()["error"]


@pytest.fixture(scope="module")
def one(predictor: Predictor, files: list[Path]) -> Any:
    """A server for all bad bodies, which answers a good one at the end."""
    from tl_keras.deploy.serve.app import make_app
    from tl_keras.workflows.serve import serving

    with serving(Form("model", "0", predictor)) as service, TestClient(make_app(service), raise_server_exceptions=False) as client:
        yield client
        assert client.post("/predict", content=files[0].read_bytes()).status_code == 200
        assert (service.loaded.batcher.num_inside, service.bodies.num_held) == (0, 0)


PIXEL = tensor([[[[1, 2, 3]]]], "UINT8")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "inputs: expected one tensor"),
        ({"inputs": [PIXEL, PIXEL]}, "inputs: expected one tensor"),
        ({"inputs": [{**PIXEL, "name": "x"}]}, "got a tensor 'x', expected 'pixels' or 'image'"),
        ({"inputs": [{**PIXEL, "shape": [1, 1, 3]}]}, "expected UINT8 or FP32 of the shape [n, h, w, 3]"),
        ({"inputs": [{**PIXEL, "shape": [1, 1, 2, 3]}]}, "pixels: got 3 numbers, expected 6"),
        ({"inputs": [{**PIXEL, "shape": [0, 1, 1, 3]}]}, "expected a list of integers above 0"),
        ({"inputs": [{**PIXEL, "shape": [True, 1, 1, 3]}]}, "expected a list of integers above 0"),
        ({"inputs": [{**PIXEL, "shape": [99, 1, 1, 3]}]}, "Got 99 images, expected at most 32"),
        ({"inputs": [{**PIXEL, "datatype": "INT64"}]}, "pixels: got 'INT64'"),
        ({"inputs": [{**PIXEL, "datatype": ["UINT8"]}]}, "pixels: got ['UINT8']"),
        ({"inputs": [{**PIXEL, "data": [1, 2, 256]}]}, "expected numbers from 0 to 255"),
        ({"inputs": [{**PIXEL, "data": [1, 2, float("nan")]}]}, "expected numbers from 0 to 255"),
        ({"inputs": [{**PIXEL, "data": [1, 2, "x"]}]}, "its data is not a list of numbers"),
        ({"inputs": [{**PIXEL, "data": [[1, 2], 3]}]}, "its data is not a list of numbers"),
        ({"inputs": [{**PIXEL, "data": None}]}, "pixels: expected a list 'data'"),
        ({"inputs": [{**PIXEL, "parameters": {"binary_data_size": 3}}]}, "got binary_data_size=3 and 0 bytes"),
        ({"inputs": [tensor(["YQ=="], shape=[2])]}, "image: got 1 files"),
        ({"inputs": [tensor(["YQ=="], shape=[1, 2])]}, "expected BYTES of the shape [n] or [n, 1]"),
        ({"inputs": [tensor(["?"])]}, "image.data[0]: is not base64"),
        ({"inputs": [tensor(["YQ=="])]}, "image[0]: is not an image"),
        ({"inputs": [PIXEL], "outputs": [{"name": "x"}]}, "outputs: got 'x', expected some of class, probability"),
        ({"inputs": [PIXEL], "outputs": ["class"]}, "outputs: expected a list such as"),
        ({"inputs": [PIXEL], "id": 7}, "id: expected a text"),
    ],
)
def test_a_tensor_that_the_model_does_not_take_is_told_why(one: TestClient, asked: Any, words: str) -> None:
    found = one.post("/v2/models/R/infer", content=json.dumps(asked))
    assert found.status_code in (400, 413, 422)
    assert words in found.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99", "²"])
def test_a_length_of_json_that_cannot_be_is_refused(one: TestClient, length: str) -> None:
    found = one.post("/v2/models/R/infer", content=b"{}", headers={"Inference-Header-Content-Length": length.encode()})
    assert found.status_code == 400
    assert "Inference-Header-Content-Length" in found.json()["error"]


def test_files_behind_the_json_that_end_early_are_refused(one: TestClient) -> None:
    for tail in (b"\x05\x00\x00\x00ab", b"\x01\x00"):
        head = json.dumps(
            {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(tail)}}]}
        ).encode()
        found = one.post("/v2/models/R/infer", content=head + tail, headers={"Inference-Header-Content-Length": str(len(head))})
        assert (found.status_code, found.json()["error"]) == (400, "image: its bytes end within a file.")


@pytest.mark.parametrize("place", ["/v2/models/other", "/v2/models/..%2F..%2Fetc%2Fpasswd/infer", "/../../etc/passwd", "/static/x"])
def test_no_address_leads_to_a_file(one: TestClient, place: str) -> None:
    found = one.request("POST" if "infer" in place else "GET", place)
    assert (found.status_code, list(found.json())) == (404, ["error"])


def test_other_sites_are_told_nothing(one: TestClient) -> None:
    found = one.get("/v2", headers={"Origin": "https://example.org"})
    assert not [name for name in found.headers if name.startswith("access-control")]
    assert one.options("/predict", headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}).status_code == 405


def test_a_body_is_refused_as_soon_as_it_is_too_large(serve: Serve) -> None:
    client, service = serve(bodies=Bodies(most_bytes=1000))
    read = []

    def parts() -> Any:
        for _ in range(5):
            read.append(500)
            yield b"x" * 500

    for content in (b"x" * 1001, parts()):  # declared, and not
        found = client.post("/predict", content=content)
        assert found.status_code == 413
        assert "larger than 0.000953674 MB, the most that is read" in found.json()["error"]
    assert service.bodies.num_held == 0


def test_bodies_that_are_too_large_together_are_refused_until_there_is_room(serve: Serve, files: list[Path]) -> None:
    client, service = serve(bodies=Bodies(most_held=10_000))
    service.bodies.num_held = 10_000  # of others
    found = client.post("/predict", content=files[0].read_bytes())
    assert (found.status_code, found.headers["retry-after"]) == (503, "1")
    service.bodies.num_held = 0
    assert client.post("/predict", content=files[0].read_bytes()).status_code == 200


# --- load ----------------------------------------------------------------------------------------------------------


class Stopped:
    """A model that answers once it may."""

    def __init__(self, predictor: Predictor) -> None:
        self.begun, self.may, self._predictor = Event(), Event(), predictor

    def __call__(self, pixels: Any) -> Any:
        self.begun.set()
        assert self.may.wait(10)
        return self._predictor.told(pixels)


def test_a_full_server_says_when_to_come_back_and_recovers(serve: Serve, predictor: Predictor, files: list[Path]) -> None:
    stopped, found = Stopped(predictor), []
    with Batcher(stopped, lambda *_: None, most_inside=1) as batcher:
        client, _ = serve(batcher=batcher)
        first = Thread(target=lambda: found.append(client.post("/predict", content=files[0].read_bytes())))
        first.start()
        assert stopped.begun.wait(10)
        second = client.post("/predict", content=files[0].read_bytes())
        assert (second.status_code, second.headers["retry-after"]) == (503, "1")
        assert client.get("/v2/health/live").status_code == 200
        stopped.may.set()
        first.join()
        assert found[0].status_code == 200
        assert client.post("/predict", content=files[0].read_bytes()).status_code == 200


def test_who_waits_too_long_is_told_so_and_is_not_computed(serve: Serve, predictor: Predictor, files: list[Path]) -> None:
    stopped, sizes = Stopped(predictor), []
    with Batcher(stopped, lambda number, seconds: sizes.append(number)) as batcher:
        client, _ = serve(batcher=batcher, deadline_s=0.1)
        for _ in range(2):
            found = client.post("/predict", content=files[0].read_bytes())
            assert (found.status_code, found.json()["error"]) == (504, "There was no answer within 0.1 seconds.")
        assert batcher.num_inside == 0
        stopped.may.set()
    assert sizes == [1]  # the first had begun


def test_a_model_that_fails_is_not_the_end_and_the_log_says_why(
    serve: Serve, predictor: Predictor, files: list[Path], logged: list[dict[str, Any]]
) -> None:
    errors: list[Exception] = [RunFolderError("R: /home/me/R is broken."), ValueError("secret")]

    def tell(pixels: Any) -> Any:
        if errors:
            raise errors.pop()
        return predictor.told(pixels)

    with Batcher(tell, lambda *_: None) as batcher:
        client, _ = serve(batcher=batcher)
        for words in ("The server has failed. See its log.", "The model does not answer. See the log of the server."):
            found = client.post("/predict", content=files[0].read_bytes())
            assert (found.status_code, found.json()["error"]) == (500, words)
            assert logged[-1]["request_id"] == found.headers["x-request-id"]
        assert client.post("/predict", content=files[0].read_bytes()).status_code == 200
    assert [(line["level"], line["message"]) for line in logged] == [
        ("error", "a request has failed"),
        ("error", "the model does not answer"),
    ]
    assert "ValueError: secret" in logged[0]["traceback"]
    assert "RunFolderError: R: /home/me/R is broken." in logged[1]["traceback"]


# --- the log -------------------------------------------------------------------------------------------------------


def test_each_request_is_a_line_where_that_is_asked_for(serve: Serve, files: list[Path], logged: list[dict[str, Any]]) -> None:
    client, service = serve(token=TOKEN, has_access_log=True)
    known = {"Authorization": f"Bearer {TOKEN}"}
    image = files[0].read_bytes()
    client.post("/predict", content=image, headers=known | {"X-Request-ID": "order-7"})
    client.post(f"/v2/models/{service.name}/infer", json={"inputs": [tensor([b64(image)] * 2)]}, headers=known)
    client.post("/predict", content=b"<html>", headers=known)
    client.post("/predict", content=image)
    client.get("/nowhere", headers=known)
    own = {"level": "info", "message": "request"}
    form = {"form": "model", "version": "0"}
    others = [
        {"route": "predict", "status": 200, "request_id": "order-7", "images": 1, **form},
        {"route": "infer", "status": 200, "images": 2, **form},
        {"route": "predict", "status": 422, "images": 1, "error": "image: is not an image (first bytes b'<html>')."},
        {"route": "none", "status": 401, "error": "Expected the server's token: the header 'Authorization: Bearer TOKEN'."},
        {"route": "none", "status": 404, "error": "Not Found"},
    ]
    for line, expected in zip(logged, others, strict=True):
        assert line.pop("time").endswith("+00:00")
        assert line.pop("ms") >= 0
        assert ("request_id" in expected) or line.pop("request_id")
        assert line == own | expected
    assert TOKEN not in str(logged)
    assert b64(image)[:20] not in str(logged)


def test_without_that_only_what_fails_is_written(serve: Serve, files: list[Path], logged: list[dict[str, Any]]) -> None:
    client, _ = serve()
    client.post("/predict", content=files[0].read_bytes())
    client.post("/predict", content=b"")
    assert not logged


@pytest.mark.parametrize(("given", "is_taken"), [("a-1_b.c:d", True), ("", False), ("x" * 65, False), ("a b", False), ("é", False)])
def test_a_request_has_the_name_that_it_gives_itself_if_it_is_plain(one: TestClient, given: str, is_taken: bool) -> None:
    found = {one.get("/v2", headers={"X-Request-ID": given.encode()}).headers["x-request-id"] for _ in range(2)}
    assert (found == {given}) is is_taken
    assert len(found) == 1 if is_taken else len(found) == 2


# --- the token -----------------------------------------------------------------------------------------------------


def test_without_the_token_only_the_page_and_the_health_answer(serve: Serve, files: list[Path]) -> None:
    client, service = serve(token=TOKEN)
    for place in OPEN:
        assert client.get(place).status_code == 200
    for given in (
        {},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer é".encode()},
        {"Host": "x/v2/health/live?"},
    ):
        for place in ("/v2", "/metrics", f"/v2/models/{service.name}", "/nowhere"):
            found = client.get(place, headers=given)
            assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")
        assert client.post("/predict", content=files[0].read_bytes(), headers=given).status_code == 401
    assert client.post("/predict", content=files[0].read_bytes(), headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
