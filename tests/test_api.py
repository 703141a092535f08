"""The functions for Python: the command line's names, mistakes at the call, progress where somebody watches."""

import inspect
import pydoc
import subprocess
import sys
from io import StringIO
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

import tl_keras
from tl_keras import api
from tl_keras.config import Config
from tl_keras.errors import BackboneError, ConfigError, DataError, RunFolderError
from tl_keras.modes import MODES
from tl_keras.notebook import NotebookProgress
from tl_keras.progress import Progress
from tl_keras.short_forms import SHORT_FORMS
from tl_keras.stepwise import StepwiseProgress
from tl_keras.terminal.progress import ConsoleProgress

MAKERS = {"train": "finetune", "adapt": "adapt", "rank": "rank", "search": "search", "crossval": "crossval", "ensemble": "ensemble"}
FUNCTIONS = (*MAKERS, "evaluate", "compare", "report", "predict", "explain", "export", "compress", "verify", "serve")


@pytest.fixture
def without_tensorflow(monkeypatch):
    """A mistake is told before TensorFlow is imported, and leaves nothing."""
    monkeypatch.setattr(api, "import_workflow", lambda *_: pytest.fail("TensorFlow is imported"))


# --- what is there -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_dir_and_help_know_the_functions_without_tensorflow():
    code = "import sys, pydoc, tl_keras\nassert set(tl_keras.__all__) <= set(dir(tl_keras))\n"
    code += "text = pydoc.plain(pydoc.render_doc(tl_keras))\nassert 'config: ' in text and 'Classify files' in text\n"
    code += "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_explains_its_arguments(name):
    function = getattr(tl_keras, name)
    assert inspect.getdoc(function)
    parameters = inspect.signature(function).parameters
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters.values())
    assert str(parameters["progress"]) in pydoc.plain(pydoc.render_doc(function))


@pytest.mark.parametrize(("name", "mode"), MAKERS.items())
def test_a_function_takes_the_short_forms_of_its_mode(name, mode):
    taken = [parameter for parameter in inspect.signature(getattr(tl_keras, name)).parameters if parameter in SHORT_FORMS]
    assert taken == list(MODES[mode].forms)


