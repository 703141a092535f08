"""How long the model waits for images: batches alone, training steps alone, and steps on batches, in images a second.

    python benchmarks/pipeline.py DATA [--backbones mobilenet_v2 ...] [--image-size 96] [--batch-size 32] [--batches 30] [--set ...]

DATA is what `--data` takes. Batches have the default augmentation, or what `--set` says; from files that are decoded each time, as in a
first epoch, and from pixels that are kept, as in those after it. A step trains the whole backbone, random weights. The best of three
rounds, in which each of them has its turn.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from processes import print_table

from tl_keras.config import Config
from tl_keras.config_file import load_config
from tl_keras.data.dataset import open_pixels
from tl_keras.data.index import Index
from tl_keras.data.pipeline import train_batches
from tl_keras.data.sources import open_source
from tl_keras.models.classifier import ALL_STAGES, unfreeze
from tl_keras.models.fused import fused
from tl_keras.runtime import set_up
from tl_keras.transfer.build import build, image_size_of
from tl_keras.transfer.phases import Phase, compile_model

ROUNDS = 3


def batches_of(config: Config, index: Index, num: int, cache: Path | None) -> Iterator[Any]:
    """Endless batches of the first images that fill `num` batches."""
    rows = np.random.default_rng(0).permutation(len(index.paths))[: num * config.train.batch_size]
    pixels = open_pixels(index.take(rows), config.data, image_size_of(config))
    if cache is not None:
        pixels.keep(cache)
        pixels.decode_all()
    labels, num_classes = index.labels[rows], len(index.classes)
    return iter(
        train_batches(
            pixels,
            np.arange(len(rows)),
            labels,
            np.ones(len(rows), np.float32),
            lambda batch: index.output.targets_op(batch, num_classes),
            batch_size=config.train.batch_size,
            augment=config.data.augment,
            seed=0,
        )
    )


def step_of(config: Config, num_classes: int) -> Callable[[Any], Any]:
    """What trains on a batch."""
    classifier = build(config, num_classes, "none")
    unfreeze(classifier, ALL_STAGES, freeze_batchnorm=True)
    model = fused(classifier.model)
    compile_model(model, Phase("finetune", 1, 1000, 1e-5, {}, None), config.train)
    return lambda batch: model.train_on_batch(*batch)


def rate(work: Callable[[], Any], num: int, batch_size: int) -> float:
    """Images a second of `num` calls, each for one batch."""
    started = time.perf_counter()
    for _ in range(num):
        work()
    return num * batch_size / (time.perf_counter() - started)


def measure(config: Config, index: Index, num: int, cache: Path) -> dict[str, float]:
    """Images a second by what is done, the best of `ROUNDS`."""
    step = step_of(config, len(index.classes))
    feeds = {"files": batches_of(config, index, num, None), "kept": batches_of(config, index, num, cache)}
    batch = next(feeds["kept"])
    works = {"step": lambda: step(batch)}
    for name, feed in feeds.items():
        works |= {name: lambda feed=feed: next(feed), f"{name} and step": lambda feed=feed: step(next(feed))}
    for work in works.values():
        for _ in islice(range(num), 3):
            work()  # graphs are traced
    found = dict.fromkeys(works, 0.0)
    for _ in range(ROUNDS):
        for name, work in works.items():
            found[name] = max(found[name], rate(work, num, config.train.batch_size))
    return found


def main() -> None:
    """Measure each backbone, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--backbones", nargs="+", default=["small_resnet", "mobilenet_v2"])
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--set", dest="sets", action="append", default=[])
    given = parser.parse_args()
    rows = []
    for backbone in given.backbones:
        flags = {"data.source": given.data, "model.backbone": backbone, "model.weights": "none", "data.image_size": given.image_size}
        sets = [*(f"{path}={value}" for path, value in flags.items()), f"train.batch_size={given.batch_size}", "train.label_smoothing=0"]
        config = load_config("finetune", sets=[*sets, "train.loss=cross_entropy", *given.sets])
        set_up(config.runtime)
        index = open_source(config.data)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(config, index, given.batches, Path(folder) / "pixels.npy")
        for name in ("files", "kept"):
            both = found[f"{name} and step"]
            waits = max(0.0, 1 - both / found["step"])
            rows.append((backbone, name, f"{found[name]:,.0f}", f"{found['step']:,.0f}", f"{both:,.0f}", f"{waits:.0%}"))
    print_table(("backbone", "pixels from", "batches alone", "steps alone", "both", "the model waits"), rows)


if __name__ == "__main__":
    main()
