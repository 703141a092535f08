"""Where modules come from, what they take, and one line for each that cannot be a backbone."""

import hashlib
import io
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tl_keras
from tl_keras.config import ModelConfig
from tl_keras.errors import BackboneError, ConfigError
from tl_keras.models import hub
from tl_keras.models.backbone_loading import build_backbone, native_image_size
from tl_keras.models.classifier import build_classifier, cut_below
from tl_keras.transfer.trunk import Trunk

MakeModule = Callable[..., Path]
SIZE = 16
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype("float32")
SHARED = Path(__file__).parents[2] / "../shared"


def save(folder: Path, compute: Callable[..., Any], *specs: Any, signature: bool = False) -> str:
    """A SavedModel of one function, to be called or as a signature."""
    module = tf.Module()
    module.scale = tf.Variable(2.0)
    function = tf.function(lambda *tensors: compute(module.scale, *tensors), input_signature=specs)
    if signature:
        module.serve = function
        tf.saved_model.save(module, str(folder), signatures=function)
    else:
        callable_module = tf.train.Checkpoint()
        callable_module.__call__, callable_module.scale = function, module.scale
        tf.saved_model.save(callable_module, str(folder))
    return str(folder)


def images(*shape: int | None, dtype: Any = tf.float32) -> Any:
    return tf.TensorSpec(shape, dtype)


def mean(scale: Any, batch: Any) -> Any:
    return scale * tf.reduce_mean(batch, (1, 2))


# --- what a module takes and puts out ------------------------------------------------------------------------------


def test_image_size_is_that_of_the_module(tmp_path: Path, hub_module: MakeModule) -> None:
    assert native_image_size(str(hub_module("hub_object"))) == SIZE
    assert native_image_size(str(hub_module("signature_only"))) == SIZE
    free = save(tmp_path / "free", mean, images(None, None, None, 3))
    assert native_image_size(free) == 224
    assert build_backbone(free, image_size=(20, 24)).model.input.shape == (None, 20, 24, 3)


def test_image_size_is_read_again_once_the_module_is_another(tmp_path: Path) -> None:
    folder = save(tmp_path / "module", mean, images(None, 8, 8, 3))
    assert native_image_size(folder) == 8
    shutil.rmtree(folder)
    save(tmp_path / "module", mean, images(None, 12, 12, 3))
    assert native_image_size(folder) == 12


def test_other_image_size_than_the_modules_is_refused(hub_module: MakeModule) -> None:
    folder = hub_module("hub_object")
    with pytest.raises(BackboneError) as caught:
        build_backbone(str(folder), image_size=(32, 32))
    assert str(caught.value) == f"image_size=(32, 32): module {folder} takes images of (16, 16) only. Set data.image_size=[16, 16]."


