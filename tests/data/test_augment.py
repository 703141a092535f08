"""Augmentation against a NumPy twin that loops over pixels, against Keras' ImageDataGenerator, and bit by bit."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tl_keras.config import AugmentConfig
from tl_keras.data.augment import augment_batch, is_identity
from tl_keras.data.auto_augment import OPS
from tl_keras.data.colour_ops import LUMA
from tl_keras.data.draws import DRAWS, draw


def only(**options: Any) -> AugmentConfig:
    """These options and no others, the default crop included."""
    return AugmentConfig(**({"random_resized_crop": None} | options))


# The option by whose name the case goes is the one that matters in it.
CASES = {
    "horizontal_flip": only(horizontal_flip=True),
    "vertical_flip": only(vertical_flip=True),
    "rotation_range": only(rotation_range=40),
    "width_shift_range": only(width_shift_range=0.3),
    "height_shift_range": only(height_shift_range=0.4),
    "zoom_range": only(zoom_range=0.5),
    "shear_range": only(shear_range=30),
    "brightness_range": only(brightness_range=(0.2, 1.5)),
    "contrast_range": only(contrast_range=(0.2, 1.5)),
    "saturation_range": only(saturation_range=(0, 2)),
    "hue_range": only(hue_range=0.4),
    "channel_shift_range": only(channel_shift_range=90),
    "grayscale": only(grayscale=0.6),
    "random_resized_crop": only(random_resized_crop=(0.2, 0.9)),
    "crop_ratio": only(random_resized_crop=(0.2, 0.9), crop_ratio=(2, 4)),
    "fill_mode": only(rotation_range=90, width_shift_range=0.3, fill_mode="reflect"),
    "cval": only(rotation_range=90, width_shift_range=0.3, fill_mode="constant", cval=200),
    "random_erasing": only(random_erasing=0.6),
}
AUTO = {  # what it does to colours has twins of its own: in `test_colour_ops` and `test_auto_augment`
    "auto": only(auto="trivial"),
    "rand_ops": only(auto="rand", rand_ops=3),
    "rand_magnitude": only(auto="rand", rand_magnitude=25),
}
EVERYTHING = only(
    horizontal_flip=True,
    vertical_flip=True,
    rotation_range=30,
    width_shift_range=0.1,
    height_shift_range=0.1,
    zoom_range=(0.7, 1.1),
    shear_range=10,
    brightness_range=(0.7, 1.3),
    contrast_range=(0.7, 1.3),
    saturation_range=(0.5, 1.5),
    hue_range=0.1,
    channel_shift_range=20,
    grayscale=0.2,
    random_erasing=0.5,
    random_resized_crop=(0.4, 1),
)
AUTO_EVERYTHING = EVERYTHING.model_copy(update={"auto": "rand", "rand_ops": 3})
COMPOSED = {
    "everything": EVERYTHING,
    "wide zoom": only(zoom_range=(1.2, 2), fill_mode="constant", cval=17),
    "nearest": only(rotation_range=180, height_shift_range=0.5),
    "wrap": only(width_shift_range=0.5, height_shift_range=0.5, fill_mode="wrap"),
}


def photos(num: int = 6, height: int = 9, width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), dtype=np.uint8)


def uniforms(num: int = 6, **fixed: float) -> np.ndarray:
    """Rows of draws; the columns in `fixed` hold one number."""
    rows = np.random.default_rng(1).random((num, len(DRAWS)), dtype=np.float32)
    for name, value in fixed.items():
        rows[:, DRAWS.index(name)] = value
    return rows


def views(augment: AugmentConfig, pixels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return augment_batch(augment, tf.constant(pixels), tf.constant(draws)).numpy()


# The twin.


def both_ways(limit: float, uniform: float) -> float:
    return limit * (2 * uniform - 1)


def within(bounds: tuple[float, float], uniform: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


def moved(u: dict[str, float], x: float, y: float, height: int, width: int) -> tuple[float, float]:
    """What TrivialAugment's operations on geometry do to a place."""
    strength = math.floor(31 * u["auto_magnitude"]) / 30 * (-1 if u["auto_sign_1"] < 0.5 else 1)
    match list(OPS)[math.floor(len(OPS) * u["auto_op_1"])]:
        case "shear_x":
            return x + 0.99 * strength * y, y
        case "shear_y":
            return x, y + 0.99 * strength * x
        case "shift_x":
            return x + strength * width / 7, y
        case "shift_y":
            return x, y + strength * height / 7
        case "rotation":
            angle = math.radians(135 * strength)
            return math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
    return x, y


