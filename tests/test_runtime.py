"""The process of a caller is as it was after each public function, and two calls in one process do what one call in each does."""

import json
import logging
import os
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context
from tensorflow.python.framework.config import is_op_determinism_enabled

import tl_keras
from tl_keras import launch, run_folder, runtime, tf_config
from tl_keras.config import Config, RuntimeConfig
from tl_keras.data.sources import open_source
from tl_keras.errors import ConfigError
from tl_keras.modes import MODES
from tl_keras.progress import Progress
from tl_keras.runtime import building, building_as, fresh_names, restoring_process, set_up, spread
from tl_keras.select.ranking.rank import rank_candidates
from tl_keras.tf_config import Place
from tl_keras.trained_run import open_run
from tl_keras.workflows.plan import make_plan

Call = Callable[[Path, Path, Path, Progress], Any]


class StopError(Exception):
    """What a listener ends a call with."""


class Stopping(Progress):
    """Ends what it listens to."""

    def line(self, text: str) -> None:
        raise StopError

    def bar(self, title: str, total: int) -> Any:
        raise StopError


def settings(photos: Path, **more: Any) -> dict[str, Any]:
    return {"data": photos, "image_size": 16, "weights": "none"} | more


def config_of(photos: Path, mode: str, **sections: Any) -> Config:
    data = {"source": str(photos), "image_size": 16}
    return Config.model_validate({"mode": mode, "data": data, "model": {"weights": "none"}} | sections)


def changed(photos: Path, folder: Path) -> Path:
    """The same photos in one folder, each file with another content."""
    target = folder / "target"
    target.mkdir(exist_ok=True)
    for number, path in enumerate(sorted(photos.rglob("*.*"))):
        (target / f"{number}{path.suffix}").write_bytes(path.read_bytes() + b"x")
    return target


def copied(run: Path, new: Path) -> Path:
    """The same run in another folder."""
    return shutil.copytree(run, new)


CALLS: dict[str, Call] = {
    "load_config": lambda run, photos, new, heard: tl_keras.load_config("finetune", sets=["train.epochs=2"]),
    "train": lambda run, photos, new, heard: tl_keras.train(
        run_dir=new, progress=heard, **settings(photos, epochs=1, settings={"train.unfreeze_from": "stage3"})
    ),
    "adapt": lambda run, photos, new, heard: tl_keras.adapt(
        run_dir=new, progress=heard, target=changed(photos, new.parent), **settings(photos, settings={"adapt.method": "standardise"})
    ),
    "rank": lambda run, photos, new, heard: tl_keras.rank(run_dir=new, progress=heard, **settings(photos, backbones=["small_resnet"])),
    "search": lambda run, photos, new, heard: tl_keras.search(
        run_dir=new, progress=heard, **settings(photos, settings={"search.max_trials": 1, "search.trial": "extract"})
    ),
    "crossval": lambda run, photos, new, heard: tl_keras.crossval(
        run_dir=new, progress=heard, **settings(photos, settings={"crossval.folds": 2})
    ),
    "ensemble": lambda run, photos, new, heard: tl_keras.ensemble(
        run_dir=new,
        progress=heard,
        **settings(photos, members=["small_resnet"], settings={"ensemble.method": "bagging", "ensemble.resamples": 2}),
    ),
    "evaluate": lambda run, photos, new, heard: tl_keras.evaluate(run, data=photos, progress=heard),
    "report": lambda run, photos, new, heard: tl_keras.report(run if type(heard) is Progress else run.parent, progress=heard),
    "compare": lambda run, photos, new, heard: tl_keras.compare(run, copied(run, new), progress=heard),
    "explain": lambda run, photos, new, heard: tl_keras.explain(run, photos / "ant" / "000.png", data=photos, progress=heard),
    "predict": lambda run, photos, new, heard: list(tl_keras.predict(run, photos / "ant", progress=heard)),
    "export": lambda run, photos, new, heard: tl_keras.export(run, progress=heard),
    "compress": lambda run, photos, new, heard: tl_keras.compress(
        run, formats="litert", settings={"compress.sparsities": [], "compress.students": []}, progress=heard
    ),
    "open_run": lambda run, photos, new, heard: open_run(run if type(heard) is Progress else run.parent),
    "rank_candidates": lambda run, photos, new, heard: rank_candidates(
        config := config_of(photos, "rank", rank={"candidates": ["small_resnet"]}), open_source(config.data), heard
    ),
    "check": lambda run, photos, new, heard: tl_keras.check(config_of(photos, "check"), new, progress=heard),
    "make_plan": lambda run, photos, new, heard: make_plan(config_of(photos, "extract", runtime={"precision": "bfloat16"}), heard),
}
NO_CALLS = {"BACKBONES", "Config", "Progress", "UserError", "__version__", "save_images", "verify", "serve"}  # files alone; until a signal


