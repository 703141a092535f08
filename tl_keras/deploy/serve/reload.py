"""A new export of a run that is being served: noticed, opened beside what answers, and put in its place once it is ready."""

import gc
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from tl_keras.deploy.export import files_in
from tl_keras.deploy.predictor import Predictor
from tl_keras.deploy.serve.choice import Form
from tl_keras.deploy.serve.log import event
from tl_keras.deploy.serve.service import Service
from tl_keras.errors import RunFolderError, UserError
from tl_keras.export_formats import EXPORT_FORMATS
from tl_keras.run_folder import EXPORT_RECORD

POLL_S = 1.0  # between looks at the folder

Stamp = frozenset[tuple[str, int, int, int]]


def stamp_of(folder: Path) -> Stamp:
    """What tells whether the exports in a folder have changed: path, inode, size and time of each of their files."""
    found = set()
    for name in (EXPORT_RECORD, *(form.file for form in EXPORT_FORMATS.values())):
        with suppress(OSError):  # what cannot be looked at is as if it were not there
            for file in files_in(folder / name):
                status = file.stat()
                found.add((str(file), status.st_ino, status.st_size, status.st_mtime_ns))
    return frozenset(found)


class Reloader:
    """Looks at the exports of a run in a thread of its own, and lets what is new answer; a context manager.

    What does not open, or would answer otherwise than in the terms that clients know, is refused, and what answers goes on.

    Args:
        service: what answers.
        folder: `export/` of the run.
        seen: its stamp, from before what answers was opened.
        open_other: opens what would answer now, warm; None where it is what answers, by its version.
        poll_s: between looks. Twice in a row the files must be the same: nobody is writing them.
    """

    def __init__(
        self, service: Service, folder: Path, seen: Stamp, open_other: Callable[[str], Form | None], *, poll_s: float = POLL_S
    ) -> None:
        self._service, self._folder, self._done, self._open, self._poll_s = service, folder, seen, open_other, poll_s
        self._ending = Event()
        self._thread = Thread(target=self._watch, name="reload", daemon=True)

    def __enter__(self) -> "Reloader":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        before = self._done
        while not self._ending.wait(self._poll_s):
            now = stamp_of(self._folder)
            if now == before and now != self._done:
                self._reload(now)
                self._done = now
            before = now

    def _reload(self, stamp: Stamp) -> None:
        service = self._service
        try:
            form = self._open(service.loaded.version)
            if form is None or stamp_of(self._folder) != stamp:  # of files that have changed again nobody knows which were opened
                return
            require_alike(service.predictor, form.predictor)
            service.replace(form)
        except Exception as error:  # what answers goes on, whatever it is
            service.metrics.reloads["refused"] += 1
            event(logging.ERROR, f"what is new in {self._folder} is refused: {error}", None if isinstance(error, UserError) else error)
            return
        service.metrics.reloads["loaded"] += 1
        event(logging.INFO, "a new export answers", form=form.name, version=form.version)
        gc.collect()  # the graph of what has answered until now holds itself


def require_alike(old: Predictor, new: Predictor) -> None:
    """Refuse what would answer in other terms than those that clients of a server know.

    Raises:
        RunFolderError: it has other classes, or tells other things of an image.
    """
    if _terms(new) != _terms(old):
        raise RunFolderError(
            f"{new.trained.run.path}: has other classes than what answers, or tells other things of an image. Start the server again."
        )


def _terms(predictor: Predictor) -> tuple[object, ...]:
    index = predictor.trained.index
    return index.classes, index.output.task, predictor.novelty is None, predictor.thresholds is None
