"""What a user can get wrong: one base class, so that the command line prints one line and exits 2.

A message says what was received, what is allowed and how to mend it, on one line. Anything that is not a
`UserError` is a defect of this package: it keeps its traceback and exits 1.
"""


class UserError(Exception):
    """A mistake that the user can mend; its text is the whole explanation."""


class ConfigError(UserError):
    """The command line or a configuration file."""


class DataError(UserError):
    """The images, their folders, labels and splits."""


class BadImageError(DataError):
    """One file that does not decode; the text starts with the file's name."""


class LostImageError(DataError):
    """An image that could be read when a run began and cannot any more; the run can go on when it is back."""


class BackboneError(UserError):
    """A backbone's name, file, weights, preprocessing or image size."""


class RunFolderError(UserError):
    """A run folder that is missing, unfinished, foreign or not writable."""


class ExportError(UserError):
    """An exported artifact that could not be written or does not agree with its model."""


class TrainingError(UserError):
    """A training that cannot go on, such as a loss that is no number."""


class StoreError(UserError):
    """The store of features: no room under its limit or on its disk, or a folder that cannot be written."""