def state() -> dict[str, Any]:
    """All that a process has only once and that may be seen."""
    eager = context.context()
    loggers = {name: each for name, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    generator = global_state.get_global_attribute("global_seed_generator")
    return {
        "dtype policy": keras.config.dtype_policy(),
        "floatx": (keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()),
        "names of layers": dict(global_state.get_global_attribute("object_name_uids")),
        "seed of Keras": (global_state.get_global_attribute("global_random_seed"), id(generator), generator.state.numpy().tolist()),
        "default graph": id(tf.compat.v1.get_default_graph()),
        "random of TensorFlow": (eager._seed, eager._rng.getstate(), tf.random.get_global_generator().state.numpy().tolist()),
        "random of Python": random.getstate(),
        "random of NumPy": pickle.dumps(np.random.get_state()),
        "strategy": runtime.strategy(),
        "determinism": is_op_determinism_enabled(),
        "threads": (tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads()),
        "root logger": (logging.root.level, list(logging.root.handlers)),
        **{f"logger {name}": (each.level, list(each.handlers), each.propagate, each.disabled) for name, each in loggers.items()},
        "filters of warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "working directory": os.getcwd(),
        "hooks": (sys.excepthook, sys.unraisablehook, warnings.showwarning),
        "time-out of sockets": socket.getdefaulttimeout(),
        "errors of NumPy": np.geterr(),
    }


@pytest.fixture
def caller() -> Iterator[keras.Model]:
    """A process with a state and a network of its own."""
    with restoring_process():
        keras.utils.set_random_seed(7)
        keras.config.set_dtype_policy("mixed_bfloat16")
        tf.get_logger().setLevel("INFO")
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])
        keras.random.uniform((2,))
        tf.random.set_global_generator(tf.random.Generator.from_seed(1))
        yield model


