"""What a server writes down: a JSON line for each event, by Python's own `logging`, on the standard error.

An event never holds a token, an image, or what is in one.
"""

import logging
import os
import re
import secrets
import sys
from datetime import UTC, datetime
from typing import Any

from tl_keras.run_folder import json_text

LOG = logging.getLogger("tl_keras.serve")
PLAIN_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC), level, message, the fields that `event` was given, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": time, "level": record.levelname.lower(), "message": record.getMessage().strip()} | getattr(record, "fields", {})
        return json_text(told | ({"traceback": self.formatException(record.exc_info)} if record.exc_info else {}))


class StandardError(logging.StreamHandler[Any]):
    """Writes to the standard error of now, by a descriptor of its own: `quiet`, in which a new export is opened, takes the other away."""

    def __init__(self) -> None:
        super().__init__(os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace"))

    def close(self) -> None:
        super().close()
        self.stream.close()


def event(level: int, message: str, cause: BaseException | None = None, /, **fields: Any) -> None:
    """Write down what has happened; an error with its traceback."""
    LOG.log(level, message, exc_info=cause, extra={"fields": fields})


def request_id(given: str) -> str:
    """By what a request is known in log and answer: what it calls itself, where that is short and plain, else something new."""
    return given if PLAIN_ID.fullmatch(given) else secrets.token_hex(8)


SETTINGS: dict[str, Any] = {  # for `logging.config.dictConfig`; uvicorn tells its own errors by its own logger
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonLines}},
    "handlers": {"stderr": {"()": StandardError, "formatter": "json"}},
    "loggers": {
        LOG.name: {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}
