# %% [markdown]
# # From a run to production
#
# A run folder is all that later steps need. This story takes one from training to files that other programs load: a SavedModel, for
# which TensorFlow is enough, and OpenVINO's form, which needs no TensorFlow either.

# %%
import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import openvino
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

from tl_keras import evaluate, export, predict, train

work = Path("work/from_run_to_production")
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
# Preprocessing, the names of the classes and the calibrated probabilities are inside. Before a file appears, a process that has nothing
# but the runtime of its format answers images of the run, and its answers are compared with the model's. `onnx` and `litert` are made in
# the same way, where their packages are installed.

# %%
found = export(run, formats=["saved_model", "openvino"])
for name, row in found["formats"].items():
    apart, same = max(row["largest_difference"].values()), row["agreement"]
    print(f"{name:12} {row['bytes'] / 1e6:4.1f} MB  same classes {same:.3f}  probabilities differ by {apart:.0e} at most")
print("compared on", len(found["images"]), "images")

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
# The other signatures take pixels: `serving_default` float32 at the size of the model, `uint8` at any size.

# %% [markdown]
# ## And without TensorFlow
#
# The other formats take pixels at the size of the model, and output probabilities. What else a program has to know is in the file.

# %%
core = openvino.Core()
graph = core.read_model(f"{found['folder']}/openvino/model.xml")
about = json.loads(graph.get_rt_info("tl_keras").astype(str))
height, width = about["input"]["shape"][1:3]
pixels = np.stack([Image.open(file).convert("RGB").resize((width, height), Image.Resampling.BILINEAR) for file in files])
answer = core.compile_model(graph, "CPU")({"pixels": pixels.astype(np.float32)})
for file, row in zip(files, answer["probabilities"], strict=True):
    print(f"{Path(file).name}: {about['classes'][row.argmax()]} with probability {row.max():.2f}")

# %% [markdown]
# `docs/exporting.md` has the formats, what is proved of each, and how to load them. `export/model_card.md` goes with the files.
