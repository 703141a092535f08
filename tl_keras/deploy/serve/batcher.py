"""One queue in front of a model: images that wait together are answered together, and no more wait than can be answered in time.

Nothing waits for company: while the model is busy a queue builds up by itself, and the next batch is what has queued.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Condition, Thread
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

MOST_AT_ONCE = 32  # images of a batch
MOST_INSIDE = 128  # images that are accepted and not answered
LONGEST_S = 5.0  # half of a request's deadline: who would probably wait longer is sent away at once
NEW = 0.1  # how much the latest request counts in the pace

Told = TypeVar("Told")
Pixels = NDArray[np.uint8]


class FullError(Exception):
    """No more images are accepted; `retry_after_s` is when there will be room, as far as can be told."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Waiting(NamedTuple):
    """An image in the queue: uint8 (h, w, 3), and where its answer goes."""

    pixels: Pixels
    answer: Future  # type: ignore[type-arg]


class Batcher(Generic[Told]):
    """Runs a model in one thread, on what has queued up; a context manager.

    Args:
        tell: uint8 (b, h, w, 3), b from 1 to `MOST_AT_ONCE` -> an answer for each image. It is called in that thread only.
        on_batch: is told of each batch how many images it had and how many seconds it took.
        most_inside: images that may be accepted and not answered.
    """

    def __init__(
        self, tell: Callable[[Pixels], Sequence[Told]], on_batch: Callable[[int, float], None], *, most_inside: int = MOST_INSIDE
    ) -> None:
        self._tell, self._on_batch, self._most = tell, on_batch, most_inside
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._changing = Condition()
        self._pace = 0.0  # seconds that a request takes for each image that is inside when it comes
        self._thread = Thread(target=self._work, name="model", daemon=True)
        self.num_inside = 0

    def __enter__(self) -> "Batcher[Told]":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def start(self) -> "Batcher[Told]":
        """Begin to answer."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Answer what has queued, and end; nothing may be submitted any more."""
        self._queue.put(None)
        self._thread.join()

    def drain(self) -> None:
        """Wait until nothing is inside; who calls it sees to it that nothing comes in."""
        with self._changing:
            self._changing.wait_for(lambda: self.num_inside == 0)

    @contextmanager
    def places(self, number: int) -> Iterator[None]:
        """Hold room for images, from before they are decoded until they are answered.

        Raises:
            FullError: there is none, or they would probably wait longer than `LONGEST_S`.
        """
        begun = time.perf_counter()
        with self._changing:
            inside = self.num_inside + number
            if self.num_inside and (inside > self._most or inside * self._pace > LONGEST_S):
                raise FullError(max(1, math.ceil(inside * self._pace)))
            self.num_inside = inside
        is_measured = True
        try:
            yield
        except Exception as error:
            is_measured = isinstance(error, TimeoutError)  # a bad image takes no time, which says nothing of others
            raise
        finally:
            with self._changing:
                self.num_inside -= number
                self._changing.notify_all()
                if is_measured:
                    self._pace += NEW * ((time.perf_counter() - begun) / inside - self._pace)

    def submit(self, pixels: Pixels) -> "Future[Told]":
        """Queue an image, uint8 (h, w, 3), all of one size; an answer that is cancelled is not computed."""
        answer: Future[Told] = Future()
        self._queue.put(Waiting(pixels, answer))
        return answer

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < MOST_AT_ONCE and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    self._queue.put(None)
                    break
                batch.append(following)
            self._answer([each for each in batch if each.answer.set_running_or_notify_cancel()])

    def _answer(self, batch: Sequence[Waiting]) -> None:
        if not batch:
            return
        begun = time.perf_counter()
        try:
            told = self._tell(np.stack([each.pixels for each in batch]))
        except Exception as error:  # whoever asked gets it, and the next batch may do
            for each in batch:
                each.answer.set_exception(error)
            return
        self._on_batch(len(batch), time.perf_counter() - begun)
        for each, answer in zip(batch, told, strict=True):
            each.answer.set_result(answer)
