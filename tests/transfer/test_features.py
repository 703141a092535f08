"""Frozen features: each image and view computed once whatever it is called, and every row what the network says of it."""

import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tl_keras.config import AugmentConfig, ModelConfig
from tl_keras.data import images, pipeline
from tl_keras.data.pipeline import Pixels
from tl_keras.errors import StoreError
from tl_keras.models.backbone_loading import build_backbone
from tl_keras.models.classifier import Classifier, build_classifier
from tl_keras.progress import Progress
from tl_keras.transfer import features as module
from tl_keras.transfer.features import FrozenFeatures, StoredFeatures, compact
from tl_keras.transfer.store import Store
from tl_keras.transfer.trunk import Trunk

NUM = 12
ALL = np.arange(NUM)
SOME = np.array([0, 2, 3, 5, 7, 8, 11])
FLIP = AugmentConfig(random_resized_crop=None, rotation_range=90, width_shift_range=0.3)
ABOUT: dict[str, Any] = {"backbone": "three_stages"}


class Counted(Trunk):
    """A trunk that notes how many images went through it, and for which outputs."""

    def __init__(self, *arguments: Any, seen: list[tuple[str, int]] | None = None) -> None:
        super().__init__(*arguments)
        self.seen: list[tuple[str, int]] = [] if seen is None else seen

    def only(self, names: Any) -> Trunk:
        return self if set(names) == set(self.outputs) else Counted(self.source, {n: self.outputs[n] for n in names}, seen=self.seen)

    def __call__(self, pixels: Any) -> dict[str, NDArray[np.float32]]:
        self.seen.append(("+".join(self.shapes), len(pixels)))
        return super().__call__(pixels)

    @property
    def num_images(self) -> int:
        return sum(number for _, number in self.seen)


@pytest.fixture(scope="module")
def build(three_stages: str) -> Callable[[int], Classifier]:
    """A classifier of images of some pixels; all have the same backbone."""

    def make(size: int) -> Classifier:
        return build_classifier(ModelConfig(), build_backbone(three_stages, image_size=(size, size), preprocessing="zero_to_one"), 2, 0)

    return make


@pytest.fixture(scope="module")
def classifier(build: Callable[[int], Classifier]) -> Classifier:
    return build(16)


def trunk_of(classifier: Classifier, *names: str) -> Counted:
    outputs = {"pooled": classifier.trunk.output, "map": classifier.boundaries["stage2"]}
    return Counted(classifier.model, {name: outputs[name] for name in names or ("pooled",)})


