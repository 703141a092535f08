"""Object stores to test with: fsspec's own in memory, and a server that speaks S3, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SERVE = """
import logging, sys
logging.disable(logging.CRITICAL)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
Put = Callable[..., str]


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
