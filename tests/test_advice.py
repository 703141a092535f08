"""What a mode says to do next is a command that this program takes, whatever the names of folders are."""

import shlex
from pathlib import Path

import pytest

from tl_keras import advice, run
from tl_keras.arguments import read_options
from tl_keras.config import Config
from tl_keras.errors import LostImageError
from tl_keras.tf_config import Place, config_of

RUN = Path("saved models/it's a run")
SETTINGS = {"data": {"source": "my photos/$1", "image_size": (64, 48)}, "model": {"backbone": "vgg16"}}


def commands(lines):
    return [line.strip() for line in lines if line.startswith("  ")]


@pytest.mark.parametrize("mode", ["extract", "finetune", "pretrain", "rank", "crossval"])
def test_every_command_can_be_pasted(mode):
    config = Config.model_validate({"mode": mode, **SETTINGS})
    lines = {
        "rank": lambda: advice.after_ranking(config, "resnet50"),
        "crossval": lambda: advice.after_crossval(config, RUN),
    }.get(mode, lambda: advice.after_training(config, RUN))()
    lines = list(lines)
    assert lines[0].startswith("next: ")
    assert commands(lines)
    for line in commands(lines):
        options = read_options(shlex.split(line)[1:])
        assert options.run_dir in (None, RUN)


@pytest.mark.parametrize("mode", ["extract", "rank"])
def test_a_finetuning_afterwards_keeps_what_was_asked_for(mode):
    config = Config.model_validate({"mode": mode, **SETTINGS})
    lines = advice.after_training(config, RUN) if mode == "extract" else advice.after_ranking(config, "vgg16")
    found = run.configure(read_options(shlex.split(commands(lines)[-1])[1:]))
    assert (found.mode, found.data.source, found.data.image_size, found.model.backbone) == ("finetune", "my photos/$1", (64, 48), "vgg16")


@pytest.mark.parametrize(
    "data",
    [
        {"source": "x.zip", "nested_classes": True, "group_pattern": r"(it's \d+)", "per_class": 5},
        {"source": "labels.csv", "columns": {"path": "file name", "label": "é"}, "image_folder": "a b/c"},
    ],
)
def test_a_finetuning_afterwards_is_of_the_same_images(data):
    config = Config.model_validate({"mode": "extract", "data": data})
    found = run.configure(read_options(shlex.split(commands(advice.after_training(config, RUN))[-1])[1:]))
    assert found.data == config.data


def test_the_digits_lead_to_photos_of_ones_own():
    lines = commands(advice.after_training(Config(mode="finetune"), RUN))
    assert lines[-1] == "tl-keras finetune NEW_PHOTOS/ --backbone mobilenet_v2"


def test_what_is_exported_already_is_not_advised(tmp_path):
    assert len(commands(advice.use_run(tmp_path))) == 2
    (tmp_path / "export").mkdir()
    assert len(commands(advice.use_run(tmp_path))) == 1


def test_going_on_with_a_run_names_it():
    for mode, workers in (("search", 0), ("search", 3), ("finetune", 2)):
        options = read_options(shlex.split(advice.go_on(mode, RUN, workers))[1:])
        assert (options.mode, options.resume, options.run_dir, options.workers) == (mode, True, RUN, workers)


def test_one_of_several_processes_that_another_started_goes_on_with_all(monkeypatch):
    assert run.team_size() == 0
    monkeypatch.setenv("TF_CONFIG", config_of(Place(0, ("a:1", "b:2", "c:3"))))
    assert run.team_size() == 0  # on several machines each has a command of its own
    monkeypatch.setenv("TL_KERAS_CHIEF_PROCESS", "1")
    assert run.team_size() == 3


def test_an_image_that_vanished_ends_with_the_command_that_goes_on():
    with pytest.raises(LostImageError) as caught, run.telling_how_to_go_on("finetune", RUN):
        raise LostImageError("cat/1.jpg: cannot be read. Put it back, then continue with --resume.")
    assert str(caught.value) == f"cat/1.jpg: cannot be read. Put it back, then continue with --resume: {advice.go_on('finetune', RUN)}"
