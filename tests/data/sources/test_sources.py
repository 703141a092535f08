"""Folder layouts: what is found, in which order, with which label, and what each mistake is told."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tl_keras.config import DataConfig
from tl_keras.data import walk
from tl_keras.data.sources import SOURCES, check_layout_of, check_source, open_labelled, open_source
from tl_keras.data.sources import class_folders as class_folders_source
from tl_keras.data.sources.class_folders import scan_folder
from tl_keras.errors import DataError


def touch(root, *paths):
    """Empty files: the scan looks at names alone."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def class_folders(root, *folders, number=3):
    return touch(root, *(f"{folder}/{i}.png" for folder in folders for i in range(number)))


def error_of(source):
    with pytest.raises(DataError) as caught:
        open_source(DataConfig(source=str(source)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_flat_folder_has_sorted_classes_paths_and_no_splits(photo_folder):
    root = photo_folder(("dog", "cat", "ant"), per_class=2)
    index = open_source(DataConfig(source=str(root)))
    assert index.root == root
    assert index.classes == ("ant", "cat", "dog")
    assert index.paths == tuple(f"{name}/{file}" for name in index.classes for file in ("000.png", "001.jpg"))
    np.testing.assert_array_equal(index.labels, [0, 0, 1, 1, 2, 2])
    assert index.labels.dtype == np.int32
    assert index.given is None
    assert index.ignored == {}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("train", "valid", "test"), ("train", "validation", "test"), ("Training", "VAL", "Testing")],
)
def test_split_folders_are_known_by_their_names(tmp_path, train, val, test):
    class_folders(tmp_path, *(f"{split}/{name}" for split in (train, val, test) for name in ("a", "b")), number=1)
    index = scan_folder(tmp_path)
    assert index.classes == ("a", "b")
    assert index.paths == tuple(f"{split}/{name}/0.png" for split in (train, val, test) for name in ("a", "b"))
    assert index.given == ("train", "train", "val", "val", "test", "test")
    np.testing.assert_array_equal(index.labels, [0, 1] * 3)


@pytest.mark.parametrize("others", [(), ("test",), ("val",)])
def test_only_train_and_perhaps_one_more(tmp_path, others):
    class_folders(tmp_path, *(f"{split}/{name}" for split in ("train", *others) for name in ("a", "b")))
    assert set(scan_folder(tmp_path).given) == {"train", *others}


def test_images_may_be_nested_and_of_every_ending(tmp_path):
    class_folders(tmp_path, "b")
    touch(tmp_path, "a/2020/x.JPG", "a/2020/may/y.tiff", "a/z.webp")
    assert scan_folder(tmp_path).paths[:3] == ("a/2020/may/y.tiff", "a/2020/x.JPG", "a/z.webp")


def test_hidden_files_and_folders_are_not_seen(tmp_path):
    class_folders(tmp_path, "a", "b", number=1)
    touch(tmp_path, ".git/a.png", "a/._0.png", "a/.ipynb_checkpoints/0.png", ".DS_Store", "b/.DS_Store")
    index = scan_folder(tmp_path)
    assert index.paths == ("a/0.png", "b/0.png")
    assert index.ignored == {}


def test_other_files_are_counted_by_ending(tmp_path):
    class_folders(tmp_path, "train/a", "train/b")
    touch(tmp_path, "train/a/notes.TXT", "train/b/deep/x.txt", "train/b/README", "labels.csv", "train/loose.png")
    beside = {"beside the classes": 1}
    assert scan_folder(tmp_path).ignored == {".txt": {"a": 1, "b": 1}, "": {"b": 1}, ".csv": beside, ".png": beside}


def test_links_to_images_are_images_and_loops_end(tmp_path):
    class_folders(tmp_path, "a", "b", number=1)
    (tmp_path / "a/link.png").symlink_to(tmp_path / "b/0.png")
    (tmp_path / "a/loop").symlink_to(tmp_path / "a")
    (tmp_path / "b/broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c").symlink_to(tmp_path / "b")
    index = scan_folder(tmp_path)
    assert index.paths == ("a/0.png", "a/link.png", "b/0.png", "b/broken.png", "c/0.png", "c/broken.png")


