"""Settings that somebody mistyped or made with malice: a configuration, or lines that a user can act on, in a moment."""

import random
import time
from collections.abc import Callable

import pytest

from tl_keras.config import fields
from tl_keras.config_file import from_yaml, load_config, to_yaml
from tl_keras.errors import ConfigError
from tl_keras.modes import MODES

WORST = (
    "!!bool maybe", "!!timestamp xx", '!!int ""', "!!python/object:os.system {}", "!!binary x", "!!float nope", "!!set {a}", "!!omap [a]",
    "[" * 3000, "{a: " * 3000, "- " * 5000, "&a [*a]", "&a {b: *a}", "<<: {a: 1}", "? [a]\n: b", "? {a: 1}\n: b", "1: 2", "null: 1",
    "2001-01-01", "2001-01-01 00:00:00", "0x" + "f" * 400, "9" * 5000, "1e400", "-.inf", ".nan", "\x00", "\ufeff", "\ud7ff", "...", "---",
    "--- a\n--- b", "%YAML 9.9\n---\na", "*a", "@a", "`a", "'", '"', "\t", "|", ">",
    "? ", ":", "-", "a: b: c", "=", "~", "yes", "0o7", "1_0",
    "&a [x, x]\n", "{a: &b [1], c: *b}",
)  # fmt: skip
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 9)}]\n" for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
LIMIT_S = 2.0


def outcome(attempt: Callable[[], object]) -> str:
    """'accepted' or 'refused'; anything else is an error of ours."""
    started, text = time.perf_counter(), ""
    try:
        attempt()
        found = "accepted"
    except ConfigError as refusal:
        text, found = str(refusal), "refused"
    assert all(line.isprintable() for line in text.splitlines()), text
    assert len(text) < 20_000, text
    assert time.perf_counter() - started < LIMIT_S
    return found


def mutated(text: str, rng: random.Random) -> str:
    """A text with a few characters removed, doubled, swapped or replaced by what YAML makes much of."""
    for _ in range(rng.randint(1, 4)):
        place, width = rng.randrange(len(text) + 1), rng.randint(0, 12)
        inserted = rng.choice(
            ("", text[place : place + width] * 2, rng.choice("{}[]:,&*#?|-<>=!%@\\\"'\t\n \x00é\u2028"), rng.choice(WORST[:12]))
        )
        text = text[:place] + inserted + text[place + width :]
    return text


@pytest.mark.parametrize("text", [*WORST, BOMB], ids=range(len(WORST) + 1))
def test_a_value_or_a_file_of_the_worst_kind(text: str) -> None:
    outcome(lambda: from_yaml(text, "config.yaml"))
    outcome(lambda: from_yaml(f"train: {text}", "config.yaml"))
    outcome(lambda: load_config("finetune", sets=[f"train.class_weights={text}"]))
    outcome(lambda: load_config("finetune", sets=[text]))


def test_mutated_settings(rng: random.Random, times: Callable[[int, int], int], report: Callable[..., None]) -> None:
    whole, names = to_yaml(load_config("search")), list(fields())
    for number in range(times(200, 2000)):
        if number % 2:
            text = mutated(whole, rng)
            found = outcome(lambda text=text: from_yaml(text, "config.yaml"))  # type: ignore[misc]
        else:
            value = rng.choice((*WORST, mutated(rng.choice(("1e-3", "[0.5, 1]", "{cat: 2}", "none", "true")), rng)))
            setting = mutated(rng.choice(names), rng) if rng.random() < 0.2 else rng.choice(names)
            found = outcome(lambda text=f"{setting}={value}": load_config(rng.choice(list(MODES)), sets=[text]))  # type: ignore[misc]
        report("settings", settings=1, **{found: 1})
