"""Plain YAML: what is not read of YAML, in a moment and in one line."""

import time

import pytest

from tl_keras.plain_yaml import DEEPEST, LARGEST, LONGEST_SHOWN, PlainYamlError, read_plain_yaml, shown


def problem(text: str) -> str:
    with pytest.raises(PlainYamlError) as caught:
        read_plain_yaml(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: !!python/object/apply:os.system [ls]", "line 1: found a tag"),
        ("a: !!bool maybe", "line 1: found a tag"),
        ("\na: &b 1\nc: *b", "line 2: found an anchor or an alias"),
        ("a: *b", "line 1: found an anchor or an alias"),
        ("[" * 3000, f"line 1: lists and mappings are nested more than {DEEPEST} deep"),
        ("a" * (LARGEST + 1), "it has 500,001 characters, expected at most 500,000"),
        ("a: \x00", "unacceptable character #x0000: special characters are not allowed"),
        ("a: 0x_", "invalid literal for int() with base 16: ''"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    assert problem(text).startswith(why)


def test_what_is_read() -> None:
    assert read_plain_yaml("yes: [1, 1.5, true, ~, text, 2024-01-01, '!x']") == (
        {"yes": [1, 1.5, True, None, "text", "2024-01-01", "!x"]}, []
    )  # fmt: skip
    assert read_plain_yaml("# nothing") == (None, [])
    assert read_plain_yaml("a: 1\na: 2") == ({"a": 2}, ["line 2: key 'a' was given on line 1 already. Keep one."])


def test_numbers_to_base_60_are_text_and_take_no_time() -> None:
    long, started = "1" + ":1" * 200_000, time.perf_counter()
    assert read_plain_yaml(f"[1:30, 1:30.5, {long}]") == (["1:30", "1:30.5", long], [])
    assert time.perf_counter() - started < 5


def test_a_bomb_of_aliases_takes_no_time() -> None:
    started = time.perf_counter()
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "anchor" in problem(bomb)
    assert time.perf_counter() - started < 1


def test_values_in_messages_are_short_and_printable() -> None:
    assert shown("a\x1b[31m\u2028") == "'a\\x1b[31m\\u2028'"
    assert len(shown("x" * 100_000)) < LONGEST_SHOWN + 30
    assert shown(10**5000) == "a very large int"
