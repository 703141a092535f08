"""What an adaptation tells of its target, for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from tl_keras.terminal.figures import MOST_CONFUSED, accuracy_line
from tl_keras.terminal.table import plain_table

MOST_RELATED = 3  # classes that are named beside each


def adaptation_table(target: Mapping[str, Any]) -> Table:
    """The scores of each method of an adaptation."""
    rows = [
        (
            ("* " if one["method"] == target["method"] else "  ") + one["method"],
            f"{one['classes']:.1f}" + (" collapsed" if one["collapsed"] else ""),
            f"{one['risk']:.3f}",
            f"{one['mixed']:.3f}",
            f"{one['agreement']:.3f}",
        )
        for one in target["candidates"]
    ]
    header = ("method", "classes", "source risk", "mixed", "as before")
    return plain_table(header, rows, f"target: {target['images']} images, scores without labels")


def target_lines(target: Mapping[str, Any]) -> list[str]:
    """How far the domains are apart, and how good the heads are on the target, where that is known."""
    apart = target["distances"]["source_only"]
    names = {"mmd": "MMD", "coral": "CORAL distance", "proxy_a": "proxy A-distance"}
    told = [f"{title} {apart[key]:.3g}" for key, title in names.items() if apart[key] is not None]
    lines = [f"distance between the domains: {', '.join(told)}"]
    lines += [accuracy_line(f"target, {name}:", found) for name, found in target.get("figures", {}).items()]
    return lines + (relation_lines(target["relations"][target["method"]]) if "relations" in target else [])


def relation_lines(relation: Mapping[str, Any]) -> list[str]:
    """What a head sees in images of each class, in plain lines; none where the classes are too many for a terminal."""
    means = relation["mean_probabilities"]
    if len(means) > MOST_CONFUSED:
        return []
    told = "" if relation["nce"] is None else f" (NCE {relation['nce']:.3f})"
    lines = [f"target: mean probabilities of the images of each class, the {MOST_RELATED} largest{told}"]
    for name, found in means.items():
        largest = sorted(found.items(), key=lambda one: -one[1])[:MOST_RELATED]
        lines.append(f"  {name}: {', '.join(f'{other} {mean:.2f}' for other, mean in largest)}")
    return lines
