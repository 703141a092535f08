"""A regular file of the disk that is read at any place from any thread."""

import os
import threading
import weakref

from tl_keras.data.archive_file import damaged
from tl_keras.data.descriptors import open_descriptor


class PlacedFile:
    """An open file; it is closed when nobody has it any more.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = open_descriptor(path)
        weakref.finalize(self, os.close, self.descriptor).atexit = False
        self._seeking = threading.Lock()

    def read_at(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes, whatever other threads read.

        Raises:
            OSError: the file ends before.
        """
        found = self._some_at(offset, size)
        while len(found) < size:  # the system gives 2 GB at a time at most
            more = self._some_at(offset + len(found), size - len(found))
            if not more:
                raise damaged("the archive ends before", self.path)
            found += more
        return found

    def _some_at(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self.descriptor, size, offset)
        with self._seeking:
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            return os.read(self.descriptor, size)
