"""The table of adaptation methods: plain text, for the settings, the docs and the messages. What each does is in `transfer.adapt`."""

from dataclasses import dataclass

AUTO, SOURCE_ONLY, ADABN = "auto", "source_only", "adabn"


@dataclass(frozen=True)
class Adaptation:
    """A method.

    Attributes:
        family: what it changes, in a word or two.
        help: what it does.
    """

    family: str
    help: str


ADAPTATIONS = {
    SOURCE_ONLY: Adaptation("none", "a head that learned from the source alone"),
    ADABN: Adaptation("statistics", "each domain gets BatchNorm statistics of its own images, in every layer"),
    "standardise": Adaptation("alignment", "each feature gets mean 0 and variance 1 in each domain by itself"),
    "coral": Adaptation("alignment", "the source also gets the correlations of the target"),
    "subspace": Adaptation("alignment", "the principal axes of the source are turned into those of the target"),
    "tca": Adaptation("alignment", "directions along which both domains vary and their means agree"),
    "least_mmd": Adaptation("alignment", "each feature of the source is shifted and scaled until the domains differ least"),
    "domain_classifier": Adaptation("weighting", "source images weigh as much as a classifier takes them for target images"),
    "kmm": Adaptation("weighting", "weights that bring the mean of the source to that of the target, in a kernel's space"),
    "kliep": Adaptation("weighting", "weights under which the target is likeliest"),
    "ulsif": Adaptation("weighting", "weights nearest to the ratio of the domains' densities"),
    "label_shift": Adaptation("weighting", "classes weigh as often as they seem to occur in the target"),
}
