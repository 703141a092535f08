"""The cores of this machine, for whoever has no need of TensorFlow."""

import os


def schedulable_cpus() -> int:
    """Cores that the system may run this process on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cpus() -> int:
    """As many of these cores as a container's limit of CPU time is worth, rounded up; all of them where there is none."""
    from joblib import cpu_count  # a quarter of a second

    return int(cpu_count())
