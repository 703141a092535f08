"""What a map explains: how much a model has for one answer, as a number that grows with it and does not saturate."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from tl_keras.models.outputs import Output
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

NEVER = -1e30  # a logit whose class counts for nothing beside any other
COARSEST = 1 / 256  # step of the probabilities of a model in 8 bits


def evidence(output: Output, logits: Any, columns: Any) -> Any:
    """The evidence for one output of each image.

    Of one class an image it is the log-odds of the class, log(p / (1 - p)): unlike a logit it does not change where all logits change
    alike, and unlike a probability it goes on where that is nearly 1. Of several classes it is the log-odds of the class by itself, of
    numbers the number.

    Args:
        output: what the logits mean.
        logits: float32 (b, k).
        columns: of each image the output that is explained, int (b,).

    Returns:
        A tensor (b,).
    """
    chosen = ops.one_hot(columns, logits.shape[-1], dtype=logits.dtype)  # a mask of outputs, not a class
    return _EVIDENCE[output.task](output, logits, chosen)


def evidence_of_answers(output: Output, answers: NDArray[np.float64], columns: Any) -> NDArray[np.float64]:
    """The same, of a model that tells only answers, which may be rounded.

    A probability that is rounded to 0 or 1 has no log-odds. It counts as half of the smallest distance from them that is told beside it.

    Args:
        answers: probabilities or numbers, float64 (b, k).
        columns: as above.

    Returns:
        (b,).
    """
    distances = np.minimum(answers, 1 - answers)
    least = distances.min(initial=COARSEST, where=distances > 0) / 2
    return np.asarray(evidence(output, output.logits(answers, least), columns), np.float64)


def _against_all_others(output: Output, logits: Any, chosen: Any) -> Any:
    return ops.sum(logits * chosen, axis=-1) - ops.logsumexp(ops.where(chosen > 0, NEVER, logits), axis=-1)


def _by_itself(output: Output, logits: Any, chosen: Any) -> Any:
    return ops.sum(logits * chosen, axis=-1)


def _number(output: Output, logits: Any, chosen: Any) -> Any:
    return ops.sum(output.answers_op(logits) * chosen, axis=-1)


_EVIDENCE = {SINGLE_LABEL: _against_all_others, MULTI_LABEL: _by_itself, REGRESSION: _number}
