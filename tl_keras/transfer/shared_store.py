"""A store of features that machines without a common disk share, in object storage.

What lies there is brought to this machine's store, and what is computed here is sent there. Shards are named by the hash of their bytes
and never change, so that names alone say what either side lacks, nothing is overwritten, and whoever reads one checks it by its name.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl_keras.data.sources.addresses import open_place, telling
from tl_keras.errors import ConfigError, DataError, StoreError
from tl_keras.run_folder import write_atomically

VARIABLE = "TL_KERAS_FEATURES"  # not a setting: what a run folder of a stranger says must not send anything anywhere
SUFFIX = ".shard"
AT_ONCE = 8  # objects that are fetched or sent


@dataclass(frozen=True)
class SharedStore:
    """Collections at an address, a folder of shards for each.

    Attributes:
        address: as the user wrote it.
        system: of fsspec.
        path: what the system calls it.
    """

    address: str
    system: Any
    path: str

    @classmethod
    def of_environment(cls) -> "SharedStore | None":
        """The store that `TL_KERAS_FEATURES` names; None where that is not set.

        Raises:
            ConfigError: it is not an address that is known, or the package that reads it is not installed.
        """
        address = os.environ.get(VARIABLE)
        if not address:
            return None
        try:
            return cls(address, *open_place(address))
        except DataError as error:
            raise ConfigError(f"{VARIABLE}: {error}") from error

    def exchange(self, folder: Path, require_room: Callable[[int], None]) -> None:
        """Bring what this machine lacks of a collection, and send what the other side lacks.

        Args:
            folder: of the collection here; it has the same name there.
            require_room: is asked for the bytes to be fetched, and raises where there is no room.

        Raises:
            StoreError: no room, or the other side refuses or does not answer.
        """
        here = {file.name: file for file in folder.glob(f"[!.]*{SUFFIX}")}
        with self._told():
            sizes = self._sizes(folder.name)
        lacking = sorted(sizes.keys() - here.keys())
        if lacking:
            require_room(sum(sizes[name] for name in lacking))
            folder.mkdir(parents=True, exist_ok=True)
        with self._told(), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self._fetch(folder, name), lacking))
            list(pool.map(self._send, [file for name, file in here.items() if name not in sizes]))

    def send(self, file: Path) -> None:
        """Send a shard that was just written; it lies in the folder of its collection.

        Raises:
            StoreError: the other side refuses or does not answer; the shard stays here, and is sent by the next run.
        """
        with self._told():
            self._send(file)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with telling(self.address):
                yield
        except DataError as error:
            raise StoreError(f"{VARIABLE}: {error} What was computed is kept on this machine, and sent by the next run.") from error

    def _sizes(self, key: str) -> dict[str, int]:
        """The shards of a collection there -> bytes."""
        try:
            found = self.system.ls(f"{self.path}/{key}", detail=True)
        except FileNotFoundError:
            return {}
        objects = ((each["name"].rpartition("/")[2], each) for each in found)
        return {name: int(each["size"]) for name, each in objects if name.endswith(SUFFIX) and each["type"] == "file"}

    def _fetch(self, folder: Path, name: str) -> None:
        write_atomically(folder / name, lambda temporary: self.system.get_file(f"{self.path}/{folder.name}/{name}", str(temporary)))

    def _send(self, file: Path) -> None:
        self.system.put_file(str(file), f"{self.path}/{file.parent.name}/{file.name}")
