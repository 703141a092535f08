"""`tl-keras MODE ...`: arguments -> Config -> a mode -> exit status. The only place that prints, beside `api`'s progress.

Exit status: 0 when done, 2 for a mistake that the user can mend or a file that the system does not give or take (one line on
standard error), 130 after Ctrl-C and 143 after SIGTERM, which is treated alike, 1 with a traceback for a defect of this package.
TensorFlow is imported only once a mode needs it.
"""

import argparse
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tl_keras import advice
from tl_keras.arguments import Parser, parser, program, read_options
from tl_keras.errors import ConfigError, FileError, LostImageError, UserError, from_os
from tl_keras.interrupts import Terminated, noted_interrupts, raise_noted, sent_again
from tl_keras.launch import (
    check_files,
    check_images,
    check_names,
    check_run,
    import_workflows,
    make_run_dir,
    new_run_dir,
    refuse_idle,
    remove_unused,
    stored_config,
)
from tl_keras.run_folder import RunFolder
from tl_keras.short_forms import FORMS_OF, SHORT_FORMS, flag_of

if TYPE_CHECKING:
    from tl_keras.config import Config
    from tl_keras.console import ConsoleProgress

DAY_S = 86_400.0


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
            obey(given)
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
    return 0


def obey(given: Sequence[str]) -> None:
    """Do what the arguments say."""
    try:
        if given[0] == "cache":
            manage_cache(given[1:])
        else:
            options = read_options(given)
            MODES[options.mode](options)
        sys.stdout.flush()  # what does not fit on a disk is said here
    finally:
        remove_unused()


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

    names = [name for name in FORMS_OF[options.mode] if getattr(options, name) is not None]
    flags: dict[str, tuple[str, object]] = {flag_of(name): (SHORT_FORMS[name].setting, getattr(options, name)) for name in names}
    if options.paths:
        flags["PATH"] = ("ensemble.members" if options.mode == "ensemble" else "rank.candidates", options.paths)
    config = load_config(options.mode, file=options.config, flags=flags, sets=options.sets)
    refuse_idle(config, {flag: path for flag, (path, _) in flags.items()})
    return config


def train(options: argparse.Namespace) -> None:
    """The modes extract, finetune and pretrain."""
    config, run_dir = prepare(options)
    if options.dry_run:
        return dry_run(config)
    workflows, progress = start(config)
    progress.line(f"run folder {run_dir}")
    with telling_how_to_go_on(config.mode, run_dir):
        metrics = workflows.train(
            config, run_dir, resume=options.resume, source=options.data if options.resume else None, progress=progress
        )
    show_metrics(metrics, progress)
    progress.line(f"{metrics['timing']['total_s']:.1f} s; everything lies in {run_dir}")
    show_lines(advice.after_training(config, run_dir), progress)
    return None


def prepare(options: argparse.Namespace, *, is_worker: bool = False) -> "tuple[Config, Path]":
    """The configuration and the folder of a run that is made, or gone on with; what they name is there."""
    if options.resume:
        check_images(options.data)
        config = stored_config(options.run_dir, [options.mode])
        if options.data is not None:  # its images have moved
            config = config.model_copy(update={"data": config.data.model_copy(update={"source": options.data})})
        return config, options.run_dir
    config = configure(options)
    check_names(config)
    run_dir = options.run_dir or (new_run_dir(config) if options.dry_run else make_run_dir(config))
    if not is_worker:  # which may have left trials in its folder
        RunFolder(run_dir).require_free()
    return config, run_dir


def show_lines(lines: Iterable[str], progress: "ConsoleProgress") -> None:
    """Print lines."""
    for line in lines:
        progress.line(line)


@contextmanager
def telling_how_to_go_on(mode: str, run_dir: Path) -> Iterator[None]:
    """Let Ctrl-C, a disk that is full, or an image that is gone end with what is left and the command that goes on."""
    try:
        with noted_interrupts():
            yield
    except LostImageError as error:
        raise LostImageError(f"{str(error).rstrip('.')}: {advice.go_on(mode, run_dir)}") from error
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)(left_behind(mode, run_dir)) from interrupt
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None or not (run_dir / "config.yaml").exists():
            raise
        raise FileError(f"{from_os(error)} Then go on with: {advice.go_on(mode, run_dir)}") from error


def left_behind(mode: str, run_dir: Path) -> str:
    """What an interrupt leaves, and how to go on."""
    if not (run_dir / "config.yaml").exists():
        return "Nothing was trained yet; features that were computed are kept for the next run."
    kept = f"The best so far is {run_dir / 'model.keras'}. " if (run_dir / "model.keras").exists() else ""
    return f"{kept}Go on with: {advice.go_on(mode, run_dir)}"