def source(augment: AugmentConfig, u: dict[str, float], x: float, y: float, height: int, width: int) -> tuple:
    """The place in the input that an output pixel shows; one step after the other, from the centre."""
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    if augment.auto == "trivial":
        x, y = moved(u, x, y, height, width)
    x = -x if augment.horizontal_flip and u["horizontal_flip"] < 0.5 else x
    y = -y if augment.vertical_flip and u["vertical_flip"] < 0.5 else y
    zoom = augment.zoom_range if isinstance(augment.zoom_range, tuple) else (1 - augment.zoom_range, 1 + augment.zoom_range)
    x, y = x * within(zoom, u["zoom_width"]), y * within(zoom, u["zoom_height"])
    angle = math.radians(both_ways(augment.shear_range, u["shear"]))
    x, y = x - math.sin(angle) * y, math.cos(angle) * y
    x += width * both_ways(augment.width_shift_range, u["width_shift"])
    y += height * both_ways(augment.height_shift_range, u["height_shift"])
    angle = math.radians(both_ways(augment.rotation_range, u["rotation"]))
    x, y = math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
    x, y = x + width / 2, y + height / 2  # now from the corner of the image
    if augment.random_resized_crop:
        area = height * width * within(augment.random_resized_crop, u["crop_area"])
        low, high = augment.crop_ratio
        ratio = low * (high / low) ** u["crop_ratio"]
        crop_width, crop_height = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
        x = u["crop_left"] * (width - crop_width) + x * crop_width / width
        y = u["crop_top"] * (height - crop_height) + y * crop_height / height
    return x - 0.5, y - 0.5


def folded(place: float, size: int, fill_mode: str) -> float:
    """A coordinate outside of the image, brought inside."""
    if fill_mode == "reflect":
        place = (place + 0.5) % (2 * size)
        place = min(place, 2 * size - place) - 0.5
    if fill_mode == "wrap":  # TensorFlow does not blend the last pixel with the first
        place += size if place < 0 else -size if place > size - 1 else 0
    return place if fill_mode == "constant" else min(max(place, 0), size - 1)


def sample(image: np.ndarray, x: float, y: float, fill_mode: str, cval: float) -> np.ndarray:
    height, width = image.shape[:2]
    x, y = folded(x, width, fill_mode), folded(y, height, fill_mode)
    colour = np.zeros(3)
    for column in (math.floor(x), math.floor(x) + 1):
        for row in (math.floor(y), math.floor(y) + 1):
            inside = 0 <= column < width and 0 <= row < height
            weight = (1 - abs(x - column)) * (1 - abs(y - row))
            colour += weight * (image[row, column] if inside else cval)
    return colour


def recoloured(augment: AugmentConfig, u: dict[str, float], image: np.ndarray) -> np.ndarray:
    image = np.clip(image + both_ways(augment.channel_shift_range, u["channel_shift"]), image.min(), image.max())
    if augment.brightness_range:
        image = image * within(augment.brightness_range, u["brightness"])
    if augment.contrast_range:
        mean = (image @ LUMA).mean()
        image = mean + within(augment.contrast_range, u["contrast"]) * (image - mean)
    if augment.saturation_range:
        grey = (image @ LUMA)[..., None]
        image = grey + within(augment.saturation_range, u["saturation"]) * (image - grey)
    if u["grayscale"] < augment.grayscale:
        image = np.broadcast_to((image @ LUMA)[..., None], image.shape)
    angle = 2 * math.pi * both_ways(augment.hue_range, u["hue"])
    axis = np.full(3, 1 / math.sqrt(3))
    along = (image @ axis)[..., None] * axis
    return along + math.cos(angle) * (image - along) + math.sin(angle) * np.cross(axis, image)


