"""The settings that a configuration uses: a setting that nothing uses is refused if a user has set it.

A row of `USED_BY` names modes, or the cases of `CASES`, in which a mode does more. A search and a cross-validation use what the
training runs use that they are made of.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tl_keras.adaptations import AUTO as ANY_METHOD
from tl_keras.adaptations import TRAINED
from tl_keras.modes import MODES, TRAININGS
from tl_keras.tasks import solves_head

AUTO = "auto"  # the backbone that `rank` puts first
EVERY = ("extract", "finetune", "pretrain", "adapt", "rank", "ensemble", "check")
NOT_CHECK = EVERY[:-1]
BY_STEPS = ("finetune", "pretrain", "head by steps", "trained adaptation")
ON_FEATURES = ("extract", "finetune", "adapt", "ensemble")
CHOOSING = ("extract", "finetune", "pretrain")  # training modes that have a choice of head and loss
OF_BACKBONE = ("finetune", "pretrain", "trained adaptation")
ON_LABELS = ("finetune", "pretrain")  # which choose the epoch by labels of val, may mix images, and may train on several devices

USED_BY: dict[str, tuple[str, ...]] = {  # a setting or a section -> who uses it; the longest path counts
    "data": EVERY,
    "data.on_bad_image": NOT_CHECK,  # which tells every bad image
    "data.max_bad_fraction": NOT_CHECK,
    "data.augment": ("finetune", "pretrain", "views", "wholly trained adaptation", "check"),
    "data.cache_gb": (*TRAININGS, "ensemble"),  # of frozen features it is for `evaluate`
    "model": EVERY,
    "model.backbone": (*TRAININGS, "check"),
    "model.pooling": NOT_CHECK,  # it compares images, for which a feature map that is not pooled is too wide
    "model.hidden": CHOOSING,
    "model.dropout": BY_STEPS,
    "model.freeze_batchnorm": ("finetune",),
    "features": ("extract", "finetune", "ensemble"),
    "features.stages": ("extract", "finetune", "ensemble", "rank", "check"),  # adapt compares features of the last
    "features.max_gb": (*ON_FEATURES, "rank", "check"),
    "train": BY_STEPS,
    "train.batch_size": TRAININGS,
    "train.class_weights": (*TRAININGS, "ensemble"),
    "train.cutmix_alpha": ON_LABELS,
    "train.cycles": ON_LABELS,
    "train.epochs": OF_BACKBONE,
    "train.head_epochs": ("head by steps",),
    "train.head_learning_rate": ("head by steps",),
    "train.head_c": ON_FEATURES,
    "train.decay_towards": ("finetune",),
    "train.interpolate": ("finetune",),
    "train.keep_features": ("finetune",),
    "train.monitor": ("finetune", "pretrain", "head by steps"),
    "train.layer_decay": OF_BACKBONE,
    "train.learning_rate": OF_BACKBONE,
    "train.logit_adjustment": (*CHOOSING, "ensemble"),
    "train.loss": CHOOSING,
    "train.mixup_alpha": ON_LABELS,
    "train.patience": OF_BACKBONE,
    "train.sparsity": ("finetune",),
    "train.teacher": CHOOSING,
    "train.teacher_weight": CHOOSING,
    "train.unfreeze_every": ("finetune",),
    "train.unfreeze_from": OF_BACKBONE,
    "rank": ("rank", "best backbone"),
    "search": ("search",),
    "crossval": ("crossval",),
    "crossval.folds": ("crossval", "stack"),
    "ensemble": ("ensemble",),
    "adapt": ("adapt",),
    "adapt.max_minutes": ("choosing adaptation",),
    "export": ("model",),
    "export.sign_key": ("export",),  # never that of a run folder, which may come from a stranger
    "compress": ("model",),
    "runtime": EVERY,
    "runtime.cluster": ("extract", "finetune"),
    "runtime.engine": (*ON_FEATURES, "rank", "check"),
    "runtime.strategy": ON_LABELS,
    "runtime.tracker": TRAININGS,
}

CASES = {
    "head by steps": "a head trained by gradient steps (model.hidden, or a train.loss that no head is solved for)",
    "choosing adaptation": "adapt.method=auto",
    "trained adaptation": "adapt with a method that trains the backbone",
    "wholly trained adaptation": "adapt with such a method and train.unfreeze_from=all",
    "views": "stored views (features.views)",
    "best backbone": "model.backbone=auto",
    "stack": "ensemble.method=stack",
    "model": "a mode that produces a model",
}


def users_of(setting: str) -> tuple[str, ...]:
    """Who uses a setting: modes and cases."""
    parts = setting.split(".")
    return next(USED_BY[path] for path in (".".join(parts[:end]) for end in range(len(parts), 0, -1)) if path in USED_BY)


def at_work(value_of: Callable[[str], Any]) -> set[str]:
    """The modes and cases that a configuration sets to work; empty where it is not said, or where it only uses a run.

    Args:
        value_of: path of a setting -> its value, which need not have been checked.
    """
    mode = MODES.get(str(value_of("mode")))
    trained = str(value_of("mode") if mode is None or mode.trains is None else value_of(mode.trains))
    if mode is None or not mode.makes_run or (mode.trains is not None and trained not in TRAININGS):
        return set()
    space = value_of("search.space") if mode.name == "search" else None
    varied = set(space) if isinstance(space, dict) else set()
    solved = solves_head(str(value_of("train.loss")), str(value_of("data.task")), trained)
    steps = value_of("model.hidden") or not solved or varied & {"model.hidden", "train.loss"}
    views = value_of("features.views") or "features.views" in varied
    trains = mode.name == "adapt" and value_of("adapt.method") in (ANY_METHOD, *TRAINED)
    cases = {
        "head by steps": trained in ("extract", "finetune") and bool(steps),
        "choosing adaptation": mode.name == "adapt" and value_of("adapt.method") == ANY_METHOD,
        "trained adaptation": trains,
        "wholly trained adaptation": trains and value_of("train.unfreeze_from") == "all",
        "views": trained in ON_FEATURES and bool(views),
        "best backbone": trained in (*TRAININGS, "check") and value_of("model.backbone") == AUTO,
        "stack": mode.name == "ensemble" and value_of("ensemble.method") == "stack",
        "model": mode.name not in ("rank", "crossval", "check"),
    }
    return {mode.name, trained, *(name for name, holds in cases.items() if holds)}


def is_used(setting: str, working: set[str]) -> bool:
    """Whether a setting does something; true where it is not known what is at work."""
    return setting == "mode" or not working or not working.isdisjoint(users_of(setting))


def why_idle(setting: str, value_of: Callable[[str], Any]) -> str:
    """A sentence on a setting that does nothing: who uses it, and what to do."""
    mode, users = MODES[value_of("mode")], users_of(setting)
    name, verb = mode.name, "does" if len(users) == 1 else "do"
    mend = "Remove it."
    if mode.trains is not None and "finetune" in users:
        name += f" with {mode.trains}={value_of(mode.trains)}"
        mend = f"Set {mode.trains}=finetune, or remove it."
    elif setting in ("train.epochs", "train.learning_rate"):
        mend = f"Remove it; a head with hidden layers has train.head_{setting.rpartition('.')[2]}."
    return f"{name} does not use it; {together([CASES.get(user, user) for user in users])} {verb}. {mend}"


def together(names: Sequence[str]) -> str:
    """Names as a list in a sentence: 'a, b and c'."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
