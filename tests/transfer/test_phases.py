"""A phase on a tiny dense model: the best epoch's weights stay, and a killed phase goes on as if it had not been."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.config import TrainConfig
from tl_keras.errors import TrainingError
from tl_keras.evaluation.history import figures_of, read_history
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Output, Regression
from tl_keras.progress import Logged, Progress
from tl_keras.run_folder import CHECKPOINTS, HISTORY, SNAPSHOTS, RunFolder
from tl_keras.transfer import snapshots
from tl_keras.transfer.checkpoints import History, PhaseFiles, PhaseState, history_header
from tl_keras.transfer.phases import Phase, measure, run_phase
from tl_keras.transfer.schedules import Schedule
from tl_keras.transfer.snapshots import KeepSnapshots, snapshots_of

HEADER = history_header(SINGLE_LABEL)

NUM, BATCH = 20, 8
RNG = np.random.default_rng(0)
X, X_VAL = RNG.normal(size=(NUM, 4)).astype("float32"), RNG.normal(size=(12, 4)).astype("float32")
Y, Y_VAL = np.eye(2, dtype="float32")[(X[:, 0] > 0).astype(int)], np.eye(2, dtype="float32")[(X_VAL[:, 0] > 0).astype(int)]
VAL = tf.data.Dataset.from_tensor_slices((X_VAL, Y_VAL)).batch(BATCH)


def batches(first_epoch: int, first_step: int = 0) -> Any:
    """Endless batches whose order depends on the epoch alone."""

    def one_epoch(epoch: tf.Tensor) -> Any:
        order = tf.random.experimental.stateless_shuffle(tf.range(NUM), seed=tf.stack([0, epoch]))
        weights = tf.ones(NUM)
        return tf.data.Dataset.from_tensor_slices(order).map(lambda i: (tf.gather(X, i), tf.gather(Y, i), weights[i])).batch(BATCH)

    return tf.data.Dataset.range(first_epoch, 10**6, output_type=tf.int32).flat_map(one_epoch).skip(first_step)


def small_model(dropout: float = 0.5) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4,))
    x = keras.layers.Dense(6, activation="relu", kernel_initializer=keras.initializers.HeNormal(0), name="one")(x)
    x = keras.layers.Dropout(dropout, seed=0)(x)
    return keras.Model(inputs, keras.layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(1), name="two")(x))


class Told(Progress):
    """Keeps the lines, and calls `at_epoch` with the number of each epoch as its line comes."""

    def __init__(self, at_epoch: Callable[[int], None] = lambda _: None) -> None:
        self.lines: list[str] = []
        self.at_epoch = at_epoch

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.at_epoch(len(self.lines))


@pytest.fixture(scope="module", autouse=True)
def deterministic() -> None:
    """As in every run. Without it Keras compiles each step by XLA, which takes longer than all of the steps."""
    tf.config.experimental.enable_op_determinism()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def go(
    run: RunFolder,
    model: keras.Model,
    progress: Progress | None = None,
    *,
    epochs: int = 3,
    rate: float = 0.05,
    patience: int | None = None,
    train: Any = batches,
    snapshots: bool = False,
    start: dict[str, float] | None = None,
    **config: Any,
) -> PhaseState:
    run.path.mkdir(exist_ok=True)
    settings = TrainConfig(batch_size=BATCH, **config)
    phase = Phase("finetune", epochs, NUM, rate, {}, patience, model if snapshots else None, start)
    return run_phase(model, train, VAL, phase, settings, run, progress or Progress())


def history(run: RunFolder) -> list[list[str]]:
    with (run / HISTORY).open(newline="") as file:
        return list(csv.reader(file))


def without_seconds(run: RunFolder) -> list[list[str]]:
    return [line[:-1] for line in history(run)]


def val_loss(model: keras.Model) -> float:
    return float(keras.losses.CategoricalCrossentropy(from_logits=True)(Y_VAL, model(X_VAL)))


def equal(a: keras.Model, b: keras.Model) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


def test_history_has_a_line_for_each_epoch_and_tells_it(run: RunFolder) -> None:
    told = Told()
    go(run, small_model(), told, schedule="constant", warmup_fraction=0, snapshots=True)
    header, *lines = history(run)
    assert tuple(header) == HEADER
    assert [line[:2] for line in lines] == [["finetune", "1"], ["finetune", "2"], ["finetune", "3"]]
    assert {line[6] for line in lines} == {"0.05"}
    first = [float(value) for value in lines[0][2:]]
    told_numbers, _, seconds = told.lines[0].removesuffix(" s").rpartition("  ")
    assert told_numbers == (f"finetune   1/3  loss {first[0]:.4f} acc {first[1]:.4f}  val loss {first[2]:.4f} acc {first[3]:.4f}")
    assert abs(float(seconds) - first[5]) < 0.06  # both are rounded, the line to 0.1
    assert snapshots_of(run) == []  # a constant rate has no cycles


@pytest.mark.slow
def test_history_has_the_rate_of_the_last_step_of_each_epoch(run: RunFolder) -> None:
    go(run, small_model(), schedule="cosine_restarts", cycles=2, warmup_fraction=0)
    rate = Schedule("cosine_restarts", 0.05, 9, cycle_ends=[6, 9])
    assert [float(line[6]) for line in history(run)[1:]] == pytest.approx([float(rate(step)) for step in (2, 5, 8)], rel=1e-5)
    assert snapshots_of(run) == []  # of a head


@pytest.mark.slow
@pytest.mark.parametrize(("monitor", "rate"), [("val_loss", 0.8), ("val_accuracy", 0.2)])
def test_the_best_epoch_stays_in_the_model(run: RunFolder, monitor: str, rate: float) -> None:
    model = small_model()
    # Rates this high make epochs worse again.
    state = go(run, model, epochs=6, rate=rate, monitor=monitor, schedule="constant")
    column = HEADER.index(monitor)
    values = [float(line[column]) for line in history(run)[1:]]
    best = max(at for at, value in enumerate(values) if (value <= 1.02 * min(values) if monitor == "val_loss" else value == max(values)))
    assert (state.epoch, state.best_epoch, state.done) == (6, best + 1, True)
    assert monitor == "val_accuracy" or best + 1 < 6
    assert val_loss(model) == pytest.approx(float(history(run)[1 + best][4]), rel=1e-4)


def test_patience_ends_the_phase_and_is_remembered(run: RunFolder) -> None:
    # With rate 1e-9 nothing gets better by more than rounding, and val_accuracy not at all.
    state = go(run, small_model(), epochs=9, rate=1e-9, patience=2, monitor="val_accuracy")
    assert (state.epoch, state.best_epoch, state.waited, state.done) == (3, 3, 2, True)  # of equal ones the last
    assert go(run, small_model(), epochs=9, rate=1e-9, patience=2, monitor="val_accuracy") == state
    assert len(history(run)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"loss": "focal", "label_smoothing": 0.3}, {"loss": "mse", "class_weights": {"a": 9.0}}], ids=str)
def test_val_loss_is_the_log_loss_whatever_training_lowers(run: RunFolder, settings: dict[str, Any]) -> None:
    model = small_model()
    go(run, model, epochs=1, **settings)
    assert float(history(run)[1][4]) == pytest.approx(val_loss(model), rel=1e-4)
    assert measure(model, VAL) == pytest.approx({"val_loss": val_loss(model), "val_accuracy": float(history(run)[1][5])}, rel=1e-4)


def learnt_model() -> keras.Model:
    """It answers by the first of four numbers, as is right."""
    model = small_model()
    one, two = np.zeros((4, 6), "float32"), np.zeros((6, 2), "float32")
    one[0, :2] = 2, -2
    two[[0, 1], [1, 0]] = 2
    model.set_weights([one, np.zeros(6), two, np.zeros(2)])
    return model


def wrong_batches(first_epoch: int, first_step: int = 0) -> Any:
    """The same with the labels of the other class."""
    return batches(first_epoch, first_step).map(lambda x, y, weights: (x, y[:, ::-1], weights))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"monitor": "val_accuracy"}, {"ema": 0.1}], ids=str)
def test_what_a_phase_begins_with_stays_where_no_epoch_is_better(run: RunFolder, settings: dict[str, Any]) -> None:
    model = learnt_model()
    before, start = model.get_weights(), measure(model, VAL)
    state = go(run, model, start=start, train=wrong_batches, schedule="constant", **settings)
    monitored = settings.get("monitor", "val_loss")
    assert (state.epoch, state.best_epoch, state.best, state.done) == (3, 0, start[monitored], True)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    lines = history(run)[1:]
    assert [line[:2] for line in lines] == [["finetune", str(epoch)] for epoch in range(4)]
    assert lines[0][2:] == ["", "", f"{start['val_loss']:.6g}", f"{start['val_accuracy']:.6g}", "", ""]
    assert sorted(path.name for path in (run / CHECKPOINTS).iterdir()) == ["finetune.epoch3.weights.h5", "finetune.json"]
    again = learnt_model()
    assert go(run, again, start=start, train=wrong_batches, schedule="constant", **settings) == state
    assert equal(again, model)
    assert history(run)[1:] == lines


@pytest.mark.slow
def test_an_epoch_that_is_better_than_the_beginning_stays(run: RunFolder) -> None:
    model, told = small_model(), Told()
    start = measure(model, VAL)
    state = go(run, model, told, start=start)
    assert state.best_epoch == 3
    assert val_loss(model) == pytest.approx(float(history(run)[4][4]), rel=1e-4)
    assert told.lines[0] == (
        f"finetune   0/3  the head before finetuning  val loss {start['val_loss']:.4f} acc {start['val_accuracy']:.4f}"
    )


def test_patience_waits_for_epochs_that_get_better_though_worse_than_the_beginning(run: RunFolder) -> None:
    state = go(run, small_model(), epochs=4, patience=1, start={"val_loss": 0.0, "val_accuracy": 1.0})
    assert (state.epoch, state.best_epoch, state.best, state.waited) == (4, 0, 0.0, 0)
    assert state.trained == pytest.approx(float(history(run)[-1][4]), rel=1e-4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, keras.Model, PhaseState]:
    """A phase that nothing disturbed."""
    run, model = RunFolder(tmp_path_factory.mktemp("whole")), small_model()
    return run, model, go(run, model, epochs=4, start=measure(model, VAL))


@pytest.mark.slow
def test_a_listener_hears_the_epochs_that_history_has(run: RunFolder) -> None:
    heard: list[tuple[str, int, dict[str, float]]] = []
    start = {"val_loss": 9.0, "val_accuracy": 0.0}
    go(run, small_model(), Logged(Progress(), lambda *epoch: heard.append(epoch)), epochs=2, start=start)
    rows = read_history(run / HISTORY)
    assert [epoch[:2] for epoch in heard] == [("finetune", 0), ("finetune", 1), ("finetune", 2)]
    assert heard[0][2] == start
    assert all(figures == pytest.approx(figures_of(row), rel=1e-4) for (_, _, figures), row in zip(heard, rows, strict=True))


@pytest.mark.slow
def test_killed_twice_and_resumed_equals_uninterrupted_from_epoch_0_on(run: RunFolder, whole: Any) -> None:
    whole_run, whole_model, expected = whole
    start = measure(small_model(), VAL)
    for at in (2, 4):  # the lines of epochs 1 and 3
        with pytest.raises(KeyboardInterrupt):
            go(run, small_model(), interrupt_at(at), epochs=4, start=start)
    resumed = small_model()
    assert go(run, resumed, epochs=4, start=start) == expected
    assert equal(resumed, whole_model)
    assert without_seconds(run) == without_seconds(whole_run)


@pytest.mark.slow
@pytest.mark.parametrize("patience", [None, 1])
def test_averaged_weights_that_val_saw_are_those_that_stay(run: RunFolder, patience: int | None) -> None:
    model, trained = small_model(dropout=0), small_model(dropout=0)
    state = go(run, model, ema=0.9, epochs=4, patience=patience)
    assert val_loss(model) == pytest.approx(float(history(run)[state.best_epoch][4]), rel=1e-4)
    trained.load_weights(run / CHECKPOINTS / f"finetune.epoch{state.epoch}.weights.h5")
    assert not equal(model, trained)


def test_a_loss_that_is_no_number_is_one_line_whatever_is_monitored(run: RunFolder) -> None:
    model = small_model()
    before = model.get_weights()
    broken = lambda **first: batches(**first).map(lambda x, y, w: (x * np.nan, y, w))  # noqa: E731
    text = r"^finetune epoch 1: loss is nan\. Lower train\.learning_rate, or set train\.clip_norm\.$"
    with pytest.raises(TrainingError, match=text):
        go(run, model, train=broken, monitor="val_accuracy")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.slow
def test_weights_that_are_no_numbers_are_no_snapshot(run: RunFolder) -> None:
    def breaking(**first: int) -> Any:  # in the second epoch, with which the second cycle ends
        return batches(**first).enumerate().map(lambda step, batch: (batch[0] if step < 3 else batch[0] * np.nan, *batch[1:]))

    with pytest.raises(TrainingError, match=r"^finetune epoch 2: loss is nan"):
        go(run, small_model(), epochs=2, train=breaking, snapshots=True, schedule="cosine_restarts", cycles=2)
    assert [file.name for file in snapshots_of(run)] == ["1.weights.h5"]
    assert not (run / SNAPSHOTS / "2.weights.h5").exists()


RESTARTS = {"epochs": 3, "schedule": "cosine_restarts", "cycles": 3, "ema": 0.8, "snapshots": True}
STOPS = (  # what is called where a kill comes, and how many snapshots snapshots.csv has then, and how many there are
    (KeepSnapshots, "on_epoch_end", lambda _, epoch, __: epoch == 1, 1, 1),  # before the second's weights
    (snapshots, "write_csv", lambda _, __, lines: len(lines) == 2, 1, 2),  # before its line
    (PhaseFiles, "write", lambda _, state: state.epoch == 2, 2, 2),  # before the epoch's commit
    (History, "on_epoch_end", lambda _, epoch, __: epoch == 2, 2, 2),  # and after
)


def kept(run: RunFolder) -> tuple[str, list[list[np.ndarray]]]:
    """The list of a run's snapshots, and their weights."""
    found, model = [], small_model()
    for file in snapshots_of(run):
        model.load_weights(file)
        found.append(model.get_weights())
    return (run / SNAPSHOTS / snapshots.LIST).read_text(), found


