"""A file that is read at any place."""

import pytest

from tl_keras.data.read_at import PlacedFile


def test_exactly_the_bytes_that_are_asked_for(tmp_path):
    (tmp_path / "x").write_bytes(bytes(range(100)))
    file = PlacedFile(str(tmp_path / "x"))
    assert file.read_at(3, 4) == bytes([3, 4, 5, 6])
    assert file.read_at(100, 0) == b""
    with pytest.raises(OSError, match="the archive ends before"):
        file.read_at(98, 3)
    with pytest.raises(OSError, match="directory"):
        PlacedFile(str(tmp_path))
