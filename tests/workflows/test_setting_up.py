"""A run folder may be made among the images: they are found before it is, and nothing of it is left where the start fails."""

from importlib import import_module

import pytest
from PIL import Image

from tl_keras import run_folder
from tl_keras.config import DataConfig
from tl_keras.config_file import load_config
from tl_keras.data import dataset
from tl_keras.data.index import Index
from tl_keras.errors import DataError, RunFolderError
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.workflows import setting_up
from tl_keras.workflows.setting_up import folder_here, open_images, tell_shrunk

MAKERS = {  # mode -> its workflow, what it calls first once the folder is made, and the place of the index among the arguments
    "extract": ("train", "prepare_task", 1),
    "rank": ("rank", "rank_candidates", 1),
    "crossval": ("crossval", "compute_features", 1),
    "search": ("search", "study_digest", 2),
    "ensemble": ("ensemble", "of_backbones", 1),
}


class Heard(Progress):
    """Keeps what it was told."""

    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


@pytest.mark.parametrize("mode", MAKERS)
def test_a_run_may_lie_among_its_images(mode, photo_folder, monkeypatch):
    root = photo_folder()
    monkeypatch.chdir(root)
    workflow, first, place = MAKERS[mode]
    heard, seen = Heard(), []

    def stop(*arguments):
        seen.append(arguments[place].classes)
        assert RunFolder.at("runs/mine/first").path.is_dir()
        raise DataError("stop")

    module = import_module(f"tl_keras.workflows.{workflow}")
    monkeypatch.setattr(module, first, stop)
    members = ["ensemble.members=[small_resnet, mobilenet_v2]"] if mode == "ensemble" else []
    config = load_config(mode, flags={"--data": ("data.source", ".")}, sets=members)
    with pytest.raises(DataError, match="stop"):
        getattr(module, workflow)(config, "runs/mine/first", progress=heard)
    assert seen == [("cat", "dog")]
    assert heard.lines == ["photos/: 12 images, cat 6, dog 6; train 8, val 2, test 2"]
    assert sorted(entry.name for entry in root.iterdir()) == ["cat", "dog"]


def test_a_folder_that_is_taken_is_refused_before_the_images_are_read(tmp_path):
    (tmp_path / run_folder.CONFIG).touch()
    with pytest.raises(RunFolderError, match="holds another run already"):
        open_images(load_config("extract").data, Progress(), RunFolder(tmp_path))


def test_copies_in_two_given_splits_are_told(photo_folder, heard):
    root = photo_folder(per_class=4, splits=("train", "test"))
    (root / "test/dog/001.jpg").write_bytes((root / "train/dog/001.jpg").read_bytes())
    index = open_images(DataConfig(source=str(root)), heard)
    assert index.ids is not None
    assert heard.lines[1:] == [
        "1 image is in more than one split: figures measured on such copies are too optimistic",
        "  first train/dog/001.jpg (train) and test/dog/001.jpg (test)",
    ]


def test_copies_in_one_folder_are_told_and_stay_together(photo_folder, heard):
    root = photo_folder(per_class=8)
    for copy in ("cat/a.png", "cat/b.png"):
        (root / copy).write_bytes((root / "cat/000.png").read_bytes())
    open_images(DataConfig(source=str(root)), heard)
    assert heard.lines[1:] == ["1 image is there more than once: copies stay in one split", "  first cat/000.png and cat/a.png"]


def test_files_need_not_be_read_for_an_estimate(photo_folder, heard):
    assert open_images(DataConfig(source=str(photo_folder())), heard, read=False).ids is None


def test_photos_that_the_default_backbone_sees_too_little_of_are_told(photo_folder, heard):
    root = photo_folder(per_class=4, size=(140, 160))
    index = open_images(DataConfig(source=str(root)), Progress())
    for sets in (["data.image_size=64"], ["model.backbone=mobilenet_v2"]):
        tell_shrunk(load_config("extract", sets=sets), index, heard)
    assert heard.lines == []
    tell_shrunk(load_config("extract"), index, heard)
    assert heard.lines == [
        "images of about 140 pixels a side are shrunk to 32 x 32, which loses detail:",
        "  small_resnet is for trying out; for photos take --backbone mobilenet_v2",
    ]


def test_a_class_that_is_too_small_is_said_before_every_file_is_read(photo_folder, heard, monkeypatch):
    monkeypatch.setattr(Index, "identify", lambda *_: pytest.fail("read"))
    with pytest.raises(DataError, match="class 'cat' has 3 images to train on and split; it needs at least 4"):
        open_images(DataConfig(source=str(photo_folder(per_class=3))), heard)


def test_near_copies_stay_together_where_that_is_asked_for(photo_folder, heard):
    """Each photo is there twice, once as it is and once mirrored and compressed."""
    root = photo_folder(per_class=10, size=(40, 48))
    for path in sorted(root.glob("*/*")):
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path.with_name(f"{path.stem}_copy.jpg"), quality=95)
    config = DataConfig(source=str(root), copies="near")
    index = open_images(config, heard)
    split = dict(zip(index.paths, dataset.cut(index, config, {}), strict=True))
    originals = [path for path in index.paths if "_copy" not in path]
    assert len(originals) == 20
    assert all(split[path] == split[f"{path.rpartition('.')[0]}_copy.jpg"] for path in originals)
    assert "data.copies: 20 recompressed, resized or mirrored copies stay in one split" in heard.lines
    apart = dataset.cut(open_images(DataConfig(source=str(root)), heard), DataConfig(source=str(root)), {})
    assert any(apart[index.paths.index(path)] != apart[index.paths.index(f"{path.rpartition('.')[0]}_copy.jpg")] for path in originals)


@pytest.mark.parametrize("resume", [True, False])
def test_only_the_chief_writes_into_the_run_folder(resume, tmp_path, monkeypatch):
    waited, run = [], RunFolder(tmp_path / "R")
    for name in ("checkpoints/head", "scratch/pixels", ".claim"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("chief")
    monkeypatch.setattr(setting_up, "wait_for_others", lambda: waited.append(None))
    with folder_here(run, resume=resume) as here:
        assert here is run
    monkeypatch.setattr(setting_up, "is_chief", lambda: False)
    with folder_here(run, resume=resume) as here:
        assert [path.relative_to(here.path).as_posix() for path in here.path.rglob("*")] == ["checkpoints", "checkpoints/head"] * resume
        here.path.mkdir(exist_ok=True)
        (here / "checkpoints").mkdir(exist_ok=True)
        (here / "checkpoints" / "head").write_text("another")
    assert not here.path.exists()
    assert (run / "checkpoints" / "head").read_text() == "chief"
    assert len(waited) == 2 * resume  # the chief does not go on before it is copied
