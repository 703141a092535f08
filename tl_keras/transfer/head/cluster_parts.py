"""A head on features that this machine's memory does not hold, solved by the machines of a cluster: each reads a part of the rows.

The rows are read from the store, so all machines must see its folder. Ray runs what is lost again by itself: no task keeps anything.
"""

import os
import socket
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.errors import ClusterError
from tl_keras.models.outputs import Labels, Output
from tl_keras.transfer.cluster import LostError, is_reached, resources, result_of, uses_cluster
from tl_keras.transfer.features import StoredFeatures
from tl_keras.transfer.head.parts import Part, answer, cut
from tl_keras.transfer.memory import available_bytes


def is_for_cluster(config: Config, features: StoredFeatures) -> bool:
    """Whether the cluster of a run is to solve its head: this machine's memory has no room for the features."""
    free = available_bytes()
    return uses_cluster(config) and is_reached() and free is not None and 4 * int(np.prod(features.shape)) > free


class ClusterParts:
    """Parts of stored rows that tasks of Ray answer for, as many as the cluster has cores; see `parts.Parts`.

    Args:
        features: (n, d); labels, weights of rows (`own`) and the others are as a `Part` has them.
    """

    def __init__(
        self,
        features: StoredFeatures,
        labels: Labels,
        own: NDArray[np.float32] | None,
        class_weights: NDArray[np.float32],
        output: Output,
    ) -> None:
        self.num = len(features)
        self._ray = sys.modules["ray"]
        slices = cut(self.num, features.shape[1], max(1, int(sum(node.get("CPU", 0) for node in resources()))))
        self._parts = [
            self._ray.put(Part(each.start, features.slice(each), labels[each], None if own is None else own[each], class_weights, output))
            for each in slices
        ]
        self._answer = self._ray.remote(seen_answer).options(num_cpus=1)

    def __call__(self, what: str, *given: Any) -> list[Any]:
        """What a method of each part returns, in their order.

        Raises:
            ClusterError: a machine does not see the store, or what is lost is lost again.
        """
        sent = [self._ray.put(each) for each in given]
        try:
            return list(result_of([self._answer.remote(part, what, *sent) for part in self._parts]))
        except LostError as error:
            raise ClusterError(f"runtime.cluster: a machine was lost again and again with its part of the rows ({error}).") from error


def seen_answer(part: Part, what: str, *given: Any) -> Any:
    """What a method of a part returns, where its files are to be seen."""
    try:
        return answer(part, what, *given)
    except FileNotFoundError as error:
        raise ClusterError(
            f"{os.fspath(error.filename)}: not to be seen on {socket.gethostname()}, of the cluster. A head on so many features needs the "
            "store (TL_KERAS_CACHE) at the same place on all machines, as on a shared disk."
        ) from error
