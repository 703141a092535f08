"""What a model was made of and how: its images, settings, versions, time, and the command that makes it again."""

import json
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np

from tl_keras import advice, run_folder
from tl_keras.config import Config, fields
from tl_keras.config_file import to_yaml
from tl_keras.data.index import SPLIT_NAMES
from tl_keras.evaluation.markup import bar, cut, section, shortened, table, text
from tl_keras.evaluation.report.facts import leaked_rows
from tl_keras.evaluation.report.record import Record
from tl_keras.models.backbones import licence_of
from tl_keras.tasks import REGRESSION

LISTED = 40  # classes in the table
BAD = 10  # images that were skipped
LONGEST = 40_000  # characters of the configuration
LONGEST_VALUE = 200  # of one setting
STEPS = {"prepare_s": "reading, decoding and frozen features", "train_s": "training", "evaluate_s": "measuring", "total_s": "in total"}


def of_data(record: Record) -> str:
    """Images by class and split, and what is known to be wrong with them."""
    numbers = {split: record.counts(split) for split in SPLIT_NAMES}
    body = [_copies(record), _skipped(record)]
    if record.task == REGRESSION:
        rows = [(split, f"{int(count[0]):,}", *_spread(record, split)) for split, count in numbers.items()]
        body.append(table(("split", "images", "least", "median", "most"), rows, "images of each split"))
    else:
        totals = np.sum(list(numbers.values()), axis=0)
        order = np.argsort(-totals, kind="stable").tolist()
        most = max(int(totals.max()), 1)
        rows = [
            (
                text(record.index.classes[place]),
                bar(totals[place] / most),
                f"{totals[place]:,}",
                *(f"{count[place]:,}" for count in numbers.values()),
            )
            for place in order
        ]
        heads = ("class", "share", "images", *SPLIT_NAMES)
        body.append(table(heads, shortened(rows, LISTED, "more in between"), "images of each class", num_texts=2, kind="bars"))
    splits = ", ".join(f"{int((record.split == name).sum()):,} {name}" for name in SPLIT_NAMES)
    told = f"<p>Images: {splits}. train is learned from, val chooses, test measures.</p>"
    return section("data", "The images", "\n".join([told, *filter(None, body)]))


def _spread(record: Record, split: str) -> tuple[str, ...]:
    labels = record.index.labels[record.split == split]
    return tuple(f"{value:.4g}" for value in np.quantile(labels, [0, 0.5, 1])) if len(labels) else ("", "", "")


def _copies(record: Record) -> str:
    ids = record.index.ids
    if ids is None:
        return ""
    copies, leaked = len(ids) - len(np.unique(ids)), len(leaked_rows(record))
    if leaked:
        return (
            f'<p class="error">{leaked:,} images of test are copies of images of train or val: the figures are too good. '
            "<code>check</code> names them.</p>"
        )
    return f"<p>{copies:,} files are copies of others; no image of test is one of train or val.</p>" if copies else ""


def _skipped(record: Record) -> str:
    if not record.bad:
        return ""
    items = "".join(f"<li>{text(': '.join(cells))}</li>" for cells in record.bad[:BAD])
    more = f" The first {BAD}:" if len(record.bad) > BAD else ""
    return f'<p class="warning">{len(record.bad):,} files were skipped, because they do not decode.{more}</p><ul>{items}</ul>'


def of_making(record: Record) -> str:
    """Mode, backbone, settings, versions, time, and the command."""
    config, metrics = record.config, record.metrics
    made: dict[str, str] = {"mode": str(metrics["mode"]), "backbone": str(metrics["backbone"])}
    if (licence := licence_of(config.model.backbone, config.model.weights)) is not None:
        made["licence of its weights"] = licence
    made["images"] = config.data.source
    if parameters := metrics.get("parameters"):
        made["weights"] = f"{parameters['total']:,}, of which {parameters['trainable']:,} were trained"
    made |= {STEPS.get(name, name): f"{seconds:.1f} s" for name, seconds in metrics.get("timing", {}).items()}
    made |= {name: shown(value) for name, value in record.environment.items()}
    again = advice.command(config.mode, "--config", record.run / run_folder.CONFIG)
    settings = [(f"<code>{text(path)}</code>", text(cut(shown(value), LONGEST_VALUE))) for path, value in _changed(config).items()]
    written = to_yaml(config)
    rest = "\n[config.yaml in the run folder has the rest]" if len(written) > LONGEST else ""
    return section(
        "made",
        "How it was made",
        f"<p>This command makes it again:</p>\n<pre>{text(again)}</pre>\n"
        + table(
            ("what", "value"), [(text(name), text(cut(value, LONGEST_VALUE))) for name, value in made.items()], "circumstances", num_texts=2
        )
        + f"\n<h3>Settings other than the defaults</h3>\n{table(('setting', 'value'), settings, 'settings', num_texts=2)}"
        + f"\n<details><summary>Every setting</summary><pre>{text(written[:LONGEST] + rest)}</pre></details>",
    )


def _changed(config: Config) -> dict[str, Any]:
    """The settings of a run that are not the defaults."""
    return {path: value for path, value in settings_of(config).items() if path != "mode" and value != fields()[path].default}


def settings_of(config: Config) -> dict[str, Any]:
    """The value of every setting, by its path."""
    found = config.model_dump()
    return {path: reduce(getitem, path.split("."), found) for path in fields()}


def shown(value: Any) -> str:
    """A value as people read it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
