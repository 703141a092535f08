"""Packed texts are what a tuple of the same texts is, and take less."""

import numpy as np
import pytest

from tl_keras.data.texts import TextList, Texts, packed

SOME = ("cat/1.jpg", "", "Löwe, groß", "cat/1.jpg", "\udcff\ud800", "猫")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("values", [SOME, (), ("",), ("", "a", "")])
def test_packed_texts_are_those_of_a_tuple(values, shared):
    found = packed(values, shared=shared)
    assert found == values
    assert values == found
    assert list(found) == [found[row] for row in range(len(found))] == list(values)
    assert found[1:] == values[1:]
    assert found[::-2] == values[::-2]
    assert found != (*values, "more")
    assert found != "text"
    rows = np.arange(len(values))[::-1]
    assert found.take(rows) == values[::-1]
    assert found.take(np.arange(len(values)) % 2 == 0) == values[::2]
    assert Texts.of(found) is found
    assert Texts(*found.arrays()) == values


@pytest.mark.parametrize("shared", [False, True])
def test_each_different_text_has_one_number(shared):
    names, numbers = packed(SOME, shared=shared).numbered()
    assert [names[number] for number in numbers] == list(SOME)
    assert len(names) == len(set(SOME))
    assert packed(()).numbered()[0] == []


def test_joined_parts_and_chosen_names():
    assert Texts.joined([packed(SOME), packed(()), packed(("x",), shared=True)]) == (*SOME, "x")
    assert Texts.joined([]) == ()
    assert Texts.chosen(("train", "val"), np.array([1, 0, 1])) == ("val", "train", "val")


def test_equal_texts_may_share_their_bytes():
    same = ["patient 17"] * 1000
    assert packed(same, shared=True).nbytes < 1000 * 8 + 20 < packed(same).nbytes
    assert packed(same, shared=True).take(np.arange(10)).nbytes < 100


def test_a_text_that_is_not_there_is_an_index_error():
    with pytest.raises(IndexError):
        packed(SOME)[len(SOME)]
    assert packed(SOME)[-1] == SOME[-1]
    assert "猫" in packed(SOME)


def test_few_texts_are_shown():
    assert repr(packed(("a", "b"))) == "Texts(['a', 'b'])"
    assert repr(packed(["a"] * 10)).endswith("and 2 more)")


def test_a_list_is_as_long_as_what_came():
    found = TextList()
    for text in SOME:
        found.append(text)
    assert len(found) == len(SOME)