def erased(augment: AugmentConfig, u: dict[str, float], image: np.ndarray) -> np.ndarray:
    """The box as `random_erasing` describes it, a pixel at a time."""
    height, width = image.shape[:2]
    area, ratio = (0.02 + 0.31 * u["erase_area"]) * height * width, 0.3 * (1 / 0.09) ** u["erase_ratio"]
    box_height, box_width = min(height, math.sqrt(area / ratio)), min(width, math.sqrt(area * ratio))
    top, left = u["erase_top"] * (height - box_height), u["erase_left"] * (width - box_width)
    found = image.copy()
    for y in range(height):
        for x in range(width):
            if u["erase"] < augment.random_erasing and top <= y + 0.5 < top + box_height and left <= x + 0.5 < left + box_width:
                found[y, x] = image.mean(axis=(0, 1))
    return found


def twin(augment: AugmentConfig, image: np.ndarray, row: np.ndarray) -> np.ndarray:
    """One image (h, w, 3) and its draws, in float64, unrounded."""
    u = {name: float(value) for name, value in zip(DRAWS, row, strict=True)}
    height, width = image.shape[:2]
    places = [[source(augment, u, x, y, height, width) for x in range(width)] for y in range(height)]
    warped = [[sample(image, x, y, augment.fill_mode, augment.cval) for x, y in line] for line in places]
    return np.clip(erased(augment, u, recoloured(augment, u, np.array(warped))), 0, 255)


# What each option does.


def test_cases_cover_every_field() -> None:
    assert {*CASES, *AUTO, "policy"} == set(AugmentConfig.model_fields)  # a policy is values for the others


@pytest.mark.parametrize("augment", [*CASES.values(), *COMPOSED.values()], ids=[*CASES, *COMPOSED])
def test_view_is_that_of_the_twin(augment: AugmentConfig) -> None:
    pixels, draws = photos(), uniforms()
    expected = np.array([twin(augment, image, row) for image, row in zip(pixels, draws, strict=True)])
    np.testing.assert_allclose(views(augment, pixels, draws), expected, rtol=0, atol=0.501)


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.change is None])
def test_what_auto_moves_is_moved_in_the_one_warp(op: str) -> None:
    augment = only(auto="trivial", horizontal_flip=True, rotation_range=30, zoom_range=0.3, random_resized_crop=(0.4, 1))
    pixels, draws = photos(), uniforms(auto_op_1=(list(OPS).index(op) + 0.5) / len(OPS))
    expected = np.array([twin(augment, image, row) for image, row in zip(pixels, draws, strict=True)])
    np.testing.assert_allclose(views(augment, pixels, draws), expected, rtol=0, atol=0.501)


@pytest.mark.parametrize("field", [*CASES, *AUTO])
def test_option_changes_the_view(field: str) -> None:
    pixels, draws, options = photos(), uniforms(), CASES | AUTO
    without = options[field].model_copy(update={field: AugmentConfig.model_fields[field].default})
    assert not is_identity(options[field])
    assert (views(options[field], pixels, draws) != views(without, pixels, draws)).any()


@pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning")
def test_geometry_is_that_of_image_data_generator() -> None:
    augment = only(rotation_range=30, width_shift_range=0.2, height_shift_range=0.2, zoom_range=0.3, shear_range=20)
    pixels, draws = photos(height=16, width=16), uniforms()
    for image, row, view in zip(pixels, draws, views(augment, pixels, draws), strict=True):
        u = dict(zip(DRAWS, row, strict=True))
        expected = idg(
            image,
            theta=both_ways(30, u["rotation"]),
            tx=16 * both_ways(0.2, u["width_shift"]),
            ty=16 * both_ways(0.2, u["height_shift"]),
            shear=both_ways(20, u["shear"]),
            zx=within((0.7, 1.3), u["zoom_width"]),
            zy=within((0.7, 1.3), u["zoom_height"]),
        )
        np.testing.assert_allclose(view, expected, rtol=0, atol=0.501)


def idg(image: np.ndarray, **transform: float) -> np.ndarray:
    function = tf.keras.preprocessing.image.apply_affine_transform
    return function(image.astype("float64"), row_axis=0, col_axis=1, channel_axis=2, **transform)


def test_channel_shift_is_that_of_image_data_generator() -> None:
    pixels, draws = photos(), uniforms()
    pixels[0] = pixels[0] // 2 + 40  # a picture of which neither black nor white is part
    for image, row, view in zip(pixels, draws, views(only(channel_shift_range=90), pixels, draws), strict=True):
        amount = both_ways(90, row[DRAWS.index("channel_shift")])
        expected = tf.keras.preprocessing.image.apply_channel_shift(image.astype("float64"), amount, channel_axis=2)
        np.testing.assert_allclose(view, expected, rtol=0, atol=0.501)


@pytest.mark.parametrize("zoom", [0.0, (1.0, 1.0)], ids=["mirrored", "warped"])
def test_flips_are_exact(zoom: float | tuple[float, float]) -> None:
    pixels = photos(4, 7, 10)
    draws = uniforms(4)
    draws[:, :2] = [[0.1, 0.9], [0.9, 0.1], [0.49, 0.49], [0.5, 0.5]]
    flipped = views(only(horizontal_flip=True, vertical_flip=True, zoom_range=zoom), pixels, draws)
    expected = [pixels[0, :, ::-1], pixels[1, ::-1], pixels[2, ::-1, ::-1], pixels[3]]
    np.testing.assert_array_equal(flipped, expected)


@pytest.mark.parametrize(("uniform", "turns"), [(0.25, -1), (0.5, 0), (0.75, 1), (0.0, 2)])
def test_rotation_by_a_right_angle_is_exact(uniform: float, turns: int) -> None:
    pixels = photos(2, 11, 11)
    turned = views(only(rotation_range=180), pixels, uniforms(2, rotation=uniform))
    np.testing.assert_array_equal(turned, np.rot90(pixels, turns, axes=(1, 2)))


def test_shift_by_whole_pixels_moves_them_and_fills_the_rest() -> None:
    pixels = photos(2, 8, 8)
    augment = only(width_shift_range=0.25, fill_mode="constant", cval=9)
    shifted = views(augment, pixels, uniforms(2, width_shift=1.0))
    np.testing.assert_array_equal(shifted[:, :, :6], pixels[:, :, 2:])
    assert (shifted[:, :, 6:] == 9).all()


def test_crop_is_crop_and_resize() -> None:
    pixels, side = photos(1, 16, 16), 16
    augment = only(random_resized_crop=(0.25, 0.25), crop_ratio=(1, 1))
    view = views(augment, pixels, uniforms(1, crop_left=0.25, crop_top=0.75))
    left, top, crop = 0.25 * 8, 0.75 * 8, 8
    # crop_and_resize names the centres of the box's first and last sample, in units of side - 1
    first, last = 0.5 * crop / side - 0.5, crop - 0.5 * crop / side - 0.5
    box = np.array([[top + first, left + first, top + last, left + last]]) / (side - 1)
    expected = tf.image.crop_and_resize(pixels, box.astype("float32"), [0], [side, side]).numpy()
    np.testing.assert_allclose(view, expected, rtol=0, atol=0.501)


