"""Short forms of settings, on the command line and in Python, and what other names may mean.

Tables of plain text; what a setting is, `config` knows. Names are compared without case, `_` and `-`. Where nothing is really
like a name, nothing is suggested: no guess is better than a wrong one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

MOST_MEANT = 3  # settings that are named in place of one that there is not; more are no help
NEAR = 0.75  # likeness from which a name is taken for another, misspelt: 'crop' for 'corp', but not 'pretrain' for 'retina'


@dataclass(frozen=True)
class ShortForm:
    """A name for a setting that needs no section.

    Attributes:
        setting: its path.
        metavar: what the help calls its value.
        help: what it is.
        aliases: other flags for the same on the command line.
    """

    setting: str
    metavar: str
    help: str
    aliases: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether the value is taken as it stands, and not read as YAML."""
        return self.metavar in ("SOURCE", "NAME", "FILE")


SHORT_FORMS: dict[str, ShortForm] = {  # the parameter's name in Python; the flag has dashes
    "data": ShortForm(
        "data.source",
        "SOURCE",
        "a folder or archive of class folders, a table of labels, their address, 'digits', or a TFDS name or folder",
    ),
    "target": ShortForm("adapt.target", "SOURCE", "images of the target domain: a folder of them, or what --data takes"),
    "backbone": ShortForm(
        "model.backbone",
        "NAME",
        "a keras.applications name such as resnet50, small_resnet, a .keras file, the folder or address of a TF-Hub module, "
        "keras_hub:PRESET, or auto",
    ),
    "weights": ShortForm("model.weights", "FILE", "weights of the backbone: a file, 'pretrained', 'imagenet' or 'none' (random)"),
    "image_size": ShortForm("data.image_size", "PIXELS", "image size in pixels, one number or [height, width]"),
    "epochs": ShortForm("train.epochs", "N", "number of epochs of finetuning or pretraining"),
    "batch_size": ShortForm("train.batch_size", "N", "images per training step"),
    "learning_rate": ShortForm("train.learning_rate", "RATE", "peak learning rate of finetuning or pretraining", ("--lr",)),
    "seed": ShortForm("runtime.seed", "N", "random seed"),
}
ELSEWHERE: dict[str, str] = {  # what other programs call a setting, as `normal` writes it
    "aa": "data.augment.auto",
    "arch": "model.backbone",
    "architecture": "model.backbone",
    "augmentation": "data.augment.policy",
    "autoaugment": "data.augment.auto",
    "basemodel": "model.backbone",
    "batch": "train.batch_size",
    "bs": "train.batch_size",
    "classweight": "train.class_weights",
    "cv": "crossval.folds",
    "datadir": "data.source",
    "datapath": "data.source",
    "dataset": "data.source",
    "datasetdir": "data.source",
    "earlystopping": "train.patience",
    "encoder": "model.backbone",
    "epoch": "train.epochs",
    "finetuneepochs": "train.epochs",
    "fliplr": "data.augment.horizontal_flip",
    "flipud": "data.augment.vertical_flip",
    "hflip": "data.augment.horizontal_flip",
    "imagesize": "data.image_size",
    "imgsize": "data.image_size",
    "imgsz": "data.image_size",
    "inputsize": "data.image_size",
    "kfold": "crossval.folds",
    "kfolds": "crossval.folds",
    "lr": "train.learning_rate",
    "lrscheduler": "train.schedule",
    "mixedprecision": "runtime.precision",
    "model": "model.backbone",
    "modelname": "model.backbone",
    "nepochs": "train.epochs",
    "network": "model.backbone",
    "nfolds": "crossval.folds",
    "nsplits": "crossval.folds",
    "ntrials": "search.max_trials",
    "numepochs": "train.epochs",
    "numtrainepochs": "train.epochs",
    "numtrials": "search.max_trials",
    "optim": "train.optimizer",
    "optimiser": "train.optimizer",
    "pretrained": "model.weights",
    "randaugment": "data.augment.auto",
    "randomseed": "runtime.seed",
    "randomstate": "runtime.seed",
    "reprob": "data.augment.random_erasing",
    "resolution": "data.image_size",
    "scheduler": "train.schedule",
    "size": "data.image_size",
    "targetsize": "data.image_size",
    "testsize": "data.test_fraction",
    "testsplit": "data.test_fraction",
    "traindir": "data.source",
    "trials": "search.max_trials",
    "trivialaugment": "data.augment.auto",
    "validationsplit": "data.val_fraction",
    "valsize": "data.val_fraction",
    "valsplit": "data.val_fraction",
    "vflip": "data.augment.vertical_flip",
    "wd": "train.weight_decay",
}
_SCALED = "How pixels are scaled and centred for the backbone is a layer of the model: see model.preprocessing. Remove it."
INSTEAD: dict[str, str] = {  # options of Keras' ImageDataGenerator that are no settings, as `normal` writes them -> what there is instead
    "dataformat": "Images are (height, width, channels) everywhere. Remove it.",
    "dtype": "Pixels are 8-bit; the precision of the network is runtime.precision. Remove it.",
    "featurewisecenter": _SCALED,
    "featurewisestdnormalization": _SCALED,
    "interpolationorder": "Pixels are interpolated linearly, which is order 1. Remove it.",
    "preprocessingfunction": f"A function cannot be saved in a configuration. {_SCALED}",
    "rescale": _SCALED,
    "samplewisecenter": _SCALED,
    "samplewisestdnormalization": _SCALED,
    "zcaepsilon": _SCALED,
    "zcawhitening": _SCALED,
}


def flag_of(name: str) -> str:
    """The flag of a parameter: '--batch-size' of 'batch_size'."""
    return f"--{name.replace('_', '-')}"


def normal(name: str) -> str:
    """A name as it is compared: without case, `_` and `-`."""
    return re.sub(r"[_-]", "", name).casefold()


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is the same without case, `_` and `-`, else the one that it may be a slip of; None where none is like it."""
    by_normal = {normal(each): each for each in known}
    near = get_close_matches(normal(name), by_normal, n=1, cutoff=NEAR)
    return by_normal[near[0]] if near else None


def settings_called(name: str, settings: Iterable[str]) -> list[str]:
    """The settings that a name without its section may mean: the one of that name or alias, else all that have its words in theirs.

    Args:
        name: such as 'lr', 'Batch-Size' or 'flip'.
        settings: paths, such as 'train.learning_rate'.
    """
    paths = list(settings)
    same = setting_named(name, paths)
    words = set(re.split(r"[_-]+", name.casefold()))
    return [same] if same else [path for path in paths if words <= set(path.rpartition(".")[2].split("_"))]


def setting_named(name: str, settings: Iterable[str]) -> str | None:
    """The setting of a name without its section, if it is the only one, or of which other programs use the name."""
    found = [path for path in settings if normal(path.rpartition(".")[2]) == normal(name)]
    return found[0] if len(found) == 1 else ELSEWHERE.get(normal(name))


def either(names: Iterable[str]) -> str:
    """Names in quotes, as alternatives: "'a' or 'b'"."""
    return " or ".join(map(repr, names))
