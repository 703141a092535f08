"""What a server writes down: a JSON line for each event, by Python's own `logging`, on the standard error.

An event never holds a token, an image, or what is in one.
"""

import logging
from datetime import UTC, datetime
from typing import Any

from tl_keras.run_folder import json_text

LOG = logging.getLogger("tl_keras.serve")


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC), level, message, the fields that `event` was given, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": time, "level": record.levelname.lower(), "message": record.getMessage().strip()} | getattr(record, "fields", {})
        return json_text(told | ({"traceback": self.formatException(record.exc_info)} if record.exc_info else {}))


def event(level: int, message: str, error: BaseException | None = None, **fields: Any) -> None:
    """Write down what has happened; an error with its traceback."""
    LOG.log(level, message, exc_info=error, extra={"fields": fields})


SETTINGS: dict[str, Any] = {  # for `logging.config.dictConfig`; uvicorn tells its own errors by its own logger
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonLines}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
    "loggers": {
        LOG.name: {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}
