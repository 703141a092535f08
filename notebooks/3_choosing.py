# %% [markdown]
# # Choosing
#
# Which network? Which settings? Is one better than another, or was it luck? And would two together be better still?
#
# The task: tell the digits 5 to 9 apart. There are two candidates: `small_resnet`, which learned CIFAR-10, and a network that we
# first train ourselves, on the digits 0 to 4.

# %%
import csv
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from tl_keras import Progress, crossval, ensemble, rank, search, train

work = Path("work/choosing")
shutil.rmtree(work, ignore_errors=True)

# %%
digits = load_digits()
generator = np.random.default_rng(0)


def write(folder, images):
    """Write images into a new folder."""
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        plt.imsave(folder / f"{number:03d}.png", image, cmap="gray_r")


for label in range(10):
    images = generator.permutation(digits.images[digits.target == label])
    if label < 5:
        write(work / "low" / str(label), images)
    else:  # few to learn from
        write(work / "high" / "train" / str(label), images[:10])
        write(work / "high" / "val" / str(label), images[10:30])
        write(work / "high" / "test" / str(label), images[30:130])

# %% [markdown]
# ## A second candidate
#
# Pretraining writes `backbone.keras`, the network without its head, which every mode takes as a backbone. Four short epochs will
# do for a story.

# %%
train(mode="pretrain", data=work / "low", epochs=4, settings={"model.weights": "none"}, run_dir=work / "own")
own = work / "own" / "backbone.keras"


def called(backbone):
    """What we call a candidate."""
    return "own network" if Path(backbone).stem == "backbone" else backbone


# %% [markdown]
# ## Rank
#
# `rank` sends the images through each candidate once and says how well a linear classifier on its frozen features does on images
# that were left out. Nothing is trained, and test is not looked at.

# %%
ranking = rank(data=work / "high", backbones=["small_resnet", own], run_dir=work / "ranking")
for candidate in ranking["candidates"]:
    low, high = candidate["interval"]
    print(f"{called(candidate['backbone']):13} accuracy {candidate['accuracy']:.3f} ({low:.3f} to {high:.3f})")
print("chosen:", called(ranking["chosen"]))

# %% [markdown]
# Where the intervals overlap, the two are as good as each other on these images.
#
# ## Cross-validate
#
# A comparison on the same folds is sharper than two intervals side by side. The interval of the *difference* allows for the
# overlap of the folds. If it does not contain zero, one is better.

# %%
settings = {"crossval.repeats": 2}
crossval(data=work / "high", backbone=own, settings=settings, run_dir=work / "folds_own", progress=Progress())
folds = crossval(
    data=work / "high",
    backbone="small_resnet",
    settings=settings | {"crossval.against": str(work / "folds_own")},
    run_dir=work / "folds",
    progress=Progress(),
)
difference = folds["against"]["differences"]["accuracy"]
print(
    f"small_resnet less own network: {difference['mean']:+.3f} (95 % interval {difference['ci95'][0]:+.3f} to {difference['ci95'][1]:+.3f})"
)

# %% [markdown]
# ## Search
#
# A search tries settings on stored features, a fraction of a second each. It compares trials on val, trains the best as an
# ordinary run, and that run alone sees test. `Progress()` keeps the trials quiet.

# %%
study = search(
    data=work / "high",
    backbone="small_resnet",
    settings={"search.max_trials": 30, "search.tuner": "random"},
    run_dir=work / "study",
    progress=Progress(),
)
print("best settings:", study["settings"] or "those that the search began with")
print(f"log loss on val {study['score']:.3f}, and {study['baseline']['val_loss']:.3f} before the search")

# %%
figure, axis = plt.subplots(figsize=(9, 4.5))
axis.imshow(plt.imread(work / "study" / "trials.png"))
axis.axis("off")
plt.show()

# %% [markdown]
# Each line is a trial, and the last axis is its score. What matters here is how strongly the head is regularised, and that the
# search began with the best strength on val already, so there was nothing left to gain. A search pays where several settings matter.
#
# `trials.csv` has a line per trial. The best of many owes part of its score to luck, so believe the test figure of the winner's
# run, not the score of the trial.

# %%
with open(work / "study" / "trials.csv") as file:
    scores = [float(line["val_loss"]) for line in csv.DictReader(file) if line["val_loss"]]
figure, axis = plt.subplots(figsize=(6, 2.4))
axis.plot(scores, "o", alpha=0.4, label="each trial")
axis.plot(np.minimum.accumulate(scores), drawstyle="steps-post", label="the best so far")
axis.axhline(study["baseline"]["val_loss"], color="grey", linestyle=":", label="before the search")
axis.set_xlabel("trial")
axis.set_ylabel("log loss on val")
axis.set_yscale("log")
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Combine
#
# Two networks that learned different things make different mistakes. The mean of their probabilities often beats both. `ensemble`
# compares the whole with its best member, by val, and gives the difference on test with an interval.

# %%
both = ensemble(members=["small_resnet", own], data=work / "high", run_dir=work / "both")
for each in both["singles"]:
    print(f"{called(each['name']):13} test accuracy {each['test']['accuracy']:.3f}")
print(f"{'together':13} test accuracy {both['together']['test']['accuracy']:.3f}")
gain = both["difference"]["test"]
print(f"gain over {called(both['best_single'])}: {gain['mean']:+.3f} (95 % interval {gain['ci95'][0]:+.3f} to {gain['ci95'][1]:+.3f})")

# %% [markdown]
# An interval that contains zero says: these test images cannot tell. The single network is cheaper to run, so take it then.
#
# Next: `4_from_run_to_production`.
