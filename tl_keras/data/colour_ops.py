"""Changes of colour and sharpness with the definitions of Pillow, on batches: the material of TrivialAugment and RandAugment.

Each takes images, uint8 `(n, h, w, 3)`, and how much of it each of them gets, float32 `(n,)`, and returns uint8 `(n, h, w, 3)`. Where
Pillow cuts off the digits of a blend these round, which is one grey level at most.
"""

import tensorflow as tf

LUMA = (0.299, 0.587, 0.114)  # the grey of a colour, ITU-R BT.601


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0 is black, 1 the image."""
    return _blend(tf.zeros(()), images, factor)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0 is the image's mean grey, 1 the image."""
    return _blend(tf.round(tf.reduce_mean(_grey(images), axis=(1, 2), keepdims=True)), images, factor)


def saturation(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0 is a grey image, 1 the image; the papers call it color."""
    return _blend(_grey(images), images, factor)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0 is a smoothed image, 1 the image, 2 a sharpened one; the outermost pixels stay as they are."""
    pixels = tf.cast(images, tf.float32)
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]  # (n, h - 2, w, 3)
    neighbours = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]  # (n, h - 2, w - 2, 3): each pixel with its eight neighbours
    inner = pixels[:, 1:-1, 1:-1]
    smooth = tf.round((neighbours + 4.0 * inner) / 13.0)  # the pixel itself counts five times
    detail = tf.pad(inner - smooth, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return _to_uint8(pixels + (_of_images(factor) - 1.0) * detail)


def posterize(images: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the highest bits of each value, 8 at most."""
    dropped = 2 ** (8 - tf.cast(tf.round(bits), tf.int32))
    return tf.bitwise.bitwise_and(images, _of_images(tf.cast(256 - dropped, tf.uint8)))


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the values from a threshold up; from 256 up there are none."""
    return tf.where(tf.cast(images, tf.float32) < _of_images(threshold), images, 255 - images)


def autocontrast(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to 0..255; a channel of one value stays as it is."""
    values = tf.cast(images, tf.int32)
    low, high = (extreme(values, axis=(1, 2), keepdims=True) for extreme in (tf.reduce_min, tf.reduce_max))
    stretched = (values - low) * 255 // tf.maximum(high - low, 1)
    return tf.cast(tf.where(high > low, stretched, values), tf.uint8)


def equalize(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Spreads the values of each channel so that all are about equally frequent."""
    num = tf.shape(images)[0]
    channels = 256 * (3 * tf.range(num)[:, None, None, None] + tf.range(3))  # (n, 1, 1, 3): where the values of a channel are counted
    places = tf.cast(images, tf.int32) + channels
    counts = tf.reshape(tf.math.bincount(tf.reshape(places, [-1]), minlength=num * 768), [num, 3, 256])
    brightest = tf.gather(counts, tf.cast(tf.reduce_max(images, axis=(1, 2)), tf.int32), batch_dims=2)
    step = ((tf.reduce_sum(counts, axis=-1) - brightest) // 255)[..., None]  # pixels for each new value
    darker = tf.cumsum(counts, axis=-1, exclusive=True)
    spread = tf.minimum((step // 2 + darker) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, spread, tf.range(256))  # (n, 3, 256)
    return tf.gather(tf.reshape(tf.cast(table, tf.uint8), [-1]), places)


def _blend(end: tf.Tensor, images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """From what 0 is, through the image at 1, and beyond."""
    return _to_uint8(end + _of_images(factor) * (tf.cast(images, tf.float32) - end))


def _grey(images: tf.Tensor) -> tf.Tensor:
    """Float32 `(n, h, w, 1)`."""
    return tf.round(tf.reduce_sum(tf.cast(images, tf.float32) * LUMA, axis=-1, keepdims=True))


def _of_images(amount: tf.Tensor) -> tf.Tensor:
    return amount[:, None, None, None]


def _to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.round(pixels), tf.uint8)
