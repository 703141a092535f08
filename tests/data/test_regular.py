"""Only regular files are opened; the others are named, and nobody waits for them."""

import os
import socket

import pytest

from tl_keras.data.regular import open_regular, special_files


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # an absolute path may be too long


def test_a_regular_file_is_opened_through_a_link_too(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"content")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    for name in ("a.jpg", "b.jpg"):
        with open_regular(tmp_path / name) as file:
            assert file.read(3) + file.read() == b"content"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "a FIFO, not a regular file"),
        (make_socket, "a socket, not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file"),
        (os.mkdir, "Is a directory"),
        (lambda path: None, "No such file or directory"),
    ],
    ids=["fifo", "socket", "device", "folder", "nothing"],
)
def test_what_is_not_a_regular_file_is_named(tmp_path, monkeypatch, make, reason):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "x.jpg")
    with pytest.raises(OSError, match=reason) as caught:
        open_regular(tmp_path / "x.jpg")
    assert caught.value.strerror == reason


def test_a_fifo_that_took_the_place_of_a_file_meanwhile_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"content")
    before = os.stat(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "x.jpg")
    monkeypatch.setattr("tl_keras.data.regular.os.stat", lambda _: before)
    with pytest.raises(OSError, match="a FIFO, not a regular file"):
        open_regular(tmp_path / "x.jpg")


def test_special_files_in_words():
    assert special_files(1) == "1 FIFO, socket or device"
    assert special_files(2) == "2 FIFOs, sockets or devices"
