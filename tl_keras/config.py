"""The configuration of a run: typed, frozen sections, whose defaults live here and nowhere else.

`config_file` reads and writes them. This knows nothing of TensorFlow, of images or of backbones: what only the data or
the weights can tell (does this stage exist?) is checked where they are read. The `Config` goes to the mode that runs
it. `None` means: chosen later from the data.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationInfo, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from tl_keras import tasks
from tl_keras.augment_policies import DEFAULT_POLICY, POLICIES
from tl_keras.modes import MODES
from tl_keras.setting_users import AUTO as AUTO

if TYPE_CHECKING:
    Mode = str
    Policy = str
else:
    Mode = Literal[tuple(MODES)]
    Policy = Literal[tuple(POLICIES)]
Selection = Literal["none", "head2toe", "anova", "chi2", "mutual_information", "l1", "trees", "rfe", "pca"]
Column = Literal["path", "label", "split", "group", "domain", "weight"]  # what a column of a table says
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
ALREADY_CHECKED = {"settled": True}  # validation context of what a run has written: it was checked, by the defaults of its day


@dataclass(frozen=True)
class Expected:
    """The words for a type that its bounds alone do not describe."""

    phrase: str


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _refuse_pixels(value: object) -> object:
    """ImageDataGenerator takes 1 for a pixel and 1.0 for the whole side."""
    if isinstance(value, int) and value >= 1:
        raise ValueError("a shift is a fraction of the side")
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
Probability = Annotated[Number, Field(ge=0, le=1)]
Name = Annotated[str, PlainValidator(_text), Expected("text (in quotes, where it looks like a number)")]
Side = Annotated[Whole, Field(ge=1)]
ImageSize = Annotated[Side | tuple[Side, Side], Expected("an integer >= 1 or a pair [height, width] of them")]
Shift = Annotated[
    Number,
    Field(ge=0, le=1),
    BeforeValidator(_refuse_pixels),
    Expected("a fraction of the side, 0.0 to 1.0; for pixels divide them by the side, such as 0.05 for 5 of 100"),
]
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
        """Settings that are valid alone but not together: the name of one, and why."""
        yield from ()

    def _idle(self, name: str, used: bool, needs: str) -> Iterator[tuple[str, str]]:
        """A contradiction where `name` was changed from its default and nothing uses it."""
        value = getattr(self, name)
        if not used and value != type(self).model_fields[name].default:
            yield name, f"got {value!r}, which has no effect without {needs}."


class AugmentConfig(Section):
    """Random augmentation of training images, with the names and units of Keras' ImageDataGenerator.

    Drawn anew in each epoch that reads images; for stored features, `features.views` times for each image.
    """

    policy: Policy = Field(
        default=DEFAULT_POLICY,
        description="values for the other settings of this section; what is given beside it wins. none: no changes; crop: the defaults; "
        "light: crops less, changes colours a little; trivial: adds TrivialAugment; strong: RandAugment, random erasing, crops more",
    )
    horizontal_flip: bool = Field(default=False, description="mirror images left to right with probability 1/2")
    vertical_flip: bool = Field(default=False, description="mirror images top to bottom with probability 1/2")
    rotation_range: Number = Field(default=0.0, ge=0, le=180, description="largest rotation in degrees, in either direction")
    width_shift_range: Shift = Field(default=0.0, description="largest horizontal shift, as a fraction of the width")
    height_shift_range: Shift = Field(default=0.0, description="largest vertical shift, as a fraction of the height")
    zoom_range: Zoom = Field(default=0.0, description="z for zoom factors in [1 - z, 1 + z], or [low, high]; 1 is no zoom")
    shear_range: Number = Field(default=0.0, ge=0, lt=90, description="largest shear angle in degrees, in either direction")
    brightness_range: Factors | None = Field(default=None, description="[low, high] for the brightness factor; 1 is no change")
    contrast_range: Factors | None = Field(default=None, description="[low, high] for the contrast factor; 1 is no change")
    saturation_range: Factors | None = Field(default=None, description="[low, high] for the saturation factor; 1 is no change, 0 is grey")
    hue_range: Number = Field(default=0.0, ge=0, le=0.5, description="largest hue shift, as a fraction of the colour circle")
    channel_shift_range: Number = Field(
        default=0.0, ge=0, le=255, description="largest amount added to all pixel values of an image, in either direction"
    )
    grayscale: Probability = Field(default=0.0, description="probability with which an image becomes grey")
    random_resized_crop: Areas | None = Field(
        default=(0.3, 1.0), description="[low, high] for the fraction of the area that a random crop keeps; null: no random crop"
    )
    crop_ratio: Ratios = Field(default=(0.75, 1.3333), description="[low, high] for the aspect ratio (width / height) of a random crop")
    fill_mode: Literal["constant", "nearest", "reflect", "wrap"] = Field(
        default="nearest", description="how to fill pixels outside the image"
    )
    cval: Number = Field(default=0.0, ge=0, le=255, description="pixel value outside the image with fill_mode: constant")

    auto: Literal["none", "trivial", "rand"] = Field(
        default="none",
        description="random operations on geometry and colours, as TrivialAugment (trivial: one, of random strength) or RandAugment "
        "(rand: rand_ops of them, of strength rand_magnitude) have them",
    )
    rand_ops: Whole = Field(default=2, ge=1, le=3, description="number of operations on an image with auto: rand")
    rand_magnitude: Whole = Field(default=9, ge=0, le=30, description="strength of the operations with auto: rand")
    random_erasing: Probability = Field(
        default=0.0, description="probability with which a random box, 2 to 33 % of the area, is filled with the image's mean colour"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_policy(cls, given: Any) -> Any:
        policy = given.get("policy") if isinstance(given, dict) else None
        return {**POLICIES[policy], **given} if isinstance(policy, str) and policy in POLICIES else given

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._idle("rand_ops", self.auto == "rand", "auto: rand")
        yield from self._idle("rand_magnitude", self.auto == "rand", "auto: rand")
        yield from self._idle("cval", self.fill_mode == "constant", "fill_mode: constant")
        yield from self._idle("crop_ratio", self.random_resized_crop is not None, "random_resized_crop")


class DataConfig(Section):
    """Where the images come from and how they become pixels."""

    source: Name = Field(
        default="digits",
        description="a folder of class folders, a .zip or .tar archive of them, a table of paths and labels (.csv, .tsv, .parquet), "
        "the address of one of these (s3://, gs://, ...), a folder of shards (WebDataset, TFRecord, ArrayRecord), 'digits', or the name or "
        "folder of a TFDS data set",
    )
    nested_classes: bool = Field(
        default=False, description="class folders lie one level deeper, in folders such as animal/ and plant/; a class is called animal/cat"
    )
    columns: (
        Annotated[
            dict[Column, Name | tuple[Name, ...]],
            Expected("a mapping of path, label, split, group, domain or weight to the name of a column (label also to a list of names)"),
        ]
        | None
    ) = Field(
        default=None,
        description="which column of a table says what, where the names of the columns do not; such as {path: id}; with "
        "{label: [cat, dog]} each of these columns says how much of that class an image is (soft labels)",
    )
    task: Literal["single_label", "multi_label", "regression"] = Field(
        default="single_label",
        description="what the label of an image is: one class (single_label); or, in a table, any number of classes (multi_label), or a "
        "number (regression)",
    )
    label_separator: Name = Field(default=";", description="what separates the classes of an image in a table, with task: multi_label")
    missing_values: Literal["error", "drop"] = Field(
        default="error",
        description="whether a table in which used values are missing is refused (error), or those rows are left out (drop)",
    )
    image_folder: Name | None = Field(
        default=None, description="the folder that the paths in a table begin at; null: the folder of the table"
    )
    val_fraction: Number = Field(
        default=0.15, gt=0, lt=0.5, description="fraction of the images for validation, if the data has no val split"
    )
    test_fraction: Number = Field(
        default=0.15, gt=0, lt=0.5, description="fraction of the images for testing, if the data has no test split"
    )
    per_class: Side | None = Field(
        default=None,
        description="maximum number of images of each class to train on; val and test do not depend on it; null: all",
    )
    split_seed: Whole = Field(default=0, ge=0, description="random seed for the split; independent of runtime.seed")
    stable_split: bool = Field(
        default=False,
        description="every image keeps its split when others are added: its content draws it, so that the fractions are met roughly",
    )
    group_pattern: Name | None = Field(
        default=None,
        description="regular expression on image paths; images with the same match (of its first group, if it has one), such as those of "
        "one patient, stay on the same side of every split",
    )
    copies: Literal["exact", "near"] = Field(
        default="exact",
        description="which copies stay on one side of every split: equal files (exact), or also the same picture recompressed, resized "
        "or mirrored (near), for which every image is decoded once more",
    )
    image_size: ImageSize | None = Field(
        default=None, description="image size in pixels: one number for squares, or [height, width]; null: the backbone's"
    )
    resize: Literal["crop", "letterbox", "stretch"] = Field(
        default="crop", description="how images are resized: crop the centre, pad (letterbox), or change the aspect ratio (stretch)"
    )
    bit_depth: Whole = Field(
        default=16, ge=8, le=16, description="significant bits per pixel of 16-bit grey images; 12 means that 4095 is white"
    )
    max_megapixels: Positive = Field(default=100, le=700, description="larger images count as bad")
    on_bad_image: Literal["skip", "error"] = Field(
        default="skip", description="whether a file that cannot be decoded is skipped or ends the run"
    )
    max_bad_fraction: Number = Field(
        default=0.05, ge=0, le=1, description="largest fraction of files that may be skipped; more is an error"
    )
    exclude: Name | None = Field(
        default=None,
        description="CSV file with a column 'path': images, by their paths below the data folder, that are left out of train and val; "
        "test keeps all of its images",
    )
    download: bool = Field(default=False, description="download the TFDS data set if it is not on disk")
    download_timeout_s: Positive = Field(default=600.0, description="time limit for a download, in seconds")
    cache_gb: Number = Field(default=4.0, ge=0, description="largest size in GB of the temporary cache of resized images on disk")
    augment: AugmentConfig = Field(default_factory=AugmentConfig, description="random changes of training images")

    @property
    def has_weights(self) -> bool:
        """Whether a column of the table says how much each image counts."""
        return "weight" in (self.columns or {})

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        is_table = self.source.lower().endswith(TABLE_SUFFIXES)
        for name in ("columns", "image_folder", "missing_values", "task"):
            yield from self._idle(name, is_table, f"a table ({', '.join(TABLE_SUFFIXES)}) as source")
        for role, names in (self.columns or {}).items():
            if not isinstance(names, str):
                yield from self._unfit_list(role, names)
        yield from self._idle("label_separator", self.task == tasks.MULTI_LABEL, "task: multi_label")
        yield from self._idle("per_class", self.task == tasks.SINGLE_LABEL, "task: single_label")
        yield from self._idle("nested_classes", not is_table, "folders as source")
        if self.val_fraction + self.test_fraction > 0.8:
            got = f"got {self.test_fraction!r} beside val_fraction {self.val_fraction!r}"
            yield "test_fraction", f"{got}, expected a sum <= 0.8: only the rest is left for training."

    def _unfit_list(self, role: str, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """What is wrong with a list of columns, which soft labels are."""
        if role != "label":
            yield "columns", f"got a list for {role}, expected the name of one column; a list is for label alone."
        elif self.task != tasks.SINGLE_LABEL:
            yield "columns", f"got a list for label, which needs task: single_label, not {self.task}."
        elif len(set(names)) < max(2, len(names)):
            yield "columns", f"got {len(names)} columns for label, expected two or more, each of them once."


class ModelConfig(Section):
    """The network from pixels to logits."""

    backbone: Name = Field(
        default="small_resnet",
        description="a name from docs/backbones.md, a .keras file, a TF-Hub module, keras_hub:PRESET, or 'auto' for the best of "
        "rank.candidates",
    )
    weights: Name = Field(default="pretrained", description="weights of the backbone: 'pretrained', 'imagenet', 'none' (random) or a file")
    preprocessing: Literal["auto", "none", "zero_to_one", "minus_one_to_one", "torch", "caffe"] = Field(
        default="auto", description="how pixels 0..255 are scaled for the backbone; auto: as its weights were trained"
    )
    trust: bool = Field(
        default=False, description="load a SavedModel even if it reads or writes files or calls Python; such a model can run any code"
    )
    pooling: Literal["avg", "max", "flatten"] = Field(
        default="avg", description="how the feature map becomes a vector: average, maximum, or all values"
    )
    hidden: Units = Field(default=(), description="sizes of the hidden ReLU layers of the head; [] for a linear head")
    dropout: Number = Field(default=0.2, ge=0, lt=1, description="dropout rate on the pooled features in training")
    freeze_batchnorm: bool = Field(default=True, description="finetune: keep BatchNorm layers frozen even in the stages that are trained")


class FeaturesConfig(Section):
    """Outputs of the frozen part of the backbone: computed once and kept on disk for later runs."""

    views: Annotated[Whole, Field(ge=0)] | None = Field(
        default=None, description="number of augmented views to store for each training image, besides the original"
    )
    stages: Literal["last", "all"] | None = Field(default=None, description="stages whose pooled features the head uses")
    selection: Selection = Field(default="none", description="feature-selection method for a linear head")
    keep: Area | None = Field(default=None, description="fraction of the features (pca: of the components) to keep; null: the best on val")
    max_gb: Number = Field(default=20.0, ge=0, description="largest size in GB of the feature store on disk")

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._idle("keep", self.selection != "none", "selection")


class TrainConfig(Section):
    """The phases of training: first the head, then, if the mode is finetune, the upper stages of the backbone."""

    epochs: Side | None = Field(default=None, description="number of epochs of finetuning or pretraining")
    batch_size: Side = Field(default=32, description="images per training step")
    head_epochs: Side = Field(
        default=100, description="maximum number of epochs for a head that is trained by gradient steps, such as one with hidden layers"
    )
    head_learning_rate: Positive = Field(default=1e-3, description="peak learning rate for a head that is trained by gradient steps")
    unfreeze_from: Stage | None = Field(default=None, description="lowest stage of the backbone that finetuning trains")
    unfreeze_every: Side | None = Field(
        default=None,
        description="epochs after which the next stage below begins to train, from the last down to unfreeze_from (gradual unfreezing); "
        "null: all from the first epoch",
    )
    learning_rate: Positive | None = Field(default=None, description="peak learning rate of finetuning or pretraining")
    layer_decay: Area | None = Field(default=None, description="learning rate of a stage relative to that of the stage above")
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="optimizer")
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: Number = Field(default=0.01, ge=0, description="decoupled weight decay of the kernels, multiplied by the learning rate")
    decay_towards: Literal["zero", "start"] = Field(
        default="zero", description="what weight_decay pulls the kernels towards; start: the weights before training (L2-SP)"
    )
    interpolate: bool = Field(
        default=False, description="keep the best point on val between the weights before finetuning and those after (WiSE-FT)"
    )
    keep_features: Number = Field(
        default=0.0, ge=0, description="strength of a loss that keeps the backbone's features near those before finetuning (DELTA); 0: none"
    )
    sparsity: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="share of the weights of the trained kernels that becomes zero on the way (gradual magnitude pruning); 0: none",
    )
    teacher: Name | None = Field(
        default=None,
        description="run folder whose answers to the training images are learned beside the labels (knowledge distillation)",
    )
    teacher_weight: Area = Field(
        default=0.5, description="share of the teacher's answer in what an image is taught; the label has the rest"
    )
    schedule: Literal["cosine", "cosine_restarts", "onecycle", "step", "constant"] = Field(
        default="cosine",
        description="learning-rate schedule; onecycle has its own warm-up of 30 % instead of warmup_fraction; "
        "cosine_restarts saves the weights at the end of each cycle in snapshots/",
    )
    cycles: Side = Field(default=5, description="number of cycles with schedule: cosine_restarts")
    warmup_fraction: Number = Field(
        default=0.1, ge=0, lt=1, description="fraction of all steps (cosine_restarts: of the first cycle) in which the learning rate rises"
    )
    step_epochs: Side = Field(default=10, description="epochs between two drops of the learning rate with schedule: step")
    step_factor: Area = Field(default=0.1, description="factor by which the learning rate drops with schedule: step")
    loss: Literal["auto", "cross_entropy", "focal", "mse", "huber"] = Field(
        default="auto",
        description="training loss; auto: cross_entropy, or mse with data.task: regression, for which a linear head is solved",
    )
    focal_gamma: Number = Field(default=2.0, ge=0, description="focusing parameter gamma with loss: focal")
    head_c: Positive | None = Field(
        default=None,
        description="C of a linear head, as in scikit-learn: the smaller, the stronger the regularisation; null: the best on val",
    )
    mixup_alpha: Number = Field(
        default=0.0,
        ge=0,
        description="alpha of MixUp, which blends each image and its label with another of the batch; 0: off, often 0.2",
    )
    cutmix_alpha: Number = Field(
        default=0.0,
        ge=0,
        description="alpha of CutMix, which pastes a box of another image of the batch, and mixes the labels by area; 0: off, often 1; "
        "with mixup_alpha too, an image gets one of the two",
    )
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] | None = Field(
        default=None, description="label smoothing; not used when a linear head is solved; null: 0.1 with data.task: single_label, else 0"
    )
    clip_norm: Positive | None = Field(default=1.0, description="gradients are clipped to this global norm; null: no clipping")
    class_weights: ClassWeights = Field(default="none", description="weight of the images of each class")
    sampling: Literal["natural", "balanced", "by_shard"] = Field(
        default="natural",
        description="images of an epoch: each once (natural), drawn so that all classes come equally often (balanced), or each once, the "
        "images of a few shards mixed at a time (by_shard)",
    )
    logit_adjustment: Number = Field(
        default=0.0,
        ge=0,
        description="strength of logit adjustment, by which rare classes have to win by more in training and are decided for more often; "
        "0: off, often 1",
    )
    ema: Number = Field(default=0.0, ge=0, lt=1, description="momentum of the exponential moving average of the weights; 0: none")
    save_minutes: Positive = Field(
        default=10.0, description="minutes between two checkpoints within an epoch, from which a run that was killed goes on"
    )
    patience: Side | None = Field(
        default=None, description="early stopping after so many epochs without improvement; null: no early stopping"
    )
    monitor: Literal["val_loss", "val_accuracy", "val_map", "val_mae"] = Field(
        default="val_loss",
        description="figure by which the best epoch is chosen; beside val_loss each data.task has one, in this order",
    )

    @property
    def mixes(self) -> bool:
        """Whether images of a batch, and their targets, are mixed."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        for name in ("mixup_alpha", "cutmix_alpha"):
            yield from self._idle(name, self.batch_size > 1, "a batch_size > 1: an image is mixed with the next of its batch")
        yield from self._idle("logit_adjustment", self.loss in ("auto", "cross_entropy"), "loss: cross_entropy")
        if self.logit_adjustment and (self.sampling == "balanced" or self.class_weights == "balanced"):
            beside = "sampling" if self.sampling == "balanced" else "class_weights"
            yield "logit_adjustment", f"got {self.logit_adjustment!r}, which has no effect beside {beside}: balanced. Remove one of them."
        yield from self._idle("teacher_weight", self.teacher is not None, "teacher")
        if self.sparsity and self.interpolate:
            yield "interpolate", "got true, expected false with sparsity: the weights before finetuning are not zero."
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
            yield "patience", f"{got}: a restart makes epochs worse for a while, which is not a reason to stop."


