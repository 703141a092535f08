"""`python -m tl_keras.run --mode ...`: arguments -> Config -> a mode -> exit status. The only place that prints.

Exit status: 0 when done, 2 for a mistake that the user can mend (one line on standard error), 130 after Ctrl-C, 1 with
a traceback for a defect of this package. TensorFlow is imported only once a mode needs it.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tl_keras import __version__
from tl_keras.errors import ConfigError, UserError
from tl_keras.models.backbone_names import short_name
from tl_keras.quiet import quiet

if TYPE_CHECKING:
    from tl_keras.config import Config
    from tl_keras.console import ConsoleProgress

RUNS = Path("saved_models")
DAY_S = 86_400.0
DESCRIPTION = "Transfer learning for images: from a folder of labelled images to a verified classifier."
MODE_HELP = (
    "extract: train a head on the frozen backbone; finetune: then train its upper stages too; "
    "pretrain: a backbone from scratch; rank: which backbone suits these images; "
    "search: better settings; crossval: how good a configuration is, with its spread; "
    "ensemble: several backbones or runs as one; evaluate, predict, export: use a run"
)
BACKBONE_HELP = (
    "a keras.applications name such as resnet50, small_resnet, a .keras file, the folder or address of a TF-Hub module, "
    "keras_hub:PRESET, or auto"
)
EXAMPLES = """\
examples:
  python -m tl_keras.run --mode finetune                                       the bundled digits, no network needed
  python -m tl_keras.run --mode finetune --data photos/ --backbone mobilenet_v2
  python -m tl_keras.run --mode extract --data photos/ --dry-run               what would be done, and how long it takes
  python -m tl_keras.run --mode rank --data photos/                            the backbones on this machine, the best first
  python -m tl_keras.run --mode ensemble --data photos/ mobilenet_v2 resnet50  heads on several backbones as one classifier
  python -m tl_keras.run --mode evaluate --run-dir saved_models/RUN            the test figures again
  python -m tl_keras.run --mode predict --run-dir saved_models/RUN new/*.jpg   classes and probabilities as CSV
  python -m tl_keras.run --mode export --run-dir saved_models/RUN              a SavedModel, checked against the model
  python -m tl_keras.run cache list                                            features that are kept for later runs; cache prune
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are ConfigErrors: one line, and the nearest name."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message[0].lower() + message[1:] + self._near(message) + ". See --help.")

    def _near(self, message: str) -> str:
        flags = [flag for action in self._actions for flag in action.option_strings]
        wrong = [word for word in message.split() if word.startswith("--")]
        near = get_close_matches(wrong[0].partition("=")[0], flags, n=1) if "unrecognized" in message and wrong else []
        return f" (did you mean '{near[0]}'?)" if near else ""


def positive(text: str) -> int:
    """A number >= 1 on the command line."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"got '{text}', expected an integer >= 1")
    return int(text)


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog="python -m tl_keras.run",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--mode", metavar="MODE", help=MODE_HELP)
    made.add_argument("--config", metavar="FILE", type=Path, help="a YAML file with what differs from the defaults")
    made.add_argument("--data", metavar="SOURCE", help="a folder of class folders, 'digits', or a TFDS name or folder")
    made.add_argument("--backbone", metavar="NAME", help=BACKBONE_HELP)
    made.add_argument("--run-dir", metavar="DIR", type=Path, help=f"the run's folder (default: a new one below {RUNS}/)")
    made.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="sets",
        help="any setting, such as train.epochs=5; repeatable",
    )
    made.add_argument("--workers", metavar="N", type=positive, help="search: run the trials in N processes; several machines: see README")
    made.add_argument("--resume", action="store_true", help="go on with the interrupted training, search or crossval in --run-dir")
    made.add_argument("--dry-run", action="store_true", help="of a training: say what would be done, how long and how large; train nothing")
    made.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="predict: write here, .csv or .jsonl (default: CSV to standard output)",
    )
    made.add_argument("--version", action="version", version=f"tl_keras {__version__}")
    made.add_argument(
        "paths", metavar="PATH", nargs="*", help="predict: files, folders or globs; rank: backbones; ensemble: backbones or runs"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if given[:1] == ["cache"]:
            manage_cache(given[1:])
        else:
            options = parser().parse_intermixed_args(given)
            check_options(options)
            MODES[options.mode](options)
    except UserError as error:
        for line in str(error).splitlines():
            print(f"{type(error).__name__}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"interrupted. {interrupt}" if str(interrupt) else "interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


USES: dict[str, tuple[str, ...]] = {  # which options a mode takes, beside --mode
    "extract": ("config", "data", "backbone", "run_dir", "sets", "resume", "dry_run"),
    "finetune": ("config", "data", "backbone", "run_dir", "sets", "resume", "dry_run"),
    "pretrain": ("config", "data", "backbone", "run_dir", "sets", "resume", "dry_run"),
    "rank": ("config", "data", "run_dir", "sets", "paths"),
    "search": ("config", "data", "backbone", "run_dir", "sets", "resume", "workers"),
    "crossval": ("config", "data", "backbone", "run_dir", "sets", "resume"),
    "ensemble": ("config", "data", "run_dir", "sets", "paths"),
    "evaluate": ("run_dir", "data"),
    "predict": ("run_dir", "output", "paths"),
    "export": ("run_dir", "data"),
}


def check_options(options: argparse.Namespace) -> None:
    """Refuse a mode that there is not, and options that the mode would ignore."""
    if options.mode not in USES:
        near = get_close_matches(str(options.mode), USES, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        got = "nothing" if options.mode is None else f"'{options.mode}'"
        raise ConfigError(f"--mode: got {got}, expected one of {', '.join(USES)}.{hint}")
    given = [name for name, value in vars(options).items() if value not in (None, False, []) and name != "mode"]
    idle = [name for name in given if name not in USES[options.mode]]
    if options.resume and not idle:
        idle = [name for name in given if name not in ("run_dir", "resume", "workers")]  # a search may go on with fewer
    if idle:
        flag = {"sets": "--set", "paths": f"'{options.paths[0]}'" if options.paths else ""}.get(idle[0], f"--{idle[0].replace('_', '-')}")
        own = options.resume and "resume" in USES[options.mode]
        why = "--resume goes on with the run's own settings" if own else f"--mode {options.mode} does not use it"
        hint = " A backbone is given with --backbone." if idle[0] == "paths" and "backbone" in USES[options.mode] else ""
        raise ConfigError(f"{flag}: {why}. Take it away.{hint}")
    if (
        options.run_dir is None
        and ("run_dir" in USES[options.mode])
        and (options.mode not in (*TRAININGS, "rank", "search", "crossval", "ensemble") or options.resume)
    ):
        raise ConfigError("--run-dir: expected the folder of a run, such as saved_models/NAME.")


def configure(options: argparse.Namespace) -> "Config":
    """Build the configuration of a mode that makes a run folder from the options."""
    from tl_keras.config_file import load_config

    flags = {
        "--data": ("data.source", options.data),
        "--backbone": ("model.backbone", options.backbone),
        "PATH": ("ensemble.members" if options.mode == "ensemble" else "rank.candidates", options.paths or None),
    }
    given = {flag: (path, value) for flag, (path, value) in flags.items() if value is not None}
    return load_config(options.mode, file=options.config, flags=given, sets=options.sets)


def train(options: argparse.Namespace) -> None:
    """--mode extract, finetune, pretrain."""
    config = resumed(options) if options.resume else configure(options)
    if options.dry_run:
        return dry_run(config)
    run_dir = options.run_dir or default_run_dir(config)
    workflows, progress = start(config)
    progress.line(f"run folder {run_dir}")
    with telling_how_to_go_on(config.mode, run_dir):
        metrics = workflows.train(config, run_dir, resume=options.resume, progress=progress)
    show_metrics(metrics, progress)
    progress.line(f"{metrics['timing']['total_s']:.1f} s; everything lies in {run_dir}")
    return None


def resumed(options: argparse.Namespace) -> "Config":
    """The configuration of an interrupted run."""
    from tl_keras.run_folder import RunFolder

    RunFolder(options.run_dir).require_resumable()
    return stored_config(options)


def stored_config(options: argparse.Namespace) -> "Config":
    """The configuration in a run folder, which must be of the mode that is asked for."""
    from tl_keras.config_file import from_yaml
    from tl_keras.run_folder import CONFIG

    file = options.run_dir / CONFIG
    if not file.is_file():
        raise ConfigError(f"--run-dir: {options.run_dir} holds nothing to resume. Start it without --resume.")
    config = from_yaml(file.read_text(encoding="utf-8"), str(file))
    if config.mode != options.mode:
        raise ConfigError(f"--mode: got '{options.mode}', but {options.run_dir} holds an interrupted run of mode '{config.mode}'.")
    return config


@contextmanager
def telling_how_to_go_on(mode: str, run_dir: Path) -> Iterator[None]:
    """Let Ctrl-C end with what it leaves."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(left_behind(mode, run_dir)) from interrupt


def left_behind(mode: str, run_dir: Path) -> str:
    """What an interrupt leaves, and how to go on."""
    if not (run_dir / "config.yaml").exists():
        return "Nothing was trained yet; features that were computed are kept for the next run."
    kept = f"The best so far is {run_dir / 'model.keras'}. " if (run_dir / "model.keras").exists() else ""
    return f"{kept}Go on with: python -m tl_keras.run --mode {mode} --resume --run-dir {shlex.quote(str(run_dir))}"


def default_run_dir(config: "Config") -> Path:
    """A new folder below saved_models/, named after mode, backbone, data and time; an ensemble's after its method and time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    if config.mode == "ensemble":  # of runs, which have data of their own
        return RUNS / "-".join([config.mode, config.ensemble.method, stamp])
    backbone = [] if config.mode == "rank" else [short_name(config.model.backbone)]
    return RUNS / "-".join([config.mode, *backbone, Path(config.data.source).name or "data", stamp])


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
    progress.line("dry run: nothing was trained and nothing was written")


def show_metrics(metrics: Mapping[str, Any], progress: "ConsoleProgress") -> None:
    """Print the result of a training or evaluation."""
    from tl_keras.console import accuracy_line, metrics_table

    progress.console.print(metrics_table(metrics["test"], f"test: {metrics['data']['test']} images"))
    for split in ("val", "test"):
        if split in metrics:
            progress.line(accuracy_line(split, metrics[split]))


def rank(options: argparse.Namespace) -> None:
    """--mode rank."""
    config = configure(options)
    run_dir = options.run_dir or default_run_dir(config)
    workflows, progress = start(config)
    from tl_keras.console import ranking_table

    result = workflows.rank(config, run_dir, progress=progress)
    progress.console.print(ranking_table(result["candidates"]))
    progress.line(result["why"])
    source, chosen = shlex.quote(config.data.source), shlex.quote(result["chosen"])
    progress.line(f"train it: python -m tl_keras.run --mode finetune --data {source} --backbone {chosen}")
    progress.line(f"everything lies in {run_dir}")


def search(options: argparse.Namespace) -> None:
    """--mode search."""
    from tl_keras.select.local_workers import MEMORY_AS_NEEDED
    from tl_keras.select.place import TUNER_ID, place_in

    place = place_in(os.environ)
    is_worker = place is not None and not place.is_chief
    if is_worker and options.workers is not None:
        raise ConfigError(f"--workers: {TUNER_ID} makes this process a worker, which starts no others. Take it away.")
    config = stored_config(options) if options.resume else configure(options)
    run_dir = options.run_dir or default_run_dir(config)
    if is_worker:
        return work(config, run_dir, options)
    if options.workers is not None:
        os.environ.update(MEMORY_AS_NEEDED)  # before TensorFlow takes a GPU that workers use too
    workflows, progress = start(config)
    progress.line(f"run folder {run_dir}")
    with telling_how_to_go_on(config.mode, run_dir):
        result = workflows.search(config, run_dir, resume=options.resume, workers=options.workers or 0, progress=progress)
    from tl_keras.select.study import settings_text

    objective = result["objective"]
    show_metrics(result["metrics"], progress)
    progress.line(f"{result['trials']} trials, {result['failed']} failed; the best: {settings_text(result['settings'])}")
    before = result["baseline"][objective]
    progress.line(f"{objective} {result['score']:.4f} with it, {before:.4f} with the settings that the search began with")
    progress.line(f"the winner's run is {run_dir / 'best'}; everything lies in {run_dir}")
    return None


def work(config: "Config", run_dir: Path, options: argparse.Namespace) -> None:
    """--mode search, where the environment names a chief elsewhere."""
    workflows, progress = start(config)
    try:
        workflows.work(config, run_dir, resume=options.resume, progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Started again under the same name, this worker gets its trial again.") from None


def crossval(options: argparse.Namespace) -> None:
    """--mode crossval."""
    config = stored_config(options) if options.resume else configure(options)
    run_dir = options.run_dir or default_run_dir(config)
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


def ensemble(options: argparse.Namespace) -> None:
    """--mode ensemble."""
    config = configure(options)
    run_dir = options.run_dir or default_run_dir(config)
    workflows, progress = start(config)
    from tl_keras.console import ensemble_lines, ensemble_table

    progress.line(f"run folder {run_dir}")
    result = workflows.ensemble(config, run_dir, progress=progress)
    progress.console.print(ensemble_table(result))
    for line in ensemble_lines(result):
        progress.line(line)
    progress.line(f"{result['metrics']['timing']['total_s']:.1f} s; everything lies in {run_dir}")


def evaluate(options: argparse.Namespace) -> None:
    """--mode evaluate."""
    workflows, progress = start()
    metrics = workflows.evaluate(options.run_dir, source=options.data, progress=progress)
    show_metrics(metrics, progress)
    progress.line(f"{metrics['timing']['total_s']:.1f} s; everything lies in {options.run_dir}")


def predict(options: argparse.Namespace) -> None:
    """--mode predict."""
    check_output(options.output)
    workflows, progress = start(to_stderr=options.output is None)
    predictions = workflows.predict(options.run_dir, options.paths, progress=progress)
    counts = workflows.write_predictions(options.output or sys.stdout, predictions)
    if counts["bad"]:
        print(f"{counts['bad']} of {counts['all']} files could not be read; their lines say why", file=sys.stderr)
    if counts["bad"] == counts["all"]:
        raise UserError(f"none of {counts['all']} files could be read.")


def check_output(output: Path | None) -> None:
    """Refuse an --output that is neither CSV nor JSON lines, before anything is computed."""
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--output: got '{output}', expected a file ending in .csv or .jsonl.")
    if output is not None and output.is_dir():
        raise ConfigError(f"--output: '{output}' is a folder; give a file.")
    if output is not None and not os.access(output.parent, os.W_OK):
        raise ConfigError(f"--output: cannot write to the folder '{output.parent}'.")


def export(options: argparse.Namespace) -> None:
    """--mode export."""
    workflows, progress = start()
    result = workflows.export(options.run_dir, source=options.data, progress=progress)
    worst = max(result["largest_difference"].values())
    progress.line(f"{result['saved_model']} agrees with the model on {len(result['images'])} images (largest difference {worst:.1e})")


TRAININGS = ("extract", "finetune", "pretrain")
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
    made = Parser(prog="tl-keras cache", description="Features of frozen backbones, kept for later runs.", allow_abbrev=False)
    made.add_argument("action", choices=("list", "prune"), help="list: what is stored; prune: remove what was unused the longest")
    made.add_argument("--max-gb", type=float, metavar="GB", help="prune: until so much is left (default: 0, all goes)")
    made.add_argument("--older-than", type=float, metavar="DAYS", help="prune: only what was not used for so many days (default: 0)")
    options = made.parse_args(arguments)
    for name, value in (("--max-gb", options.max_gb), ("--older-than", options.older_than)):
        if value is not None and (options.action == "list" or not value >= 0):
            expected = "cache list does not use it. Take it away" if options.action == "list" else f"got {value:g}, expected a number >= 0"
            raise ConfigError(f"{name}: {expected}.")
    from rich.console import Console

    from tl_keras.console import print_stored
    from tl_keras.transfer import store

    console, root = Console(), store.feature_folder()
    if options.action == "prune":
        removed = store.prune(root, older_than_s=(options.older_than or 0) * DAY_S, max_bytes=(options.max_gb or 0) * 1e9)
        print_stored(console, "removed", list(removed))
    print_stored(console, f"stored in {root}", store.describe(root))


def start(config: "Config | None" = None, *, to_stderr: bool = False) -> "tuple[Any, ConsoleProgress]":
    """Import TensorFlow, without its noise, and open the console."""
    from rich.console import Console

    from tl_keras.console import ConsoleProgress

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with quiet():
        import tensorflow as tf

        from tl_keras import workflows

        tf.get_logger().setLevel("ERROR")  # its advice on retracing is for us, and networks are built often here

        if config is not None:
            workflows.set_up(config.runtime)
        tf.zeros(())  # looks for GPU drivers, which is noisy too
    return workflows, ConsoleProgress(Console(stderr=to_stderr))


if __name__ == "__main__":
    sys.exit(main())
