"""The place of a process among those that train together."""

import json

import pytest

from tl_keras.errors import ConfigError
from tl_keras.tf_config import Place, config_of, place_in

TWO = {"worker": ["a:1", "b:2"]}


def environment(cluster: object, task: object) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


@pytest.mark.parametrize(
    ("given", "index", "addresses"),
    [
        (environment(TWO, {"type": "worker", "index": 1}), 1, ("a:1", "b:2")),
        (environment(TWO, {"type": "worker", "index": "0"}), 0, ("a:1", "b:2")),  # as some operators write it
        (environment({"worker": ["b:2"], "chief": ["a:1"]}, {"type": "worker", "index": 0}), 1, ("a:1", "b:2")),
        (environment({"chief": ["a:1"], "worker": ["b:2"]}, {"type": "chief", "index": 0}), 0, ("a:1", "b:2")),
    ],
)
def test_a_place_is_read_and_the_chief_is_first(given, index, addresses):
    assert place_in(given) == Place(index, addresses)
    assert place_in(given).is_chief is (index == 0)


@pytest.mark.parametrize("text", ["", "  ", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'])
def test_one_process_is_alone(text):
    assert place_in({"TF_CONFIG": text}) is None
    assert place_in({}) is None


@pytest.mark.parametrize(
    "given",
    [
        {"TF_CONFIG": "{"},
        environment(TWO, {}),
        environment(TWO, {"type": "worker", "index": 2}),
        environment({"worker": ["a", "b"]}, {"type": "worker", "index": 0}),
    ],
)
def test_what_is_not_understood_is_shown_with_what_would_be(given):
    with pytest.raises(ConfigError, match=r"^TF_CONFIG: got '.*', expected such as .*host1:port.*, with a task that is in the cluster\.$"):
        place_in(given)


def test_an_address_is_of_one_process():
    with pytest.raises(ConfigError, match=r"^TF_CONFIG: got the address a:1 twice, expected one of its own for each process\.$"):
        place_in(environment({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0}))


def test_what_is_written_is_read():
    place = Place(2, ("a:1", "b:2", "c:3"))
    assert place_in({"TF_CONFIG": config_of(place)}) == place
    assert str(place) == "worker 2 of 3"
