"""What the tests of choosing share: photographs of two classes."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def photos(photo_folder: Callable[..., Path]) -> Path:
    """Forty photographs of two classes. Not to be changed."""
    return photo_folder(classes=("cat", "dog"), per_class=20)
