"""A SavedModel is refused for what it could do to the machine, and for nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.models.graph_safety import ALLOWED, refused_operations

PIXELS = tf.TensorSpec((None, None, None, 3), tf.float32)
Body = Callable[[Any], Any]


def saved(folder: Path, body: Body) -> Path:
    """A SavedModel that calls `body` on its images, and the file with its graph."""

    class Module(tf.Module):
        @tf.function(input_signature=[PIXELS])
        def __call__(self, images: Any) -> Any:
            return tf.reduce_mean(images, (1, 2)) + body(images)

    tf.saved_model.save(Module(), str(folder))
    return folder / "saved_model.pb"


def hidden(inner: Body) -> Body:
    """The same, in a function in the branch of a condition in a loop."""

    def body(images: Any) -> Any:
        called = tf.function(inner)
        step = lambda total: tf.cond(tf.reduce_sum(images) > total, lambda: called(images), lambda: total)  # noqa: E731
        return tf.while_loop(lambda total: total < 3.0, lambda total: [step(total) + 1.0], [0.0])[0]

    return body


def reads(_: Any) -> Any:
    return tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def lists(_: Any) -> Any:
    return tf.cast(tf.size(tf.io.matching_files("/*")), tf.float32)


def writes(_: Any) -> Any:
    with tf.control_dependencies([tf.io.write_file("/nowhere/x", "x")]):
        return tf.constant(0.0)


def calls_python(_: Any) -> Any:
    return tf.ensure_shape(tf.numpy_function(lambda: np.float32(0), [], tf.float32), ())


def saves(_: Any) -> Any:
    with tf.control_dependencies([tf.raw_ops.SaveV2(prefix="/nowhere/x", tensor_names=["a"], shape_and_slices=[""], tensors=[1.0])]):
        return tf.constant(0.0)


def reads_a_table(_: Any) -> Any:
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    start = tf.raw_ops.InitializeTableFromTextFileV2(table_handle=table, filename="/etc/hostname", key_index=-2, value_index=-1)
    with tf.control_dependencies([start]):
        return tf.constant(0.0)


def reads_records(_: Any) -> Any:
    return tf.cast(tf.data.TextLineDataset("/etc/hostname").reduce(0, lambda number, _: number + 1), tf.float32)


ATTACKS: dict[str, tuple[Body, str]] = {
    "read": (reads, "ReadFile"),
    "list": (lists, "MatchingFiles"),
    "write": (writes, "WriteFile"),
    "python": (calls_python, "PyFunc"),
    "save": (saves, "SaveV2"),
    "table": (reads_a_table, "InitializeTableFromTextFileV2"),
    "records": (reads_records, "TextLineDataset"),
}


@pytest.mark.parametrize("how", ["plain", "hidden"])
@pytest.mark.parametrize("name", ATTACKS)
def test_what_reaches_out_of_the_graph_is_named(name: str, how: str, tmp_path: Path) -> None:
    body, operation = ATTACKS[name]
    found = refused_operations(saved(tmp_path, body if how == "plain" else hidden(body)))
    assert any(each.startswith(operation) for each in found), found


def test_networks_are_let_through(tmp_path: Path) -> None:
    def body(images: Any) -> Any:
        tall = tf.image.adjust_saturation(tf.image.resize(images / 255.0, (8, 8), antialias=True), 0.5)
        return tf.reduce_mean(tf.nn.conv2d(tall, tf.ones((3, 3, 3, 3)), 1, "SAME"), (1, 2)) + tf.random.uniform(())

    assert refused_operations(saved(tmp_path / "module", hidden(lambda images: tf.reduce_sum(body(images))))) == []
    inputs = keras.Input((16, 16, 3))
    tensor = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, activation="gelu")(keras.layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.2)(tensor))))
    model.export(tmp_path / "exported", verbose=False)
    assert refused_operations(tmp_path / "exported" / "saved_model.pb") == []


def test_a_function_that_only_an_object_names_is_looked_at(tmp_path: Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file, model = saved(tmp_path, writes), SavedModel()
    model.ParseFromString(file.read_bytes())
    described = model.meta_graphs[0].object_graph_def.concrete_functions
    for name in list(described):
        del described[name]
    file.write_bytes(model.SerializeToString())
    assert refused_operations(file) == ["WriteFile"]


class Nested(tf.Module):
    """Calls a function, which may do more than compute."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self._body = body

    @tf.function(input_signature=[PIXELS])
    def inner(self, images: Any) -> Any:
        return tf.reduce_mean(images, (1, 2)) + self._body(images)

    @tf.function(input_signature=[PIXELS])
    def __call__(self, images: Any) -> Any:
        return self.inner(images) * 2.0


