"""The settings, the modes and the backbones as text: what `tl-keras settings` prints, and the tables of the README and of docs/.

    python -m tl_keras.reference README.md docs/settings.md docs/training.md docs/backbones.md

writes those tables again. Each stands between `<!-- NAME -->` and `<!-- /NAME -->`, where NAME is a row of `TABLES`.
"""

import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tl_keras.adaptations import ADAPTATIONS
from tl_keras.augment_policies import POLICIES
from tl_keras.config import Config, Section, fields
from tl_keras.config_file import allowed
from tl_keras.errors import ConfigError
from tl_keras.export_formats import EXPORT_FORMATS
from tl_keras.modes import MODES
from tl_keras.setting_users import CASES, EVERY, together, users_of
from tl_keras.short_forms import nearest

WITHIN = "    "


def settings_lines(section: str = "", width: int = 80) -> Iterator[str]:
    """Every setting of a section with its default, what it may be, what it means and who uses it.

    Args:
        section: such as 'train' or 'data.augment', or one setting; empty for all.
        width: columns of the terminal.

    Raises:
        ConfigError: there is no such section.
    """
    for path in settings_in(section):
        field = fields()[path]
        yield f"{path}: {default_of(path)}"
        for text in (f"{field.description}.", f"Expected: {allowed(field.annotation, field.metadata)}.", f"Used by {used_by(path)}."):
            sentence = text[0].upper() + text[1:]
            yield from textwrap.wrap(sentence, width, initial_indent=WITHIN, subsequent_indent=WITHIN, break_on_hyphens=False)


def settings_in(section: str) -> list[str]:
    """The paths of the settings in a section, or the one of this name."""
    known = [path for path in fields() if path != "mode"]
    found = [path for path in known if not section or path == section or path.startswith(f"{section}.")]
    if not found:
        sections = [name for name, _ in sections_of()]
        near = nearest(section, [*sections, *known])
        hint = f" Did you mean '{near}'?" if near else ""
        raise ConfigError(f"settings: got '{section}', expected a setting or one of the sections {', '.join(sections)}.{hint}")
    return found


def default_of(path: str) -> str:
    """The default of a setting, as YAML writes it."""
    return _as_yaml(fields()[path].get_default(call_default_factory=True))


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()


def used_by(path: str) -> str:
    """Who uses a setting, in words."""
    users = users_of(path)
    return "every mode that makes a run" if users == EVERY else together([CASES.get(user, user) for user in users])


def sections_of(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The path of each section, with what it is about."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield f"{prefix}{name}", (kind.__doc__ or "").strip()
            yield from sections_of(kind, f"{prefix}{name}.")


def modes_table() -> str:
    """The modes as a table of Markdown."""
    return "\n".join(["| mode | what it does |", "|---|---|", *(f"| `{mode.name}` | {mode.help} |" for mode in MODES.values())])


def settings_tables() -> str:
    """The settings as Markdown: a heading and a table for each section."""
    return "\n\n".join("\n".join(_section_lines(name, about)) for name, about in sections_of())


def _section_lines(section: str, about: str) -> Iterator[str]:
    yield f"## {section}"
    yield ""
    yield re.sub(r"\n\s*", "\n", about)
    yield ""
    yield "| setting | default | expected | meaning | used by |"
    yield "|---|---|---|---|---|"
    for path in settings_in(section):
        if path.rpartition(".")[0] == section:
            field = fields()[path]
            cells = (f"`{path}`", f"`{default_of(path)}`", allowed(field.annotation, field.metadata), field.description, used_by(path))
            yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def policies_table() -> str:
    """What each policy of augmentation sets, as a table of Markdown."""
    lines = ["| `data.augment.policy` | what it sets in this section |", "|---|---|"]
    for name, values in POLICIES.items():
        told = ", ".join(f"`{option}: {_as_yaml(value)}`" for option, value in values.items())
        lines.append(f"| `{name}` | {told or 'nothing: the defaults, with a random resized crop'} |")
    return "\n".join(lines)


def adaptations_table() -> str:
    """What each method of adaptation does, as a table of Markdown."""
    lines = ["| `adapt.method` | what it does | reference |", "|---|---|---|"]
    lines += [f"| `{name}` | {one.help} | {one.reference} |" for name, one in ADAPTATIONS.items()]
    return "\n".join(lines)


def exports_table() -> str:
    """The export formats as a table of Markdown."""
    lines = ["| `--format` | in `export/` | what it is | packages |", "|---|---|---|---|"]
    lines += [f"| `{name}` | `{row.file}` | {row.help} | {', '.join(row.needs)} |" for name, row in EXPORT_FORMATS.items()]
    return "\n".join(lines)


def backbones_table() -> str:
    """The rows of the table of backbones as a table of Markdown."""
    from tl_keras.models.backbones import BACKBONES

    lines = ["| `--backbone` | pixels | million weights | licence of the weights | paper |", "|---|---:|---:|---|---|"]
    for row in BACKBONES.values():
        paper = f"[{row.paper}](https://arxiv.org/abs/{row.paper})"
        lines.append(f"| `{row.name}` | {row.image_size} | {row.num_parameters / 1e6:.1f} | {row.licence} | {paper} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "modes": modes_table,
    "settings": settings_tables,
    "policies": policies_table,
    "adaptations": adaptations_table,
    "exports": exports_table,
    "backbones": backbones_table,
}


def with_tables(text: str) -> str:
    """A document with what stands between the marks of `TABLES` as it is now."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        if found:
            _, found_end, after = rest.partition(end)
            if not found_end:
                raise ValueError(f"'{begin.strip()}' has no '{end.strip()}'")
            text = before + begin + table() + end + after
    return text


def main(files: Sequence[str]) -> None:
    """Write the tables of documents again."""
    for file in map(Path, files):
        file.write_text(with_tables(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
