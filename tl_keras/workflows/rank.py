"""Ranking backbones on the user's images, and the choice that `model.backbone: auto` makes."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.config import AUTO, Config
from tl_keras.config_file import to_yaml
from tl_keras.data.index import Index
from tl_keras.models.backbone_names import table_name
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.select.ranking.plot import draw_front
from tl_keras.select.ranking.rank import METRICS, RankedBackbone, choose, explain, front, rank_candidates
from tl_keras.setting_users import together
from tl_keras.tasks import SINGLE_LABEL, figure_text
from tl_keras.workflows.setting_up import environment, open_images, working_in


@restoring_process()
def rank(config: Config, run_dir: Path | str, *, progress: Progress | None = None) -> dict[str, Any]:
    """Rank the candidates of `rank.candidates` on the images of `data.source`.

    Args:
        config: `mode` is 'rank'.
        run_dir: the folder to make, for rank.csv, rank.json and rank.png.

    Returns:
        What rank.json holds: `task`, `chosen`, `why`, and `candidates`, the best first.

    Raises:
        UserError: anything that the user can mend; a folder made for it is gone again.
    """
    progress, run = progress or Progress(), RunFolder.at(run_dir)
    set_up(config.runtime)
    config = config.replace("rank.candidates", tuple(map(table_name, config.rank.candidates)))
    index = open_images(config.data, progress, run)
    with working_in(run, resume=False):
        if left_out := [name for name in METRICS[SINGLE_LABEL] if name not in METRICS[index.output.task]]:
            progress.line(f"{together(left_out)} are left out: they need one class for each image")
        judged = rank_candidates(config, index, progress)
        chosen, why = choose(judged, config.rank.max_ms), explain(judged, config.rank.max_ms)
        run_folder.write_text(run / run_folder.CONFIG, to_yaml(config))
        run_folder.write_json(run / run_folder.ENVIRONMENT, environment())
        write_ranking(run, judged)
        draw_front(run / run_folder.RANKING_PICTURE, judged, chosen)
        result = {"task": index.output.task, "chosen": chosen.backbone, "why": why, "candidates": [describe(one, judged) for one in judged]}
        run_folder.write_json(run / run_folder.RANKING_JSON, result)
    return result


def with_best_backbone(
    config: Config, index: Index, run: RunFolder | None, progress: Progress, rows: NDArray[np.int64] | None = None
) -> Config:
    """The configuration with the backbone that ranks first in place of 'auto'; the ranking stays in the run folder.

    Any other name is spelt as the table spells it.

    Args:
        rows: see `rank_candidates`.
    """
    if config.model.backbone != AUTO:
        return with_backbone(config, table_name(config.model.backbone))
    judged = rank_candidates(config, index, progress, rows)
    progress.line(explain(judged, config.rank.max_ms))
    if run is not None:
        write_ranking(run, judged)
    return with_backbone(config, choose(judged, config.rank.max_ms).backbone)


def with_backbone(config: Config, backbone: str) -> Config:
    """The same configuration of another backbone."""
    return config.replace("model.backbone", backbone)


def describe(one: RankedBackbone, judged: list[RankedBackbone]) -> dict[str, Any]:
    """A candidate as rank.json holds it."""
    found = {one.output.metric_name if name == "figure" else name: value for name, value in asdict(one).items() if name != "task"}
    return found | {"megabytes": one.megabytes, "on_front": one in front(judged)}


def write_ranking(run: RunFolder, judged: list[RankedBackbone]) -> None:
    """Write rank.csv: a line per candidate, the best first."""
    metric, best = judged[0].output.metric_name, front(judged)
    header = ("backbone", "image_size", metric, "low", "high", "ms", "parameters", "megabytes", "on_front", *METRICS[judged[0].task])
    lines = (
        (
            one.backbone,
            "x".join(map(str, one.image_size)),
            *(figure_text(metric, value) for value in (one.figure, *one.interval)),
            f"{one.ms:.3f}",
            one.num_parameters,
            f"{one.megabytes:.1f}",
            int(one in best),
            *("" if value is None else f"{value:.6g}" for value in one.scores.values()),
        )
        for one in judged
    )
    run_folder.write_csv(run / run_folder.RANKING, header, lines)