@pytest.mark.slow
@pytest.mark.usefixtures("quick_exports")
@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in ("export", "compress") else name for name in CALLS])
def test_the_caller_s_process_is_left_as_it_was(
    name: str, fails: bool, caller: keras.Model, trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    run, photos = trained
    if name in ("evaluate", "export", "compress"):  # which write into it
        run = Path(run_folder.shutil.copytree(run, tmp_path / "copy"))
    before = state()
    if not fails:
        assert CALLS[name](run, photos, tmp_path / "new", Progress()) is not None
    elif name == "load_config":
        with pytest.raises(ConfigError):
            tl_keras.load_config("finetune", sets=["train.epoch=2"])
    else:
        with pytest.raises((StopError, tl_keras.UserError)):
            CALLS[name](run, photos, tmp_path / "new", Stopping())
    after = state()
    assert {key: (value, after[key]) for key, value in before.items() if value != after[key]} == {}
    assert keras.layers.Dense(1).name == "dense_1"
    assert caller(np.ones((1, 3)), training=True).dtype == "bfloat16"


def test_every_public_function_is_among_them() -> None:
    assert set(tl_keras.__all__) - NO_CALLS <= set(CALLS)


@pytest.mark.slow
def test_predictions_leave_the_process_alone_while_the_caller_has_them(caller: keras.Model, trained: tuple[Path, Path]) -> None:
    run, photos = trained
    before = state()
    for _ in tl_keras.predict(run, photos / "ant", progress=Progress()):
        found = state()
        assert [key for key in before if before[key] != found[key]] == []


# --- the same numbers -------------------------------------------------------------------------------------------------


TRAIN = """
import sys
import tl_keras
photos, run, threads, backbone = sys.argv[1:]
tl_keras.train(run_dir=run, data=photos, backbone=backbone, weights="none", epochs=1, seed=3, progress=tl_keras.Progress(), settings={
    "model.hidden": [4], "model.dropout": 0.5, "train.head_epochs": 1, "train.unfreeze_from": "all", "data.augment.rotation_range": 10,
    "runtime.threads": int(threads)})
"""
OTHER_THREADS = """
from tl_keras.runtime import set_up
try:
    set_up(tl_keras.config.RuntimeConfig(threads=int(threads) + 1))
except tl_keras.UserError as error:
    print(error)
"""
NO_UNIX = """
import keras_tuner, matplotlib.figure, os, pkgutil, signal, sklearn.ensemble, socket, tensorflow_hub
for name in [name for name in sys.modules if name.partition(".")[0] == "tl_keras"]:
    del sys.modules[name]
for name in ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline"):
    sys.modules[name] = None
hidden = {
    os: "O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_CLOEXEC killpg getpgid setsid getuid geteuid fork mkfifo sched_getaffinity statvfs",
    signal: "SIGKILL SIGHUP SIGUSR1 SIGALRM SIGPIPE SIGCHLD setitimer",
    socket: "AF_UNIX",
}
for module, names in hidden.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
import tl_keras.workflows
for module in pkgutil.walk_packages(tl_keras.__path__, "tl_keras."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
from tl_keras.run import main
print(main(["--mode", "evaluate", "--run-dir", "nowhere"]))
"""


def result_of(run: Path) -> tuple[Any, ...]:
    metrics = json.loads((run / run_folder.METRICS).read_text())
    del metrics["timing"], metrics["features"]
    model = keras.models.load_model(run / run_folder.MODEL)
    weights = [(layer.name, [weight.tobytes() for weight in layer.get_weights()]) for layer in model.layers]
    return metrics, (run / run_folder.PREDICTIONS).read_bytes(), weights


@pytest.mark.slow
def test_a_run_in_a_process_that_has_had_one_is_as_in_a_fresh_process(
    trained: tuple[Path, Path], three_stages: str, caller: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, photos = trained
    tf.zeros(())
    threads = runtime.threads_in_force()
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache-here"))  # each with features of its own
    monkeypatch.setattr(sys, "argv", ["-c", str(photos), str(tmp_path / "here"), str(threads), three_stages])
    exec(TRAIN, {})  # after the run of `trained`
    environment = os.environ | {"PYTHONPATH": str(Path(tl_keras.__file__).parents[1]), "TL_KERAS_CACHE": str(tmp_path / "cache-fresh")}
    command = [sys.executable, "-c", TRAIN + OTHER_THREADS + NO_UNIX, str(photos), str(tmp_path / "fresh"), str(threads), three_stages]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert result_of(tmp_path / "here") == result_of(tmp_path / "fresh")
    assert done.stdout.splitlines() == [  # what is cheap in a process that is there
        f"runtime.threads: got {threads + 1}, but TensorFlow has already started in this process with {threads}, which cannot be changed "
        "any more. Leave the setting out, or set it in a new process.",
        "2",  # the command line's exit status where there is nothing of Unix
    ]


# --- what a configuration asks for ------------------------------------------------------------------------------------


def test_a_later_set_up_undoes_determinism() -> None:
    with restoring_process():
        set_up(RuntimeConfig(deterministic=True))
        assert is_op_determinism_enabled()
        with suppress(StopError), restoring_process():
            set_up(RuntimeConfig(deterministic=False))
            assert not is_op_determinism_enabled()
            raise StopError
        assert is_op_determinism_enabled()


def test_threads_that_are_in_force_are_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    tf.zeros(())
    in_force = runtime.threads_in_force()
    with restoring_process():
        for threads in (None, in_force):
            assert set_up(RuntimeConfig(threads=threads)).threads == threads
        with pytest.raises(ConfigError, match=rf"^runtime\.threads: got {in_force + 1}, but .* with {in_force}, which .*\.$"):
            set_up(RuntimeConfig(threads=in_force + 1))


@pytest.mark.parametrize(
    ("limit", "variable", "told"), [(2, None, {"intra": 2, "inter": 2}), (2, "TF_NUM_INTRAOP_THREADS", {"inter": 2}), (5, None, {})]
)
def test_a_containers_limit_is_told_to_tensorflow(
    limit: int, variable: str | None, told: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}
    for kind in ("intra", "inter"):
        monkeypatch.setattr(tf.config.threading, f"set_{kind}_op_parallelism_threads", partial(seen.__setitem__, kind))
        monkeypatch.delenv(f"TF_NUM_{kind.upper()}OP_THREADS", raising=False)
    monkeypatch.setattr(runtime, "schedulable_cpus", lambda: 5)
    monkeypatch.setattr(runtime, "usable_cpus", lambda: limit)
    if variable is not None:
        monkeypatch.setenv(variable, "3")
    for config in (None, Config(mode="extract", data={"source": "digits"})):
        seen.clear()
        launch.import_workflow("tl_keras.workflows.evaluate:evaluate", config)
        assert seen == told


def test_one_device_trains_alone_and_is_its_own_chief() -> None:
    with restoring_process():
        for asked in ("auto", "none"):
            spread(RuntimeConfig(strategy=asked))
            assert (runtime.strategy(), runtime.place(), runtime.is_chief()) == (None, None, True)
        with pytest.raises(ConfigError, match=r"^runtime\.strategy: got 'mirrored', which needs several GPUs, and .*\. Set auto\.$"):
            spread(RuntimeConfig(strategy="mirrored"))


def test_a_process_that_cannot_join_others_any_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", tf_config.config_of(Place(1, ("a:1", "b:2"))))
    line = r"^TF_CONFIG: makes this process worker 1 of 2, which only finetune and pretrain can be, .*\. Unset TF_CONFIG\.$"
    with restoring_process(), pytest.raises(ConfigError, match=line):
        spread(RuntimeConfig())
    for mode in ("extract", "rank", "ensemble"):
        with pytest.raises(ConfigError, match=line):
            launch.import_workflow(MODES[mode].run, Config(mode=mode, data={"source": "digits"}))
    launch.import_workflow("tl_keras.workflows.plan:make_plan", Config(mode="extract", data={"source": "digits"}))


@pytest.mark.parametrize(("told", "variable", "expected"), [(3, "5", 3), (0, "5", 5), (0, "0", 7), (0, "many", 7), (0, None, 7)])
def test_threads_in_force(told: int, variable: str | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: told)
    monkeypatch.setattr(runtime, "usable_cpus", lambda: 7)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", variable)
    assert runtime.threads_in_force() == expected


def test_building_under_a_precision_sets_and_restores_it() -> None:
    with restoring_process():
        with suppress(StopError), building("bfloat16"):
            layer = keras.layers.Dense(2)
            raise StopError
        assert (layer.compute_dtype, keras.config.dtype_policy().name) == ("bfloat16", "float32")
        with building("bfloat16"):
            model = keras.Sequential([keras.Input((3,)), layer])
        with building_as(model):
            assert keras.Model(model.inputs, model.outputs).dtype_policy.name == "mixed_bfloat16"
        assert keras.config.dtype_policy().name == "float32"


def test_names_begin_anew_and_go_on_after() -> None:
    with restoring_process():
        first = keras.layers.Dense(1)
        with fresh_names():
            inner = keras.layers.Dense(1)
        assert [first.name, inner.name, keras.layers.Dense(1).name] == ["dense", "dense", "dense_1"]
