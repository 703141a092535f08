"""Random views of training images: one warp, one colour matrix, reproducible to the bit.

Owns what `data.augment` means: the order of everything, and the geometry; `draws`, `colour`, `auto_augment` and `erasing`
are parts of it. Names, units and the order of the geometry are those of Keras' `ImageDataGenerator` (IDG), where it has
the option. It must not know files, caches or labels; `pipeline.py` draws per image, calls `augment_batch` per batch and
hands the pixels to the model.

All geometry of an image is composed into one matrix, so pixels are interpolated once (bilinear) whatever is switched
on; brightness, contrast, saturation and hue are one 3x3 matrix and one offset, so they are clipped and rounded once. As
in IDG, `zoom_range` zooms each axis by its own factor. Where this differs from IDG: shifts are always fractions, a pixel
between the border and the `constant` fill is a mix of both, brightness does not stretch its result to 0..255, and the
view of an image depends on nothing but (seed, epoch, index).
"""

from collections.abc import Sequence
from functools import reduce

import tensorflow as tf

from tl_keras.config import AugmentConfig
from tl_keras.data import auto_augment
from tl_keras.data.affine import affine, product
from tl_keras.data.boxes import random_sides
from tl_keras.data.colour import recolour, shift_values
from tl_keras.data.draws import Draws, Pair, angle, between, by_name
from tl_keras.data.erasing import erase
from tl_keras.data.precise import precise

CONTRACT = 2  # which views these are; goes up with any change of this or its parts that moves a pixel


def is_identity(augment: AugmentConfig) -> bool:
    """Whether every option is off, so that `augment_batch` would return the pixels it got."""
    return not (_has_flip(augment) or _changes_pixels(augment))


