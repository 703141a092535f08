"""A memory budget that threads share: what they hold at once is bounded, however many there are."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """An amount that threads take from and give back.

    Args:
        total: of whatever is counted, at least 1.
    """

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    @contextmanager
    def taking(self, amount: int) -> Iterator[None]:
        """Hold an amount, waiting until it is free; more than there is at all is held alone.

        Whoever comes later waits behind, so that a large amount is not passed over for ever.
        """
        amount = min(amount, self._total)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()
