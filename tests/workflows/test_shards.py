"""Whole runs on shards: what they come to is what class folders of the same images come to, and nothing is computed twice."""

import csv
import io
import json
import shutil
import tarfile

import numpy as np
import pytest

from tl_keras import run
from tl_keras.data.file_ids import file_id
from tl_keras.data.shards import reading


def as_shards(photos, folder, per_shard=7):
    folder.mkdir()
    for split in ("train", "val", "test"):
        files = sorted((photos / split).glob("*/*"), key=lambda file: (file.name, file.parent.name))
        for start in range(0, len(files), per_shard):
            with tarfile.open(folder / f"{split}-{start:03d}.tar", "w") as tar:
                for number, file in enumerate(files[start : start + per_shard]):
                    for name, content in ((f"{number}{file.suffix}", file.read_bytes()), (f"{number}.cls", file.parent.name.encode())):
                        info = tarfile.TarInfo(name)
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))
    return folder


def predictions(run_dir, root, name="predictions.csv"):
    """What the model says of each image, by its content."""
    with (run_dir / name).open(newline="") as file:
        return {file_id(root / line[0]): line[1:] for line in list(csv.reader(file))[1:]}


@pytest.mark.slow
def test_shards_and_class_folders_of_the_same_images_share_features_and_answers(
    photo_folder, own_backbone, tmp_path, own_cache, monkeypatch
):
    photos = photo_folder(classes=("cat", "dog", "emu"), per_class=6, splits=("train", "val", "test"))
    shards = as_shards(photos, tmp_path / "shards")
    words = ["--backbone", own_backbone, "--set", "data.augment.horizontal_flip=true", "--set", "features.views=1"]
    assert run.main(["extract", str(photos), *words, "--run-dir", str(tmp_path / "one")]) == 0
    assert run.main(["extract", str(shards), *words, "--run-dir", str(tmp_path / "two")]) == 0
    monkeypatch.setitem(reading.SAMPLES, "webdataset", lambda *_: pytest.fail("a shard is read again"))
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one["features"]["computed"] > two["features"]["computed"] == 0
    found, expected = predictions(tmp_path / "two", shards), predictions(tmp_path / "one", photos)
    assert found.keys() == expected.keys()
    for content, line in found.items():
        assert line[:2] == expected[content][:2]
        np.testing.assert_allclose(np.array(line[2:], float), np.array(expected[content][2:], float), atol=1e-3)  # rows in another order
    assert "data:image" in (tmp_path / "two" / "report.html").read_text()
    assert run.main(["evaluate", str(tmp_path / "two"), "--data", str(shards)]) == 0
    assert run.main(["explain", str(tmp_path / "two"), str(shards / "test-000.tar/0.png")]) == 0
    moved = shutil.copytree(shards, tmp_path / "moved")
    monkeypatch.undo()
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "other"))
    assert run.main(["evaluate", str(tmp_path / "two"), "--data", str(moved)]) == 0


@pytest.mark.slow
def test_finetuning_by_shard_learns_from_pixels_of_shards(photo_folder, own_backbone, tmp_path, capfd):
    photos = photo_folder(classes=("cat", "dog"), per_class=8, splits=("train", "val", "test"))
    words = ["--backbone", own_backbone, "--epochs", "1", "--set", "train.sampling=by_shard", "--set", "train.unfreeze_from=all"]
    shards = as_shards(photos, tmp_path / "shards", 2)
    assert run.main(["finetune", str(shards), *words, "--run-dir", str(tmp_path / "run")]) == 0
    assert run.main(["finetune", str(photos), *words, "--run-dir", str(tmp_path / "none")]) == 2
    assert f"train.sampling: got 'by_shard', and the images of {photos} do not lie in shards" in capfd.readouterr().err
