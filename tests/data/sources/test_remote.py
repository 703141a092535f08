"""Images at an address are what they are in a folder: the same index, the same mistakes, the same training run."""

import errno
import http.server
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from tl_keras.config import Config, DataConfig
from tl_keras.data.index import Index
from tl_keras.data.places import is_folder
from tl_keras.data.sources import absolute_source, addresses, check_source, find_root, open_labelled, open_source
from tl_keras.data.sources.addresses import UnreachableError
from tl_keras.data.sources.mirror import home_of
from tl_keras.data.sources.remote import fetch_files, folder_name, was_fetched
from tl_keras.errors import DataError
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder


def opened(source, **more):
    return open_source(DataConfig(source=str(source), **more))


def assert_equal_but_for_root(found: Index, expected: Index) -> None:
    for name in (field.name for field in fields(Index) if field.name != "root"):
        np.testing.assert_equal(getattr(found, name), getattr(expected, name), name)
    for path in found.paths:
        assert (found.root / path).read_bytes() == (expected.root / path).read_bytes()


def error_of(source, asked=opened, **more):
    with pytest.raises(DataError) as caught:
        asked(source, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def messy(folder):
    """Class folders as people have them."""
    for name in ("cat/notes.txt", "readme.md", "cat/.hidden.png", "dog/Thumbs.db", "dog/deeper/still/0.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    shutil.copy(folder / "cat/000.png", folder / "cat/without_ending")
    return folder


# --- class folders -------------------------------------------------------------------------------------------------


def test_class_folders_are_those_of_the_disk(photo_folder, put):
    folder = messy(photo_folder(per_class=3))
    assert_equal_but_for_root(opened(put(folder)), opened(folder))


def test_split_folders_are_those_of_the_disk(photo_folder, put):
    folder = photo_folder(per_class=3, splits=("train", "test"))
    (folder / "train/cat/notes.txt").touch()
    assert_equal_but_for_root(opened(put(folder)), opened(folder))


def test_nested_classes_are_those_of_the_disk(photo_folder, put):
    folder = photo_folder(classes=("pet/cat", "pet/dog", "wild/fox"), per_class=3)
    (folder / "pet/cat/notes.txt").touch()
    assert_equal_but_for_root(opened(put(folder), nested_classes=True), opened(folder, nested_classes=True))


def test_a_model_that_knows_its_classes_sees_what_it_sees_on_the_disk(photo_folder, put):
    folder = photo_folder(per_class=3)
    found, expected = (open_labelled(DataConfig(source=str(source)), ("cat", "dog", "emu")) for source in (put(folder), folder))
    assert_equal_but_for_root(found, expected)


def test_a_folder_that_is_given_as_a_file_system_is_one(photo_folder, own_cache):
    folder = photo_folder(per_class=3)
    assert_equal_but_for_root(opened(f"file://{folder}"), opened(folder))


def test_a_trailing_slash_is_the_same_address(photo_folder, put):
    address = put(photo_folder(per_class=3))
    assert opened(f"{address}/").root == opened(address).root


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: shutil.rmtree(folder / "dog"), "one class only ('cat')"),
        (lambda folder: [path.rename(path.with_suffix(".txt")) for path in list((folder / "dog").iterdir())], "class 'dog' has no image"),
        (lambda folder: shutil.rmtree(folder), "there is nothing there"),
    ],
)
def test_mistakes_are_told_of_the_address_and_not_of_the_copy(photo_folder, memory, put, change, words):
    folder = photo_folder(per_class=3)
    change(folder)
    memory.pipe("/pics/other/x.png", b"x")
    text = error_of(put(folder) if folder.exists() else "memory://pics/photos")
    assert text.startswith("memory://pics/photos")
    assert words in text
    assert "cache" not in text


def test_nothing_is_written_outside_of_the_cache_whatever_the_names_are(photo_folder, put, memory, own_cache, tmp_path):
    address = put(photo_folder(per_class=3))
    for name in ("../evil.png", "../../../../../../evil.png", "cat/../../evil.png", "/evil.png", "cat/" + "n" * 300 + ".png"):
        memory.store[f"/pics/photos/{name}"] = memory.store["/pics/photos/cat/000.png"]
    index = opened(address)
    assert len(index.paths) == 6
    assert sum(index.ignored["unstorable"].values()) == 5
    files = list(tmp_path.rglob("*.png"))
    assert {path.parents[1] for path in files} == {index.root}
    assert index.root.is_relative_to(own_cache / "remote")


