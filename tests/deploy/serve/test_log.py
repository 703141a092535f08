"""What a server writes down."""

import json
import subprocess
import sys

SCRIPT = """
import logging, os
from logging.config import dictConfig
from tl_keras.deploy.serve.log import SETTINGS, event
from tl_keras.quiet import quiet
dictConfig(SETTINGS)
with quiet():
    os.write(2, b"a library\\n")
    event(logging.INFO, "request", route="predict")
"""


def test_requests_are_written_while_an_export_is_opened_quietly() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    [line] = done.stderr.splitlines()
    assert json.loads(line)["route"] == "predict"
