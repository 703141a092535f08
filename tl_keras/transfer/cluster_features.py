"""Frozen features, computed by actors on many machines and stored by this one.

Each actor builds the network and finds the images once; then it is told files of up to one shard at a time, decodes and computes them, and
sends back rows, which are written here as those of a single process are. So actors need no store, only the images; and that
they see the same images through the same network is checked before anything is computed: by the keys of what they would put out, and by
the content of a few files. Every file's content is checked when it is decoded.
"""

import os
import pickle
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from tl_keras import __version__
from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.file_ids import Ids, file_id
from tl_keras.data.images import Decoding
from tl_keras.data.index import Index
from tl_keras.data.pipeline import Pixels, row_batches
from tl_keras.data.sources import find_root
from tl_keras.errors import ClusterError, UserError
from tl_keras.models.engines import TENSORFLOW
from tl_keras.progress import Progress
from tl_keras.runtime import restoring_process, set_up
from tl_keras.transfer.build import build, image_size_of
from tl_keras.transfer.cluster import RayActors, hand_out, plan, resources
from tl_keras.transfer.features import Computed, FrozenFeatures, Lacks, Rows, how_often, names_of, rows_of
from tl_keras.transfer.frozen import open_frozen
from tl_keras.transfer.store import Store, feature_folder

NUM_COMPARED = 3  # files that an actor compares with those here before it begins
PACKAGES = ("tensorflow", "keras", "openvino")  # whose versions features depend on


@dataclass(frozen=True)
class Order:
    """What an actor is told once.

    Attributes:
        config: with engine and precision; `runtime.threads` are those of the actor.
        num_classes: of the network.
        outputs: all that is frozen, and `lacking`, those to be computed.
        keys: output and view -> the key of its rows here.
        files: paths below the root -> ids, of some images.
        versions: of the packages that features depend on.
    """

    config: Config
    num_classes: int
    outputs: tuple[str, ...]
    lacking: tuple[str, ...]
    keys: dict[tuple[str, int], str]
    files: dict[str, bytes]
    versions: dict[str, str]


@dataclass(frozen=True)
class Piece:
    """Images to be computed: their paths below the root, their ids (m,), and what is lacking of them."""

    paths: tuple[str, ...]
    ids: Ids
    lacks: Lacks


@dataclass(frozen=True)
class Found:
    """What became of a piece: which of its images decode, bool (m,), and what is to be stored."""

    decoded: NDArray[np.bool_]
    computed: tuple[Computed, ...]


class Computer:
    """What runs in an actor: it computes what it is told, and keeps nothing. Methods run in several threads."""

    def open(self, ours: str, packed: bytes) -> None:
        """Build the network, and find the images.

        Args:
            ours: the version of this package where the work is handed out; `packed` is an `Order` of it.

        Raises:
            ClusterError: not the same images, or not the same network.
            UserError: as a run would, from the images or the backbone.
        """
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the run itself may use the same GPU
        self._host = socket.gethostname()
        if ours != __version__:
            raise ClusterError(f"{self._host}: has tl-keras {__version__}, and this machine {ours}. Install the same.")
        order: Order = pickle.loads(packed)
        self._stays = ExitStack()
        self._stays.enter_context(restoring_process())
        set_up(order.config.runtime)
        self._config, self._size = order.config, image_size_of(order.config)
        try:
            self._root = find_root(order.config.data)
            self._require_same_files(order.files)
            classifier = build(order.config, order.num_classes, order.config.model.weights)
        except UserError as error:
            raise type(error)(f"{self._host}, of the cluster: {error}") from error
        store = Store(feature_folder(), 0.0)  # in which nothing is stored
        frozen = open_frozen(order.config, classifier, self._pixels((), np.empty(0, "S16")), store)
        self._frozen = frozen.only(order.outputs).on(order.config.runtime.engine)
        self._require_same_network(order)
        self._trunk, self._alone = self._frozen.trunk.only(order.lacking), threading.Lock()
        self._trunk.fold()

    def work(self, piece: Piece) -> Found:
        """Decode and compute some images; the next ones are decoded meanwhile."""
        frozen = self._frozen.of(self._pixels(piece.paths, piece.ids))
        good, pixels = frozen.pixels.read_good(np.arange(len(piece.paths)))
        decoded = np.zeros(len(piece.paths), bool)
        decoded[good] = True
        with self._alone:
            return Found(decoded, tuple(frozen.computed(self._trunk, good, pixels, piece.lacks)))

    def _pixels(self, paths: Sequence[str], ids: Ids) -> Pixels:
        data = self._config.data
        pixels = Pixels([self._root / path for path in paths], self._size, data.resize, decoding=Decoding.of(data))
        pixels.identify(Progress(), ids)
        return pixels

    def _require_same_files(self, files: dict[str, bytes]) -> None:
        for path, known in files.items():
            found = file_id(self._root / path)
            if found != known:
                fault = "is not what it is here" if found else "cannot be read"
                raise ClusterError(
                    f"{self._root / path}: {fault}. All machines of a cluster need the same images at the same place, as on a shared disk."
                )

    def _require_same_network(self, order: Order) -> None:
        if all(self._frozen.key(*each) == key for each, key in order.keys.items()):
            return
        there = versions()
        differing = [f"{name} {there[name]} there and {ours} here" for name, ours in order.versions.items() if there[name] != ours]
        raise ClusterError(
            f"{self._host}, of the cluster: its features would not be those of this machine: "
            + (f"{', '.join(differing)}. Install the same." if differing else "the weights of the backbone differ. Give it the same file.")
        )


