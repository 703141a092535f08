"""What a run is told to do: typed, frozen sections, whose defaults live here and nowhere else.

`config_file` reads and writes them. This knows nothing of TensorFlow, of images or of backbones: what only the data or
the weights can tell (does this stage exist?) is checked where they are read. The `Config` goes to the mode that runs
it. `None` means: chosen later, from the number of images.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationInfo, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from tl_keras.modes import MODES
from tl_keras.setting_users import AUTO as AUTO

if TYPE_CHECKING:
    Mode = str
else:
    Mode = Literal[tuple(MODES)]
Selection = Literal["none", "head2toe", "anova", "chi2", "mutual_information", "l1", "trees", "rfe", "pca"]
ALREADY_CHECKED = {"settled": True}  # validation context of what a run has written: it was checked, by the defaults of its day


@dataclass(frozen=True)
class Expected:
    """The words for a type that its bounds alone do not describe."""

    phrase: str


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= pair[1]:
        raise ValueError("the lower bound comes first")
    return pair


def _text(value: object) -> str:
    """Any text; pydantic's own `str` refuses the name of a file that is not UTF-8."""
    if not isinstance(value, str) or not value:
        raise ValueError("text is expected")
    return value


Whole = Annotated[int, BeforeValidator(_refuse_bool)]
Number = Annotated[float, BeforeValidator(_refuse_bool)]
Positive = Annotated[Number, Field(gt=0)]
Name = Annotated[str, PlainValidator(_text), Expected("text (in quotes, where it looks like a number)")]
Side = Annotated[Whole, Field(ge=1)]
ImageSize = Annotated[Side | tuple[Side, Side], Expected("an integer >= 1 or a pair [height, width] of them")]
Factors = Annotated[
    tuple[Annotated[Number, Field(ge=0)], Annotated[Number, Field(ge=0)]],
    AfterValidator(_ascending),
    Expected("a pair [low, high] with 0 <= low <= high"),
]
Ratios = Annotated[tuple[Positive, Positive], AfterValidator(_ascending), Expected("a pair [low, high] with 0 < low <= high")]
Area = Annotated[Positive, Field(le=1)]
Areas = Annotated[tuple[Area, Area], AfterValidator(_ascending), Expected("a pair [low, high] with 0 < low <= high <= 1")]
Zoom = Annotated[
    Annotated[Number, Field(ge=0, lt=1)] | Ratios,
    Expected("a number >= 0 and < 1 or a pair [low, high] with 0 < low <= high"),
]
Stage = Annotated[str, Field(pattern=r"^(all|stage\d+)$"), Expected("'all' or the name of a stage, such as 'stage3'")]
Units = Annotated[tuple[Side, ...], Expected("a list of integers >= 1")]
ClassName = Annotated[str, Field(coerce_numbers_to_str=True, min_length=1)]
ClassWeights = Annotated[
    Literal["none", "balanced"] | dict[ClassName, Positive],
    Expected("'none', 'balanced' or a mapping of class name to a weight > 0"),
]


