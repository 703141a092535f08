"""Several labels an image, and numbers: a table of them goes through every mode that trains, judges and exports."""

import csv
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import expit, logit

import tl_keras
from tl_keras import run, run_folder
from tl_keras.data.label_texts import label_text, number_text
from tl_keras.models.outputs import MultiLabel
from tl_keras.run_folder import RunFolder
from tl_keras.trained_run import open_run, read_config

pytestmark = pytest.mark.usefixtures("quick_exports")

SETTINGS = ("data.image_size=16", "model.weights=none")
STEPS = ("train.epochs=2", "train.batch_size=8")
BACKBONE = "three_stages.keras"
METRICS = {"multi_label": "map", "regression": "mae"}
COLUMNS = {"multi_label": "tags", "regression": "value"}


@pytest.fixture(scope="module", params=list(COLUMNS))
def table(
    request: pytest.FixtureRequest, trained: tuple[Path, Path], three_stages: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A task, and a table of the images of the shared run: each has its class and perhaps 'small', or a number by its class.

    The backbone of its commands lies beside the folder of the table.
    """
    folder, random = tmp_path_factory.mktemp(request.param) / "images", np.random.default_rng(0)
    folder.mkdir()
    shutil.copy(three_stages, folder.parent / BACKBONE)
    lines = []
    for number, file in enumerate(sorted(trained[1].rglob("*.*"))):
        shutil.copy(file, folder / f"{number:02d}{file.suffix}")
        kind = ["ant", "bee", "wasp"].index(file.parent.name)
        several = "|".join([file.parent.name] * (number % 9 > 0) + ["small"] * (number % 2))
        label = several if request.param == "multi_label" else f"{100 * kind + random.normal():.4f}"
        lines.append((f"{number:02d}{file.suffix}", label))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", COLUMNS[request.param]), *lines])
    return request.param, folder / "labels.csv"


def command(mode: str, table: tuple[str, Path], run_dir: Path, *sets: str) -> list[str]:
    task, file = table
    more = ("data.label_separator=|",) if task == "multi_label" else ()
    given = [word for each in (f"data.task={task}", *more, *SETTINGS, *sets) for word in ("--set", each)]
    return [mode, str(file), "--backbone", str(file.parents[1] / BACKBONE), "--run-dir", str(run_dir), *given]


@pytest.fixture(scope="module")
def extracted(table: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extracted") / "R"
    assert run.main(command("extract", table, folder)) == 0
    return folder


def figures(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / run_folder.METRICS).read_text())
    return found


def test_a_run_keeps_what_its_outputs_mean(table: tuple[str, Path], extracted: Path) -> None:
    task, _ = table
    trained, metrics = open_run(extracted), figures(extracted)
    assert (trained.index.output.task, metrics["task"]) == (task, task)
    if task == "multi_label":
        assert trained.index.classes == ("ant", "bee", "small", "wasp")
        assert len(trained.index.output.thresholds) == 4
        assert 0 <= metrics["val"]["map"] <= 1
        with (extracted / run_folder.SPLITS).open(newline="") as file:
            assert {line["classes"] for line in csv.DictReader(file)} > {"", "ant;small", "bee"}
    else:
        labels = trained.index.labels[trained.split == "train"]
        assert trained.index.classes == ("value",)
        assert (trained.index.output.mean, trained.index.output.scale) == pytest.approx((labels.mean(), labels.std()))
        assert metrics["test"]["mae"] < 60  # what always says the mean is wrong by 67
    assert (extracted / {"multi_label": run_folder.AVERAGE_PRECISION, "regression": run_folder.SCATTER}[task]).is_file()
    assert not (extracted / run_folder.CONFUSION).exists()
    assert "Verdict" in (extracted / run_folder.REPORT).read_text()


@pytest.mark.slow
def test_predictions_are_those_of_the_run_and_decided_by_it(table: tuple[str, Path], extracted: Path, tmp_path: Path) -> None:
    task, source = table
    with (extracted / run_folder.PREDICTIONS).open(newline="") as file:
        known = {line["path"]: line for line in csv.DictReader(file)}
    found = {Path(each.path).name: each for each in tl_keras.predict(extracted, [source.parent / path for path in known])}
    for path, line in known.items():
        each = found[path]
        if task == "regression":
            assert each.value == pytest.approx(float(line["predicted_value"]), abs=0.05)
            assert (each.labels, each.probability, each.probabilities) == ((), None, {})
        else:
            assert each.label == ";".join(each.labels) == line["predicted_classes"]
            assert each.probabilities == pytest.approx({name: float(line[f"p_{name}"]) for name in each.classes}, abs=1e-3)
            thresholds = dict(zip(each.classes, open_run(extracted).index.output.thresholds, strict=True))
            assert list(each.labels) == [name for name in each.classes if each.probabilities[name] >= thresholds[name]]
    (source.parent / "broken.png").write_bytes(b"")
    words = ["predict", str(extracted), str(source.parent / "00.*"), str(source.parent / "broken.png")]
    for output in (tmp_path / "p.csv", tmp_path / "p.jsonl"):
        assert run.main([*words, "--output", str(output)]) == 0
    (source.parent / "broken.png").unlink()
    with (tmp_path / "p.csv").open(newline="") as file:
        good, bad = csv.DictReader(file)
    first, second = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    decision = {"multi_label": "predicted_classes", "regression": "predicted_value"}[task]
    assert list(good)[:3] == ["path", decision, "error"]
    assert bad["error"] == second["error"]
    assert {value for name, value in bad.items() if name not in ("path", "error")} == {""}
    assert good[decision] == (";".join(first[decision]) if task == "multi_label" else number_text(first[decision]))


def test_an_evaluation_finds_the_same_figures(extracted: Path, table: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), (str(table[1]),)):
        assert run.main(["evaluate", str(extracted), *words]) == 0
        newest = max((extracted / run_folder.EVALUATIONS).iterdir(), key=lambda folder: int(folder.name))
        again = json.loads((newest / run_folder.EVALUATION).read_text())["test"]
        first = figures(extracted)["test"]
        name = METRICS[table[0]]
        assert again[name] == pytest.approx(first[name], abs=1e-3 if name == "map" else 0.05)
    assert {"multi_label": "test mAP ", "regression": "test mean absolute error "}[table[0]] in capsys.readouterr().out


def test_folders_do_not_hold_the_labels_of_such_a_model(
    extracted: Path, table: tuple[str, Path], trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["evaluate", str(extracted), str(trained[1])]) == 2
    assert f"is not a table, and the model was trained for data.task={table[0]}" in capsys.readouterr().err


@pytest.mark.slow
def test_an_export_agrees_and_answers_in_the_same_terms(extracted: Path, table: tuple[str, Path], tmp_path: Path) -> None:
    import tensorflow as tf

    folder = tmp_path / "R"
    shutil.copytree(extracted, folder)
    if table[0] == "multi_label":
        (folder / run_folder.OUTPUT).write_text('{"task": "multi_label", "thresholds": [0, 1, 0, 1]}')
    assert run.main(["export", str(folder)]) == 0
    record = json.loads((folder / run_folder.EXPORT / "export.json").read_text())
    assert max(record["formats"]["saved_model"]["largest_difference"].values()) < 1e-3
    loaded = tf.saved_model.load(str(folder / run_folder.EXPORT / "saved_model"))
    file = next(table[1].parent.glob("00.*"))
    said = loaded.signatures["bytes"](bytes=tf.constant([file.read_bytes()]))
    (expected,) = tl_keras.predict(folder, file)
    if table[0] == "regression":
        assert set(said) == {"value"}
        assert said["value"].numpy() == pytest.approx([expected.value], abs=0.1)
    else:
        assert set(said) == {"found", "probabilities", "classes"}
        assert [name.decode() for name in said["classes"].numpy()[0]] == ["ant", "bee", "small", "wasp"]
        assert said["found"].numpy().tolist() == [[True, False, True, False]]
        assert expected.labels == ("ant", "small")


def test_labels_keep_the_order_of_the_model_where_a_class_has_no_image(table: tuple[str, Path], extracted: Path, tmp_path: Path) -> None:
    if table[0] == "regression":
        return  # a number has no classes
    shutil.copytree(extracted, tmp_path / "R")
    lines = (tmp_path / "R" / run_folder.SPLITS).read_text().splitlines(keepends=True)
    (tmp_path / "R" / run_folder.SPLITS).write_text("".join(line for line in lines if "ant" not in line))
    index = open_run(tmp_path / "R").index
    assert index.classes == ("ant", "bee", "small", "wasp")
    expected = [line.split(",")[1] for line in lines[1:] if "ant" not in line]
    assert [label_text(index.output, label, index.classes) for label in index.labels] == expected


def test_thresholds_are_chosen_on_val(table: tuple[str, Path], extracted: Path) -> None:
    if table[0] == "regression":
        return  # a number has no threshold
    trained = open_run(extracted)

    def thresholds(split: str) -> list[float]:
        rows = np.flatnonzero(trained.split == split)
        found = {Path(each.path).name: each for each in tl_keras.predict(extracted, table[1].parent)}
        answers = np.array([list(found[trained.index.paths[row]].probabilities.values()) for row in rows])
        return list(MultiLabel().chosen(answers, trained.index.labels[rows]).thresholds)

    chosen = list(trained.index.output.thresholds)
    assert chosen == pytest.approx(thresholds("val"), abs=1e-3)
    assert chosen != pytest.approx(thresholds("test"), abs=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "sets"),
    [
        ("finetune", STEPS),
        ("finetune", (*STEPS, "train.unfreeze_from=all", "train.mixup_alpha=0.2", "train.ema=0.5")),
        ("pretrain", (*STEPS, "train.schedule=cosine_restarts", "train.cycles=2")),
        ("extract", ("model.hidden=[4]", "train.head_epochs=2")),
    ],
)
def test_every_training_mode_learns_them(table: tuple[str, Path], mode: str, sets: tuple[str, ...], tmp_path: Path) -> None:
    assert run.main(command(mode, table, tmp_path / "R", *sets)) == 0
    name = METRICS[table[0]]
    with (tmp_path / "R" / run_folder.HISTORY).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {name, f"val_{name}"} < set(lines[0])
    assert all(line[f"val_{name}"] for line in lines)
    assert name in figures(tmp_path / "R")["test"]


@pytest.mark.slow
@pytest.mark.parametrize("training", ["extract", "finetune"])
def test_folds_of_them_are_judged_by_their_own_figures(table: tuple[str, Path], training: str, tmp_path: Path) -> None:
    steps = ("train.epochs=1",) if training == "finetune" else ()
    sets = ("crossval.folds=2", "crossval.repeats=1", f"crossval.training={training}", *steps)
    assert run.main(command("crossval", table, tmp_path / "R", *sets)) == 0
    found = json.loads((tmp_path / "R" / run_folder.CROSSVAL).read_text())
    figures = {"multi_label": ["map", "micro_f1", "macro_f1", "log_loss"], "regression": ["mae", "rmse", "r2"]}[table[0]]
    assert list(found["summary"]) == figures
    with (tmp_path / "R" / run_folder.OUT_OF_FOLD).open(newline="") as file:
        lines = list(csv.DictReader(file))
    kind = {"multi_label": "classes", "regression": "value"}[table[0]]
    assert {f"true_{kind}", f"predicted_{kind}"} < set(lines[0])
    if table[0] == "regression":
        errors = [abs(float(line["true_value"]) - float(line["predicted_value"])) for line in lines]
        assert np.mean(errors) == pytest.approx(found["summary"]["mae"]["mean"], rel=0.05)  # folds are not equally large


@pytest.mark.slow
def test_a_search_finds_settings_for_them(table: tuple[str, Path], tmp_path: Path) -> None:
    metric = METRICS[table[0]]
    sets = ("search.max_trials=2", "search.trial=extract", f"search.objective=val_{metric}")
    assert run.main(command("search", table, tmp_path / "R", *sets)) == 0
    found = json.loads((tmp_path / "R" / run_folder.SEARCH).read_text())
    better = min if metric == "mae" else max
    assert found["score"] == better(found["score"], found["baseline"][f"val_{metric}"])
    with (tmp_path / "R" / run_folder.TRIALS).open(newline="") as file:
        assert f"val_{metric}" in next(csv.reader(file))


@pytest.mark.slow
def test_the_other_losses_are_learned_too(table: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {"multi_label": "train.loss=focal", "regression": "train.loss=huber"}[table[0]]
    words = command("finetune", table, tmp_path / "R", *STEPS, other, f"train.monitor=val_{METRICS[table[0]]}")
    assert run.main(words) == 0
    assert ("head  ridge penalty" in capsys.readouterr().out) == (table[0] == "regression")  # a solved start, whatever finetuning lowers


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_labels(table: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tl_keras.transfer import checkpoints

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run.main(command("finetune", table, whole, *STEPS)) == 0
    write = checkpoints.PhaseFiles.write

    def die(files: checkpoints.PhaseFiles, state: checkpoints.PhaseState) -> None:
        write(files, state)
        if files.phase == "finetune":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.PhaseFiles, "write", die)
        assert run.main(command("finetune", table, killed, *STEPS)) == 130
    assert open_run(killed).index.output.task == table[0]  # the best weights so far can be used
    assert run.main(["finetune", "--resume", "--run-dir", str(killed)]) == 0
    assert figures(killed)["test"] == figures(whole)["test"]


@pytest.mark.slow
def test_outputs_that_belong_to_another_model_are_refused(
    table: tuple[str, Path], extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(extracted, tmp_path / "R")
    for text in ('{"task": "single_label"}', "{}", "[]", '{"task": "multi_label", "thresholds": [0.5]}', "not JSON"):
        (tmp_path / "R" / run_folder.OUTPUT).write_text(text)
        assert run.main(["predict", str(tmp_path / "R"), str(table[1].parent / "00.*")]) == 2
        error = capsys.readouterr().err.strip()
        assert "\n" not in error
        assert "output.json" in error


def test_a_check_finds_copies_with_other_labels(table: tuple[str, Path], tmp_path: Path) -> None:
    task, source = table
    folder = shutil.copytree(source.parents[1], tmp_path / "copy") / "images"
    lines = (folder / "labels.csv").read_text().splitlines()[1:]
    (first, _), (last, label) = (lines[place].split(",") for place in (0, -1))
    shutil.copy(folder / first, folder / last)  # with another label
    words = command("check", (task, folder / "labels.csv"), tmp_path / "R")
    assert run.main([*words, "--fix", "quarantine"]) == 3
    found = json.loads((tmp_path / "R" / run_folder.CHECK).read_text())
    assert (found["task"], found["findings"]["conflict"]) == (task, 1)
    with (tmp_path / "R" / run_folder.CHECK_TABLE).open(newline="") as file:
        (line,) = [line for line in csv.DictReader(file) if line["fault"] == "conflict"]
    assert {line["path"], line["copy_of"]} == {first, last}
    shown = line[{"multi_label": "classes", "regression": "value"}[task]]
    if line["path"] == last:
        assert set(shown.split(";")) == set(label.split("|")) if task == "multi_label" else float(shown) == pytest.approx(float(label))
    with (tmp_path / "R" / run_folder.EXCLUDE).open(newline="") as file:
        assert {line["path"] for line in csv.DictReader(file) if line["fault"] == "conflict"} <= {first, last}


# --- rankings and ensembles ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A backbone that sees nothing: its features are the same for all images."""
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", kernel_initializer="zeros", bias_initializer="ones")(x)
    path = tmp_path_factory.mktemp("blind") / "blind.keras"
    keras.Model(pixels, x).save(path)
    return str(path)


def sets_of(table: tuple[str, Path]) -> list[str]:
    """What a command says of the images of a table, and of their size."""
    given = (f"data.task={table[0]}", *(("data.label_separator=|",) if table[0] == "multi_label" else ()), *SETTINGS)
    return [word for each in given for word in ("--set", each)]


@pytest.mark.slow
def test_backbones_are_ranked_by_the_figure_of_the_task(
    table: tuple[str, Path], own_backbone: str, blind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["rank", str(table[1]), blind, own_backbone, "--run-dir", str(tmp_path / "R"), *sets_of(table)]) == 0
    printed = capsys.readouterr().out
    assert "H-score, N-LEEP, NCE and TransRate are left out: they need one class for each image" in printed
    found = json.loads((tmp_path / "R" / run_folder.RANKING_JSON).read_text())
    metric = METRICS[table[0]]
    assert (found["task"], found["chosen"]) == (table[0], own_backbone)  # for numbers, the one that errs less
    first, last = (each[metric] for each in found["candidates"])
    assert first < last / 2 if metric == "mae" else first > last
    with (tmp_path / "R" / run_folder.RANKING).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0])[2:5] == [metric, "low", "high"]
    assert list(lines[0])[-2:] == ["LogME", "CKA"]
    assert float(lines[0][metric]) == pytest.approx(first, rel=1e-3)
    assert {"multi_label": "mAP ", "regression": "mean absolute error "}[table[0]] in found["why"]
    assert (tmp_path / "R" / run_folder.RANKING_PICTURE).is_file()