def versions() -> dict[str, str]:
    """The packages on which features depend, as they are installed here."""
    return {name: version(name) for name in PACKAGES}


def with_engine_of_cluster(config: Config) -> Config:
    """TensorFlow where the cluster that is reached has GPUs: the engine that begins on this machine may be one for CPUs."""
    has_gpus = config.runtime.engine == "auto" and plan(resources(), config.runtime.threads).gpus
    return config.replace("runtime.engine", TENSORFLOW) if has_gpus else config


def compute_by_actors(config: Config, index: Index, frozen: FrozenFeatures, wanted: Sequence[Rows], progress: Progress) -> None:
    """Let the cluster that is reached compute what the store lacks; what it cannot decode is left for `FrozenFeatures.compute`.

    Args:
        config: with engine and precision.
        index: the images, of which `frozen` knows the content.
        wanted: for each view, the rows that need it.

    Raises:
        ClusterError: the actors do not see the same, or are lost again and again.
        DataError: too many files do not decode.
        StoreError: no room.
    """
    lacks = frozen.lacks(wanted)
    rows = rows_of(lacks) if lacks else np.empty(0, np.int64)
    rows = rows[frozen.ids[rows] != b""]  # of what cannot be read here, it is said here why
    if not len(rows):
        return
    frozen.store.require_room(frozen.bytes_missing(wanted))
    chunks = list(row_batches(rows, frozen.chunk_rows(names_of(lacks))))
    pieces = (Piece(tuple(index.paths[row] for row in chunk), frozen.ids[chunk], _of(lacks, chunk)) for chunk in chunks)
    room = plan(resources(), config.runtime.threads)
    room = replace(room, num=min(room.num, len(chunks)))
    actors = RayActors(Computer, (__version__, pickle.dumps(_order(config, index, frozen, lacks, rows, room.cpus))), room)
    progress.line(f"Ray: {room} for {len(rows):,} images")
    with progress.bar("features", how_often(lacks)) as advance, closing(hand_out(actors, room.num, pieces, progress.line)) as done:
        for number, found in done:
            for each in found.computed:
                frozen.keep(each)
                advance(each.num)
            frozen.pixels.read_good(chunks[number][~found.decoded])  # which notes here why they do not decode
            dataset.check(frozen.pixels, config.data)


def _of(lacks: Lacks, rows: Rows) -> Lacks:
    return {each: mask[rows] for each, mask in lacks.items()}


def _order(config: Config, index: Index, frozen: FrozenFeatures, lacks: Lacks, rows: Rows, cpus: int) -> Order:
    some = rows[np.linspace(0, len(rows) - 1, min(NUM_COMPARED, len(rows))).astype(np.int64)].tolist()
    return Order(
        config.replace("runtime.threads", max(1, cpus)),
        len(index.classes),
        tuple(frozen.trunk.shapes),
        tuple(names_of(lacks)),
        {each: frozen.key(*each) for each in lacks},
        {index.paths[row]: bytes(frozen.ids[row]) for row in some},
        versions(),
    )