class Section(BaseModel):
    """A group of settings that belong together; immutable, and closed to names that it does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _refuse_contradictions(self, info: ValidationInfo) -> Self:
        if info.context == ALREADY_CHECKED:
            return self
        found = list(self._contradictions())
        if found:
            text = "; ".join(f"{field}: {reason}" for field, reason in found)
            raise PydanticCustomError("contradiction", "{text}", {"text": text, "found": found})
        return self

    def replace(self, path: str, value: Any) -> Self:
        """The same settings but for one, such as 'data.image_size'; the value is not checked.

        Raises:
            ValueError: there is no such setting.
        """
        name, _, rest = path.partition(".")
        if name not in type(self).model_fields:
            raise ValueError(f"there is no setting {name!r} in {type(self).__name__}")
        return self.model_copy(update={name: getattr(self, name).replace(rest, value) if rest else value})

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        """Settings that are right alone and wrong together: the name of one, and why."""
        yield from ()

    def _idle(self, name: str, used: bool, needs: str) -> Iterator[tuple[str, str]]:
        """A contradiction where `name` was changed from its default and nothing uses it."""
        value = getattr(self, name)
        if not used and value != type(self).model_fields[name].default:
            yield name, f"got {value!r}, which does nothing without {needs}."


class AugmentConfig(Section):
    """Random changes of training images, under the names and units of ImageDataGenerator.

    Drawn anew each epoch where epochs read images; where they read stored features, `features.views` times for each image.
    """

    horizontal_flip: bool = Field(default=False, description="mirror left to right with probability 1/2")
    vertical_flip: bool = Field(default=False, description="mirror top to bottom with probability 1/2")
    rotation_range: Number = Field(default=0.0, ge=0, le=180, description="degrees to either side")
    width_shift_range: Number = Field(default=0.0, ge=0, le=1, description="fraction of the width to either side")
    height_shift_range: Number = Field(default=0.0, ge=0, le=1, description="fraction of the height to either side")
    zoom_range: Zoom = Field(default=0.0, description="z for factors in [1 - z, 1 + z], or [low, high]; 1 is no zoom")
    shear_range: Number = Field(default=0.0, ge=0, lt=90, description="degrees to either side")
    brightness_range: Factors | None = Field(default=None, description="[low, high] of a factor; 1 is no change")
    contrast_range: Factors | None = Field(default=None, description="[low, high] of a factor; 1 is no change")
    saturation_range: Factors | None = Field(default=None, description="[low, high] of a factor; 0 is grey")
    hue_range: Number = Field(default=0.0, ge=0, le=0.5, description="fraction of the colour circle to either side")
    random_resized_crop: Areas | None = Field(default=(0.3, 1.0), description="[low, high] of the fraction of area kept; null: off")
    crop_ratio: Ratios = Field(default=(0.75, 1.3333), description="[low, high] of a random crop's width / height")
    fill_mode: Literal["constant", "nearest", "reflect", "wrap"] = Field(default="nearest", description="what lies outside of the image")
    cval: Number = Field(default=0.0, ge=0, le=255, description="pixel value outside, where fill_mode is constant")

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._idle("cval", self.fill_mode == "constant", "fill_mode: constant")
        yield from self._idle("crop_ratio", self.random_resized_crop is not None, "random_resized_crop")


class DataConfig(Section):
    """Where the images come from and how they become pixels."""

    source: Name = Field(default="digits", description="folder of class folders, 'digits', or a TFDS name or folder")
    val_fraction: Number = Field(default=0.15, gt=0, lt=0.5, description="fraction of images, where val is not given")
    test_fraction: Number = Field(default=0.15, gt=0, lt=0.5, description="fraction of images, where test is not given")
    split_seed: Whole = Field(default=0, ge=0, description="seed of the split, apart from runtime.seed")
    group_pattern: Name | None = Field(
        default=None,
        description="regular expression on paths; images for which its first bracket (or all of it) finds the same, such as those of "
        "one patient, stay on one side of every cut",
    )
    image_size: ImageSize | None = Field(default=None, description="pixels a side or [height, width]; null: backbone's")
    resize: Literal["crop", "letterbox", "stretch"] = Field(default="crop", description="how an image gets its size")
    bit_depth: Whole = Field(default=16, ge=8, le=16, description="bits of a grey in a 16-bit file that are used; 12: 4095 is white")
    max_megapixels: Positive = Field(default=100, le=700, description="images of more are refused as bad")
    on_bad_image: Literal["skip", "error"] = Field(default="skip", description="what a file that does not decode does")
    max_bad_fraction: Number = Field(default=0.05, ge=0, le=1, description="fraction of skipped files that is an error")
    download: bool = Field(default=False, description="may fetch a TFDS data set that is not on disk")
    download_timeout_s: Positive = Field(default=600.0, description="seconds until a download is given up")
    cache_gb: Number = Field(default=4.0, ge=0, description="GB on disk for resized uint8 pixels while a run lasts")
    augment: AugmentConfig = Field(default_factory=AugmentConfig, description="random changes of training images")

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        if self.val_fraction + self.test_fraction > 0.8:
            got = f"got {self.test_fraction!r} beside val_fraction {self.val_fraction!r}"
            yield "test_fraction", f"{got}, expected a sum <= 0.8: the rest is what there is to train on."


class ModelConfig(Section):
    """The network from pixels to logits."""

    backbone: Name = Field(
        default="small_resnet", description="a row of the table, a .keras file, a TF-Hub module, keras_hub:PRESET, or 'auto': see rank"
    )
    weights: Name = Field(default="pretrained", description="'pretrained', 'imagenet', 'none' (random) or a file")
    preprocessing: Literal["auto", "none", "zero_to_one", "minus_one_to_one", "torch", "caffe"] = Field(
        default="auto", description="what the backbone's first layer wants of pixels 0..255; auto: the table's row"
    )
    trust: bool = Field(default=False, description="load a SavedModel that reads or writes files or calls Python: it can do anything")
    pooling: Literal["avg", "max", "flatten"] = Field(default="avg", description="from feature map to vector")
    hidden: Units = Field(default=(), description="units of each relu layer before the logits")
    dropout: Number = Field(default=0.2, ge=0, lt=1, description="fraction of pooled features dropped in training")
    freeze_batchnorm: bool = Field(default=True, description="finetune: hold BatchNorm still also where its stage trains")


class FeaturesConfig(Section):
    """What the frozen part of the backbone puts out: computed once, kept on disk for later runs."""

    views: Annotated[Whole, Field(ge=0)] | None = Field(
        default=None, description="stored augmented views of each training image, beside the plain one"
    )
    stages: Literal["last", "all"] | None = Field(default=None, description="stages whose averages the head sees")
    selection: Selection = Field(default="none", description="of the features that a solved head uses: by what they are chosen")
    keep: Area | None = Field(default=None, description="fraction of the features (pca: components) to select; null: val chooses")
    max_gb: Number = Field(default=20.0, ge=0, description="GB on disk for all stored features")

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._idle("keep", self.selection != "none", "selection")


class TrainConfig(Section):
    """The phases of training: the head first, then, where the mode says so, the backbone's upper stages."""

    epochs: Side | None = Field(default=None, description="passes of finetuning or pretraining")
    batch_size: Side = Field(default=32, description="images per step")
    head_epochs: Side = Field(default=100, description="passes, at most, of a head that learns by steps: one with hidden layers")
    head_learning_rate: Positive = Field(default=1e-3, description="peak rate of a head that learns by steps")
    unfreeze_from: Stage | None = Field(default=None, description="lowest stage that finetuning trains")
    learning_rate: Positive | None = Field(default=None, description="peak rate of finetuning or pretraining")
    layer_decay: Area | None = Field(default=None, description="rate of a stage relative to the stage above it")
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="the rule of the updates")
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="of sgd")
    weight_decay: Number = Field(default=0.01, ge=0, description="decoupled: times rate, off each kernel every step")
    schedule: Literal["cosine", "cosine_restarts", "onecycle", "step", "constant"] = Field(
        default="cosine",
        description="rate over steps; onecycle has its own warm-up of 30 % in place of warmup_fraction; "
        "cosine_restarts keeps the weights of each cycle's end in snapshots/",
    )
    cycles: Side = Field(default=5, description="times that the rate falls from its peak to 0, where schedule is cosine_restarts")
    warmup_fraction: Number = Field(
        default=0.1, ge=0, lt=1, description="fraction of all steps (cosine_restarts: of the first cycle's) with a rising rate"
    )
    step_epochs: Side = Field(default=10, description="epochs between two drops, where schedule is step")
    step_factor: Area = Field(default=0.1, description="what a drop multiplies the rate by, where schedule is step")
    loss: Literal["cross_entropy", "focal", "mse"] = Field(default="cross_entropy", description="what training lowers")
    focal_gamma: Number = Field(default=2.0, ge=0, description="how little easy images count, where loss is focal")
    head_c: Positive | None = Field(
        default=None,
        description="C of a linear head, as in scikit-learn: the smaller, the stronger the regularisation; null: the best on val",
    )
    label_smoothing: Number = Field(default=0.1, ge=0, lt=1, description="probability spread over all classes (not while a head is solved)")
    clip_norm: Positive | None = Field(default=1.0, description="largest global norm of the gradients; null: any")
    class_weights: ClassWeights = Field(default="none", description="how much an image of each class counts")
    ema: Number = Field(default=0.0, ge=0, lt=1, description="momentum of the averaged weights per step; 0: no average")
    patience: Side | None = Field(default=None, description="epochs without improvement before a stop; null: no stop")
    monitor: Literal["val_loss", "val_accuracy"] = Field(default="val_loss", description="what makes an epoch the best")

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._idle("focal_gamma", self.loss == "focal", "loss: focal")
        yield from self._idle("momentum", self.optimizer == "sgd", "optimizer: sgd")
        yield from self._idle("warmup_fraction", self.schedule != "onecycle", "a schedule other than onecycle")
        yield from self._idle("step_epochs", self.schedule == "step", "schedule: step")
        yield from self._idle("step_factor", self.schedule == "step", "schedule: step")
        yield from self._idle("cycles", self.schedule == "cosine_restarts", "schedule: cosine_restarts")
        if self.schedule == "cosine_restarts":
            yield from self._wrong_with_restarts()

    def _wrong_with_restarts(self) -> Iterator[tuple[str, str]]:
        if self.epochs is not None and self.epochs < self.cycles:
            yield "cycles", f"got {self.cycles}, expected at most epochs, which is {self.epochs}: a cycle ends with an epoch."
        if self.patience is not None:
            got = f"got {self.patience}, expected null with schedule: cosine_restarts"
            yield "patience", f"{got}: a restart makes epochs worse for a while, which is no reason to stop."


