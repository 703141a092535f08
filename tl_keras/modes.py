"""The table of modes: a row of plain text for each. Everything else about a mode follows from its row.

That is: the first words of the command line and their options, `--help`, the README's table of modes, the public functions, the
check of settings, and what runs it and shows its result. Those two are dotted names, imported only when the mode runs, so that a
broken package spoils only the modes that need it. Nothing is imported here but other plain tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from tl_keras.short_forms import SHORT_FORMS

ALL_FORMS = tuple(name for name in SHORT_FORMS if name != "target")
WITHOUT_TRAINING = ("data", "weights", "image_size", "seed")


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A mode.

    Attributes:
        name: the first word on the command line.
        help: what it does, a few words.
        run: 'module:function' that does it. The function takes a configuration and a run folder, or, where the mode uses a run, the
            folder alone; then what `passes` says, and `progress`.
        show: 'module:function' that turns the result into lines and tables for a terminal, see `results`.
        function: the name of its public function, in `api`.
        makes_run: whether it makes a run folder from a configuration; else it uses the run in one.
        own_options: options that it takes beside those of all modes of its kind, and beside its short forms.
        passes: option -> the keyword of `run` that it is handed to.
        forms: the short forms of settings that it takes.
        words: what the words behind the mode are, where no option has given it yet; the words after them are paths.
        paths: the setting that the paths are the value of; None where there are no paths, or they are files for `run`.
        section: the section of the configuration that is its own.
        single_label: whether it takes no other `data.task`.
        trains: the setting that names the training mode whose runs it is made of.
        named_after: the settings that the name of a new run folder shows.
        fails_by: what its result counts or lists; the exit status is 3 where there is any.
        more_runs: whether the paths are folders of runs too.
        writes: the suffixes of its --output.
        streams: whether its result is the lines of a file, and goes to the standard output where no --output is given.
        needs: the packages, as pip calls them, that it takes beside those of this package.
        elsewhere: what other programs call it, without case, `_` and `-`.
        spreads: whether several devices and processes may do it together.
        needs_model: whether the run that it uses must have a model of Keras, and not figures and predictions alone.
        example: a command, and what the help says of it.
    """

    name: str
    help: str
    run: str
    show: str
    function: str
    makes_run: bool = True
    own_options: tuple[str, ...] = ()
    passes: Mapping[str, str] = field(default_factory=dict)
    forms: tuple[str, ...] = ()
    words: tuple[str, ...] = ("data",)
    paths: str | None = None
    section: str | None = None
    single_label: bool = False
    trains: str | None = None
    named_after: tuple[str, ...] = ("model.backbone", "data.source")
    fails_by: str | None = None
    more_runs: bool = False
    writes: tuple[str, ...] = (".csv", ".jsonl")
    streams: bool = False
    needs: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    spreads: bool = False
    needs_model: bool = True
    example: tuple[str, str] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Every option that it takes, by its name in Python."""
        return ("mode", "run_dir", *(("config", "output_dir", "sets") if self.makes_run else ()), *self.own_options, *self.forms)

    @property
    def resumes(self) -> bool:
        """Whether an interrupted run of it can be continued."""
        return "resume" in self.own_options


TRAIN = "tl_keras.workflows.train:train"
STORING = ("resume", "dry_run", "shard")  # options of the modes that learn from stored features


def training(name: str, **more: Any) -> Mode:
    """The row of a training mode."""
    own: dict[str, Any] = {
        "forms": ALL_FORMS,
        "function": "train",
        "show": "tl_keras.results:of_training",
        "own_options": ("resume", "dry_run"),
    } | more
    return Mode(name=name, run=TRAIN, passes={"resume": "resume", "data": "source"}, **own)


_ROWS = (
    Mode(
        name="check",
        help="find what is wrong with images and labels before training",
        run="tl_keras.workflows.check:check",
        show="tl_keras.results:of_check",
        function="check",
        own_options=("fix",),
        passes={"fix": "fix"},
        forms=("backbone", *WITHOUT_TRAINING),
        named_after=("data.source",),
        fails_by="errors",
        elsewhere=("doctor", "lint", "clean", "inspect", "audit"),
        example=("check photos/", "what is wrong with them"),
    ),
    training(
        "extract",
        help="train a head on the frozen backbone",
        own_options=STORING,
        elsewhere=("train", "fit", "transfer", "freeze", "frozen", "features"),
        example=("extract photos/ --dry-run", "what it would do, how long"),
    ),
    training(
        "finetune",
        help="train the head, then the backbone's upper stages with it",
        own_options=(*STORING, "workers"),
        spreads=True,
        elsewhere=("train", "fit", "retrain", "transfer"),
        example=("finetune photos/ --backbone mobilenet_v2", ""),
    ),
    training(
        "pretrain",
        help="train a backbone from scratch, for other images to start from",
        own_options=("resume", "dry_run", "workers"),
        spreads=True,
    ),
    training(
        "adapt",
        help="train on one domain for another, whose images have no labels",
        function="adapt",
        show="tl_keras.results:of_adaptation",
        forms=("data", "target", "backbone", "weights", "image_size", "seed"),
        words=("data", "target"),
        section="adapt",
        single_label=True,
        elsewhere=("domainadaptation", "uda", "da"),
        example=("adapt photos/ sketches/", "photos teach, for sketches"),
    ),
    Mode(
        name="rank",
        help="say which backbone suits these images",
        run="tl_keras.workflows.rank:rank",
        show="tl_keras.results:of_ranking",
        function="rank",
        own_options=("paths",),
        forms=WITHOUT_TRAINING,
        paths="rank.candidates",
        section="rank",
        named_after=("data.source",),
        example=("rank photos/", "which backbone suits them"),
    ),
    Mode(
        name="search",
        help="try settings, and train with the best",
        run="tl_keras.workflows.search:search",
        show="tl_keras.results:of_search",
        function="search",
        own_options=("resume", "workers"),
        passes={"resume": "resume", "workers": "workers"},
        forms=ALL_FORMS,
        section="search",
        trains="search.trial",
        elsewhere=("tune", "tuning", "hpo"),
    ),
    Mode(
        name="crossval",
        help="measure how good a configuration is, with its spread",
        run="tl_keras.workflows.crossval:crossval",
        show="tl_keras.results:of_crossval",
        function="crossval",
        own_options=("resume",),
        passes={"resume": "resume"},
        forms=ALL_FORMS,
        section="crossval",
        trains="crossval.training",
        elsewhere=("cv", "crossvalidate", "crossvalidation", "kfold"),
    ),
    Mode(
        name="ensemble",
        help="combine several backbones or runs into one model",
        run="tl_keras.workflows.ensemble:ensemble",
        show="tl_keras.results:of_ensemble",
        function="ensemble",
        own_options=("paths",),
        forms=WITHOUT_TRAINING,
        paths="ensemble.members",
        section="ensemble",
        named_after=("ensemble.method",),  # runs have data of their own
        example=("ensemble photos/ mobilenet_v2 resnet50", "several backbones as one"),
    ),
    Mode(
        name="evaluate",
        help="measure a run's model again, on its test split or on other images",
        run="tl_keras.workflows.evaluate:evaluate",
        show="tl_keras.results:of_evaluation",
        function="evaluate",
        makes_run=False,
        own_options=("data", "min_accuracy", "max_ece", "corrupt"),
        passes={"data": "source", "min_accuracy": "min_accuracy", "max_ece": "max_ece", "corrupt": "corrupt"},
        words=("run_dir", "data"),
        fails_by="missed",
        elsewhere=("test", "eval", "val", "validate"),
        example=("evaluate saved_models/RUN", "the test figures again"),
    ),
    Mode(
        name="compare",
        help="say which of two runs is better, and where they differ",
        run="tl_keras.workflows.compare:compare",
        show="tl_keras.results:of_comparison",
        function="compare",
        makes_run=False,
        own_options=("against", "output"),
        needs_model=False,
        passes={"against": "against"},
        words=("run_dir", "against"),
        elsewhere=("diff", "difference", "versus", "vs", "mcnemar"),
        example=("compare saved_models/A saved_models/B", "which one is better, if any"),
    ),
    Mode(
        name="report",
        help="write a run's report.html again, or put several runs side by side",
        run="tl_keras.workflows.report:report",
        show="tl_keras.results:of_report",
        function="report",
        makes_run=False,
        own_options=("data", "output", "paths"),
        passes={"data": "source", "output": "output", "paths": "others"},
        words=("run_dir",),
        more_runs=True,
        writes=(".html",),
        elsewhere=("html", "summary", "dashboard"),
        example=("report RUN_A RUN_B --output side.html", "several runs in one page"),
    ),
    Mode(
        name="predict",
        help="classify files with a run's model",
        run="tl_keras.workflows.predict:predict",
        show="tl_keras.results:of_predictions",
        function="predict",
        makes_run=False,
        own_options=("output", "coverage", "min_precision", "formats", "paths"),
        passes={"paths": "patterns", "coverage": "coverage", "min_precision": "min_precision", "formats": "formats"},
        words=("run_dir",),
        streams=True,
        elsewhere=("classify", "infer", "inference"),
        example=("predict saved_models/RUN new/", "classes as CSV"),
    ),
    Mode(
        name="explain",
        help="show what a model's answers rest on, as heat maps",
        run="tl_keras.workflows.explain:explain",
        show="tl_keras.results:of_explanations",
        function="explain",
        makes_run=False,
        own_options=("method", "label", "neighbours", "data", "paths"),
        passes={"paths": "patterns", "method": "method", "label": "label", "neighbours": "neighbours", "data": "source"},
        words=("run_dir",),
        elsewhere=("gradcam", "heatmap", "interpret", "saliency", "why"),
        example=("explain saved_models/RUN a.jpg", "what its answer rests on"),
    ),
    Mode(
        name="export",
        help="write a run's model for other programs, and prove that it agrees",
        run="tl_keras.workflows.export:export",
        show="tl_keras.results:of_export",
        function="export",
        makes_run=False,
        own_options=("formats", "sets", "data", "min_accuracy", "max_ece"),
        passes={
            "formats": "formats",
            "sets": "settings",
            "data": "source",
            "min_accuracy": "min_accuracy",
            "max_ece": "max_ece",
        },
        words=("run_dir", "data"),
        section="export",
        fails_by="missed",
        elsewhere=("convert", "save", "onnx", "tflite", "litert", "quantize"),
        example=("export saved_models/RUN --format onnx", "an ONNX file, checked"),
    ),
    Mode(
        name="verify",
        help="say whether an export is still what was written and signed",
        run="tl_keras.workflows.verify:verify",
        show="tl_keras.results:of_verification",
        function="verify",
        makes_run=False,
        own_options=("public_key",),
        passes={"public_key": "public_key"},
        words=("run_dir",),
        fails_by="wrong",
        elsewhere=("checksum", "sha256", "signature"),
        example=("verify saved_models/RUN", "is its export as it was"),
    ),
    Mode(
        name="compress",
        help="prune a run, distil it, round its numbers; show what each costs",
        run="tl_keras.workflows.compress:compress",
        show="tl_keras.results:of_compression",
        function="compress",
        makes_run=False,
        own_options=("formats", "sets", "data"),
        passes={"formats": "formats", "sets": "settings", "data": "source"},
        words=("run_dir", "data"),
        section="compress",
        elsewhere=("prune", "pruning", "distil", "distill", "distillation", "slim", "shrink", "sparsify"),
        example=("compress saved_models/RUN", "smaller forms, compared"),
    ),
    Mode(
        name="serve",
        help="answer over HTTP with a run's fastest export or its model",
        run="tl_keras.workflows.serve:serve",
        show="tl_keras.results:of_serving",
        function="serve",
        makes_run=False,
        own_options=("formats", "host", "port", "coverage", "access_log", "neighbours", "data"),
        passes={
            "formats": "formats",
            "host": "host",
            "port": "port",
            "coverage": "coverage",
            "access_log": "access_log",
            "neighbours": "neighbours",
            "data": "source",
        },
        words=("run_dir",),
        needs=("starlette", "uvicorn"),
        elsewhere=("server", "http", "rest", "api", "deploy", "host"),
        example=("serve saved_models/RUN", "a page and an API over HTTP"),
    ),
)

MODES: dict[str, Mode] = {mode.name: mode for mode in _ROWS}
TRAININGS = tuple(mode.name for mode in _ROWS if mode.run == TRAIN)
CLASSIFIERS = tuple(mode.name for mode in _ROWS if mode.function == "train")
FUNCTIONS = tuple(dict.fromkeys(mode.function for mode in _ROWS))


def load(name: str) -> Any:
    """The object that 'module:name' names."""
    module, _, inside = name.partition(":")
    return getattr(import_module(module), inside)


def called_elsewhere(word: str) -> list[str]:
    """The modes that other programs call by this word, which is as `short_forms.normal` writes it."""
    return [mode.name for mode in _ROWS if word in mode.elsewhere]
