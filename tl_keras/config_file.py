"""From files, flags and `--set` to a `Config`, and back to a file.

`load_config` merges the defaults, a YAML file, the flags and every `--set`, in this order, and reports all mistakes
of all of them at once; `to_yaml` writes a `Config`, resolved, to the run folder.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tl_keras.augment_policies import POLICY
from tl_keras.config import ALREADY_CHECKED, Config, Expected, fields
from tl_keras.errors import ConfigError
from tl_keras.plain_yaml import LARGEST, LONGEST_SHOWN, PlainYamlError, cut, read_plain_yaml, shown
from tl_keras.setting_users import at_work, is_used, together, why_idle
from tl_keras.short_forms import INSTEAD, MOST_MEANT, SHORT_FORMS, either, nearest, normal, settings_called

MOST_MISTAKES = 20  # that are told of at once
TEXTS_ALONE = (",", "|", ">")  # which are syntax in YAML: as a value on a command line they stand for themselves
MOST_IDLE = 5  # settings of a file that one line names
RENAMED = {  # settings by the name that they had in an older version
    "crossval.group_pattern": "data.group_pattern",
    "train.head_penalty": "train.head_c",
}


def load_config(
    mode: str,
    *,
    file: Path | str | None = None,
    flags: Mapping[str, tuple[str, object]] = MappingProxyType({}),
    sets: Sequence[str] = (),
    note: Callable[[str], None] | None = None,
) -> Config:
    """Merge defaults < `file` < `flags` < `sets`; if a path is set twice, the last one wins.

    Args:
        mode: one of `MODES`; a file's own `mode` gives way to it.
        file: a YAML file of sections, with only what differs from the defaults; a run folder's `config.yaml` will do.
        flags: name of a flag -> (path of the setting, its value or text), e.g. `{"--backbone": ("model.backbone", "vgg16")}`. Text is
            read as YAML, but for settings that are text themselves.
        sets: `path=value` each, with the value in YAML, e.g. `data.augment.zoom_range=[0.8, 1.2]`.
        note: is told of settings of the file that the mode does not use. A file may serve several modes; of flags and sets such
            settings are mistakes.

    Raises:
        ConfigError: anything is wrong; one line per mistake, with the file or flag, the path, what was got, what is
            allowed and the nearest name.
    """
    draft, texts = _Draft(), {form.setting for form in SHORT_FORMS.values() if form.is_text}
    if file is not None:
        draft.add_file(Path(file))
    for flag, (path, value) in flags.items():
        if isinstance(value, str) and path not in texts:
            draft.add_yaml(flag, path, value)
        else:
            draft.add_path(flag, path, value)
    for assignment in sets:
        draft.add_assignment(assignment)
    draft.add_path("--mode", "mode", mode)
    draft.refuse_idle(tolerated=str(file))
    if file is not None:
        draft.refuse_trust_of(str(file))
        if note is not None and (line := draft.idle_line(str(file))):
            note(line)
    return draft.config()


def make_config(mode: str | None, base: Config | None, short: Mapping[str, object], settings: Mapping[str, object]) -> Config:
    """Build a configuration from values of Python.

    Args:
        mode: None for that of `base`.
        base: what is changed; None for the defaults.
        short: names of `SHORT_FORMS` and other settings' last names -> values; where messages say so, these are the names they use.
        settings: paths -> values, such as `{"train.weight_decay": 0.05}`; they come last.

    Raises:
        ConfigError: as `load_config`.
    """
    draft = _Draft()
    if base is not None:
        draft.add_tree("config", "", base.model_dump())
    for name, value in short.items():
        draft.add_path(name, SHORT_FORMS[name].setting if name in SHORT_FORMS else name, value)
    draft.add_tree("settings", "", dict(settings))
    if mode is not None:
        draft.add_path("mode", "mode", mode)
    draft.refuse_idle(tolerated="config")
    return draft.config()


def to_yaml(config: Config) -> str:
    """Every setting, resolved; `from_yaml` gives back an equal `Config`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def used_settings(config: Config) -> dict[str, Any]:
    """The settings that the mode of a configuration uses, by their paths, as JSON and YAML have them."""
    dumped = config.model_dump(mode="json")

    def value_of(path: str) -> Any:
        return reduce(getitem, path.split("."), dumped)

    working = at_work(value_of)
    return {path: value_of(path) for path in fields() if is_used(path, working)}


def used_to_yaml(config: Config) -> str:
    """The settings that the mode of a configuration uses, for a person to read."""
    kept: dict[str, Any] = {}
    for path, value in used_settings(config).items():
        *sections, name = path.split(".")
        reduce(lambda part, section: part.setdefault(section, {}), sections, kept)[name] = value
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=120)


