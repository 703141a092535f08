"""What every test may use: a folder of photographs that is learnable, a cache of its own, and the `shared` mark."""

import gc
import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tl_keras.progress import Progress

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # two processes share the machine; TensorFlow is not imported yet

# A shell's background job ignores Ctrl-C, and so would each process that a test starts. Mended here and not by `preexec_fn`, with which
# a child is forked: gRPC, once a test has used it, kills some of those (grpc/grpc#43055; 46 of 300 with calls under way, 0 without).
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[1] / ".." / "shared"
HUES = ((200, 60, 50), (50, 90, 200), (60, 180, 70), (200, 180, 50), (150, 60, 180), (60, 180, 180))

CLASSES = ("ant", "bee", "wasp")  # of the shared run

PhotoFolder = Callable[..., Path]
PythonAlone = Callable[..., subprocess.CompletedProcess[str]]
Put = Callable[..., str]

SERVE = """
import logging, sys
logging.disable(logging.CRITICAL)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs real data and weights where there are none beside the checkout."""
    if not SHARED.is_dir():
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(pytest.mark.skip(reason="no ../shared beside the checkout"))


def pytest_collection_finish() -> None:
    """Leave what has been imported out of each later garbage collection: 5 to 10 % of the time of a test that trains."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # another 2 to 5 %


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("TL_KERAS_CACHE")
    os.environ["TL_KERAS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["TL_KERAS_CACHE"]
    else:
        os.environ["TL_KERAS_CACHE"] = before


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of features that no other test has written to."""
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def write_photo(path: Path, colour: tuple[int, int, int], size: tuple[int, int], seed: int) -> None:
    """Write one image of `size` (height, width): a colour, a soft gradient and noise."""
    noise = np.random.default_rng(seed).normal(0, 25, (*size, 3))
    slope = np.linspace(-20, 20, size[1])[None, :, None]
    pixels = np.clip(np.asarray(colour) + slope + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> PhotoFolder:
    """A factory of class folders: `photo_folder(classes, per_class, size, splits)`.

    Each class has its colour, so a few steps learn it; half of the files are PNG, half JPEG. With
    `splits=("train", "val")` every split gets `per_class` images of every class; without, there are no split folders.
    """

    def make(
        classes: Sequence[str] = ("cat", "dog"),
        per_class: int = 6,
        size: tuple[int, int] = (40, 48),
        splits: Sequence[str] | None = None,
    ) -> Path:
        root = tmp_path_factory.mktemp("made") / "photos"
        for split in splits or ("",):
            for position, name in enumerate(classes):
                for number in range(per_class):
                    path = root / split / name / f"{number:03d}.{'jpg' if number % 2 else 'png'}"
                    write_photo(path, HUES[position % len(HUES)], size, zlib.crc32(f"{split}/{name}/{number}".encode()))
        return root

    return make


@pytest.fixture(scope="session")
def own_backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A backbone in a file, for images of 16 pixels: a random convolution with its BatchNorm. It trains faster than the bundled one."""
    import keras

    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False, kernel_initializer=keras.initializers.HeNormal(seed=0))(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    path = tmp_path_factory.mktemp("backbone") / "own.keras"
    keras.Model(pixels, x).save(path)
    return str(path)


@pytest.fixture(scope="session")
def save_three_stages(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Saves another, for images of 16 pixels: a random convolution with its BatchNorm a stage. Its graphs are traced soon."""

    def save(*, rescales: bool) -> str:
        import keras

        x = pixels = keras.Input((16, 16, 3))
        if rescales:
            x = keras.layers.Rescaling(1 / 255)(x)
        for number in (1, 2, 3):
            random = keras.initializers.HeNormal(seed=number)
            x = keras.layers.Conv2D(8, 3, 2, "same", use_bias=False, kernel_initializer=random, name=f"stage{number}_conv")(x)
            x = keras.layers.ReLU(name=f"stage{number}_relu")(keras.layers.BatchNormalization(name=f"stage{number}_bn")(x))
        path = tmp_path_factory.mktemp("backbone") / "three_stages.keras"
        keras.Model(pixels, x).save(path)
        return str(path)

    return save


@pytest.fixture(scope="session")
def three_stages(save_three_stages: Callable[..., str]) -> str:
    """One that brings raw pixels to [0, 1] itself."""
    return save_three_stages(rescales=True)


@pytest.fixture(scope="session")
def python_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PythonAlone]:
    """`python_alone(code, *arguments, cwd=DIR)` is `python -c code *arguments` in a process that has imported TensorFlow and Keras.

    It starts in a fraction of a second, and what it prints on standard error is the message of the assertion that it succeeds, left out by
    `check=False`. What is about the start of a process, or about one without TensorFlow, needs a real one.
    """
    folder = tmp_path_factory.mktemp("alone")
    files = {name: str(folder / name) for name in ("output", "errors")}

    def run(code: str, *arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        job = {"code": code, "arguments": arguments, "folder": str(cwd.absolute()), "environment": dict(os.environ), **files}
        print(json.dumps(job), file=server.stdin, flush=True)
        status = int(server.stdout.readline())  # type: ignore[union-attr]
        said = [Path(file).read_text(errors="replace") for file in files.values()]
        assert status == 0 or not check, said[1]
        return subprocess.CompletedProcess(["python", "-c", code, *arguments], status, *said)

    command = [sys.executable, "-P", str(Path(__file__).with_name("forks.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield run


@pytest.fixture
def quick_exports(python_alone: PythonAlone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are read back in a process of `python_alone`, and their speed is that of one call; `tests/deploy` has it as it is, and shows
    that a process without Keras can do it."""
    from tl_keras.deploy import parity

    reader, limits = Path(parity.standalone_reader.__file__).read_text(), "MOST_CALLS, LONGEST_S = 20, 2.0"
    assert limits in reader
    hasty = reader.replace(limits, "MOST_CALLS, LONGEST_S = 1, 0.0")

    def run_reader(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return python_alone(hasty, *arguments, cwd=folder, check=False)

    monkeypatch.setattr(parity, "run_reader", run_reader)


class Lines(Progress):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def heard() -> Lines:
    """A listener that keeps the lines."""
    return Lines()


@pytest.fixture(scope="session")
def trained(photo_folder: Callable[..., Path], three_stages: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder, and its images: 30 of three classes, 6 of them its test split. Not to be changed: take a copy."""
    from tl_keras.config import Config
    from tl_keras.workflows.train import train

    photos = photo_folder(classes=CLASSES, per_class=10, size=(16, 16))
    run = tmp_path_factory.mktemp("trained") / "R"
    data = {"source": str(photos), "image_size": 16}
    train(Config.model_validate({"mode": "extract", "data": data, "model": {"backbone": three_stages}}), run)
    return run, photos


# --- object stores: fsspec's own in memory, and a server that speaks S3, in a process of its own


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def memory(own_cache: Path) -> Iterator[Any]:
    """fsspec's file system in memory, empty."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def put(memory: Any) -> Put:
    """`put(folder, address="memory://pics/photos")` copies a folder into memory; its address."""

    def copy(folder: Path, address: str = "memory://pics/photos") -> str:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            memory.pipe(f"{address.removeprefix('memory:/')}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return address

    return copy


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with subprocess.Popen([sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


@pytest.fixture
def s3(s3_server: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of that server, with an empty bucket `pics`; addresses of s3:// lead there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    values = {"ENDPOINT_URL": s3_server, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}
    nowhere = {"EC2_METADATA_DISABLED": "true", "CONFIG_FILE": os.devnull, "SHARED_CREDENTIALS_FILE": os.devnull}
    for name, value in (values | nowhere).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="pics")
    for each in client.list_objects_v2(Bucket="pics").get("Contents", []):
        client.delete_object(Bucket="pics", Key=each["Key"])
    return client


@pytest.fixture
def upload(s3: Any) -> Put:
    """`upload(folder, "photos")` copies a folder into the bucket; its address."""

    def copy(folder: Path, name: str = "photos") -> str:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            s3.put_object(Bucket="pics", Key=f"{name}/{file.relative_to(folder).as_posix()}", Body=file.read_bytes())
        return f"s3://pics/{name}"

    return copy