def test_links_to_folders_are_followed_once(tmp_path):
    root = class_folders(tmp_path / "photos", "a", "b", number=1)
    class_folders(tmp_path, "more/deep", number=1)
    for link in ("a/more", "a/twice", "b/more"):
        (root / link).symlink_to(tmp_path / "more")
    (tmp_path / "more/deep/up").symlink_to(tmp_path / "more")
    (root / "b/root").symlink_to(root)
    assert scan_folder(root).paths == ("a/0.png", "a/more/deep/0.png", "b/0.png", "b/more/deep/0.png")


def test_a_folder_that_holds_nothing_but_itself(tmp_path):
    class_folders(tmp_path, "a", "b", number=1)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/loop").symlink_to(tmp_path / "c")
    assert error_of(tmp_path).startswith(f"{tmp_path}: class 'c' has no image.")


def test_a_class_may_be_called_like_a_split(tmp_path):
    class_folders(tmp_path, "train", "plane", "test")
    index = scan_folder(tmp_path)
    assert index.classes == ("plane", "test", "train")
    assert index.given is None


def test_a_class_called_train_may_hold_folders_beside_its_images(tmp_path):
    class_folders(tmp_path, "train", "train/steam", "plane")
    assert scan_folder(tmp_path).classes == ("plane", "train")


def test_what_systems_leave_is_not_a_class(tmp_path):
    class_folders(tmp_path, "a", "b", "a/@eaDir", number=1)
    touch(tmp_path, "__MACOSX/a/._0.png", "__MACOSX/0.png", "a/Thumbs.db", "b/desktop.ini", "$RECYCLE.BIN/0.png", "b/__MACOSX/0.png")
    index = scan_folder(tmp_path)
    assert index.paths == ("a/0.png", "b/0.png")
    assert index.ignored == {}


def run_folder_in(folder):
    return touch(folder, "config.yaml", "environment.json", "rank.png")


@pytest.mark.parametrize("given", [False, True])
def test_run_folders_are_not_classes(tmp_path, given):
    class_folders(tmp_path, *(f"train/{name}" if given else name for name in ("a", "b")), number=1)
    for run in ("own", "saved_models/first", "runs/deep"):
        run_folder_in(tmp_path / run)
    touch(tmp_path, "saved_models/killed/scratch/pixels.npy")
    prefix = "train/" if given else ""
    assert scan_folder(tmp_path).paths == (f"{prefix}a/0.png", f"{prefix}b/0.png")


def test_a_run_folder_in_a_class_takes_no_images_away(tmp_path):
    class_folders(tmp_path, "a/2020", "b", number=1)
    run_folder_in(tmp_path / "a/run")
    touch(tmp_path, "c/config.yaml", "c/0.png")
    assert scan_folder(tmp_path).paths == ("a/2020/0.png", "b/0.png", "c/0.png")


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_class_names_are_composed_and_paths_as_they_are_on_disk(tmp_path):
    class_folders(tmp_path, f"train/{DECOMPOSED}", "train/cafz", f"val/{COMPOSED}", "val/cafz", number=1)
    index = scan_folder(tmp_path)
    assert index.classes == ("cafz", COMPOSED)
    assert index.paths == ("train/cafz/0.png", f"train/{DECOMPOSED}/0.png", "val/cafz/0.png", f"val/{COMPOSED}/0.png")


def test_a_model_knows_a_class_however_its_letters_are_composed(tmp_path):
    class_folders(tmp_path, COMPOSED, "b", number=1)
    index = open_labelled(DataConfig(source=str(tmp_path)), (DECOMPOSED, "b"))
    assert (index.classes, index.paths) == ((DECOMPOSED, "b"), (f"{COMPOSED}/0.png", "b/0.png"))
    np.testing.assert_array_equal(index.labels, [0, 1])


def test_class_folders_that_look_alike(tmp_path):
    class_folders(tmp_path, COMPOSED, DECOMPOSED)
    message = error_of(tmp_path)
    assert f"has two folders that look like '{COMPOSED}'; their letters are composed differently" in message
    assert "'caf\\xe9'" in message
    assert "'cafe\\u0301'" in message


def test_a_class_spelt_otherwise_in_a_split(tmp_path):
    class_folders(tmp_path, "train/Rose", "train/tulip", "val/rose", "val/tulip")
    assert error_of(tmp_path) == f"{tmp_path}: val has a folder 'rose', and train 'Rose'. Give both the same name."