# --- archives and tables -------------------------------------------------------------------------------------------


@pytest.fixture
def archive(photo_folder, tmp_path):
    """photos.zip/photos/{cat,dog}."""
    folder = photo_folder(per_class=3)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, path.relative_to(folder.parent))
    return tmp_path / "photos.zip"


@pytest.mark.parametrize("inner", ["", "/photos"])
def test_an_archive_is_that_of_the_disk(archive, memory, inner):
    memory.pipe("/pics/photos.zip", archive.read_bytes())
    found, expected = opened(f"memory://pics/photos.zip{inner}"), opened(f"{archive}{inner}")
    assert found.paths == expected.paths
    assert found.root.name == expected.root.name


def test_a_folder_that_is_called_like_an_archive_is_a_folder(photo_folder, put):
    index = opened(put(photo_folder(per_class=3), "memory://pics/old.zip/photos"))
    assert len(index.paths) == 6


def test_a_file_of_another_kind_is_refused(memory):
    memory.pipe("/pics/photos.tar.gz", b"x")
    assert "is a file. Give a folder" in error_of("memory://pics/photos.tar.gz")


def table(folder, *lines, name="labels.csv"):
    (folder / name).write_text("\n".join(["path,label", *lines]) + "\n")


def test_of_a_table_what_it_names_is_fetched(photo_folder, put, memory):
    folder = photo_folder(per_class=3)
    table(folder, "cat/000.png,A", "cat/001,A", "dog/000.png,B", "./dog/001.jpg,B")
    put(folder)
    index = opened("memory://pics/photos/labels.csv")
    assert_equal_but_for_root(index, opened(folder / "labels.csv"))
    files = sorted(path.relative_to(index.root).as_posix() for path in index.root.rglob("*.*"))
    assert files == ["cat/000.png", "cat/001.jpg", "dog/000.png", "dog/001.jpg", "labels.csv"]


@pytest.mark.parametrize("known", [False, True])
def test_the_images_of_a_table_may_lie_in_another_folder_or_in_an_archive(photo_folder, put, memory, archive, known):
    folder = photo_folder(per_class=3)
    table(folder.parent, "cat/000.png,A", "dog/000.png,B")
    shutil.copy(archive, folder.parent)
    put(folder.parent, "memory://pics")
    for image_folder in ("photos", "photos.zip/photos"):
        settings = {"image_folder": image_folder}
        asked = partial(open_labelled, classes=("A", "B")) if known else open_source
        found, expected = (
            asked(DataConfig(source=source, **settings)) for source in ("memory://pics/labels.csv", str(folder.parent / "labels.csv"))
        )
        assert found.paths == expected.paths
        assert found.classes == expected.classes


def test_settings_of_columns_and_folders_count_as_far_as_another_table_has_them(photo_folder, put):
    folder = photo_folder(per_class=3)
    table(folder, "cat/000.png,cat")
    settings = {"columns": {"path": "id"}, "image_folder": "train"}
    index = open_labelled(DataConfig(source=f"{put(folder)}/labels.csv", **settings), ("cat", "dog"))
    assert index.paths == ("cat/000.png",)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("cat/000.png,A", "cat/9.png,B"), "of 2 images, 1 is not there; the first is 'cat/9.png' (line 3)"),
        (("../x.png,A", "cat/000.png,B"), "'../x.png', which lies above the folder of the table"),
        (("cat/000.png,",), "nothing in the column 'label'"),
    ],
)
def test_mistakes_in_a_table_are_told_of_its_address(photo_folder, put, lines, words):
    folder = photo_folder(per_class=3)
    table(folder, *lines)
    text = error_of(f"{put(folder)}/labels.csv")
    assert text.startswith("memory://pics/photos/labels.csv: ")
    assert words in text
    assert "cache" not in text


def test_images_of_a_table_that_are_on_this_disk_stay_there(photo_folder, memory):
    folder = photo_folder(per_class=3)
    memory.pipe("/pics/labels.csv", f"path,label\n{folder}/cat/000.png,A\n{folder}/dog/000.png,B\n".encode())
    index = opened("memory://pics/labels.csv")
    assert (index.root, index.paths) == (folder, ("cat/000.png", "dog/000.png"))


# --- what a run knows ----------------------------------------------------------------------------------------------


