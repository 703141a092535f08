"""The command line: from arguments to checked options, before anything else is imported.

`tl-keras MODE [DATA or RUN] [more] [--options]`; `--mode MODE` works in every place. What the options mean is `run`'s business.
"""

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from tl_keras import __version__, run_folder
from tl_keras.errors import ConfigError
from tl_keras.explanations import METHOD_NAMES, NEIGHBOURS
from tl_keras.export_formats import FORMAT_NAMES
from tl_keras.modes import MODES, Mode, called_elsewhere
from tl_keras.short_forms import MOST_MEANT, SHORT_FORMS, either, flag_of, nearest, normal, setting_named, settings_called

RUNS = Path(run_folder.RUNS)
DESCRIPTION = """\
Transfer learning for images: from a folder of labelled images to a verified classifier.

modes:
{modes}
  cache       list or prune the features that runs have stored
  settings    print every setting, or those of a section
"""
EPILOG = """\
examples:
  tl-keras finetune                                  the bundled digits, offline
{examples}
  tl-keras cache list                                stored features; or prune
`python -m tl_keras` is the same as `tl-keras`.
"""
PATH_HELP = (
    "first the images, as with --data; evaluate, compare, report, predict, explain, export, verify, serve: a run's folder, as with "
    "--run-dir. Then rank: backbones; ensemble: backbones or runs; evaluate: other images; compare: another run; report: other runs; "
    "predict, explain: files, folders or globs"
)
RUN_ELSEWHERE = ("checkpoint", "ckpt", "load", "model", "modeldir", "modelpath", "run", "weights")  # for --run-dir of a run's users


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are ConfigErrors: one line, and the nearest name."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message[0].lower() + message[1:] + self._near(message) + ". See --help.")

    def _near(self, message: str) -> str:
        wrong = [word for word in message.split() if word.startswith("-")]
        near = like_flags(wrong[0].partition("=")[0], flags(self)) if "unrecognized" in message and wrong else []
        return f" (did you mean {either(near)}?)" if near else ""


def flags(parser: argparse.ArgumentParser) -> list[str]:
    """Every option string of a parser."""
    return [flag for action in parser._actions for flag in action.option_strings]


def like_flags(word: str, known: Iterable[str]) -> list[str]:
    """The flags that a word may be a slip of: those that it begins, else the nearest."""
    long = [flag for flag in known if flag.startswith("--")]
    begun = [flag for flag in long if len(normal(word)) > 2 and normal(flag).startswith(normal(word))]
    near = nearest(word, long)
    return begun or ([near] if near else [])


