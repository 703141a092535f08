"""Backbones and run folders that a stranger made: nothing of theirs runs, and one line says why; who is trusted is let through."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

SMALL = ("--set", "features.views=0", "--set", "data.image_size=32", "--set", "train.batch_size=8")
BACKBONE = ("--set", "model.preprocessing=zero_to_one")


class Evil(tf.Module):
    """A network that writes a file when it is called; the write is in a function that a function calls."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file, self.kernel = str(file), tf.Variable(tf.ones((3, 3, 3, 4)))

    @tf.function
    def _write(self) -> Any:
        with tf.control_dependencies([tf.io.write_file(self._file, "here")]):
            return tf.constant(0.0)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    def __call__(self, images: Any) -> Any:
        return tf.reduce_mean(tf.nn.conv2d(images, self.kernel, 2, "SAME"), (1, 2)) + self._write()


def writes_at_start(folder: Path, file: Path) -> None:
    """A module of TensorFlow 1, which writes a file as soon as it is loaded."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        images = tf.compat.v1.placeholder(tf.float32, (None, 32, 32, 3))
        features = tf.reduce_mean(images, (1, 2)) * 2.0
        start = tf.io.write_file(str(file), "here")
        signature = tf.compat.v1.saved_model.predict_signature_def({"images": images}, {"default": features})
        builder = tf.compat.v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"default": signature}, main_op=start)
        builder.save()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the attacks would write."""
    return tmp_path_factory.mktemp("written") / "file"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory, written: Path) -> Path:
    """A SavedModel that writes."""
    folder = tmp_path_factory.mktemp("evil") / "module"
    tf.saved_model.save(Evil(written), str(folder))
    return folder


