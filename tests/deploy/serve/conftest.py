"""A server of the shared run, asked without sockets."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tl_keras.deploy.predictor import Predictor
from tl_keras.deploy.serve.app import make_app
from tl_keras.deploy.serve.choice import Form
from tl_keras.deploy.serve.log import LOG, JsonLines
from tl_keras.deploy.serve.service import Service
from tl_keras.evaluation.novelty import Basis, Novelty
from tl_keras.evaluation.novelty_file import write_novelty
from tl_keras.run_folder import RunFolder
from tl_keras.trained_run import open_run
from tl_keras.workflows.predict import read_thresholds
from tl_keras.workflows.serve import serving

COVERAGE = 0.5  # of prediction sets, for which few images of val do
Asked = Callable[..., tuple[TestClient, Service]]


@pytest.fixture(scope="session")
def run(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared run with a novelty, for which it has too few images of val."""
    folder = Path(shutil.copytree(trained[0], tmp_path_factory.mktemp("served") / "R"))
    opened = open_run(folder)
    features = next(layer for layer in reversed(opened.model.layers) if layer.output.shape[1:] != opened.model.output.shape[1:])
    width = features.output.shape[-1]
    empty = np.zeros(0, np.float32)
    basis = Basis(features.name, (), np.zeros(width, np.float32), np.eye(width, 1, dtype=np.float32), empty, empty)
    write_novelty(opened.run, Novelty(basis, np.zeros(2, np.float32), np.ones(2, np.float32), 1e6))
    return folder


@pytest.fixture(scope="session")
def predictor(run: Path) -> Predictor:
    return Predictor(open_run(run), read_thresholds(RunFolder.at(run), COVERAGE))


@pytest.fixture(scope="session")
def files(trained: tuple[Path, Path]) -> list[Path]:
    return sorted(trained[1].rglob("*.*"))[:3]


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """The lines that the server writes, read again."""
    lines, handler, level = list[dict[str, Any]](), logging.Handler(), LOG.level
    handler.setFormatter(JsonLines())
    handler.emit = lambda record: lines.append(json.loads(handler.format(record)))  # type: ignore[method-assign]
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield lines
    LOG.removeHandler(handler)
    LOG.setLevel(level)


@pytest.fixture
def serve(predictor: Predictor) -> Iterator[Asked]:
    """A factory of servers, by the settings of `Service` that they differ in."""
    with ExitStack() as held:

        def make(**settings: Any) -> tuple[TestClient, Service]:
            service = held.enter_context(serving(Form("model", "0", predictor), **settings))
            return held.enter_context(TestClient(make_app(service), raise_server_exceptions=False)), service

        yield make