@pytest.mark.parametrize(
    ("preprocessing", "given"),
    [("auto", PIXELS / 255), ("zero_to_one", PIXELS / 255), ("minus_one_to_one", PIXELS / 127.5 - 1), ("none", PIXELS)],
)
def test_preprocessing_is_that_of_tf_hub_unless_another_is_asked_for(
    hub_module: MakeModule, raw_features: Any, preprocessing: str, given: Any
) -> None:
    folder = hub_module("plain_module")
    found = build_backbone(str(folder), image_size=(SIZE, SIZE), preprocessing=preprocessing).model(PIXELS)
    expected = raw_features(folder, given.astype("float32"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_signature_with_an_output_of_another_name(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", lambda scale, batch: {"embedding": mean(scale, batch)}, images(None, 8, 8, 3), signature=True)
    found = build_backbone(folder, image_size=(8, 8)).model(PIXELS[:, :8, :8])
    np.testing.assert_allclose(found, 2 * PIXELS[:, :8, :8].mean((1, 2)) / 255, rtol=1e-5)


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_weights_that_a_module_does_not_have_are_refused(hub_module: MakeModule, weights: str) -> None:
    folder = hub_module("plain_module")
    with pytest.raises(BackboneError) as caught:
        build_backbone(str(folder), image_size=(SIZE, SIZE), weights=weights)
    assert str(caught.value) == f"model.weights='{weights}': module {folder} brings its own weights. Expected 'pretrained' or a file."


TAKES_WRONG = "not one batch of images, float32 (None, height, width, 3)."
WRONG = {
    "text": (lambda scale, text: scale, [images(None, dtype=tf.string)], f"it takes string (None,), {TAKES_WRONG}"),
    "two inputs": (
        lambda scale, one, two: mean(scale, one + two),
        [images(None, 8, 8, 3)] * 2,
        f"it takes float32 (None, 8, 8, 3), float32 (None, 8, 8, 3), {TAKES_WRONG}",
    ),
    "grey": (mean, [images(None, 8, 8, 1)], f"it takes float32 (None, 8, 8, 1), {TAKES_WRONG}"),
    "uint8": (
        lambda _, x: tf.cast(x, tf.float32),
        [images(None, 8, 8, 3, dtype=tf.uint8)],
        f"it takes uint8 (None, 8, 8, 3), {TAKES_WRONG}",
    ),
    "one image": (mean, [images(1, 8, 8, 3)], f"it takes float32 (1, 8, 8, 3), {TAKES_WRONG}"),
    "vectors": (lambda scale, x: scale * x, [images(None, 12)], f"it takes float32 (None, 12), {TAKES_WRONG}"),
    "outputs": (
        lambda scale, x: {"boxes": mean(scale, x), "scores": mean(scale, x)},
        [images(None, 8, 8, 3)],
        "it has no output 'default' among several (boxes, scores).",
    ),
    "tokens": (
        lambda scale, x: scale * tf.reshape(x, (-1, 64, 3)),
        [images(None, 8, 8, 3)],
        "it outputs float32 (1, 64, 3) for one image, neither features (1, d) nor (1, h, w, c).",
    ),
    "classes": (
        lambda _, x: tf.argmax(tf.reduce_mean(x, (1, 2)), -1)[:, None],
        [images(None, 8, 8, 3)],
        "it outputs int64 (1, 1) for one image, neither features (1, d) nor (1, h, w, c).",
    ),
    "fails": (
        lambda scale, x: mean(scale, tf.reshape(x, (-1, 7, 7, 3))),
        [images(None, None, None, 3)],
        "images of (8, 8) fail in it (",
    ),
}


@pytest.mark.parametrize("signature", [False, True], ids=["called", "signature"])
@pytest.mark.parametrize("case", WRONG)
def test_module_that_is_no_backbone_is_refused_in_one_line(case: str, signature: bool, tmp_path: Path) -> None:
    compute, specs, text = WRONG[case]
    folder = save(tmp_path / "m", compute, *specs, signature=signature)
    with pytest.raises(BackboneError) as caught:
        build_backbone(folder, image_size=(8, 8))
    assert str(caught.value).startswith(f"module {folder} cannot be a backbone: {text}")
    assert "\n" not in str(caught.value)


def test_module_that_nobody_can_call_is_refused(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"))
    with pytest.raises(BackboneError, match=r"it cannot be called and has no signature 'default' or 'serving_default'\.$"):
        native_image_size(str(tmp_path / "m"))


def of_tensorflow_1(folder: Path, *, use_resource: bool) -> str:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        taken = v1.placeholder(tf.float32, (None, SIZE, SIZE, 3))
        scale = v1.get_variable("scale", initializer=2.0, use_resource=use_resource)
        features = scale * tf.reduce_mean(taken, (1, 2))
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"images": taken}, {"default": features})
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"default": signature})
        builder.save()
    return str(folder)


def test_module_of_tensorflow_1_trains_and_is_saved(tmp_path: Path) -> None:
    model = build_backbone(of_tensorflow_1(tmp_path / "m", use_resource=True), image_size=(SIZE, SIZE)).model
    np.testing.assert_allclose(model(PIXELS), 2 * PIXELS.mean((1, 2)) / 255, rtol=1e-5)
    model.trainable_weights[0].assign(3.0)
    model.save(tmp_path / "model.keras")
    shutil.rmtree(tmp_path / "m")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(PIXELS), 3 * PIXELS.mean((1, 2)) / 255, rtol=1e-5)


def test_variables_that_no_file_could_hold_are_refused(tmp_path: Path) -> None:
    folder = of_tensorflow_1(tmp_path / "m", use_resource=False)
    with pytest.raises(BackboneError) as caught:
        build_backbone(folder, image_size=(SIZE, SIZE))
    assert str(caught.value) == (
        f"module {folder} cannot be a backbone: it has reference variables of TensorFlow 1; write it again after "
        "tf.compat.v1.enable_resource_variables()."
    )


def damage_graph(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"text")


