"""Which engine and precision compute what is frozen: measured where it is worth it, remembered, and told apart in the store."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.config import Config
from tl_keras.errors import ConfigError, TrainingError
from tl_keras.models import engines
from tl_keras.progress import Progress
from tl_keras.transfer import engine as module
from tl_keras.transfer import features
from tl_keras.transfer.checkpoints import weights_view
from tl_keras.transfer.engine import REMEMBERED, Choice, Trial, Way, ways
from tl_keras.transfer.finetune import finetune_feed
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.task import Task
from tl_keras.transfer.trunk import Trunk

MakeTask = Callable[..., Task]
ON_TENSORFLOW = {"engine": "tensorflow"}
RESNET = {"backbone": "small_resnet", "weights": "none", "preprocessing": "auto"}
ROTATE = {"random_resized_crop": None, "rotation_range": 90}


class Lines(Progress):
    """Keeps the lines but that on the backbone's file."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        if not text.startswith("three_stages.keras: "):
            self.lines.append(text)


def never(*_: Any, **__: Any) -> Any:
    pytest.fail("this must not be reached")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine that computes bfloat16, where any pass is long enough to ask, and anything measured is a gain."""
    monkeypatch.setattr(module, "candidate", lambda: "bfloat16")
    monkeypatch.setattr(module, "WORTH_S", 0.0)
    for name in ("SHARD_ROWS", "BATCH_SIZE"):
        monkeypatch.setattr(features, name, 4)  # the first four images start the pass
    monkeypatch.setattr(module, "LARGEST_DIFFERENCE", 0.5)
    monkeypatch.setattr(module, "LEAST_GAIN", 0.0)
    yield monkeypatch
    assert keras.config.dtype_policy().name == "float32"  # each network was built under a precision of its own


# --- TensorFlow alone ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lower_precision_that_is_faster_is_taken(make_task: MakeTask, own_store: Path, patient: pytest.MonkeyPatch) -> None:
    lines = Lines()
    settings = {"model": RESNET | {"weights": "pretrained"}, "train": {"unfreeze_from": "stage3"}}
    task = make_task(progress=lines, runtime=ON_TENSORFLOW, **settings)
    choice = task.engine
    (trial,) = choice.trials
    assert (choice.engine, choice.precision, task.config.runtime.precision) == ("tensorflow", "bfloat16", "bfloat16")
    assert (trial.engine, trial.precision) == ("tensorflow", "bfloat16")
    assert trial.ratio is not None
    assert trial.ratio > 0
    assert trial.difference is not None
    assert 1e-4 < trial.difference < 0.1  # eight bits of mantissa
    told = f"{trial.ratio:.2f} times as fast here, and its features differ by {trial.difference:.1%}"
    assert lines.lines == [f"engine tensorflow in bfloat16: tensorflow in bfloat16 is {told}"]
    model = task.classifier.model
    assert model.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert (model.get_layer("logits").compute_dtype, keras.config.dtype_policy().name) == ("float32", "float32")
    assert task.frozen is not None
    parts = [model, weights_view(model), finetune_feed(task, task.classifier).model, task.frozen.trunk.only([POOLED])._model]
    assert {part.dtype_policy.name for part in parts} == {"mixed_bfloat16"}
    whole = make_task("whole", runtime={"precision": "float32", **ON_TENSORFLOW}, **settings)
    assert whole.engine == Choice("tensorflow")
    weights, expected = model.get_weights(), whole.classifier.model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(weights, expected, strict=True))
    low, high = task.stored(POOLED, "train")[:], whole.stored(POOLED, "train")[:]
    assert not np.array_equal(low, high)  # each precision has rows of its own
    assert np.linalg.norm(low - high) < 0.1 * np.linalg.norm(high)
    assert task.tail == whole.tail == ("cut1",)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("LEAST_GAIN", np.inf), ("LARGEST_DIFFERENCE", 0.0)], ids=["slower", "differs"])
def test_a_lower_precision_that_is_no_gain_is_not_taken(
    make_task: MakeTask, own_store: Path, patient: pytest.MonkeyPatch, name: str, value: float
) -> None:
    patient.setattr(module, name, value)
    lines = Lines()
    task = make_task(mode="extract", model=RESNET, progress=lines, runtime=ON_TENSORFLOW)
    assert (task.engine.precision, task.engine.trials[0].precision, task.config.runtime.precision) == ("float32", "bfloat16", "float32")
    assert lines.lines == [str(task.engine)]
    assert lines.lines[0].startswith("engine tensorflow: tensorflow in bfloat16 is ")
    assert task.classifier.model.get_layer("stem_conv").compute_dtype == "float32"
    assert len(task.stored(POOLED, "train")) == 12


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.0, np.inf], ids=["bfloat16", "float32"])
def test_a_choice_is_remembered(make_task: MakeTask, own_store: Path, patient: pytest.MonkeyPatch, gain: float) -> None:
    patient.setattr(module, "LEAST_GAIN", gain)
    first = make_task(mode="extract", model=RESNET, runtime=ON_TENSORFLOW)
    patient.setattr(module, "compare", never)
    patient.setattr(module, "begin_pass", never)
    source = {"source": first.config.data.source, "augment": {"random_resized_crop": None}, "resize": "stretch"}  # other features
    again = make_task("again", mode="extract", model=RESNET, data=source, runtime=ON_TENSORFLOW)
    assert again.engine == first.engine
    assert again.config.runtime.precision == ("bfloat16" if gain == 0 else "float32")
    assert again.classifier.model.get_layer("stem_conv").compute_dtype == again.config.runtime.precision
    assert len(json.loads((own_store / REMEMBERED).read_text())) == 1


# --- OpenVINO ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_pass_and_a_stored_one_are_on_the_engine_that_begins(
    make_task: MakeTask, own_store: Path, patient: pytest.MonkeyPatch
) -> None:
    patient.setattr(module, "compare", never)
    patient.setattr(module, "WORTH_S", 1000.0)
    assert make_task(mode="extract").engine == Choice("openvino")
    patient.setattr(module, "WORTH_S", 0.0)
    for shard in sorted(own_store.glob("*/*.shard"))[:2]:  # most is there: another engine would have to compute all
        shard.unlink()
    assert make_task("mended", mode="extract").engine == Choice("openvino")
    patient.setattr(engines, "compile_model", never)
    stored = make_task("again", mode="extract")  # all is there
    assert stored.engine == Choice("openvino")
    assert stored.config.runtime.engine == "openvino"
    assert not (own_store / REMEMBERED).exists()


@pytest.mark.slow
def test_the_fastest_of_all_engines_is_taken_and_remembered(make_task: MakeTask, own_store: Path, patient: pytest.MonkeyPatch) -> None:
    taken: dict[str, float] = {"openvino": 3.0, "tensorflow": 6.0, "openvino_bfloat16": 1.0}
    timed = module.timed
    patient.setattr(module, "timed", lambda trunk, pixels: (timed(trunk, pixels)[0], taken[trunk.engine]))
    lines = Lines()
    task = make_task(mode="extract", progress=lines)
    assert (task.engine.engine, task.config.runtime.engine, task.engine.is_exact) == ("openvino_bfloat16", "openvino_bfloat16", False)
    assert [(trial.engine, trial.ratio) for trial in task.engine.trials] == [("tensorflow", 0.5), ("openvino_bfloat16", 3.0)]
    assert lines.lines == [str(task.engine)]
    assert task.classifier.model.dtype_policy.name == "float32"
    patient.setattr(module, "compare", never)
    assert make_task("again", mode="extract", data={"augment": ROTATE}, features={"views": 1}).engine == task.engine


@pytest.mark.slow
def test_engines_have_rows_of_their_own(make_task: MakeTask, own_store: Path) -> None:
    tasks = {name: make_task(name, mode="extract", runtime={"engine": name}) for name in engines.ENGINES}
    assert len({task.frozen.collection(POOLED, 0).folder for task in tasks.values() if task.frozen is not None}) == 3
    rows = {name: task.stored(POOLED, "train")[:] for name, task in tasks.items()}
    plain = rows["tensorflow"]
    np.testing.assert_allclose(rows["openvino"], plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())
    np.testing.assert_allclose(rows["openvino_bfloat16"], plain, atol=0.1 * np.abs(plain).max())


@pytest.mark.slow
def test_a_network_that_does_not_convert_is_left_to_tensorflow(make_task: MakeTask, own_store: Path, patient: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise engines.ConversionError("no such operation")

    patient.setattr(engines, "_converted", refuse)
    patient.setattr(module, "WORTH_S", 1000.0)
    lines = Lines()
    task = make_task(mode="extract", progress=lines)
    assert task.engine == Choice("tensorflow", refused="no such operation")
    assert lines.lines == ["engine tensorflow: openvino does not take this backbone: no such operation"]
    choose = module._choose
    patient.setattr(module, "_choose", never)
    assert make_task("again", mode="extract").engine == task.engine  # remembered
    patient.setattr(module, "_choose", choose)
    with pytest.raises(ConfigError, match=r"^runtime\.engine: got 'openvino', which does not take this backbone: no such operation\. Set "):
        make_task("asked", mode="extract", runtime={"engine": "openvino"})


def test_ways_that_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "candidate", lambda: "bfloat16")

    def found(**runtime: str) -> tuple[str, ...]:
        return tuple(str(way) for way in ways(Config.model_validate({"mode": "extract", "runtime": runtime})))

    assert found() == ("openvino", "tensorflow", "openvino_bfloat16")
    assert found(precision="float32") == ("openvino", "tensorflow")
    assert found(precision="bfloat16") == ("tensorflow in bfloat16",)
    assert found(engine="tensorflow") == ("tensorflow", "tensorflow in bfloat16")
    assert found(engine="openvino_bfloat16") == ("openvino_bfloat16",)
    monkeypatch.setattr(engines, "openvino_version", lambda: None)
    assert found() == ("tensorflow", "tensorflow in bfloat16")
    with pytest.raises(
        ConfigError, match=r"^runtime\.engine: got 'openvino', which is not installed: pip install openvino\. Or set auto\.$"
    ):
        found(engine="openvino")


# --- what was measured ---------------------------------------------------------------------------------------------


def test_what_overflows_is_not_taken() -> None:
    pixels = keras.Input((4, 4, 3))
    trunk = Trunk(keras.Model(pixels, out := keras.layers.Rescaling(2.0)(pixels)), {"out": out})

    class Overflowing(Trunk):
        def __call__(self, _: Any) -> Any:
            raise TrainingError("the backbone outputs numbers that are not finite.")

    others = {Way("tensorflow", "float16"): Overflowing(trunk.source, trunk.outputs)}
    choice = module.compare(Way("tensorflow"), trunk, others, np.ones((3, 4, 4, 3), np.uint8), "out")
    assert choice == Choice("tensorflow", "float32", (Trial("tensorflow", "float16"),))
    json.dumps(asdict(choice), allow_nan=False)  # metrics.json holds it
    assert str(choice) == "engine tensorflow: tensorflow in float16 overflows"


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (Choice("tensorflow"), "engine tensorflow"),
        (
            Choice("openvino", trials=(Trial("tensorflow", ratio=0.5, difference=2e-6),)),
            "engine openvino: tensorflow is 0.50 times as fast here, and its features differ by 0.0%",
        ),
    ],
)
def test_choice_says_what_was_measured(choice: Choice, text: str) -> None:
    assert str(choice) == text
