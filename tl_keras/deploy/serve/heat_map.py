"""Where in an image an answer comes from: occlusion, which needs nothing of what answers but more answers, from the same queue.

The patches are asked about a few at a time, so that other requests are answered in between and few images are in memory.
"""

import asyncio
from itertools import islice
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from tl_keras.data.index import Index
from tl_keras.deploy.predictor import Prediction
from tl_keras.deploy.serve.service import Loaded, Service
from tl_keras.evaluation.explain.evidence import evidence_of_answers
from tl_keras.evaluation.explain.occlusion import PLACES, covered, map_of
from tl_keras.evaluation.explain.overlay import peak
from tl_keras.tasks import MULTI_LABEL, REGRESSION

AT_ONCE = 16  # images that wait in the queue for one request
NUM_IMAGES = 1 + len(PLACES)  # that a request asks about


async def heat_map(service: Service, image: bytes, label: str | None) -> tuple[dict[str, Any], Loaded]:
    """The map of an image file, for JSON, and what made it.

    Args:
        label: the class that it is for; None for the answer, which of several classes is the most probable.

    Returns:
        `label`, the name of the class or the number; `map`, rows of numbers, in each cell how much evidence is lost where it is covered
        (below 0: won); `peak`, the strongest place as shares of height and width, or None; `image_size` and `resize`, what of the image
        the map covers.

    Raises:
        HTTPException: 400, there is no such class; 503 or 504, see `Service.room`.
        BadImageError: the image does not decode.
        DataError: there is too little memory to decode it.
    """
    index = service.predictor.trained.index
    column = None if label is None else _column_of(index, label)
    async with service.room(NUM_IMAGES) as loaded:
        pixels = await service.decoded(loaded, image, "image")
        told = [await loaded.told(pixels)]
        waiting = covered(pixels)
        while part := await asyncio.to_thread(lambda: list(islice(waiting, AT_ONCE))):
            told += await asyncio.gather(*map(loaded.told, part))
    column = _answer(told[0]) if column is None else column
    answers = np.array([_numbers(each) for each in told])
    found = map_of(evidence_of_answers(index.output, answers, np.full(len(answers), column)))
    trained = loaded.predictor.trained
    return {
        "label": index.classes[column],
        "map": found.tolist(),
        "peak": peak(found, index.output.task),
        "image_size": trained.image_size,
        "resize": trained.config.data.resize,
    }, loaded


def _column_of(index: Index, label: str) -> int:
    if index.output.task == REGRESSION:
        raise HTTPException(400, "label: the model answers with a number and has no classes. Leave it out.")
    if label not in index.classes:
        raise HTTPException(400, f"label: got '{label}', which is not a class of the model.")
    return index.classes.index(label)


def _answer(found: Prediction) -> int:
    if found.task == REGRESSION:
        return 0
    names = found.labels if found.task == MULTI_LABEL and found.labels else found.classes
    return found.classes.index(max(names, key=found.probabilities.__getitem__))


def _numbers(found: Prediction) -> list[float]:
    return list(found.probabilities.values()) if found.value is None else [found.value]
