"""Spaces: what may be declared, what is refused in one line, and what KerasTuner makes of it."""

from dataclasses import replace

import numpy as np
import pytest

from tl_keras.errors import ConfigError
from tl_keras.select.search.space import hyperparameters, read_space, settings_of

SPACE = {
    "train.focal_gamma": {"float": [0.5, 5.0], "when": {"train.loss": "focal"}},
    "train.loss": {"choice": ["cross_entropy", "focal"]},
    "train.learning_rate": {"float": [1e-4, 1e-2], "log": True},
    "train.batch_size": {"int": [8, 64], "step": 8},
    "model.hidden": {"choice": [[], [64], [64, 32]]},
    "model.dropout": {"choice": [0.0, 0.5], "when": {"model.hidden": [[64], [64, 32]]}},
}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, r"search\.space: is empty\. Declare a setting"),
        (
            {"train.learning_rte": {"float": [0, 1]}},
            r"'train\.learning_rte' is not a setting that a trial may vary\. Did you mean 'train\.learning_rate'",
        ),
        ({"train.head_penalty": {"float": [0.1, 1]}}, r"^search\.space: train\.head_penalty has been renamed: write train\.head_c\.$"),
        ({"runtime.seed": {"int": [0, 5]}}, r"'runtime\.seed' is not a setting that a trial may vary\."),
        ({"data.split_seed": {"int": [0, 5]}}, r"'data\.split_seed' is not a setting that a trial may vary\."),
        ({"train.epochs": 5}, r"train\.epochs: got 5, expected {choice: \[\.\.\.\]}"),
        ({"train.epochs": {"int": [1, 5], "choice": [1]}}, r"train\.epochs: got .* expected {choice"),
        ({"train.epochs": {"int": [1, 5], "sampling": "log"}}, r"train\.epochs: got .* expected {choice"),
        ({"train.epochs": {"choice": []}}, r"train\.epochs: choice: got \[\], expected a list of values\."),
        ({"train.epochs": {"int": [5]}}, r"train\.epochs: int: got \[5\], expected \[low, high\]\."),
        ({"train.epochs": {"int": [5, 2]}}, r"train\.epochs: int: got \[5, 2\], expected two ints, the lower first\."),
        ({"train.learning_rate": {"float": [0.1, 0.1]}}, r"expected two floats, the lower first\."),
        ({"train.epochs": {"int": [0, 2]}}, r"train\.epochs: got 0, expected an integer >= 1"),
        ({"data.resize": {"choice": ["crop", "corp"]}}, r"data\.resize: got 'corp', expected one of 'crop', 'letterbox', 'stretch'\."),
        ({"train.weight_decay": {"float": [0, 1], "log": True}}, r"train\.weight_decay: got log from 0, expected numbers > 0\."),
        ({"train.epochs": {"int": [1, 9], "step": 0}}, r"train\.epochs: step: got 0, expected a number > 0\."),
        ({"train.head_c": {"float": [0.1, 0.5], "step": float("nan")}}, r"train\.head_c: step: got nan, expected a number > 0\."),
        ({"train.head_c": {"float": [0.1, 0.5], "step": float("inf")}}, r"train\.head_c: step: got inf, expected a number > 0\."),
        ({"train.head_c": {"float": [0.1, float("inf")]}}, r"train\.head_c: float: got \[0\.1, inf\], expected two floats"),
        ({"train.epochs": {"int": [1, 9], "when": "always"}}, r"train\.epochs: when: got 'always', expected one {other setting"),
        (
            {"train.epochs": {"int": [1, 9], "when": {"train.loss": "mse"}}},
            r"train\.epochs: when: 'train\.loss' is not a choice of this space\.",
        ),
        (
            {"train.loss": {"choice": ["mse"]}, "train.epochs": {"int": [1, 9], "when": {"train.loss": "focal"}}},
            r"train\.epochs: when: train\.loss is never 'focal': its choices are \['mse'\]\.",
        ),
        (
            {
                "train.loss": {"choice": ["mse"], "when": {"train.optimizer": "sgd"}},
                "train.optimizer": {"choice": ["sgd"], "when": {"train.loss": "mse"}},
            },
            r"train\.loss: when: the conditions go in a circle\.",
        ),
    ],
)
def test_a_wrong_space_is_one_line(space, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_space(space)
    assert "\n" not in str(caught.value)


def test_what_depends_comes_after():
    paths = [each.path for each in read_space(SPACE)]
    assert set(paths) == set(SPACE)
    assert paths.index("train.loss") < paths.index("train.focal_gamma")
    assert paths.index("model.hidden") < paths.index("model.dropout")


def test_random_values_are_settings_in_their_ranges_and_only_those_that_count():
    space = read_space(SPACE)
    seen = []
    for seed in range(200):
        hps = hyperparameters(space)
        values = {each.name: each.random_sample(seed * 100 + place) for place, each in enumerate(hps.space)}
        settings = settings_of(values, space)
        seen.append(settings)
        assert ("train.focal_gamma" in settings) == (settings["train.loss"] == "focal")
        assert ("model.dropout" in settings) == (settings["model.hidden"] != [])
        assert 1e-4 <= settings["train.learning_rate"] <= 1e-2
        assert settings["train.batch_size"] in range(8, 65, 8)
        assert isinstance(settings["train.batch_size"], int)
        assert not isinstance(settings["train.learning_rate"], np.generic)
    assert {str(each["model.hidden"]) for each in seen} == {"[]", "[64]", "[64, 32]"}
    assert 0.3 < np.mean([each["train.learning_rate"] < 1e-3 for each in seen]) < 0.7  # even by the logarithm


def test_choices_of_every_kind_come_back():
    values = [None, True, "avg", 2, [1], {"cat": 2.0}]
    (classes,) = read_space({"train.class_weights": {"choice": ["none", {"cat": 2.0}]}})
    dimension = replace(classes, values=tuple(values))
    assert [dimension.decode(dimension.encode(value)) for value in values] == values
    (mixed,) = read_space({"train.head_c": {"choice": [0.1, 1, 10]}})
    assert hyperparameters([mixed]).space[0].values == [0.1, 1.0, 10.0]
    assert [mixed.decode(mixed.encode(value)) for value in mixed.values] == [0.1, 1, 10]
    (numbers,) = read_space({"train.batch_size": {"choice": [8, 16]}})
    assert (numbers.encode(8), numbers.decode(np.int64(8))) == (8, 8)
