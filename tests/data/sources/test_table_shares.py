"""Soft labels of a table: shares of the classes, and one line for each mistake in them."""

from pathlib import Path

import numpy as np
import pytest

from tl_keras.data.sources.table_labels import Found
from tl_keras.data.sources.table_shares import ShareCells, read_shares
from tl_keras.errors import DataError
from tl_keras.models.outputs import SINGLE_LABEL


def read(texts: dict[str, list[str]], *, votes: bool = True, known: tuple[str, ...] | None = None) -> Found:
    places = [f"line {number + 2}" for number in range(len(next(iter(texts.values()))))]
    return read_shares(ShareCells(Path("t.csv"), {name: f"p_{name}" for name in texts}, texts, places, votes), known)


def error_of(texts: dict[str, list[str]], **more: object) -> str:
    with pytest.raises(DataError) as caught:
        read(texts, **more)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("t.csv: ")


def test_votes_become_shares_and_classes_are_sorted() -> None:
    found = read({"dog": ["3", "0", "1"], "cat": ["1", "7", "1e0"]})
    assert (found.classes, found.output) == (("cat", "dog"), SINGLE_LABEL)
    assert found.shares is not None
    np.testing.assert_array_equal(found.shares, np.float32([[0.25, 0.75], [1, 0], [0.5, 0.5]]))
    assert (found.labels.tolist(), found.labels.dtype, found.shares.dtype) == ([1, 0, 0], np.int32, np.float32)
    assert found.notes == ("soft labels: an image is 75% its most probable class on average; 1 with a tie count as the first of them",)


def test_probabilities_may_be_rounded_and_those_of_no_other_sum() -> None:
    found = read({"a": ["0.333", "1"], "b": ["0.666", "0"]}, votes=False)
    assert found.shares is not None
    np.testing.assert_allclose(found.shares.sum(axis=1), 1, rtol=1e-6)
    assert error_of({"a": ["0.9", "0.2"], "b": ["0.1", "0.9"], "c": ["0", "0"], "d": ["0", "0.6"]}, votes=False) == (
        "the probabilities of line 3 (p_a, p_b, p_c, ...) sum to 1.7, expected 1. If they are votes, list their columns: "
        "--set data.columns='{label: [p_a, p_b, p_c, ...]}'."
    )


def test_a_model_says_the_order_of_its_classes_and_the_table_may_lack_some() -> None:
    found = read({"sea": ["1", "3"], "beach": ["1", "1"]}, known=("sea", "dune", "beach"))
    assert found.classes == ("sea", "dune", "beach")
    assert found.shares is not None
    np.testing.assert_array_equal(found.shares, np.float32([[0.5, 0, 0.5], [0.75, 0, 0.25]]))
    assert found.labels.tolist() == [0, 0]
    assert error_of({"sea": ["1"], "beech": ["0"]}, known=("sea", "beach")) == (
        "has a class 'beech', which the model does not know. Did you mean 'beach'?"
    )


@pytest.mark.parametrize("text", ["-0.1", "nan", "inf", "x", "0,5"])
def test_what_is_not_a_number_of_0_or_more_is_refused(text: str) -> None:
    assert error_of({"a": ["1", "1", "0"], "b": ["0", text, text]}) == (
        f"line 3 has {text!r} in the column 'p_b', expected a share of the image, or votes, as a number of 0 or more; 2 rows are like "
        "that. Mend it, or remove the row."
    )


def test_a_row_without_any_share_and_a_class_without_an_image_are_refused() -> None:
    assert error_of({"a": ["1", "0"], "b": ["2", "0"]}) == "line 3 has 0 for each class (p_a, p_b). Fill it in, or remove the row."
    assert error_of({"a": ["1", "0"], "b": ["2", "1"]}).startswith(
        "'a' is the most probable class of no image, and each split needs images"
    )
    assert error_of({"a": ["1"], "A": ["2"]}).startswith("the labels 'A' (1 rows) and 'a' (1 rows) differ in nothing but case")
