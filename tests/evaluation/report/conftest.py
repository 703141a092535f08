"""Makes run folders without a model: the files that a training run leaves, for any number of images."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.config_file import to_yaml
from tl_keras.data.file_ids import file_id
from tl_keras.data.label_texts import COLUMNS, PROBABILITY, SEPARATOR
from tl_keras.evaluation.metrics import figures_of
from tl_keras.models.outputs import OUTPUTS, MultiLabel
from tl_keras.run_folder import RunFolder, write_csv, write_json, write_text

MadeRun = Callable[..., RunFolder]


def texts_of(task: str, labels: Any, classes: Sequence[str]) -> list[str]:
    if task == "regression":
        return [f"{number:.6g}" for number in labels]
    if task == "multi_label":
        return [SEPARATOR.join(name for name, has in zip(classes, row, strict=True) if has) for row in labels]
    return [classes[label] for label in labels]


@pytest.fixture
def made_run(tmp_path: Path) -> MadeRun:
    """`made_run(task, classes, num, images, mode)` is a run that was measured on `num` images, one in eight of which it gets wrong; or one
    in `each`."""

    def make(
        task: str = "single_label",
        classes: Sequence[str] = ("ant", "bee", "wasp"),
        num: int = 60,
        images: Path | None = None,
        mode: str = "extract",
        name: str = "R",
        each: int = 8,
        **more: Any,
    ) -> RunFolder:
        random, run, k = np.random.default_rng(0), RunFolder.at(tmp_path / name), len(classes)
        run.path.mkdir()
        (run / run_folder.MODEL).write_bytes(b"")  # which a report is not made of
        paths = [f"{number:05}.png" for number in range(num)] if images is None else sorted(path.name for path in images.iterdir())
        output, wrong = OUTPUTS[task], np.arange(len(paths)) % each == each - 1
        if task == "regression":
            labels = random.normal(50, 10, len(paths)).astype(np.float32)
            answers = (labels + random.normal(0, 16 / each, len(paths)))[:, None].astype(np.float64)
        elif task == "multi_label":
            labels = random.random((len(paths), k)) < 0.4
            labels[0] = True
            answers = np.where(labels ^ (wrong[:, None] & (np.arange(k) == 0)), 0.9, 0.1)
            output = MultiLabel(thresholds=(0.5,) * k)
        else:
            labels = np.arange(len(paths)) % k
            said = np.where(wrong, (labels + 1) % k, labels)
            answers = np.full((len(paths), k), 0.15 / max(k - 1, 1))
            answers[np.arange(len(paths)), said] = 0.85 if k > 1 else 1.0
        decided = texts_of(task, output.decide(answers), classes)
        truth = texts_of(task, labels, classes)
        column = COLUMNS[task]
        chances = [] if task == "regression" else [f"{PROBABILITY}{name}" for name in classes]
        best = ["probability"] if task == "single_label" else []
        rows = (
            [path, true, said, *([f"{row.max():.6f}"] if best else []), *(f"{value:.6f}" for value in row if chances)]
            for path, true, said, row in zip(paths, truth, decided, answers, strict=True)
        )
        write_csv(run / run_folder.PREDICTIONS, ("path", f"true_{column}", f"predicted_{column}", *best, *chances), rows)
        learned = texts_of(task, labels[: 4 * k], classes)
        content = ["00" * 16 if images is None else file_id(images / path).ljust(16, b"\0").hex() for path in paths]
        lines = [(f"train/{number}.png", label, "train", f"{number + 1:032x}") for number, label in enumerate(learned)]
        lines += [
            (path, true, "test", f"{place + 10**6:032x}" if images is None else content[place])
            for place, (path, true) in enumerate(zip(paths, truth, strict=True))
        ]
        write_csv(run / run_folder.SPLITS, ("path", column, "split", "content"), lines)
        source = str((images or tmp_path / "gone") / ("" if task == "single_label" else "labels.csv"))
        config = Config.model_validate({"mode": mode, "data": {"source": source, "task": task}, "model": {"backbone": "mobilenet_v2"}})
        write_text(run / run_folder.CONFIG, to_yaml(config))
        names = classes if task != "regression" else ("value",)
        test = figures_of(output, answers, labels, names)
        metrics = {"mode": mode, "task": task, "backbone": "mobilenet_v2", "seed": 0, "test": test, "val": test, "timing": {"total_s": 1.5}}
        write_json(run / run_folder.METRICS, metrics | more)
        write_json(run / run_folder.ENVIRONMENT, {"tl_keras": "0.1.0", "cpus": 2})
        return run

    return make


def metrics_of(run: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / run_folder.METRICS).read_text())
    return found
