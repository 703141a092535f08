"""The one owner of what a process has only once: precision, threads, seed, determinism, random state, names of layers, devices.

Keras and TensorFlow keep these for the whole process, and the process may be somebody else's: a notebook or a server that has
networks and random numbers of its own. Whatever works here is inside of `restoring_process`, in which things are as in a
process that has just begun, and after which they are as they were. What a configuration asks for, `set_up` sets inside of it.

The state belongs to the process, so two threads must not work at the same time.
"""

import logging
import os
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.utils.rng_utils import GLOBAL_RANDOM_SEED
from tensorflow.python.eager import context
from tensorflow.python.framework.config import disable_op_determinism, is_op_determinism_enabled

from tl_keras.config import RuntimeConfig
from tl_keras.cores import schedulable_cpus, usable_cpus
from tl_keras.errors import ConfigError, first_line
from tl_keras.meeting import meet
from tl_keras.tf_config import TF_CONFIG, Place, place_in

POLICIES = {
    "auto": "float32",
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}  # precision -> Keras' dtype policy
LOGGERS = ("tensorflow", "absl")  # whose levels change here, or by an export
NAMES = "object_name_uids"  # Keras' counters, from which layers get their names
INTRA_OP, INTER_OP = "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"  # what TensorFlow reads when it starts
START_S = 600.0  # that the processes of `TF_CONFIG` wait for each other
KERAS_STATE = ("dtype_policy", NAMES, GLOBAL_RANDOM_SEED, GLOBAL_SEED_GENERATOR)  # what our work changes of Keras' global state


@dataclass(frozen=True)
class Runtime:
    """What a configuration asks of the process; see `RuntimeConfig`."""

    precision: str
    seed: int
    deterministic: bool
    threads: int | None

    @classmethod
    def of(cls, config: RuntimeConfig) -> "Runtime":
        """Take it from a configuration.

        Raises:
            ConfigError: float16 without a GPU, which would take hours for what float32 does in minutes.
        """
        if config.precision == "float16" and not tf.config.list_physical_devices("GPU"):
            raise ConfigError("runtime.precision: got 'float16', which needs a GPU, and none is found. Take 'bfloat16' or 'float32'.")
        return cls(config.precision, config.seed, config.deterministic, config.threads)

    def start_threads(self) -> None:
        """Set the number of TensorFlow's threads, which stays for the life of the process: it is taken at TensorFlow's first operation.

        Raises:
            ConfigError: TensorFlow has started with another number.
        """
        if self.threads is None:
            keep_to_limit()
            return
        try:
            tf.config.threading.set_intra_op_parallelism_threads(self.threads)
        except RuntimeError:
            if self.threads != (started := _told() or schedulable_cpus()):
                raise ConfigError(
                    f"runtime.threads: got {self.threads}, but TensorFlow has already started in this process with {started}, "
                    "which cannot be changed any more. Leave the setting out, or set it in a new process."
                ) from None


def keep_to_limit() -> None:
    """Let TensorFlow start no more threads than a container's limit is worth: by itself it starts one for each core of the machine.

    Beyond the limit all threads have to wait, again and again. Where TensorFlow has started, or the environment says a number, it stays.
    """
    limit, threading = usable_cpus(), tf.config.threading
    if limit < schedulable_cpus():
        with suppress(RuntimeError):  # it has started
            if INTRA_OP not in os.environ:
                threading.set_intra_op_parallelism_threads(limit)
            if INTER_OP not in os.environ:
                threading.set_inter_op_parallelism_threads(limit)


def threads_in_force() -> int:
    """The number of threads to compute with: what TensorFlow was told in one of two ways, or one for each core that is usable."""
    return _told() or usable_cpus()


def _told() -> int:
    told = tf.config.threading.get_intra_op_parallelism_threads() or os.environ.get(INTRA_OP, "")
    return int(told) if str(told).isdecimal() else 0


_together: tf.distribute.MultiWorkerMirroredStrategy | None = None  # for the life of the process: TensorFlow joins others at its start only
_strategy: tf.distribute.Strategy | None = None  # in force


def join_others() -> None:
    """Join the processes that `TF_CONFIG` names, which must be TensorFlow's first deed in this process; nothing where it names none.

    Raises:
        ConfigError: some have not come after `START_S` seconds, TensorFlow has started already, or `TF_CONFIG` is wrong.
    """
    global _together
    place = place_in(os.environ)
    if place is None or _together is not None:
        return
    meet(place, START_S)
    try:
        _together = tf.distribute.MultiWorkerMirroredStrategy(communication_options=_communication())
    except RuntimeError as error:
        raise ConfigError(f"{TF_CONFIG}: {place} cannot join the others: {first_line(error)}. Start it in a new process.") from None


def _communication() -> Any:
    """How processes sum gradients: GPUs by NVIDIA's NCCL, which TensorFlow takes only if it is told to, and CPUs by gRPC."""
    kinds = tf.distribute.experimental.CommunicationImplementation
    kind = kinds.NCCL if tf.config.list_physical_devices("GPU") else kinds.AUTO
    return tf.distribute.experimental.CommunicationOptions(implementation=kind)