def dry_run(config: "Config") -> None:
    """Say what a training would do."""
    from tl_keras.config_file import to_yaml
    from tl_keras.console import plain_table

    workflows, progress = start(config)
    plan = workflows.make_plan(config, progress)
    progress.line(to_yaml(plan.config).rstrip())
    progress.console.print(plain_table(("class", "train", "val", "test"), plan.splits, "images per split"))
    progress.console.print(plain_table(("phase", "trainable", "total", "epochs", "steps", "estimate"), plan.phases, "phases"))
    progress.line(f"about {plan.seconds:.0f} s of training on this machine, {plan.memory_gb:.1f} GB memory, {plan.disk_gb:.2f} GB disk")
    progress.line("dry run: nothing was trained and nothing was written; the same command without --dry-run does it")


def show_metrics(metrics: Mapping[str, Any], progress: "ConsoleProgress") -> None:
    """Print the result of a training or evaluation."""
    from tl_keras.console import accuracy_line, confusion_lines, metrics_table

    progress.console.print(metrics_table(metrics["test"], f"test: {metrics['data']['test']} images"))
    for line in confusion_lines(metrics["test"]):
        progress.line(line)
    for split in ("val", "test"):
        if split in metrics:
            progress.line(accuracy_line(split, metrics[split]))


def rank(options: argparse.Namespace) -> None:
    """The mode rank."""
    config, run_dir = prepare(options)
    workflows, progress = start(config)
    from tl_keras.console import ranking_table

    result = workflows.rank(config, run_dir, progress=progress)
    progress.console.print(ranking_table(result["candidates"]))
    progress.line(result["why"])
    progress.line(f"everything lies in {run_dir}")
    show_lines(advice.after_ranking(config, result["chosen"]), progress)


def search(options: argparse.Namespace) -> None:
    """The mode search."""
    from tl_keras.select.search.local_workers import MEMORY_AS_NEEDED
    from tl_keras.select.search.role import TUNER_ID, place_in

    place = place_in(os.environ)
    is_worker = place is not None and not place.is_chief
    if is_worker and options.workers is not None:
        raise ConfigError(f"--workers: {TUNER_ID} makes this process a worker, which starts no others. Remove it.")
    config, run_dir = prepare(options, is_worker=is_worker)
    if is_worker:
        return work(config, run_dir, options)
    if options.workers is not None:
        os.environ.update(MEMORY_AS_NEEDED)  # before TensorFlow takes a GPU that workers use too
    workflows, progress = start(config)
    progress.line(f"run folder {run_dir}")
    with telling_how_to_go_on(config.mode, run_dir):
        result = workflows.search(config, run_dir, resume=options.resume, workers=options.workers or 0, progress=progress)
    from tl_keras.select.search.oracles import settings_text

    objective = result["objective"]
    show_metrics(result["metrics"], progress)
    progress.line(f"{result['trials']} trials, {result['failed']} failed; the best: {settings_text(result['settings'])}")
    before = result["baseline"][objective]
    progress.line(f"{objective} {result['score']:.4f} with it, {before:.4f} with the settings that the search began with")
    progress.line(f"the winner's run is {run_dir / 'best'}; everything lies in {run_dir}")
    show_lines(advice.use_run(run_dir / "best"), progress)
    return None


def work(config: "Config", run_dir: Path, options: argparse.Namespace) -> None:
    """The mode search, where the environment names a chief elsewhere."""
    workflows, progress = start(config)
    try:
        workflows.work(config, run_dir, resume=options.resume, progress=progress)
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)("Started again under the same name, this worker gets its trial again.") from None


def crossval(options: argparse.Namespace) -> None:
    """The mode crossval."""
    config, run_dir = prepare(options)
    workflows, progress = start(config)
    from tl_keras.console import difference_lines, summary_table

    progress.line(f"run folder {run_dir}")
    with telling_how_to_go_on(config.mode, run_dir):
        result = workflows.crossval(config, run_dir, resume=options.resume, progress=progress)
    title = f"{len(result['folds'])} folds of {result['images']} images; test was not looked at"
    progress.console.print(summary_table(result["summary"], title))
    for line in difference_lines(result["against"]["differences"] if "against" in result else {}):
        progress.line(line)
    progress.line(f"everything lies in {run_dir}")
    show_lines(advice.after_crossval(config, run_dir), progress)


def ensemble(options: argparse.Namespace) -> None:
    """The mode ensemble."""
    config, run_dir = prepare(options)
    workflows, progress = start(config)
    from tl_keras.console import ensemble_lines, ensemble_table

    progress.line(f"run folder {run_dir}")
    result = workflows.ensemble(config, run_dir, progress=progress)
    progress.console.print(ensemble_table(result))
    for line in ensemble_lines(result):
        progress.line(line)
    progress.line(f"{result['metrics']['timing']['total_s']:.1f} s; everything lies in {run_dir}")
    show_lines(advice.use_run(run_dir) if result["is_keras"] else (), progress)


