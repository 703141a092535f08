"""The pointing game: does the strongest place of a map lie on the object that the answer is about?

Each image is a photo of a flower in a third of the sides, at a random place on a background without one: another photo whose phases are
random, which has its colours and textures and no things. A classifier is trained on such images; then maps of test images are made, each
for what the model answers, and the share of peaks within the object's box is counted. Chance is the box's share of the image, 1/9. With
random weights in the head, or in the whole network, maps of the same classes have to fail. In the second game there are two flowers of
different kinds, and the map is for the kind of the first, whatever the model answers: one that shows what stands out gets half at most.

    python benchmarks/pointing.py FLOWERS --out FOLDER

FLOWERS: folders train and test, with a folder for each kind of flower in both. About 10 minutes on two CPUs.
"""

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tl_keras import train
from tl_keras.evaluation.explain.explainer import Explainer
from tl_keras.evaluation.explain.methods import METHODS
from tl_keras.evaluation.explain.overlay import peak
from tl_keras.evaluation.explain.sanity import ALL, HEAD, randomised
from tl_keras.evaluation.intervals import wilson
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.trained_run import open_run

SIDE, OBJECT = 224, 75
PER_CLASS = {"train": 240, "val": 40, "test": 40}
WEIGHTS = {None: "trained", HEAD: "random in the head", ALL: "random in the whole network"}

Box = tuple[int, int]  # of its first pixel: row and column


def background(file: Path, random: np.random.Generator) -> NDArray[np.float64]:
    """A photo with random phases, the same for all channels, so that its colours stay together."""
    spectrum = np.fft.rfft2(read(file, SIDE), axes=(0, 1))
    noise = np.fft.rfft2(random.normal(size=(SIDE, SIDE)))
    turn = noise / np.abs(noise)
    turn[0, 0] = 1
    return np.fft.irfft2(spectrum * turn[:, :, None], (SIDE, SIDE), axes=(0, 1))


def read(file: Path, side: int) -> NDArray[np.float64]:
    """The square in the middle of a photo."""
    with Image.open(file) as image:
        photo = image.convert("RGB")
    width, height = photo.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    return np.asarray(photo.resize((side, side), Image.Resampling.LANCZOS, (left, top, left + short, top + short)), np.float64)


def planted(base: Path, objects: list[Path], random: np.random.Generator) -> tuple[NDArray[np.uint8], list[Box]]:
    """An image with objects that do not overlap."""
    image, boxes = background(base, random), list[Box]()
    for each in objects:
        while True:
            row, column = random.integers(0, SIDE - OBJECT + 1, 2).tolist()
            if all(max(abs(row - other[0]), abs(column - other[1])) >= OBJECT for other in boxes):
                break
        image[row : row + OBJECT, column : column + OBJECT] = read(each, OBJECT)
        boxes.append((row, column))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), boxes


def photos(folder: Path, random: np.random.Generator) -> dict[str, list[Path]]:
    """The photos of each kind, in random order."""
    found = {each.name: sorted(each.glob("*.jpg")) for each in sorted(folder.iterdir()) if each.is_dir()}
    return {name: [files[place] for place in random.permutation(len(files))] for name, files in found.items()}


def write_images(flowers: Path, folder: Path) -> None:
    """The images to learn from, and those of the first game."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        found = photos(flowers / split, random)
        everything = [file for files in found.values() for file in files]
        for name, files in found.items():
            for number in range(PER_CLASS[split]):
                image, _ = planted(everything[random.integers(len(everything))], [files[number % len(files)]], random)
                save(image, folder / split / name / f"{number:03}.jpg")
    for number, game in enumerate(games(flowers, 1, PER_CLASS["test"])):
        save(game.image, folder / "test" / game.kind / f"{number:03}.jpg")


def save(image: NDArray[np.uint8], path: Path) -> None:
    """Write a JPEG of good quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


@dataclass(frozen=True)
class Game:
    """A test image, the kind of its first object, and where that is."""

    kind: str
    image: NDArray[np.uint8]
    box: Box

    def is_hit(self, place: tuple[float, float] | None) -> bool:
        """Whether a place, as shares of height and width, lies on the object."""
        return place is not None and all(0 <= SIDE * at - first < OBJECT for at, first in zip(place, self.box, strict=True))


def games(flowers: Path, num_objects: int, per_class: int) -> Iterator[Game]:
    """Test images with one object, or with two of different kinds."""
    random = np.random.default_rng(1)
    found = photos(flowers / "test", random)
    everything = [file for files in found.values() for file in files]
    for name, files in found.items():
        for place in range(per_class):
            rivals = [file for other, theirs in found.items() if other != name for file in theirs]
            objects = [files[place % len(files)], rivals[random.integers(len(rivals))]][:num_objects]
            image, boxes = planted(everything[random.integers(len(everything))], objects, random)
            yield Game(name, image, boxes[0])


def share_on_object(explainer: Explainer, method: str, played: list[Game], columns: list[int]) -> str:
    """The share of peaks that lie on the first object, with its 95 % interval."""
    maps = METHODS[method](explainer, np.stack([game.image for game in played]), columns)
    hits = sum(game.is_hit(peak(found, explainer.output.task)) for game, found in zip(played, maps, strict=True))
    low, high = wilson(hits, len(played))
    return f"{hits / len(played):.3f} ({low:.3f} to {high:.3f})"


def answers(explainer: Explainer, played: list[Game]) -> list[int]:
    """What the model says of each image."""
    logits = [explainer.logits(game.image[None])[0] for game in played]
    return [int(found) for found in SINGLE_LABEL.decide(SINGLE_LABEL.answers(logits))]


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("flowers", type=Path)
    made.add_argument("--out", type=Path, required=True, help="a folder for the images and the run; what is there is taken")
    made.add_argument("--backbone", default="mobilenet_v2")
    made.add_argument("--mode", default="finetune", choices=("extract", "finetune"))
    made.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    made.add_argument("--per-class", type=int, default=PER_CLASS["test"], help="test images of each kind")
    options = made.parse_args()
    images, run = options.out / "images", options.out / f"{options.mode}-{Path(options.backbone).stem}"
    if not images.exists():
        write_images(options.flowers, images)
    if not (run / "metrics.json").exists():
        train(mode=options.mode, data=images, backbone=options.backbone, run_dir=run)
    trained = open_run(run)
    explainer = Explainer(trained.model, trained.index.output, trained.stages)
    played = [list(games(options.flowers, number, options.per_class)) for number in (1, 2)]
    kinds = [[trained.index.classes.index(game.kind) for game in each] for each in played]
    asked = [answers(explainer, played[0]), kinds[1]]
    right = np.mean(np.array(asked[0]) == np.array(kinds[0]))
    print(f"{len(played[0])} images of each game, {right:.3f} of the first answered right")
    print("| method | weights | one object | the right one of two |")
    print("|---|---|---:|---:|", flush=True)
    for method in options.methods:
        for which in (None, HEAD, ALL):
            with nullcontext() if which is None else randomised(trained.model, which):
                shares = [share_on_object(explainer, method, *each) for each in zip(played, asked, strict=True)]
            print(f"| `{method}` | {WEIGHTS[which]} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
