"""Silence: what C++ writes to standard error is held back, and shown where an error ends it."""

import os

import pytest

from tl_keras.quiet import quiet


def test_noise_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        os.write(2, b"noise\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_noise_before_an_error_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError), quiet():
        os.write(2, b"its cause\n") and os.stat("no such file")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "its cause\nafter\n"