def from_yaml(text: str, name: str) -> Config:
    """Read what `to_yaml` wrote; `name` is what messages call the text.

    Raises:
        ConfigError: as `load_config`.
    """
    draft = _Draft(written_by_us=True)
    draft.add_text(name, text)
    return draft.config(name, context=ALREADY_CHECKED)


def from_run(text: str, name: str) -> Config:
    """Read the configuration of a run folder, but for what it allows: the folder may come from a stranger, whose word is not taken.

    A run that was made here goes on without: its data set is on disk, and its SavedModel on the list of this machine (`models.trust`).

    Raises:
        ConfigError: as `load_config`.
    """
    return without_allowance(from_yaml(text, name))


def without_allowance(config: Config) -> Config:
    """The same settings, but for those that allow something."""
    return config.replace("data.download", False).replace("model.trust", False).replace("export.sign_key", None)


def with_settings(config: Config, settings: Mapping[str, Any], origin: str) -> Config:
    """A configuration with some settings replaced, by their paths; `origin` is what messages call where they come from.

    Raises:
        ConfigError: as `load_config`.
    """
    draft = _Draft()
    draft.add_tree("config", "", config.model_dump())
    for path, value in settings.items():
        draft.add_path(origin, path, value)
    return draft.config(origin)


def with_own_sections(config: Config, sections: Sequence[str], settings: Mapping[str, Any] | Sequence[str]) -> Config:
    """The configuration of a run with settings of some sections replaced: those of a mode that uses the run, which has only these.

    Args:
        settings: by their paths, or as `path=value`.

    Raises:
        ConfigError: one of another section, or as `load_config`.
    """
    draft = _Draft()
    draft.add_tree("config", "", config.model_dump())
    for each in settings:
        path = each.partition("=")[0].strip()
        if path.partition(".")[0] not in sections:
            known = together([f"'{name}'" for name in sections])
            raise ConfigError(f"--set: {path}: only settings of {known} can be set here. The run's own are used. Remove it.")
        if isinstance(settings, Mapping):
            draft.add_path("settings", each, settings[each])
        else:
            draft.add_assignment(each)
    return draft.config("--set")


def check_value(path: str, value: object, origin: str) -> None:
    """Refuse a value that a setting cannot have, whatever the others are.

    Raises:
        ConfigError: with what is allowed.
    """
    field = fields()[path]
    try:
        TypeAdapter(cast(Any, Annotated[field.annotation, *field.metadata, None])).validate_python(value)
    except ValidationError:
        raise ConfigError(f"{origin}: {path}: got {shown(value)}, expected {allowed(field.annotation, field.metadata)}.") from None


