"""The SavedModel agrees with the model in a process that imports only tensorflow; one that does not is refused."""

import base64
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tl_keras.config import ExportConfig
from tl_keras.data import images
from tl_keras.deploy import parity, saved_model, standalone_reader
from tl_keras.deploy.export import export_model, require_converters
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.formats import FORMATS
from tl_keras.deploy.parity import Reference
from tl_keras.deploy.parity_images import describe, refused_by, spread
from tl_keras.errors import ConfigError, ExportError, ParityError
from tl_keras.export_formats import EXPORT_FORMATS, ONNX, SAVED_MODEL

SIZE = (24, 20)
CLASSES = ("cat", "grün")
DECODING = images.Decoding(bit_depth=12)
FORM = FORMATS[SAVED_MODEL]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    pixels = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(pixels)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(2)(x))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("files"), []
    for number, ending in enumerate(("jpg", "png", "bmp", "gif", "webp")):
        pixels = np.random.default_rng(number).integers(0, 256, (40 + number, 33, 3), np.uint8)
        image = Image.fromarray(pixels)
        exif = Image.Exif()
        exif[0x0112] = 6  # lies on its side
        image.save(folder / f"a.{ending}", **({"exif": exif} if ending == "jpg" else {}))
        found.append(folder / f"a.{ending}")
    Image.fromarray(np.random.default_rng(7).integers(0, 4096, (30, 20), np.uint16)).save(folder / "deep.png")
    return [*found, folder / "deep.png"]


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """Files that Pillow decodes and TensorFlow does not."""
    folder = tmp_path_factory.mktemp("refused")
    photo = Image.fromarray(np.random.default_rng(9).integers(0, 256, (30, 20, 3), np.uint8))
    photo.save(folder / "moving.webp", save_all=True, append_images=[photo.rotate(90)])
    photo.convert("1").save(folder / "one_bit.bmp")
    photo.save(folder / "named.jpg", "TIFF")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def exported(model, files, refused, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "saved_model"
    made = Exported(model, CLASSES, "letterbox", DECODING)
    return folder, export_model(made, folder, Reference.of(made, [*files, *refused]), ExportConfig(), kind=SAVED_MODEL)


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(exported[0])


@pytest.mark.slow
def test_export_agrees_with_the_model(exported):
    differences = exported[1].differences
    assert set(differences) == {"float", "uint8", "bytes"}
    assert max(differences.values()) <= 1e-5


def test_files_that_tensorflow_does_not_decode_are_named_with_the_first_line_of_its_error(exported, refused):
    found = exported[1].refused
    assert list(found) == [str(file) for file in refused]
    for why, words in zip(found.values(), ("Expected a still WebP", "Expected a JPEG", "Expected an uncompressed BMP"), strict=True):
        assert why.startswith(words)
        assert not any(part in why for part in ("{{", "node", "[Op", "\n"))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 3])  # the second as many as there are classes
def test_every_answer_has_the_batch_first_as_tensorflow_serving_wants(loaded, files, batch):
    data = [file.read_bytes() for file in files[:batch]]
    pixels = np.stack([images.load(file, SIZE, "letterbox") for file in files[:batch]])
    inputs = {"bytes": tf.constant(data), "uint8": tf.constant(pixels), "serving_default": tf.constant(pixels, tf.float32)}
    assert set(loaded.signatures) == inputs.keys()
    for name, value in inputs.items():
        answer = loaded.signatures[name](value)
        assert set(answer) == {"class", "probability", "probabilities", "classes"}
        assert {key: tensor.shape[0] for key, tensor in answer.items()} == dict.fromkeys(answer, batch)
        assert {key: spec.shape[0] for key, spec in loaded.signatures[name].structured_outputs.items()} == dict.fromkeys(answer)


def test_exported_answers_have_names_and_labels(loaded, model, files):
    answer = {key: value.numpy() for key, value in loaded.signatures["bytes"](tf.constant([file.read_bytes() for file in files])).items()}
    assert answer["classes"].tolist() == [[label.encode() for label in CLASSES]] * len(files)
    pixels = np.stack([images.load(file, SIZE, "letterbox", DECODING) for file in files]).astype(np.float32)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(model(pixels)))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert answer["class"].tolist() == [CLASSES[best].encode() for best in expected.argmax(1)]
    np.testing.assert_allclose(answer["probability"], expected.max(1), atol=1e-5)


