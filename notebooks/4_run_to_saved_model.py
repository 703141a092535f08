# %% [markdown]
# # From a run to a SavedModel
#
# A run folder is all that later steps need. This story takes one from training to a model that a server can load with nothing but
# TensorFlow installed.

# %%
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from tl_keras import evaluate, export, predict, train

work = Path("work/run_to_saved_model")
shutil.rmtree(work, ignore_errors=True)

# %% [markdown]
# ## A run
#
# We keep 200 digits aside. They play the photos that arrive after training.

# %%
digits = load_digits()
for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    folder = work / ("later" if number >= 1597 else "photos") / str(label)
    folder.mkdir(parents=True, exist_ok=True)
    plt.imsave(folder / f"{number:04d}.png", image, cmap="gray_r")

run = work / "run"
metrics = train(mode="extract", data=work / "photos", run_dir=run)
print("in the run folder:", ", ".join(sorted(path.name for path in run.iterdir() if not path.name.startswith("."))))

# %% [markdown]
# ## Measure it on other images
#
# The later images are labelled too, so we can measure. Images that the run has learned from would be recognised by their content
# and left out.

# %%
later = evaluate(run, data=work / "later")
for name, found in (("test split", metrics), ("later images", later)):
    low, high = found["test"]["accuracy_ci95"]
    print(f"{name:13} accuracy {found['test']['accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f})")

# %% [markdown]
# The digits come in the order of their writers, so the later ones were mostly written by other people. A figure on images from
# another source is the honest one.
#
# ## Classify files
#
# `predict` takes files, folders and globs. A file that cannot be read gets an `error` and does not end the loop.

# %%
(work / "later" / "broken.png").write_bytes(b"this is not an image")
found = list(predict(run, [str(work / "later" / "*.png"), str(work / "later" / "3")]))
for one in found[:4]:
    print(one.error or f"{one.path}: {one.label} with probability {one.probability:.2f}")

# %%
least_sure = sorted((one for one in found if one.error is None), key=lambda one: one.probability)[:4]
figure, axes = plt.subplots(2, 4, figsize=(9, 3.6), height_ratios=[1, 1.2])
for (top, bottom), one in zip(axes.T, least_sure, strict=True):
    top.imshow(plt.imread(one.path))
    top.axis("off")
    bottom.bar(list(one.probabilities), list(one.probabilities.values()))
    bottom.set_ylim(0, 1)
    bottom.tick_params(labelsize=7)
axes[0, 0].set_title("the four threes that it is least sure of", fontsize=9, loc="left")
plt.tight_layout()
plt.show()

# %% [markdown]
# ## Export
#
# The SavedModel has preprocessing, resizing and the names of the classes inside. Before it appears, a process without Keras and
# without this package loads it and compares its answers with the model's.

# %%
found = export(run)
differences = found["formats"]["saved_model"]["largest_difference"]
print("compared on", len(found["images"]), "images; largest difference of a probability:", differences)

# %% [markdown]
# ## Use it without this package
#
# From here on, TensorFlow is enough. The signature `bytes` takes encoded files as they come from a camera or a browser.

# %%
served = tf.saved_model.load(f"{found['folder']}/saved_model").signatures["bytes"]
files = [one.path for one in least_sure]
answer = served(bytes=tf.constant([Path(file).read_bytes() for file in files]))
for file, name, probability in zip(files, answer["class"].numpy(), answer["probability"].numpy(), strict=True):
    print(f"{Path(file).name}: {name.decode()} with probability {probability:.2f}")

# %%
mine = np.array([list(one.probabilities.values()) for one in least_sure])
print(f"largest difference from `predict`: {np.abs(mine - answer['probabilities'].numpy()).max():.1e}")

# %% [markdown]
# The other signatures take pixels: `serving_default` float32 at the size of the model, `uint8` at any size. `docs/deploying.md`
# has the table.