class RankConfig(Section):
    """Which backbones are compared, by --mode rank or for model.backbone: auto."""

    candidates: Annotated[tuple[Name, ...], Field(min_length=1), Expected("a list of backbones")] = Field(
        default=("cached",), description="backbones to compare; 'cached': all whose published weights are on this machine"
    )
    max_images: Side = Field(default=2000, description="maximum number of images of train and val used for the comparison")
    max_ms: Positive | None = Field(
        default=None, description="maximum time per image of the chosen backbone, in milliseconds; null: no limit"
    )


class SearchConfig(Section):
    """What a search varies, which strategy it uses, and when it ends."""

    space: Annotated[dict[Name, Any], Expected("a mapping of settings to their possible values")] | None = Field(
        default=None, description="setting -> {choice, int or float: ...}; null: a default space for the kind of trial"
    )
    tuner: Literal["random", "grid", "bayesian", "hyperband"] = Field(default="bayesian", description="search strategy")
    trial: Literal["extract", "finetune"] = Field(default="extract", description="training mode of each trial")
    objective: Literal["val_loss", "val_accuracy", "val_map", "val_mae"] = Field(
        default="val_loss", description="figure by which the best trial is chosen; as train.monitor"
    )
    max_trials: Side = Field(default=100, description="maximum number of trials")
    max_minutes: Positive | None = Field(default=None, description="no new trial begins after so many minutes; null: no limit")
    max_epochs: Side = Field(
        default=20, description="hyperband: number of epochs of the longest trials; for solved heads, number of equal parts of train"
    )
    keep_models: Side = Field(default=3, description="number of best trials whose model.keras is kept, with trial: finetune")

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._idle("keep_models", self.trial == "finetune", "trial: finetune")
        yield from self._idle("max_epochs", self.tuner == "hyperband", "tuner: hyperband")


