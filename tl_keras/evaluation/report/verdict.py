"""The verdict of a report, in words: a table of rules, of which in each row the first that holds speaks.

Knows numbers only, no run. Whoever reads it has not trained the model and decides whether to use it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tl_keras.evaluation.intervals import FEW
from tl_keras.tasks import MULTI_LABEL, REGRESSION

WIDE = 0.15  # an interval of a share that says little: 15 points
WIDE_ERROR = 0.6  # the same of an error, relative to it
GOOD = 0.9  # a share that even the low end of its interval reaches: good enough to try
GOOD_ERROR = 0.25  # an error that even the high end of its interval stays below, relative to what needs no images
LEAST_IMAGES = 10  # of a class, to say anything of it alone
LEAST_CONFUSED = 3  # times that two classes are confused, to be named
MANY = 100  # images of a class to learn from, from which on more are not the first thing to look for
GAP = 0.05  # between claimed and true accuracy
UNEVEN = 0.08  # a calibration error that the mean hides
OVERFIT = 0.1  # more of the figure on train than on val


@dataclass(frozen=True, kw_only=True)
class Weak:
    """A class that does worse than the others.

    Attributes:
        found: images of it that were found, of test.
        images: of it in test.
        learned: of it in train.
    """

    name: str
    found: int
    images: int
    learned: int


@dataclass(frozen=True, kw_only=True)
class Domain:
    """How an adapted model does on its target domain.

    Attributes:
        images: of the target.
        accuracy: there; None where it has no labels.
        interval: of that.
        before: the accuracy of the model that was not adapted.
        is_own: whether the model is for the target alone.
    """

    images: int
    accuracy: float | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    before: float = 0.0
    is_own: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the test images that does clearly worse than the rest.

    Attributes:
        told: which images, in words.
        images: how many.
        value: the accuracy on them; of several labels the share with every class right, of numbers the mean absolute error.
        interval: of that, 95 %.
        rest: the same figure of the other images.
    """

    told: str
    images: int
    value: float
    interval: tuple[float, float]
    rest: float


@dataclass(frozen=True, kw_only=True)
class Flagged:
    """Test images, all of known classes, that the model calls none of these.

    Attributes:
        share: of the test images.
        interval: of that, 95 %.
        asked: the share that was asked for.
    """

    share: float
    interval: tuple[float, float]
    asked: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rules know.

    Attributes:
        mode: how the model was made.
        images: of test.
        value: the figure of the task on test: accuracy, mAP or mean absolute error.
        interval: of that, 95 %.
        baseline: the same figure of an answer that needs no model.
        trivial: what that answer is, such as "always answering 'daisy'".
        leaked: images of test that are also in train or val.
        confidence: the mean probability of the decisions, of an adapted model on its target; None where that is not known.
        ece: the expected calibration error, likewise.
        exact: the share of images of which every class is right, of several labels.
        micro_f1: likewise.
        errors: half of the absolute errors of numbers are below the first, nine of ten below the second.
        bias: the interval of the mean error of numbers.
        worst_range: of numbers the third, by what is right, with the largest mean error: from, to, that error; None where none stands out.
        weak: classes that do clearly worse than all together, the worst first.
        least_learned: the class with the fewest images in train.
        lowest: of several labels the class with the lowest F1, and that.
        confused: the classes that are confused most: true, predicted, how often, images of the true one.
        gap: how much better the figure is on train than on val; None where that is not known.
        domain: of an adapted model.
        part: the part of the images that is clearly worse than the rest; None where there is none.
        flagged: test images that are called none of the classes; None where the model calls none so.
        is_start: whether finetuning has kept what it began with, because no epoch was better on val.
        is_small: whether the backbone is the bundled one, on images that are not the bundled digits.
        can_vary: whether augmentation can be made stronger by a setting.
    """

    task: str
    mode: str
    images: int
    value: float
    interval: tuple[float, float]
    baseline: float
    trivial: str
    leaked: int = 0
    confidence: float | None = None
    ece: float | None = None
    exact: float | None = None
    micro_f1: float | None = None
    errors: tuple[float, float] = (0.0, 0.0)
    bias: tuple[float, float] = (0.0, 0.0)
    worst_range: tuple[float, float, float] | None = None
    weak: tuple[Weak, ...] = ()
    least_learned: Weak | None = None
    lowest: tuple[str, float] | None = None
    confused: tuple[str, str, int, int] | None = None
    gap: float | None = None
    domain: Domain | None = None
    part: Part | None = None
    flagged: Flagged | None = None
    is_start: bool = False
    is_small: bool = False
    can_vary: bool = False

    @property
    def is_error(self) -> bool:
        """Whether less of the figure is better."""
        return self.task == REGRESSION

    @property
    def accuracy(self) -> float:
        """What `confidence` is about: on the target of an adapted model, where that has labels; else on test."""
        return self.value if self.domain is None or self.domain.accuracy is None else self.domain.accuracy

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Its interval."""
        return self.interval if self.domain is None or self.domain.accuracy is None else self.domain.interval

    @property
    def right(self) -> int:
        """Images of test whose class is right."""
        return round(self.value * self.images)

    @property
    def is_useless(self) -> bool:
        """Whether the model is not clearly better than what needs none."""
        low, high = self.interval
        return high >= self.baseline if self.is_error else low <= self.baseline

    @property
    def is_wide(self) -> bool:
        """Whether the interval of the figure says little."""
        width = self.interval[1] - self.interval[0]
        return self.images < FEW or width > WIDE_ERROR * self.value if self.is_error else width > WIDE

    @property
    def is_good(self) -> bool:
        """Whether it is good enough to try."""
        low, high = self.interval
        return high < GOOD_ERROR * self.baseline if self.is_error else low >= GOOD


