"""The cores of this machine, for whoever has no need of TensorFlow."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from tl_keras.control_groups import own_groups, values


def schedulable_cpus() -> int:
    """Cores that the system may run this process on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cpus(root: Path = Path("/")) -> int:
    """As many of these cores as the limits of CPU time of a container are worth, rounded up; all of them where there are none.

    Args:
        root: of the file system, another one for tests.
    """
    return max(1, math.ceil(min([schedulable_cpus(), *_limits(root)])))


def _limits(root: Path) -> Iterator[float]:
    for unified, group in own_groups("cpu", root):
        limit = " ".join(values(group, ["cpu.max"] if unified else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]))
        quota, _, period = limit.partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):  # 'max' and -1 are none
            yield int(quota) / int(period)