def compared(model, files, refused, monkeypatch):
    """How a SavedModel that agrees and refuses some files is judged."""
    made = Exported(model, CLASSES, "crop")
    reference = Reference.of(made, files)
    taken = [str(file) not in refused for file in files]
    answers = {"float": reference.answers, "uint8": reference.answers, "bytes": reference.answers[taken]}
    monkeypatch.setattr(parity, "ask", lambda *_, **__: parity.Said(answers, refused, {}))
    return parity.compare(made, FORM, None, reference, name="RUN/out")


def test_only_pixels_are_compared_where_no_file_is_of_a_kind_that_tensorflow_decodes(model, refused, monkeypatch):
    said = {str(file): "Expected another" for file in refused}
    found = compared(model, refused, said, monkeypatch)
    assert set(found.differences) == {"float", "uint8"}
    assert found.refused == said
    assert found.agreement == 1


def test_a_file_that_tensorflow_finds_damaged_is_left_out_and_an_export_that_takes_none_is_refused(model, files, monkeypatch):
    said = {str(files[1]): "Invalid PNG"}
    found = compared(model, files, said, monkeypatch)
    assert max(found.differences.values()) <= 1e-5
    assert found.refused == said
    said |= {str(file): "Invalid" for file in files}
    with pytest.raises(ExportError, match=r"^RUN/out: its signature 'bytes' takes no test image \(Invalid\)\.$"):
        compared(model, files, said, monkeypatch)


def test_agreement_is_the_share_of_images_with_the_same_classes(model, files, monkeypatch):
    own = SimpleNamespace(is_known=lambda novelty: novelty <= 1, watched=lambda model: model, threshold=1)
    made = Exported(model, CLASSES, "crop", novelty=own)
    answers = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    novelty = np.array([[0.5], [1.5], [0.5], [1.5]])
    reference = Reference(files[:4], np.zeros((4, *SIZE, 3), np.uint8), answers, novelty, novelty <= 1.2)
    told = np.concatenate([answers, novelty], axis=1)
    told[1, :2] = 0.45, 0.55  # another class
    told[2:, 2] = 1.1, 0.9  # two that are known to one of them, whatever the other's threshold
    monkeypatch.setattr(parity, "ask", lambda *_, **__: parity.Said({"float": told}, {}, {}))
    found = parity.compare(made, FORMATS[ONNX], None, reference, name="out")
    assert (found.agreement, found.known_agreement, found.novelty_threshold) == (0.75, 0.5, 1)
    assert found.differences["float"] == pytest.approx(0.15)
    assert found.novelty_differences["float"] == pytest.approx(0.6)


def test_a_saved_model_that_does_not_load_is_told_in_one_line_by_its_own_name(model, files, tmp_path, monkeypatch):
    def run(command, **_):
        (Path(command[5]) / "said.json").write_text(
            json.dumps({"failed": f"SavedModel file does not exist at: {tmp_path}/.1.temporary/saved_model.pb"})
        )
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    made = Exported(model, CLASSES, "crop")
    reason = r"does not answer with tensorflow alone \(SavedModel file does not exist at: RUN/out/saved_model\.pb\)\."
    with pytest.raises(ExportError, match=f"^RUN/out: {reason}$"):
        parity.compare(made, FORM, tmp_path / ".1.temporary", Reference.of(made, files[:1]), name="RUN/out")


def test_a_process_that_dies_is_told(model, files, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, -11, "", "noise"))
    made = Exported(model, CLASSES, "crop")
    with pytest.raises(ExportError, match=r"^out: does not load with tensorflow alone \(its process was ended by signal 11\)\.$"):
        parity.compare(made, FORM, tmp_path, Reference.of(made, files[:1]), name="out")


