"""Plain YAML: mappings, lists, texts, numbers, true, false and null, as configurations are written.

Files come from strangers, too. Tags name things to build, and aliases let a kilobyte stand for gigabytes: neither is read, nor is a
file that is very long or nested very deeply. Knows no settings.
"""

import re
from typing import Any

import yaml

LARGEST = 500_000  # characters: weights of 20,000 classes, which take seconds to read
DEEPEST = 20  # mappings and lists inside each other; a configuration has 5
LONGEST_SHOWN = 100  # characters of a value in a message
_PLAIN = ("bool", "float", "int", "null", "merge")  # how text without quotes is read; a date stays text: 2024-01-01 may be a class
_PREFIX = "tag:yaml.org,2002:"


class PlainYamlError(ValueError):
    """The text is not plain YAML; says where and why, on one line."""


def read_plain_yaml(text: str) -> tuple[object, list[str]]:
    """Read one document.

    Returns:
        What it holds, None where it holds nothing; and a line for each key that a mapping has twice, of which the last counts.

    Raises:
        PlainYamlError: it is not YAML, or has tags, aliases or anchors, or is too long or too deeply nested.
    """
    if len(text) > LARGEST:
        raise PlainYamlError(f"it has {len(text):,} characters, expected at most {LARGEST:,}")
    try:
        loader = _Loader(text)
        return loader.get_single_data(), loader.repeated
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise PlainYamlError(_problem(error)) from error


def shown(value: object) -> str:
    """A value as messages show it: on one line, without control characters, and cut where it is long."""
    try:
        return cut(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits has no decimal form; nested without end
        return f"a very large {type(value).__name__}"


def cut(text: str) -> str:
    """A text without control characters, and cut where it is long."""
    clean = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[: LONGEST_SHOWN + 1])
    return clean if len(text) <= LONGEST_SHOWN else f"{clean[:LONGEST_SHOWN]}... ({len(text):,} characters)"


class _Loader(yaml.SafeLoader):
    """Keys are text as it is written; those given twice, of which PyYAML silently keeps the last, are noted.

    YAML 1.1 reads the keys `yes`, `no`, `on` and `off` as true and false, and `01` as 1: here they are names of classes.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read a value, where it is plain."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refused(event, "found an anchor or an alias (& or *): write the value out each time, or quote the text")
        if getattr(event, "tag", None) is not None:
            raise _refused(event, "found a tag (!): leave it out, or quote the text")
        if self._depth >= DEEPEST:
            raise _refused(event, f"lists and mappings are nested more than {DEEPEST} deep")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                self.repeated.append(f"line {line}: key {shown(key.value)} was given on line {lines[key.value]} already. Keep one.")
            lines.setdefault(key.value, line)
            if key.tag != f"{_PREFIX}merge":
                key.tag = f"{_PREFIX}str"
        return super().construct_mapping(node, deep=deep)


class _WithoutColons:
    """How a number is written, but for those of YAML 1.1 to base 60: 1:30 is text, not 90, and a long one takes minutes to read."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def match(self, text: str) -> re.Match[str] | None:
        """As `re.Pattern.match`."""
        return None if ":" in text else self._pattern.match(text)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, _WithoutColons(pattern)) for tag, pattern in resolvers if tag.removeprefix(_PREFIX) in _PLAIN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refused(event: Any, why: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=why, problem_mark=event.start_mark)


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = cut(getattr(error, "problem", None) or str(error).partition("\n")[0])
    return f"line {mark.line + 1}: {problem}" if mark else problem
