"""Open settings are filled from the data; what was chosen by hand stays."""

import pytest

from tl_keras.config import TrainConfig
from tl_keras.config_file import load_config
from tl_keras.transfer.defaults import finetune_epochs, resolve

STAGES = ("stage1", "stage2", "stage3")
STAY = ("patience", "head_c", "unfreeze_every", "teacher")  # where null is a choice
OPEN = [name for name, field in TrainConfig.model_fields.items() if field.default is None and name not in STAY]


def resolved_config(mode, *sets, num_train=600, num_parameters=2_000_000):
    return resolve(load_config(mode, file=None, flags={}, sets=sets), num_train, STAGES, num_parameters)


def resolved(mode, *sets, **numbers):
    return resolved_config(mode, *sets, **numbers).train


@pytest.mark.parametrize("mode", ["extract", "finetune", "pretrain", "adapt"])
def test_nothing_stays_open(mode):
    config = resolved_config(mode)
    assert all(getattr(config.train, name) is not None for name in OPEN)
    assert None not in (config.features.views, config.features.stages)


def test_adapting_smooths_no_labels_and_goes_slower():
    assert (resolved("adapt").label_smoothing, resolved("finetune").label_smoothing) == (0, 0.1)
    assert resolved("adapt").learning_rate < resolved("finetune").learning_rate
    assert resolved("adapt", "train.label_smoothing=0.2").label_smoothing == 0.2


def test_choices_by_hand_stay():
    train = resolved("finetune", "train.epochs=2", "train.unfreeze_from=stage2", "train.layer_decay=0.5", "train.learning_rate=1")
    assert (train.epochs, train.unfreeze_from, train.layer_decay, train.learning_rate) == (2, "stage2", 0.5, 1.0)


@pytest.mark.parametrize(("num_train", "epochs"), [(10, 30), (400, 30), (600, 20), (4_000, 3), (1_000_000, 3)])
def test_fewer_passes_over_more_images(num_train, epochs):
    assert finetune_epochs(num_train) == epochs


@pytest.mark.parametrize(
    ("num_train", "num_parameters", "stage"), [(600, 2_000_000, "stage3"), (10_000, 2_000_000, "all"), (600, 300_000, "all")]
)
def test_more_is_unfrozen_where_the_data_can_bear_it(num_train, num_parameters, stage):
    assert resolved("finetune", num_train=num_train, num_parameters=num_parameters).unfreeze_from == stage


def test_pretraining_trains_everything_at_one_rate():
    train = resolved("pretrain", "train.optimizer=sgd")
    assert (train.unfreeze_from, train.layer_decay, train.learning_rate) == ("all", 1.0, 0.1)


@pytest.mark.parametrize(
    ("mode", "num_train", "cycles", "epochs"), [("finetune", 600, 3, 21), ("finetune", 4_000, 5, 5), ("pretrain", 600, 7, 35)]
)
def test_open_epochs_make_cycles_equally_long(mode, num_train, cycles, epochs):
    train = resolved(mode, "train.schedule=cosine_restarts", f"train.cycles={cycles}", num_train=num_train)
    assert (train.epochs, train.cycles) == (epochs, cycles)


def test_views_are_those_of_the_epochs_that_cycles_need():
    assert resolved_config("finetune", "train.schedule=cosine_restarts", num_train=4_000).features.views == 4


@pytest.mark.parametrize(("mode", "views", "stages"), [("extract", 0, "all"), ("finetune", 7, "last")])
def test_features_suit_the_mode_unless_chosen_by_hand(mode, views, stages):
    features = resolved_config(mode).features
    assert (features.views, features.stages) == (views, stages)
    other = "last" if stages == "all" else "all"
    features = resolved_config(mode, "features.views=1", f"features.stages={other}").features
    assert (features.views, features.stages, features.max_gb) == (1, other, 20.0)


@pytest.mark.parametrize(
    ("sets", "num_train", "views"),
    [
        ((), 600, 7),
        ((), 4_000, 2),
        (("train.epochs=1",), 600, 0),
        (("train.epochs=5",), 600, 4),
        (("train.epochs=5",), 10_000, 0),  # all stages train
        (("train.unfreeze_from=all",), 600, 0),
        (("train.unfreeze_from=stage2",), 600, 7),
    ],
)
def test_no_view_is_stored_that_no_epoch_shows(sets, num_train, views):
    assert resolved_config("finetune", *sets, num_train=num_train).features.views == views