# --- mistakes at the call ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("train", {"lr": 1e-4}, "train(): there is no argument 'lr'. Did you mean 'learning_rate'?"),
        ("train", {"num_epochs": 5}, "Did you mean 'epochs'?"),
        ("train", {"batchsize": 5}, "Did you mean 'batch_size'?"),
        ("train", {"optimizer": "sgd"}, "train(): there is no argument 'optimizer'. Write settings={'train.optimizer': ...}."),
        ("train", {"gpu": 1}, "train(): there is no argument 'gpu'."),
        ("rank", {"epochs": 5}, "rank(): there is no argument 'epochs'."),
        ("evaluate", {"run_dir": "R", "source": "x"}, "evaluate(): there is no argument 'source'."),
        ("train", {"epochs": 0}, "epochs: train.epochs: got 0, expected an integer >= 1, or null."),
        ("train", {"mode": "rank"}, "mode: got 'rank', expected one of extract, finetune, pretrain."),
        ("train", {"config": Config(mode="rank")}, "mode: got 'rank', expected one of extract, finetune, pretrain."),
        (
            "train",
            {"mode": "extract", "epochs": 5},
            "epochs: train.epochs: extract does not use it; finetune, pretrain and adapt with a method that trains the backbone do.",
        ),
        ("search", {"learning_rate": 1e-3}, "Set search.trial=finetune, or remove it."),
        ("train", {"settings": {"lr": 1}}, "settings: unknown key 'lr'. Did you mean 'train.learning_rate'?"),
        ("train", {"config": "photos/"}, "config: got 'photos/', expected a Config, as load_config makes it. Images are given as data="),
        ("train", {"resume": True}, "resume: continues with the settings of the run in run_dir."),
        ("train", {"resume": True, "run_dir": "R", "epochs": 5}, "and no settings."),
        ("ensemble", {}, "ensemble.members: got none."),
        ("ensemble", {"members": ["no/such/run"]}, "there is no folder or file no/such/run"),
        ("evaluate", {"run_dir": {}}, "run_dir: got a dict, expected the path of a run's folder."),
        ("predict", {"run_dir": "R", "paths": [1.5]}, "paths: got a float, expected a path, a glob, or a list of them."),
    ],
)
def test_a_wrong_argument_is_told_at_the_call(without_tensorflow, name, arguments, words):
    with pytest.raises(ConfigError) as caught:
        getattr(tl_keras, name)(**arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("train", {"data": "no/such/folder"}, DataError),
        ("train", {"backbone": "mobilnet_v2"}, BackboneError),
        ("train", {"weights": "no.h5"}, BackboneError),
        ("train", {"resume": True, "run_dir": "R", "data": "no/such/folder"}, DataError),
        ("rank", {"backbones": ["vgg166"]}, BackboneError),
        ("crossval", {"data": "no/such/folder"}, DataError),
        ("predict", {"run_dir": "no/such/run", "paths": "new/"}, RunFolderError),
        ("evaluate", {"run_dir": "no/such/run"}, RunFolderError),
        ("report", {"run_dir": "no/such/run"}, RunFolderError),
        ("compare", {"run_dir": "no/such/run", "against": "no/such/other"}, RunFolderError),
        ("export", {"run_dir": "no/such/run"}, RunFolderError),
        ("verify", {"run_dir": "no/such/run"}, RunFolderError),
        ("compress", {"run_dir": "no/such/run"}, RunFolderError),
        ("serve", {"run_dir": "no/such/run"}, RunFolderError),
    ],
)
def test_what_is_not_there_is_told_at_the_call(without_tensorflow, tmp_path, monkeypatch, name, arguments, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        getattr(tl_keras, name)(**arguments)
    assert not list(tmp_path.iterdir())


def test_a_mistake_has_a_short_traceback():
    with pytest.raises(ConfigError) as caught:
        tl_keras.train(epochs=0)
    assert len(caught.traceback) <= 3
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# --- a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(photo_folder, tmp_path_factory):
    """A tiny run, made with the short forms, and its data."""
    data = photo_folder(classes=("cat", "dog"), per_class=8)
    folder = tmp_path_factory.mktemp("api") / "R"
    return tl_keras.train(mode="extract", data=data, image_size=16, weights="none", run_dir=folder, settings={"features.views": 0}), data


@pytest.mark.slow
def test_a_run_is_made_and_used_with_short_forms(trained):
    metrics, data = trained
    assert metrics["test"]["accuracy"] >= 0
    found = list(tl_keras.predict(metrics["run_dir"], data / "cat"))
    assert len(found) == 8
    assert [one.path for one in tl_keras.predict(f"{metrics['run_dir']}/model.keras", [str(data / "cat"), data / "dog"])][:8] == [
        one.path for one in found
    ]
    assert tl_keras.evaluate(metrics["run_dir"], data=data)["test"]["log_loss"] == pytest.approx(metrics["test"]["log_loss"], abs=1e-5)


def test_predict_tells_at_the_call_what_is_wrong(trained, tmp_path):
    run_dir = trained[0]["run_dir"]
    with pytest.raises(DataError, match="no such file"):
        tl_keras.predict(run_dir, tmp_path / "nothing.jpg")
    with pytest.raises(DataError, match="no images given"):
        tl_keras.predict(run_dir, [])
    with pytest.raises(DataError, match="no images in it"):
        tl_keras.predict(run_dir, tmp_path)


def test_a_configuration_is_taken_as_it_is_and_changed_by_short_forms(tmp_path):
    config = tl_keras.load_config("extract", sets=["train.batch_size=8"])
    assert api.prepare(("extract", "finetune"), None, config, tmp_path / "R", {}, None) == (config, tmp_path / "R")
    changed, folder = api.prepare(("extract", "finetune"), "finetune", config, None, {"epochs": 5}, None)
    assert (changed.mode, changed.train.batch_size, changed.train.epochs) == ("finetune", 8, 5)
    assert folder.name.startswith("finetune-small_resnet-digits-")


# --- who hears of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "kind"),
    [({"force_terminal": True}, ConsoleProgress), ({"force_jupyter": True}, NotebookProgress), ({"force_terminal": False}, Progress)],
)
def test_progress_is_shown_where_somebody_watches(monkeypatch, where, kind):
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(**where))
    assert type(api.listener()) is kind


def test_a_notebook_has_lines_and_a_bar_that_goes_away(monkeypatch, capsys):
    shown = []
    handle = SimpleNamespace(update=lambda found, raw: shown.append(found["text/plain"]))
    fake = ModuleType("IPython.display")
    fake.display = lambda found, raw, display_id: shown.append(found["text/plain"]) or handle
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    monkeypatch.setattr("tl_keras.notebook.REDRAW_S", 0.0)
    progress = NotebookProgress()
    progress.line("val accuracy 0.9")
    with progress.bar("predict", 4) as advance:
        advance(2)
        advance(2)
    assert capsys.readouterr().out == "val accuracy 0.9\n"
    assert shown == [f"predict {'░' * 30} 0/4", f"predict {'█' * 15}{'░' * 15} 2/4", f"predict {'█' * 30} 4/4", ""]


def test_a_loop_that_is_driven_from_outside_shows_its_bar_only_while_it_computes():
    file = StringIO()
    progress = StepwiseProgress(file)

    def batches():
        with progress.bar("predict", 4) as advance:
            for _ in range(2):
                yield from range(2)
                advance(2)

    found = progress.wiped_before_each(batches())
    next(found)
    begun = f"predict {'░' * 30} 0/4\r\x1b[K"
    assert file.getvalue() == begun
    next(found)
    assert file.getvalue() == begun  # nothing is computed
    next(found)
    assert file.getvalue() == f"{begun}predict {'█' * 15}{'░' * 15} 2/4\r\x1b[K"
    assert list(found) == [1]
    assert file.getvalue().endswith("2/4\r\x1b[K")
