"""Ctrl-C and SIGTERM, neither of which is lost: libraries swallow a KeyboardInterrupt, or turn it into an error of their own.

Each signal is noted before it is raised. What ends as an error after that ends as an interrupt, and what goes on can ask
(`raise_noted`). SIGTERM is what a scheduler or a container sends before it kills: the same as Ctrl-C, with another exit status.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

AGAIN_S = 0.05  # until a signal that was lost in a destructor is sent again


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


class Noted:
    """A signal handler that notes a signal and then raises it, by way of the handler before it where that notes, too."""

    def __init__(self, seen: list[int], before: Any) -> None:
        self.seen, self.before = seen, before

    def __call__(self, number: int, frame: Any) -> NoReturn:
        self.seen.append(number)
        if isinstance(self.before, Noted):
            self.before(number, frame)
        raise kind_of(number)


def kind_of(number: int) -> type[KeyboardInterrupt]:
    """What a signal is in Python."""
    return Terminated if number == signal.SIGTERM else KeyboardInterrupt


def raise_noted() -> None:
    """Raise an interrupt that came inside of `noted_interrupts` and did not get through."""
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if isinstance(handler, Noted) and handler.seen:
            raise kind_of(handler.seen[0])


@contextmanager
def sent_again() -> Iterator[None]:
    """Send a signal again that came in a destructor, out of which Python lets no exception: it would print and forget it."""
    before = sys.unraisablehook

    def handle(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            before(lost)
            return
        number = signal.SIGTERM if issubclass(lost.exc_type, Terminated) else signal.SIGINT
        timer = threading.Timer(AGAIN_S, signal.raise_signal, (number,))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = handle
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def noted_interrupts(seen: list[int] | None = None, *, as_program: bool = False) -> Iterator[None]:
    """Note each Ctrl-C, and let it end what is inside as KeyboardInterrupt, also where it becomes another error on its way.

    Elsewhere than in the main thread there is none, and handlers of others are left alone.

    Args:
        seen: gets the numbers of the signals.
        as_program: this process is the package's own, so that SIGTERM is as Ctrl-C.
    """
    seen = [] if seen is None else seen
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        ours = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL if as_program else None
        if isinstance(handler, Noted) or (handler is not None and handler is ours):
            signal.signal(number, Noted(seen, handler))
    try:
        yield
    except Exception as error:
        if not seen:
            raise
        raise kind_of(seen[0]) from error
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
