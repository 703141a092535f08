"""The architecture of the backbone that ships with this package: a residual network for 32-pixel images.

It is small enough to train on two CPU cores and to travel in a wheel (under 2 MB), and takes its details from
ResNet-D (He et al. 2018, arXiv:1812.01187): average pooling in the shortcut of a block that halves the resolution,
so that no activation is thrown away, and the last BatchNorm of each block starts at zero, so that a block starts as
the identity (Goyal et al. 2017, arXiv:1706.02677). The signature is that of `keras.applications`.
"""

from typing import Any

import keras
from keras import layers

STAGES = ((16, 1), (64, 1), (128, 1))  # (width, number of residual blocks); each stage after the first halves the image


def _conv_norm(x: Any, width: int, kernel: int, name: str, *, starts_at_zero: bool = False) -> Any:
    x = layers.Conv2D(width, kernel, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv")(x)
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer="zeros" if starts_at_zero else "ones", name=f"{name}_bn"
    )(x)


def _block(x: Any, width: int, *, halve: bool, name: str) -> Any:
    shortcut = x
    if halve:
        x = shortcut = layers.AveragePooling2D(2, name=f"{name}_pool")(x)
    if shortcut.shape[-1] != width:
        shortcut = _conv_norm(shortcut, width, 1, f"{name}_0")
    x = _conv_norm(x, width, 3, f"{name}_1")
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = _conv_norm(x, width, 3, f"{name}_2", starts_at_zero=True)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=name if name.endswith("_out") else f"{name}_relu")(x)


def SmallResNet(include_top: bool = False, weights: str | None = None, input_tensor: Any = None) -> keras.Model:  # noqa: N802
    """Build the network with random weights.

    Args:
        include_top: only False is known: a head belongs to a task.
        weights: only None is known: `models.backbone_loading` owns files.
        input_tensor: preprocessed images, float32 (b, h, w, 3) in [0, 1], h and w at least 16 pixels.

    Returns:
        A model from `input_tensor`'s inputs to the feature map of the last stage, float32 (b, h // 4, w // 4, 128).
    """
    if include_top or weights is not None:
        raise ValueError(f"SmallResNet builds a backbone with random weights; got include_top={include_top}, weights={weights!r}.")
    x = _conv_norm(input_tensor, STAGES[0][0], 3, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for number, (width, num_blocks) in enumerate(STAGES, start=1):
        for block in range(1, num_blocks + 1):
            last = block == num_blocks
            name = f"stage{number}_out" if last else f"stage{number}_block{block}"
            x = _block(x, width, halve=number > 1 and block == 1, name=name)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x, name="small_resnet")
