"""Small files that say that they are large are refused before they are."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tl_keras.models.file_kinds import first_layer, why_unusable
from tl_keras.models.saved import read_classes
from tl_keras.models.trust import graphs_in
from tl_keras.models.zip_members import open_arrays, read_member

LARGE = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `.keras` file of 0.3 MB whose members are lists of 64 million blanks."""
    path = tmp_path_factory.mktemp("bomb") / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("config.json", "metadata.json", "classes.json", "assets/own/saved_model.pb"):
            archive.writestr(name, b"[" + b" " * LARGE + b"]")
    return path


def test_members_that_are_packed_to_next_to_nothing_are_not_unpacked(bomb: Path) -> None:
    tracemalloc.start()
    for read in (read_classes, first_layer, lambda path: list(graphs_in(path))):
        with pytest.raises(ValueError, match=r"in it is 67,108,866 bytes packed into \d"):
            read(bomb)
    assert why_unusable(bomb) == "it is not a .keras file, which holds config.json and metadata.json."
    assert tracemalloc.get_traced_memory()[1] < LARGE / 10
    tracemalloc.stop()


def test_members_that_are_packed_as_texts_are_read(tmp_path: Path) -> None:
    text = " ".join(map(str, range(500_000))).encode()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("numbers", text)
        archive.writestr("blanks", b" " * 900_000)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert read_member(archive, "numbers") == text
        assert len(read_member(archive, "blanks")) == 900_000


def test_json_that_is_nested_without_end_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
    assert why_unusable(tmp_path / "model.keras") == "it is not a .keras file, which holds config.json and metadata.json."


def test_arrays_come_back_and_those_that_would_be_large_do_not(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3), b=np.array(["x"]))
    with open_arrays(path) as found:
        assert {name: found[name].tolist() for name in found} == {"a": [0, 1, 2], "b": ["x"]}
    np.savez_compressed(path, a=np.zeros(10))
    with pytest.raises(ValueError, match="its arrays are packed"), open_arrays(path):
        pass
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    with pytest.raises(ValueError, match="it says of an array that it is larger than the memory"), open_arrays(path) as found:
        found["a"]
    np.savez(path, a=np.array([print], object))
    with pytest.raises(ValueError, match="allow_pickle=False"), open_arrays(path) as found:
        found["a"]