@pytest.mark.slow
def test_auto_takes_the_backbone_that_ranks_first(table: tuple[str, Path], own_backbone: str, blind: str, tmp_path: Path) -> None:
    words = ["extract", str(table[1]), "--backbone", "auto", "--run-dir", str(tmp_path / "R"), *sets_of(table)]
    assert run.main([*words, "--set", f"rank.candidates=[{blind}, {own_backbone}]"]) == 0
    assert figures(tmp_path / "R")["backbone"] == own_backbone


@pytest.fixture(scope="module")
def two_runs(table: tuple[str, Path], extracted: Path, own_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The run, and one of another backbone on the same images."""
    other = tmp_path_factory.mktemp("two_runs") / "other"
    words = [own_backbone if word.endswith(BACKBONE) else word for word in command("extract", table, other)]
    assert run.main(words) == 0
    return [str(extracted), str(other)]


def require_that_the_model_is_the_ensemble(folder: Path, table: tuple[str, Path]) -> None:
    """Evaluating, predicting and exporting a run folder give what its figures are of."""
    test, metric = figures(folder)["test"], METRICS[table[0]]
    assert run.main(["evaluate", str(folder)]) == 0
    again = json.loads((folder / run_folder.EVALUATIONS / "1" / run_folder.EVALUATION).read_text())["test"]
    assert again[metric] == pytest.approx(test[metric], abs=1e-3 if metric == "map" else 0.05)
    with (folder / run_folder.PREDICTIONS).open(newline="") as file:
        known = {line["path"]: line for line in csv.DictReader(file)}
    for each in tl_keras.predict(folder, [table[1].parent / path for path in known]):
        line = known[Path(each.path).name]
        if metric == "mae":
            assert each.value == pytest.approx(float(line["predicted_value"]), abs=0.05)
        else:
            assert each.probabilities == pytest.approx({name: float(line[f"p_{name}"]) for name in each.classes}, abs=1e-3)
            assert each.label == line["predicted_classes"]


@pytest.mark.slow
def test_runs_are_averaged_and_used_like_any_run(table: tuple[str, Path], two_runs: list[str], tmp_path: Path) -> None:
    folder, metric = tmp_path / "E", METRICS[table[0]]
    assert run.main(["ensemble", *two_runs, "--run-dir", str(folder)]) == 0
    found = json.loads((folder / run_folder.ENSEMBLE).read_text())
    assert (found["task"], found["metrics"]["task"]) == (table[0], table[0])
    trained = open_run(folder)
    with (folder / run_folder.PREDICTIONS).open(newline="") as file:
        lines = list(csv.DictReader(file))
    singles = []
    for each in two_runs:
        with (Path(each) / run_folder.PREDICTIONS).open(newline="") as file:
            singles.append({line["path"]: line for line in csv.DictReader(file)})
    columns = ["predicted_value"] if metric == "mae" else [f"p_{name}" for name in trained.index.classes]
    for line in lines:
        for column in columns:
            mean = np.mean([float(one[line["path"]][column]) for one in singles])
            if metric == "map":  # of probabilities, before the temperature
                mean = expit(logit(mean) / found["metrics"]["temperature"])
            assert float(line[column]) == pytest.approx(mean, rel=1e-3, abs=1e-3)
    names = [Path(each).name for each in two_runs]
    own = {name: figures(Path(each)) for name, each in zip(names, two_runs, strict=True)}
    for one in found["singles"]:
        assert one["test"][metric] == pytest.approx(own[one["name"]]["test"][metric], rel=1e-3)
    best = (min if metric == "mae" else max)(names, key=lambda name: own[name]["val"][metric])
    assert found["best_single"] == best
    if metric == "map":
        assert len(trained.index.output.thresholds) == 4
    else:
        assert trained.index.output == open_run(two_runs[0]).index.output
    require_that_the_model_is_the_ensemble(folder, table)
    assert run.main(["export", str(folder), "--format", "openvino"]) == 0
    record = json.loads((folder / run_folder.EXPORT / "export.json").read_text())
    assert max(record["formats"]["openvino"]["largest_difference"].values()) < 1e-3


@pytest.mark.slow
def test_a_vote_of_runs_is_decided_by_most(table: tuple[str, Path], two_runs: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "E"
    assert run.main(["ensemble", *two_runs, "--run-dir", str(folder), "--set", "ensemble.method=vote"]) == 0
    if table[0] == "multi_label":
        assert open_run(folder).index.output.thresholds == ()
    require_that_the_model_is_the_ensemble(folder, table)


@pytest.mark.slow
@pytest.mark.parametrize("meta", ["mixture", "linear"])
def test_a_stack_of_runs_learns_from_val(table: tuple[str, Path], two_runs: list[str], meta: str, tmp_path: Path) -> None:
    folder, sets = tmp_path / "E", ["ensemble.method=stack", f"ensemble.meta={meta}", "crossval.folds=3"]
    assert run.main(["ensemble", *two_runs, "--run-dir", str(folder), *(word for each in sets for word in ("--set", each))]) == 0
    found = json.loads((folder / run_folder.ENSEMBLE).read_text())
    assert found["judged_on"] == "out_of_fold"
    assert set(found["difference"]) == {"test", "out_of_fold"}
    if meta == "mixture":
        assert sum(found["weights"].values()) == pytest.approx(1)
    require_that_the_model_is_the_ensemble(folder, table)


@pytest.mark.slow
def test_a_soup_is_tried_by_the_figure_of_the_task(
    table: tuple[str, Path], extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(extracted, tmp_path / "again")
    words = ["ensemble", str(extracted), str(tmp_path / "again"), "--run-dir", str(tmp_path / "E"), "--set", "ensemble.method=soup"]
    assert run.main(words) == 0
    value = figures(extracted)["val"][METRICS[table[0]]]
    told = f"val has mAP {value:.4f}" if table[0] == "multi_label" else f"val has mean absolute error {value:.4g}"
    assert capsys.readouterr().out.count(told) == 2
    require_that_the_model_is_the_ensemble(tmp_path / "E", table)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["average", "vote", "stack", "bagging", "boosting"])
def test_heads_on_backbones_are_combined(table: tuple[str, Path], own_backbone: str, method: str, tmp_path: Path) -> None:
    folder, sets = tmp_path / "E", [f"ensemble.method={method}"]
    sets += {"stack": ["crossval.folds=3"], "bagging": ["ensemble.resamples=3"], "boosting": ["ensemble.rounds=20"]}.get(method, [])
    words = ["ensemble", str(table[1]), str(table[1].parents[1] / BACKBONE), own_backbone, "--run-dir", str(folder), *sets_of(table)]
    assert run.main([*words, *(word for each in sets for word in ("--set", each))]) == 0
    found, metric = json.loads((folder / run_folder.ENSEMBLE).read_text()), METRICS[table[0]]
    assert found["together"]["test"][metric] < 40 if metric == "mae" else found["together"]["test"][metric] > 0.7
    if method != "boosting":
        require_that_the_model_is_the_ensemble(folder, table)


@pytest.mark.slow
def test_a_run_of_another_task_is_refused(
    table: tuple[str, Path], extracted: Path, trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["ensemble", str(extracted), str(trained[0]), "--run-dir", str(tmp_path / "E")]) == 2
    assert f"was trained with data.task=single_label, and {extracted} with {table[0]}" in capsys.readouterr().err
    assert not (tmp_path / "E").exists()


def test_folders_hold_one_class_an_image(trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["extract", str(trained[1]), "--set", "data.task=multi_label"]) == 2
    assert "data.task: got 'multi_label', which has no effect without a table" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_of_which_test_alone_is_measured_is_decided_by_val(table: tuple[str, Path], extracted: Path, tmp_path: Path) -> None:
    metrics = tl_keras.train(read_config(RunFolder(extracted)), tmp_path / "R", scored=("test",))
    assert "val" not in metrics
    assert metrics["test"] == figures(extracted)["test"]
    assert open_run(tmp_path / "R").index.output == open_run(extracted).index.output


@pytest.mark.slow
def test_an_explanation_is_of_each_class_that_was_found_or_of_the_number(table: tuple[str, Path], extracted: Path, tmp_path: Path) -> None:
    image_file = next(table[1].parent.glob("01.*"))
    (said,) = tl_keras.predict(extracted, image_file)
    found = tl_keras.explain(extracted, image_file, neighbours=1)
    (image,) = found["images"]
    names = said.labels or said.classes[:1]
    assert {each["name"] for each in image["explained"]} == set(names)
    assert (image["label"], image["probability"]) == (said.label, None)
    with table[1].open(newline="") as opened:
        truth = {line["path"]: line[COLUMNS[table[0]]] for line in csv.DictReader(opened)}
    near = image["nearest"][0]
    expected = truth[near["path"]]
    assert near["label"] == (";".join(sorted(expected.split("|"))) if table[0] == "multi_label" else number_text(float(expected)))
