"""Several models as one: each rule answers as a model as it does on arrays, and the result saves, reloads and shares."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tl_keras.models.combined import bagged_model, combined_model, side_by_side
from tl_keras.models.outputs import OUTPUTS, SINGLE_LABEL, Regression
from tl_keras.models.rules import Average, Median, Mixture, Rule, Stacker, Vote, VotePerClass
from tl_keras.tasks import MULTI_LABEL, REGRESSION

NUM_CLASSES = 3
DRAWS = np.random.default_rng(7)
RULES: dict[str, Rule] = {
    "average": Average(),
    "vote": Vote(),
    "mixture": Mixture(np.array([0.7, 0.1, 0.2])),
    "stack": Stacker(DRAWS.normal(size=(9, 3)).astype(np.float32), np.array([0.5, -0.5, 0.0], np.float32), 1.0),
}


def small_model(seed: int, units: int = NUM_CLASSES) -> keras.Model:
    pixels = keras.Input((4, 4, 3))
    x = layers.Flatten(name="flat")(layers.Rescaling(1 / 255, name="scale")(pixels))
    return keras.Model(
        pixels, layers.Dense(units, kernel_initializer=keras.initializers.RandomNormal(stddev=3, seed=seed), name="logits")(x)
    )


def images(num: int = 40) -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 255, (num, 4, 4, 3)).astype(np.float32)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_model_by_a_rule_answers_as_the_rule_does_and_a_file_keeps_it(rule: Rule, tmp_path: Path) -> None:
    members = [small_model(seed) for seed in (1, 2, 3)]
    singles = np.stack([SINGLE_LABEL.answers(member(images()).numpy()) for member in members])
    model = combined_model(members, rule)
    np.testing.assert_allclose(SINGLE_LABEL.answers(model(images()).numpy()), rule(singles), atol=1e-6)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(images()).numpy(), model(images()).numpy())


OF_OTHERS: dict[str, tuple[str, Rule]] = {
    "several-average": (MULTI_LABEL, Average()),
    "several-vote": (MULTI_LABEL, VotePerClass(np.array([[0.3, 0.5, 0.7]] * 3))),
    "several-stack": (
        MULTI_LABEL,
        Stacker(DRAWS.normal(size=(9, 3)).astype(np.float32), np.zeros(3, np.float32), 1.0, OUTPUTS[MULTI_LABEL]),
    ),
    "numbers-average": (REGRESSION, Average()),
    "numbers-median": (REGRESSION, Median()),
    "numbers-mixture": (REGRESSION, Mixture(np.array([0.7, 0.1, 0.2]))),
    "numbers-stack": (REGRESSION, Stacker(np.array([[0.5], [0.4], [0.2]], np.float32), np.ones(1, np.float32), 1.0, Regression(5e5, 2.0))),
}


@pytest.mark.parametrize(("task", "rule"), OF_OTHERS.values(), ids=OF_OTHERS)
def test_a_model_of_several_classes_or_numbers_answers_as_the_rule_does(task: str, rule: Rule, tmp_path: Path) -> None:
    output = Regression(5e5, 2.0) if task == REGRESSION else OUTPUTS[task]  # numbers that float32 can hardly tell apart
    members = [small_model(seed, 1 if task == REGRESSION else NUM_CLASSES) for seed in (1, 2, 3)]
    singles = np.stack([output.answers(member(images()).numpy()) for member in members])
    model = combined_model(members, rule, task)
    answers = output.answers(model(images()).numpy())
    assert np.abs(answers - rule(singles)).max() / (2.0 if task == REGRESSION else 1.0) < 1e-5
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(images()).numpy(), model(images()).numpy())


def test_members_side_by_side_are_the_members() -> None:
    members = [small_model(seed) for seed in (1, 2)]
    both = side_by_side(members)(images()).numpy()
    for place, member in enumerate(members):
        np.testing.assert_allclose(both[:, place], member(images()).numpy(), rtol=1e-6)


def test_a_certain_answer_has_finite_logits() -> None:
    model = combined_model([small_model(1), small_model(2)], Average())
    sure = 1e6 * images(4)
    assert np.isfinite(model(sure).numpy()).all()


def test_heads_on_one_trunk_share_it_and_give_their_mean() -> None:
    trunk = small_model(5, units=6)
    heads = [(DRAWS.normal(size=(6, 3)).astype(np.float32), DRAWS.normal(size=3).astype(np.float32)) for _ in range(4)]
    model = bagged_model([trunk], [heads], Average())
    features = trunk(images()).numpy()
    expected = np.mean([SINGLE_LABEL.answers(features @ kernel + bias) for kernel, bias in heads], axis=0)
    np.testing.assert_allclose(SINGLE_LABEL.answers(model(images()).numpy()), expected, atol=1e-6)
    assert model.count_params() == trunk.count_params() + 4 * (6 * 3 + 3)