def test_an_address_stays_one_and_is_found_again(photo_folder, put):
    address = put(photo_folder(per_class=3))
    assert absolute_source(address) == address
    assert not was_fetched(address)
    assert find_root(DataConfig(source=address)) == opened(address).root
    assert was_fetched(address)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("s3://b/my photos/", "my photos"),
        ("s3://b", "b"),
        ("s3://b/..", "data"),
        ("s3://b/a:b\n", "a_b_"),
        ("s3://b/" + "x" * 300, "x" * 80),
    ],
)
def test_a_copy_has_the_name_of_its_address(address, name):
    assert folder_name(address) == name


def test_silence_of_the_store_is_an_error_without_a_copy_and_a_line_with_one(photo_folder, put, monkeypatch, heard):
    address = put(photo_folder(per_class=3))
    table_address = "memory://pics/photos/labels.csv"

    def silent(*_, **__):
        raise UnreachableError(f"{address}: cannot be reached (no route). Check the network, and the address.")

    plain = addresses._opened
    for source in (address, table_address):
        monkeypatch.setattr(addresses, "_opened", silent)
        assert "cannot be reached" in error_of(source)
        monkeypatch.setattr(addresses, "_opened", plain)
        put_table = b"path,label\ncat/000.png,A\ndog/000.png,B\n"
        __import__("fsspec").filesystem("memory").pipe("/pics/photos/labels.csv", put_table)
        before = opened(source)
        monkeypatch.setattr(addresses, "_opened", silent)
        check_source(DataConfig(source=source))
        after = open_source(DataConfig(source=source), heard)
        assert_equal_but_for_root(after, before)
        assert after.root == before.root
    assert sum("going on with the copy of" in line for line in heard.lines) == 2


# --- a web server --------------------------------------------------------------------------------------------------


@pytest.fixture
def web(own_cache):
    """`web(folder)` serves a folder; its address."""
    pytest.importorskip("aiohttp")
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def serve(folder):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_folders_and_files_of_a_web_server(photo_folder, archive, web):
    folder = photo_folder(classes=("cat", "dog", "rote Größe"), per_class=3)
    shutil.copy(archive, folder.parent / "zwei photos.zip")
    table(folder, "cat/000.png,A", "rote Größe/000.png,B")
    address = web(folder.parent)
    assert opened(f"{address}/photos").paths == opened(folder).paths
    assert opened(f"{address}/photos").classes == ("cat", "dog", "rote Größe")
    assert opened(f"{address}/zwei%20photos.zip").paths == opened(archive).paths
    assert opened(f"{address}/photos/labels.csv").paths == ("cat/000.png", "rote Größe/000.png")
    assert "there is nothing there" in error_of(f"{address}/fotos")
    assert "cannot be reached" in error_of("http://127.0.0.1:1/photos")


# --- S3 ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_s3_is_as_the_disk_and_is_fetched_once(photo_folder, upload, s3, heard):
    folder = messy(photo_folder(per_class=3))
    (folder / "cat/photo [1]?.png").write_bytes(b"x")
    address = upload(folder)
    s3.put_object(Bucket="pics", Key="photos/cat/", Body=b"")
    for name in ("../evil.png", "//evil.png", "cat/" + "n" * 300 + ".png"):
        s3.put_object(Bucket="pics", Key=f"photos/{name}", Body=b"x")
    index, expected = open_source(DataConfig(source=address), heard), opened(folder)
    assert (index.paths, index.classes) == (expected.paths, expected.classes)
    assert sum(index.ignored.pop("unstorable").values()) == 3
    assert index.ignored == expected.ignored
    assert len(heard.lines) == 1
    open_source(DataConfig(source=address), heard)
    assert len(heard.lines) == 1
    s3.put_object(Bucket="pics", Key="photos/cat/000.png", Body=b"changed")
    s3.delete_object(Bucket="pics", Key="photos/dog/000.png")
    changed = open_source(DataConfig(source=address), heard)
    assert (changed.root / "cat/000.png").read_bytes() == b"changed"
    assert set(expected.paths) - set(changed.paths) == {"dog/000.png"}
    assert "fetched 1 file," in heard.lines[1]
    assert heard.lines[2] == f"{address}: 1 file of last time is gone"


