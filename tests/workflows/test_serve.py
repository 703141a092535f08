"""`serve` as a command: what it refuses before TensorFlow, and that a signal ends it once all is answered."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tl_keras import run
from tl_keras.errors import ConfigError
from tl_keras.modes import MODES
from tl_keras.workflows.serve import TOKEN, read_token, serve

ENDED = """
import os, signal, sys, threading, time
from http.client import HTTPConnection
from pathlib import Path
from tl_keras import run
from tl_keras.deploy.predictor import Predictor

told = Predictor.told
def slowly(self, pixels):
    time.sleep(0.3)
    return told(self, pixels)

def ask():
    body, host = Path(sys.argv[3]).read_bytes(), ("127.0.0.1", int(sys.argv[2]))
    while True:
        try:
            connection = HTTPConnection(*host, timeout=10)
            connection.request("GET", "/v2/health/ready")
            connection.getresponse().read()
            break
        except ConnectionError:
            time.sleep(0.05)
    Predictor.told = slowly
    connection.request("POST", "/predict", body)
    threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGTERM)).start()
    print("answered", connection.getresponse().status)

thread = threading.Thread(target=ask)
thread.start()
print("status", run.main(["serve", sys.argv[1], "--port", sys.argv[2], "--access-log"]))
thread.join()
"""


@pytest.mark.slow
def test_sigterm_ends_it_once_all_is_answered(trained: tuple[Path, Path], python_alone: Callable[..., Any], tmp_path: Path) -> None:
    photo = next(trained[1].rglob("*.jpg"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    done = python_alone(ENDED, str(trained[0]), port, str(photo), cwd=tmp_path)
    said = done.stdout
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [(line["route"], line["status"]) for line in lines] == [("ready", 200), ("predict", 200)]
    assert f"R answers at http://127.0.0.1:{port}, by its model; Ctrl-C ends it" in said
    assert "answered 200" in said
    assert "nothing is left unanswered: 2 requests, 1 images" in said
    assert "status 0" in said


def test_a_package_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(MODES, "serve", replace(MODES["serve"], needs=("no-such",)))
    assert run.main(["serve", "no/such/run"]) == 2
    assert capsys.readouterr().err == "ConfigError: serve: needs no-such, not installed here. Install it: pip install no-such.\n"


def test_a_token_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert read_token() is None
    monkeypatch.setenv(TOKEN, "x" * 16)
    assert read_token() == "x" * 16
    for short in ("", "x" * 15, "é" * 16):
        monkeypatch.setenv(TOKEN, short)
        with pytest.raises(ConfigError, match=rf"^{TOKEN}: got {len(short)} characters, expected at least 16 of ASCII\. Make one: "):
            read_token()


def test_one_form_answers(trained: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"^--format: got onnx and litert; serve takes one"):
        serve(trained[0], formats=["onnx", "litert"])
    with pytest.raises(ConfigError, match=r"^--format: got 'onx', expected one of .* Did you mean 'onnx'\?"):
        serve(trained[0], formats=["onx"])
