"""Answering over HTTP with a finished run, until a signal ends it."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np

from tl_keras.cores import usable_cpus
from tl_keras.data.ahead import load_image
from tl_keras.deploy.export import require_formats
from tl_keras.deploy.predictor import Prediction, Predictor
from tl_keras.deploy.serve.app import make_app
from tl_keras.deploy.serve.batcher import MOST_AT_ONCE, Batcher
from tl_keras.deploy.serve.choice import MODEL, Form, choose, open_form
from tl_keras.deploy.serve.http_server import Server, address_of, listen, make_server
from tl_keras.deploy.serve.limits import Bodies
from tl_keras.deploy.serve.metrics import Metrics
from tl_keras.deploy.serve.reload import Reloader, stamp_of
from tl_keras.deploy.serve.service import Loaded, Service
from tl_keras.deploy.serve.training_photos import opened_photos
from tl_keras.errors import ConfigError
from tl_keras.explanations import require_options
from tl_keras.progress import Progress
from tl_keras.run_folder import EXPORT, RunFolder
from tl_keras.runtime import restoring_process
from tl_keras.trained_run import open_run
from tl_keras.workflows.predict import read_thresholds, thresholds_if_any

TOKEN = "TL_KERAS_SERVE_TOKEN"  # the environment variable; a command line is seen by all users of a machine
SHORTEST_TOKEN = 16
HOST, PORT = "127.0.0.1", 8000


@restoring_process()
def serve(
    run_dir: Path | str,
    *,
    host: str | None = None,
    port: int | None = None,
    formats: Sequence[str] = (),
    coverage: float | None = None,
    access_log: bool = False,
    neighbours: int | None = None,
    source: str | None = None,
    progress: Progress | None = None,
    on_start: Callable[[Server, str], None] = lambda server, address: None,
) -> dict[str, Any]:
    """Answer questions about images until SIGTERM or Ctrl-C; then finish what was accepted.

    Args:
        host: the address to listen on; None for this machine only.
        port: None for 8000, 0 for any that is free.
        formats: the export that answers, at most one; none for the fastest that agreed with the model, else the model.
        coverage: the share of images, in (0, 1), in whose `prediction_set` the true class shall be; None for 0.9 where the run has sets.
        access_log: whether each request is written to the standard error, a line of JSON; what fails always is.
        neighbours: how many training images the page shows beside an image, 0 to 8; None for none: whoever asks gets to see them.
        source: where the run's images lie now, if they have moved.
        on_start: gets the server, whose `should_exit` ends it, and its address, before it answers.

    Returns:
        `requests` and `images`: how many were answered.

    Raises:
        ConfigError: the address cannot be listened on, the token is too short, there is no such export, no such coverage, or there are no
            training images to show.
        DataError: they are not where they were.
        RunFolderError: there is no such run.
    """
    progress = progress or Progress()
    require_formats(formats)
    require_options(None, neighbours)
    if source is not None and not neighbours:
        raise ConfigError("--data: says where the images are that --neighbours N shows. Give both, or neither.")
    if len(formats) > 1:
        raise ConfigError(f"--format: got {' and '.join(formats)}; serve takes one. Give one of them.")
    token = read_token()
    asked, run = formats[0] if formats else None, RunFolder.at(run_dir)

    def thresholds() -> dict[str, float] | None:
        return thresholds_if_any(run) if coverage is None else read_thresholds(run, coverage)

    def open_other(version: str) -> Form | None:
        if choose(run.require_model(), asked, Progress())[1] == version:
            return None
        form = open_form(open_run(run_dir), asked, Progress(), thresholds())
        warm(form.predictor)
        return form

    sets = thresholds()
    with closing(listen(host or HOST, PORT if port is None else port)) as listening:
        seen = stamp_of(run / EXPORT)
        form = open_form(open_run(run_dir), asked, progress, sets)
        photos = opened_photos(form.predictor.trained, neighbours, source, progress) if neighbours else nullcontext()
        with (
            photos as shown,
            serving(form, token, has_access_log=access_log, photos=shown) as service,
            Reloader(service, run / EXPORT, seen, open_other),
        ):
            server, address = make_server(make_app(service)), address_of(listening)
            by = "model" if form.name == MODEL else f"export {form.name}"
            progress.line(f"{service.name} answers at {address}, by its {by}; Ctrl-C ends it")
            if token is None and not ip_address(listening.getsockname()[0]).is_loopback:
                progress.line(f"whoever reaches that address may ask: set {TOKEN} to demand a token, and put TLS in front of it")
            on_start(server, address)
            server.run(sockets=[listening])
            return {"requests": service.metrics.requests.total(), "images": service.metrics.images}


@contextmanager
def serving(form: Form, token: str | None = None, *, batcher: Batcher[Prediction] | None = None, **settings: Any) -> Iterator[Service]:
    """What a server has, its threads running and its model warm.

    Args:
        batcher: in place of its own, started; it is closed in the end.
        settings: of `Service` that differ from its defaults.
    """
    warm(form.predictor)
    with ThreadPoolExecutor(usable_cpus(), thread_name_prefix="decode") as pool:  # nothing there waits for a disk
        metrics = Metrics()
        loaded = Loaded(*form, batcher or Batcher(form.predictor.told, metrics.batch).start())
        given: dict[str, Any] = {"bodies": Bodies(), "metrics": metrics, "pool": pool} | settings
        service = Service(form.predictor.trained.run.path.resolve().name, loaded, token=token, **given)
        try:
            yield service
        finally:
            service.loaded.batcher.close()


def warm(predictor: Predictor) -> None:
    """Resize and answer about nothing, in batches of each size that makes a graph of its own, so that nobody waits for that later."""
    trained, number = predictor.trained, 1
    load_image(np.zeros((8, 8, 3), np.uint8), "nothing", trained.image_size, trained.config.data)
    while number <= MOST_AT_ONCE:
        predictor.told(np.zeros((number, *trained.image_size, 3), np.uint8))
        number *= 2


def read_token() -> str | None:
    """The token that requests must carry; None where there is none.

    Raises:
        ConfigError: it is too short, or not ASCII.
    """
    token = os.environ.get(TOKEN)
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii()):
        raise ConfigError(
            f"{TOKEN}: got {len(token)} characters, expected at least {SHORTEST_TOKEN} of ASCII. "
            "Make one: python -c 'import secrets; print(secrets.token_urlsafe())'."
        )
    return token
