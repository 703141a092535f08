"""The table of kinds of backbones: each row is whole, and each name has one kind."""

import inspect
from pathlib import Path

import pytest

from tl_keras.models.backbone_kinds import BACKBONE_KINDS, imported, is_elsewhere, kind_of
from tl_keras.models.backbones import BACKBONES


@pytest.mark.parametrize("name", BACKBONE_KINDS)
def test_what_a_row_names_is_there_and_takes_what_it_is_given(name: str) -> None:
    kind = BACKBONE_KINDS[name]
    assert list(inspect.signature(imported(kind.build)).parameters) == ["backbone", "image_size", "weights", "preprocessing"]
    assert list(inspect.signature(imported(kind.image_size)).parameters) == ["backbone"]


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        *((name, "row") for name in BACKBONES),
        ("https://tfhub.dev/a/b/1", "module"),
        ("module", "module"),
        ("keras_hub:resnet_18_imagenet", "preset"),
        ("preset", "preset"),
        ("net.keras", "file"),
        ("empty", "file"),
        ("mobilnet", "file"),
    ],
)
def test_each_name_has_its_kind(backbone: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("module/saved_model.pb", "preset/config.json", "preset/model.weights.h5", "empty/notes.txt", "net.keras"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).touch()
    assert kind_of(backbone) == kind


def test_what_is_elsewhere_is_told_by_its_name_alone() -> None:
    assert [is_elsewhere(name) for name in ("https://a/b", "hf://a/b", "keras_hub:a", "a/b", "resnet50")] == [
        True,
        True,
        True,
        False,
        False,
    ]
