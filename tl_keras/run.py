"""`tl-keras MODE ...`: arguments -> Config -> a mode -> exit status. The only place that prints, beside `api`'s progress.

Exit status: 0 when done, 3 when a check found errors in the images, 2 for a mistake that the user can mend or a file that the
system does not give or take (one line on standard error), 130 after Ctrl-C and 143 after SIGTERM, which is treated alike, 1 with a
traceback for a defect of this package.
TensorFlow is imported only once a mode needs it.
"""

import argparse
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TextIO

from tl_keras import advice
from tl_keras.arguments import Parser, parser, program, read_options
from tl_keras.errors import ConfigError, FileError, LostImageError, UserError, from_os
from tl_keras.explanations import require_options
from tl_keras.interrupts import Terminated, noted_interrupts, raise_noted, sent_again
from tl_keras.launch import (
    Asked,
    check_files,
    check_images,
    check_more_runs,
    check_names,
    check_output,
    check_run,
    import_workflow,
    make_run_dir,
    makes_folder,
    new_run_dir,
    prepare_for_workers,
    remove_unused,
    stored_config,
)
from tl_keras.modes import MODES, Mode, load
from tl_keras.packages import require_packages
from tl_keras.run_folder import RunFolder
from tl_keras.short_forms import SHORT_FORMS, flag_of
from tl_keras.tf_config import place_in

if TYPE_CHECKING:
    from rich.table import Table

    from tl_keras.config import Config
    from tl_keras.terminal.progress import ConsoleProgress

DAY_S = 86_400.0
FOUND_FAULTS = 3  # exit status
WIDEST = 100  # columns of text that somebody likes to read


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names of files need not be UTF-8
    if given in ([], ["help"]):
        parser().print_help()
        return 0 if given else 2  # nothing was asked for, which a script should hear of
    try:
        with sent_again(), noted_interrupts(as_program=True):
            return obey(given)
    except UserError as error:
        return refuse(error)
    except KeyboardInterrupt as interrupt:
        print(f"interrupted. {interrupt}" if str(interrupt) else "interrupted.", file=sys.stderr)
        return 143 if isinstance(interrupt, Terminated) else 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        drop_output()
        return 0
    except OSError as error:
        if error.filename is None:  # else Python's last flush fails again
            drop_output()
        return refuse(from_os(error))


def obey(given: Sequence[str]) -> int:
    """Do what the arguments say; the exit status."""
    status = 0
    try:
        if given[0] in TOOLS:
            TOOLS[given[0]](given[1:])
        else:
            status = run_mode(read_options(given), given)
        sys.stdout.flush()  # what does not fit on a disk is said here
    finally:
        remove_unused()
    return status


def refuse(error: UserError) -> int:
    """Print a mistake that the user can mend; the exit status."""
    for line in str(error).splitlines():
        print(f"{error.kind}: {line}", file=sys.stderr)
    return 2


def drop_output() -> None:
    """Let nothing more go to the standard output, which takes no more."""
    with suppress(OSError, ValueError):  # a stream of Python's own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def configure(options: argparse.Namespace) -> "Config":
    """Build the configuration of a mode that makes a run folder from the options."""
    from tl_keras.config_file import load_config

    mode = MODES[options.mode]
    names = [name for name in mode.forms if getattr(options, name) is not None]
    flags: dict[str, tuple[str, object]] = {flag_of(name): (SHORT_FORMS[name].setting, getattr(options, name)) for name in names}
    if options.paths and mode.paths is not None:
        flags["PATH"] = (mode.paths, options.paths)
    return load_config(options.mode, file=options.config, flags=flags, sets=options.sets, note=print_line)


def print_line(text: str) -> None:
    """Print a line before there is anything to show the progress of."""
    from rich.console import Console

    from tl_keras.terminal.progress import ConsoleProgress

    ConsoleProgress(Console()).line(text)