def or_stop(call: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    def call_or_stop(*given: Any) -> Any:
        if when(*given):
            raise KeyboardInterrupt
        return call(*given)

    return call_or_stop


@pytest.mark.slow
def test_killed_anywhere_and_resumed_keeps_the_snapshots_of_the_whole(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, when, listed, written in STOPS:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, or_stop(getattr(owner, name), when))
            with pytest.raises(KeyboardInterrupt):
                go(run, small_model(), **RESTARTS)
        assert (len(snapshots_of(run)), len(list((run / SNAPSHOTS).glob("*.h5")))) == (listed, written)
    go(run, small_model(), **RESTARTS)
    whole = RunFolder(run.path / "whole")
    go(whole, small_model(), **RESTARTS)
    (lines, weights), (expected_lines, expected) = kept(run), kept(whole)
    assert lines == expected_lines
    for one, other in zip(weights, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def interrupt_at(epoch: int) -> Told:
    def stop(number: int) -> None:
        if number == epoch:  # after the state's weights, before the epoch is committed
            raise KeyboardInterrupt

    return Told(stop)


class StopsAtStep(Progress):
    """Raises when the bars have heard of so many steps, which is after the step, and before anything of it is written."""

    def __init__(self, step: int) -> None:
        self.left = step

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        def advance(_: int) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

        yield advance


@pytest.mark.slow
def test_killed_within_epochs_and_resumed_equals_uninterrupted_with_another_optimizer_and_averages(run: RunFolder) -> None:
    settings = {"ema": 0.9, "optimizer": "sgd", "schedule": "onecycle"}
    whole, whole_run = small_model(), RunFolder(run.path / "whole")
    expected = go(whole_run, whole, epochs=4, **settings)
    for steps, left in ((5, (1, 1)), (6, (3, 0))):  # of 3 an epoch; what comes last is not written
        with pytest.raises(KeyboardInterrupt):
            go(run, small_model(), StopsAtStep(steps), epochs=4, save_minutes=1e-9, **settings)
        state = PhaseFiles(run / CHECKPOINTS, "finetune").read()
        assert (state.epoch, state.step) == left
    resumed = small_model()
    assert go(run, resumed, epochs=4, **settings) == expected
    assert equal(resumed, whole)  # dropout 0.5 and all
    assert without_seconds(run) == without_seconds(whole_run)


@pytest.mark.slow
@pytest.mark.parametrize("output", [SINGLE_LABEL, MultiLabel(), Regression()])
def test_the_figures_of_an_epoch_are_made_of_sums_that_a_resumed_one_adds_to(run: RunFolder, output: Output) -> None:
    model = small_model(dropout=0)
    model.compile(loss=output.loss(), metrics=output.metrics())
    sums, parts = [], ((X[:8], Y[:8]), (X[8:], Y[8:]))
    for part in parts:
        model.evaluate(*part, verbose=0)
        sums.append([variable.numpy() for variable in model.metrics_variables])
    whole = model.evaluate(X, Y, verbose=0, batch_size=8, return_dict=True)
    for variable, *each in zip(model.metrics_variables, *sums, strict=True):
        variable.assign(sum(each))
    assert {name: float(value) for name, value in model.get_metrics_result().items()} == pytest.approx(whole, rel=1e-6)


@pytest.mark.slow
def test_interrupt_leaves_the_best_weights_so_far(run: RunFolder) -> None:
    model = small_model()
    with pytest.raises(KeyboardInterrupt):
        go(run, model, interrupt_at(3), epochs=5, schedule="constant", warmup_fraction=0.2)
    files = sorted(path.name for path in (run / CHECKPOINTS).iterdir())
    assert files == ["finetune.best2.weights.h5", "finetune.epoch2.weights.h5", "finetune.epoch3.weights.h5", "finetune.json"]
    assert val_loss(model) == pytest.approx(float(history(run)[2][4]), rel=1e-4)


def test_interrupt_in_the_first_epoch_leaves_the_weights_it_began_with(run: RunFolder) -> None:
    model = small_model()
    with pytest.raises(KeyboardInterrupt):
        go(run, model, interrupt_at(1))
    assert equal(model, small_model())


@pytest.mark.slow
def test_checkpoint_half_written_falls_back_to_the_epoch_before(run: RunFolder, whole: Any) -> None:
    whole_run, whole_model, _ = whole
    start = measure(small_model(), VAL)
    with pytest.raises(KeyboardInterrupt):
        go(run, small_model(), interrupt_at(3), epochs=4, start=start)
    # As a kill does it: epoch 2's best weights are written, finetune.json still says epoch 1, a line is torn.
    (run / CHECKPOINTS / "finetune.best2.weights.h5").write_bytes(b"half")
    with (run / HISTORY).open("a") as file:
        file.write("finetune,2,0.")
    resumed = small_model()
    go(run, resumed, epochs=4, start=start)
    assert equal(resumed, whole_model)
    assert without_seconds(run) == without_seconds(whole_run)


@pytest.mark.slow
def test_checkpoint_without_its_state_starts_anew_and_has_no_line_twice(run: RunFolder) -> None:
    whole = small_model()
    state = go(run, whole, **RESTARTS)
    lines, (snapshot_lines, _) = without_seconds(run), kept(run)
    (run / CHECKPOINTS / "finetune.json").unlink()
    again = small_model()
    assert go(run, again, **RESTARTS) == state
    assert equal(again, whole)
    assert without_seconds(run) == lines
    assert kept(run)[0] == snapshot_lines
