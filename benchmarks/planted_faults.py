"""How many planted faults `check` finds: damaged files, equal copies, and copies that were recompressed, resized, mirrored.

    python benchmarks/planted_faults.py --data flowers/

Copies the images to a temporary folder and plants faults among them. Recall: how many of them were found; precision: how many of what was
found was planted. What was there before counts against precision.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from processes import print_table

from tl_keras import Progress, check
from tl_keras.data.walk import images_below

NEAR = ("recompressed", "resized", "mirrored", "mirrored and resized")
DAMAGES = ("truncated", "emptied", "text", "zeroed")
NUM_EQUAL, NUM_NEAR, NUM_DAMAGED = 100, 200, 80


def near_copy(image: Image.Image, how: str, rng: np.random.Generator) -> Image.Image:
    """The same picture, resized to 35 to 80 % or mirrored or both."""
    if "resized" in how:
        scale = rng.uniform(0.35, 0.8)
        image = image.resize((max(1, round(scale * image.width)), max(1, round(scale * image.height))), Image.Resampling.LANCZOS)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if "mirrored" in how else image


def damaged(data: bytes, how: str, rng: np.random.Generator) -> bytes:
    """A file that is none any more."""
    return {
        "truncated": lambda: data[: int(rng.uniform(0.1, 0.9) * len(data))],
        "emptied": lambda: b"",
        "text": lambda: b"<html>404 not found</html>",
        "zeroed": lambda: bytes(len(data)),
    }[how]()


def plant(source: Path, root: Path) -> dict[str, str]:
    """Write the images and the faults: path of each faulty file -> what is wrong with it, 'equal' or of `NEAR` or `DAMAGES`."""
    rng, planted = np.random.default_rng(0), {}
    files = images_below(source)[0]
    for number, file in enumerate(files):
        path = root / file.parent.name / f"{number}{file.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.read_bytes())
    for place, number in enumerate(rng.permutation(len(files))[: NUM_EQUAL + NUM_NEAR + NUM_DAMAGED]):
        file = files[number]
        name = f"{file.parent.name}/{number}_{place}{file.suffix}"
        if place < NUM_EQUAL:
            planted[name] = "equal"
            (root / name).write_bytes(file.read_bytes())
        elif place < NUM_EQUAL + NUM_NEAR:
            planted[name] = how = NEAR[place % len(NEAR)]
            near_copy(Image.open(file).convert("RGB"), how, rng).save(root / name, "JPEG", quality=int(rng.integers(25, 90)))
        else:
            planted[name] = how = DAMAGES[place % len(DAMAGES)]
            (root / name).write_bytes(damaged(file.read_bytes(), how, rng))
    return planted


def found_in(run: Path) -> dict[str, str]:
    """The files that check found faulty: 'damaged', 'equal' or 'near'."""
    with (run / "check.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = {line["path"]: "damaged" for line in lines if line["fault"] == "unreadable"}
    for line in lines:
        if line["copy_of"]:
            kind = "equal" if line["detail"].startswith("the same file") else "near"
            planted_one = max((line["path"], line["copy_of"]), key=lambda path: "_" in path)  # the later of two in the order of names
            found[planted_one] = kind
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        planted = plant(options.data, Path(folder, "photos"))
        check(data=Path(folder, "photos"), run_dir=Path(folder, "R"), progress=Progress())
        found = found_in(Path(folder, "R"))
    kinds = {name: "damaged" if how in DAMAGES else "equal" if how == "equal" else "near" for name, how in planted.items()}
    rows = []
    for kind in ("damaged", "equal", "near"):
        wanted, got = ({name for name, each in of.items() if each == kind} for of in (kinds, found))
        right = len(wanted & got)
        rows.append([kind, str(len(wanted)), str(len(got)), f"{right / len(wanted):.3f}", f"{right / max(1, len(got)):.3f}"])
    print_table(["fault", "planted", "found", "recall", "precision"], rows)
    print(f"ratio {np.mean([float(row[3]) for row in rows]):.3f}")


if __name__ == "__main__":
    main()