class CrossvalConfig(Section):
    """How train and val are split into folds, and what is trained on each."""

    folds: Annotated[Whole, Field(ge=2)] = Field(default=5, description="number of folds")
    repeats: Side = Field(default=3, description="number of repeats, each with different folds")
    training: Literal["extract", "finetune"] = Field(default="extract", description="training mode for each fold")
    against: Name | None = Field(default=None, description="run folder of another cross-validation on the same folds to compare with")


class EnsembleConfig(Section):
    """Which models are combined, and how."""

    members: Annotated[tuple[Name, ...], Expected("a list of backbones or of run folders")] = Field(
        default=(), description="backbones, or run folders on the same images; a single run: its snapshots"
    )
    method: Literal["average", "vote", "stack", "bagging", "boosting", "soup"] = Field(
        default="average",
        description="how members are combined: average of answers, majority vote (of numbers the median), stacking, bagging, boosting, or "
        "weight soup",
    )
    meta: Literal["mixture", "linear"] = Field(
        default="mixture", description="meta-learner of a stack: weights for the average, or a linear model"
    )
    resamples: Side = Field(default=10, description="bagging: number of heads for each backbone")
    rounds: Side = Field(default=100, description="boosting: maximum number of rounds")

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._idle("meta", self.method == "stack", "method: stack")
        yield from self._idle("resamples", self.method == "bagging", "method: bagging")
        yield from self._idle("rounds", self.method == "boosting", "method: boosting")