def test_a_model_that_differs_is_refused_and_leaves_the_old_export(model, files, tmp_path, monkeypatch):
    target = tmp_path / "model.onnx"
    target.write_text("old")
    twin = keras.models.clone_model(model)
    twin.set_weights([weight + 0.1 for weight in model.get_weights()])
    honest = FORMATS[ONNX]
    monkeypatch.setitem(FORMATS, ONNX, replace(honest, write=lambda _, path: honest.write(Exported(twin, CLASSES, "crop"), path)))
    made = Exported(model, CLASSES, "crop")
    with pytest.raises(ParityError, match="differs from the model by"):
        export_model(made, target, Reference.of(made, files[:1]), ExportConfig(), kind=ONNX)
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("kind", FORMATS)
def test_check_refuses_a_difference_what_is_no_number_and_other_answers_in_each_signature_of_each_format(kind):
    bounds = ExportConfig(max_probability_difference=0.25, min_agreement=0.5)
    for name, times in FORMATS[kind].allowance.items():
        at = parity.Agreement({name: 100.0 if times is None else 0.25 * times}, {}, {}, 0.5, None, None, np.zeros(0), {})
        parity.check(FORMATS[kind], at, bounds)
        parity.check(FORMATS[kind], replace(at, agreement=None), bounds)
        wrong = [{name: float("inf")}, {name: float("nan")}, *([] if times is None else [{name: 0.26 * times}])]
        for differences in wrong:
            for field in ("differences", "novelty_differences"):
                with pytest.raises(ParityError, match=f"'{name}'"):
                    parity.check(FORMATS[kind], replace(at, **{"differences": at.differences, field: differences}), bounds)
        with pytest.raises(ParityError, match=r"it gives the classes of the model to 0\.490 of the images, fewer than 0\.5$"):
            parity.check(FORMATS[kind], replace(at, agreement=0.49), bounds)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_has_a_reader_in_the_process_without_keras(kind):
    assert standalone_reader.READERS[FORMATS[kind].answer.__name__] is FORMATS[kind].answer


def test_a_format_whose_package_is_missing_is_refused_with_the_line_that_installs_it(monkeypatch):
    require_converters(FORMATS)
    monkeypatch.setitem(EXPORT_FORMATS, ONNX, replace(EXPORT_FORMATS[ONNX], needs=("no-such", "none-such")))
    with pytest.raises(ConfigError, match=r"^--format: needs no-such and none-such, not installed.*: pip install no-such none-such\.$"):
        require_converters(FORMATS)


def test_the_reader_tells_which_files_a_signature_refuses_and_fails_for_any_other_reason(tmp_path):
    class InvalidArgumentError(Exception):
        pass

    def answer(files):
        if files[0] != b"good":
            raise InvalidArgumentError("{{function_node f}} assertion failed: [Expected a JPEG] [Op:F]\n\t [[node]]")
        return np.ones((1, 2))

    names = [str(tmp_path / name) for name in ("good", "bad")]
    for name in names:
        Path(name).write_bytes(Path(name).name.encode())
    signatures = {"float": lambda pixels: pixels + 1, "bytes": answer}
    found, refused = standalone_reader.ask(signatures, ["float", "bytes"], names, np.zeros(3))
    assert found["float"].tolist() == [1, 1, 1]
    assert found["bytes"].shape == (1, 2)
    assert refused == {names[1]: "Expected a JPEG [Op:F]"}
    with pytest.raises(KeyError):
        standalone_reader.ask({"bytes": lambda _: {}["x"]}, ["bytes"], names, None)


def test_a_folder_whose_name_is_not_utf_8(tmp_path):
    class Archive:
        def write_out(self, path, verbose):
            Path(path.encode().decode()).mkdir()  # as TensorFlow: no other path will do

    for name in (b"plain", b"r\xfcn"):
        folder = tmp_path / os.fsdecode(name)
        saved_model.write_out(Archive(), folder)
        assert folder.is_dir()


def test_what_is_refused_is_counted_and_the_rest_spread(files, refused, tmp_path):
    many = [tmp_path / f"{number}.jpg" for number in range(40)]
    for number, file in enumerate(many):
        file.write_bytes((refused if number % 4 == 1 else files)[number % 3].read_bytes())
    counts, chosen = refused_by(many, 5)
    assert counts == {"animated WebP": 3, "TIFF": 4, "1-bit BMP": 3}
    assert chosen == [many[number] for number in (0, 8, 16, 24, 32)]
    assert describe(counts, 40) == (
        "the signature 'bytes' will refuse 10 of 40 test images, which TensorFlow does not decode: 4 TIFF, 3 1-bit BMP, 3 animated WebP"
    )
    assert refused_by(refused, 5) == ({"animated WebP": 1, "TIFF": 1, "1-bit BMP": 1}, [])
    assert spread(many[:3], 5) == many[:3]


