"""A new export takes the place of what answers: no request is lost, none is answered by both, and what is bad is refused."""

import base64
import time
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from starlette.testclient import TestClient

from tl_keras.deploy.predictor import Prediction, Predictor
from tl_keras.deploy.serve.batcher import Batcher
from tl_keras.deploy.serve.choice import Form
from tl_keras.deploy.serve.reload import Reloader, require_alike, stamp_of
from tl_keras.errors import RunFolderError
from tl_keras.run_folder import EXPORT_RECORD, write_text

Serve = Callable[..., tuple[TestClient, Any]]


class Named(Predictor):
    """Answers with one probability for all images, by which it is known."""

    def __init__(self, like: Predictor, probability: float) -> None:
        vars(self).update(vars(like))
        self._probability = probability

    def told(self, pixels: Any) -> list[Prediction]:
        return [Prediction("", self.trained.index.classes, "ant", self._probability, novelty=0.0, known=True) for _ in pixels]


def ask(client: TestClient, file: Path, number: int = 1) -> list[float]:
    """The probabilities of one request."""
    told = client.post("/predict", json={"images": [base64.b64encode(file.read_bytes()).decode()] * number})
    assert told.status_code == 200
    return [each["probability"] for each in told.json()["predictions"]]


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_was_accepted_before_is_answered_by_the_old_one_and_what_comes_later_by_the_new(
    serve: Serve, predictor: Predictor, files: list[Path]
) -> None:
    old, new, may, found = Named(predictor, 0.25), Named(predictor, 0.75), Event(), []

    def tell(pixels: Any) -> list[Prediction]:
        assert may.wait(10)
        return old.told(pixels)

    client, service = serve(batcher=Batcher(tell, lambda *_: None).start())
    before = service.loaded
    asking = [Thread(target=lambda: found.append(ask(client, files[0], 3))) for _ in range(2)]
    for thread in asking:
        thread.start()
    until(lambda: before.batcher.num_inside == 6)
    replacing = Thread(target=service.replace, args=[Form("onnx", "2", new)])
    replacing.start()
    until(lambda: service.loaded is not before)
    assert ask(client, files[0], 2) == [0.75] * 2
    assert replacing.is_alive()  # until the old one has answered
    may.set()
    for thread in (*asking, replacing):
        thread.join(10)
    assert found == [[0.25] * 3] * 2
    assert not before.batcher._thread.is_alive()


def test_no_request_is_lost_or_answered_by_two(serve: Serve, predictor: Predictor, files: list[Path]) -> None:
    client, service = serve()
    forms = [Form("onnx", str(number), Named(predictor, number / 10)) for number in range(10)]
    service.replace(forms[0])
    found, ended = [], Event()

    def go_on_asking() -> None:
        while not ended.is_set():
            found.append(ask(client, files[0], 4))

    asking = [Thread(target=go_on_asking) for _ in range(3)]
    for thread in asking:
        thread.start()
    for form in forms:
        service.replace(form)
        number = len(found)  # of the form before at most 3 come yet
        until(lambda number=number: len(found) > number + 3)  # type: ignore[misc]
    ended.set()
    for thread in asking:
        thread.join(10)
    assert all(len(each) == 4 and len(set(each)) == 1 for each in found)
    assert {each[0] for each in found} == {number / 10 for number in range(10)}
    assert service.metrics.images == 4 * len(found)


def test_a_new_export_is_noticed_once_nobody_writes_it_any_more(
    serve: Serve, predictor: Predictor, files: list[Path], tmp_path: Path, logged: list[Any]
) -> None:
    client, service = serve()
    opened, record = list[str](), tmp_path / EXPORT_RECORD
    strange = copy(predictor)
    strange.novelty = None  # its answers would tell other things
    bad = [ValueError("a defect"), RunFolderError("R: is damaged."), Form("onnx", "1", strange)]
    answers: list[Any] = [*bad, Form("onnx", "2", Named(predictor, 0.5)), None]

    def open_other(version: str) -> Form | None:
        opened.append(version)
        answer = answers[len(opened) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    write_text(record, "0")
    with Reloader(service, tmp_path, stamp_of(tmp_path), open_other, poll_s=0.01):
        time.sleep(0.05)
        assert not opened
        for number in range(1, 6):
            write_text(record, "x" * number)
            until(lambda number=number: len(opened) == number)  # type: ignore[misc]
            until(lambda number=number: sum(service.metrics.reloads.values()) == min(number, 4))  # type: ignore[misc]
            time.sleep(0.05)
            assert len(opened) == number  # what was refused is not tried again as long as it is the same
    assert opened == ["0", "0", "0", "0", "2"]
    assert service.metrics.reloads == {"loaded": 1, "refused": 3}
    assert (ask(client, files[0]), service.loaded.version) == ([0.5], "2")
    assert client.get(f"/v2/models/{service.name}").json()["versions"] == ["2"]
    assert 'tl_keras_info{form="onnx",version="2"} 1' in client.get("/metrics").text
    assert ["a defect" in logged[0]["message"], "traceback" in logged[0]] == [True, True]
    assert ["R: is damaged." in logged[1]["message"], "traceback" in logged[1]] == [True, False]
    assert "tells other things of an image" in logged[2]["message"]
    assert (logged[3]["form"], logged[3]["version"]) == ("onnx", "2")


def test_files_that_change_while_they_are_opened_are_opened_again(serve: Serve, predictor: Predictor, tmp_path: Path) -> None:
    _, service = serve()
    opened, record = list[str](), tmp_path / EXPORT_RECORD

    def open_other(version: str) -> Form:
        opened.append(version)
        if len(opened) == 1:
            write_text(record, "another")
        return Form("onnx", f"of try {len(opened)}", predictor)

    with Reloader(service, tmp_path, frozenset(), open_other, poll_s=0.01):
        write_text(record, "one")
        until(lambda: service.loaded.version != "0")
    assert service.loaded.version == "of try 2"


def test_a_stamp_changes_with_every_file_of_an_export(tmp_path: Path) -> None:
    found = [stamp_of(tmp_path)]
    for name in (EXPORT_RECORD, "model.onnx", "saved_model/variables/variables.index"):
        for text in ("a", "b" * len(found)):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
            found.append(stamp_of(tmp_path))
    (tmp_path / "others.txt").write_text("which no export has")
    assert stamp_of(tmp_path) == found[-1]
    assert len(set(found)) == len(found) == 7


def test_what_would_answer_in_other_terms_is_refused(predictor: Predictor) -> None:
    require_alike(predictor, Named(predictor, 0.5))
    index = replace(predictor.trained.index, classes=("ant", "bee", "fly"))
    others = copy(predictor), copy(predictor), copy(predictor)
    others[0].trained, others[1].novelty, others[2].thresholds = replace(predictor.trained, index=index), None, None
    for other in others:
        with pytest.raises(
            RunFolderError, match=r"R: has other classes than what answers, or tells other things .* Start the server again"
        ):
            require_alike(predictor, other)
