"""A TFDS folder from a stranger: nothing of it is imported, nothing is written elsewhere, and it is not taken for another set."""

import json
import os
from pathlib import Path

import pytest

from tl_keras.data.sources.tfds_folder import class_folder, folder_name, require_inside, require_own_features
from tl_keras.errors import DataError

OWN = "tensorflow_datasets.core.features.image_feature.Image"


@pytest.mark.parametrize("key", ["type", "pythonClassName", "python_class_name"])
def test_a_feature_of_another_module_is_not_imported(key: str, tmp_path: Path) -> None:
    features = {key: OWN, "featuresDict": {"features": {"image": {key: OWN}, "label": {key: OWN}}}}
    (tmp_path / "features.json").write_text(json.dumps(features))
    require_own_features(tmp_path)
    features["featuresDict"]["features"]["label"][key] = "os.system"  # type: ignore[index]
    (tmp_path / "features.json").write_text(json.dumps(features))
    with pytest.raises(DataError, match=r"has a feature of the class 'os\.system', which would be imported and run"):
        require_own_features(tmp_path)


def test_features_that_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "features.json").write_bytes(b"\xff{")
    with pytest.raises(DataError, match=r"is not a complete TFDS data set \(features\.json cannot be read\)"):
        require_own_features(tmp_path)


@pytest.mark.parametrize("name", ["../../x/1.0.0", "/etc/1.0.0", "a/../../1.0.0", "", "a//b", ".hidden/1.0.0"])
def test_a_name_that_leads_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the data set is called"):
        folder_name(name, tmp_path)


def test_sets_of_one_name_are_known_by_their_content(tmp_path: Path) -> None:
    shard = tmp_path / "a-train.tfrecord"
    content = bytearray(os.urandom(3_000_000))
    shard.write_bytes(content)
    before = folder_name("flowers/1.0.0", tmp_path)
    assert before == folder_name("flowers/1.0.0", tmp_path)
    assert before.startswith("flowers-1.0.0-")
    for place in (0, len(content) - 1):
        content[place] ^= 1
        shard.write_bytes(content)
        assert folder_name("flowers/1.0.0", tmp_path) != before
        content[place] ^= 1
    shard.rename(tmp_path / "b-train.tfrecord")
    assert folder_name("flowers/1.0.0", tmp_path) != before


def test_shards_that_lie_elsewhere(tmp_path: Path) -> None:
    require_inside(tmp_path, iter([tmp_path / "a"]))
    with pytest.raises(DataError, match="which is outside of it"):
        require_inside(tmp_path, iter([tmp_path / "a", tmp_path / "../b"]))


@pytest.mark.parametrize("name", ["..", ".", "", "a\0"])
def test_a_class_that_no_folder_can_be(name: str, tmp_path: Path) -> None:
    assert class_folder("a/b\\c", tmp_path) == "a_b_c"
    with pytest.raises(DataError, match="which no folder can be"):
        class_folder(name, tmp_path)
