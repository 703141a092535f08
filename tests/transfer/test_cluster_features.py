"""Features from actors are those of one process, and an actor that sees anything else says so before it computes."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tl_keras.config import Config
from tl_keras.errors import ClusterError, ConfigError, DataError
from tl_keras.progress import Progress
from tl_keras.runtime import threads_in_force
from tl_keras.transfer import cluster_features as module
from tl_keras.transfer.cluster import Plan, plan
from tl_keras.transfer.cluster_features import Computer, with_engine_of_cluster
from tl_keras.transfer.store import ABOUT
from tl_keras.transfer.trunk import Trunk
from tl_keras.workflows import train as train_module
from tl_keras.workflows.fill import fill

VIEWS: dict[str, Any] = {"data": {"augment": {"random_resized_crop": None, "horizontal_flip": True}}, "features": {"views": 1}}
ON_RAY: dict[str, Any] = {"runtime": {"cluster": "ray", "engine": "tensorflow"}}


class InProcess:
    """Actors that are objects of this process, and work when their result is asked for."""

    def __init__(self, kind: type, opening: tuple[Any, ...], wanted: Plan) -> None:
        self.kind, self.opening, self.made = kind, opening, list[Computer]()

    def start(self) -> tuple[Any, Any]:
        actor = self.kind()
        self.made.append(actor)
        return actor, lambda: actor.open(*self.opening)

    def submit(self, actor: Any, task: Any) -> Any:
        return lambda: actor.work(task)

    def wait(self, work: list[Any], seconds: float) -> Any:
        return work[0]

    def get(self, work: Any) -> Any:
        return work()

    def stop(self, actor: Any) -> None:
        if hasattr(actor, "_stays"):
            actor._stays.close()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, float]]]:
    """The machines of a cluster in this process: two, each with as many cores as TensorFlow has threads here."""
    nodes = [{"CPU": float(threads_in_force())}] * 2
    monkeypatch.setattr(module, "RayActors", InProcess)
    monkeypatch.setattr(module, "resources", lambda: nodes)
    monkeypatch.setattr(module, "plan", lambda nodes, threads: plan(nodes, threads_in_force()))
    monkeypatch.setattr("tl_keras.transfer.features.SHARD_ROWS", 3)
    monkeypatch.setattr("tl_keras.transfer.features.BATCH_SIZE", 2)
    return nodes


def stored(cache: Path) -> dict[str, bytes]:
    """The shards of a store, by collection and name."""
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*.shard")}


@pytest.mark.parametrize("mode", ["extract", "finetune"])
def test_the_store_is_that_of_one_process_file_by_file(mode, make_task, cluster, tmp_path, monkeypatch):
    more = {**VIEWS, "train": {"unfreeze_from": "stage3"}} if mode == "finetune" else VIEWS
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "one"))
    one = make_task("one", mode, runtime={"engine": "tensorflow"}, **more)
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "many"))
    heard = Bars()
    many = make_task("many", mode, progress=heard, **more, **ON_RAY)
    assert stored(tmp_path / "one") == stored(tmp_path / "many") != {}
    assert len(list((tmp_path / "many").rglob(ABOUT))) == (4 if mode == "finetune" else 2)
    assert many.frozen.store.num_computed == one.frozen.store.num_computed == heard.done["features"] == heard.total["features"]
    monkeypatch.setattr(Trunk, "__call__", lambda *_: pytest.fail("features are computed again"))
    assert make_task("again", mode, **more, **ON_RAY).frozen.store.num_computed == 0


class Bars(Progress):
    """Notes how far bars come."""

    def __init__(self) -> None:
        self.total, self.done, self.lines = dict[str, int](), dict[str, int](), list[str]()

    def line(self, text: str) -> None:
        self.lines.append(text)

    def bar(self, title: str, total: int) -> Any:
        self.total[title], self.done[title] = total, 0

        def advance(num: int) -> None:
            self.done[title] += num

        return nullcontext(advance)


def test_files_that_do_not_decode_are_told_by_this_process(photo_folder, make_task, cluster, tmp_path, monkeypatch):
    photos = photo_folder(per_class=8)
    broken = sorted(photos.rglob("*.*"))[3]
    broken.write_bytes(broken.read_bytes()[:60])
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache"))
    task = make_task(mode="extract", data={"source": str(photos), "max_bad_fraction": 0.5}, **ON_RAY)
    assert next(iter(task.data.pixels.bad.values())).startswith(f"{broken}: ")
    assert len(task.data.pixels.bad) == 1
    with pytest.raises(DataError, match=r"data\.max_bad_fraction=0"):
        make_task("strict", mode="extract", data={"source": str(photos), "max_bad_fraction": 0.0}, **ON_RAY)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache"))


def changed(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    """Let actors be told something else than what is so here."""
    order = module._order
    monkeypatch.setattr(module, "_order", lambda *given: replace(order(*given), **values))


def test_an_actor_that_sees_other_images(make_task, cluster, own_cache, monkeypatch, task_photos):
    changed(monkeypatch, files={"gone.jpg": b"x"})
    with pytest.raises(ClusterError, match=r"of the cluster: .*gone\.jpg: cannot be read\. All machines of a cluster need the same"):
        make_task(mode="extract", **ON_RAY)
    some = sorted(task_photos.rglob("*.*"))[0].relative_to(task_photos)
    changed(monkeypatch, files={str(some): b"x"})
    with pytest.raises(ClusterError, match=r"is not what it is here"):
        make_task("other", mode="extract", **ON_RAY)


def test_an_actor_with_another_network(make_task, cluster, own_cache, monkeypatch):
    changed(monkeypatch, keys={("pooled", 0): "0" * 32})
    with pytest.raises(ClusterError, match=r"would not be those of this machine: the weights of the backbone differ\."):
        make_task(mode="extract", **ON_RAY)
    changed(monkeypatch, keys={("pooled", 0): "0" * 32}, versions=module.versions() | {"tensorflow": "1.0"})
    with pytest.raises(ClusterError, match=r"tensorflow 2\.\S+ there and 1\.0 here\. Install the same\."):
        make_task("other", mode="extract", **ON_RAY)


def test_an_actor_of_another_version(make_task, cluster, own_cache, monkeypatch):
    monkeypatch.setattr(module, "__version__", "9.9")
    opened = Computer.open
    monkeypatch.setattr(Computer, "open", lambda self, ours, packed: opened(self, "9.8", packed))
    with pytest.raises(ClusterError, match=r"has tl-keras 9\.9, and this machine 9\.8\. Install the same\."):
        make_task(mode="extract", **ON_RAY)


def test_no_room_is_said_before_an_actor_starts(make_task, cluster, own_cache, monkeypatch):
    monkeypatch.setattr(InProcess, "start", lambda self: pytest.fail("started"))
    with pytest.raises(Exception, match=r"features are needed and 0\.00 GB are free"):
        make_task(mode="extract", features={"max_gb": 1e-9}, **ON_RAY)


def test_where_there_are_gpus_tensorflow_computes(make_task, cluster, monkeypatch):
    config = make_task(mode="extract").config.replace("runtime.cluster", "ray").replace("runtime.engine", "auto")
    assert with_engine_of_cluster(config).runtime.engine == "auto"
    monkeypatch.setattr(module, "resources", lambda: [{"CPU": 8.0, "GPU": 1.0}])
    assert with_engine_of_cluster(config).runtime.engine == "tensorflow"
    assert with_engine_of_cluster(config.replace("runtime.engine", "openvino")).runtime.engine == "openvino"


def test_beside_a_part_there_is_no_cluster(make_task):
    with pytest.raises(ConfigError, match=r"--shard: got runtime\.cluster=ray"):
        fill(make_task(mode="extract").config.replace("runtime.cluster", "ray"), (0, 2), Progress())


class ReachedError(Exception):
    pass


def test_a_run_folder_connects_to_nothing(make_task, tmp_path, monkeypatch):
    config = make_task(mode="extract").config.replace("runtime.cluster", "ray")
    asked = list[str]()

    def reach(config: Config) -> None:
        asked.append(config.runtime.cluster)
        raise ReachedError

    monkeypatch.setattr(train_module, "reach", reach)
    monkeypatch.setattr(train_module, "read_config", lambda run: config)
    monkeypatch.setattr(train_module.RunFolder, "require_unfinished", lambda self, mode: self)
    for resume in (True, False):
        with pytest.raises(ReachedError):
            train_module.train(config, tmp_path / "new", resume=resume)
    assert asked == ["none", "ray"]