def spread(config: RuntimeConfig) -> None:
    """Let training in this process be spread as `runtime.strategy` says; only inside of `restoring_process`, after `join_others`.

    Raises:
        ConfigError: there are not several devices to spread it over, or it is not to be spread and `TF_CONFIG` names others.
    """
    global _strategy
    asked, gpus = config.strategy, tf.config.list_logical_devices("GPU")
    if _together is not None:
        if asked == "none":
            raise ConfigError(f"runtime.strategy: got 'none', but {TF_CONFIG} makes this process one of several. Set auto, or unset it.")
        _strategy = _together
        return
    require_alone()
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if asked == "mirrored" and len(devices) < 2:
        raise ConfigError(f"runtime.strategy: got 'mirrored', which needs several GPUs, and there is only {devices[0]}. Set auto.")
    if asked == "mirrored" or (asked == "auto" and len(gpus) > 1):
        _strategy = tf.distribute.MirroredStrategy(devices)


def require_alone() -> None:
    """Refuse a process that `TF_CONFIG` makes one of several: each of them would do the same.

    Raises:
        ConfigError: it does.
    """
    if (others := place_in(os.environ)) is not None:
        raise ConfigError(
            f"{TF_CONFIG}: makes this process {others}, which only finetune and pretrain can be, from the command line or as the first "
            f"deed of a process. Unset {TF_CONFIG}."
        )


def strategy() -> tf.distribute.Strategy | None:
    """What training is spread by; None where one device trains."""
    return _strategy


def place() -> Place | None:
    """Where this process stands among those that it trains with; None where it trains alone."""
    return None if _strategy is None or _strategy is not _together else place_in(os.environ)


def is_chief() -> bool:
    """Whether this process writes what training makes: the first of those that train together, or the only one."""
    return (here := place()) is None or here.is_chief


@contextmanager
def on_devices() -> Iterator[None]:
    """Let each device that trains have its own copy of the variables made inside, and let those read or set inside be so on all."""
    with nullcontext() if _strategy is None else _strategy.scope():
        yield


def set_up(config: RuntimeConfig) -> Runtime:
    """Seed Python, NumPy and TensorFlow, and set determinism and threads; only inside of `restoring_process`.

    Precision is not set here: whoever builds a network does so under one, see `building`.

    Raises:
        ConfigError: from `Runtime`.
    """
    runtime = Runtime.of(config)
    runtime.start_threads()
    _set_determinism(runtime.deterministic)
    keras.utils.set_random_seed(runtime.seed)
    return runtime


@contextmanager
def restoring_process() -> Iterator[None]:
    """Let work inside be as in a process that has just begun, and leave the process as it was; also a decorator.

    Inside, layers are of float32 and get names as if there were no others. Restored are the dtype policy, the names that layers
    get, the random state of Python, NumPy, TensorFlow and Keras, determinism, the levels of TensorFlow's loggers and Python's
    filters of warnings. The number of TensorFlow's threads cannot be.
    """
    before = _State()
    try:
        _clear_strategy()
        _set_keras_state({"dtype_policy": keras.DTypePolicy("float32")})
        tf.get_logger().setLevel("ERROR")  # its advice on retracing is for us, and networks are built often here
        with warnings.catch_warnings():
            yield
    finally:
        before.restore()


@contextmanager
def building(precision: str) -> Iterator[None]:
    """Let layers built inside compute in a precision, one of `POLICIES`, and be trained on every device."""
    with _policy(POLICIES[precision]), on_devices():
        yield


@contextmanager
def building_as(model: keras.Model) -> Iterator[None]:
    """Let models made inside compute as this one does, whose layers they share."""
    with _policy(model.dtype_policy):
        yield


@contextmanager
def fresh_names() -> Iterator[None]:
    """Let layers built inside get names as if there were no others."""
    before = global_state.get_global_attribute(NAMES)
    global_state.set_global_attribute(NAMES, None)
    try:
        yield
    finally:
        global_state.set_global_attribute(NAMES, before)


@contextmanager
def _policy(policy: Any) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class _State:
    """What a process has only once, as it is now."""

    def __init__(self) -> None:
        self._strategy = _strategy
        self._keras = {name: global_state.get_global_attribute(name) for name in KERAS_STATE}
        generator = self._keras[GLOBAL_SEED_GENERATOR]
        self._drawn = None if generator is None else generator.state.numpy()
        self._python, self._numpy = random.getstate(), np.random.get_state()
        eager = context.context()
        self._seed, self._draws = eager._seed, getattr(eager, "_rng", None)  # there is none before a seed is set
        self._draws_state = None if self._draws is None else self._draws.getstate()
        self._is_deterministic = is_op_determinism_enabled()
        self._log_levels = {logger: logger.level for logger in map(logging.getLogger, LOGGERS)}

    def restore(self) -> None:
        """Let the process have it again."""
        global _strategy
        _strategy = self._strategy
        _set_keras_state(self._keras)
        if self._drawn is not None:
            self._keras[GLOBAL_SEED_GENERATOR].state.assign(self._drawn)
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        eager = context.context()
        eager._seed = self._seed
        if self._draws is not None:
            self._draws.setstate(self._draws_state)
            eager._rng = self._draws
        _set_determinism(self._is_deterministic)
        for logger, level in self._log_levels.items():
            logger.setLevel(level)


def _clear_strategy() -> None:
    global _strategy
    _strategy = None


def _set_keras_state(values: Mapping[str, Any]) -> None:
    """Set what Keras keeps for the process; what is not given is as in a process that has just begun."""
    for name in KERAS_STATE:
        global_state.set_global_attribute(name, values.get(name))


def _set_determinism(is_on: bool) -> None:
    if is_on and not is_op_determinism_enabled():
        tf.config.experimental.enable_op_determinism()
    elif not is_on and is_op_determinism_enabled():
        disable_op_determinism()