def positive(text: str) -> int:
    """A number >= 1 on the command line."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"got '{text}', expected an integer >= 1")
    return int(text)


def port_number(text: str) -> int:
    """A port on the command line."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"got '{text}', expected an integer from 0 to 65535; 0 takes a free one")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """A part of the images on the command line: 'K/N' -> (K, N)."""
    found = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if found is None or not int(found[1]) < int(found[2]):
        raise argparse.ArgumentTypeError(f"got '{text}', expected K/N, part K of N parts, from 0/N to N-1/N")
    return int(found[1]), int(found[2])


def program() -> str:
    """How this command line was called, for lines that can be pasted: `tl-keras`, or the interpreter with its module."""
    called = Path(sys.argv[0])
    if called.name in ("__main__.py", "run.py") and called.parent.name == "tl_keras":
        here = Path(sys.executable)
        here = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
        python = "python" if shutil.which("python") == sys.executable else shlex.quote(str(here))
        return f"{python} -m tl_keras" + ".run" * (called.name == "run.py")
    if called.name == "tl-keras" and shutil.which("tl-keras") != str(called):
        return shlex.quote(str(called))
    return "tl-keras"


def examples() -> str:
    """The examples of the help, a command a line."""
    rows = [mode.example for mode in MODES.values() if mode.example]
    return EPILOG.format(examples="\n".join(f"  tl-keras {command:40}  {meaning}".rstrip() for command, meaning in rows))


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog=program(),
        usage="%(prog)s MODE [DATA | RUN] [PATH ...] [options]",
        description=DESCRIPTION.format(modes="\n".join(f"  {mode.name:10}  {mode.help}" for mode in MODES.values())),
        epilog=examples(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--mode", metavar="MODE", help="one of the modes; or the first word, without --mode")
    made.add_argument("--config", metavar="FILE", type=Path, help="a YAML file with what differs from the defaults")
    made.add_argument("--run-dir", metavar="DIR", type=Path, help=f"the run's folder (default: a new one below {RUNS}/)")
    made.add_argument("--output-dir", metavar="DIR", type=Path, help="the same as --run-dir, for the modes that create a run")
    made.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="sets",
        help="any setting, such as train.weight_decay=0.05; repeatable; `tl-keras settings` lists them",
    )
    made.add_argument(
        "--workers",
        metavar="N",
        type=positive,
        default=0,
        help="search: run the trials in N processes; finetune, pretrain: N processes train together; several machines: see docs/scale.md",
    )
    made.add_argument(
        "--resume", action="store_true", help="continue the interrupted training run, search or cross-validation in --run-dir"
    )
    made.add_argument(
        "--dry-run",
        action="store_true",
        help="show what a training run would do, with its time, memory and disk space; train nothing",
    )
    made.add_argument(
        "--shard",
        metavar="K/N",
        type=shard,
        help="extract, finetune: only compute and store the frozen features of part K of N of the images, from 0 on; see docs/scale.md",
    )
    made.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="predict: write here, .csv or .jsonl (default: CSV to standard output); compare: the images that changed; report: the page "
        "(.html) that puts several runs side by side",
    )
    made.add_argument("--against", metavar="DIR", type=Path, help="compare: the folder of the other run")
    made.add_argument(
        "--min-accuracy", metavar="SHARE", type=float, help="evaluate, export: the exit status is 3 where the accuracy is lower"
    )
    made.add_argument("--max-ece", metavar="SHARE", type=float, help="evaluate, export: the same where the calibration error is higher")
    made.add_argument("--corrupt", action="store_true", help="evaluate: also on the images blurred, noisy, compressed and dark")
    made.add_argument(
        "--coverage",
        metavar="SHARE",
        type=float,
        help="predict, serve: also a set of classes for each image, with the true one in it for this share of images, such as 0.9",
    )
    made.add_argument(
        "--min-precision",
        metavar="SHARE",
        type=float,
        help="predict: also whether each answer is accepted, so that this share of those accepted is right, such as 0.95",
    )
    made.add_argument(
        "--format",
        metavar="NAME",
        action="append",
        default=[],
        dest="formats",
        help=f"export, compress: {either(FORMAT_NAMES)}; repeatable (default: the first, or three of LiteRT); predict, serve: the export "
        "that answers",
    )
    made.add_argument("--method", metavar="NAME", help=f"explain: {either(METHOD_NAMES)}, how maps are made (default: the first)")
    made.add_argument("--label", metavar="CLASS", help="explain: the class that maps are for (default: what the model answers)")
    made.add_argument(
        "--neighbours",
        metavar="N",
        type=int,
        help=f"explain: training images beside each (default: {NEIGHBOURS}); serve: shown to whoever asks (default: none)",
    )
    made.add_argument(
        "--public-key", metavar="FILE", type=Path, help="verify: the public part of the key that export.sign_key has signed with"
    )
    made.add_argument("--host", metavar="ADDRESS", help="serve: listen there (default: 127.0.0.1, this machine only)")
    made.add_argument("--port", metavar="N", type=port_number, help="serve: and on this port (default: 8000)")
    made.add_argument("--access-log", action="store_true", help="serve: write each request to the standard error, a line of JSON")
    made.add_argument(
        "--fix",
        choices=("quarantine",),
        help="check: quarantine writes a list of suspect images that training can leave out; no image is moved",
    )
    made.add_argument("--version", action="version", version=f"tl_keras {__version__}")
    short = made.add_argument_group("short forms of settings")
    for name, form in SHORT_FORMS.items():
        short.add_argument(flag_of(name), *form.aliases, dest=name, metavar=form.metavar, help=f"{form.setting}: {form.help}")
    made.add_argument("paths", metavar="PATH", nargs="*", help=PATH_HELP)
    return made


def read_options(words: Sequence[str]) -> argparse.Namespace:
    """Options from the words of a command line, checked against what their mode takes.

    Raises:
        ConfigError: a word that means nothing here, with what does.
        SystemExit: after --help and --version.
    """
    made = parser()
    options = made.parse_intermixed_args(known_flags(words, flags(made)))
    place_words(options)
    check_options(options)
    return options


def known_flags(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """The words with every flag as it is written here: `--Batch_Size=8` is `--batch-size=8`.

    Raises:
        ConfigError: a flag that there is not.
    """
    by_normal = {normal(flag): flag for flag in known if flag.startswith("--")}
    end = words.index("--") if "--" in words else len(words)
    found = []
    for place, word in enumerate(words[:end]):
        flag, equals, value = word.partition("=")
        if not flag.startswith("--"):
            found.append(word)
        elif normal(flag) in by_normal:
            found.append(by_normal[normal(flag)] + equals + value)
        else:
            behind = value if equals else next((each for each in words[place + 1 : place + 2] if not each.startswith("-")), "")
            uses_run = any(uses_a_run(word.removeprefix("--mode=")) for word in words)
            raise ConfigError(f"{flag}: there is no such option{instead_of(flag, behind, known, uses_run=uses_run)}. See --help.")
    return [*found, *words[end:]]


def instead_of(flag: str, value: str, known: Sequence[str], *, uses_run: bool) -> str:
    """What to write in place of a flag that there is not, as the end of a sentence; empty where nothing is really like it."""
    from tl_keras.config import fields

    name = flag.removeprefix("--")
    if uses_run and normal(name) in RUN_ELSEWHERE:
        return ". The folder of a run is given with --run-dir"
    near = like_flags(flag, known)
    if near and not setting_named(name, fields()):
        return f" (did you mean {either(near)}?)"
    short = {form.setting: flag_of(name) for name, form in SHORT_FORMS.items()}
    value = shlex.quote(value) if value else "VALUE"
    called = settings_called(name, fields())
    written = [f"{short[path]} {value}" if path in short else f"--set {path}={value}" for path in called]
    return f". Write {' or '.join(written)}" if 0 < len(written) <= MOST_MEANT else ""


def place_words(options: argparse.Namespace) -> None:
    """Take the mode, the data and the run's folder from the words without a flag; what is left are paths.

    Behind `--mode rank` and `--mode ensemble` such words have always been backbones and runs.
    """
    by_flag = options.mode is not None
    if not by_flag and options.paths:
        options.mode = options.paths.pop(0)
    options.mode = {normal(name): name for name in MODES}.get(normal(str(options.mode)), options.mode)
    mode = MODES.get(options.mode)
    places = ("run_dir",) if options.resume else () if mode is None else mode.words
    if mode is not None and mode.paths is not None:
        places = () if by_flag or (mode.name == "ensemble" and options.paths and may_be_run(options.paths[0])) else places
        if places and options.data is None:
            refuse_backbone_as_data(mode.name, options.paths)
    for name in places:
        if options.paths and getattr(options, name) is None:
            setattr(options, name, options.paths.pop(0))
    if options.output_dir is not None and options.run_dir is None and not uses_a_run(options.mode):
        options.run_dir, options.output_dir = options.output_dir, None
    for name in ("run_dir", "against"):
        if getattr(options, name) is not None:
            setattr(options, name, run_of(getattr(options, name)))


def refuse_backbone_as_data(mode: str, words: Sequence[str]) -> None:
    """Refuse `tl-keras rank resnet50`: the images come first."""
    from tl_keras.models.backbone_names import table_name
    from tl_keras.models.backbones import BACKBONES

    if words and table_name(words[0]) in BACKBONES and not Path(words[0]).exists():
        raise ConfigError(f"'{words[0]}' is a backbone, and the images come first: tl-keras {mode} DATA {shlex.join(words)}.")


def may_be_run(word: str) -> bool:
    """Whether a word is the folder of a run, or a path that leads nowhere."""
    return is_run(word) or ("/" in word.rstrip("/") and "://" not in word and not Path(word).expanduser().exists())


def is_run(word: str) -> bool:
    """Whether a folder is a run's."""
    return (Path(word).expanduser() / "config.yaml").is_file()