def run_mode(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run a mode, and show its result; the exit status.

    Args:
        words: that the options are made of.
    """
    mode = MODES[options.mode]
    if mode.name == "search" and is_worker(options):
        work(options)
        return 0
    if mode.spreads and not options.workers:
        end_with_parent()
    require_packages(mode.name, mode.needs)
    asked = prepare(mode, options)
    if options.dry_run:
        dry_run(asked.config)
        return 0
    if options.shard is not None:
        fill(asked.config, options.shard)
        return 0
    if options.workers and mode.spreads:
        return train_together(asked.run_dir, options, words)
    if options.workers:
        prepare_for_workers()
    to_terminal = mode.streams and asked.output is None  # the result itself
    # lines of CSV in a terminal, straight or by way of a pipe, show how far it is by themselves, and a bar would share lines with them
    function, progress = start(mode.run, asked.made, to_stderr=to_terminal, bars=not to_terminal or is_file(sys.stdout))
    given = {keyword: getattr(options, option) for option, keyword in mode.passes.items()}
    if mode.makes_run:
        progress.line(f"run folder {asked.run_dir}")
        with telling_how_to_go_on(mode.name, asked.run_dir, options.workers or team_size()):
            result = function(asked.config, asked.run_dir, progress=progress, **given)
    else:
        result = function(asked.run_dir, progress=progress, **given)
    if mode.spreads and not result:  # the chief shows it
        return 0
    show(load(mode.show)(result, asked), progress)
    return FOUND_FAULTS if mode.fails_by and result[mode.fails_by] else 0


def prepare(mode: Mode, options: argparse.Namespace, *, as_worker: bool = False) -> Asked:
    """What is asked for, once all that it names is there; the folder of a new run is made."""
    if not mode.makes_run:
        require_options(options.method, options.neighbours)
        check_output(options.output, mode.writes)
        check_run(options.run_dir, options.data, needs_model=mode.needs_model)
        if options.against is not None:
            check_run(options.against, needs_model=mode.needs_model)
        if mode.more_runs:
            options.paths = check_more_runs(options.run_dir, options.paths, options.output)
        elif "paths" in mode.options:
            check_files(options.paths)
        return Asked(options.run_dir, options.output)
    if options.resume:
        check_images(options.data)
        config = stored_config(options.run_dir, [mode.name])
        if options.data is not None:  # its images have moved
            config = config.replace("data.source", options.data)
        return Asked(options.run_dir, made=config)
    config = configure(options)
    check_names(config)
    makes = makes_folder(mode.name)
    run_dir = options.run_dir or (make_run_dir(config) if makes and not (options.dry_run or options.shard) else new_run_dir(config))
    if makes and not as_worker:  # a worker of a search may have left trials in its folder
        RunFolder(run_dir).require_free()
    return Asked(run_dir, made=config)


def show(parts: "Iterable[str | Table]", progress: "ConsoleProgress") -> None:
    """Print lines and tables."""
    for part in parts:
        if isinstance(part, str):
            progress.line(part)
        else:
            progress.console.print(part)


@contextmanager
def telling_how_to_go_on(mode: str, run_dir: Path, workers: int = 0) -> Iterator[None]:
    """Let Ctrl-C, a disk that is full, or an image that is gone end with what is left and the command that goes on.

    Of a mode that cannot be resumed there is nothing to say.
    """
    if not MODES[mode].resumes:
        yield
        return
    how = advice.go_on(mode, run_dir, workers)
    try:
        with noted_interrupts():
            yield
    except LostImageError as error:
        raise LostImageError(f"{str(error).rstrip('.')}: {how}") from error
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)(left_behind(run_dir, how)) from interrupt
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None or not (run_dir / "config.yaml").exists():
            raise
        raise FileError(f"{from_os(error)} Then go on with: {how}") from error


def left_behind(run_dir: Path, how: str) -> str:
    """What an interrupt leaves, and the command that goes on."""
    if not (run_dir / "config.yaml").exists():
        return "Nothing was trained yet; features that were computed are kept for the next run."
    kept = f"The best so far is {run_dir / 'model.keras'}. " if (run_dir / "model.keras").exists() else ""
    return f"{kept}Continue with: {how}"


def dry_run(config: "Config") -> None:
    """Say what a training run would do."""
    from tl_keras.results import of_plan

    make_plan, progress = start("tl_keras.workflows.plan:make_plan", config)
    show(of_plan(make_plan(config, progress)), progress)


def fill(config: "Config", part: tuple[int, int]) -> None:
    """Store the features of a part of the images."""
    from tl_keras.results import of_filling

    function, progress = start("tl_keras.workflows.fill:fill", config)
    show(of_filling(function(config, part, progress), part), progress)


def end_with_parent() -> None:
    """In one of several processes that train together on this machine: end when the process that started them has."""
    from tl_keras.select.search.local_workers import end_with_chief

    end_with_chief("the process that has started this one is gone.")


def train_together(run_dir: Path, options: argparse.Namespace, words: Sequence[str]) -> int:
    """Train in several processes on this machine; the exit status."""
    from tl_keras.select.search.local_workers import LocalWorkers
    from tl_keras.workflows.together import Together, command_of

    with telling_how_to_go_on(options.mode, run_dir, options.workers), TemporaryDirectory(prefix="tl_keras-") as scratch:
        command = command_of(words, None if options.run_dir else run_dir)
        with LocalWorkers(command, Path(scratch)) as team:
            how = advice.go_on(options.mode, run_dir, options.workers)
            return Together(team, options.workers, Path(scratch), how).train()


def team_size() -> int:
    """How many processes another has started on this machine to train together, this one among them; 0 where it is none of them."""
    from tl_keras.select.search.local_workers import CHIEF_PROCESS

    here = place_in(os.environ) if CHIEF_PROCESS in os.environ else None
    return 0 if here is None else len(here.addresses)


def is_worker(options: argparse.Namespace) -> bool:
    """Whether the environment makes this process a worker of a search, whose chief is elsewhere."""
    from tl_keras.select.search.role import TUNER_ID, role_in

    role = role_in(os.environ)
    found = role is not None and not role.is_chief
    if found and options.workers:
        raise ConfigError(f"--workers: {TUNER_ID} makes this process a worker, which starts no others. Remove it.")
    return found


def work(options: argparse.Namespace) -> None:
    """Evaluate trials for a chief elsewhere."""
    asked = prepare(MODES[options.mode], options, as_worker=True)
    function, progress = start("tl_keras.workflows.search_worker:work", asked.config)
    try:
        function(asked.config, asked.run_dir, resume=options.resume, progress=progress)
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)("Started again under the same name, this worker gets its trial again.") from None


def is_file(stream: TextIO) -> bool:
    """Whether a stream goes to a file, where nobody sees it as it is written."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # a stream of Python's own
        return False


def manage_cache(arguments: Sequence[str]) -> None:
    """`tl-keras cache`: list or prune the features that runs have stored."""
    made = Parser(prog=f"{program()} cache", description="Features of frozen backbones, kept for later runs.", allow_abbrev=False)
    made.add_argument(
        "action", nargs="?", choices=("list", "prune"), help="list: what is stored; prune: remove what was unused the longest"
    )
    made.add_argument("--max-gb", type=float, metavar="GB", help="prune: until at most so much is left (default: features.max_gb's, 20)")
    made.add_argument("--older-than", type=float, metavar="DAYS", help="prune: only what has not been used for so many days")
    made.add_argument("--all", action="store_true", help="prune: remove everything")
    options = made.parse_args(arguments)
    if options.action is None:
        raise ConfigError("cache: got no action, expected list or prune. See --help.")
    for name, value in (("--max-gb", options.max_gb), ("--older-than", options.older_than), ("--all", options.all or None)):
        if value is not None and options.action == "list":
            raise ConfigError(f"{name}: cache list does not use it. Remove it.")
        if value is not None and not value >= 0:
            raise ConfigError(f"{name}: got {value:g}, expected a number >= 0.")
    if options.all and (options.max_gb, options.older_than) != (None, None):
        raise ConfigError("--all: removes everything, so --max-gb and --older-than have no effect. Remove one or the other.")
    from rich.console import Console

    from tl_keras.terminal.stored import print_stored
    from tl_keras.transfer import store

    console, root = Console(), store.feature_folder()
    if options.action == "prune":
        limit_gb = most_left_gb(options)
        removed = list(store.prune(root, older_than_s=(options.older_than or 0) * DAY_S, max_bytes=limit_gb * 1e9))
        print_stored(console, "removed", removed)
        if not removed and limit_gb:
            line = f"nothing to remove: the limit is {limit_gb:g} GB (--max-gb); --all removes everything"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    print_stored(console, f"stored in {root}", store.describe(root))


def print_settings(arguments: Sequence[str]) -> None:
    """`tl-keras settings`: every setting, or those of a section, with default, range and meaning."""
    made = Parser(prog=f"{program()} settings", description="What --set and a --config file may contain.", allow_abbrev=False)
    made.add_argument(
        "section", nargs="?", default="", metavar="SECTION", help="such as train or data.augment, or one setting; all by default"
    )
    options = made.parse_args(arguments)
    from tl_keras.reference import settings_lines

    for line in settings_lines(options.section, min(shutil.get_terminal_size().columns, WIDEST)):
        print(line)


TOOLS: dict[str, Callable[[Sequence[str]], None]] = {"cache": manage_cache, "settings": print_settings}


def most_left_gb(options: argparse.Namespace) -> float:
    """How many GB of features `cache prune` leaves: by default what runs may keep; by age or for --all, none."""
    from tl_keras.config import FeaturesConfig

    if options.max_gb is not None:
        return float(options.max_gb)
    return 0.0 if options.all or options.older_than is not None else FeaturesConfig().max_gb


def start(
    name: str, config: "Config | None" = None, *, to_stderr: bool = False, bars: bool = True
) -> "tuple[Callable[..., Any], ConsoleProgress]":
    """Import TensorFlow and the function 'module:name', without their noise, and open the console."""
    from rich.console import Console

    from tl_keras.terminal.progress import ConsoleProgress

    function = import_workflow(name, config)
    raise_noted()  # an import may have swallowed it
    return function, ConsoleProgress(Console(stderr=to_stderr), bars=bars)


if __name__ == "__main__":
    sys.exit(main())