@dataclass(frozen=True)
class Rule:
    """A sentence, and when it is said.

    Attributes:
        name: of the rule.
        holds: whether it is said, if no rule before it is.
        says: the sentence.
        commands: what can be done about it: keys of `facts.commands_for`.
    """

    name: str
    holds: Callable[[Facts], bool]
    says: Callable[[Facts], str]
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sentence:
    """What a verdict says under one title."""

    title: str
    text: str
    commands: tuple[str, ...] = ()


def percent(share: float, decimals: int = 0) -> str:
    """A share in percent; 100 % only where it is all, and 0 % only where it is none."""
    shown = f"{100 * share:.{decimals}f}"
    if (float(shown) >= 100 and share < 1) or (float(shown) <= 0 and share > 0):
        return f"{100 * share:.1f} %" if 0.0005 <= share < 0.9995 else ("over 99.9 %" if share > 0.5 else "under 0.1 %")
    return f"{shown} %"


def _ends(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.0f} to {percent(interval[1])}"


def _counted(facts: Facts) -> str:
    return f"It names the right class for {facts.right:,} of {facts.images:,} test images ({percent(facts.value, 1)})"


def _trivial(facts: Facts) -> str:
    return f"{facts.trivial} would be right for {percent(facts.baseline, 1)}"


