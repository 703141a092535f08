"""Files of Keras 2, of HDF5 and of subclassed models: each its own reason, and the command that converts it."""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tl_keras.errors import BackboneError
from tl_keras.models import convert
from tl_keras.models.backbone_loading import native_image_size
from tl_keras.models.file_kinds import why_unusable

PIXELS = np.random.default_rng(0).uniform(0, 1, (2, 16, 16, 3)).astype("float32")


def archive(path: Path, config: dict[str, Any], version: str = "3.15.1") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", json.dumps({"keras_version": version}))
    return path


def test_each_kind_of_file_has_its_own_reason(tmp_path: Path) -> None:
    of_keras_2 = archive(tmp_path / "old one.keras", {"module": "keras.src.engine.functional", "class_name": "Functional"}, "2.15.0")
    subclassed = archive(tmp_path / "sub.keras", {"module": None, "class_name": "Mine"})
    hdf5 = tmp_path / "hdf5.keras"
    keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(2, 3)]).save(tmp_path / "x.h5")
    (tmp_path / "x.h5").rename(hdf5)
    other = tmp_path / "zip.keras"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("photo.jpg", b"")
    assert [why_unusable(path) for path in (of_keras_2, subclassed, hdf5, other)] == [
        "it was saved by Keras 2.15.0, whose files Keras 3 does not read. "
        f"Convert it: python -m tl_keras.models.convert '{of_keras_2}' '{tmp_path}/old one_keras3.keras'",
        "it is a subclassed model: the code of its class 'Mine' is not in the file. Build the same network from layers with "
        "keras.Model(inputs, outputs), give it the weights, and save that.",
        "it is a whole model in HDF5, the format of earlier versions of Keras. "
        f"Convert it: python -m tl_keras.models.convert {hdf5} {tmp_path}/hdf5_keras3.keras",
        "it is not a .keras file, which holds config.json and metadata.json.",
    ]
    with pytest.raises(BackboneError, match=r"sub\.keras cannot be a backbone: it is a subclassed model"):
        native_image_size(str(subclassed))


def converted(old: Path, new: Path) -> keras.Model:
    assert convert.main([str(old), str(new)]) == 0
    return keras.models.load_model(new)


def test_hdf5_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(2, 3)])
    model.save(tmp_path / "x.h5")
    np.testing.assert_allclose(converted(tmp_path / "x.h5", tmp_path / "x.keras")(PIXELS), model(PIXELS), atol=1e-6)
    assert capsys.readouterr().out == f"wrote {tmp_path}/x.keras; use it as --backbone {tmp_path}/x.keras\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_keras_2_is_converted_with_its_depthwise_convolutions(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.Sequential([tf_keras.Input((16, 16, 3)), tf_keras.layers.DepthwiseConv2D(3), tf_keras.layers.BatchNormalization()])
    model.save(tmp_path / "old.keras")
    assert why_unusable(tmp_path / "old.keras") is not None
    np.testing.assert_allclose(converted(tmp_path / "old.keras", tmp_path / "new.keras")(PIXELS), model(PIXELS), atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_what_keras_3_cannot_express_becomes_a_savedmodel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    pixels = tf_keras.Input((16, 16, 3))
    tf_keras.Model(pixels, tf_keras.layers.Conv2D(2, 3)(pixels / 127.5 - 1)).save(tmp_path / "old.keras")
    assert convert.main([str(tmp_path / "old.keras"), str(tmp_path / "new.keras")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"BackboneError: {tmp_path}/old.keras: Keras 3 cannot express this model (Unknown layer: 'TFOpLambda'). Write a "
    )
    assert 'python -c "import tf_keras; ' in line
    assert not (tmp_path / "new.keras").exists()


@pytest.mark.parametrize(("old", "new", "text"), [("x.h5", "y.h5", "ends in .keras"), ("none.keras", "y.keras", "not a whole model")])
def test_what_is_not_to_be_converted_is_one_line(old: str, new: str, text: str, tmp_path: Path, capsys: Any) -> None:
    assert convert.main([str(tmp_path / old), str(tmp_path / new)]) == 2
    assert text in capsys.readouterr().err