def evaluate(options: argparse.Namespace) -> None:
    """The mode evaluate."""
    check_run(options.run_dir, options.data)
    workflows, progress = start()
    metrics = workflows.evaluate(options.run_dir, source=options.data, progress=progress)
    show_metrics(metrics, progress)
    progress.line(f"{metrics['timing']['total_s']:.1f} s; which images are wrong: {metrics['folder']}/predictions.csv")
    show_lines(advice.use_run(options.run_dir), progress)


def predict(options: argparse.Namespace) -> None:
    """The mode predict."""
    check_output(options.output)
    check_run(options.run_dir)
    check_files(options.paths)
    shown = options.output is None
    # lines of CSV in a terminal, straight or by way of a pipe, show how far it is by themselves, and a bar would share lines with them
    workflows, progress = start(to_stderr=shown, bars=not shown or is_file(sys.stdout))
    predictions = workflows.predict(options.run_dir, options.paths, progress=progress)
    written = workflows.write_predictions(options.output or sys.stdout, predictions)
    if written.bad:
        print(f"{written.bad} of {written.files} files could not be read; their lines say why", file=sys.stderr)
    if written.bad == written.files:
        raise UserError(f"none of {written.files} files could be read.")
    if not shown:
        from tl_keras.console import counts_line

        progress.line(f"{options.output}: {counts_line(written.by_class, 'image')}")


def is_file(stream: TextIO) -> bool:
    """Whether a stream goes to a file, where nobody sees it as it is written."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # a stream of Python's own
        return False


def check_output(output: Path | None) -> None:
    """Refuse an --output that is neither CSV nor JSON lines, before anything is computed."""
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--output: got '{output}', expected a file ending in .csv or .jsonl.")
    if output is not None and output.is_dir():
        raise ConfigError(f"--output: '{output}' is a folder; give a file.")
    if output is not None and not os.access(output.parent, os.W_OK):
        raise ConfigError(f"--output: cannot write to the folder '{output.parent}'.")


def export(options: argparse.Namespace) -> None:
    """The mode export."""
    check_run(options.run_dir, options.data)
    workflows, progress = start()
    result = workflows.export(options.run_dir, source=options.data, progress=progress)
    worst = max(result["largest_difference"].values())
    progress.line(f"{result['saved_model']} agrees with the model on {len(result['images'])} images (largest difference {worst:.1e})")
    show_lines(advice.after_export(result["saved_model"]), progress)


MODES: dict[str, Callable[[argparse.Namespace], None]] = {
    "extract": train,
    "finetune": train,
    "pretrain": train,
    "rank": rank,
    "search": search,
    "crossval": crossval,
    "ensemble": ensemble,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
}


def manage_cache(arguments: Sequence[str]) -> None:
    """`tl-keras cache`: list or prune the features that runs have stored."""
    made = Parser(prog=f"{program()} cache", description="Features of frozen backbones, kept for later runs.", allow_abbrev=False)
    made.add_argument("action", choices=("list", "prune"), help="list: what is stored; prune: remove what was unused the longest")
    made.add_argument("--max-gb", type=float, metavar="GB", help="prune: until so much is left (default: features.max_gb's, 20)")
    made.add_argument("--older-than", type=float, metavar="DAYS", help="prune: only what was not used for so many days")
    made.add_argument("--all", action="store_true", help="prune: everything goes")
    options = made.parse_args(arguments)
    for name, value in (("--max-gb", options.max_gb), ("--older-than", options.older_than), ("--all", options.all or None)):
        if value is not None and options.action == "list":
            raise ConfigError(f"{name}: cache list does not use it. Remove it.")
        if value is not None and not value >= 0:
            raise ConfigError(f"{name}: got {value:g}, expected a number >= 0.")
    if options.all and (options.max_gb, options.older_than) != (None, None):
        raise ConfigError("--all: everything goes, so that --max-gb and --older-than do nothing. Remove one or the other.")
    from rich.console import Console

    from tl_keras.console import print_stored
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


def most_left_gb(options: argparse.Namespace) -> float:
    """How many GB of features `cache prune` leaves: by default what runs may keep; by age or for --all, none."""
    from tl_keras.config import FeaturesConfig

    if options.max_gb is not None:
        return float(options.max_gb)
    return 0.0 if options.all or options.older_than is not None else FeaturesConfig().max_gb


def start(config: "Config | None" = None, *, to_stderr: bool = False, bars: bool = True) -> "tuple[Any, ConsoleProgress]":
    """Import TensorFlow, without its noise, and open the console."""
    from rich.console import Console

    from tl_keras.console import ConsoleProgress

    workflows = import_workflows(config)
    raise_noted()  # an import may have swallowed it
    return workflows, ConsoleProgress(Console(stderr=to_stderr), bars=bars)


if __name__ == "__main__":
    sys.exit(main())
