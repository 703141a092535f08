"""What pages are made of: text is text, and tables stay of bounded length."""

from html import unescape

import pytest

from tl_keras.evaluation.markup import cut, figures, shortened, table, text


@pytest.mark.parametrize("value", ["<b>", "a & b", "\"'", "grün 猫", "a\nb"])
def test_text_is_shown_as_it_is(value: str) -> None:
    assert unescape(text(value)) == value
    assert not set("<>\"'") & set(text(value))


@pytest.mark.parametrize("value", ["\udce9", "\x00", "\x1b[1m", "\x85"])
def test_what_is_no_character_is_an_unknown_one(value: str) -> None:
    shown = text(value)
    assert shown.startswith("\ufffd")
    shown.encode()  # as UTF-8


def test_a_long_table_has_both_its_ends_and_counts_the_rest() -> None:
    rows = [(str(number), "x") for number in range(11)]
    assert shortened(rows, 11, "more") == rows
    found = shortened(rows, 4, "more")
    assert found == [rows[0], rows[1], ("7 more",), rows[9], rows[10]]


def test_a_row_of_one_cell_goes_across() -> None:
    found = table(("class", "images"), [("cat", "3"), ("2 more",)], "all <classes>")
    assert '<th scope="row">cat</th><td class="number">3</td>' in found
    assert '<td colspan="2">2 more</td>' in found
    assert 'aria-label="all &lt;classes&gt;"' in found


def test_a_cut_text_says_so() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"


def test_a_figure_without_an_address_has_its_caption_alone() -> None:
    assert figures([("", "x.png")]) == '<div class="images"><figure><figcaption>x.png</figcaption></figure></div>'
