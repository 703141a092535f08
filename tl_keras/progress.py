"""How long work tells that it goes on, without knowing who listens.

`run` listens with a terminal; a caller from Python hears nothing unless it passes its own.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """A listener that hears and says nothing: the base of those that do."""

    def line(self, text: str) -> None:
        """Take a line of text that is worth keeping."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Follow a loop of `total` items: yields a function that is told how many were just done."""
        yield lambda _: None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what TensorFlow's libraries write to standard error meanwhile; show it only if an error ends it."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            yield
        except BaseException:
            noise.seek(0)
            os.write(kept, noise.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
