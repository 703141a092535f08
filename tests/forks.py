"""Runs Python code in processes of their own, each started in a fraction of a second: TensorFlow is imported once, then forked.

A script, not a test; the fixture `python_alone` starts it. It reads one JSON job a line from standard input, `{"code": ..., "arguments":
[...], "folder": DIR, "environment": {...}, "output": FILE, "errors": FILE}`, runs it as `python -c` would, and answers with a line: the
exit status, negative for a signal. TensorFlow and Keras, which it imports, are there; this package is not unless the code imports it.
"""

import json
import os
import signal
import sys
import traceback
from types import ModuleType
from typing import Any

LIMIT_S = 300  # a job that takes longer is ended


def run_child(job: dict[str, Any]) -> int:
    """Become the process of a job; return its exit status."""
    signal.alarm(LIMIT_S)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = ["-c", *job["arguments"]]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        exec(compile(job["code"], "<string>", "exec"), vars(sys.modules["__main__"]))
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def main() -> None:
    """Import what takes long, then serve jobs, one after the other, until standard input ends."""
    import tensorflow  # noqa: F401

    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            os._exit(run_child(json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
