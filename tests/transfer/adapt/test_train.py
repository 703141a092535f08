"""What a head is scored by, and whether BatchNorm statistics of each domain are kept."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tl_keras.config import Config
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.adapt import judge
from tl_keras.transfer.adapt.choice import Candidate
from tl_keras.transfer.adapt.judge import Judge
from tl_keras.transfer.adapt.problem import DomainProblem, solve

BASE = Candidate("source_only", 6.5, 7.0, 0.10, 0.30, 1.0, 0.9, 1.9, 4.0)


@pytest.mark.parametrize(
    ("accuracy", "classes", "holds"),
    [(0.95, 6.5, True), (0.91, 6.5, True), (0.89, 6.5, False), (0.95, 3.0, False)],
    ids=["a little worse", "just enough", "too much worse", "collapsed"],
)
def test_a_changed_backbone_is_kept_where_it_costs_little_and_nothing_collapses(accuracy: float, classes: float, holds: bool) -> None:
    own = replace(BASE, method="adabn", classes=classes, accuracy=accuracy)
    assert own.holds(BASE) is holds


@pytest.mark.parametrize(
    ("kept", "accuracy", "takes_its_place"),
    [("self_training", 0.94, True), ("self_training", 0.93, True), ("self_training", 0.92, False), ("auto", 0.92, True)],
    ids=["better", "as good", "worse", "instead of a mean"],
)
def test_a_trained_network_takes_the_place_of_self_training_where_it_loses_no_more_of_the_source(
    kept: str, accuracy: float, takes_its_place: bool
) -> None:
    before = replace(BASE, method=kept, accuracy=0.93)
    assert replace(BASE, method="mcc", accuracy=accuracy).outdoes(before, replace(BASE, method="adabn")) is takes_its_place


def test_the_risk_counts_images_by_their_likeness_to_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 2, 120).astype(np.int32)
    features = (draws.normal(size=(120, 3)) + labels[:, None]).astype(np.float32)
    target = np.add(features, [1.5, 0, 0]).astype(np.float32)
    pair, val = (features[:80], labels[:80]), (features[80:], labels[80:])
    problem = DomainProblem(Config.model_validate({"mode": "adapt"}), pair, val, target, ("ant", "bee"))
    monkeypatch.setattr(judge, "mixed_features", lambda *_: (np.array([[0, 1], [1, 0]]), target[:2]))
    task: Any = SimpleNamespace(config=problem.config, progress=None)
    head = solve(problem, "source_only")
    found = Judge(task, problem, SimpleNamespace())("source_only", head)  # type: ignore[arg-type]
    losses = SINGLE_LABEL.plain_losses(head.on_source.logits(val[0]), val[1])
    alike = judge.likeness(problem.train[0], target, problem.rng)(val[0])
    assert found.risk == pytest.approx(np.average(losses, weights=alike))
    assert found.risk != pytest.approx(losses.mean(), rel=0.01)
    assert found.agreement == 1