def test_classes_within_splits_may_be_called_like_a_split(tmp_path):
    class_folders(tmp_path, *(f"{split}/{name}" for split in ("train", "test") for name in ("plane", "train")))
    assert scan_folder(tmp_path).classes == ("plane", "train")


def test_class_names_keep_their_letters(tmp_path):
    class_folders(tmp_path, "Löwe, groß", "zebra", "10", "9")
    assert scan_folder(tmp_path).classes == ("10", "9", "Löwe, groß", "zebra")


def test_val_lacks_a_class(tmp_path):
    class_folders(tmp_path, "train/rose", "train/tulip", "val/rose")
    assert error_of(tmp_path) == (
        f"{tmp_path}: val has no folder 'tulip', which train has (2 classes). Add val/tulip, or drop val/ to split train."
    )


def test_val_has_a_class_of_its_own(tmp_path):
    class_folders(tmp_path, "train/rose", "train/tulip", "valid/rose", "valid/tulip", "valid/cactus")
    expected = "valid has a folder 'cactus', which train does not have (2 classes). Add train/cactus, or take valid/cactus away."
    assert error_of(tmp_path) == f"{tmp_path}: {expected}"


def test_val_has_an_empty_class(tmp_path):
    class_folders(tmp_path, "train/rose", "train/tulip", "val/rose")
    (tmp_path / "val/tulip").mkdir()
    assert error_of(tmp_path).startswith(f"{tmp_path / 'val'}: class 'tulip' has no image.")


def test_two_folders_for_one_split(tmp_path):
    class_folders(tmp_path, *(f"{split}/{name}" for split in ("train", "val", "valid") for name in ("a", "b")))
    assert "has both val/ and valid/ for the val split. Keep one of them." in error_of(tmp_path)


@pytest.mark.parametrize("split", ["train", "Test"])
def test_class_folders_beside_a_split_folder(tmp_path, split):
    class_folders(tmp_path, f"{split}/a", f"{split}/b", "c")
    assert f"has {split}/ with folders in it and beside it 'c', which is not a split" in error_of(tmp_path)


def test_splits_without_train(tmp_path):
    class_folders(tmp_path, *(f"{split}/{name}" for split in ("val", "test") for name in ("a", "b")))
    assert "has test/ and val/, but no train/. Add train/." in error_of(tmp_path)


def test_splits_without_class_folders(tmp_path):
    class_folders(tmp_path, "train", "test")
    assert error_of(tmp_path) == (
        f"{tmp_path}/train: no class folders found. 'test' and 'train' are read as splits, with a folder of images per class in each: "
        f"make {tmp_path}/train/cat, {tmp_path}/train/dog. If 'test' and 'train' are the classes, rename one of them."
    )


def test_a_split_without_class_folders(tmp_path):
    class_folders(tmp_path, "train/a", "train/b", "test")
    assert error_of(tmp_path) == (
        f"{tmp_path}: test/ has no class folders, so what its images show is not known. Sort them into folders as in train/ "
        "(2 classes), or move test/ elsewhere: a split that is missing is cut from train."
    )


def test_one_class(tmp_path):
    class_folders(tmp_path, "a")
    assert error_of(tmp_path) == f"{tmp_path}: one class only ('a'); a classifier needs at least 2 class folders."


def test_one_folder_too_high(tmp_path):
    class_folders(tmp_path, "flowers/rose", "flowers/tulip")
    assert f"Did you mean '{tmp_path / 'flowers'}', which holds 2 folders?" in error_of(tmp_path)


def test_a_class_without_images(tmp_path):
    class_folders(tmp_path, "a", "b")
    touch(tmp_path, "c/readme.txt")
    assert error_of(tmp_path) == f"{tmp_path}: class 'c' has no image (found 1 file ending in '.txt'). Add images, or remove the folder."


def test_a_class_of_heic_files_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(class_folders_source, "reads_heic", lambda: False)
    monkeypatch.setattr(walk, "reads_heic", lambda: False)
    class_folders(tmp_path, "a", "b")
    touch(tmp_path, "c/0")
    (tmp_path / "c/0").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert error_of(tmp_path) == (
        f"{tmp_path}: class 'c' has no image (found 1 file ending in '.heic'). Add images, or remove the folder. "
        "To read .heic: pip install pillow-heif."
    )


