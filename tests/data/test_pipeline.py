"""Batches: every image once, with its own label and weight, in an order that a continued run meets again."""

from functools import partial
from itertools import islice

import numpy as np
import pytest

from tl_keras.config import AugmentConfig, TrainConfig
from tl_keras.data import images, pipeline
from tl_keras.data.mixing import mix_of
from tl_keras.data.orders import balanced
from tl_keras.data.pipeline import Pixels, check_bad, fits, ordered_batches, row_batches, train_batches
from tl_keras.errors import DataError, LostImageError
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress

SIZE = (16, 12)
NUM = 11  # rows in use; the last batch of 4 is partial
BATCHES = 3
ROWS = np.array([0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
LABELS = np.array([0] * 6 + [1] * 6, np.int32)
WEIGHTS = np.linspace(0.5, 2.0, 12, dtype=np.float32)
PLAIN = AugmentConfig(random_resized_crop=None)
STRONG = AugmentConfig(random_resized_crop=None, horizontal_flip=True, brightness_range=(0.5, 1.5))  # no warp: its graph takes long
TARGETS = partial(SINGLE_LABEL.targets_op, num_classes=2)
MIX = mix_of(TrainConfig(mixup_alpha=1.0, cutmix_alpha=1.0), 7)


@pytest.fixture
def files(photo_folder):
    return sorted(photo_folder(size=(20, 18)).rglob("*.*"))


@pytest.fixture
def pixels(files, tmp_path):
    cached = Pixels(files, SIZE, "crop", tmp_path / "pixels.npy")
    cached.decode_all()
    return cached


def stream(pixels, epochs, augment=None, seed=7, rows=ROWS, **options):
    """The batches of some epochs as arrays."""
    batches = train_batches(pixels, rows, LABELS, WEIGHTS[rows], TARGETS, batch_size=4, augment=augment or PLAIN, seed=seed, **options)
    return [tuple(part.numpy() for part in batch) for batch in islice(batches, epochs * BATCHES)]


def rows_of(pixels, batches):
    """Which row each image is: without augmentation, pixels are unlike in every file."""
    known = {image.tobytes(): row for row, image in enumerate(pixels.read(np.arange(12)).astype(np.float32))}
    return [known[image.tobytes()] for batch in batches for image in batch[0]]


def assert_equal(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_cached_and_uncached_pixels_are_those_of_load(files, pixels):
    uncached = Pixels(files, SIZE, "crop")
    uncached.decode_all()
    rows = np.array([11, 0, 0, 5])
    expected = np.stack([images.load(files[row], SIZE, "crop") for row in rows])
    assert expected.dtype == np.uint8
    np.testing.assert_array_equal(pixels.read(rows), expected)
    np.testing.assert_array_equal(uncached.read(rows), expected)
    assert pixels.bad == uncached.bad == {}


def test_cached_pixels_are_read_without_the_files(files, pixels):
    before = pixels.read(np.arange(12))
    for file in files:
        file.unlink()
    np.testing.assert_array_equal(pixels.read(np.arange(12)), before)


def test_decoding_counts_every_file_in_small_queues(files, monkeypatch):
    monkeypatch.setattr(pipeline, "_DECODED_AT_ONCE", 5)
    files[1].write_text("no image")
    done = []
    uncached = Pixels(files, SIZE, "crop")
    uncached.decode_all(done.append)
    assert sum(done) == 12
    assert list(uncached.bad) == [1]


@pytest.mark.parametrize("cached", [True, False])
def test_read_good_returns_those_that_decode(files, tmp_path, cached):
    files[1].write_text("this is text")
    files[5].write_bytes(b"")
    found = Pixels(files, SIZE, "crop", tmp_path / "pixels.npy" if cached else None)
    rows, images_read = found.read_good(np.array([5, 7, 1, 0]))
    assert rows.tolist() == [7, 0]
    np.testing.assert_array_equal(images_read, np.stack([images.load(files[row], SIZE, "crop") for row in (7, 0)]))
    assert (sorted(found.bad), np.flatnonzero(found.good).tolist()) == ([1, 5], [0, 7])
    rows, images_read = found.read_good(np.array([1, 5]))
    assert (len(rows), images_read.shape, images_read.dtype) == (0, (0, *SIZE, 3), np.uint8)


def test_decode_all_passes_over_what_is_known(files, monkeypatch):
    files[1].write_text("this is text")
    found = Pixels(files, SIZE, "crop")
    found.read_good(np.arange(4))
    found.good[4] = True  # as where its features are stored
    names, load = [], images.load
    monkeypatch.setattr(pipeline.images, "load", lambda path, *rest: (names.append(path), load(path, *rest))[1])
    found.decode_all()
    assert sorted(names) == files[5:]
    assert list(found.bad) == [1]
    assert found.good.sum() == 11


def test_each_file_is_decoded_once_into_the_cache(files, tmp_path, monkeypatch):
    names, load = [], images.load
    monkeypatch.setattr(pipeline.images, "load", lambda path, *rest: (names.append(path), load(path, *rest))[1])
    cached = Pixels(files, SIZE, "crop", tmp_path / "pixels.npy")
    first = cached.read(np.array([3, 1]))
    np.testing.assert_array_equal(cached.read(np.array([1, 2, 3]))[[2, 0]], first)
    cached.decode_all()
    assert sorted(names) == files


def test_identify_takes_files_by_their_content(files):
    files[2].write_bytes(files[0].read_bytes())
    files[3].unlink()
    found = Pixels(files, SIZE, "crop")
    found.identify(Progress())
    assert found.ids[2] == found.ids[0]
    assert found.ids[3] == b""
    assert len(set(found.ids)) == 11


def test_train_batches_have_the_promised_shapes(pixels):
    for augment in (None, STRONG):
        batches = stream(pixels, 1, augment)
        shapes = [(image.shape, target.shape, weight.shape) for image, target, weight in batches]
        assert shapes == [((b, *SIZE, 3), (b, 2), (b,)) for b in (4, 4, 3)]
        assert all(part.dtype == np.float32 for batch in batches for part in batch)
    batches = train_batches(pixels, ROWS, LABELS, WEIGHTS[ROWS], TARGETS, batch_size=4, augment=STRONG, seed=0)
    assert batches.element_spec[0].shape.as_list() == [None, *SIZE, 3]


def test_an_epoch_holds_every_image_once(pixels):
    batches = stream(pixels, 3)
    for epoch in range(3):
        assert sorted(rows_of(pixels, batches[epoch * BATCHES : (epoch + 1) * BATCHES])) == ROWS.tolist()


def test_labels_and_weights_go_with_their_images(pixels):
    batches = stream(pixels, 2)
    rows = rows_of(pixels, batches)
    labels = LABELS[rows]
    np.testing.assert_array_equal(np.concatenate([target for _, target, _ in batches]), np.eye(2)[labels])
    np.testing.assert_array_equal(np.concatenate([weight for *_, weight in batches]), WEIGHTS[rows])


def test_epochs_have_orders_of_their_own(pixels):
    order = rows_of(pixels, stream(pixels, 2))
    assert order[:NUM] != order[NUM:]
    assert order[:NUM] != ROWS.tolist()


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_runs_of_one_seed_are_equal(pixels, seed):
    assert_equal(stream(pixels, 2, STRONG, seed), stream(pixels, 2, STRONG, seed))
    assert rows_of(pixels, stream(pixels, 1, seed=seed)) != rows_of(pixels, stream(pixels, 1, seed=1))


@pytest.mark.parametrize("augment", [None, STRONG])
def test_a_continued_stream_is_the_tail_of_the_whole(pixels, augment):
    whole = stream(pixels, 4, augment)
    assert_equal(stream(pixels, 1, augment, first_epoch=2), whole[2 * BATCHES : 3 * BATCHES])
    assert_equal(stream(pixels, 1, augment, first_epoch=2, first_step=1), whole[2 * BATCHES + 1 : 3 * BATCHES + 1])


def test_a_continued_stream_mixes_as_the_whole_does(pixels):
    whole = stream(pixels, 3, mix=MIX)
    assert_equal(stream(pixels, 1, first_epoch=1, first_step=1, mix=MIX), whole[BATCHES + 1 : 2 * BATCHES + 1])
    for (image, target, weight), (alone, *_) in zip(whole, stream(pixels, 3), strict=True):
        assert (image != alone).any(axis=(1, 2, 3)).mean() > 0.5
        np.testing.assert_allclose(target.sum(axis=1), 1, rtol=1e-6)
        assert ((weight > 0.499) & (weight < 2.001)).all()
    shares = [target.max(axis=1) for _, target, _ in whole]
    assert len({round(float(share), 5) for part in shares for share in part}) > 10  # no two steps and no two epochs mix alike


def test_a_continued_stream_may_have_forgotten_bad_files(files, pixels):
    """splits.csv does not list files that do not decode, so rows move up when a run is continued from it."""
    kept = Pixels([file for row, file in enumerate(files) if row != 1], SIZE, "crop")
    whole = stream(pixels, 1, STRONG, first_epoch=1)
    batches = train_batches(kept, np.arange(NUM), LABELS[ROWS], WEIGHTS[ROWS], TARGETS, batch_size=4, augment=STRONG, seed=7, first_epoch=1)
    assert_equal([tuple(part.numpy() for part in batch) for batch in islice(batches, BATCHES)], whole)


def test_augmentation_differs_between_epochs_and_leaves_the_cache_alone(pixels, tmp_path):
    before = np.load(tmp_path / "pixels.npy")
    one = np.array([3])
    views = [image[0] for image, *_ in islice(stream(pixels, 2, STRONG, rows=one), 6)]
    assert len({view.tobytes() for view in views}) == 6
    np.testing.assert_array_equal(np.load(tmp_path / "pixels.npy"), before)
    np.testing.assert_array_equal(pixels.read(np.arange(12)), before)


def test_augmentation_does_not_change_the_order(pixels):
    plain, changed = stream(pixels, 1), stream(pixels, 1, STRONG)
    for (image, target, weight), (other, *rest) in zip(plain, changed, strict=True):
        assert (image != other).any()
        np.testing.assert_array_equal(target, rest[0])
        np.testing.assert_array_equal(weight, rest[1])


def test_images_of_a_batch_have_views_of_their_own(files):
    same = Pixels([files[0]] * 12, SIZE, "crop")
    views = np.concatenate([image for image, *_ in stream(same, 1, STRONG)])
    assert len({view.tobytes() for view in views}) == NUM


def test_ordered_batches_keep_order_and_everything(pixels):
    rows = ROWS[::-1].copy()
    batches = [(image.numpy(), target.numpy()) for image, target in ordered_batches(pixels, rows, LABELS, TARGETS, batch_size=4)]
    assert [len(image) for image, _ in batches] == [4, 4, 3]
    assert rows_of(pixels, batches) == rows.tolist()
    np.testing.assert_array_equal(np.concatenate([target for _, target in batches]), np.eye(2)[LABELS[rows]])


def test_ordered_batches_can_be_read_again(pixels):
    batches = ordered_batches(pixels, ROWS, LABELS, TARGETS, batch_size=4)
    assert_equal([(a.numpy(), b.numpy()) for a, b in batches], [(a.numpy(), b.numpy()) for a, b in batches])


def test_an_image_that_vanishes_between_epochs_is_named(files):
    lost = Pixels(files, SIZE, "crop")
    lost.decode_all()
    files[3].unlink()
    words = rf"^{files[3]}: cannot be read \(No such file or directory\), though it could be read before\. Put it back\.$"
    with pytest.raises(LostImageError, match=words), lost.named_failures("Put it back."):
        stream(lost, 1)


def test_too_little_memory_within_a_batch_is_told_as_such(files, monkeypatch):
    pixels = Pixels(files, SIZE, "crop")
    monkeypatch.setattr(images, "_pixels", lambda *_: bytearray(2**60))
    with pytest.raises(DataError, match="too little memory") as caught, pixels.named_failures("Put it back."):
        stream(pixels, 1)
    assert not isinstance(caught.value, LostImageError)


def test_row_batches_keep_the_last():
    assert [batch.tolist() for batch in row_batches(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]


def test_bad_files_are_noted_with_their_reasons(files, tmp_path):
    files[1].write_text("this is text")
    files[5].write_bytes(files[5].read_bytes()[:300])
    files[8].write_bytes(b"")
    files[9].unlink()
    found = Pixels(files, SIZE, "crop", tmp_path / "pixels.npy")
    found.decode_all()
    assert sorted(found.bad) == [1, 5, 8, 9]
    for row, reason in {1: "is not an image", 5: "is a truncated or damaged JPEG", 8: "is empty", 9: "cannot be read"}.items():
        assert found.bad[row].startswith(f"{files[row]}: {reason}")


def test_check_bad_lets_few_pass():
    check_bad({}, 10, on_bad_image="error", max_bad_fraction=0.0)
    check_bad({3: "x"}, 20, on_bad_image="skip", max_bad_fraction=0.05)


def test_check_bad_stops_at_too_many():
    with pytest.raises(
        DataError,
        match=r"^2 of 20 images do not decode, more than data\.max_bad_fraction=0\.05\. First: a\.jpg: is empty\. "
        r"Mend or remove them, or train with a larger data\.max_bad_fraction\.$",
    ):
        check_bad({7: "b.jpg: x", 3: "a.jpg: is empty"}, 20, on_bad_image="skip", max_bad_fraction=0.05)


def test_check_bad_names_the_first_where_none_may_be_skipped():
    with pytest.raises(DataError, match=r"^a\.jpg: is empty \(1 more\)\. Repair or remove it, or set data\.on_bad_image=skip\.$"):
        check_bad({7: "b.jpg: x", 3: "a.jpg: is empty"}, 1000, on_bad_image="error", max_bad_fraction=1.0)


def test_fits_respects_cache_gb_and_the_disk(tmp_path, monkeypatch):
    assert fits(1000, (10, 10), tmp_path, cache_gb=0.0003)
    assert not fits(1001, (10, 10), tmp_path, cache_gb=0.0003)
    assert not fits(1, (1, 1), tmp_path, cache_gb=0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100_000}))
    assert not fits(1000, (10, 10), tmp_path, cache_gb=1)
    assert fits(300, (10, 10), tmp_path, cache_gb=1)


def test_an_image_that_an_epoch_shows_several_times_has_a_view_of_its_own_each_time(pixels):
    labels = np.where(np.arange(12) == ROWS[0], 0, 1)
    batches = train_batches(
        pixels, ROWS, LABELS, WEIGHTS[ROWS], TARGETS, batch_size=NUM, augment=STRONG, seed=3, order=balanced(labels[ROWS])
    )
    images, _, weights = (part.numpy() for part in next(iter(batches)))
    views = images[weights == WEIGHTS[ROWS[0]]]
    assert len(views) > 2  # half of the draws
    assert len({view.tobytes() for view in views}) == len(views)


def test_nothing_tunes_the_batches(pixels):
    """The thread that does keeps an iterator from being deleted, now and then for a minute."""
    endless = train_batches(pixels, ROWS, LABELS, WEIGHTS[ROWS], TARGETS, batch_size=4, augment=STRONG, seed=0)
    for batches in (endless, ordered_batches(pixels, ROWS, LABELS, TARGETS, batch_size=4)):
        assert batches.options().autotune.enabled is False


def test_images_are_decoded_by_two_threads_for_each_of_tensorflow_s(monkeypatch):
    monkeypatch.setattr(pipeline, "threads_in_force", lambda: 3)
    with pipeline.decoding_threads() as pool:
        assert pool._max_workers == 6
