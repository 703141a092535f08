"""Images in, predictions out, for many who ask at once: decoded in threads, within a deadline, answered by one model."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from threading import Lock

from starlette.exceptions import HTTPException

from tl_keras.data.ahead import Image, load_image
from tl_keras.deploy.predictor import Prediction, Predictor
from tl_keras.deploy.serve.batcher import Batcher, FullError, Pixels
from tl_keras.deploy.serve.choice import Form
from tl_keras.deploy.serve.limits import DEADLINE_S, Bodies
from tl_keras.deploy.serve.metrics import Metrics
from tl_keras.deploy.serve.training_photos import TrainingPhotos


@dataclass(frozen=True)
class Loaded:
    """What answers, which is replaced as a whole; see `choice.Form`.

    Attributes:
        batcher: the queue in front of it.
    """

    form: str
    version: str
    predictor: Predictor
    batcher: Batcher[Prediction]

    async def told(self, pixels: Pixels) -> Prediction:
        """What is told of an image, uint8 (h, w, 3) of the model's size; there must be `room`."""
        return await asyncio.wrap_future(self.batcher.submit(pixels))


@dataclass
class Service:
    """What a server has.

    Attributes:
        name: of the model, in addresses: that of the run folder.
        loaded: what answers now.
        pool: threads that decode.
        metrics: what is counted.
        bodies: reads what is sent.
        token: what each request must carry; None for nothing.
        deadline_s: from a body until its answer.
        has_access_log: whether each request is written down.
        photos: training images that are shown to whoever asks; None for none.
    """

    name: str
    loaded: Loaded
    pool: ThreadPoolExecutor
    metrics: Metrics
    bodies: Bodies
    token: str | None = None
    deadline_s: float = DEADLINE_S
    has_access_log: bool = False
    photos: TrainingPhotos | None = None
    _replacing: Lock = field(default_factory=Lock)

    @property
    def predictor(self) -> Predictor:
        """What answers now."""
        return self.loaded.predictor

    def replace(self, form: Form) -> None:
        """Let another form answer: all that comes from now on. Returns once what came before is answered, by the one before."""
        loaded = Loaded(*form, Batcher(form.predictor.told, self.metrics.batch).start())
        with self._replacing:
            before, self.loaded = self.loaded, loaded
            self.metrics.forget()
        before.batcher.drain()
        before.batcher.close()

    @contextmanager
    def _places(self, number: int) -> Iterator[Loaded]:
        """Room for images, in front of what answers all of them, whatever is loaded meanwhile."""
        with ExitStack() as held:
            with self._replacing:  # or it could end between being chosen and being asked
                loaded = self.loaded
                held.enter_context(loaded.batcher.places(number))
            yield loaded

    @asynccontextmanager
    async def room(self, number: int) -> AsyncIterator[Loaded]:
        """Room for so many images, until they are answered within the deadline, all by what is given.

        Raises:
            HTTPException: 503, there is no room; 504, the deadline has passed.
        """
        try:
            with self._places(number) as loaded:
                async with asyncio.timeout(self.deadline_s):
                    yield loaded
        except FullError as error:
            raise HTTPException(503, "The server has no room. Ask again.", {"Retry-After": str(error.retry_after_s)}) from error
        except TimeoutError as error:
            raise HTTPException(504, f"There was no answer within {self.deadline_s:g} seconds.") from error

    async def classify(self, images: Sequence[Image], names: Sequence[str]) -> tuple[list[Prediction], Loaded]:
        """One prediction for each image, named in errors as `names` say; and what made them all.

        Raises:
            BadImageError: an image does not decode.
            DataError: there is too little memory to decode it.
            HTTPException: see `room`.
        """
        async with self.room(len(images)) as loaded:
            found = await asyncio.gather(*(self._one(loaded, *each) for each in zip(images, names, strict=True)))
        for each in found if loaded is self.loaded else ():
            if each.novelty is not None and each.known is not None:
                self.metrics.seen(each.novelty, each.known)
        return found, loaded

    async def _one(self, loaded: Loaded, image: Image, name: str) -> Prediction:
        return await loaded.told(await self.decoded(loaded, image, name))

    async def decoded(self, loaded: Loaded, image: Image, name: str) -> Pixels:
        """An image as the model takes it, uint8 (h, w, 3); there must be `room`."""
        trained = loaded.predictor.trained
        return await asyncio.wrap_future(self.pool.submit(load_image, image, name, trained.image_size, trained.config.data))
