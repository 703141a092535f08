"""Images in, predictions out, for many who ask at once: decoded in threads, within a deadline, answered by one model."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from tl_keras.data.ahead import Image, load_image
from tl_keras.deploy.predictor import Prediction, Predictor
from tl_keras.deploy.serve.batcher import Batcher, FullError
from tl_keras.deploy.serve.limits import DEADLINE_S, Bodies
from tl_keras.deploy.serve.metrics import Metrics


@dataclass(frozen=True)
class Service:
    """What a server has.

    Attributes:
        name: of the model, in addresses: that of the run folder.
        form: what answers, see `choice`.
        predictor: the same.
        batcher: the queue in front of it.
        pool: threads that decode.
        metrics: what is counted.
        bodies: reads what is sent.
        token: what each request must carry; None for nothing.
        deadline_s: from a body until its answer.
    """

    name: str
    form: str
    predictor: Predictor
    batcher: Batcher[Prediction]
    pool: ThreadPoolExecutor
    metrics: Metrics
    bodies: Bodies
    token: str | None = None
    deadline_s: float = DEADLINE_S

    async def classify(self, images: Sequence[Image], names: Sequence[str]) -> list[Prediction]:
        """One prediction for each image, named in errors as `names` say.

        Raises:
            BadImageError: an image does not decode.
            DataError: there is too little memory to decode it.
            HTTPException: 503, there is no room; 504, the deadline has passed.
        """
        try:
            with self.batcher.places(len(images)):
                async with asyncio.timeout(self.deadline_s):
                    found = await asyncio.gather(*map(self._one, images, names))
        except FullError as error:
            raise HTTPException(503, "The server has no room. Ask again.", {"Retry-After": str(error.retry_after_s)}) from error
        except TimeoutError as error:
            raise HTTPException(504, f"There was no answer within {self.deadline_s:g} seconds.") from error
        for each in found:
            if each.novelty is not None and each.known is not None:
                self.metrics.seen(each.novelty, each.known)
        return found

    async def _one(self, image: Image, name: str) -> Prediction:
        trained = self.predictor.trained
        decoded = self.pool.submit(load_image, image, name, trained.image_size, trained.config.data)
        pixels = await asyncio.wrap_future(decoded)
        return await asyncio.wrap_future(self.batcher.submit(pixels))