@pytest.mark.slow
def test_a_whole_bucket_an_archive_and_a_table_of_s3(photo_folder, upload, s3, archive):
    folder = photo_folder(per_class=3)
    table(folder, "cat/000.png,A", "dog/000.png,B")
    upload(folder)
    s3.put_object(Bucket="pics", Key="photos.zip", Body=archive.read_bytes())
    assert opened("s3://pics/photos.zip").paths == opened(archive).paths
    assert opened("s3://pics/photos/labels.csv").paths == ("cat/000.png", "dog/000.png")
    s3.delete_object(Bucket="pics", Key="photos.zip")
    assert opened("s3://pics", nested_classes=True).classes == ("photos/cat", "photos/dog")
    assert s3.head_object(Bucket="pics", Key="photos/cat/000.png")["ContentLength"] == (folder / "cat/000.png").stat().st_size


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://picz/photos", "there is no bucket 'picz'"),
        ("s3://picz", "there is no bucket 'picz'"),
        ("s3://pics/fotos", "there is nothing there."),
        ("s3://pics/photoz", "Did you mean 's3://pics/photos'?"),
        ("s3://P_!/x", "Invalid bucket name"),
    ],
)
def test_what_is_not_there_is_told(photo_folder, upload, address, words):
    upload(photo_folder(per_class=1))
    text = error_of(address)
    assert text.startswith(address)
    assert words in text


@pytest.mark.slow
def test_without_credentials_what_is_public_is_read(photo_folder, upload, s3, monkeypatch):
    address = upload(photo_folder(per_class=3))
    for each in s3.list_objects_v2(Bucket="pics")["Contents"]:
        s3.put_object_acl(Bucket="pics", Key=each["Key"], ACL="public-read")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    assert len(opened(address).paths) == 6


def test_what_is_not_public_asks_for_credentials(photo_folder, upload, monkeypatch):
    s3fs = pytest.importorskip("s3fs")
    address = upload(photo_folder(per_class=3))
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    plain = s3fs.S3FileSystem.info

    def info(self, path, **more):
        if self.anon:
            raise PermissionError("Access Denied")
        return plain(self, path, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "info", info)
    text = error_of(address)
    assert "needs credentials" in text
    assert "AWS_PROFILE" in text


def command(*words, cwd, **more):
    return subprocess.Popen([sys.executable, "-m", "tl_keras.run", *words], cwd=cwd, text=True, stderr=subprocess.PIPE, **more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "words"), [("s3://picz/photos", "no bucket"), ("s4://pics", "is not known"), ("s3:/pics", "two slashes")]
)
def test_the_command_line_says_it_in_one_line_and_makes_nothing(s3, tmp_path, address, words):
    with command("extract", address, cwd=tmp_path) as done:
        told = done.stderr.read()
    assert done.returncode == 2
    assert told.startswith(f"DataError: {address}: ")
    assert words in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "saved_models").exists()


FETCH = """
import sys
from tl_keras.config import DataConfig
from tl_keras.data.sources import mirror, open_source
mirror.BATCH = 4
print(len(open_source(DataConfig(source=sys.argv[1])).paths), flush=True)
"""


def fetching(address, **more):
    return subprocess.Popen([sys.executable, "-c", FETCH, address], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


@pytest.mark.slow
def test_a_fetch_that_is_killed_goes_on(photo_folder, upload, heard):
    address = upload(photo_folder(per_class=60, size=(4, 4)))
    with fetching(address) as killed:
        while not (there := [path for path in home_of(address).rglob("*.*") if path.suffix in (".png", ".jpg")]):
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    there = list(home_of(address).glob("*/photos/*/*.*"))
    index = open_source(DataConfig(source=address), heard)
    assert len(index.paths) == 120
    assert 0 < len(there) < 120
    assert f"fetched {120 - len(there)} file" in heard.lines[0]
    assert not list(home_of(address).rglob("*.partial"))


@pytest.mark.slow
def test_two_processes_at_once_share_one_copy(photo_folder, upload):
    address = upload(photo_folder(per_class=30, size=(4, 4)))
    both = [fetching(address) for _ in range(2)]
    for process in both:
        output, errors = process.communicate(timeout=120)
        assert (output, process.returncode) == ("60\n", 0), errors
    assert len(list(home_of(address).glob("*/photos/*/*.*"))) == 60


@pytest.mark.slow
def test_a_run_is_equal_to_that_on_the_disk_to_the_bit(photo_folder, upload, tmp_path, own_backbone, s3, monkeypatch):
    from tl_keras.trained_run import open_run
    from tl_keras.workflows.evaluate import evaluate
    from tl_keras.workflows.predict import predict
    from tl_keras.workflows.train import train

    folder = photo_folder(per_class=10, size=(16, 16))
    address = upload(folder)
    s3.put_object(Bucket="pics", Key="notes/readme.txt", Body=b"x")
    for name, source in (("there", address), ("here", str(folder))):
        config = {"mode": "extract", "data": {"source": source, "image_size": 16}, "model": {"backbone": own_backbone}}
        train(Config.model_validate(config), tmp_path / name)
    for file in ("splits.csv", "predictions.csv"):
        assert (tmp_path / "there" / file).read_text() == (tmp_path / "here" / file).read_text()
    there, here = (open_run(tmp_path / name).model.get_weights() for name in ("there", "here"))
    assert all(np.array_equal(one, other) for one, other in zip(there, here, strict=True))
    assert yaml.safe_load((tmp_path / "there/config.yaml").read_text())["data"]["source"] == address

    predicted = [(found.path, found.probability) for found in predict(tmp_path / "there", [f"{address}/cat", f"{address}/dog/000.png"])]
    expected = [(found.path, found.probability) for found in predict(tmp_path / "here", [f"{folder}/cat", f"{folder}/dog/000.png"])]
    assert predicted == [(path.replace(str(folder), address), probability) for path, probability in expected]
    with pytest.raises(DataError, match=r"^s3://pics/notes: no such file, or no images in it\.$"):
        list(predict(tmp_path / "there", ["s3://pics/notes"]))

    result = evaluate(tmp_path / "there")
    assert (result["source"], result["data"]["own_test"]) == (address, result["data"]["test"])
    assert evaluate(tmp_path / "here", source=address)["data"]["own_test"] == result["data"]["test"]
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "another"))
    with pytest.raises(DataError, match=r"its images are at s3://pics/photos, which nobody on this machine has asked for yet\."):
        evaluate(tmp_path / "there")


