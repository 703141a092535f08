"""What waits together is answered together, in order; more than can be answered in time is not accepted."""

from threading import Event
from typing import Any

import numpy as np
import pytest

from tl_keras.deploy.serve.batcher import LONGEST_S, MOST_AT_ONCE, Batcher, FullError


def image(value: int) -> Any:
    return np.full((2, 2, 3), value, np.uint8)


class Slow:
    """Answers the first number of each image, once it may."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.begun, self.may = Event(), Event()

    def __call__(self, pixels: Any) -> list[int]:
        self.sizes.append(len(pixels))
        self.begun.set()
        assert self.may.wait(10)
        return pixels[:, 0, 0, 0].tolist()


def test_what_has_queued_is_answered_at_once_and_each_gets_its_own() -> None:
    slow, counted = Slow(), []
    with Batcher(slow, lambda number, seconds: counted.append(number)) as batcher:
        first = batcher.submit(image(200))
        assert slow.begun.wait(10)
        answers = [batcher.submit(image(value)) for value in range(MOST_AT_ONCE + 3)]
        answers[5].cancel()
        slow.may.set()
        assert first.result(10) == 200
        assert [each.result(10) for each in answers if not each.cancelled()] == [value for value in range(MOST_AT_ONCE + 3) if value != 5]
    assert slow.sizes == counted == [1, MOST_AT_ONCE - 1, 3]


def test_what_is_queued_when_it_ends_is_answered() -> None:
    slow = Slow()
    with Batcher(slow, lambda *_: None) as batcher:
        answers = [batcher.submit(image(value)) for value in range(40)]
        slow.may.set()
    assert [each.result(0) for each in answers] == list(range(40))


def test_a_model_that_fails_fails_for_its_batch_alone() -> None:
    def tell(pixels: Any) -> list[int]:
        if pixels[0, 0, 0, 0] == 13:
            raise ValueError("unlucky")
        return [1] * len(pixels)

    with Batcher(tell, lambda *_: None) as batcher:
        with pytest.raises(ValueError, match="unlucky"):
            batcher.submit(image(13)).result(10)
        assert batcher.submit(image(1)).result(10) == 1


def test_there_are_so_many_places_and_they_are_given_back() -> None:
    batcher = Batcher(lambda pixels: [], lambda *_: None, most_inside=3)
    with batcher.places(3), pytest.raises(FullError) as full, batcher.places(1):
        pass
    assert full.value.retry_after_s == 1
    with pytest.raises(RuntimeError), batcher.places(2):
        raise RuntimeError
    assert batcher.num_inside == 0
    with batcher.places(8):  # more than there are, where nobody else is: they would never fit
        assert batcher.num_inside == 8


def test_who_would_wait_too_long_is_sent_away_and_an_empty_server_takes_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("tl_keras.deploy.serve.batcher.time.perf_counter", lambda: now[0])
    batcher = Batcher(lambda pixels: [], lambda *_: None)
    for _ in range(100):
        with batcher.places(1):
            now[0] += LONGEST_S / 4
    with batcher.places(3):
        with pytest.raises(FullError) as full, batcher.places(2):
            pass
        assert full.value.retry_after_s == 7  # 5 images of 1.25 s
        with batcher.places(1):
            pass