def test_empty_folder(tmp_path):
    assert error_of(tmp_path).startswith(f"{tmp_path}: no class folders found. Make one folder of images per class")


def test_loose_images(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    assert "It holds images, but not in class folders." in error_of(tmp_path)


@pytest.mark.parametrize("name", ["photos.zip", "labels.csv"])
def test_a_folder_of_an_archive_or_a_table_alone(tmp_path, name):
    touch(tmp_path, name, "readme.txt")
    assert f"no class folders found. Did you mean '{tmp_path / name}'?" in error_of(tmp_path)


@pytest.mark.parametrize(("name", "slip"), [("photos.zip", "photo.zip"), ("labels.csv", "lables.csv")])
def test_a_slip_in_the_name_of_an_archive_or_a_table(tmp_path, name, slip):
    touch(tmp_path, name)
    assert error_of(tmp_path / slip).startswith(f"{tmp_path / slip}: no such file. Did you mean '{tmp_path / name}'?")


def test_folders_of_something_else(tmp_path):
    touch(tmp_path, "a/1.npy", "a/2.npy", "b/3.npy", "b/x.txt")
    message = error_of(tmp_path)
    assert message.startswith(f"{tmp_path}: no images in its 2 folders (found 3 files ending in '.npy'). Endings read: .bmp, ")


def test_a_file_in_place_of_a_folder(photo_folder):
    file = photo_folder() / "cat/000.png"
    assert (
        error_of(file)
        == f"{file}: is a file. Give a folder that holds one folder of images per class, a .zip or .tar archive of it, or a table."
    )


def test_typo_in_a_path(tmp_path, monkeypatch):
    class_folders(tmp_path / "data/flowers", "a", "b")
    assert f"no such folder. Did you mean '{tmp_path / 'data/flowers'}'?" in error_of(tmp_path / "data/flowrs")
    assert "no such folder. Give a folder" in error_of(tmp_path / "elsewhere/x")
    monkeypatch.chdir(tmp_path)
    assert "data/flowrs: no such folder. Did you mean 'data/flowers'?" in error_of("data/flowrs")
    assert "./dta: no such folder. Did you mean 'data'?" in error_of("./dta")


def test_typo_in_a_bare_name(tmp_path, monkeypatch):
    class_folders(tmp_path / "blossoms", "a", "b")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    assert error_of("blosoms") == (
        f"blosoms: no such folder, and no TFDS data set of that name on disk (looked for {tmp_path}/tfds/blosoms). Did you mean "
        "'blossoms'? Give a folder of class folders or 'digits'; a TFDS data set is fetched with --set data.download=true."
    )
    assert "Did you mean 'digits'?" in error_of("digts")
    assert "Did you mean" not in error_of("photos")
    assert "Did you mean 'blossoms'?" in error_of("Blossoms/")


CHECK_WITHOUT_TENSORFLOW = """
import sys
from tl_keras.config import DataConfig
from tl_keras.data.sources import check_source
from tl_keras.errors import DataError
for source in sys.argv[1:]:
    try:
        check_source(DataConfig(source=source))
    except DataError as error:
        print(error)
    else:
        print("found")
sys.exit("tensorflow" in sys.modules or "tensorflow_datasets" in sys.modules)
"""


def test_a_source_is_checked_without_tensorflow(tmp_path):
    class_folders(tmp_path, "photos/a", "tfds/tiny_cats/1.0.0", number=1)
    touch(tmp_path, "tfds/tiny_cats/1.0.0/dataset_info.json")
    sources = ["digits", "photos", "tiny_cats", "tiny_cats:1.0.0", "mnist", "photos/a/0.png", "Photos", "../nothing"]
    environment = os.environ | {"TFDS_DATA_DIR": str(tmp_path / "tfds")}
    command = [sys.executable, "-c", CHECK_WITHOUT_TENSORFLOW, *sources]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert answers[:4] == ["found"] * 4
    assert answers[4].startswith("mnist: no such folder, and no TFDS data set of that name on disk")
    assert answers[5].startswith("photos/a/0.png: is a file.")
    assert answers[6].startswith("Photos: no such folder. Did you mean 'photos'?")
    assert answers[7].startswith("../nothing: no such folder. Give a folder")


def test_a_layout_is_checked_without_reading_the_class_folders(tmp_path, monkeypatch):
    class_folders(tmp_path / "good", "train/a", "train/b", "test/a", "test/b")
    class_folders(tmp_path / "bad", "one")
    monkeypatch.setattr(class_folders_source, "files_below", lambda *_: pytest.fail("read"))
    for source in ("digits", str(tmp_path / "good")):
        check_layout_of(DataConfig(source=source))
    with pytest.raises(DataError, match="one class only"):
        check_layout_of(DataConfig(source=str(tmp_path / "bad")))


def test_a_set_that_may_be_fetched_is_not_refused_early():
    check_source(DataConfig(source="mnist", download=True))


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    class_folders(tmp_path, "a", "b")

    def refuse(path=".", *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("tl_keras.data.sources.class_folders.os.scandir", refuse)
    assert error_of(tmp_path) == f"{tmp_path}: cannot be read (Permission denied). Give a folder that you may read."


def test_home_is_expanded(photo_folder, monkeypatch):
    root = photo_folder()
    monkeypatch.setenv("HOME", str(root.parent))
    assert open_source(DataConfig(source=f"~/{root.name}")).root == Path(root)


def test_digits_wins_over_a_folder_of_that_name_unless_a_path_is_written(tmp_path, monkeypatch):
    class_folders(tmp_path / "digits", "a", "b")
    monkeypatch.chdir(tmp_path)
    assert open_source(DataConfig(source="./digits")).classes == ("a", "b")
    assert len(open_source(DataConfig(source="digits")).classes) == 10


def test_order_does_not_depend_on_the_file_system(tmp_path):
    class_folders(tmp_path / "x", "a", "b", number=12)
    shutil.copytree(tmp_path / "x/a", tmp_path / "y/a")
    for file in sorted((tmp_path / "x/b").iterdir(), reverse=True):
        touch(tmp_path / "y", f"b/{file.name}")
    assert scan_folder(tmp_path / "x").paths == scan_folder(tmp_path / "y").paths


# --- labelled images for a model that knows its classes ------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["bee"], {1}),  # one class
        (["test/ant", "test/wasp"], {0, 2}),  # test alone, two of three classes
        (["train/ant", "train/bee", "test/bee"], {1}),  # of splits only test
        (["train/ant", "val/wasp"], {0, 2}),  # no test: all
        (["ant", "empty/deeper"], {0}),  # a folder without images is nobody's class
    ],
)
def test_labelled_images_for_a_model_need_not_be_of_every_class(tmp_path, folders, labels):
    class_folders(tmp_path, *(folder for folder in folders if "empty" not in folder), number=2)
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    index = open_labelled(DataConfig(source=str(tmp_path)), ("ant", "bee", "wasp"))
    assert (index.classes, set(index.labels.tolist()), index.given) == (("ant", "bee", "wasp"), labels, None)
    assert len(index.paths) == 2 * len(labels)
    assert all((tmp_path / path).is_file() for path in index.paths)


