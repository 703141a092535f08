"""What hands type: the mode as first word, short forms of settings, names of other programs; and what is said to them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tl_keras import run
from tl_keras.arguments import program, read_options
from tl_keras.config import Config, fields
from tl_keras.config_file import load_config, make_config
from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.modes import MODES
from tl_keras.run_folder import RunFolder
from tl_keras.short_forms import ELSEWHERE, INSTEAD, SHORT_FORMS, flag_of, nearest, normal, settings_called


def options_of(line: str):
    return read_options(line.split())


def refusal(line: str) -> str:
    with pytest.raises(ConfigError) as caught:
        run.configure(options_of(line))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("finetune photos/", {"mode": "finetune", "data": "photos/"}),
        ("extract photos/ --backbone resnet50", {"mode": "extract", "data": "photos/", "backbone": "resnet50"}),
        ("--backbone resnet50 extract photos/", {"mode": "extract", "data": "photos/", "backbone": "resnet50"}),
        ("Fine-Tune photos/", {"mode": "finetune", "data": "photos/"}),
        ("--mode finetune photos/", {"mode": "finetune", "data": "photos/"}),
        ("finetune --resume RUN", {"data": None, "run_dir": Path("RUN"), "resume": True}),
        ("finetune --output-dir RUN", {"run_dir": Path("RUN"), "output_dir": None}),
        ("rank photos/ resnet50 vgg16", {"data": "photos/", "paths": ["resnet50", "vgg16"]}),
        ("rank --data photos/ resnet50 vgg16", {"data": "photos/", "paths": ["resnet50", "vgg16"]}),
        ("--mode rank resnet50 vgg16", {"data": None, "paths": ["resnet50", "vgg16"]}),
        ("ensemble photos/ resnet50 vgg16", {"data": "photos/", "paths": ["resnet50", "vgg16"]}),
        ("--mode ensemble RUN1 RUN2", {"data": None, "paths": ["RUN1", "RUN2"]}),
        ("ensemble runs/1 runs/2", {"data": None, "paths": ["runs/1", "runs/2"]}),
        ("evaluate RUN", {"run_dir": Path("RUN"), "data": None}),
        ("evaluate RUN other/", {"run_dir": Path("RUN"), "data": "other/"}),
        ("compare A B", {"run_dir": Path("A"), "against": Path("B")}),
        ("--mode compare A B/model.keras", {"run_dir": Path("A"), "against": Path("B")}),
        ("report RUN OTHER", {"run_dir": Path("RUN"), "paths": ["OTHER"], "data": None}),
        ("export RUN", {"run_dir": Path("RUN")}),
        ("explain RUN a.jpg --data photos/", {"run_dir": Path("RUN"), "paths": ["a.jpg"], "data": "photos/", "method": None}),
        ("predict RUN new/ a.jpg", {"run_dir": Path("RUN"), "paths": ["new/", "a.jpg"]}),
        ("predict --run-dir RUN new/ a.jpg", {"run_dir": Path("RUN"), "paths": ["new/", "a.jpg"]}),
        ("--mode predict RUN new/", {"run_dir": Path("RUN"), "paths": ["new/"]}),
        ("predict --run-dir RUN/model.keras new/", {"run_dir": Path("RUN")}),
        ("evaluate RUN/model.keras", {"run_dir": Path("RUN")}),
        ("finetune --Batch_Size=8 --image_size 64", {"batch_size": "8", "image_size": "64"}),
    ],
)
def test_words_without_flags_have_their_places(line, found):
    options = options_of(line)
    assert {name: getattr(options, name) for name in found} == found


def test_a_run_is_told_from_images_by_its_configuration(tmp_path):
    for name in ("photos", "R1", "R2"):
        (tmp_path / name).mkdir()
    for name in ("R1", "R2"):
        (tmp_path / name / "config.yaml").write_text("")
    photos, first, second = (str(tmp_path / name) for name in ("photos", "R1", "R2"))
    options = read_options(["ensemble", first, second])
    assert (options.data, options.paths) == (None, [first, second])
    options = read_options(["ensemble", photos, "vgg16"])
    assert (options.data, options.paths) == (photos, ["vgg16"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train photos/", ["got 'train'", "Take 'extract' or 'finetune'"]),
        ("--mode train", ["Take 'extract' or 'finetune'"]),
        ("test RUN", ["Take 'evaluate'."]),
        ("cross-validation", ["Take 'crossval'."]),
        ("pretrian", ["Did you mean 'pretrain'?"]),
        ("/", ["'/': expected one of check, extract", "first, such as: tl-keras finetune /."]),
        ("extract photos/ resnet50", ["'resnet50': extract does not use it", "--backbone"]),
        ("rank resnet50 vgg16", ["the images come first: tl-keras rank DATA resnet50 vgg16."]),
        ("rank photos/ --backbone vgg16", ["tl-keras rank DATA vgg16"]),
        ("predict", ["expected the folder of a run, such as: tl-keras predict saved_models/NAME"]),
        ("compare A", ["expected the folders of two runs, such as: tl-keras compare saved_models/A saved_models/B"]),
        ("compare A B C", ["'C': compare does not use it"]),
        ("evaluate A --against B", ["--against: evaluate does not use it"]),
        ("adapt a b --method coral", ["--method: adapt does not use it. Remove it. Write --set adapt.method=coral."]),
        ("predict RUN new/ --output-dir out", ["--output-dir: predict does not use it", "--output."]),
        ("predict RUN new/ --batch-size 8", ["--batch-size: predict does not use it", "The run's own settings are used."]),
        ("finetune --run-dir A --output-dir B", ["--output-dir", "Remove one of them."]),
        ("finetune --resume RUN --epochs 5", ["--epochs: --resume continues with the run's own settings. Remove it."]),
    ],
)
def test_a_word_that_means_something_else_is_told_what(line, words):
    text = refusal(line)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("mode", ["photos", "toto", "run", "help", "abc"])
def test_no_mode_is_guessed_from_a_word_that_is_not_like_one(mode):
    assert "Did you mean" not in refusal(mode)
    assert "Take" not in refusal(mode)


@pytest.mark.parametrize(("words", "status"), [([], 2), (["help"], 0)])
def test_nothing_at_all_prints_the_help_and_fails(capfd, words, status):
    assert run.main(words) == status
    printed = capfd.readouterr()
    assert "tl-keras finetune photos/" in printed.out
    assert not printed.err


@pytest.mark.parametrize("line", run.parser().format_help().splitlines())
def test_the_help_fits_a_terminal(line):
    assert len(line) <= 90 if line.startswith("Transfer learning") else len(line) <= 80 or line.startswith("usage")


def test_an_interpreter_below_the_current_folder_is_named_from_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/site/tl_keras/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert program() == ".venv/bin/python -m tl_keras"


@pytest.mark.parametrize(
    ("called", "which", "told"),
    [
        ("/venv/bin/tl-keras", "/venv/bin/tl-keras", "tl-keras"),
        ("/my venv/bin/tl-keras", None, "'/my venv/bin/tl-keras'"),
        ("/site/tl_keras/__main__.py", sys.executable, "python -m tl_keras"),
        ("/site/tl_keras/run.py", sys.executable, "python -m tl_keras.run"),
        ("/site/tl_keras/__main__.py", "/other/python", f"{sys.executable} -m tl_keras"),
        ("my_script.py", None, "tl-keras"),
    ],
)
def test_lines_to_paste_begin_as_the_program_was_called(monkeypatch, tmp_path, called, which, told):
    monkeypatch.chdir(tmp_path)  # an interpreter below the working directory is named from there
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr("shutil.which", lambda _: which)
    assert program() == told


# --- short forms ---------------------------------------------------------------------------------------------------


def test_every_short_form_is_a_setting():
    assert {form.setting for form in SHORT_FORMS.values()} <= set(fields())
    assert set(ELSEWHERE.values()) <= set(fields())
    assert all(name == normal(name) for name in ELSEWHERE)


@pytest.mark.parametrize("name", INSTEAD)
def test_an_option_that_is_no_setting_is_told_what_there_is_instead(name):
    assert name == normal(name)
    with pytest.raises(ConfigError) as caught:
        load_config("finetune", sets=[f"data.augment.{name}=1"])
    assert str(caught.value) == f"--set: unknown key 'data.augment.{name}'. {INSTEAD[name]}"
    named = re.findall(r"(?:model|data|runtime)\.\w+", INSTEAD[name])
    assert set(named) <= set(fields())


def test_the_options_of_image_data_generator_are_settings_or_are_told():
    """Of Keras as it is installed: `rotation_range` and its like are settings of data.augment."""
    import inspect

    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    options = set(inspect.signature(ImageDataGenerator).parameters)
    ours = {path.rpartition(".")[2] for path in fields() if path.startswith("data.augment.")}
    others = {name for name in options - ours if normal(name) not in INSTEAD}
    assert others == {"validation_split"}
    with pytest.raises(ConfigError, match=r"Did you mean 'data\.val_fraction'\?"):
        load_config("finetune", sets=["data.augment.validation_split=0.2"])


def test_short_forms_set_their_settings():
    line = "finetune photos/ --backbone vgg16 --weights none --image-size 64 --epochs 5 --batch-size 8 --lr 1e-4 --seed 3"
    config = run.configure(options_of(line))
    assert (config.data.source, config.model.backbone, config.model.weights, config.data.image_size) == ("photos/", "vgg16", "none", 64)
    assert (config.train.epochs, config.train.batch_size, config.train.learning_rate, config.runtime.seed) == (5, 8, 1e-4, 3)
    assert run.configure(options_of("extract --image-size [64,48]")).data.image_size == (64, 48)


@pytest.mark.parametrize("mode", [mode.name for mode in MODES.values() if mode.makes_run])
@pytest.mark.parametrize("name", [name for name in SHORT_FORMS if name != "data"])
def test_a_short_form_is_taken_where_it_does_something_and_refused_elsewhere(mode, name):
    of_steps = name in ("epochs", "learning_rate")
    line = f"{mode} photos/ {flag_of(name)} 1"
    if name not in MODES[mode].forms:
        assert refusal(line).startswith(f"{flag_of(name)}: {mode} does not use it. Remove it.")
    elif mode in ("extract", "search", "crossval") and of_steps:
        assert "does not use it; finetune, pretrain and adapt with a method that trains the backbone do." in refusal(line)
    else:
        run.configure(options_of(line))


@pytest.mark.parametrize("line", ["search --set search.trial=finetune", "crossval --set crossval.training=finetune"])
def test_epochs_of_trials_and_folds_that_are_finetuned(line):
    assert run.configure(options_of(f"{line} --epochs 3")).train.epochs == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("finetune --epochs 0", "--epochs: train.epochs: got 0, expected an integer >= 1, or null."),
        ("finetune --lr fast", "--learning-rate: train.learning_rate: got 'fast', expected a number > 0, or null."),
        ("finetune --image-size [64", "--image-size: data.image_size: is not valid YAML"),
        ("finetune --dropout 0.3", "--dropout: there is no such option. Write --set model.dropout=0.3. See --help."),
        ("finetune --optimizer=adamw", "Write --set train.optimizer=adamw."),
        ("finetune --num-epochs 5", "Write --epochs 5."),
        ("finetune --img_size 64", "Write --image-size 64."),
        ("finetune --model resnet50", "Write --backbone resnet50."),
        ("search --trials 20", "Write --set search.max_trials=20."),
        ("finetune --decay 0.1", "Write --set train.layer_decay=0.1 or --set train.weight_decay=0.1 or --set train.decay_towards=0.1."),
        ("predict new/ --model RUN", "The folder of a run is given with --run-dir."),
        ("finetune --out RUN", "(did you mean '--output-dir' or '--output'?)"),
    ],
)
def test_a_wrong_flag_is_told_what_to_write(line, words):
    assert words in refusal(line)


@pytest.mark.parametrize("flag", ["--gpu", "--device", "--verbose", "--ln", "--photos", "--x"])
def test_no_flag_is_guessed_from_a_word_that_is_not_like_one(flag):
    assert refusal(f"finetune {flag} 1") == f"{flag}: there is no such option. See --help."


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("lr", ["train.learning_rate"]),
        ("LR", ["train.learning_rate"]),
        ("Batch-Size", ["train.batch_size"]),
        ("batchsize", ["train.batch_size"]),
        ("flip", ["data.augment.horizontal_flip", "data.augment.vertical_flip"]),
        ("hflip", ["data.augment.horizontal_flip"]),
        ("RandAugment", ["data.augment.auto"]),
        ("re_prob", ["data.augment.random_erasing"]),
        ("mixup", ["train.mixup_alpha"]),
        ("photos", []),
    ],
)
def test_settings_are_found_without_case_dashes_and_sections(name, found):
    assert settings_called(name, fields()) == found


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ("lr=1", "Did you mean 'train.learning_rate'?"),
        ("train.lr=1", "Did you mean 'train.learning_rate'?"),
        ("trials=1", "Did you mean 'search.max_trials'?"),
        ("search.trials=1", "Did you mean 'search.max_trials'?"),
        ("Train.Batch-Size=1", "Did you mean 'train.batch_size'?"),
        ("train.decay=1", "Did you mean 'train.layer_decay' or 'train.weight_decay' or 'train.decay_towards'?"),
        ("train.augment={}", "'augment' belongs in 'data.augment'."),
        ("range=1", "Keys: 'mode', 'data'"),
        ("model.name=x", "Keys of 'model': 'backbone'"),
        ("train.optimizer=SGD", "Did you mean 'sgd'?"),
    ],
)
def test_a_wrong_setting_is_told_which_is_meant(assignment, hint):
    with pytest.raises(ConfigError) as caught:
        load_config("finetune", sets=[assignment])
    assert hint in str(caught.value)


def test_nearest_compares_without_case_and_dashes():
    assert nearest("Mobile-Net_V2", ["mobilenet_v2", "mobilenet"]) == "mobilenet_v2"
    assert nearest("toto", ["photos"]) is None


# --- keys of mappings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{yes: 2, no: 1}", "{on: 2, off: 1}", "{01: 2, 1e3: 1}", "{null: 2, ~: 1}", "{1.0: 2, 2020-01-02: 1}"])
def test_names_of_classes_are_text_as_it_is_written(tmp_path, text):
    names = [pair.partition(":")[0].strip() for pair in text.strip("{}").split(",")]
    (tmp_path / "a.yaml").write_text(f"train:\n  class_weights: {text}\n")
    for config in (load_config("extract", sets=[f"train.class_weights={text}"]), load_config("extract", file=tmp_path / "a.yaml")):
        assert config.train.class_weights == dict(zip(names, (2.0, 1.0), strict=True))


def test_merged_mappings_stay_what_they_are(tmp_path):
    assert load_config("finetune", sets=["train={batch_size: 8, <<: {epochs: 4}}"]).train.epochs == 4


# --- values from Python --------------------------------------------------------------------------------------------


def test_values_of_python_have_the_names_of_python():
    base = Config.model_validate({"mode": "extract", "train": {"batch_size": 8}})
    config = make_config("finetune", base, {"epochs": 5}, {"train.weight_decay": 0.5, "model": {"dropout": 0.1}})
    assert (config.mode, config.train.batch_size, config.train.epochs) == ("finetune", 8, 5)
    assert (config.train.weight_decay, config.model.dropout) == (0.5, 0.1)
    with pytest.raises(ConfigError) as caught:
        make_config("finetune", None, {"epochs": 0}, {"train.lr": 1})
    assert str(caught.value).splitlines() == [
        "settings: unknown key 'train.lr'. Did you mean 'train.learning_rate'?",
        "epochs: train.epochs: got 0, expected an integer >= 1, or null.",
    ]


# --- before TensorFlow ---------------------------------------------------------------------------------------------


def test_a_folder_that_is_taken_is_told_before_it_is_started(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(RunFolderError, match="holds another run already"):
        RunFolder(tmp_path).require_free()
    RunFolder(tmp_path / "new").require_free()


def test_what_is_not_there_is_told_without_tensorflow(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file.jpg").write_text("")
    wrong = [
        ["finetune", "taken"],  # no class folders
        ["finetune", "no/such/folder"],
        ["finetune", "--backbone", "mobilnet_v2"],
        ["finetune", "--weights", "no.h5"],
        ["finetune", "--config", "no.yaml"],
        ["finetune", "--run-dir", str(tmp_path / "taken")],
        ["finetune", "--resume", "no/such/run"],
        ["finetune", "--resume", "no/such/run", "--data", "no/such/folder"],
        ["rank", "digits", "vgg166"],
        ["rank", "no/such/folder"],
        ["ensemble", "no/such/run", "no/such/other"],
        ["search", "no/such/folder"],
        ["crossval", "no/such/folder"],
        ["evaluate", "no/such/run"],
        ["report", "no/such/run"],
        ["compare", "no/such/run", "no/such/other"],
        ["compare", "no/such/run"],
        ["export", "no/such/run"],
        ["predict", "no/such/run", "new.jpg"],
        ["predict", "no/such/run", "--output", "x.txt"],
        ["explain", "no/such/run", "new.jpg"],
        ["explain", "taken", "new.jpg", "--method", "gradcam"],
        ["explain", "taken", "new.jpg", "--neighbours", "9"],
    ]
    code = f"import sys, tl_keras.run\nfor words in {wrong!r}:\n    assert tl_keras.run.main(words) == 2, words\n"
    code += "    assert not {'tensorflow', 'keras'} & set(sys.modules), words\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(wrong), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
