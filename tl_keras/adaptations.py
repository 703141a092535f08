"""The table of adaptation methods: plain text, for the settings and the docs. What each does is in `transfer.adapt`."""

from dataclasses import dataclass

AUTO, SOURCE_ONLY, ADABN, SELF_TRAINING = "auto", "source_only", "adabn", "self_training"


@dataclass(frozen=True)
class Adaptation:
    """A method.

    Attributes:
        help: what it does.
        reference: where it is from, as Markdown.
        trains: whether it trains the backbone, on both domains.
    """

    help: str
    reference: str = ""
    trains: bool = False


ADAPTATIONS = {
    SOURCE_ONLY: Adaptation("nothing: the head of `extract` with `features.stages=last`; it always runs beside"),
    ADABN: Adaptation(
        "each domain gets BatchNorm statistics of its own images, in every layer: two more passes over the images",
        "[Li et al. 2016](https://arxiv.org/abs/1603.04779)",
    ),
    "standardise": Adaptation("each feature gets mean 0 and variance 1 in each domain by itself"),
    "coral": Adaptation("the source also gets the correlations of the target", "[Sun et al. 2016](https://arxiv.org/abs/1511.05547)"),
    "subspace": Adaptation("the principal axes of the source are turned into those of the target", "Fernando et al. 2013"),
    "tca": Adaptation("keeps the directions along which both domains vary and their means agree", "Pan et al. 2011"),
    "least_mmd": Adaptation("each feature of the source is shifted and scaled until the domains differ least", "Zhang et al. 2013"),
    "optimal_transport": Adaptation(
        "the source is carried to where the target is with the least movement, images of one class together",
        "[Courty et al. 2016](https://arxiv.org/abs/1507.00504)",
    ),
    "domain_classifier": Adaptation("source images count as much as a classifier takes them for target images", "Bickel et al. 2009"),
    "kmm": Adaptation("weights that bring the mean of the source to that of the target, in the space of a kernel", "Huang et al. 2006"),
    "kliep": Adaptation("weights under which the target is most likely", "Sugiyama et al. 2008"),
    "ulsif": Adaptation("weights nearest to the ratio of the domains' densities", "Kanamori et al. 2009"),
    "label_shift": Adaptation(
        "classes count as often as they seem to occur in the target", "[Lipton et al. 2018](https://arxiv.org/abs/1802.03916)"
    ),
    SELF_TRAINING: Adaptation(
        "the head also learns from target images that it labels itself, the surest of each class first",
        "[Zou et al. 2018](https://arxiv.org/abs/1810.07911)",
    ),
    "mcc": Adaptation(
        "trains: the classes of a target image are confused as little as possible",
        "[Jin et al. 2020](https://arxiv.org/abs/1912.03699)",
        trains=True,
    ),
    "dan": Adaptation(
        "trains: the means of the domains agree, in the spaces of several kernels",
        "[Long et al. 2015](https://arxiv.org/abs/1502.02791)",
        trains=True,
    ),
    "deep_coral": Adaptation(
        "trains: the covariances of the domains agree", "[Sun & Saenko 2016](https://arxiv.org/abs/1607.01719)", trains=True
    ),
    "dann": Adaptation(
        "trains: a discriminator cannot tell the domains apart", "[Ganin et al. 2016](https://arxiv.org/abs/1505.07818)", trains=True
    ),
    "cdan": Adaptation(
        "trains: nor by features and predicted classes together", "[Long et al. 2018](https://arxiv.org/abs/1705.10667)", trains=True
    ),
}
TRAINED = tuple(name for name, row in ADAPTATIONS.items() if row.trains)
