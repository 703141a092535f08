"""Trust without labels: what has collapsed on the target, or has lost the source, is never part of the mean."""

from dataclasses import replace

import numpy as np
import pytest

from tl_keras.transfer.adapt.choice import Candidate, judge_candidate, trusted

BASE = Candidate("source_only", 6.5, 7.0, 0.10, 0.30, 1.0, 0.9, 1.9, 4.0)
BETTER = replace(BASE, method="coral", mixed=0.35, entropy=0.8)


def kept(*others: Candidate, base: Candidate = BASE) -> list[str]:
    return trusted([base, *others])


def test_what_passes_is_trusted_whatever_its_other_scores() -> None:
    assert kept(BETTER, replace(BETTER, method="tca", mixed=0.0, entropy=9.0, density=0.0)) == ["source_only", "coral", "tca"]
    assert kept() == ["source_only"]


def test_what_has_collapsed_is_never_trusted_however_sure_it_is() -> None:
    assert kept(replace(BETTER, classes=3.0, mixed=0.9, entropy=0.01)) == ["source_only"]
    collapsed = replace(BASE, classes=3.0)
    assert kept(BETTER, base=collapsed) == ["coral"]
    assert kept(replace(BETTER, classes=3.0), base=collapsed) == ["source_only"]  # there is nothing else


def test_what_forgets_the_source_is_never_trusted() -> None:
    assert kept(replace(BETTER, risk=0.119)) == ["source_only", "coral"]
    assert kept(replace(BETTER, risk=0.121)) == ["source_only"]


def test_of_risks_near_0_the_ratio_does_not_decide() -> None:
    sure = replace(BASE, risk=0.0001)
    assert kept(replace(BETTER, risk=0.009), base=sure) == ["source_only", "coral"]
    assert kept(replace(BETTER, risk=0.011), base=sure) == ["source_only"]


def test_few_classes_are_no_collapse_where_the_source_has_few() -> None:
    assert not replace(BASE, classes=2.0, classes_on_source=2.5).collapsed


def test_the_first_candidate_is_the_unadapted_head() -> None:
    with pytest.raises(ValueError, match="the first candidate must be source_only"):
        trusted([BETTER])


def test_scores_of_a_head() -> None:
    on_target = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    pairs = np.array([[0, 1, 2], [1, 2, 0]])
    on_mixed = np.array([[0.7, 0.3], [0.7, 0.3], [0.6, 0.4]])
    found = judge_candidate("coral", on_target, on_mixed, pairs, np.eye(2), np.array([0.1, 0.3]), np.array([1.0, 3.0]))
    assert found.mixed == pytest.approx(0.5)  # of the pairs of two classes, the first holds and the second does not
    assert found.risk == pytest.approx(0.25)
    assert found.classes_on_source == pytest.approx(2)
    assert not found.collapsed
    assert found.report()["collapsed"] is False
