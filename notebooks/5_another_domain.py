# %% [markdown]
# # Another domain
#
# A classifier learned from clean images, and must work on images from another camera, of which none has a label. `adapt` takes the
# labelled images and a folder of the others, and fits the classifier to them.

# %%
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tl_keras import adapt, predict

work = Path("work/another_domain")
shutil.rmtree(work, ignore_errors=True)

# %% [markdown]
# ## Two domains
#
# The first 900 digits are the source: clean, with labels. The rest were mostly written by other people. They become three targets: with
# noise, moved by an eighth of their width, and white on black.

# %%
digits, draws = load_digits(), np.random.default_rng(0)


def save(folder, number, pixels, label):
    path = work / folder / str(label) / f"{number:04d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image.resize((32, 32), Image.Resampling.BICUBIC).save(path)
    return path


examples = {}
for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    pixels = 255 - image * 255 / 16
    if number < 900:
        seen = {"clean": pixels}
    else:
        seen = {"noisy": pixels + draws.normal(0, 60, pixels.shape), "moved": np.roll(pixels, 1, axis=1), "inverted": 255 - pixels}
    for name, each in seen.items():
        examples.setdefault(name, []).append(save(name, number, each, label))

figure, axes = plt.subplots(4, 10, figsize=(9, 3.8))
for row, (name, paths) in zip(axes, examples.items(), strict=True):
    for axis, path in zip(row, paths[:10], strict=True):
        axis.imshow(plt.imread(path), cmap="gray", vmin=0, vmax=1)
        axis.axis("off")
    row[0].set_title(name, fontsize=9, loc="left")
plt.show()

# %% [markdown]
# ## In seconds: a head that labels the target itself
#
# Here the targets have labels as well. They are read once, at the end, to tell how well it went; training and choosing never see them.
# `source_only` is the classifier that was not adapted. `self_training` leaves the backbone's weights as they are, and a head learns from
# target images that it labels itself, the surest first.

# %%
fast = {"adapt.method": "self_training"}
for name in ("noisy", "moved", "inverted"):
    found = adapt(data=work / "clean", target=work / name, image_size=32, run_dir=work / f"fast_{name}", settings=fast)["target"]
    print(f"{name:9}", *(f"{method} {figures['accuracy']:.3f}  " for method, figures in found["figures"].items()))

# %% [markdown]
# ## In a minute or two: both domains train the network
#
# `auto`, the default, does that first, and then trains the upper stages of the backbone on both domains with `mcc`. The epoch that is
# kept is chosen without labels, and so is whether the trained network takes the place of the head. It takes longer; ten epochs do here.

# %%
run = work / "trained"
found = adapt(data=work / "clean", target=work / "noisy", image_size=32, run_dir=run, settings={"train.epochs": 10})["target"]
print("kept:", found["method"])
print("noisy    ", *(f"{method} {figures['accuracy']:.3f}  " for method, figures in found["figures"].items()))

# %% [markdown]
# What the domains look like to the network, before and after: the picture is in the run folder.

# %%
plt.figure(figsize=(9, 4.5))
plt.imshow(plt.imread(run / "domains.png"))
plt.axis("off")
plt.show()

# %% [markdown]
# ## The result is a run like others
#
# `predict`, `evaluate` and `export` take it, and nothing has to be done to an image first. It is made for the target: it is no longer
# meant for clean digits.

# %%
for one in list(predict(run, [str(work / "noisy" / "7")]))[:4]:
    print(f"{one.path}: {one.label} with probability {one.probability:.2f}")

# %% [markdown]
# ## What to take from this
#
# A mild shift is followed almost whole, in seconds. Where most predictions start out wrong, as with white on black, there is little to
# start from: no method without labels gets far, and the honest advice is to label some of the target's images. `docs/adapting.md` has
# the methods, their rules and figures on photos and sketches.
