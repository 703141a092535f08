"""Errors that users can mend: one base class, so that the command line prints one line and exits 2.

A message says what was received, what is allowed and how to mend it, on one line. Anything that is not a
`UserError` is a defect of this package: it keeps its traceback and exits 1. An `OSError` that nobody has explained becomes one by
`from_os`: most of them are full disks and missing permissions.
"""

import errno
import os

WHAT_TO_DO = {
    errno.ENOSPC: "Free space on that disk.",
    getattr(errno, "EDQUOT", errno.ENOSPC): "Free space: your quota on that disk is used up.",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), or use a disk that allows larger ones.",
    errno.EROFS: "That disk is read-only: give a folder on another.",
    errno.EACCES: "Give a folder that you may use, or change its permissions.",
    errno.EPERM: "Give a folder that you may use, or change its permissions.",
    errno.ENOENT: "It is gone: put it back.",
    errno.EMFILE: "Raise the limit on open files (ulimit -n).",
    errno.EIO: "The disk reports an error: check it.",
}


class UserError(Exception):
    """A mistake that the user can mend; its text is the whole explanation."""

    @property
    def kind(self) -> str:
        """The name of its class in this file, which is what a user knows, also where it is of a narrower class."""
        return next(each.__name__ for each in type(self).__mro__ if each.__module__ == __name__)


class ConfigError(UserError):
    """The command line or a configuration file."""


class DataError(UserError):
    """The images, their folders, labels and splits."""


class UnknownClassError(DataError):
    """Images of a class that a model does not have."""


class BadImageError(DataError):
    """One file that does not decode; the text starts with the file's name."""


class LostImageError(DataError):
    """An image that could be read when a run began and cannot any more; the run can go on when it is back."""


class BackboneError(UserError):
    """A backbone's name, file, weights, preprocessing or image size."""


class RunFolderError(UserError):
    """A run folder that is missing, unfinished, foreign or not writable."""


class ExportError(UserError):
    """An exported artifact that could not be written or read back."""


class ParityError(ExportError):
    """An exported artifact that answers too differently from its model; its text goes after the name of the artifact."""


class TrainingError(UserError):
    """A training run that cannot continue, for example because its loss is not finite."""


class FileError(UserError):
    """A file that the system does not give or take: a full disk, a missing permission."""


class ClusterError(UserError):
    """A cluster of machines that does not answer, loses its actors, or sees other images or another network than this machine."""


class StoreError(UserError):
    """The store of features: no room under its limit or on its disk, or a folder that cannot be written."""


def first_line(error: BaseException) -> str:
    """What an error of another library says, to be put into a line of ours: its first line, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def from_os(error: OSError) -> FileError:
    """What the user is told of an error of the system: which file, what is wrong, and what to do, on one line."""
    mend, file = WHAT_TO_DO.get(error.errno or 0, ""), error.filename
    reason = error.strerror or first_line(error)
    if file is None and not mend:
        return FileError(f"{type(error).__name__}: {reason}")
    name = "a file, or the standard output" if file is None else os.fsdecode(file) if isinstance(file, str | bytes) else str(file)
    return FileError(f"{name}: cannot be read or written ({reason}). {mend}".rstrip())
