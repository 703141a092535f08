"""What a search varies: dimensions declared in YAML by the path of a setting, checked before the first trial.

    train.head_c: {float: [1e-4, 10], log: true}
    features.stages: {choice: [last, all]}
    features.keep: {float: [0.05, 0.5], when: {features.selection: [anova, trees]}}

Knows settings and KerasTuner's names for them; `study` asks for values, and `with_settings` puts them into a configuration.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from tl_keras.config import fields
from tl_keras.config_file import RENAMED, check_value
from tl_keras.errors import ConfigError

if TYPE_CHECKING:
    import keras_tuner

KINDS = ("choice", "int", "float")
SECTIONS = ("model", "features", "train", "data")  # whose settings a trial may vary
_NOTHING = object()
FIXED = (  # trials are compared on one cut of the same images
    *("model.trust", "data.source", "data.nested_classes", "data.columns", "data.image_folder"),
    *("data.split_seed", "data.val_fraction", "data.test_fraction", "data.per_class"),
)


@dataclass(frozen=True)
class Dimension:
    """One setting that a search varies.

    Attributes:
        path: of the setting.
        kind: one of `KINDS`.
        values: the choices, or the lowest and the highest number, both included.
        step: between numbers; None for any.
        log: whether numbers are drawn evenly by their logarithm.
        when: the path of another dimension and those of its choices with which this one counts; None for always.
    """

    path: str
    kind: str
    values: tuple[Any, ...]
    step: float | None
    log: bool
    when: tuple[str, tuple[Any, ...]] | None

    @property
    def is_numeric(self) -> bool:
        """Whether KerasTuner may see the values as they are: numbers have an order."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)

    def encode(self, value: Any) -> Any:
        """A choice as KerasTuner takes it, which knows numbers and texts."""
        if not self.is_numeric:
            return json.dumps(value, sort_keys=True)
        return float(value) if any(isinstance(each, float) for each in self.values) else value  # of one type

    def decode(self, value: Any) -> Any:
        """A value of KerasTuner's as the setting takes it.

        Raises:
            ValueError: it is not a value of this dimension; a study's files may be damaged.
        """
        plain = value.item() if hasattr(value, "item") else value  # NumPy's numbers are not settings
        if self.kind == "choice":
            if plain not in map(self.encode, self.values):
                raise ValueError(f"{self.path}: {plain!r} is not one of its choices")
            return next(each for each in self.values if each == plain) if self.is_numeric else json.loads(plain)
        low, high = self.values
        rounding = 1e-9 * max(abs(low), abs(high))
        if not isinstance(plain, int | float) or not low - rounding <= plain <= high + rounding:
            raise ValueError(f"{self.path}: {plain!r} is not between {low} and {high}")
        return plain


def read_space(space: Mapping[str, Any]) -> list[Dimension]:
    """Check a space and order it so that a dimension comes after the one that it depends on.

    Raises:
        ConfigError: it is empty, a setting is unknown or may not vary, a declaration or a value is none, or a condition
            cannot come true.
    """
    if not space:
        raise ConfigError("search.space: is empty. Declare a setting, such as train.head_c: {float: [1e-4, 10], log: true}.")
    dimensions = {path: _read_dimension(path, declared) for path, declared in space.items()}
    for each in dimensions.values():
        _check_condition(each, dimensions)
    return _ordered(dimensions)


def _read_dimension(path: str, declared: Any) -> Dimension:
    _check_path(path)
    given = declared if isinstance(declared, dict) else {}
    kinds = [kind for kind in KINDS if kind in given]
    unknown = set(given) - {*KINDS, "step", "log", "when"}
    if len(kinds) != 1 or unknown:
        raise ConfigError(
            f"search.space: {path}: got {declared!r}, expected {{choice: [...]}}, {{int: [low, high]}} or {{float: [low, high]}}, "
            "with step, log and when where wanted."
        )
    kind, values = kinds[0], given[kinds[0]]
    if not isinstance(values, list | tuple) or (len(values) < 1 if kind == "choice" else len(values) != 2):
        expected = "a list of values" if kind == "choice" else "[low, high]"
        raise ConfigError(f"search.space: {path}: {kind}: got {values!r}, expected {expected}.")
    for value in values:
        check_value(path, value, "search.space")
    step, log = given.get("step"), bool(given.get("log", False))
    if kind != "choice":
        _check_range(path, kind, values, step, log)
    return Dimension(path, kind, tuple(values), step, log, _read_condition(path, given.get("when")))


