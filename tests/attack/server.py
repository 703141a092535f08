"""Starts the package's command line in processes of its own, each in a fraction of a second: TensorFlow is imported once, then forked.

A script, not a test: reads one JSON job a line from standard input and answers with one line of JSON. A job is
`{"arguments": [...], "folder": DIR, "environment": {...}, "output": FILE, "limits": {"RLIMIT_FSIZE": bytes}}`; the answer is
`{"pid": PID}`. The child leads a process group of its own; its end is reported as a line `{"pid": PID, "status": STATUS}`,
negative for a signal.
"""

import json
import os
import resource
import select
import signal
import sys
from contextlib import suppress

POLL_S = 0.02


def answer(**values: int) -> None:
    """One line of JSON to whoever started this process."""
    os.write(1, (json.dumps(values) + "\n").encode())


def run_child(job: dict) -> int:
    """Become the command line of a job."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["tl_keras", *job["arguments"]]
    for name, value in job.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (value, value))
    from tl_keras import run

    try:
        return run.main(job["arguments"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def report_ended() -> None:
    """Report the children that have ended since the last call."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            answer(pid=found[0], status=os.waitstatus_to_exitcode(found[1]))


def main() -> None:
    """Import what takes long, then serve jobs until standard input ends."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tl_keras.deploy.export  # noqa: F401
    from tl_keras.modes import MODES, load

    for mode in MODES.values():
        load(mode.run)
    answer(ready=1)
    while True:
        if select.select([0], [], [], POLL_S)[0]:
            line = sys.stdin.buffer.raw.readline()
            if not line:
                return
            pid = os.fork()
            if pid == 0:
                os._exit(run_child(json.loads(line)))
            answer(pid=pid)
        report_ended()


if __name__ == "__main__":
    main()