def test_a_class_called_test_is_a_class_to_a_model_that_knows_it(tmp_path):
    class_folders(tmp_path, "test", "healthy", number=2)
    assert set(open_labelled(DataConfig(source=str(tmp_path)), ("healthy", "test")).labels.tolist()) == {0, 1}


def test_a_split_that_is_called_like_a_class_is_a_split(tmp_path):
    class_folders(tmp_path, "train/train", "train/bus", number=2)
    assert sorted(open_labelled(DataConfig(source=str(tmp_path)), ("bus", "train")).labels.tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["val/ant", "valid/ant"], "has both val/ and valid/ for the val split. Keep one of them."),
        (["test/ant", "extra/ant"], "has test/ with folders in it and beside it 'extra', which is not a split"),
    ],
)
def test_splits_of_which_some_images_would_be_left_out_are_refused(tmp_path, folders, said):
    class_folders(tmp_path, *folders)
    with pytest.raises(DataError) as caught:
        open_labelled(DataConfig(source=str(tmp_path)), ("ant", "bee"))
    assert said in str(caught.value)


def test_what_lies_beside_the_classes_of_a_split_is_counted(tmp_path):
    class_folders(tmp_path, "test/ant", number=2)
    touch(tmp_path, "test/loose.png")
    index = open_labelled(DataConfig(source=str(tmp_path)), ("ant", "bee"))
    assert index.ignored == {".png": {"beside the classes": 1}}


