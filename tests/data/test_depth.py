"""Greys of few bits in 16-bit files are told in one line, with the setting that scales them; other files are not."""

import numpy as np
import pytest
from PIL import Image

from tl_keras.data.depth import LOOKED_AT, tell_depth
from tl_keras.progress import Progress


class Heard(Progress):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def grey_files(folder, peaks, ending="png"):
    files = []
    for number, peak in enumerate(peaks):
        files.append(folder / f"{number:03}.{ending}")
        Image.fromarray(np.array([[0, peak]], np.uint16)).save(files[-1])
    return files


def told(files, bit_depth=16, **options):
    heard = Heard()
    tell_depth(files, bit_depth, heard, **options)
    return heard.lines


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize(("peak", "depth"), [(200, 8), (1023, 10), (1024, 12), (4095, 12), (9000, 14)])
def test_greys_that_leave_the_upper_range_are_told(tmp_path, ending, peak, depth):
    (line,) = told(grey_files(tmp_path, [100, peak, 7], ending))
    assert line.startswith(f"16-bit files hold greys up to {peak:,} only (3 looked at), which data.bit_depth=16 makes almost black.")
    assert line.endswith(f" Set data.bit_depth={depth}.")


@pytest.mark.parametrize("peaks", [[100, 16384], [65535], [40_000, 90]])
def test_greys_of_the_full_range_are_not_told(tmp_path, peaks):
    assert told(grey_files(tmp_path, peaks)) == []


def test_a_depth_that_fits_is_not_told_and_one_that_is_too_small_is(tmp_path):
    files = grey_files(tmp_path, [100, 4000])
    assert told(files, 12) == []
    assert told(files, 8, advice="Take {}.") == [
        "16-bit files hold greys up to 4,000 (2 looked at); data.bit_depth=8 makes all above 255 white. Take 12."
    ]
    assert told(grey_files(tmp_path, [60_000]), 12)[0].endswith("makes all above 4,095 white. Set data.bit_depth=16.")


def test_other_files_and_damaged_ones_are_passed_over(tmp_path):
    Image.new("L", (4, 4), 3).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), 3).save(tmp_path / "b.tif")
    (tmp_path / "c.png").write_bytes(grey_files(tmp_path, [100])[0].read_bytes()[:40])
    (tmp_path / "d.jpg").write_bytes(b"")
    assert told([tmp_path / name for name in ("a.png", "b.tif", "c.png", "d.jpg", "e.jpg")]) == []
    assert told([]) == []


def test_few_files_are_looked_at(tmp_path):
    (line,) = told(grey_files(tmp_path, [1000] * 100))
    assert f"({LOOKED_AT} looked at)" in line