class AdaptConfig(Section):
    """The target domain, and how a classifier that learns from the source is adapted to it."""

    target: Name | None = Field(
        default=None,
        description="images of the target domain: a folder of them without labels, or what data.source may be; labels serve the last "
        "table only",
    )
    method: Literal[
        "auto",
        "source_only",
        "adabn",
        "standardise",
        "coral",
        "subspace",
        "tca",
        "least_mmd",
        "optimal_transport",
        "domain_classifier",
        "kmm",
        "kliep",
        "ulsif",
        "label_shift",
        "self_training",
        "mcc",
        "dan",
        "deep_coral",
        "dann",
        "cdan",
    ] = Field(
        default="auto",
        description="how; auto: the mean of the heads of all methods that can be trusted, as far as that is seen without labels; where the "
        "domains are far apart adabn, self_training and mcc",
    )
    max_minutes: Positive = Field(
        default=30.0, description="how long auto may train the backbone; looked at after each epoch, so the first is always trained"
    )


class ExportConfig(Section):
    """How an exported model is checked; `export` itself can set these anew."""

    parity_images: Side = Field(
        default=200,
        description="number of images on which the model and the exported one are compared: of test, and where these are fewer of val "
        "and train",
    )
    max_probability_difference: Positive = Field(
        default=1e-4,
        description="largest difference of a probability or of the novelty between the model and an exported one in float32; ten times "
        "as much where it decodes files itself. Of a number, in standard deviations",
    )
    min_agreement: Probability = Field(
        default=0.97, description="smallest share of the images that the model and an exported one must give the same classes"
    )
    calibration_images: Side = Field(default=100, description="number of training images whose activations give litert_int8 its ranges")
    sign_key: Name | None = Field(
        default=None, description="file with the private key that signs an export, never taken from a run's config.yaml; null: none"
    )