@pytest.mark.parametrize(
    ("folders", "given", "words"),
    [
        (["ant", "bees"], "", "has a class 'bees', which the model does not know. Did you mean 'bee'?"),
        (["test/moth"], "", "/test: has a class 'moth', which the model does not know. It knows ant, bee."),
        (["ant"], "ant", "no images in folders of the model's classes (ant, bee). If 'ant' is the class, give "),
    ],
)
def test_labelled_images_that_a_model_cannot_be_measured_on(tmp_path, folders, given, words):
    class_folders(tmp_path, *folders, number=2)
    with pytest.raises(DataError) as caught:
        open_labelled(DataConfig(source=str(tmp_path / given)), ("ant", "bee"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("digits", "digits"),
        ("photos", "class_folders"),
        ("./photos", "class_folders"),
        ("prepared", "tfds_folder"),
        ("tf_flowers", "tfds_name"),
        ("imagenet_v2/topimages", "tfds_name"),
        ("photos/cats", None),  # a slip in a path
        ("a.zip", "archive"),
        ("a.zip/photos", None),  # which it does not hold
        ("a.tar.gz", "archive"),  # which is refused later
        ("b.zip", None),
        ("nowhere/b.zip", None),
        ("nowhere/labels.csv", None),
        ("Photos!", None),
    ],
)
def test_a_source_is_of_one_kind(tmp_path, monkeypatch, source, kind):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "prepared"):
        (tmp_path / folder).mkdir()
    (tmp_path / "prepared" / "dataset_info.json").touch()
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("cats/0.png", b"")
    (tmp_path / "a.tar.gz").touch()
    assert next((name for name, row in SOURCES.items() if row.matches(source)), None) == kind


# --- classes that are nested ---------------------------------------------------------------------------------------


def nested(root):
    return DataConfig(source=str(root), nested_classes=True)


@pytest.mark.parametrize("splits", [("",), ("train/", "val/")])
def test_nested_classes_are_called_by_both_folders(tmp_path, splits):
    class_folders(tmp_path, *(f"{split}{name}" for split in splits for name in ("plant/rose", "animal/cat", "animal/dog")), number=1)
    touch(tmp_path, f"{splits[0]}animal/cat/deep/1.png")
    check_layout_of(nested(tmp_path))
    index = open_source(nested(tmp_path))
    assert index.classes == ("animal/cat", "animal/dog", "plant/rose")
    assert index.paths[:2] == (f"{splits[0]}animal/cat/0.png", f"{splits[0]}animal/cat/deep/1.png")
    assert index.given == (None if splits == ("",) else ("train",) * 4 + ("val",) * 3)


def test_nested_classes_of_the_same_names_or_in_one_folder_alone_are_not_taken_for_splits(tmp_path):
    class_folders(tmp_path, "red/small", "red/large", "blue/small", "blue/large")
    assert "hold the same folders" in error_of(tmp_path)
    assert open_source(nested(tmp_path)).classes == ("blue/large", "blue/small", "red/large", "red/small")
    class_folders(tmp_path / "one", "train/animal/cat", "train/animal/dog")
    assert open_source(nested(tmp_path / "one")).classes == ("animal/cat", "animal/dog")


def test_a_model_knows_nested_classes(tmp_path):
    class_folders(tmp_path, "animal/cat", number=1)
    index = open_labelled(nested(tmp_path), ("animal/cat", "plant/rose"))
    assert (index.classes, index.paths) == (("animal/cat", "plant/rose"), ("animal/cat/0.png",))


@pytest.mark.parametrize(("more", "held"), [("misc/0.png", "images beside its folders, or no folders"), ("misc/x.txt", "no folders")])
def test_a_folder_without_nested_classes_is_told(tmp_path, more, held):
    class_folders(tmp_path, "animal/cat", "animal/dog")
    touch(tmp_path, more)
    with pytest.raises(DataError) as caught:
        check_layout_of(nested(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}/misc: holds {held}. With data.nested_classes=true each folder of {tmp_path} holds class folders: "
        "move the images into one, or leave the setting away."
    )
