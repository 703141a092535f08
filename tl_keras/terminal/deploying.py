"""What was exported, and what it costs to be small, for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from tl_keras.tasks import figure_text
from tl_keras.terminal.table import plain_table


def exports_table(rows: Mapping[str, Mapping[str, Any]], result: Mapping[str, Any]) -> Table:
    """Exported formats: how far each is from the model, how good on test, how large and how fast."""
    metric = next((name for name in result.get("model", {}) if not name.endswith("_ci95")), "")  # none without test images
    told = [
        (
            name,
            f"{row['bytes'] / 1e6:.1f}",
            "" if row["agreement"] is None else f"{row['agreement']:.3f}",
            f"{max(row['largest_difference'].values()):.1e}",
            *([figure_text(metric, row[metric])] if metric else []),
            f"{row['cold_start_s']:.1f}",
            f"{row['single_ms']:.1f}",
            f"{row['images_per_second']:.0f}",
        )
        for name, row in rows.items()
    ]
    title = f"compared with the model on {len(result['images'])} images"
    if metric:
        title += f"; the model's {metric}, on {result['test_images']} of test: {figure_text(metric, result['model'][metric])}"
    return plain_table(("format", "MB", "same", "apart", *[metric] * bool(metric), "start", "ms", "per s"), told, title)


def compression_table(result: Mapping[str, Any]) -> Table:
    """The forms of a compressed run: size, accuracy on test and speed of each."""
    told = [
        (
            point["run"],
            point["format"],
            f"{point['compressed_bytes'] / 1e6:.2f}",
            f"{point['accuracy']:.3f}" if "accuracy" in point else "",
            f"{point['single_ms']:.1f}",
            f"{point['images_per_second']:.0f}",
        )
        for point in result["points"]
        if "refused" not in point
    ]
    return plain_table(("run", "format", "MB", "accuracy", "ms", "per s"), told, "forms of the run")
