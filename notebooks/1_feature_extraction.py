# %% [markdown]
# # Feature extraction
#
# A network that learned one task has learned to see. For another task we keep it as it is, *frozen*, and train only a new last
# layer on what it makes of each image, its *features*. That takes seconds and needs few images.
#
# Here the network is `small_resnet`, which ships with this package and learned CIFAR-10: airplanes, cats, ships. The new task is
# handwritten digits, which have little in common with those. Everything runs without a network connection.

# %%
import csv
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from tl_keras import train

work = Path("work/feature_extraction")
shutil.rmtree(work, ignore_errors=True)

# %% [markdown]
# ## The images
#
# The package reads a folder that holds one folder per class. We write scikit-learn's 1,797 digits that way.

# %%
digits = load_digits()
photos = work / "photos"
for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    (photos / str(label)).mkdir(parents=True, exist_ok=True)
    plt.imsave(photos / str(label) / f"{number:04d}.png", image, cmap="gray_r")

figure, axes = plt.subplots(2, 10, figsize=(10, 2.2))
for axis, image, label in zip(axes.flat, digits.images, digits.target, strict=False):
    axis.imshow(image, cmap="gray_r")
    axis.set_title(label, fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Train the head
#
# `mode="extract"` runs every image once through the frozen network, stores the features, and solves a linear classifier on them
# to its optimum. There is no learning rate to choose. The strength of its regularisation is the best on the validation split.

# %%
frozen = train(mode="extract", data=photos, run_dir=work / "frozen")


def described(metrics):
    """The accuracy on test, with its 95 % interval."""
    low, high = metrics["test"]["accuracy_ci95"]
    return f"{metrics['test']['accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f})"


print("test accuracy", described(frozen))

# %% [markdown]
# The test split was read once, at the end. With its 269 images the accuracy is known to within a few points: that is what the
# interval says.
#
# ## Which digits are confused?
#
# The run folder holds a picture of it, and a line for each test image in `predictions.csv`.

# %%
figure, axis = plt.subplots(figsize=(6, 5))
axis.imshow(plt.imread(work / "frozen" / "confusion.png"))
axis.axis("off")
plt.show()

# %%
with open(work / "frozen" / "predictions.csv") as file:
    lines = list(csv.DictReader(file))
wrong = [line for line in lines if line["true_class"] != line["predicted_class"]]
print(f"{len(wrong)} of {len(lines)} are wrong")

figure, axes = plt.subplots(1, 8, figsize=(10, 1.8))
for axis in axes:
    axis.axis("off")
for axis, line in zip(axes, wrong, strict=False):
    axis.imshow(plt.imread(photos / line["path"]))
    axis.set_title(f"{line['true_class']} taken for {line['predicted_class']}", fontsize=7)
plt.show()

# %% [markdown]
# ## A second run computes nothing
#
# Features are stored by the content of the images. Another run on the same images starts from them: the metrics count
# the images that went through the network in this run. (If you have run this notebook before, it is none in the first run, too.)

# %%
again = train(mode="extract", data=photos, seed=1, run_dir=work / "again")
for name, metrics in (("first run", frozen), ("second run", again)):
    print(f"{name}: {metrics['features']['computed']} images computed, test accuracy {metrics['test']['accuracy']:.3f}")

# %% [markdown]
# The seed changes nothing here: the head is solved, not trained by random steps.
#
# ## What the head should see
#
# By default the head sees the averages of all stages of the network. Those of the lower stages still show edges and strokes. What if
# it sees the last stage only, which has learned airplanes and cats?

# %%
last = train(mode="extract", data=photos, settings={"features.stages": "last"}, run_dir=work / "last_stage")

# %%
names, runs = ("last stage", "all stages"), (last, frozen)
accuracies = [metrics["test"]["accuracy"] for metrics in runs]
below = [value - metrics["test"]["accuracy_ci95"][0] for value, metrics in zip(accuracies, runs, strict=True)]
above = [metrics["test"]["accuracy_ci95"][1] - value for value, metrics in zip(accuracies, runs, strict=True)]

figure, axis = plt.subplots(figsize=(5, 2))
axis.errorbar(accuracies, names, xerr=[below, above], fmt="o", capsize=4)
axis.set_xlabel("test accuracy, with its 95 % interval")
axis.set_ylim(-0.5, 1.5)
axis.grid(axis="x", alpha=0.3)
plt.show()

for name, metrics in zip(names, runs, strict=True):
    print(f"{name}: {described(metrics)}")

# %% [markdown]
# With photos of your own, take a network that learned ImageNet:
#
# ```python
# train(mode="extract", data="photos/", backbone="mobilenet_v2")
# ```
#
# Next: `2_finetuning`, which trains the network too.
