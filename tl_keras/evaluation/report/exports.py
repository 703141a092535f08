"""What was exported of a run: how far each format is from the model, how large and how fast."""

from tl_keras.evaluation.markup import section, table, text
from tl_keras.evaluation.report.record import Record

HEADS = ("format", "file", "MB", "same classes", "largest difference", "ms for one image", "images/s")
TOLD = (
    "<p>Each was compared with the model before it was kept, by a process that had nothing but the runtime of the format. Times are of the "
    "machine that exported it.</p>"
)


def section_of(record: Record) -> str:
    """A row for each format; empty where nothing was exported."""
    rows = [
        (
            text(each.name),
            text(each.file),
            f"{each.bytes / 1e6:.1f}",
            "" if each.agreement is None else f"{each.agreement:.3f}",
            f"{each.difference:.1e}",
            f"{each.single_ms:.1f}",
            f"{each.images_per_second:.0f}",
        )
        for each in record.exports
    ]
    return section("exports", "What was exported", f"{TOLD}\n{table(HEADS, rows, 'exported formats', num_texts=2)}") if rows else ""
