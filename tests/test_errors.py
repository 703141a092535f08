"""An error of the system becomes one line: which file, what is wrong, and what to do."""

import errno
from urllib.error import URLError

import pytest

from tl_keras.errors import from_os


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space", "/a/b"), "/a/b: cannot be read or written (No space). Free space on that disk."),
        (PermissionError(errno.EACCES, "Denied", b"/a/b"), "/a/b: cannot be read or written (Denied). Give a folder that you may use, or"),
        (OSError(errno.ENOSPC, "No space"), "a file, or the standard output: cannot be read or written (No space). Free space on"),
        (OSError(errno.ELOOP, "Loop", "/a"), "/a: cannot be read or written (Loop)."),
        (URLError("no network"), "URLError: <urlopen error no network>"),
        (OSError("two\nlines"), "OSError: two"),
        (OSError(), "OSError: OSError"),
    ],
)
def test_errors_of_the_system_are_told_on_one_line(error, line):
    told = str(from_os(error))
    assert told.startswith(line)
    assert "\n" not in told