def with_hidden(folder: Path, body: Body, name: str) -> tuple[Any, Any, Any]:
    """A SavedModel that only computes, whose library also has a function with this name and body, which nothing calls: the whole, the
    function that is called, and the other one."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    libraries = []
    for part, its_body in (("good", lambda _: 0.0), ("evil", body)):
        tf.saved_model.save(Nested(its_body), str(folder / part))
        model = SavedModel.FromString((folder / part / "saved_model.pb").read_bytes())
        library = model.meta_graphs[0].graph_def.library.function
        libraries.append((model, library, next(each for each in library if "inner" in each.signature.name)))
    (whole, library, called), (_, _, evil) = libraries
    hidden_one = library.add()
    hidden_one.CopyFrom(evil)
    hidden_one.signature.name = name
    return whole, called, hidden_one


def test_a_function_that_may_stand_for_another_is_looked_at(tmp_path: Path) -> None:
    written = tmp_path / "written"

    def writes_here(_: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(written), "x")]):
            return tf.constant(0.0)

    whole, called, other = with_hidden(tmp_path, writes_here, "other")
    file = tmp_path / "good" / "saved_model.pb"
    file.write_bytes(whole.SerializeToString())
    assert refused_operations(file) == []  # what nothing calls does not run
    for function, device in ((called, b"GPU"), (other, b"CPU")):
        function.attr["api_implements"].s, function.attr["api_preferred_device"].s = b"same", device
    file.write_bytes(whole.SerializeToString())
    tf.saved_model.load(str(tmp_path / "good"))(tf.ones((1, 4, 4, 3)))
    assert written.exists()  # this is what TensorFlow does
    assert refused_operations(file) == ["WriteFile"]


def test_a_function_that_a_text_names_and_an_operation_with_the_name_of_a_function_are_looked_at(tmp_path: Path) -> None:
    whole, called, _ = with_hidden(tmp_path, writes, "other")
    called.attr["backward_function_name"].s = b"other"
    file = tmp_path / "good" / "saved_model.pb"
    file.write_bytes(whole.SerializeToString())
    assert refused_operations(file) == ["WriteFile"]
    whole, called, _ = with_hidden(tmp_path / "named", lambda _: 0.0, "WriteFile")
    node = called.node_def.add()
    node.op, node.name = "WriteFile", "x"
    file.write_bytes(whole.SerializeToString())
    assert refused_operations(file) == ["WriteFile"]


def graph_of_tensorflow_1(folder: Path, *, evil: str = "") -> Path:
    """A SavedModel of TensorFlow 1, whose saver or start may do more than it says."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        images = tf.compat.v1.placeholder(tf.float32, (None, 8, 8, 3))
        weight = tf.compat.v1.get_variable("weight", initializer=tf.ones((3,)), use_resource=True)
        session.run(tf.compat.v1.global_variables_initializer())
        features = tf.reduce_mean(images, (1, 2)) * weight
        start = tf.io.write_file("/nowhere/x", "x") if evil == "start" else None
        signature = tf.compat.v1.saved_model.predict_signature_def({"images": images}, {"features": features})
        builder = tf.compat.v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"default": signature}, main_op=start)
        builder.save()
    return folder / "saved_model.pb"


def test_a_module_of_tensorflow_1_may_restore_itself(tmp_path: Path) -> None:
    assert refused_operations(graph_of_tensorflow_1(tmp_path)) == []


def test_what_tensorflow_1_runs_at_the_start_is_looked_at(tmp_path: Path) -> None:
    assert refused_operations(graph_of_tensorflow_1(tmp_path, evil="start")) == ["WriteFile"]


def test_a_saver_is_not_run_in_place_of_a_restore(tmp_path: Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file, model = graph_of_tensorflow_1(tmp_path), SavedModel()
    model.ParseFromString(file.read_bytes())
    saver = model.meta_graphs[0].saver_def
    saver.restore_op_name = saver.save_tensor_name.partition(":")[0]
    file.write_bytes(model.SerializeToString())
    assert "SaveV2" in refused_operations(file)


def test_a_damaged_graph_is_told(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 99)
    with pytest.raises(ValueError, match="its graph is damaged"):
        refused_operations(tmp_path / "saved_model.pb")


def test_every_name_on_the_list_is_an_operation() -> None:
    assert [name for name in sorted(ALLOWED) if not hasattr(tf.raw_ops, name)] == []
