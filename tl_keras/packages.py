"""Packages that only parts of this one need, and that need not be installed."""

import shlex
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from tl_keras.errors import ConfigError


def require_packages(asked_by: str, names: Iterable[str]) -> None:
    """Refuse what needs packages that are not installed, before anything is computed or imported.

    Args:
        asked_by: what needs them, as the error begins: an option or a mode.
        names: the packages, as pip calls them.

    Raises:
        ConfigError: with the line that installs them.
    """
    missing = [name for name in dict.fromkeys(names) if not is_installed(name)]
    if missing:
        raise ConfigError(f"{asked_by}: needs {' and '.join(missing)}, not installed here. Install it: pip install {shlex.join(missing)}.")


def is_installed(package: str) -> bool:
    """Whether a package, as pip calls it, is installed."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
