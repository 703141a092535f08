"""When a cluster solves a head, and what its tasks are given: parts that read what the store holds, as many as there are cores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tl_keras.config_file import load_config
from tl_keras.errors import ClusterError
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.cluster import LostError
from tl_keras.transfer.features import StoredFeatures
from tl_keras.transfer.head import cluster_parts as module
from tl_keras.transfer.head import probe, problem
from tl_keras.transfer.head.cluster_parts import ClusterParts, is_for_cluster, seen_answer
from tl_keras.transfer.head.parts import Part
from tl_keras.transfer.store import Store

NUM, WIDTH = 60, 5
ON_RAY = load_config("extract", sets=["runtime.cluster=ray", "train.head_c=0.1"])


class FakeRay:
    """Runs a task when it is asked for."""

    def put(self, value: Any) -> Any:
        return value

    def remote(self, function: Any) -> "FakeRay":
        self._function = function
        return self

    def options(self, **given: Any) -> Any:
        assert given == {"num_cpus": 1}
        return type("Task", (), {"remote": staticmethod(self._function)})


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.sys.modules, "ray", FakeRay())  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "resources", lambda: [{"CPU": 2.0}, {"CPU": 1.0}, {}])
    monkeypatch.setattr(module, "result_of", lambda work: work)
    monkeypatch.setattr(module, "is_reached", lambda: True)
    monkeypatch.setattr(module, "available_bytes", lambda: 0)
    monkeypatch.setattr(probe, "CHUNK_BYTES", 4 * WIDTH * 7)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[StoredFeatures, Any]:
    collection, ids = Store(tmp_path, 1.0).open("key", {}), np.array([b"%04d" % each for each in range(NUM)], "S16")
    random = np.random.default_rng(0)
    x = random.standard_normal((NUM, WIDTH)).astype(np.float32)
    for start in range(0, NUM, 20):
        collection.write(ids[start : start + 20], x[start : start + 20])
    return StoredFeatures([(collection, ids)]), (x[:, 0] + 0.3 * random.standard_normal(NUM) > 0).astype(np.int32)


def test_a_head_goes_to_the_cluster_of_a_run_whose_features_have_no_room(ray, stored, monkeypatch):
    features = stored[0]
    assert is_for_cluster(ON_RAY, features)
    assert not is_for_cluster(load_config("extract"), features)
    for name, value in (("available_bytes", 4 * NUM * WIDTH), ("available_bytes", None), ("is_reached", False)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda value=value: value)
            assert not is_for_cluster(ON_RAY, features)


def test_the_cluster_solves_what_one_process_solves(ray, stored):
    given = stored, stored, np.ones(2, np.float32), problem.Progress(), SINGLE_LABEL, None
    many = problem._solve_on_all(ON_RAY, *given)
    one = problem._solve_on_all(ON_RAY.replace("runtime.cluster", "none"), *given)
    np.testing.assert_allclose(many.probe.kernel, one.probe.kernel, atol=1e-3 * np.abs(one.probe.kernel).max())
    assert many.probe.val_loss == pytest.approx(one.probe.val_loss, rel=1e-4)
    assert not np.array_equal(many.probe.kernel, np.zeros_like(many.probe.kernel))


def test_there_is_a_part_for_each_core(ray, stored):
    parts = ClusterParts(*stored, None, np.ones(2, np.float32), SINGLE_LABEL)
    assert len(parts("sums")) == 3
    np.testing.assert_allclose(np.sum(parts("sums"), axis=0), stored[0][:].sum(axis=0), rtol=1e-4, atol=1e-4)


def test_what_is_lost_for_good_is_told(ray, stored, monkeypatch):
    parts = ClusterParts(*stored, None, np.ones(2, np.float32), SINGLE_LABEL)

    def lost(work: Any) -> Any:
        raise LostError("gone")

    monkeypatch.setattr(module, "result_of", lost)
    with pytest.raises(ClusterError, match=r"lost again and again with its part of the rows \(gone\)"):
        parts("sums")


def test_a_machine_that_does_not_see_the_store_is_told(stored, tmp_path):
    part = Part(0, stored[0].slice(slice(0, NUM)), stored[1], None, np.ones(2, np.float32), SINGLE_LABEL)
    assert len(seen_answer(part, "sums")) == WIDTH
    (tmp_path / "key").rename(tmp_path / "elsewhere")
    moved = Part(0, stored[0].slice(slice(0, NUM)), stored[1], None, np.ones(2, np.float32), SINGLE_LABEL)
    module_cache_clear()
    with pytest.raises(ClusterError, match=r"\.shard: not to be seen on .* the store \(TL_KERAS_CACHE\) at the same place on all machines"):
        seen_answer(moved, "sums")


def module_cache_clear() -> None:
    """Forget the files that are open: they can be read wherever they went."""
    from tl_keras.transfer import store

    store._map_file.cache_clear()
