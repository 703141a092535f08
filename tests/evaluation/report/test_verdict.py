"""Row by row: when a sentence of the verdict is said, and what it says."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tl_keras.arguments import read_options
from tl_keras.config import Config
from tl_keras.evaluation.report.facts import commands_for
from tl_keras.evaluation.report.verdict import (
    ALSO,
    ALSO_FAILS,
    ALSO_UNSURE,
    HOW_GOOD,
    HOW_SURE,
    RULES,
    WHAT_NEXT,
    WHERE_IT_FAILS,
    Domain,
    Facts,
    Flagged,
    Part,
    Weak,
    first,
    percent,
    verdict,
)

ROSE = Weak(name="rose", found=20, images=40, learned=12)
PLAIN = Facts(
    task="single_label",
    mode="finetune",
    images=200,
    value=0.86,
    interval=(0.805, 0.901),
    baseline=0.2,
    trivial="always answering 'daisy'",
    confidence=0.85,
    ece=0.03,
)
SEVERAL = replace(
    PLAIN,
    task="multi_label",
    trivial="ranking the images at random",
    confidence=None,
    ece=None,
    exact=0.5,
    micro_f1=0.8,
    interval=(0.8, 0.9),
)
NUMBER = replace(
    SEVERAL, task="regression", value=4.0, interval=(3.5, 4.6), baseline=9.0, trivial="always answering 7", errors=(3.0, 8.0), exact=None
)
DARK = Part(told="the darkest images (brightness: mean grey 9 to 40 of 255)", images=50, value=0.7, interval=(0.56, 0.81), rest=0.913)
TARGET = Domain(images=560, accuracy=0.6, interval=(0.56, 0.64), before=0.25)
CASES = {
    "target_unknown": (
        HOW_GOOD,
        {"domain": Domain(images=560)},
        "none of its 560 images has a label; of the test images of the source it names",
    ),
    "target": (
        HOW_GOOD,
        {"domain": TARGET},
        "60.0 % of the 560 images of the target (95 % interval 56 to 64 %, 25.0 % before it was adapted)",
    ),
    "useless": (HOW_GOOD, {"interval": (0.15, 0.25), "value": 0.2}, "not clearly better than always answering 'daisy': 20.0 %."),
    "wide": (
        HOW_GOOD,
        {"images": 40, "value": 0.85, "interval": (0.71, 0.93)},
        "for 34 of 40 test images (85.0 %); from so few, it may be anything from 71 to 93 %",
    ),
    "plain": (
        HOW_GOOD,
        {},
        "for 172 of 200 test images (86.0 %); expect 80 to 90 % of new images like these. Always answering 'daisy' would be right for",
    ),
    "unknown": (HOW_SURE, {"domain": TARGET, "confidence": None}, "go by its classes"),
    "too_sure": (
        HOW_SURE,
        {"confidence": 0.97},
        "too sure of itself: it gives its answers a probability of 97 % on average, and 86 % are right.",
    ),
    "too_cautious": (HOW_SURE, {"confidence": 0.6}, "more cautious than it needs to be"),
    "uneven": (HOW_SURE, {"ece": 0.12}, "off by 12 %"),
    "calibrated": (HOW_SURE, {}, "taken at their word"),
    "perfect": (WHERE_IT_FAILS, {"value": 1.0}, "No test image is wrong."),
    "weak": (
        WHERE_IT_FAILS,
        {"weak": (ROSE,), "confused": ("rose", "tulip", 9, 40)},
        "weakest on 'rose': 20 of 40 were found; most often 'rose' is taken for 'tulip' (9 of 40).",
    ),
    "confused": (
        WHERE_IT_FAILS,
        {"confused": ("rose", "tulip", 9, 40)},
        "No class stands out; most often 'rose' is taken for 'tulip' (9 of 40).",
    ),
    "spread": (WHERE_IT_FAILS, {}, "No class stands out among the mistakes."),
    "part": (
        ALSO_FAILS,
        {"part": DARK},
        "worse on the darkest images (brightness: mean grey 9 to 40 of 255): there it is right for 70 % of 50 (95 % interval 56 to 81 %), "
        "on the others for 91 %.",
    ),
    "flagged": (
        ALSO_UNSURE,
        {"flagged": Flagged(share=0.14, interval=(0.1, 0.195), asked=0.05)},
        "wrongly of 14 % of the test images (95 % interval 10 to 20 %), where 5 % was asked for.",
    ),
    "leaked": (WHAT_NEXT, {"leaked": 3}, "3 of the test images are copies"),
    "pretrain": (WHAT_NEXT, {"mode": "pretrain"}, "Finetune what was pretrained"),
    "label_target": (WHAT_NEXT, {"domain": Domain(images=560)}, "Label some images of the target"),
    "adapted": (WHAT_NEXT, {"domain": TARGET}, "Adapting has paid"),
    "adapted_in_vain": (WHAT_NEXT, {"domain": replace(TARGET, before=0.58)}, "Adapting has not clearly helped"),
    "few_of_a_class": (WHAT_NEXT, {"weak": (ROSE,), "least_learned": ROSE}, "Label more images of 'rose', which has 12 to learn from"),
    "good": (WHAT_NEXT, {"value": 0.96, "interval": (0.93, 0.98)}, "good enough to try"),
    "small_backbone": (WHAT_NEXT, {"is_small": True}, "Take a backbone that has seen photos"),
    "extract": (WHAT_NEXT, {"mode": "extract"}, "whether finetuning does better"),
    "no_gain": (WHAT_NEXT, {"is_start": True}, "Finetuning has gained nothing"),
    "overfit": (WHAT_NEXT, {"gap": 0.2, "can_vary": True}, "learned train by heart (20 % better there than on val)"),
    "combined": (WHAT_NEXT, {"mode": "ensemble"}, "use it."),
    "rank": (WHAT_NEXT, {}, "another backbone"),
}
OTHERS = {
    "useless_number": (HOW_GOOD, NUMBER, {"interval": (7.0, 9.5)}, "not clearly better than always answering 7, which is off by 9."),
    "number": (HOW_GOOD, NUMBER, {}, "is off by 4 on average (95 % interval 3.5 to 4.6); always answering 7 would be off by 9."),
    "useless_classes": (HOW_GOOD, SEVERAL, {"interval": (0.1, 0.3)}, "not clearly better than ranking the images at random: 0.20."),
    "classes": (HOW_GOOD, SEVERAL, {}, "is 0.86 (95 % interval 0.80 to 0.90)"),
    "numbers": (HOW_SURE, NUMBER, {}, "off by less than 3, nine of ten by less than 8."),
    "biased": (HOW_SURE, NUMBER, {"bias": (0.5, 1.5)}, "on average they are too high."),
    "several": (HOW_SURE, SEVERAL, {}, "every class is right on 50 % of the images, and F1 over all decisions is 0.80."),
    "range": (WHERE_IT_FAILS, NUMBER, {"worst_range": (40.0, 90.0, 12.0)}, "worst where the number is 40 to 90: there it is off by 12"),
    "even_numbers": (WHERE_IT_FAILS, NUMBER, {}, "about equally well"),
    "part": (
        ALSO_FAILS,
        NUMBER,
        {"part": replace(DARK, value=6.0, interval=(5.0, 7.5), rest=3.2)},
        "40 of 255): on these 50 it is off by 6 on average (95 % interval 5 to 7.5), on the others by 3.2.",
    ),
    "lowest": (WHERE_IT_FAILS, SEVERAL, {"lowest": ("rose", 0.72)}, "worst is 'rose', with an F1 of 0.72."),
    "good": (WHAT_NEXT, NUMBER, {"interval": (1.0, 2.0)}, "good enough"),
    "useless": (WHAT_NEXT, NUMBER, {"interval": (7.0, 9.5)}, "Do not use it"),
    "wide": (WHAT_NEXT, PLAIN, {"images": 40, "interval": (0.71, 0.93)}, "Measure it on more labelled images"),
}
ROWS = [(name, rules, PLAIN, change, words) for name, (rules, change, words) in CASES.items()]
ROWS += [(name, *row) for name, row in OTHERS.items()]
ROWS += [  # of few images, whose intervals are too narrow
    ("numbers", HOW_SURE, NUMBER, {"bias": (0.5, 1.5), "images": 5}, "nine of ten by less than 8."),
    ("wide", WHAT_NEXT, NUMBER, {"interval": (1.0, 1.0), "images": 5}, "Measure it on more labelled images"),
]


@pytest.mark.parametrize(
    ("name", "rules", "facts", "change", "words"), ROWS, ids=[f"{name}-{place}" for place, (name, *_) in enumerate(ROWS)]
)
def test_a_rule_speaks_where_it_holds(name, rules, facts, change, words):
    facts = replace(facts, **change)
    rule = first(rules, facts)
    assert rule is not None
    assert rule.name == name
    assert words in rule.says(facts)
    assert rule.says(facts)[0].isupper()
    assert rule.says(facts).endswith(".")


def test_how_sure_an_adapted_model_may_be_is_judged_on_its_target():
    facts = replace(PLAIN, value=0.2, interval=(0.15, 0.25), confidence=0.62, domain=TARGET)
    assert "a probability of 62 % on average, and 60 % are right." in first(HOW_SURE, facts).says(facts)
    assert first(HOW_SURE, replace(facts, confidence=0.9)).name == "too_sure"


def test_every_rule_has_a_case():
    assert {rule.name for table in (RULES, ALSO) for rules in table.values() for rule in rules} == {*CASES, *OTHERS}


def test_a_part_that_fails_and_false_alarms_are_said_behind_the_first_sentence():
    facts = replace(PLAIN, part=DARK, flagged=Flagged(share=0.14, interval=(0.1, 0.2), asked=0.05))
    found = {each.title: each.text for each in verdict(facts)}
    assert "taken at their word" in found["How sure"]
    assert found["How sure"].endswith("where 5 % was asked for.")
    assert found["Where it fails"].startswith("No class stands out among the mistakes. It is clearly worse on the darkest images")
    several = replace(SEVERAL, part=DARK)
    assert "there it has every class right for 70 % of 50" in first(ALSO_FAILS, several).says(several)


@pytest.mark.parametrize(("share", "low"), [(0.14, 0.04), (0.08, 0.06), (0.0, 0.0)], ids=["of few images", "hardly more", "less"])
def test_false_alarms_that_are_not_noteworthy_are_not_said(share, low):
    assert first(ALSO_UNSURE, replace(PLAIN, flagged=Flagged(share=share, interval=(low, 0.3), asked=0.05))) is None


def test_a_verdict_has_at_most_four_sentences_in_their_order():
    assert [sentence.title for sentence in verdict(PLAIN)] == list(RULES)
    unknown = verdict(replace(PLAIN, confidence=None, domain=Domain(images=9)))
    assert [sentence.title for sentence in unknown] == ["How good", "How sure", "What next"]  # of a target without labels there is no more


@pytest.mark.parametrize("mode", ["extract", "finetune", "pretrain", "adapt", "ensemble"])
def test_every_command_of_a_rule_can_be_pasted(mode):
    config = Config.model_validate({"mode": mode, "data": {"source": "my photos/$1"}, "model": {"backbone": "vgg16"}})
    found = commands_for(config, Path("saved models/it's a run"))
    assert {name for rules in RULES.values() for rule in rules for name in rule.commands} == set(found)
    for line in found.values():
        read_options(shlex.split(line)[1:])


@pytest.mark.parametrize(
    ("share", "decimals", "shown"),
    [(0.5, 0, "50 %"), (1.0, 1, "100.0 %"), (0.9996, 0, "over 99.9 %"), (0.997, 0, "99.7 %"), (0.0, 0, "0 %"), (0.004, 0, "0.4 %")],
)
def test_a_share_is_all_or_none_only_where_it_is(share, decimals, shown):
    assert percent(share, decimals) == shown
