"""Whether memory is large enough, estimated from shapes: nothing of a network is run or allocated to find out.

What is counted must lie in memory at the same time whatever TensorFlow does, so that nothing is refused that would run;
what it really takes is one to eight times as much.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tl_keras.config import Config
from tl_keras.control_groups import lines_of, own_groups, values
from tl_keras.errors import ConfigError
from tl_keras.models.classifier import Classifier, cut_below
from tl_keras.transfer.defaults import required
from tl_keras.transfer.trunk import BATCH_SIZE

Operations = list[tuple[Any, list[Any], list[Any]]]  # each with its inputs and outputs

# of a control group, by whether it is of version 2: the files of limit and usage, and what the usage has of files, as memory.stat names it
GROUPS = {
    True: ("memory.max", "memory.current", "inactive_file"),
    False: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


class TooLittleMemoryError(ConfigError):
    """Images of this size do not fit.

    Attributes:
        by_step: whether it is a training step that does not, which a smaller batch makes smaller.
    """

    def __init__(self, text: str, *, by_step: bool) -> None:
        super().__init__(text)
        self.by_step = by_step


def require_memory(config: Config, classifier: Classifier) -> None:
    """Refuse what memory cannot hold, before the system ends this process for it.

    Where there is a GPU, or the system does not tell how much memory is free, nothing is checked.

    Raises:
        TooLittleMemoryError: with how much is needed at least, and how much is free.
    """
    free = None if tf.config.list_physical_devices("GPU") else available_bytes()
    if free is None:
        return
    height, width = classifier.model.input.shape[1:3]
    for phase, needed in bytes_needed(config, classifier).items():
        if needed <= free:
            continue
        by_step = phase != "features"
        batch = config.train.batch_size if by_step else BATCH_SIZE
        mend = f"Lower data.image_size or train.batch_size={batch}." if by_step and batch > 1 else "Lower data.image_size."
        raise TooLittleMemoryError(
            f"data.image_size: {height} x {width} pixels take at least {needed / 1e9:.1f} GB of memory for a batch of {batch} images in "
            f"{config.model.backbone} ({phase}), and {free / 1e9:.1f} GB are free. {mend}",
            by_step=by_step,
        )


def bytes_needed(config: Config, classifier: Classifier) -> dict[str, int]:
    """Bytes that each phase of a mode takes at least: 'features' of what is frozen, and what trains by steps of whole images.

    Args:
        config: without open settings.
    """
    found = {}
    if config.mode != "pretrain":
        found["features"] = BATCH_SIZE * forward_bytes(classifier.trunk)
    if config.mode in ("finetune", "pretrain"):
        cut = cut_below(classifier, required(config.train.unfreeze_from)) if config.mode == "finetune" else None
        model = classifier.model if cut is None else cut[1]
        found[config.mode] = config.train.batch_size * max(forward_bytes(model), backward_bytes(model))
    return found


def forward_bytes(model: keras.Model) -> int:
    """Bytes for each image of a batch that a pass through a model has to hold at once: its largest tensor, or a convolution's two."""
    return max(
        (sum(map(size, outs)) + (sum(map(size, ins)) if has_kernel(each) else 0) for each, ins, outs in operations(model)), default=0
    )


def backward_bytes(model: keras.Model) -> int:
    """Bytes for each image of a batch that a training step has to hold: what each layer with a kernel was given, for its gradient."""
    kept = {id(tensor): size(tensor) for each, ins, _ in operations(model) if has_kernel(each) for tensor in ins}
    return sum(kept.values())


def operations(model: keras.Model) -> Operations:
    """All that a model computes; its inputs do not count."""
    found = [each for each in model.operations if not isinstance(each, keras.layers.InputLayer)]
    return [(each, keras.tree.flatten(each.input), keras.tree.flatten(each.output)) for each in found]


def has_kernel(operation: Any) -> bool:
    """Whether an operation multiplies its input by weights: such a one cannot write its output over its input."""
    weights = [] if isinstance(operation, keras.Model) else getattr(operation, "weights", [])
    return any(len(weight.shape) > 1 for weight in weights)


def size(tensor: Any) -> int:
    """Bytes of a tensor for each image of a batch."""
    shape = [each or 0 for each in tensor.shape[1:]]  # a dimension that is open counts as nothing
    return math.prod(shape) * tf.as_dtype(tensor.dtype).size


def available_bytes(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process can still get: of the machine, swap included, and under the limits of its control groups.

    Args:
        root: of the file system, another one for tests.

    Returns:
        None where the system does not tell, as outside Linux.
    """
    return min([*_of_machine(root), *_under_limits(root)], default=None)


def _of_machine(root: Path) -> Iterator[int]:
    fields = dict(line.split(":", 1) for line in lines_of(root / "proc/meminfo"))
    if "MemAvailable" in fields:
        yield sum(1024 * int(fields.get(name, "0").split()[0]) for name in ("MemAvailable", "SwapFree"))


def _under_limits(root: Path) -> Iterator[int]:
    for unified, group in own_groups("memory", root):
        *files, cache = GROUPS[unified]
        limit, usage = values(group, files)
        if limit.isdigit() and usage.isdigit():  # "max" is none
            stat = dict(line.split() for line in lines_of(group / "memory.stat"))
            yield int(limit) - int(usage) + int(stat.get(cache, "0"))  # files in memory give way