# --- as TensorFlow Serving runs it ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(exported):
    """A SavedModel in a session, as TensorFlow Serving has it: `served(signature, inputs)` -> outputs, arrays by their aliases.

    It loads the only graph with the tag 'serve', feeds the tensors that the signature names, and takes no other alias: predict_impl.cc.
    """
    graph = tf.Graph()
    with graph.as_default():
        session = tf.compat.v1.Session()
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(exported[0])).signature_def

    def predict(name, inputs):
        signature = signatures[name or "serving_default"]
        assert signature.method_name == "tensorflow/serving/predict"
        assert set(inputs) == set(signature.inputs)
        feeds = {signature.inputs[alias].name: value for alias, value in inputs.items()}
        return session.run({alias: tensor.name for alias, tensor in signature.outputs.items()}, feeds)

    yield predict
    session.close()


@pytest.mark.slow
def test_a_request_over_grpc_is_answered(served, exported, model, files):
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    pixels = np.stack([images.load(file, SIZE, "letterbox", DECODING) for file in files])
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(model(pixels.astype(np.float32))))
    inputs = {"bytes": [file.read_bytes() for file in files], "uint8": pixels, "": pixels.astype(np.float32)}
    for name, value in inputs.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "flowers", name
        request.inputs["bytes" if name == "bytes" else "pixels"].CopyFrom(tf.make_tensor_proto(value))
        request = predict_pb2.PredictRequest.FromString(request.SerializeToString())
        found = served(request.model_spec.signature_name, {alias: tf.make_ndarray(proto) for alias, proto in request.inputs.items()})
        response = predict_pb2.PredictResponse()
        for alias, array in found.items():
            response.outputs[alias].CopyFrom(tf.make_tensor_proto(array))
        response = predict_pb2.PredictResponse.FromString(response.SerializeToString())
        told = {alias: tf.make_ndarray(proto) for alias, proto in response.outputs.items()}
        np.testing.assert_allclose(told["probabilities"], expected, atol=1e-5)
        assert [each.decode() for each in told["class"]] == [CLASSES[best] for best in expected.argmax(1)]
        assert told["classes"].tolist() == [[label.encode() for label in CLASSES]] * len(files)


def from_rest(body, alias):
    """The tensor of an input in the body of a REST request, by rows or by columns, with and without the input's name: json_tensor.cc."""
    given = json.loads(body)
    rows = given["instances"] if "instances" in given else given["inputs"]
    if isinstance(rows, dict):
        rows = rows[alias]
    rows = [row[alias] if isinstance(row, dict) and set(row) == {alias} else row for row in rows]
    if isinstance(rows[0], dict):
        return np.array([base64.b64decode(row["b64"]) for row in rows], object)
    return np.array(rows)


def to_rest(outputs):
    """The body of an answer by rows, which takes outputs that all have as many rows, and texts that are UTF-8."""
    sizes = {len(values) for values in outputs.values()}
    assert len(sizes) == 1
    plain = {alias: np.char.decode(values.astype(bytes)) if values.dtype == object else values for alias, values in outputs.items()}
    rows = [{alias: values[row].tolist() for alias, values in plain.items()} for row in range(sizes.pop())]
    return json.dumps({"predictions": rows}, allow_nan=False)


@pytest.mark.slow
def test_a_request_over_rest_is_answered(served, model, files):
    encoded = [{"b64": base64.b64encode(file.read_bytes()).decode()} for file in files]
    pixels = np.stack([images.load(file, SIZE, "letterbox", DECODING) for file in files])
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(model(pixels.astype(np.float32))))
    bodies = {
        "bytes": [{"instances": encoded}, {"instances": [{"bytes": each} for each in encoded]}, {"inputs": {"bytes": encoded}}],
        "uint8": [{"instances": pixels.tolist()}, {"inputs": pixels.tolist()}],
        "serving_default": [{"instances": [{"pixels": each} for each in pixels.tolist()]}],
    }
    for name, several in bodies.items():
        for body in several:
            alias = "bytes" if name == "bytes" else "pixels"
            told = json.loads(to_rest(served(name, {alias: from_rest(json.dumps(body | {"signature_name": name}), alias)})))["predictions"]
            assert [each["class"] for each in told] == [CLASSES[best] for best in expected.argmax(1)]
            np.testing.assert_allclose([each["probabilities"] for each in told], expected, atol=1e-5)
            assert all(each["classes"] == list(CLASSES) for each in told)
