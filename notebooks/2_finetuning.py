# %% [markdown]
# # Finetuning
#
# Feature extraction leaves the network as it is. Finetuning goes on from there: first the head is solved on frozen features, then
# the upper layers train together with it, slowly, so that they adapt and do not forget.
#
# When does it pay? We take few labels, 10 images per digit, and compare three ways: from scratch, frozen, finetuned.

# %%
import csv
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from tl_keras import Progress, train

work = Path("work/finetuning")
shutil.rmtree(work, ignore_errors=True)

# %% [markdown]
# ## Few images, many to test on
#
# We cut the splits ourselves: folders `train`, `val` and `test`, with the classes inside. Ten images per class to learn from, ten
# to choose by, fifty to test on. They are shuffled first, since the digits come in the order of those who wrote them.

# %%
digits = load_digits()
photos = work / "photos"
generator = np.random.default_rng(0)
for label in range(10):
    images = generator.permutation(digits.images[digits.target == label])
    for split, chosen in (("train", images[:10]), ("val", images[10:20]), ("test", images[20:70])):
        folder = photos / split / str(label)
        folder.mkdir(parents=True)
        for number, image in enumerate(chosen):
            plt.imsave(folder / f"{number:02d}.png", image, cmap="gray_r")

# %% [markdown]
# ## Three ways to train
#
# `pretrain` starts from random weights, `extract` trains a head on the frozen network, `finetune` trains both. Epochs, rates and
# what is unfrozen are chosen for the number of images; `config.yaml` in each run folder says what they were. `Progress()` says nothing
# while the first one runs.
#
# One default does not suit digits: the random crop. A digit that is cut off may be another one, so we switch it off.

# %%
whole = {"data.augment.random_resized_crop": None}
scratch = train(mode="pretrain", data=photos, settings=whole | {"model.weights": "none"}, run_dir=work / "scratch", progress=Progress())

# %%
frozen = train(mode="extract", data=photos, run_dir=work / "frozen")

# %%
tuned = train(mode="finetune", data=photos, settings=whole, run_dir=work / "tuned")

# %%
runs = {"from scratch": scratch, "frozen": frozen, "finetuned": tuned}
accuracies = np.array([metrics["test"]["accuracy"] for metrics in runs.values()])
intervals = np.array([metrics["test"]["accuracy_ci95"] for metrics in runs.values()])

figure, axis = plt.subplots(figsize=(6, 2.4))
axis.errorbar(accuracies, list(runs), xerr=np.abs(intervals.T - accuracies), fmt="o", capsize=4)
axis.set_xlabel("accuracy on 500 test images, with its 95 % interval")
axis.set_ylim(-0.5, 2.5)
axis.grid(axis="x", alpha=0.3)
plt.show()

for name, metrics in runs.items():
    print(f"{name:13} {metrics['test']['accuracy']:.3f}  {metrics['timing']['total_s']:.0f} s")

# %% [markdown]
# The network learned airplanes, cats and ships, and yet it helps with digits: edges are edges. Whether finetuning adds to the frozen
# network, these 500 test images cannot tell: the two intervals overlap almost entirely. With a network that learned photos, and more
# images, it does: on 600 photos of flowers it takes MobileNetV2 from 87.5 to 92.7 % (see the README).
#
# ## How it went
#
# `history.csv` has a line per epoch. Epoch 0 is the solved head, before anything else trained. If no epoch had been better on
# val, the run would have kept it.

# %%
with open(work / "tuned" / "history.csv") as file:
    epochs = [line for line in csv.DictReader(file) if line["phase"] == "finetune"]
print(f"{len(epochs)} epochs; the last: {epochs[-1]}")

figure, axis = plt.subplots(figsize=(9, 4.5))
axis.imshow(plt.imread(work / "tuned" / "curves.png"))
axis.axis("off")
plt.show()

# %% [markdown]
# ## Which digits did it help with?
#
# Recall per class: of the images of a digit, how many were recognised.

# %%
classes = list(tuned["test"]["per_class"])
figure, axis = plt.subplots(figsize=(8, 2.6))
for offset, (name, metrics) in zip((-0.25, 0, 0.25), runs.items(), strict=True):
    axis.bar(np.arange(10) + offset, [metrics["test"]["per_class"][each]["recall"] for each in classes], width=0.25, label=name)
axis.set_xticks(range(10), classes)
axis.set_ylim(0.4, 1)
axis.set_ylabel("recall")
axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=8)
plt.show()

# %% [markdown]
# ## With photos of your own
#
# ```python
# train(mode="finetune", data="photos/", backbone="mobilenet_v2", settings={"data.augment.horizontal_flip": True})
# ```
#
# Photos may be mirrored; digits may not. With 10,000 images or more all stages train, with fewer the last one.
#
# Next: `3_choosing`.
