"""Ensembles of heads on stored features of frozen backbones, one way of combining a row of `FROM_BACKBONES`."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tl_keras.config import Config
from tl_keras.data.index import Index
from tl_keras.errors import ConfigError
from tl_keras.models.combined import bagged_model
from tl_keras.models.rules import Average, Probabilities, Rule
from tl_keras.progress import Progress
from tl_keras.select.ensemble.comparison import JUDGED_SPLITS, Answers, Ensemble, OutOfFold
from tl_keras.select.ensemble.heads import BoostedTrees, FrozenMember, answer, answer_out_of_fold, bag_heads, open_members, solve_head
from tl_keras.select.ensemble.meta import fit_meta, rule_of
from tl_keras.select.ranking.rank import candidates
from tl_keras.transfer.head.probe import LinearProbe
from tl_keras.transfer.head.problem import solves_exactly


def of_backbones(config: Config, index: Index, progress: Progress) -> Ensemble:
    """Combine heads on the stored features of the backbones of `ensemble.members`.

    Raises:
        ConfigError: too few backbones, or a method or head that is not made of solved linear heads.
        UserError: from the data, a backbone or the store.
    """
    method = config.ensemble.method
    if method not in FROM_BACKBONES:
        raise ConfigError(
            f"ensemble.method: got '{method}', which averages the weights of runs, and {config.ensemble.members[0]} is not a run folder. "
            "Give folders of runs."
        )
    if not solves_exactly(config):
        raise ConfigError("--mode ensemble: solves linear heads on backbones. Take model.hidden and train.loss away, or combine runs.")
    backbones = candidates(config.ensemble.members)
    if len(backbones) < 2 and method in NEED_TWO:
        raise ConfigError(f"ensemble.members: got {backbones[0]} alone, and '{method}' needs two. Add a backbone, or take 'bagging'.")
    return FROM_BACKBONES[method](config, open_members(config, backbones, index, progress), progress)


def by_rule(config: Config, members: Sequence[FrozenMember], progress: Progress) -> Ensemble:
    """The mean answer of the heads that `extract` would train, or their vote."""
    return _combined(config, members, None)


def stacked(config: Config, members: Sequence[FrozenMember], progress: Progress) -> Ensemble:
    """A meta-learner on the same heads, fitted on their out-of-fold predictions."""
    found = answer_out_of_fold(members, config, progress)
    parts = [fold.held_out for fold in found.folds]
    names = [member.name for member in members]
    meta = fit_meta(config, found.probabilities, found.labels, parts, members[0].class_weights, names, members[0].data.output)
    out_of_fold = OutOfFold(found.rows, Answers(found.labels, found.probabilities, meta.answers), parts)
    return _combined(config, members, meta.rule, out_of_fold=out_of_fold, notes=meta.notes)


def bagged(config: Config, members: Sequence[FrozenMember], progress: Progress) -> Ensemble:
    """The mean answer of heads on resamples of train; the singles are the heads on all of it."""
    bags, output = [], members[0].data.output
    with progress.bar("resamples", len(members)) as advance:
        for member in members:
            bags.append(bag_heads(member, config.ensemble.resamples, config.runtime.seed))
            advance(1)
    together = {}
    for split in JUDGED_SPLITS:
        features = [member.features(split) for member in members]
        together[split] = np.mean([answer(head, each, output) for each, bag in zip(features, bags, strict=True) for head in bag], axis=0)
    model = _model(members, bags, Average())
    return _assembled(config, members, _singles(members, [solve_head(member) for member in members]), together, model)


def boosted(config: Config, members: Sequence[FrozenMember], progress: Progress) -> Ensemble:
    """Boosted trees on the features of all backbones side by side; the singles are linear heads."""
    progress.line(f"boosting trees on {sum(member.features('val').shape[1] for member in members):,} features")
    trees = BoostedTrees(members, config.ensemble.rounds, config.runtime.seed)
    notes = {"rounds": trees.rounds, "images": trees.num_train, "not_keras": "gradient-boosted trees of scikit-learn"}
    singles = _singles(members, [solve_head(member) for member in members])
    return _assembled(config, members, singles, {split: trees(split) for split in JUDGED_SPLITS}, None, notes=notes)


def _combined(config: Config, members: Sequence[FrozenMember], rule: Rule | None, **more: Any) -> Ensemble:
    """An ensemble by a rule; None for that of `ensemble.method`, see `rule_of`."""
    heads, data = [solve_head(member) for member in members], members[0].data
    singles = _singles(members, heads)
    rule = rule or rule_of(config.ensemble.method, data.output, singles["val"], data.labels("val"))
    together = {split: rule(singles[split]) for split in JUDGED_SPLITS}
    return _assembled(config, members, singles, together, _model(members, [[head] for head in heads], rule), **more)


def _singles(members: Sequence[FrozenMember], heads: Sequence[LinearProbe]) -> dict[str, Probabilities]:
    """The answers of each head to val and to test: (m, n, k)."""
    pairs, output = list(zip(members, heads, strict=True)), members[0].data.output
    return {split: np.stack([answer(head, member.features(split), output) for member, head in pairs]) for split in JUDGED_SPLITS}


def _model(members: Sequence[FrozenMember], heads: Sequence[Sequence[LinearProbe]], rule: Rule) -> keras.Model:
    trunks = [member.opened.classifier.trunk for member in members]
    return bagged_model(trunks, [[(head.kernel, head.bias) for head in own] for own in heads], rule, members[0].config.data.task)


def _assembled(
    config: Config,
    members: Sequence[FrozenMember],
    singles: dict[str, Probabilities],
    together: dict[str, Probabilities],
    model: keras.Model | None,
    **more: Any,
) -> Ensemble:
    data, first = members[0].data, members[0].config
    wanted = config.ensemble.replace("members", tuple(member.config.model.backbone for member in members))
    kept = first.replace("mode", "ensemble").replace("ensemble", wanted)
    val, test = (Answers(data.learned(split), singles[split], together[split]) for split in JUDGED_SPLITS)
    return Ensemble(kept, data, [member.name for member in members], val, test, model, **more)


FROM_BACKBONES: dict[str, Callable[[Config, Sequence[FrozenMember], Progress], Ensemble]] = {
    "average": by_rule,
    "vote": by_rule,
    "stack": stacked,
    "bagging": bagged,
    "boosting": boosted,
}
NEED_TWO = ("average", "vote", "stack")
