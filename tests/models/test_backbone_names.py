"""Names, paths and addresses of backbones, told apart without Keras or TensorFlow."""

import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from tl_keras.errors import BackboneError
from tl_keras.models.backbone_names import check_backbone, short_name, table_name
from tl_keras.models.backbones import BACKBONES


def refusal(backbone: str) -> str:
    with pytest.raises(BackboneError) as caught:
        check_backbone(backbone)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_name_is_checked_without_tensorflow() -> None:
    code = (
        "import sys; from tl_keras.models.backbone_names import check_backbone; check_backbone('MobileNetV2')\n"
        "try: check_backbone('mobilnet_v2')\n"
        "except Exception as error: sys.exit(type(error).__name__ != 'BackboneError' or bool({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("MobileNetV2", "mobilenet_v2"),
        ("ResNet50", "resnet50"),
        ("resnet-50", "resnet50"),
        ("EfficientNetB0", "efficientnet_b0"),
        ("EfficientNetV2B0", "efficientnet_v2_b0"),
        ("MobileNetV3Small", "mobilenet_v3_small"),
        ("ResNet50V2", "resnet50_v2"),
        ("VGG_16", "vgg16"),
        ("mobilnet", "mobilnet"),
        ("some/ResNet50", "some/ResNet50"),
    ],
)
def test_names_are_compared_without_case_and_joints(typed: str, name: str) -> None:
    assert table_name(typed) == name


def test_every_name_of_keras_applications_is_understood() -> None:
    for row in BACKBONES.values():
        if not row.arguments:
            assert table_name(row.builder.partition(":")[2]) == row.name


def test_folder_with_a_savedmodel_is_taken_before_a_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ResNet50").mkdir()
    assert table_name("ResNet50") == "resnet50"
    Path("ResNet50/saved_model.pb").touch()
    assert table_name("ResNet50") == "ResNet50"


def test_short_name_of_a_row_is_the_one_in_the_table() -> None:
    assert [short_name(each) for each in ("MobileNetV2", "some/My-Net.keras", "https://tfhub.dev/a/b/1")] == [
        "mobilenet_v2",
        "My-Net",
        "a-b-1",
    ]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("mobilnet_v2", "mobilenet_v2"),
        ("mobilenet2", "mobilenet_v2"),
        ("resent50", "resnet50"),
        ("EfficentNetB3", "efficientnet_b3"),
        ("densenett121", "densenet121"),
        ("vgg166", "vgg16"),
        ("resnet5O", "resnet50"),
    ],
)
def test_slip_is_mended(typed: str, meant: str) -> None:
    assert refusal(typed).startswith(f"unknown backbone {typed!r}. Did you mean {meant!r}? Expected the path of a .keras file, ")


OTHER_NETWORKS = [
    "resnet18",
    "resnext50",
    "resnet50d",
    "vgg11",
    "efficientnet_b8",
    "efficientnetv2_t",
    "mobilenet_v4",
    "vit_b16",
    "regnet",
    "zzz",
    "-",
]


@pytest.mark.parametrize("typed", OTHER_NETWORKS)
def test_another_network_is_not_taken_for_a_slip(typed: str) -> None:
    text = refusal(typed)
    assert "Did you mean" not in text
    assert text.endswith("convnext_xlarge, small_resnet.")


def test_beginning_of_names_gets_those_names() -> None:
    assert refusal("DenseNet") == (
        "unknown backbone 'DenseNet'. Names that begin with it: densenet121, densenet169, densenet201. Expected one of them, the path of a "
        ".keras file, the folder or address of a TF-Hub module, keras_hub:PRESET."
    )


def test_path_that_is_no_backbone_is_refused_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    assert refusal(str(tmp_path / "net.onnx")).startswith(f"backbone: {tmp_path}/net.onnx is not a .keras file. Expected a .keras file, ")
    assert refusal(str(tmp_path / "nothing")) == f"backbone: there is no file or folder {tmp_path}/nothing."
    assert refusal(str(tmp_path / "nothing.keras")) == f"backbone: there is no file {tmp_path}/nothing.keras."
    assert refusal(str(tmp_path / "nothing.h5")) == f"backbone: there is no file {tmp_path}/nothing.h5."
    assert refusal(str(tmp_path)).startswith(f"backbone: folder {tmp_path} holds neither saved_model.pb")


def test_hdf5_of_weights_and_of_a_whole_model_are_told_apart(tmp_path: Path) -> None:
    for name, attribute in (("some.weights.h5", "layer_names"), ("whole.h5", "model_config")):
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs[attribute] = "{}"
    assert refusal(str(tmp_path / "some.weights.h5")) == (
        f"backbone '{tmp_path}/some.weights.h5' is a file of weights, which does not say what network they belong to. "
        f"Use --backbone NAME --set model.weights={tmp_path}/some.weights.h5."
    )
    assert refusal(str(tmp_path / "whole.h5")) == (
        f"backbone '{tmp_path}/whole.h5' is a whole model in HDF5, the format of earlier versions of Keras. "
        f"Convert it: python -m tl_keras.models.convert {tmp_path}/whole.h5 {tmp_path}/whole.keras"
    )