def _begun(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _on_target(facts: Facts) -> str:
    domain = _domain(facts)
    change = "" if domain.before == domain.accuracy else f", {percent(domain.before, 1)} before it was adapted"
    own = ", because its model is for the target alone" if domain.is_own else ""
    return (
        f"It names the right class for {percent(domain.accuracy or 0.0, 1)} of the {domain.images:,} images of the target (95 % interval "
        f"{_ends(domain.interval)}{change}), and for {percent(facts.value, 1)} of the test images of the source{own}."
    )


def _domain(facts: Facts) -> Domain:
    if facts.domain is None:
        raise ValueError("this run was not adapted")
    return facts.domain


def _is_measured(facts: Facts) -> bool:
    return facts.domain is not None and facts.domain.accuracy is not None


def _precision(facts: Facts) -> str:
    return (
        f"On {facts.images:,} test images the mean average precision, which is 1 where each class is told perfectly, is {facts.value:.2f} "
        f"(95 % interval {facts.interval[0]:.2f} to {facts.interval[1]:.2f})"
    )


def _error(facts: Facts) -> str:
    low, high = facts.interval
    return f"On {facts.images:,} test images the number is off by {facts.value:.3g} on average (95 % interval {low:.3g} to {high:.3g})"


def _errors(facts: Facts) -> str:
    return "Half of the answers are off by less than {:.3g}, nine of ten by less than {:.3g}".format(*facts.errors)


def _claimed(facts: Facts) -> str:
    return f"it gives its answers a probability of {percent(facts.confidence or 0.0)} on average, and {percent(facts.accuracy)} are right"


def _weak(facts: Facts) -> str:
    worst = facts.weak[0]
    told = f"It is weakest on '{worst.name}': {worst.found:,} of {worst.images:,} were found"
    others = [f"'{each.name}' ({each.found:,} of {each.images:,})" for each in facts.weak[1:3]]
    more = f", then {' and '.join(others)}" if others else ""
    return f"{told}{more}{_most_confused(facts)}."


def _most_confused(facts: Facts) -> str:
    if facts.confused is None:
        return ""
    true, said, times, images = facts.confused
    return f"; most often '{true}' is taken for '{said}' ({times:,} of {images:,})"


def _on_part(facts: Facts) -> str:
    part = facts.part
    if part is None:
        return ""
    begun, ends = f"It is clearly worse on {part.told}", _ends(part.interval)
    if facts.is_error:
        low, high = part.interval
        return (
            f"{begun}: on these {part.images:,} it is off by {part.value:.3g} on average (95 % interval {low:.3g} to {high:.3g}), "
            f"on the others by {part.rest:.3g}."
        )
    right = "has every class right" if facts.task == MULTI_LABEL else "is right"
    return (
        f"{begun}: there it {right} for {percent(part.value)} of {part.images:,} (95 % interval {ends}), "
        f"on the others for {percent(part.rest)}."
    )


def _too_many_flagged(facts: Facts) -> str:
    found = facts.flagged
    return (
        ""
        if found is None
        else (
            f"It is quick to say that an image is none of its classes: wrongly of {percent(found.share)} of the test images "
            f"(95 % interval {_ends(found.interval)}), where {percent(found.asked)} was asked for."
        )
    )


def _label_more(facts: Facts) -> str:
    few = facts.least_learned
    return "" if few is None else f"Label more images of '{few.name}', which has {few.learned:,} to learn from, and train again."


HOW_GOOD = (
    Rule(
        "target_unknown",
        lambda facts: facts.domain is not None and facts.domain.accuracy is None,
        lambda facts: (
            f"How good it is on the target is not known, because none of its {_domain(facts).images:,} images has a label; "
            f"of the test images of the source it names the right class for {percent(facts.value, 1)} "
            f"(95 % interval {_ends(facts.interval)})."
        ),
    ),
    Rule("target", _is_measured, _on_target),
    Rule(
        "useless_number",
        lambda facts: facts.is_error and facts.is_useless,
        lambda facts: f"{_error(facts)}, which is not clearly better than {facts.trivial}, which is off by {facts.baseline:.3g}.",
    ),
    Rule(
        "number",
        lambda facts: facts.is_error,
        lambda facts: f"{_error(facts)}; {facts.trivial} would be off by {facts.baseline:.3g}.",
    ),
    Rule(
        "useless_classes",
        lambda facts: facts.task == MULTI_LABEL and facts.is_useless,
        lambda facts: f"{_precision(facts)}, which is not clearly better than {facts.trivial}: {facts.baseline:.2f}.",
    ),
    Rule(
        "classes",
        lambda facts: facts.task == MULTI_LABEL,
        lambda facts: f"{_precision(facts)}; {facts.trivial} would have {facts.baseline:.2f}.",
    ),
    Rule(
        "useless",
        lambda facts: facts.is_useless,
        lambda facts: f"{_counted(facts)}, which is not clearly better than {facts.trivial}: {percent(facts.baseline, 1)}.",
    ),
    Rule(
        "wide",
        lambda facts: facts.is_wide,
        lambda facts: (
            f"{_counted(facts)}; from so few, it may be anything from {_ends(facts.interval)} of new ones. {_begun(_trivial(facts))}."
        ),
    ),
    Rule(
        "plain",
        lambda facts: True,
        lambda facts: f"{_counted(facts)}; expect {_ends(facts.interval)} of new images like these. {_begun(_trivial(facts))}.",
    ),
)

HOW_SURE = (
    Rule(
        "unknown",
        lambda facts: facts.domain is not None and facts.confidence is None,
        lambda facts: "Whether its probabilities can be trusted on the target is not known: go by its classes.",
    ),
    Rule(
        "numbers",
        lambda facts: facts.is_error and (facts.bias[0] <= 0 <= facts.bias[1] or facts.images < FEW),
        lambda facts: f"{_errors(facts)}.",
    ),
    Rule(
        "biased",
        lambda facts: facts.is_error,
        lambda facts: f"{_errors(facts)}, and on average they are too {'high' if facts.bias[0] > 0 else 'low'}.",
    ),
    Rule(
        "several",
        lambda facts: facts.exact is not None and facts.micro_f1 is not None,
        lambda facts: (
            f"With the thresholds that val has chosen, every class is right on {percent(facts.exact or 0.0)} of the images, "
            f"and F1 over all decisions is {facts.micro_f1:.2f}."
        ),
    ),
    Rule(
        "too_sure",
        lambda facts: facts.confidence is not None and facts.confidence > max(facts.accuracy + GAP, facts.accuracy_interval[1]),
        lambda facts: f"It is too sure of itself: {_claimed(facts)}.",
    ),
    Rule(
        "too_cautious",
        lambda facts: facts.confidence is not None and facts.confidence < min(facts.accuracy - GAP, facts.accuracy_interval[0]),
        lambda facts: f"It is more cautious than it needs to be: {_claimed(facts)}.",
    ),
    Rule(
        "uneven",
        lambda facts: (facts.ece or 0.0) > UNEVEN and not facts.is_wide,
        lambda facts: (
            "How sure it is can be trusted on average only: "
            f"probabilities are off by {percent(facts.ece or 0.0)}, now up and now down (calibration error)."
        ),
    ),
    Rule(
        "calibrated",
        lambda facts: facts.confidence is not None,
        lambda facts: f"Its probabilities can be taken at their word: {_claimed(facts)}.",
    ),
)

WHERE_IT_FAILS = (
    Rule(
        "perfect",
        lambda facts: not facts.is_error and facts.value == 1 and facts.exact in (None, 1),
        lambda facts: "No test image is wrong.",
    ),
    Rule(
        "range",
        lambda facts: facts.worst_range is not None,
        lambda facts: "It is worst where the number is {:.3g} to {:.3g}: there it is off by {:.3g} on average.".format(
            *(facts.worst_range or (0.0, 0.0, 0.0))
        ),
    ),
    Rule("even_numbers", lambda facts: facts.is_error, lambda facts: "Small and large numbers are told about equally well."),
    Rule(
        "lowest",
        lambda facts: facts.lowest is not None,
        lambda facts: "The class that it tells worst is '{}', with an F1 of {:.2f}.".format(*(facts.lowest or ("", 0.0))),
    ),
    Rule("weak", lambda facts: bool(facts.weak), _weak),
    Rule(
        "confused",
        lambda facts: facts.confused is not None,
        lambda facts: f"No class stands out{_most_confused(facts)}.",
    ),
    Rule(
        "spread",
        lambda facts: facts.domain is None or _is_measured(facts),
        lambda facts: "No class stands out among the mistakes.",
    ),
)

WHAT_NEXT = (
    Rule(
        "leaked",
        lambda facts: facts.leaked > 0,
        lambda facts: (
            f"Do not trust these figures yet: {facts.leaked:,} of the test images are copies of images that it has learned from, "
            "or was chosen by."
        ),
        ("check",),
    ),
    Rule(
        "pretrain", lambda facts: facts.mode == "pretrain", lambda facts: "Finetune what was pretrained on other images.", ("pretrained",)
    ),
    Rule(
        "label_target",
        lambda facts: facts.domain is not None and facts.domain.accuracy is None,
        lambda facts: "Label some images of the target, a hundred if you can, and measure it on them before you use it.",
        ("evaluate",),
    ),
    Rule(
        "adapted",
        lambda facts: _is_measured(facts) and _domain(facts).interval[0] > _domain(facts).before,
        lambda facts: (
            "Adapting has paid: if that is good enough, use it on images of the target; labels there would help more than any method."
        ),
        ("predict",),
    ),
    Rule(
        "adapted_in_vain",
        _is_measured,
        lambda facts: "Adapting has not clearly helped: label images of the target, and finetune on them.",
        ("finetune_new",),
    ),
    Rule(
        "useless",
        lambda facts: facts.is_useless,
        lambda facts: "Do not use it: look for what is wrong with the images and their labels first.",
        ("check",),
    ),
    Rule(
        "wide",
        lambda facts: facts.is_wide,
        lambda facts: "Measure it on more labelled images before you decide anything.",
        ("evaluate",),
    ),
    Rule(
        "few_of_a_class",
        lambda facts: facts.least_learned is not None and any(each.name == facts.least_learned.name for each in facts.weak),
        _label_more,
        ("again",),
    ),
    Rule("good", lambda facts: facts.is_good, lambda facts: "It is good enough to try on images of your own.", ("predict", "export")),
    Rule(
        "small_backbone",
        lambda facts: facts.is_small,
        lambda facts: "Take a backbone that has seen photos: this one is small, and sees 32 x 32 pixels.",
        ("finetune_photos",),
    ),
    Rule("extract", lambda facts: facts.mode == "extract", lambda facts: "See whether finetuning does better.", ("finetune",)),
    Rule(
        "no_gain",
        lambda facts: facts.is_start,
        lambda facts: "Finetuning has gained nothing: no epoch was better on val than the frozen features it began with. Take more epochs.",
        ("longer",),
    ),
    Rule(
        "overfit",
        lambda facts: (facts.gap or 0.0) > OVERFIT and facts.can_vary,
        lambda facts: f"It has learned train by heart ({percent(facts.gap or 0.0)} better there than on val): vary the images more.",
        ("vary",),
    ),
    Rule("combined", lambda facts: facts.mode == "ensemble", lambda facts: "If that is good enough, use it.", ("predict",)),
    Rule(
        "rank",
        lambda facts: True,
        lambda facts: "If that is not good enough, see whether another backbone suits these images better.",
        ("rank",),
    ),
)

ALSO_UNSURE = (
    Rule(
        "flagged",
        lambda facts: (
            facts.flagged is not None
            and facts.flagged.share > facts.flagged.asked + GAP
            and facts.flagged.interval[0] > facts.flagged.asked
        ),
        _too_many_flagged,
    ),
)

ALSO_FAILS = (Rule("part", lambda facts: facts.part is not None, _on_part),)

RULES = {"How good": HOW_GOOD, "How sure": HOW_SURE, "Where it fails": WHERE_IT_FAILS, "What next": WHAT_NEXT}


ALSO = {"How sure": ALSO_UNSURE, "Where it fails": ALSO_FAILS}  # what is said behind it


def verdict(facts: Facts) -> list[Sentence]:
    """What is to be said: of each row of `RULES`, and of `ALSO`, the first that holds."""
    found = []
    for title, rules in RULES.items():
        speak = [rule for each in (rules, ALSO.get(title, ())) if (rule := first(each, facts)) is not None]
        if speak:
            commands = tuple(name for rule in speak for name in rule.commands)
            found.append(Sentence(title, " ".join(rule.says(facts) for rule in speak), commands))
    return found


def first(rules: tuple[Rule, ...], facts: Facts) -> Rule | None:
    """The rule that speaks; None where none does."""
    return next((rule for rule in rules if rule.holds(facts)), None)