@pytest.fixture(scope="module")
def theirs(command_line: Any, photos: Path, module: Path, written: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on that module by somebody who trusts it, and the cache folder of that person's machine."""
    folder = tmp_path_factory.mktemp("theirs")
    trained = command_line.run(
        ["--mode", "extract", "--data", photos, "--run-dir", folder / "run", "--backbone", module, "--set", "model.trust=true", *SMALL,
         *BACKBONE],
        TL_KERAS_CACHE=str(folder / "cache"),
    )  # fmt: skip
    assert trained.status == 0, trained.text
    assert written.exists()
    written.unlink()
    assert "trust: true" in (folder / "run" / "config.yaml").read_text()
    return folder / "run", folder / "cache"


@pytest.fixture
def refused(command_line: Any, written: Path, report: Callable[..., None]) -> Callable[..., None]:
    """Run a command that must not run what strangers wrote, and says why."""

    def check(arguments: Sequence[str | Path], why: str, **environment: str) -> None:
        written.unlink(missing_ok=True)
        command = command_line.run(arguments, **environment)
        ran = int(written.exists())
        report("foreign graphs", tried=1, run=ran)
        assert not ran, command.text
        assert command.status == 2, command.text
        assert "Traceback" not in command.text
        assert why in command.text, command.text

    return check


@pytest.mark.parametrize("dry", [True, False])
def test_a_module_as_a_backbone(dry: bool, module: Path, photos: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    words = ["--mode", "extract", "--data", photos, "--backbone", module, *SMALL, *BACKBONE]
    refused([*words, *(["--dry-run"] if dry else ["--run-dir", tmp_path / "run"])], "(WriteFile)")
    assert not (tmp_path / "run").exists()


def test_a_module_that_writes_when_it_is_loaded(photos: Path, written: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    writes_at_start(tmp_path / "module", written)
    refused(["--mode", "extract", "--data", photos, "--backbone", tmp_path / "module", "--dry-run", *SMALL, *BACKBONE], "(WriteFile)")


def test_a_configuration_file_cannot_grant_trust(module: Path, photos: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "a.yaml").write_text(f"model: {{backbone: {module}, trust: true, preprocessing: zero_to_one}}\n")
    refused(
        ["--mode", "extract", "--data", photos, "--config", tmp_path / "a.yaml", "--dry-run", *SMALL], "a file cannot say whom you trust"
    )


def test_a_keras_file_with_such_a_module_as_a_backbone(theirs: tuple[Path, Path], photos: Path, refused: Callable[..., None]) -> None:
    words = ["--mode", "extract", "--data", photos, "--backbone", theirs[0] / "model.keras", "--dry-run", *SMALL]
    refused(words, "(WriteFile)")


@pytest.mark.parametrize("mode", ["evaluate", "predict", "explain", "export", "resume", "ensemble"])
def test_a_run_folder(mode: str, theirs: tuple[Path, Path], photos: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    run = shutil.copytree(theirs[0], tmp_path / "run")
    image = sorted(photos.rglob("*.png"))[0]
    if mode == "resume":
        (run / "metrics.json").unlink()
    words: dict[str, list[str | Path]] = {
        "evaluate": ["--mode", "evaluate", "--run-dir", run],
        "predict": ["--mode", "predict", "--run-dir", run, image],
        "explain": ["--mode", "explain", "--run-dir", run, image],
        "export": ["--mode", "export", "--run-dir", run],
        "resume": ["--mode", "extract", "--resume", "--run-dir", run],
        "ensemble": ["--mode", "ensemble", "--run-dir", tmp_path / "both", run, shutil.copytree(run, tmp_path / "twin")],
    }
    refused(words[mode], "(WriteFile)")


def test_who_trusts_goes_on_with_the_run(theirs: tuple[Path, Path], command_line: Any, photos: Path, tmp_path: Path) -> None:
    run, cache = theirs
    predict = ["--mode", "predict", "--run-dir", run, sorted(photos.rglob("*.png"))[0]]
    assert command_line.run(predict, TL_KERAS_CACHE=str(cache)).status == 0
    resumed = shutil.copytree(run, tmp_path / "run")
    (resumed / "metrics.json").unlink()
    again = command_line.run(["--mode", "extract", "--resume", "--run-dir", resumed], TL_KERAS_CACHE=str(cache))
    assert again.status == 0, again.text
    assert "trust: true" in (resumed / "config.yaml").read_text()


@pytest.mark.parametrize("kind", ["lambda", "tfsm"])
def test_what_keras_refuses(
    kind: str, module: Path, theirs: tuple[Path, Path], photos: Path, tmp_path: Path, refused: Callable[..., None], written: Path
) -> None:
    inputs = keras.Input((32, 32, 3))
    middle = keras.layers.Conv2D(4, 3, name="first")(inputs)
    file = str(written)
    if kind == "lambda":
        middle = keras.layers.Lambda(lambda each: each + 0 * Path(file).write_text("here"), output_shape=(30, 30, 4))(middle)
    else:
        middle = keras.layers.TFSMLayer(str(module), call_endpoint="__call__")(inputs)
        middle = middle if not isinstance(middle, dict) else next(iter(middle.values()))
    model = keras.Model(inputs, middle)
    model.save(tmp_path / "model.keras")
    why = "it holds a Lambda layer" if kind == "lambda" else "it holds a TFSMLayer"
    refused(["--mode", "extract", "--data", photos, "--backbone", tmp_path / "model.keras", "--dry-run", *SMALL], why)
    run = shutil.copytree(theirs[0], tmp_path / "run")
    shutil.copy(tmp_path / "model.keras", run / "model.keras")
    refused(["--mode", "predict", "--run-dir", run, sorted(photos.rglob("*.png"))[0]], why)


def test_a_class_of_a_module_that_lies_around(photos: Path, tmp_path: Path, written: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "around.py").write_text(f"open({str(written)!r}, 'w').close()\nclass Mine: pass\n")
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3)]).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][-1] |= {"module": "around", "class_name": "Mine", "registered_name": "Mine"}
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in (members | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, content)
    words = ["--mode", "extract", "--data", photos, "--backbone", tmp_path / "model.keras", "--dry-run", *SMALL]
    refused(words, "cannot be a backbone", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
