"""What is shown of a map: bounded, in its place, and in an order that needs no sense of colour."""

import numpy as np
import pytest
from PIL import Image

from tl_keras.evaluation.explain.overlay import _colours, heat, overlay, peak


def test_heat_is_what_speaks_for_the_answer_and_of_a_number_what_moves_it() -> None:
    found = np.zeros((4, 4), np.float32)
    found[0, 1], found[3, 2] = 2.0, -4.0
    for_class, of_number = heat(found, (40, 80), "single_label"), heat(found, (40, 80), "regression")
    assert for_class.shape == of_number.shape == (40, 80)
    for each in (for_class, of_number):
        assert each.min() >= 0
        assert each.max() == 1
    assert (for_class[5, 30], of_number[35, 50]) == pytest.approx((1, 1), abs=0.2)
    assert peak(found, "single_label") == (0.125, 0.375)
    assert peak(found, "regression") == (0.875, 0.625)
    assert not heat(-np.abs(found), (40, 80), "multi_label").any()
    assert peak(-np.abs(found), "multi_label") is None
    found[:] = np.nan
    assert not heat(found, (40, 80), "single_label").any()


def test_the_photo_is_dimmed_grey_and_the_map_above_it() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    shown = np.zeros((8, 8), np.float32)
    shown[2, 3] = 1
    found = overlay(photo, shown)
    grey = np.asarray(Image.fromarray(photo).convert("L"), np.float64)
    elsewhere = shown == 0
    np.testing.assert_allclose(found[elsewhere], (0.55 * grey[elsewhere])[:, None].repeat(3, axis=1), atol=0.51)
    assert found[2, 3, 0] > 180
    assert found[2, 3, 2] < found[2, 3, 0]


@pytest.mark.parametrize("sight", [(0.2126, 0.7152, 0.0722), (0.0, 0.9, 0.1), (0.15, 0.75, 0.1)], ids=["all", "no red", "weak red"])
def test_colours_grow_lighter_with_the_value_for_every_eye(sight: tuple[float, ...]) -> None:
    lightness = _colours()[::8] @ np.array(sight)
    assert (np.diff(lightness) > 0).all()