class CompressConfig(Section):
    """What a run is compressed into; `compress` itself can set these anew."""

    sparsities: Annotated[tuple[Annotated[Number, Field(gt=0, lt=1)], ...], Expected("a list of numbers > 0 and < 1")] = Field(
        default=(0.5, 0.8), description="train.sparsity of each pruned run; [] for none"
    )
    students: Annotated[tuple[Name, ...], Expected("a list of backbones")] | None = Field(
        default=None,
        description="backbones that learn from the run; null: the best two that rank.candidates has on its front and that are faster",
    )


class RuntimeConfig(Section):
    """Seed, engine, precision, threads, devices, cluster and tracker."""

    seed: Whole = Field(
        default=0, ge=0, le=2**31 - 1, description="random seed for initial weights, the order of images, dropout and augmentation"
    )
    engine: Literal["auto", "tensorflow", "openvino", "openvino_bfloat16"] = Field(
        default="auto",
        description="what computes everything that is not trained; auto: on a CPU openvino where it takes the backbone, or what is "
        "measurably faster on this machine",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="numeric precision of the network; auto: float32, or, on a GPU or without openvino, a lower one if it is measurably "
        "faster on this machine",
    )
    deterministic: bool = Field(
        default=True, description="make runs reproducible: the same seed gives the same results on the same machine"
    )
    threads: Side | None = Field(default=None, description="number of CPU threads; null: one per core")
    strategy: Literal["auto", "none", "mirrored"] = Field(
        default="auto",
        description="what trains; auto: all GPUs of this machine, and with TF_CONFIG those of all that it names; none: one device; "
        "mirrored: all, of which there must be several",
    )
    cluster: Literal["none", "ray"] = Field(
        default="none",
        description="who computes frozen features, and solves a head whose features have no room in memory; ray: the machines of a Ray "
        "cluster (RAY_ADDRESS, or one on this machine)",
    )
    tracker: Literal["none", "mlflow", "wandb"] = Field(
        default="none", description="experiment tracker that gets the settings, curves, figures and report of a training run"
    )

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        if self.engine.startswith("openvino") and self.precision not in ("auto", "float32"):
            yield (
                "engine",
                f"got '{self.engine}', which runs networks in float32, and precision '{self.precision}'. Set one of them to auto.",
            )