def test_crop_stays_within_the_image() -> None:
    """But for half a pixel, by which the centres of enlarged border pixels lie outside: a quarter of a corner shows."""
    augment = only(random_resized_crop=(0.01, 1), crop_ratio=(0.2, 5), fill_mode="constant")
    white = np.full((200, 8, 12, 3), 255, np.uint8)
    assert views(augment, white, uniforms(200)).min() >= 255 // 4


def test_crop_covers_the_area_and_the_ratios_asked_for() -> None:
    """On an image whose red is x and whose green is y the crop's size can be read off."""
    ramp = np.zeros((400, 65, 65, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.meshgrid(3 * np.arange(65), 3 * np.arange(65))
    view = views(only(random_resized_crop=(0.1, 0.4)), ramp, uniforms(400)).astype(float)
    widths = (view[:, 32, 60, 0] - view[:, 32, 4, 0]) / 56 / 3
    heights = (view[:, 60, 32, 1] - view[:, 4, 32, 1]) / 56 / 3
    assert stats.kstest(widths * heights, stats.uniform(0.1, 0.3).cdf).pvalue > 0.01
    ratios = np.log(widths / heights)
    assert stats.kstest(ratios, stats.uniform(math.log(0.75), 2 * math.log(4 / 3)).cdf).pvalue > 0.01


def test_colours_at_their_landmarks() -> None:
    pixels, draws = photos(), uniforms()
    luma = pixels @ np.array(LUMA)
    halved = views(only(brightness_range=(0.5, 0.5)), pixels, draws)
    flat = views(only(contrast_range=(0, 0)), pixels, draws)
    grey = views(only(saturation_range=(0, 0)), pixels, draws)
    third = views(only(hue_range=1 / 3), pixels, uniforms(hue=1.0))
    np.testing.assert_allclose(halved, pixels / 2, atol=0.501)
    np.testing.assert_allclose(flat, np.broadcast_to(luma.mean((1, 2))[:, None, None, None], flat.shape), atol=0.501)
    np.testing.assert_allclose(grey, np.repeat(luma[..., None], 3, axis=-1), atol=0.501)
    np.testing.assert_array_equal(third, np.roll(pixels, 1, axis=-1))  # red becomes green


def test_grey_has_no_hue_and_no_saturation() -> None:
    grey = np.repeat(photos()[..., :1], 3, axis=-1)
    augment = only(saturation_range=(0, 3), hue_range=0.5)
    np.testing.assert_array_equal(views(augment, grey, uniforms()), grey)


def test_colours_beyond_the_range_are_clipped() -> None:
    pixels = np.array([[[[0, 100, 255]]]], np.uint8)
    bright = views(only(brightness_range=(3, 3)), pixels, uniforms(1))
    stark = views(only(saturation_range=(9, 9)), pixels, uniforms(1))
    assert bright.tolist() == [[[[0, 255, 255]]]]
    assert stark.tolist() == [[[[0, 198, 255]]]]


# What is off costs nothing.


def test_nothing_on_returns_the_very_pixels() -> None:
    pixels = tf.constant(photos())
    assert is_identity(only())
    assert augment_batch(only(), pixels, tf.constant(uniforms())) is pixels


def test_neutral_ranges_return_equal_pixels() -> None:
    neutral = only(
        zoom_range=(1, 1),
        brightness_range=(1, 1),
        contrast_range=(1, 1),
        saturation_range=(1, 1),
        random_resized_crop=(1, 1),
        crop_ratio=(1, 1),
    )
    pixels = photos(6, 10, 10)
    np.testing.assert_array_equal(views(neutral, pixels, uniforms()), pixels)


def graph_of(augment: AugmentConfig) -> list[tf.Operation]:
    specs = tf.TensorSpec((None, 8, 8, 3), tf.uint8), tf.TensorSpec((None, len(DRAWS)))
    graph = tf.function(lambda pixels, draws: augment_batch(augment, pixels, draws)).get_concrete_function(*specs).graph
    return graph.get_operations()


def operations(augment: AugmentConfig) -> list[str]:
    return [operation.type for operation in graph_of(augment)]


@pytest.mark.slow
def test_all_of_it_runs_on_the_cpu() -> None:
    """Where there is a GPU too: views are stored by a graph that tf.data has no part in."""
    made = [operation for operation in graph_of(AUTO_EVERYTHING) if operation.type not in ("Placeholder", "Identity", "NoOp")]
    assert len(made) > 100
    assert {operation.device for operation in made} == {"/device:CPU:0"}


def test_pixels_are_interpolated_once_and_only_where_needed() -> None:
    warp = "ImageProjectiveTransformV3"
    assert operations(EVERYTHING).count(warp) == 1
    assert warp not in operations(only(horizontal_flip=True, vertical_flip=True, hue_range=0.1))
    assert "BatchMatMulV2" in operations(only(hue_range=0.1))
    assert "BatchMatMulV2" not in operations(only(rotation_range=10))
    assert "Mean" not in operations(only(brightness_range=(0.5, 1)))


# Reproducible to the bit.


def stream(augment: AugmentConfig, *, seed: int = 0, epoch: int = 0, batch_size: int = 8, threads: int = 1) -> np.ndarray:
    """The views of 40 images as a pipeline makes them; so large that a last digit of their places moves some pixel."""
    images = tf.constant(photos(40, 64, 64))
    numbers = tf.data.Dataset.range(40).map(lambda i: (i, draw(seed, tf.constant(epoch, tf.int64), i)), num_parallel_calls=threads)
    batches = numbers.batch(batch_size).map(
        lambda i, draws: augment_batch(augment, tf.gather(images, i), draws), num_parallel_calls=threads
    )
    return np.concatenate(list(batches.as_numpy_iterator()))


@pytest.fixture(scope="module")
def streamed() -> np.ndarray:
    return stream(EVERYTHING)


@pytest.mark.slow
def test_views_of_auto_are_the_same_for_every_batch_size_and_number_of_threads() -> None:
    """Its images are sorted by operation, batch by batch."""
    whole = stream(AUTO_EVERYTHING)
    np.testing.assert_array_equal(stream(AUTO_EVERYTHING, batch_size=1), whole)
    np.testing.assert_array_equal(stream(AUTO_EVERYTHING, batch_size=13, threads=4), whole)


@pytest.mark.slow
def test_views_are_the_same_for_every_batch_size_and_number_of_threads(streamed: np.ndarray) -> None:
    np.testing.assert_array_equal(stream(EVERYTHING, batch_size=1), streamed)
    np.testing.assert_array_equal(stream(EVERYTHING, batch_size=13, threads=4), streamed)


def test_views_differ_between_seeds_and_epochs(streamed: np.ndarray) -> None:
    for other in (stream(EVERYTHING, seed=1), stream(EVERYTHING, epoch=1)):
        assert (other != streamed).any(axis=(1, 2, 3)).all()


def test_graph_is_eager() -> None:
    pixels, draws = tf.constant(photos()), tf.constant(uniforms())
    graph = tf.function(augment_batch)(EVERYTHING, pixels, draws)
    np.testing.assert_array_equal(graph, augment_batch(EVERYTHING, pixels, draws))


@pytest.mark.parametrize("augment", [CASES["horizontal_flip"], EVERYTHING], ids=["flip", "everything"])
def test_result_has_the_shape_and_type_of_the_pixels(augment: AugmentConfig) -> None:
    specs = tf.TensorSpec((None, 5, 7, 3), tf.uint8), tf.TensorSpec((None, len(DRAWS)))
    function = tf.function(lambda pixels, draws: augment_batch(augment, pixels, draws)).get_concrete_function(*specs)
    assert function.output_shapes == tf.TensorShape((None, 5, 7, 3))
    assert function.output_dtypes == tf.uint8