class _Draft:
    """Values gathered by path, each with where it came from, and the mistakes met so far.

    Args:
        written_by_us: whether the values are those of a run, whose settings of an older version are taken under their new names.
    """

    def __init__(self, *, written_by_us: bool = False) -> None:
        self._written_by_us = written_by_us
        self._fields = fields()
        self._sections = {""} | {path.rpartition(".")[0] for path in self._fields}
        self._values: dict[str, Any] = {}
        self._origins: dict[str, str] = {}
        self._mistakes: list[str] = []
        self._idle: set[str] = set()

    def add_file(self, file: Path) -> None:
        try:
            with file.open(encoding="utf-8-sig") as opened:
                text = opened.read(LARGEST + 1)  # of a file without end, such as a device, no more than is refused
        except OSError as error:
            self._mistakes.append(f"{file}: cannot be read: {error.strerror}. --config expects a YAML file.")
        except UnicodeDecodeError:
            self._mistakes.append(f"{file}: is not UTF-8 text. --config expects a YAML file.")
        else:
            self.add_text(str(file), text)

    def refuse_trust_of(self, file: str) -> None:
        """Refuse a file, which may come from anyone, that asks to be trusted."""
        if self._origins.get("model.trust") == file and self._values["model.trust"] is not False:
            self._mistakes.append(
                f"{file}: model.trust: got {shown(self._values['model.trust'])}, expected false: a file cannot say whom you trust. "
                f"If you know who made the backbone, add --set model.trust=true."
            )

    def refuse_idle(self, *, tolerated: str) -> None:
        """Refuse settings that nothing uses, but for those that come from `tolerated`."""
        working = at_work(self._value)
        self._idle = {path for path in self._values if not is_used(path, working) and self._origins[path] != tolerated}
        self._mistakes += [f"{self._origins[path]}: {path}: {why_idle(path, self._value)}" for path in self._values if path in self._idle]

    def idle_line(self, origin: str) -> str:
        """A line on those settings of an origin that are not the defaults and that nothing uses; empty where there are none."""
        working = at_work(self._value)
        idle = [path for path, value in self._values.items() if self._origins[path] == origin and not is_used(path, working)]
        idle = [path for path in idle if _as_default(self._values[path]) != self._fields[path].get_default(call_default_factory=True)]
        if not idle:
            return ""
        shown = idle if len(idle) <= MOST_IDLE else [*idle[: MOST_IDLE - 1], f"{len(idle) - MOST_IDLE + 1} more settings"]
        return f"{origin}: {self._value('mode')} does not use {together(shown)}"

    def _value(self, path: str) -> Any:
        """The value of a setting as it stands, checked or not."""
        return self._values[path] if path in self._values else self._fields[path].get_default(call_default_factory=True)

    def add_text(self, name: str, text: str) -> None:
        tree = self._parse(name, text)
        if tree is not None:  # a file of comments only changes nothing
            self.add_tree(name, "", tree)

    def add_assignment(self, assignment: str) -> None:
        path, equals, text = assignment.partition("=")
        if not equals:
            self._mistakes.append(f"--set: got {shown(assignment)}, expected path=value, e.g. train.learning_rate=1e-3.")
            return
        self.add_yaml("--set", path.strip(), text)

    def add_yaml(self, origin: str, path: str, text: str) -> None:
        before = len(self._mistakes)
        alone = text.strip() in TEXTS_ALONE
        value = text.strip() if alone else self._parse(f"{origin}: {cut(path)}", text)
        if len(self._mistakes) == before:
            self.add_path(origin, path, value)

    def add_path(self, origin: str, path: str, value: object) -> None:
        if path == "search.space" and self._written_by_us and isinstance(value, dict):
            value = {RENAMED.get(varied, varied): declared for varied, declared in value.items()}
        if path == POLICY:
            self._forget_below(POLICY.rpartition(".")[0], origin)
        if path in self._fields:
            self._values[path], self._origins[path] = value, origin
        elif path in RENAMED:
            self._add_renamed(origin, path, value)
        elif path and path in self._sections:
            self.add_tree(origin, path, value)
        elif len(self._mistakes) > MOST_MISTAKES:
            self._mistakes.append("")  # one more, of which nothing is said: looking for like names takes a while
        else:
            hint = self._nearest_key(path) if len(path) <= LONGEST_SHOWN else f"Keys: {self._keys('')}."
            self._mistakes.append(f"{origin}: unknown key {shown(path)}. {hint}")

    def _forget_below(self, section: str, origin: str) -> None:
        """Drop what was set in a section from elsewhere, such as by the file of a run, which lists every setting: a policy replaces it."""
        for path in [path for path in self._values if path.startswith(f"{section}.") and self._origins[path] != origin]:
            del self._values[path], self._origins[path]

    def _add_renamed(self, origin: str, path: str, value: object) -> None:
        """Say the new name of a setting; null is passed over, as the files of older runs list the settings that they did not use."""
        if value is not None and self._written_by_us:
            self.add_path(origin, RENAMED[path], value)
        elif value is not None:
            self._mistakes.append(f"{origin}: {path} has been renamed: write {RENAMED[path]}.")

    def add_tree(self, origin: str, path: str, tree: object) -> None:
        if isinstance(tree, dict):
            for key, value in tree.items():
                self.add_path(origin, f"{path}.{key}" if path else str(key), value)
        elif tree is not None:  # `train:` with nothing below it
            where = f"{origin}: {path}" if path else origin
            self._mistakes.append(f"{where}: got {shown(tree)}, expected a mapping with keys {self._keys(path)}.")

    def _parse(self, name: str, text: str) -> object:
        try:
            tree, repeated = read_plain_yaml(text)
        except PlainYamlError as error:
            self._mistakes.append(f"{name}: is not valid YAML: {error}.")
            return None
        self._mistakes += [f"{name}: {twice}" for twice in repeated]
        return tree

    def _keys(self, section: str) -> str:
        """The names in a section, quoted."""
        prefix = f"{section}." if section else ""
        inside = [path.removeprefix(prefix) for path in self._fields if path.startswith(prefix)]
        return ", ".join(dict.fromkeys(repr(path.partition(".")[0]) for path in inside))

    def _nearest_key(self, path: str) -> str:
        """What to write in place of an unknown path: the same name elsewhere, a like name, or the names there are."""
        section, _, name = path.rpartition(".")
        if normal(name) in INSTEAD:
            return INSTEAD[normal(name)]
        called = settings_called(name, [*self._sections - {""}, *self._fields])
        if called and called[0].rpartition(".")[2] == name:
            return f"{name!r} belongs in {called[0]!r}."
        near = nearest(path, [*self._fields, *(self._sections - {section, ""})] if section else self._sections - {""})
        if len(called) == 1 or (near in (None, *called) and 1 < len(called) <= MOST_MEANT):
            return f"Did you mean {either(called)}?"
        by_name = {normal(setting.rpartition(".")[2]): setting for setting in self._fields}
        near = near or (None if called else by_name.get(normal(nearest(name, by_name) or "")))
        if near:
            return f"Did you mean {near!r}?"
        if section in self._sections:
            return f"Keys of {section!r}: {self._keys(section)}." if section else f"Keys: {self._keys('')}."
        return self._nearest_key(section)

    def config(self, name: str = "", context: dict[str, bool] | None = None) -> Config:
        """Check the values together with what was noted before.

        Args:
            context: `ALREADY_CHECKED`, where settings that contradict each other were refused long ago.

        Raises:
            ConfigError: with all mistakes, a line each.
        """
        try:
            config = Config.model_validate(self._tree(), context=context)
        except ValidationError as error:
            lines = [line for one in error.errors() for line in self._describe(dict(one), name)]
            lines = [line for line in lines if not any(f": {path}: " in line for path in self._idle)]  # these are told already
            raise ConfigError(_listed([*self._mistakes, *dict.fromkeys(lines)])) from None
        if self._mistakes:
            raise ConfigError(_listed(self._mistakes))
        return config

    def _tree(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for path, value in self._values.items():
            *sections, key = path.split(".")
            branch = tree
            for section in sections:
                branch = branch.setdefault(section, {})
            branch[key] = value
        return tree

    def _describe(self, error: dict[str, Any], name: str) -> list[str]:
        """The lines for one of pydantic's errors; the branches of a union all give the same line."""
        places = [str(part) for part in error["loc"]]
        if error["type"] == "contradiction":
            paths = {".".join([*places, field]): reason for field, reason in error["ctx"]["found"]}
            return [f"{self._origin(path)}: {path}: {reason}" for path, reason in paths.items()]
        path = next(p for n in range(1, len(places) + 1) if (p := ".".join(places[:n])) in self._fields)
        field = self._fields[path]
        expected = f"expected {allowed(field.annotation, field.metadata)}."
        if path not in self._values:
            return [f"{name}: {path} is missing, {expected}"]
        value = self._values[path]
        near = nearest(value, _choices(field.annotation)) if isinstance(value, str) and len(value) <= LONGEST_SHOWN else None
        hint = f" Did you mean {near!r}?" if near else ""
        kind = int if "integers" in expected else str
        if expected.startswith("expected a list of ") and type(value) is kind and not hint:
            hint = f" Write [{cut(str(value))}]."
        return [f"{self._origins[path]}: {path}: got {shown(value)}, {expected}{hint}"]

    def _origin(self, path: str) -> str:
        """Where a path's value came from, or, where it is the default, the last other value of its section."""
        section = path.rpartition(".")[0]
        near = [origin for known, origin in self._origins.items() if known.rpartition(".")[0] == section]
        return self._origins.get(path, near[-1])


def _as_default(value: object) -> object:
    """A value of YAML as a default has it: a list is a tuple there."""
    return tuple(value) if isinstance(value, list) else value


def _listed(mistakes: Sequence[str]) -> str:
    """A line each, as many as somebody reads."""
    more = len(mistakes) - MOST_MISTAKES
    return "\n".join(mistakes if more <= 0 else [*mistakes[:MOST_MISTAKES], f"and {more:,} more mistakes"])


_KINDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def allowed(annotation: Any, metadata: Sequence[object] = ()) -> str:
    """A type and its bounds in words, e.g. 'an integer >= 1, or null'."""
    for mark in metadata:
        if isinstance(mark, Expected):
            return mark.phrase
    args = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return allowed(args[0], [*_unfold(args[1:]), *metadata])
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(repr, args))
    if get_origin(annotation) in (Union, UnionType):
        return ", or ".join(allowed(arg, metadata) for arg in args)
    signs = [f"{sign} {getattr(mark, at)}" for mark in metadata for at, sign in _BOUNDS.items() if hasattr(mark, at)]
    return " ".join([_KINDS[annotation], " and ".join(signs if annotation in (int, float) else [])]).strip()


def _unfold(metadata: Sequence[object]) -> list[object]:
    """`Field(ge=1)` inside an `Annotated` holds its bounds as metadata of its own."""
    return [inner for mark in metadata for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]


def _choices(annotation: Any) -> list[str]:
    """The words that a setting may be."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for arg in get_args(annotation) for word in _choices(arg)]