@pytest.fixture
def photos(photo_folder: Callable[..., Path]) -> Path:
    return photo_folder(per_class=NUM // 2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "features", 1.0)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files as they are decoded."""
    names: list[str] = []
    load = pipeline.images.load
    monkeypatch.setattr(pipeline.images, "load", lambda path, *rest: (names.append(path.name), load(path, *rest))[1])
    return names


def open_pixels(root: Path, size: int = 16, resize: str = "crop", order: int = 1) -> Pixels:
    pixels = Pixels(sorted(root.rglob("*.*"))[::order], (size, size), resize)
    pixels.identify(Progress())
    return pixels


def frozen_of(store: Store, trunk: Trunk, pixels: Pixels, augment: AugmentConfig = FLIP) -> FrozenFeatures:
    return FrozenFeatures(store, trunk, pixels, augment, ABOUT)


def compute(frozen: FrozenFeatures, *wanted: NDArray[np.int64], progress: Progress | None = None, check: Any = None) -> FrozenFeatures:
    frozen.compute(wanted or (ALL,), progress or Progress(), check or (lambda: None))
    return frozen


def one_at_a_time(classifier: Classifier, pixels: Pixels, rows: NDArray[np.int64] = ALL) -> NDArray[np.float32]:
    images = pixels.read(rows).astype(np.float32)
    return np.concatenate([np.asarray(classifier.trunk(image[None], training=False)) for image in images])


def assert_close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


# --- what a row is -------------------------------------------------------------------------------------------------


def test_features_are_those_of_one_image_at_a_time(classifier: Classifier, store: Store, photos: Path) -> None:
    frozen = compute(frozen_of(store, trunk_of(classifier), open_pixels(photos)))
    stored = frozen.stored("pooled", SOME)
    assert_close(stored[:], one_at_a_time(classifier, frozen.pixels, SOME))
    assert stored[:].dtype == np.float32


def test_views_are_of_their_image_and_differ(classifier: Classifier, store: Store, photos: Path) -> None:
    frozen = compute(frozen_of(store, trunk_of(classifier), open_pixels(photos)), ALL, SOME, SOME)
    plain, first, second = frozen.stored("pooled", SOME, 2)[:].reshape(3, len(SOME), -1)
    assert_close(plain, one_at_a_time(classifier, frozen.pixels, SOME))
    for one, other in ((plain, first), (plain, second), (first, second)):
        assert (np.abs(one - other).max(axis=1) > 1e-4).all()
    images = frozen.pixels.read(SOME)
    for view, found in ((1, first), (2, second)):
        changed = frozen._view(images, SOME, view).astype(np.float32)
        assert_close(found, np.asarray(classifier.trunk(changed, training=False)))
    same = frozen._view(np.repeat(images[:1], len(SOME), axis=0), SOME, 1)
    assert len({view.tobytes() for view in same}) == len(SOME)  # images have views of their own


def test_views_of_a_file_are_equal_whatever_its_place_and_company(classifier: Classifier, tmp_path: Path, photos: Path) -> None:
    forth = compute(frozen_of(Store(tmp_path / "one", 1.0), trunk_of(classifier), open_pixels(photos)), ALL, ALL)
    back = frozen_of(Store(tmp_path / "two", 1.0), trunk_of(classifier), open_pixels(photos, order=-1))
    compute(compute(back, SOME, SOME), ALL, ALL)
    np.testing.assert_array_equal(back.stored("pooled", NUM - 1 - ALL, 1)[:], forth.stored("pooled", ALL, 1)[:])


# --- what is computed ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_views_are_the_same_to_the_bit_in_batches_of_any_size(classifier: Classifier, store: Store, photos: Path) -> None:
    augment = AugmentConfig(rotation_range=40, zoom_range=(0.8, 1.2), shear_range=10, horizontal_flip=True)
    frozen = frozen_of(store, Trunk(classifier.model, {"pooled": classifier.trunk.output}), open_pixels(photos), augment)
    num = 45
    ids = np.frombuffer(np.random.default_rng(0).bytes(16 * num), "S16")
    frozen.ids, seen = ids, np.random.default_rng(1).integers(0, 256, (num, 48, 48, 3), np.uint8)
    whole = frozen._view(seen, np.arange(num), 1)
    for rows in (np.arange(9), np.arange(3, 40), np.array([44, 1, 2]), np.arange(num)[::-1]):
        np.testing.assert_array_equal(frozen._view(seen[rows], rows, 1), whole[rows])


def test_each_image_and_view_is_computed_once(classifier: Classifier, store: Store, photos: Path, decoded: list[str]) -> None:
    trunk = trunk_of(classifier)
    bars: list[tuple[str, int]] = []

    class Bars(Progress):
        @contextmanager
        def bar(self, title: str, total: int) -> Any:
            bars.append((title, total))
            yield lambda number: done.append(number)

    done: list[int] = []
    frozen = frozen_of(store, trunk, open_pixels(photos))
    assert frozen.count_missing((ALL, SOME)) == NUM + len(SOME)
    compute(frozen, ALL, SOME, progress=Bars())
    assert trunk.num_images == sum(done) == NUM + len(SOME)
    assert bars == [("features", NUM + len(SOME))]
    assert len(decoded) == NUM  # the views are made of the same pixels
    assert frozen.count_missing((ALL, SOME)) == 0
    compute(frozen, ALL, SOME)
    assert trunk.num_images == NUM + len(SOME)


def test_a_second_run_computes_and_decodes_nothing(
    build: Callable[[int], Classifier], store: Store, photos: Path, decoded: list[str]
) -> None:
    first = compute(frozen_of(store, trunk_of(build(16)), open_pixels(photos)), ALL, SOME)
    decoded.clear()
    twin = build(16)  # another process builds it again
    trunk = trunk_of(twin)
    pixels = open_pixels(photos)
    again = compute(frozen_of(store, trunk, pixels), ALL, SOME)
    assert (trunk.seen, decoded) == ([], [])
    assert pixels.good.all()  # it is known that they decode
    np.testing.assert_array_equal(again.stored("pooled", SOME, 1)[:], first.stored("pooled", SOME, 1)[:])


def test_files_that_are_renamed_or_moved_are_no_new_images(classifier: Classifier, store: Store, photos: Path, decoded: list[str]) -> None:
    first = compute(frozen_of(store, trunk_of(classifier), open_pixels(photos)), ALL, ALL)
    decoded.clear()
    for number, file in enumerate(sorted(photos.rglob("*.*"))):
        file.rename(photos / "dog" / f"{99 - number}{file.suffix}")
    trunk = trunk_of(classifier)
    moved = compute(frozen_of(store, trunk, open_pixels(photos)), ALL, ALL)
    assert (trunk.seen, decoded) == ([], [])
    np.testing.assert_array_equal(moved.stored("pooled", ALL[::-1], 1)[:], first.stored("pooled", ALL, 1)[:])


def test_an_image_that_is_added_is_computed_alone(classifier: Classifier, store: Store, photos: Path, decoded: list[str]) -> None:
    compute(frozen_of(store, trunk_of(classifier), open_pixels(photos)), ALL, SOME)
    decoded.clear()
    new = photos / "cat" / "new.png"
    file = sorted(photos.rglob("*.png"))[0]
    Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(new)
    trunk, pixels = trunk_of(classifier), open_pixels(photos)
    frozen = compute(frozen_of(store, trunk, pixels), np.arange(NUM + 1), SOME)
    assert [name for name in decoded if name == "new.png"] == ["new.png"]
    views_of_others = len(decoded) - 1  # SOME are other files now
    assert trunk.num_images == 1 + views_of_others
    assert_close(frozen.stored("pooled", np.arange(NUM + 1))[:], one_at_a_time(classifier, pixels, np.arange(NUM + 1)))


def test_an_image_that_changed_is_computed_anew(classifier: Classifier, store: Store, photos: Path, decoded: list[str]) -> None:
    before = compute(frozen_of(store, trunk_of(classifier), open_pixels(photos))).stored("pooled", ALL)[:]
    files = sorted(photos.rglob("*.*"))
    decoded.clear()
    shutil.copy(files[-2], tmp := photos.parent / "other.png")  # a dog's photo in place of a cat's
    keras.utils.save_img(files[0], 255 - np.asarray(keras.utils.load_img(tmp)), scale=False)
    trunk, pixels = trunk_of(classifier), open_pixels(photos)
    after = compute(frozen_of(store, trunk, pixels)).stored("pooled", ALL)[:]
    assert (trunk.num_images, decoded) == (1, [files[0].name])
    np.testing.assert_array_equal(after[1:], before[1:])
    assert_close(after, one_at_a_time(classifier, pixels))
    assert np.abs(after[0] - before[0]).max() > 1e-3


def test_more_views_reuse_the_fewer(classifier: Classifier, store: Store, photos: Path) -> None:
    first = compute(frozen_of(store, trunk_of(classifier), open_pixels(photos)), ALL, SOME)
    trunk = trunk_of(classifier)
    more = compute(frozen_of(store, trunk, open_pixels(photos)), ALL, ALL, SOME)
    assert trunk.num_images == NUM - len(SOME) + len(SOME)
    np.testing.assert_array_equal(more.stored("pooled", SOME, 1)[:], first.stored("pooled", SOME, 1)[:])
    fewer = trunk_of(classifier)
    compute(frozen_of(store, fewer, open_pixels(photos)), ALL, SOME)
    assert fewer.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("part", ["size", "resize", "depth", "weights", "augment"])
def test_another_contract_is_another_key(
    build: Callable[[int], Classifier], classifier: Classifier, store: Store, photos: Path, part: str
) -> None:
    compute(frozen_of(store, trunk_of(classifier), open_pixels(photos)), ALL, SOME)
    other = build(24 if part == "size" else 16)
    if part == "weights":
        other.model.set_weights([weight * 1.01 for weight in other.model.get_weights()])
    pixels = open_pixels(photos, size=24 if part == "size" else 16, resize="stretch" if part == "resize" else "crop")
    pixels.decoding = images.Decoding(12 if part == "depth" else 16)
    trunk = trunk_of(other)
    augment = AugmentConfig(random_resized_crop=None, rotation_range=45) if part == "augment" else FLIP
    frozen = compute(frozen_of(store, trunk, pixels, augment), ALL, SOME)
    assert trunk.num_images == (len(SOME) if part == "augment" else NUM + len(SOME))  # plain views know no augmentation
    assert_close(frozen.stored("pooled", ALL)[:], one_at_a_time(other, pixels))


def test_duplicates_are_computed_once(classifier: Classifier, store: Store, photos: Path, decoded: list[str]) -> None:
    files = sorted(photos.rglob("*.png"))
    for number in range(3):
        shutil.copy(files[0], photos / "dog" / f"copy{number}.png")
    trunk, pixels = trunk_of(classifier), open_pixels(photos)
    rows = np.arange(NUM + 3)
    frozen = compute(frozen_of(store, trunk, pixels), rows, rows)
    assert trunk.num_images == 2 * NUM
    assert len(decoded) == NUM
    copies = [row for row, path in enumerate(pixels.paths) if path == files[0] or path.name.startswith("copy")]
    stored = frozen.stored("pooled", rows, 1)[:].reshape(2, NUM + 3, -1)
    assert (stored[:, copies] == stored[:, copies[:1]]).all()
    assert_close(stored[0], one_at_a_time(classifier, pixels, rows))


def test_outputs_that_are_there_are_not_computed_again(classifier: Classifier, store: Store, photos: Path) -> None:
    compute(frozen_of(store, trunk_of(classifier, "map"), open_pixels(photos)), ALL)
    compute(frozen_of(store, trunk_of(classifier, "pooled"), open_pixels(photos)), SOME)
    trunk = trunk_of(classifier, "pooled", "map")
    frozen = frozen_of(store, trunk, open_pixels(photos))
    assert frozen.count_missing((ALL,)) == NUM - len(SOME)
    assert frozen.bytes_missing((ALL,)) == (NUM - len(SOME)) * 8 * 4
    compute(frozen, ALL)
    assert trunk.seen == [("pooled", NUM - len(SOME))]
    shorter = trunk_of(classifier, "pooled", "map")
    (photos / "cat" / "000.png").unlink()
    rows = np.arange(NUM - 1)
    found = compute(frozen_of(store, shorter, open_pixels(photos)), rows, rows)
    assert shorter.seen == [("pooled+map", NUM - 1)]  # the views, of which nothing was there
    assert_close(found.stored("pooled", rows)[:], one_at_a_time(classifier, found.pixels, rows))


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_bad_file_is_noted_and_the_rest_is_right(classifier: Classifier, store: Store, photos: Path, decoded: list[str]) -> None:
    files = sorted(photos.rglob("*.*"))
    files[2].write_text("this is text")
    files[5].write_bytes(files[5].read_bytes()[:300])
    files[9].unlink()
    checked: list[int] = []
    pixels = Pixels(files, (16, 16), "crop")
    pixels.identify(Progress())
    frozen = compute(frozen_of(store, trunk_of(classifier), pixels), ALL, ALL, check=lambda: checked.append(len(pixels.bad)))
    assert sorted(pixels.bad) == [2, 5, 9]
    for row, reason in {2: "is not an image", 5: "is a truncated or damaged JPEG", 9: "cannot be read"}.items():
        assert pixels.bad[row].startswith(f"{files[row]}: {reason}")
    assert checked[-1] == 3
    good = np.setdiff1d(ALL, [2, 5, 9])
    assert_close(frozen.stored("pooled", good)[:], one_at_a_time(classifier, pixels, good))
    decoded.clear()
    again = Pixels(files, (16, 16), "crop")
    again.identify(Progress())
    trunk = trunk_of(classifier)
    compute(frozen_of(store, trunk, again), ALL, ALL)
    assert (sorted(again.bad), trunk.seen) == ([2, 5, 9], [])
    assert sorted(decoded) == sorted(files[row].name for row in (2, 5, 9))


def test_equal_bad_files_are_all_noted_at_once(classifier: Classifier, store: Store, photos: Path) -> None:
    files = sorted(photos.rglob("*.*"))
    for file in files[1:4]:
        file.write_bytes(b"")
    pixels = open_pixels(photos)
    compute(frozen_of(store, trunk_of(classifier), pixels))
    assert sorted(pixels.bad) == [1, 2, 3]
    assert [str(files[row]) in pixels.bad[row] for row in (1, 2, 3)] == [True] * 3


def test_files_without_an_id_are_never_stored(classifier: Classifier, store: Store, photos: Path) -> None:
    """A file that could not be read for its id, and then could, must not stand for all others of that kind."""
    pixels = open_pixels(photos)
    pixels.ids[[1, 4]] = b""
    frozen = compute(frozen_of(store, trunk_of(classifier), pixels), ALL, ALL)
    for view in (0, 1):
        assert not frozen.collection("pooled", view).has(np.array([b""], "S16")).any()
    assert {1, 4} <= set(pixels.bad)


def test_no_room_is_said_before_anything_is_decoded(classifier: Classifier, tmp_path: Path, photos: Path, decoded: list[str]) -> None:
    trunk = trunk_of(classifier, "pooled", "map")
    frozen = frozen_of(Store(tmp_path / "features", 1e-6), trunk, open_pixels(photos))
    maps = int(np.prod(trunk.shapes["map"]))
    assert frozen.bytes_missing((ALL, SOME)) == (NUM + len(SOME)) * (8 * 4 + maps * 2)
    with pytest.raises(StoreError, match=r"GB of features are needed and 0\.00 GB are free under features\.max_gb=1e-06 and on the disk"):
        compute(frozen, ALL, SOME)
    assert (trunk.seen, decoded) == ([], [])
    assert not (tmp_path / "features").exists()


def test_what_is_all_there_needs_no_room(classifier: Classifier, store: Store, photos: Path) -> None:
    compute(frozen_of(store, trunk_of(classifier), open_pixels(photos)))
    compute(frozen_of(Store(store.root, 0.0), trunk_of(classifier), open_pixels(photos)))


def test_killed_and_resumed_equals_undisturbed(
    classifier: Classifier, tmp_path: Path, photo_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_ROWS", 32)
    photos = photo_folder(per_class=50, size=(18, 18))
    rows = np.arange(100)

    def stop_at(number: int) -> Any:
        def check() -> None:
            calls.append(1)
            if len(calls) == number:
                raise KeyboardInterrupt

        calls: list[int] = []
        return check

    names = ("pooled", "map")
    whole = compute(frozen_of(Store(tmp_path / "whole", 1.0), trunk_of(classifier, *names), open_pixels(photos)), rows, rows)
    trunk = trunk_of(classifier, *names)
    for number in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            compute(frozen_of(Store(tmp_path / "run", 1.0), trunk, open_pixels(photos)), rows, rows, check=stop_at(number))
    resumed = compute(frozen_of(Store(tmp_path / "run", 1.0), trunk, open_pixels(photos)), rows, rows)
    assert trunk.num_images == 2 * len(rows)  # what was finished is not computed again
    for name in names:
        np.testing.assert_array_equal(resumed.stored(name, rows, 1)[:], whole.stored(name, rows, 1)[:])
        (shards, others) = ([shard.path.name for shard in each.collection(name, 1).shards] for each in (whole, resumed))
        assert sorted(shards) == sorted(others)  # to the byte


# --- reading and storing -------------------------------------------------------------------------------------------


def test_stored_features_are_like_the_whole_array(store: Store) -> None:
    generator = np.random.default_rng(0)
    ids = np.array([number.to_bytes(16, "little") for number in range(1, 31)], "S16")
    values = generator.normal(size=(2, 30, 2, 3)).astype(np.float32)
    parts = []
    for view in range(2):
        collection = store.open(f"view{view}", ABOUT)
        for shard in np.array_split(generator.permutation(30), 4):
            collection.write(ids[shard], values[view, shard])
        parts.append((collection, ids[3:20]))
    stored = StoredFeatures(parts)
    whole = np.concatenate([values[0, 3:20], values[1, 3:20]])
    assert (len(stored), stored.shape) == (34, (34, 2, 3))
    for rows in (slice(None), slice(2, 5), slice(15, 20), slice(30, 99), slice(0, 0), np.array([33, 0, 17, 16, 0]), np.array([], np.int64)):
        np.testing.assert_array_equal(stored[rows], whole[rows])
        assert stored[rows].dtype == np.float32


def test_what_is_missing_is_not_read(store: Store) -> None:
    collection = store.open("key", ABOUT)
    collection.write(np.array([b"a"], "S16"), np.ones((1, 4), np.float32))
    with pytest.raises(KeyError, match="1 images have no row"):
        StoredFeatures([(collection, np.array([b"a", b"b"], "S16"))])[:]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.random.default_rng(0).normal(size=(4, 2, 2, 8)), np.float16),
        (np.random.default_rng(0).normal(size=(4, 64)), np.float32),  # vectors are small
        (np.full((4, 2, 2, 8), 65_000.0), np.float16),
        (np.full((4, 2, 2, 8), 70_000.0), np.float32),  # overflow
        (np.full((4, 2, 2, 8), 1e-7), np.float32),  # too small for float16
        (np.zeros((4, 2, 2, 8)), np.float16),
    ],
    ids=["map", "vector", "large", "overflow", "tiny", "zeros"],
)
def test_maps_are_float16_where_that_holds_them(values: NDArray[np.float64], dtype: Any) -> None:
    whole = values.astype(np.float32)
    stored = compact(whole)
    assert stored.dtype == dtype
    np.testing.assert_allclose(stored.astype(np.float32), whole, rtol=1e-3, atol=1e-6)


def test_a_map_that_overflows_float16_is_stored_whole(build: Callable[[int], Classifier], store: Store, photos: Path) -> None:
    scaled = build(16)
    tensor = keras.layers.Rescaling(1e6)(scaled.boundaries["stage2"])
    trunk = Trunk(keras.Model(scaled.model.input, tensor), {"small": scaled.boundaries["stage2"], "large": tensor})
    frozen = compute(frozen_of(store, trunk, open_pixels(photos)))
    small, large = (frozen.stored(name, ALL)[:] for name in ("small", "large"))
    assert (frozen.collection("small", 0).shards[0].dtype, frozen.collection("large", 0).shards[0].dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(large / 1e6, small, rtol=2e-3, atol=1e-3)
    assert large.max() > 65_504