class Config(Section):
    """The whole configuration of a run."""

    mode: Mode = Field(description="what to do")
    data: DataConfig = Field(default_factory=DataConfig, description="images")
    model: ModelConfig = Field(default_factory=ModelConfig, description="network")
    features: FeaturesConfig = Field(default_factory=FeaturesConfig, description="frozen features")
    train: TrainConfig = Field(default_factory=TrainConfig, description="training")
    rank: RankConfig = Field(default_factory=RankConfig, description="choice of a backbone")
    search: SearchConfig = Field(default_factory=SearchConfig, description="choice of settings")
    crossval: CrossvalConfig = Field(default_factory=CrossvalConfig, description="folds")
    ensemble: EnsembleConfig = Field(default_factory=EnsembleConfig, description="combination")
    adapt: AdaptConfig = Field(default_factory=AdaptConfig, description="target domain")
    export: ExportConfig = Field(default_factory=ExportConfig, description="artifact")
    compress: CompressConfig = Field(default_factory=CompressConfig, description="smaller artifacts")
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig, description="machine")

    @property
    def trained(self) -> str:
        """What is trained: the mode itself; for a search or a cross-validation, the mode of each of its training runs."""
        by = MODES[self.mode].trains
        return self.mode if by is None else attrgetter(by)(self)

    @property
    def is_adapted(self) -> bool:
        """Whether the model is for images of another domain than that of its val: of a run that adapted, or an ensemble of such."""
        return self.mode == "adapt" or (self.mode == "ensemble" and self.adapt.target is not None)

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        task = tasks.TASKS[self.data.task]
        yield from self._wrong_for_task(task)
        if self.data.has_weights and self.features.selection != "none":
            got = f"got '{self.features.selection}', expected 'none' with weights of images (data.columns)"
            yield "features.selection", f"{got}, which a selection does not use."
        if self.data.has_weights and self.mode == "ensemble":
            yield "data.columns", "got weights of images, which have no effect with mode: ensemble. Remove them, or combine runs."
        solved = self.mode != "pretrain" and not self.model.hidden and tasks.solves_head(self.train.loss, self.data.task, self.trained)
        if self.train.head_c is not None and not (solved and self.data.task != tasks.REGRESSION):
            yield (
                "train.head_c",
                f"got {self.train.head_c!r}, which has no effect "
                + ("on numbers." if self.data.task == tasks.REGRESSION else "without a linear head and loss: cross_entropy."),
            )
        if self.trained == "extract" and self.train.schedule == "cosine_restarts":
            yield "train.schedule", "got 'cosine_restarts', which has no effect when only a head is trained: there are no snapshots."
        if self.mode == "pretrain" and self.features.stages == "all":
            yield "features.stages", "got 'all', expected 'last': pretraining has no frozen features."
        if self.features.selection != "none" and not (solved and self.data.task == tasks.SINGLE_LABEL):
            yield (
                "features.selection",
                f"got {self.features.selection!r}, which has no effect without "
                + ("data.task: single_label." if self.data.task != tasks.SINGLE_LABEL else "a linear head and loss: cross_entropy."),
            )
        if self.model.backbone == AUTO and self.mode == "pretrain":
            yield "model.backbone", "got 'auto', expected a name: there is nothing to rank before pretraining."
        if self.train.teacher is not None and self.mode in ("search", "crossval"):
            yield "train.teacher", f"got '{self.train.teacher}', expected null with mode: {self.mode}, whose training runs have none."
        if self.mode in ("search", "crossval") and self.runtime.cluster != "none":
            yield (
                "runtime.cluster",
                f"got '{self.runtime.cluster}', expected 'none' with mode: {self.mode}. Fill the store by extract first.",
            )
        if self.runtime.tracker != "none" and self.mode == "crossval":
            yield "runtime.tracker", f"got '{self.runtime.tracker}', expected 'none' with mode: crossval, whose folds are not tracked."
        if self.train.unfreeze_every is not None and not self.model.freeze_batchnorm:
            got = f"got {self.train.unfreeze_every!r}, which needs model.freeze_batchnorm: true"
            yield "train.unfreeze_every", f"{got}: the statistics of a stage would move before its turn."
        if self.mode == "pretrain" and self.train.unfreeze_from not in (None, "all"):
            yield "train.unfreeze_from", f"got {self.train.unfreeze_from!r}, expected 'all': pretraining freezes nothing."

    def _wrong_for_task(self, task: tasks.Task) -> Iterator[tuple[str, str]]:
        """What does not go with `data.task`."""
        name = self.data.task
        if self.train.loss not in ("auto", *task.losses):
            yield "train.loss", f"got '{self.train.loss}', expected {_either(('auto', *task.losses))} with data.task: {name}."
        for setting, value in (("train.monitor", self.train.monitor), ("search.objective", self.search.objective)):
            if value not in task.monitored:
                yield setting, f"got '{value}', expected {_either(task.monitored)} with data.task: {name}."
        if name == tasks.SINGLE_LABEL:
            return
        if MODES[self.mode].single_label:
            yield "data.task", f"got '{name}', expected 'single_label' with mode: {self.mode}."
        for field in ("class_weights", "sampling", "logit_adjustment", "teacher"):
            value = getattr(self.train, field)
            if value != type(self.train).model_fields[field].default:
                yield f"train.{field}", f"got {value!r}, which has no effect without data.task: single_label."
        if name == tasks.REGRESSION and self.train.label_smoothing:
            yield "train.label_smoothing", f"got {self.train.label_smoothing!r}, which has no effect on numbers."


def _either(names: Iterable[str]) -> str:
    """Names as a choice: 'a', 'b' or 'c'."""
    *others, last = (f"'{name}'" for name in names)
    return f"{', '.join(others)} or {last}" if others else last


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