def cut_graph(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes((folder / "saved_model.pb").read_bytes()[:-400])


def empty_graph(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"")


def cut_weights(folder: Path) -> None:
    file = folder / "variables" / "variables.data-00000-of-00001"
    file.write_bytes(file.read_bytes()[:20])


def remove_weights(folder: Path) -> None:
    shutil.rmtree(folder / "variables")


@pytest.mark.parametrize("damage", [damage_graph, cut_graph, empty_graph, cut_weights, remove_weights])
def test_damaged_module_is_refused_in_one_line(hub_module: MakeModule, damage: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(hub_module("plain_module"), folder)
    damage(folder)
    with pytest.raises(BackboneError) as caught:
        build_backbone(str(folder), image_size=(SIZE, SIZE))
    assert str(caught.value).startswith(f"module {folder} cannot be a backbone: it does not load as a SavedModel (")
    assert "\n" not in str(caught.value)


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    for path in (str(tmp_path), str(tmp_path / "missing")):
        with pytest.raises(BackboneError, match=r"neither saved_model\.pb, as a TF-Hub module does|there is no file or folder"):
            native_image_size(path)


# --- heads, cuts and fingerprints ----------------------------------------------------------------------------------


def classifier_of(folder: Path, **settings: Any) -> Any:
    keras.utils.set_random_seed(0)
    built = build_backbone(str(folder), image_size=(SIZE, SIZE), preprocessing="zero_to_one")
    return build_classifier(ModelConfig(), built, 2, 0, **settings)


@pytest.mark.parametrize("all_stages", [False, True])
def test_vectors_are_not_pooled_and_maps_are(hub_module: MakeModule, raw_features: Any, all_stages: bool) -> None:
    for pooled in (True, False):
        folder = hub_module("hub_object", pooled)
        classifier = classifier_of(folder, all_stages=all_stages)
        expected = raw_features(folder, PIXELS / 255)
        np.testing.assert_allclose(classifier.trunk(PIXELS), expected if pooled else expected.mean((1, 2)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(classifier.head(classifier.trunk(PIXELS)), classifier.model(PIXELS), rtol=1e-6)
        assert ("pool" in [layer.name for layer in classifier.model.layers]) is not pooled
        assert cut_below(classifier, "stage1") is None  # one stage has nothing below it


def test_pooling_of_vectors_is_refused(hub_module: MakeModule) -> None:
    backbone = build_backbone(str(hub_module("hub_object")), image_size=(SIZE, SIZE))
    with pytest.raises(ConfigError) as caught:
        build_classifier(ModelConfig(pooling="max"), backbone, 2, 0)
    assert str(caught.value) == "model.pooling: got 'max', but the backbone outputs vectors, which need no pooling. Remove it."


def trunk_of(folder: Path) -> Trunk:
    classifier = classifier_of(folder)
    return Trunk(classifier.model, {"pooled": classifier.trunk.output})


@pytest.mark.parametrize("kind", ["hub_object", "plain_module", "signature_only", "keras_export", "tf_keras_model"])
def test_folded_trunk_puts_out_the_features(hub_module: MakeModule, raw_features: Any, kind: str) -> None:
    found = trunk_of(hub_module(kind))(PIXELS.astype("uint8"))["pooled"]
    np.testing.assert_allclose(found, raw_features(hub_module(kind), PIXELS / 255), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_fingerprint_knows_graph_and_weights_and_no_path(hub_module: MakeModule, tmp_path: Path) -> None:
    """In another process too: the digest of these bytes and weights is what it hashes."""
    first = trunk_of(hub_module("hub_object"))
    shutil.copytree(hub_module("hub_object"), tmp_path / "elsewhere")
    assert trunk_of(tmp_path / "elsewhere").fingerprints() == first.fingerprints()
    other_graph = trunk_of(hub_module("plain_module")).fingerprints()
    tuned = trunk_of(hub_module("hub_object"))
    tuned.source.get_layer("hub_module").trainable_weights[0].assign_add(np.full((3, 3, 3, 5), 1e-6))
    assert len({str(found) for found in (first.fingerprints(), other_graph, tuned.fingerprints())}) == 3


def test_fingerprint_tells_a_graph_of_the_same_weights(tmp_path: Path) -> None:
    found = set()
    for name, factor in (("one", 1.0), ("two", 2.0)):
        folder = save(tmp_path / name, lambda scale, x, factor=factor: factor * mean(scale, x), images(None, SIZE, SIZE, 3))
        found.add(trunk_of(Path(folder)).fingerprints()["pooled"])
    assert len(found) == 2


@pytest.mark.slow
def test_fingerprint_is_that_of_another_process(hub_module: MakeModule, tmp_path: Path, python_alone: Callable[..., Any]) -> None:
    code = (
        "import sys; from tl_keras.config import ModelConfig\n"
        "from tl_keras.models.backbone_loading import build_backbone\n"
        "from tl_keras.models.classifier import build_classifier\n"
        "from tl_keras.transfer.trunk import Trunk\n"
        "for folder in sys.argv[1:]:\n"
        "    made = build_classifier(ModelConfig(), build_backbone(folder, image_size=(16, 16), preprocessing='zero_to_one'), 2, 0)\n"
        "    print(Trunk(made.model, {'pooled': made.trunk.output}).fingerprints()['pooled'])\n"
    )
    folders = [hub_module("hub_object"), hub_module("tf_keras_model"), hub_module("keras_export")]
    found = python_alone(code, *map(str, folders), cwd=tmp_path).stdout.split()
    assert found == [trunk_of(folder).fingerprints()["pooled"] for folder in folders]


# --- addresses -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Answer(BaseHTTPRequestHandler):
    """Answers every request with the same bytes."""

    def __init__(self, content: bytes, *arguments: Any) -> None:
        self.content = content
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None:
        """Nothing: a test has no reader."""


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """A factory of addresses: `serve(content)`."""
    servers = []

    def start(content: bytes) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(Answer, content)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/module/1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def archive(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return content.getvalue()


def test_address_is_fetched_once(hub_module: MakeModule, cache: Path, serve: Callable[[bytes], str], raw_features: Any) -> None:
    address = serve(archive(hub_module("hub_object")))
    assert native_image_size(address) == SIZE
    found = build_backbone(address, image_size=(SIZE, SIZE)).model(PIXELS)
    np.testing.assert_allclose(found, raw_features(hub_module("hub_object"), PIXELS / 255), rtol=1e-5, atol=1e-6)
    assert (cache / hashlib.sha1(address.encode()).hexdigest() / "saved_model.pb").is_file()


@pytest.mark.parametrize("address", ["https://tfhub.dev/google/some/vector/1", "https://www.kaggle.com/models/google/some/1"])
def test_address_in_the_cache_needs_no_network(hub_module: MakeModule, cache: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    shutil.copytree(hub_module("plain_module"), cache / hashlib.sha1(address.encode()).hexdigest())
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("this must not be reached"))
    assert native_image_size(address) == SIZE
    assert build_backbone(address, image_size=(SIZE, SIZE)).model.output.shape == (None, 5)


def assert_not_downloaded(address: str, cache: Path) -> None:
    started = time.perf_counter()
    with pytest.raises(BackboneError) as caught:
        native_image_size(address)
    assert time.perf_counter() - started < 10  # the import of tensorflow_hub is most of it
    assert str(caught.value).startswith(f"the module {address} is not on this machine and did not download (")
    assert str(caught.value).endswith("give its folder as --backbone; or set TFHUB_CACHE_DIR to a cache that has it.")
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_address_without_a_network_is_refused_at_once(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert_not_downloaded(f"http://127.0.0.1:{port}/module/1", cache)


def test_server_that_does_not_answer_is_left(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "DOWNLOAD_TIMEOUT_S", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        assert_not_downloaded(f"http://127.0.0.1:{deaf.getsockname()[1]}/module/1", cache)
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("part", [0.0, 0.5], ids=["a page", "half a file"])
def test_what_is_no_module_is_not_kept(hub_module: MakeModule, cache: Path, serve: Callable[[bytes], str], part: float) -> None:
    content = archive(hub_module("hub_object"))
    assert_not_downloaded(serve(content[: int(part * len(content))] or b"<html>who are you?</html>"), cache)


def test_archive_without_a_module_is_refused(cache: Path, serve: Callable[[bytes], str], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.txt").write_text("text")
    address = serve(archive(tmp_path / "other"))
    for call in (native_image_size, partial(build_backbone, image_size=(8, 8))):
        with pytest.raises(BackboneError, match=r"cannot be a backbone: it holds no saved_model\.pb; it is what came from http"):
            call(address)


def test_features_of_a_module_cannot_be_kept(hub_module: MakeModule, photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    module, photos = hub_module("hub_object"), photo_folder(per_class=6, size=(SIZE, SIZE))
    settings = {"train.keep_features": 0.5, "train.epochs": 1}
    with pytest.raises(ConfigError, match=r"^train\.keep_features: got 0\.5, expected 0: .* is a TF-Hub module, which cannot be copied"):
        tl_keras.train(data=photos, mode="finetune", backbone=module, run_dir=tmp_path / "R", settings=settings)
    assert not (tmp_path / "R").exists()


# --- a real one ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.shared
def test_module_of_mobilenet_gives_the_features_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights, recovered twice: as a TF-Hub feature vector and as the file of `keras.applications`."""
    monkeypatch.setenv("KERAS_HOME", str(SHARED / "pretrained/keras_home"))
    folder = SHARED / "pretrained/hub/mobilenet_v2_100_224_feature_vector"
    photo = next((SHARED / "data/flowers/test/roses").glob("*.jpg"))
    pixels = keras.utils.img_to_array(keras.utils.load_img(photo, target_size=(224, 224)))[None]
    assert native_image_size(str(folder)) == 224
    found = build_backbone(str(folder), image_size=(224, 224)).model(pixels)
    expected = keras.ops.mean(build_backbone("mobilenet_v2", image_size=(224, 224)).model(pixels), (1, 2))
    assert found.shape == (1, 1280)
    np.testing.assert_allclose(found, expected, atol=1e-4)
