"""Who is trusted is known by a hash on this machine, and by nothing that comes with the file."""

import shutil
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from tl_keras.config_file import from_run, from_yaml, load_config, to_yaml
from tl_keras.errors import BackboneError, ConfigError
from tl_keras.models.backbone_kinds import SAVED_MODEL
from tl_keras.models.graph_safety import refused_operations
from tl_keras.models.hub_layer import SavedModule
from tl_keras.models.trust import files_of, main, require_safe, trusting

FILE_OPERATIONS = ["ReadFile"]


class Reader(tf.Module):
    """Reads a file when it is called."""

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])
    def __call__(self, images: Any) -> Any:
        return tf.reduce_mean(images, (1, 2)) + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader") / "module"
    tf.saved_model.save(Reader(), str(folder))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_graph_that_is_not_trusted_names_what_it_would_do(saved: Path) -> None:
    with pytest.raises(BackboneError, match=r"module: is refused, .* calls Python \(ReadFile\)\. .*--set model\.trust=true"):
        SavedModule(saved, with_weights=True)


def test_trust_lasts_on_this_machine_for_this_graph(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trusting(True):
        SavedModule(saved, with_weights=True)
    SavedModule(saved, with_weights=True)
    other = shutil.copytree(saved, tmp_path / "other")
    SavedModule(other, with_weights=True)
    (other / "assets").mkdir(exist_ok=True)
    (other / "assets" / "names").write_text("x")  # which the graph may read
    with pytest.raises(BackboneError):
        SavedModule(other, with_weights=True)
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "another machine"))
    with pytest.raises(BackboneError):
        SavedModule(saved, with_weights=True)


def test_trust_is_given_for_a_file_by_hand(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.keras")]) == 2
    assert "none.keras" in capsys.readouterr().err
    assert main([]) == 2
    assert main([str(saved)]) == 0
    assert "beyond computing, its graph has: ReadFile" in capsys.readouterr().out
    require_safe("it", files_of(saved))
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "plain.keras")
    assert main([str(tmp_path / "plain.keras")]) == 0


def changed(saved: Path, folder: Path, change: Any) -> Path:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel()
    model.ParseFromString((shutil.copytree(saved, folder) / SAVED_MODEL).read_bytes())
    change(model)
    (folder / SAVED_MODEL).write_bytes(model.SerializeToString())
    return folder / SAVED_MODEL


def test_a_function_that_only_a_gradient_calls_is_looked_at(saved: Path, tmp_path: Path) -> None:
    def hide(model: Any) -> None:
        graph = model.meta_graphs[0]
        for name in list(graph.object_graph_def.concrete_functions):
            gradient = graph.graph_def.library.registered_gradients.add()
            gradient.gradient_func, gradient.registered_op_type = name, "Custom"
            del graph.object_graph_def.concrete_functions[name]

    assert refused_operations(changed(saved, tmp_path / "gradient", hide)) == FILE_OPERATIONS


def test_two_graphs_are_read_as_tensorflow_reads_them(saved: Path, tmp_path: Path) -> None:
    def twice(model: Any) -> None:
        graph = model.meta_graphs[0]
        node = graph.graph_def.node.add()
        node.name, node.op = "outside", "WriteFile"
        model.meta_graphs.add().CopyFrom(graph)

    assert "WriteFile" in refused_operations(changed(saved, tmp_path / "twice", twice))


def test_a_file_grants_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {trust: true}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: model\.trust: got True, expected false: a file cannot say whom you trust"):
        load_config("extract", file=tmp_path / "a.yaml")
    config = load_config("extract", file=tmp_path / "a.yaml", sets=["model.trust=true", "data.download=true"])
    assert config.model.trust
    assert from_yaml(to_yaml(config), "config.yaml") == config
    of_run = from_run(to_yaml(config), "config.yaml")
    assert (of_run.model.trust, of_run.data.download) == (False, False)
