"""Augmentation by name: each policy is values for other settings of `data.augment`, which give way to those that are given.

None of them mirrors images: what has a left and a right, such as digits and text, would become something else.
"""

from typing import Any

POLICY = "data.augment.policy"  # the setting that names one

POLICIES: dict[str, dict[str, Any]] = {
    "none": {"random_resized_crop": None},
    "light": {
        "random_resized_crop": (0.6, 1.0),
        "brightness_range": (0.8, 1.2),
        "contrast_range": (0.8, 1.2),
        "saturation_range": (0.8, 1.2),
    },
    "crop": {},  # the defaults of the settings
    "trivial": {"auto": "trivial"},
    "strong": {"random_resized_crop": (0.08, 1.0), "auto": "rand", "random_erasing": 0.25},  # as ImageNet is trained on, but for the flip
}
DEFAULT_POLICY = "crop"
