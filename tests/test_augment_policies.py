"""Augmentation by name: what is given wins, a file keeps what was resolved, and a later policy replaces an earlier section."""

from pathlib import Path

import pytest
import yaml

from tl_keras.augment_policies import DEFAULT_POLICY, POLICIES, POLICY
from tl_keras.config import AugmentConfig, Config, fields
from tl_keras.config_file import from_yaml, load_config, make_config, to_yaml, with_settings
from tl_keras.errors import ConfigError


def with_policy(name: str, **given: object) -> AugmentConfig:
    return AugmentConfig.model_validate({"policy": name, **given})


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_its_row_and_else_the_defaults(name: str) -> None:
    found, defaults = with_policy(name).model_dump(), AugmentConfig().model_dump()
    assert found == defaults | POLICIES[name] | {"policy": name}
    assert load_config("finetune", sets=[f"{POLICY}={name}"]).data.augment == with_policy(name)


def test_the_default_is_a_policy_that_changes_nothing() -> None:
    assert AugmentConfig().policy == DEFAULT_POLICY
    assert AugmentConfig() == with_policy(DEFAULT_POLICY)
    assert POLICY in fields()


def test_policies_differ() -> None:
    seen = [with_policy(name).model_dump(exclude={"policy"}) for name in POLICIES]
    assert all(one != other for place, one in enumerate(seen) for other in seen[:place])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("path", [path for path in fields() if path.startswith("data.augment.") and path != POLICY])
def test_what_is_given_wins_though_it_is_the_default(path: str, name: str) -> None:
    option = path.rpartition(".")[2]
    default = AugmentConfig.model_fields[option].default
    assert getattr(with_policy(name, **{option: default}), option) == default


def test_what_is_given_wins_before_and_after_the_policy() -> None:
    for sets in (["data.augment.auto=none", f"{POLICY}=strong"], [f"{POLICY}=strong", "data.augment.auto=none"]):
        augment = load_config("finetune", sets=sets).data.augment
        assert (augment.auto, augment.random_erasing) == ("none", 0.25)


@pytest.mark.parametrize("name", POLICIES)
def test_the_file_of_a_run_holds_what_was_resolved(name: str) -> None:
    config = load_config("finetune", sets=[f"{POLICY}={name}", "data.augment.hue_range=0.1"])
    written = yaml.safe_load(to_yaml(config))["data"]["augment"]
    assert len(written) == len(AugmentConfig.model_fields)
    assert written["random_erasing"] == POLICIES[name].get("random_erasing", 0.0)
    assert from_yaml(to_yaml(config), "config.yaml") == config


def test_a_run_keeps_its_augmentation_when_a_policy_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = to_yaml(load_config("finetune", sets=[f"{POLICY}=strong"]))
    monkeypatch.setitem(POLICIES, "strong", {"auto": "trivial", "hue_range": 0.5})
    assert from_yaml(text, "config.yaml").data.augment.auto == "rand"
    assert from_yaml(text, "config.yaml").data.augment.hue_range == 0


def test_a_policy_replaces_what_a_file_says_and_what_is_given_beside_it_wins(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(load_config("finetune", sets=[f"{POLICY}=strong", "data.augment.hue_range=0.1"])))
    assert load_config("finetune", file=file, sets=["train.epochs=3"]).data.augment.hue_range == 0.1
    assert load_config("finetune", file=file, sets=[f"{POLICY}=light"]).data.augment == with_policy("light")
    beside = load_config("finetune", file=file, sets=["data.augment.rotation_range=5", f"{POLICY}=light"])
    assert beside.data.augment == with_policy("light", rotation_range=5)


def test_a_policy_replaces_that_of_a_configuration_in_python_and_in_a_search() -> None:
    base = load_config("finetune", sets=[f"{POLICY}=strong", "data.augment.hue_range=0.1"])
    assert make_config(None, base, {}, {POLICY: "none"}).data.augment == with_policy("none")
    assert make_config(None, base, {}, {"train.epochs": 3}).data.augment == base.data.augment
    assert with_settings(base, {POLICY: "trivial"}, "search.space").data.augment == with_policy("trivial")
    both = with_settings(base, {"data.augment.grayscale": 0.5, POLICY: "trivial"}, "search.space")
    assert both.data.augment == with_policy("trivial", grayscale=0.5)


@pytest.mark.parametrize("value", ["medium", "[light]", "{light: 1}", "3", "null"])
def test_a_policy_that_there_is_not(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("finetune", sets=[f"{POLICY}={value}"])
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"--set: {POLICY}: got ")
    assert ", expected one of 'none', 'light', 'crop', 'trivial', 'strong'." in line


def test_a_search_may_vary_the_policy() -> None:
    config = load_config("search", sets=["search.trial=finetune", f"search.space={{{POLICY}: {{choice: [none, light]}}}}"])
    assert isinstance(config, Config)