def test_progress_hears_of_a_fetch(photo_folder, put):
    class Bars(Progress):
        bars: tuple[tuple[str, int], ...] = ()

        def bar(self, title, total):
            Bars.bars += ((title, total),)
            return super().bar(title, total)

    open_source(DataConfig(source=put(photo_folder(per_class=3))), Bars())
    assert Bars.bars == (("fetch", 6),)


@pytest.mark.parametrize("of", ["folder", "file", "inside of an archive"])
def test_files_that_are_not_to_be_trained_on_are_fetched_of_any_kind(photo_folder, put, memory, archive, of):
    address = put(photo_folder(per_class=3))
    memory.pipe("/pics/photos.zip", archive.read_bytes())
    asked = {"folder": address, "file": f"{address}/cat/000.png", "inside of an archive": "memory://pics/photos.zip/photos/cat"}[of]
    copy = fetch_files(asked, Progress())
    assert is_folder(copy.path) == (of != "file")
    assert copy.named(str(copy.path)) == asked


def test_a_run_folder_of_a_stranger_fetches_nothing(photo_folder, put, trained, tmp_path):
    from tl_keras.trained_run import data_root, read_config, require_asked_for

    address = put(photo_folder(per_class=3))
    run, config = RunFolder(tmp_path), read_config(RunFolder(trained[0])).replace("data.source", address)
    for asked in (require_asked_for, partial(data_root, progress=Progress())):
        with pytest.raises(DataError, match=r"which nobody on this machine has asked for yet\. .*: tl-keras check memory://pics/photos$"):
            asked(config, run)
    assert not was_fetched(address)
    root = data_root(config, run, Progress(), address)
    assert data_root(config, run, Progress()) == root


@pytest.mark.parametrize("mode", ["extract", "search", "crossval"])
def test_a_run_that_goes_on_asks_no_address_of_a_stranger(photo_folder, put, tmp_path, mode):
    from tl_keras.config_file import to_yaml
    from tl_keras.modes import MODES, load

    address = put(photo_folder(per_class=3))
    config = Config.model_validate({"mode": mode, "data": {"source": address}})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    for name in ("splits.csv", "folds.csv"):
        (tmp_path / name).write_text("path,class,split,content\ncat/000.png,cat,train," + "0" * 32 + "\n")
    (tmp_path / "study-x").mkdir()
    with pytest.raises(DataError, match="which nobody on this machine has asked for yet"):
        load(MODES[mode].run)(config, tmp_path, resume=True)
    assert not was_fetched(address)
    if "data" in MODES[mode].passes:
        with pytest.raises(DataError, match="images of this run"):  # it was asked now, and has others
            load(MODES[mode].run)(config, tmp_path, resume=True, source=address)


def test_a_disk_that_is_full_is_told(photo_folder, put, monkeypatch):
    def full(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    address = put(photo_folder(per_class=3))
    monkeypatch.setattr(Path, "write_bytes", full)
    text = error_of(address)
    assert f"cannot store a copy of {address} here (No space left on device). Free space, or set TL_KERAS_CACHE" in text
