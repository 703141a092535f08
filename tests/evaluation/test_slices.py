"""Parts of the test images: how they are cut, what is measured of them, and that a part is called worse only where it is."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from tl_keras.data.images import DEFAULT
from tl_keras.data.index import Index
from tl_keras.evaluation import slices as module
from tl_keras.evaluation.intervals import wilson
from tl_keras.evaluation.slices import QUANTITIES, look_at, outcomes, quarters, slices, told
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Regression
from tl_keras.progress import Progress


def index_of(num: int, root: Path = Path(), **more: Any) -> Index:
    paths = tuple(f"{number:03}.png" for number in range(num))
    return Index(root=root, classes=("ant",), paths=paths, labels=np.zeros(num, np.int32), **more)


def photos_in(folder: Path, num: int = 60) -> Index:
    """Grey photos that grow brighter and larger from one to the next, with noise in every second one."""
    folder.mkdir()
    for number in range(num):
        pixels = np.full((40 + number, 90 + number, 3), 20 + 3 * number, np.uint8)
        pixels[::2, ::2] += 10 * (number % 2)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return index_of(num, folder).identified(Progress())


def judged(index: Index, right: NDArray[Any], task: str = "single_label", root: Path | None = None) -> dict[str, Any]:
    return slices(index, root, DEFAULT, task, right, Progress())


# --- how images are cut --------------------------------------------------------------------------------------------


def test_quarters_are_in_order_and_hold_each_image_once() -> None:
    values = np.random.default_rng(0).random(81)
    values[7] = np.nan
    parts = list(quarters("brightness", values))
    assert sorted(np.concatenate([rows for *_, rows, _ in parts]).tolist()) == [row for row in range(81) if row != 7]
    assert [len(rows) for *_, rows, _ in parts] == [20, 20, 20, 20]
    for (*_, before, _), (*_, after, _) in pairwise(parts):
        assert values[before].max() < values[after].min()
    low, high = f"{np.nanmin(values):.3g}", f"{values[parts[0][2]].max():.3g}"
    assert parts[0][:2] == ("brightness", f"darkest, mean grey {low} to {high} of 255")
    assert [name.partition(",")[0].partition(" ")[0] for _, name, *_ in parts] == ["darkest", "mean", "mean", "brightest"]


def test_which_images_are_in_a_slice_is_told_in_words() -> None:
    first, middle, *_, last = (told("brightness", name) for _, name, *_ in quarters("brightness", np.arange(80.0)))
    assert (first, last) == (
        "the darkest images (brightness: mean grey 0 to 19 of 255)",
        "the brightest images (brightness: mean grey 60 to 79 of 255)",
    )
    assert middle == "images of a brightness in between (mean grey 20 to 39 of 255)"
    assert told("group", "left, at night") == "images of the group 'left, at night'"


def test_equal_numbers_stay_together_and_images_that_are_all_alike_are_not_cut() -> None:
    parts = list(quarters("size", np.repeat([100.0, 200.0, 300.0], [50, 12, 18])))
    assert [(name, len(rows)) for _, name, rows, _ in parts] == [
        ("smallest, shorter side 100 pixels", 50),
        ("shorter side 200 pixels", 12),
        ("largest, shorter side 300 pixels", 18),
    ]
    few = list(quarters("size", np.repeat([100.0, 300.0], [12, 84])))
    assert [len(rows) for *_, rows, _ in few] == [12, 84]  # also where a quarter would hold both
    for values in (np.full(80, 100.0), np.full(80, np.nan), np.arange(36.0)):  # the last: nine in each
        assert not list(quarters("size", values))


def test_what_is_measured_is_that_of_the_files(tmp_path: Path) -> None:
    index = photos_in(tmp_path / "photos")
    found = look_at(index, DEFAULT, Progress())
    np.testing.assert_array_equal(found["size"], 40 + np.arange(60))
    greys = [np.asarray(Image.open(tmp_path / "photos" / path)).mean() for path in index.paths]
    np.testing.assert_allclose(found["brightness"], greys, atol=1.5)  # of a copy of at most 256 pixels
    assert found["sharpness"][1::2].min() > found["sharpness"][::2].max()


def test_files_that_are_gone_replaced_or_broken_are_in_no_slice_and_of_many_images_some_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = photos_in(tmp_path / "photos")
    (tmp_path / "photos" / "003.png").unlink()
    (tmp_path / "photos" / "004.png").write_bytes((tmp_path / "photos" / "005.png").read_bytes())
    (tmp_path / "photos" / "006.png").write_bytes(b"no image")
    index = index_of(60, tmp_path / "photos", ids=index.ids)
    index.ids[6] = index.take(np.array([6])).identify(Progress())[0]  # type: ignore[index]
    found = look_at(index, DEFAULT, Progress())
    assert np.flatnonzero(np.isnan(found["size"])).tolist() == [3, 4, 6]
    monkeypatch.setattr(module, "MOST_LOOKED_AT", 20)
    some = look_at(index, DEFAULT, Progress())["size"]
    assert np.isfinite(some[[0, 59]]).all()
    assert 17 <= np.isfinite(some).sum() <= 20


# --- what is said of them ------------------------------------------------------------------------------------------


def test_a_planted_weakness_is_found_with_the_figure_and_p_of_its_images(tmp_path: Path) -> None:
    index = photos_in(tmp_path / "photos")
    right = np.arange(60) >= 12  # the darkest are wrong, which are also the smallest
    found = judged(index, right, root=index.root)
    worst = found["worst"]
    assert (found["figure"], found["looked_at"], {each["by"] for each in found["slices"]}) == ("accuracy", 60, set(QUANTITIES))
    assert worst == found["slices"][0]
    assert (worst["by"], worst["images"]) in {("size", 15), ("brightness", 15)}
    assert (worst["accuracy"], worst["accuracy_ci95"]) == (3 / 15, list(wilson(3, 15)))
    assert worst["rest"] == 1
    assert worst["p"] == pytest.approx(len(found["slices"]) * stats.fisher_exact([[3, 12], [45, 0]]).pvalue)
    assert [each["accuracy"] for each in found["slices"]] == sorted(each["accuracy"] for each in found["slices"])


def test_groups_are_slices_where_they_have_images_enough() -> None:
    groups = ("a",) * 30 + ("b",) * 30 + ("c",) * 9
    right = np.r_[np.ones(30, bool), np.arange(30) >= 15, np.ones(9, bool)]
    found = judged(index_of(69, groups=groups), right)
    assert [(each["by"], each["name"], each["images"], each["accuracy"]) for each in found["slices"]] == [
        ("group", "b", 30, 0.5),
        ("group", "a", 30, 1.0),
    ]
    assert found["worst"]["name"] == "b"
    assert judged(index_of(69, groups=("a",) * 69), right)["slices"] == []


def test_of_numbers_the_largest_error_is_worst() -> None:
    random = np.random.default_rng(0)
    errors = np.abs(np.r_[random.normal(0, 1, 40), random.normal(0, 3, 40)])
    found = judged(index_of(80, groups=("a",) * 40 + ("b",) * 40), errors, "regression")
    assert (found["figure"], found["worst"]["name"], found["worst"]["mae"]) == ("mae", "b", pytest.approx(errors[40:].mean()))
    low, high = found["worst"]["mae_ci95"]
    assert low < errors[40:].mean() < high
    assert found["worst"]["rest"] == pytest.approx(errors[:40].mean())
    assert judged(index_of(80, groups=("a",) * 40 + ("b",) * 40), np.zeros(80), "regression")["worst"] is None


def test_a_part_that_is_better_than_the_rest_is_not_the_worst() -> None:
    right = np.r_[np.ones(15, bool), np.arange(60) >= 30]
    found = judged(index_of(75, groups=("good",) * 15 + tuple("abcd") * 15), right)
    assert found["slices"][-1]["name"] == "good"
    assert found["slices"][-1]["p"] < 0.05
    assert found["worst"] is None


def test_parts_that_are_alike_are_seldom_called_worse() -> None:
    random, repeats = np.random.default_rng(0), 150
    index = index_of(150, groups=tuple("abcdef") * 25)
    called = sum(judged(index, random.random(150) < 0.8)["worst"] is not None for _ in range(repeats))
    assert called / repeats <= 0.05 + 0.053  # 3 standard deviations


def test_outcomes_are_what_the_figure_is_the_mean_of() -> None:
    chances = np.array([[0.9, 0.1], [0.4, 0.6]])
    assert outcomes(SINGLE_LABEL, chances, np.array([0, 0])).tolist() == [True, False]
    assert outcomes(MultiLabel(), chances, np.array([[True, False], [True, True]])).tolist() == [True, False]
    np.testing.assert_allclose(outcomes(Regression(mean=0.0, scale=1.0), np.array([[2.0], [5.0]]), np.array([1, 7], np.float32)), [1, 2])