def run_of(path: Path | str) -> Path:
    """The folder of a run, of which the folder itself or its model.keras is given."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"run_dir: got a {type(path).__name__}, expected the path of a run's folder.")
    path = Path(path).expanduser()
    return path.parent if path.name == "model.keras" and not path.is_dir() else path


def check_options(options: argparse.Namespace) -> None:
    """Refuse a mode that there is not, and options that the mode would ignore."""
    mode = MODES.get(options.mode)
    if mode is None:
        raise ConfigError(unknown_mode(options.mode))
    used = mode.options
    given = [name for name, value in vars(options).items() if value not in (None, False, [])]
    idle = [name for name in given if name not in used]
    resumes = options.resume and "resume" in used
    if resumes and not idle:
        moved = ("data",) if "data" in mode.passes else ()  # where its images lie now
        idle = [name for name in given if name not in ("mode", "run_dir", "resume", "workers", *moved)]  # a search may go on with fewer
    if options.shard is not None:
        check_shard(options)
    if options.dry_run and options.workers:
        raise ConfigError("--workers: --dry-run trains nothing. Remove one of them.")
    if options.output_dir is not None and options.run_dir is not None and mode.makes_run:
        raise ConfigError("--output-dir: means the same as --run-dir, which is given too. Remove one of them.")
    if idle:
        raise ConfigError(refusal(idle[0], mode, options, resumes=resumes))
    lacks = options.run_dir is None or ("against" in used and options.against is None)
    if lacks and (options.resume or not mode.makes_run):
        word = f"{mode.name} --resume" if options.resume else mode.name
        if "against" in used:
            raise ConfigError(f"{mode.name}: expected the folders of two runs, such as: tl-keras {mode.name} {RUNS}/A {RUNS}/B.")
        raise ConfigError(f"{mode.name}: expected the folder of a run, such as: tl-keras {word} {RUNS}/NAME (or --run-dir {RUNS}/NAME).")


def check_shard(options: argparse.Namespace) -> None:
    """Refuse what does nothing where features are stored and nothing is trained."""
    for name in ("dry_run", "workers", "run_dir", "output_dir"):
        if getattr(options, name):
            raise ConfigError(f"{flag_of(name)}: --shard stores features and makes no run folder. Remove one of them.")


def uses_a_run(name: str) -> bool:
    """Whether this is a mode that uses a run, and makes none."""
    return name in MODES and not MODES[name].makes_run


def unknown_mode(mode: str | None) -> str:
    """What is wrong with a mode that there is not, and which one is meant."""
    expected = f"expected one of {', '.join(MODES)}"
    if mode is None:
        return f"--mode: got nothing, {expected}. It is the first word: tl-keras finetune photos/."
    if meant := called_elsewhere(normal(mode)):
        return f"--mode: got '{mode}', {expected}. Take {either(meant)}{' (extract: the head only)' * (len(meant) > 1)}."
    near = nearest(mode, MODES)
    if near is None and Path(mode).exists():
        return f"'{mode}': {expected} first, such as: tl-keras finetune {shlex.quote(mode)}."
    return f"--mode: got '{mode}', {expected}." + (f" Did you mean '{near}'?" if near else "")


def refusal(name: str, mode: Mode, options: argparse.Namespace, *, resumes: bool) -> str:
    """Why an option does nothing here, and what does."""
    from tl_keras.config import fields

    flag = {"sets": "--set", "paths": f"'{options.paths[0]}'" if options.paths else ""}.get(name, flag_of(name))
    if resumes and mode.makes_run:
        return f"{flag}: --resume continues with the run's own settings. Remove it."
    hint = ""
    if name == "paths" and "backbone" in mode.forms:
        if unset := next((text for text in options.sets if "=" not in text), None):
            return f"--set: got '{unset}' and the word {flag}, expected --set {unset}={shlex.quote(options.paths[0])}, with = and no space."
        hint = " A backbone is given with --backbone. A name with spaces needs quotes."
        if "=" in options.paths[0]:
            hint = f" Each setting needs a --set of its own: --set {shlex.quote(options.paths[0])}."
    elif name == "backbone" and mode.paths is not None:
        hint = f" Backbones are given as words: tl-keras {mode.name} DATA {shlex.quote(options.backbone)}."
    elif name == "output_dir":
        hint = " The folder of a run is given with --run-dir" + (", the file to write with --output." if "output" in mode.options else ".")
    elif mode.section is not None and f"{mode.section}.{name}" in fields():
        hint = f" Write --set {mode.section}.{name}={getattr(options, name)}."
    elif not mode.makes_run and (name in SHORT_FORMS or name in ("sets", "config")):
        hint = " The run's own settings are used."
    return f"{flag}: {mode.name} does not use it. Remove it.{hint}"