class RankConfig(Section):
    """Which backbones are compared, by --mode rank or for model.backbone: auto."""

    candidates: Annotated[tuple[Name, ...], Field(min_length=1), Expected("a list of backbones")] = Field(
        default=("cached",), description="backbones; 'cached': each whose published weights lie on this machine"
    )
    max_images: Side = Field(default=2000, description="images of train and val that they are judged by")
    max_ms: Positive | None = Field(default=None, description="milliseconds an image that the chosen one may take; null: any")


class SearchConfig(Section):
    """What a search varies, how it goes through it, and when it ends."""

    space: Annotated[dict[Name, Any], Expected("a mapping of settings to what they may be")] | None = Field(
        default=None, description="setting -> {choice, int or float: ...}; null: what suits the training"
    )
    tuner: Literal["random", "grid", "bayesian", "hyperband"] = Field(default="bayesian", description="how the next trial is chosen")
    trial: Literal["extract", "finetune"] = Field(default="extract", description="what a trial does")
    objective: Literal["val_loss", "val_accuracy"] = Field(default="val_loss", description="what makes a trial the best")
    max_trials: Side = Field(default=100, description="trials at most")
    max_minutes: Positive | None = Field(default=None, description="minutes after which no trial begins; null: no limit")
    max_epochs: Side = Field(
        default=20, description="hyperband: epochs of the longest trials; where a head is solved, parts of train that they see"
    )
    keep_models: Side = Field(default=3, description="best trials whose model.keras is kept, where they are finetunings")

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._idle("keep_models", self.trial == "finetune", "trial: finetune")
        yield from self._idle("max_epochs", self.tuner == "hyperband", "tuner: hyperband")


