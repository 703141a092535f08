"""Figures side by side in a terminal."""

import pytest

from tl_keras.terminal.choosing import difference_lines, summary_table


@pytest.mark.parametrize(("mae", "shown"), [(2.4373e30, "2.437e+30"), (2.4373e-9, "2.437e-09"), (2.4373, "2.437")])
def test_a_figure_in_the_unit_of_the_labels_is_four_digits_whatever_its_size(mae: float, shown: str) -> None:
    found = {"mae": {"mean": mae, "deviation": mae, "ci95": [mae, mae]}, "r2": {"mean": 0.5, "deviation": 0.1, "ci95": [-0.25, 0.75]}}
    cells = [list(column.cells) for column in summary_table(found, "title").columns]
    assert cells == [["mae", "r2"], [shown, "0.5000"], [shown, "0.1000"], [f"{shown} to {shown}", "-0.2500 to 0.7500"]]
    first, second = difference_lines(found)
    assert first == f"against the other: mae +{shown} (95 % interval +{shown} to +{shown}), a clear difference"
    assert "r2 +0.5000 (95 % interval -0.2500 to +0.7500), which may be chance" in second
