"""The place of this process among those that train one model together: `TF_CONFIG`, as TensorFlow's own tools set it.

Knows no TensorFlow, so that a mistake is told before it is imported.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tl_keras.errors import ConfigError

TF_CONFIG = "TF_CONFIG"
JOBS = ("chief", "worker")  # in the order in which their tasks are counted
EXPECTED = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that train together.

    Attributes:
        index: of this process, from 0; 0 is the chief, which alone writes.
        addresses: of all of them, 'host:port', in this order.
    """

    index: int
    addresses: tuple[str, ...]

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what training makes."""
        return self.index == 0

    def __str__(self) -> str:
        return f"worker {self.index} of {len(self.addresses)}"


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Read `TF_CONFIG`; None where it is not set, or names a single process.

    Raises:
        ConfigError: it is not what TensorFlow understands.
    """
    text = environment.get(TF_CONFIG, "").strip()
    if not text:
        return None
    try:
        found = json.loads(text)
        cluster, task = found.get("cluster") or {}, found.get("task") or {}
        tasks = [(job, index) for job in JOBS for index in range(len(cluster.get(job, ())))]
        addresses = tuple(str(address) for job in JOBS for address in cluster.get(job, ()))
        if len(addresses) < 2:
            return None
        index = tasks.index((task["type"], int(task["index"])))
        _ = [int(address.rpartition(":")[2]) for address in addresses]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{TF_CONFIG}: got '{text[:200]}', expected such as {EXPECTED}, with a task that is in the cluster.") from None
    if len(set(addresses)) < len(addresses):
        raise ConfigError(f"{TF_CONFIG}: got the address {_twice(addresses)} twice, expected one of its own for each process.")
    return Place(index, addresses)


def config_of(place: Place) -> str:
    """`TF_CONFIG` of a process in this place."""
    found: dict[str, Any] = {"cluster": {"worker": list(place.addresses)}, "task": {"type": "worker", "index": place.index}}
    return json.dumps(found)


def _twice(names: tuple[str, ...]) -> str:
    return next(name for name in names if names.count(name) > 1)