class CrossvalConfig(Section):
    """How train and val are cut into folds, and what is trained on each."""

    folds: Annotated[Whole, Field(ge=2)] = Field(default=5, description="parts of which each is held out in turn")
    repeats: Side = Field(default=3, description="times that it is all done, each with another cut")
    training: Literal["extract", "finetune"] = Field(default="extract", description="what is done on each fold")
    against: Name | None = Field(default=None, description="folder of another cross-validation on the same folds, to compare with")


class EnsembleConfig(Section):
    """What is combined, and how."""

    members: Annotated[tuple[Name, ...], Expected("a list of backbones or of run folders")] = Field(
        default=(), description="backbones, or folders of runs on the same images; a run alone: its snapshots"
    )
    method: Literal["average", "vote", "stack", "bagging", "boosting", "soup"] = Field(
        default="average", description="of probabilities, of first places, learned; of resamples, trees; of weights"
    )
    meta: Literal["mixture", "linear"] = Field(
        default="mixture", description="what a stack learns: weights of a mean, or a linear classifier"
    )
    resamples: Side = Field(default=10, description="bagging: heads of each backbone")
    rounds: Side = Field(default=100, description="boosting: rounds at most")

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._idle("meta", self.method == "stack", "method: stack")
        yield from self._idle("resamples", self.method == "bagging", "method: bagging")
        yield from self._idle("rounds", self.method == "boosting", "method: boosting")


