"""Images that are much larger than what the network sees of them are found by their headers."""

import pytest
from PIL import Image

from tl_keras.data.shrinking import shrunk_sides


def files(folder, *sizes):
    made = [folder / f"{number}.{'png' if number % 2 else 'jpg'}" for number in range(len(sizes))]
    for path, size in zip(made, sizes, strict=True):
        Image.new("RGB", size).save(path)
    return made


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(320, 240), (240, 320), (500, 250)], 240),
        ([(400, 128)], 128),
        ([(400, 127)], None),
        ([(32, 32), (40, 28), (900, 900)], None),
    ],
)
def test_the_shorter_side_in_the_middle_decides(tmp_path, sizes, side):
    assert shrunk_sides(files(tmp_path, *sizes), (32, 32)) == side


def test_files_that_are_not_read_do_not_count(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("text")
    unread = [tmp_path / name for name in ("empty.jpg", "text.png", "gone.jpg")]
    assert shrunk_sides([], (32, 32)) is None
    assert shrunk_sides(unread, (32, 32)) is None
    assert shrunk_sides([*unread, *files(tmp_path, (200, 300))], (32, 32)) == 200