def _check_path(path: str) -> None:
    if path in RENAMED:
        raise ConfigError(f"search.space: {path} has been renamed: write {RENAMED[path]}.")
    known = [name for name in fields() if name.partition(".")[0] in SECTIONS and name not in FIXED]
    if path not in known:
        near = get_close_matches(path, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"search.space: '{path}' is not a setting that a trial may vary.{hint}")


def _check_range(path: str, kind: str, values: Sequence[Any], step: Any, log: bool) -> None:
    numeric = (int,) if kind == "int" else (int, float)
    if not all(_is_number(value, numeric) for value in values) or not values[0] < values[1]:
        raise ConfigError(f"search.space: {path}: {kind}: got {list(values)!r}, expected two {kind}s, the lower first.")
    if log and values[0] <= 0:
        raise ConfigError(f"search.space: {path}: got log from {values[0]}, expected numbers > 0.")
    if step is not None and (not _is_number(step, numeric) or step <= (1 if log else 0)):
        raise ConfigError(f"search.space: {path}: step: got {step!r}, expected a number > {1 if log else 0}" + " (a factor)" * log + ".")


def _is_number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and -math.inf < value < math.inf


def _read_condition(path: str, when: Any) -> tuple[str, tuple[Any, ...]] | None:
    if when is None:
        return None
    if not isinstance(when, dict) or len(when) != 1:
        raise ConfigError(f"search.space: {path}: when: got {when!r}, expected one {{other setting: value or list of values}}.")
    ((parent, values),) = when.items()
    return str(parent), tuple(values) if isinstance(values, list) else (values,)


def _check_condition(dimension: Dimension, dimensions: Mapping[str, Dimension]) -> None:
    if dimension.when is None:
        return
    parent, values = dimension.when
    if parent not in dimensions or dimensions[parent].kind != "choice":
        raise ConfigError(f"search.space: {dimension.path}: when: '{parent}' is not a choice of this space.")
    impossible = [value for value in values if value not in dimensions[parent].values]
    if impossible or not values:
        got = impossible[0] if impossible else []
        raise ConfigError(
            f"search.space: {dimension.path}: when: {parent} is never {got!r}: its choices are {list(dimensions[parent].values)!r}."
        )


def _ordered(dimensions: Mapping[str, Dimension]) -> list[Dimension]:
    done: dict[str, Dimension] = {}
    while len(done) < len(dimensions):
        ready = [each for each in dimensions.values() if each.path not in done and (each.when is None or each.when[0] in done)]
        if not ready:
            circle = next(path for path in dimensions if path not in done)
            raise ConfigError(f"search.space: {circle}: when: the conditions go in a circle.")
        done |= {each.path: each for each in ready}
    return list(done.values())


def hyperparameters(dimensions: Sequence[Dimension]) -> "keras_tuner.HyperParameters":
    """The space as KerasTuner sees it."""
    import keras_tuner

    found = keras_tuner.HyperParameters()
    by_path = {each.path: each for each in dimensions}
    for each in dimensions:
        condition = {}
        if each.when is not None:
            parent = by_path[each.when[0]]
            condition = {"parent_name": parent.path, "parent_values": [parent.encode(value) for value in each.when[1]]}
        if each.kind == "choice":
            found.Choice(each.path, [each.encode(value) for value in each.values], **condition)
            continue
        make = found.Int if each.kind == "int" else found.Float
        low, high = each.values if each.kind == "int" else map(float, each.values)
        make(each.path, low, high, step=each.step, sampling="log" if each.log else "linear", **condition)
    return found


def settings_of(values: Mapping[str, Any], dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """KerasTuner's values as settings by their paths; only of the dimensions that count with these values."""
    found: dict[str, Any] = {}
    for each in dimensions:
        if each.when is None or found.get(each.when[0], _NOTHING) in each.when[1]:
            found[each.path] = each.decode(values[each.path])
    return found