class ExportConfig(Section):
    """How an artifact is written and checked."""

    parity_images: Side = Field(default=16, description="test images on which model and artifact are compared")


class RuntimeConfig(Section):
    """The machine's side of a run."""

    seed: Whole = Field(default=0, ge=0, le=2**31 - 1, description="of weights, order, dropout and, where epochs read images, augmentation")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="of the computation; auto: float32, or what is measurably faster on this machine where that matters"
    )
    deterministic: bool = Field(default=True, description="the same numbers from the same seed, on the same machine")
    threads: Side | None = Field(default=None, description="CPU threads; null: one per core")


class Config(Section):
    """All that a run is told."""

    mode: Mode = Field(description="what the run does")
    data: DataConfig = Field(default_factory=DataConfig, description="images")
    model: ModelConfig = Field(default_factory=ModelConfig, description="network")
    features: FeaturesConfig = Field(default_factory=FeaturesConfig, description="frozen features")
    train: TrainConfig = Field(default_factory=TrainConfig, description="training")
    rank: RankConfig = Field(default_factory=RankConfig, description="choice of a backbone")
    search: SearchConfig = Field(default_factory=SearchConfig, description="choice of settings")
    crossval: CrossvalConfig = Field(default_factory=CrossvalConfig, description="folds")
    ensemble: EnsembleConfig = Field(default_factory=EnsembleConfig, description="combination")
    export: ExportConfig = Field(default_factory=ExportConfig, description="artifact")
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig, description="machine")

    @property
    def trained(self) -> str:
        """What is trained: the mode itself; for a search or a cross-validation, the mode of each of its training runs."""
        by = MODES[self.mode].trains
        return self.mode if by is None else attrgetter(by)(self)

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        solved = self.mode != "pretrain" and not self.model.hidden and self.train.loss == "cross_entropy"
        if self.train.head_c is not None and not solved:
            yield (
                "train.head_c",
                f"got {self.train.head_c!r}, which does nothing without a linear head and loss: cross_entropy.",
            )
        if self.trained == "extract" and self.train.schedule == "cosine_restarts":
            yield "train.schedule", "got 'cosine_restarts', which does nothing where a head alone is trained: it keeps no snapshots."
        if self.mode == "pretrain" and self.features.stages == "all":
            yield "features.stages", "got 'all', expected 'last': pretraining has no frozen features."
        if self.features.selection != "none" and not solved:
            yield (
                "features.selection",
                f"got {self.features.selection!r}, which does nothing without a linear head and loss: cross_entropy.",
            )
        if self.model.backbone == AUTO and self.mode == "pretrain":
            yield "model.backbone", "got 'auto', expected a name: there is nothing to rank before pretraining."
        if self.mode == "pretrain" and self.train.unfreeze_from not in (None, "all"):
            yield "train.unfreeze_from", f"got {self.train.unfreeze_from!r}, expected 'all': pretraining freezes nothing."


def _section(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def fields(section: type[Section] = Config, prefix: str = "") -> dict[str, FieldInfo]:
    """Every setting by its path, such as 'data.augment.rotation_range', in the order of the sections."""
    found: dict[str, FieldInfo] = {}
    for name, field in section.model_fields.items():
        inner = _section(field)
        found |= fields(inner, f"{prefix}{name}.") if inner else {f"{prefix}{name}": field}
    return found


def absolute(value: str, names: Container[str]) -> str:
    """A setting that may be a path, so that later modes find it from any folder: absolute where it exists and is not one of `names`."""
    path = Path(value).expanduser()
    return str(path.resolve()) if value not in names and path.exists() else value