def augment_batch(augment: AugmentConfig, pixels: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """One random view of each image; what is off costs nothing.

    Args:
        pixels: uint8 `(b, h, w, 3)`.
        draws: float32 `(b, len(DRAWS))`, rows of `draw`.

    Returns:
        uint8 `(b, h, w, 3)`.
    """
    if is_identity(augment):
        return pixels
    with tf.device("/CPU:0"):  # as within tf.data; on a GPU nothing counts grey levels, as `equalize` does, deterministically
        return tf.ensure_shape(_views(augment, pixels, by_name(draws)), pixels.shape)


def _views(augment: AugmentConfig, pixels: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Everything that is on, in its order: what moves pixels, what changes their colours, what hides some."""
    if not _has_warp(augment):
        pixels = _mirror(augment, pixels, draws)
    if not _changes_pixels(augment):
        return pixels
    images, layers = tf.cast(pixels, tf.float32), auto_augment.layers(augment, draws)
    if _has_warp(augment):
        images = _warp(augment, images, draws, layers)
    if augment.channel_shift_range:
        images = shift_values(augment.channel_shift_range, images, draws)
    if layers:
        images = _recolour_in_layers(images, layers)
    if _has_colour(augment):
        images = recolour(augment, images, draws)
    if augment.random_erasing:
        images = erase(augment.random_erasing, images, draws)
    return _to_uint8(images)


def _to_uint8(images: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.round(images), tf.uint8)


def _has_flip(augment: AugmentConfig) -> bool:
    return augment.horizontal_flip or augment.vertical_flip


def _changes_pixels(augment: AugmentConfig) -> bool:
    """Whether pixels get new values, and not only new places."""
    return bool(_has_warp(augment) or augment.channel_shift_range or _has_colour(augment) or augment.random_erasing)


def _has_warp(augment: AugmentConfig) -> bool:
    """Whether pixels must be interpolated; flips alone need not."""
    return any(
        (
            augment.rotation_range,
            augment.width_shift_range,
            augment.height_shift_range,
            augment.zoom_range,
            augment.shear_range,
            augment.random_resized_crop,
            augment.auto != "none",
        )
    )


def _has_colour(augment: AugmentConfig) -> bool:
    """Whether there is a change of colour that is one matrix and one offset."""
    return any((augment.brightness_range, augment.contrast_range, augment.saturation_range, augment.hue_range, augment.grayscale))


def _mirror(augment: AugmentConfig, pixels: tf.Tensor, draws: Draws) -> tf.Tensor:
    """The flips of `_flip` without a warp, which gives the same pixels at a quarter of the speed."""
    for name, axis in (("horizontal_flip", 2), ("vertical_flip", 1)):
        if getattr(augment, name):  # Select takes or leaves whole images; tf.where would choose pixel by pixel
            pixels = tf.raw_ops.Select(condition=_flips(draws[name]), x=tf.reverse(pixels, [axis]), y=pixels)
    return pixels


def _warp(augment: AugmentConfig, images: tf.Tensor, draws: Draws, layers: Sequence[auto_augment.Layer]) -> tf.Tensor:
    """Samples float32 `(b, h, w, 3)` once, bilinearly, through the composed matrix."""
    size = tf.shape(images)[1:3]
    height, width = tf.unstack(tf.cast(size, tf.float32))
    matrices = _centred(_geometry(augment, height, width, draws, layers), height, width)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.reshape(matrices, [-1, 9])[:, :8],  # the ninth is 1
        output_shape=size,
        fill_value=tf.constant(augment.cval, tf.float32),
        interpolation="BILINEAR",
        fill_mode=augment.fill_mode.upper(),
    )


def _geometry(augment: AugmentConfig, height: tf.Tensor, width: tf.Tensor, draws: Draws, layers: Sequence[auto_augment.Layer]) -> tf.Tensor:
    """`(b, 3, 3)`: from an output pixel to the input pixel it shows, both (x, y, 1) from the image's centre.

    Read from the right: the output is moved as `auto` says, flipped, zoomed, sheared, shifted and rotated as IDG does
    (its last step on the picture is the flip), inside the frame of the crop. Beyond the crop lies the rest of the image,
    not the fill.
    """
    steps = [
        _rotation(augment, draws),
        _shift(augment, height, width, draws),
        _shear(augment, draws),
        _zoom(augment, draws),
        _flip(augment, draws),
        *(auto_augment.matrix(layer, height, width) for layer in layers),
    ]
    if augment.random_resized_crop is not None:
        steps.insert(0, _crop(augment.random_resized_crop, augment.crop_ratio, height, width, draws))
    return reduce(product, steps)


def _centred(matrices: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The same maps between pixel indices; the centre lies at ((w - 1) / 2, (h - 1) / 2), which makes flips exact."""
    x, y = (width - 1) / 2, (height - 1) / 2
    to_index, from_index = affine(1.0, 0.0, x, 0.0, 1.0, y), affine(1.0, 0.0, -x, 0.0, 1.0, -y)
    return product(product(to_index, matrices), from_index)


def _flip(augment: AugmentConfig, draws: Draws) -> tf.Tensor:
    """Mirrors half of the images along each enabled axis."""
    x, y = (tf.where(_flips(draws[name]), -1.0, 1.0) if getattr(augment, name) else 1.0 for name in ("horizontal_flip", "vertical_flip"))
    return affine(x, 0.0, 0.0, 0.0, y, 0.0)


def _flips(uniform: tf.Tensor) -> tf.Tensor:
    return uniform < 0.5


def _zoom(augment: AugmentConfig, draws: Draws) -> tf.Tensor:
    """Each axis by its own factor, as IDG: below 1 enlarges the content, above 1 shrinks it."""
    zoom = augment.zoom_range
    low, high = zoom if isinstance(zoom, tuple) else (1 - zoom, 1 + zoom)
    x, y = (between(low, high, draws[name]) for name in ("zoom_width", "zoom_height"))
    return affine(x, 0.0, 0.0, 0.0, y, 0.0)


def _shear(augment: AugmentConfig, draws: Draws) -> tf.Tensor:
    """Slides rows along x; IDG's matrix, which also makes the content taller, by 1 / cos."""
    slant = angle(augment.shear_range, draws["shear"])
    return affine(1.0, -precise(tf.sin, slant), 0.0, 0.0, precise(tf.cos, slant), 0.0)


def _shift(augment: AugmentConfig, height: tf.Tensor, width: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Fractions of the side, both ways."""
    x = between(-1.0, 1.0, draws["width_shift"]) * augment.width_shift_range * width
    y = between(-1.0, 1.0, draws["height_shift"]) * augment.height_shift_range * height
    return affine(1.0, 0.0, x, 0.0, 1.0, y)


def _rotation(augment: AugmentConfig, draws: Draws) -> tf.Tensor:
    """About the centre, both ways."""
    turn = angle(augment.rotation_range, draws["rotation"])
    cos, sin = precise(tf.cos, turn), precise(tf.sin, turn)
    return affine(cos, -sin, 0.0, sin, cos, 0.0)


def _crop(areas: Pair, ratios: Pair, height: tf.Tensor, width: tf.Tensor, draws: Draws) -> tf.Tensor:
    """A box of random area and aspect, stretched over the image: the random resized crop, at subpixel places.

    Reference: Szegedy et al. 2014, arXiv:1409.4842, section 6.
    """
    crop_height, crop_width = random_sides(areas, ratios, height, width, draws["crop_area"], draws["crop_ratio"])
    # how far the crop's centre lies from the image's: up to half of the room that is left, both ways
    x = between(-0.5, 0.5, draws["crop_left"]) * (width - crop_width)
    y = between(-0.5, 0.5, draws["crop_top"]) * (height - crop_height)
    return affine(crop_width / width, 0.0, x, 0.0, crop_height / height, y)


def _recolour_in_layers(images: tf.Tensor, layers: Sequence[auto_augment.Layer]) -> tf.Tensor:
    """What `auto` does to colours, which Pillow defines on 8-bit pixels."""
    pixels = reduce(lambda before, layer: auto_augment.recolour(layer, before), layers, _to_uint8(images))
    return tf.cast(pixels, tf.float32)
