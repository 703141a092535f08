"""What a map explains: how much a model has for one answer, as a number that grows with it and does not saturate."""

from typing import Any

from keras import ops

from tl_keras.models.outputs import Output
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

NEVER = -1e30  # a logit whose class counts for nothing beside any other


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


def _against_all_others(output: Output, logits: Any, chosen: Any) -> Any:
    return ops.sum(logits * chosen, axis=-1) - ops.logsumexp(ops.where(chosen > 0, NEVER, logits), axis=-1)


def _by_itself(output: Output, logits: Any, chosen: Any) -> Any:
    return ops.sum(logits * chosen, axis=-1)


def _number(output: Output, logits: Any, chosen: Any) -> Any:
    return ops.sum(output.answers_op(logits) * chosen, axis=-1)


_EVIDENCE = {SINGLE_LABEL: _against_all_others, MULTI_LABEL: _by_itself, REGRESSION: _number}
