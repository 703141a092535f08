"""Compressing a finished run: pruned, taught to smaller backbones, and rounded; each form an export that is compared with its model.

Nothing new is trained or written here: a pruned run is a finetuning of the run's own network with `train.sparsity`, a student one of
another backbone with `train.teacher`, and each is an ordinary run folder below `compress/`, in which `export` rounds its numbers. What is
there already is not made again, so that a compression that was killed goes on where it was.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_keras import run_folder
from tl_keras.config import Config, FeaturesConfig, TrainConfig
from tl_keras.config_file import used_settings, with_own_sections
from tl_keras.data.index import Index
from tl_keras.deploy.compress.plot import draw_points
from tl_keras.deploy.compress.points import compressed_bytes, speed_of, write_points
from tl_keras.deploy.export import read_exports, require_converters, require_formats
from tl_keras.errors import ConfigError, ExportError, RunFolderError
from tl_keras.export_formats import EXPORT_FORMATS, LITERT, LITERT_FLOAT16, LITERT_INT8
from tl_keras.links import require_no_way_out
from tl_keras.models.backbone_names import check_backbone, short_name, table_name
from tl_keras.modes import CLASSIFIERS
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.tasks import SINGLE_LABEL
from tl_keras.trained_run import read_config
from tl_keras.workflows.export import export
from tl_keras.workflows.rank import rank
from tl_keras.workflows.train import images_of, moved_to, train

ORIGINAL = "original"  # what the run itself is called among its forms
RANKING = "ranking"  # the folder of the ranking that proposes students
MOST_STUDENTS = 2
DEFAULT_FORMATS = (LITERT, LITERT_FLOAT16, LITERT_INT8)
SETTABLE = ("compress", "export", "rank", "train")
OPENED = {  # mode -> settings of `train` that a finetuning chooses by itself, where the run's are not of one
    "finetune": (),
    "extract": ("unfreeze_from",),
    "pretrain": ("unfreeze_from", "epochs", "learning_rate", "layer_decay"),
}
MEND = "Remove it, and start again."


@restoring_process()
def compress(
    run_dir: Path | str,
    *,
    formats: Sequence[str] = (),
    settings: Mapping[str, Any] | Sequence[str] = (),
    source: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make smaller and faster forms of a run, and measure what each costs; or go on where that was interrupted.

    Args:
        formats: that each run is exported in, keys of `EXPORT_FORMATS`; none for those of `DEFAULT_FORMATS`.
        settings: of the sections `compress`, `export`, `rank` and `train` that differ from the run's, by their paths, or as `path=value`.
        source: where the run's images lie now, if they have moved.

    Returns:
        What `compress/compress.json` holds, see `docs/compressing.md`; and `folder`, where that is.

    Raises:
        ConfigError: a format or a setting that there is not, or packages that are not installed.
        RunFolderError: it holds no model of one class an image that was trained by itself, or forms that were made with other settings.
        DataError: images of the run are gone or have changed.
    """
    progress = progress or Progress()
    chosen = list(dict.fromkeys(formats)) or list(DEFAULT_FORMATS)
    require_formats(chosen)
    require_converters(chosen)
    run = RunFolder.at(run_dir).require_model()
    require_no_way_out(run.path, run_folder.COMPRESS, run_folder.EXPORT)
    config = with_own_sections(for_more_training(run, source), SETTABLE, settings)
    require_backbones(config.compress.students or ())
    set_up(config.runtime)
    index, folder = images_of(config, run, progress, source), RunFolder(run / run_folder.COMPRESS)
    folder.path.mkdir(exist_ok=True)
    folders = {ORIGINAL: run}
    for name, wanted in planned(config, run, folder, progress).items():
        folders[name] = RunFolder(folder / name)
        train_once(wanted, folders[name], index, source, progress)
    result: dict[str, Any] = {"runs": {name: described(each) for name, each in folders.items()}}
    refused = refused_before(folder, config)
    points: list[dict[str, Any]] = []
    for name, each in folders.items():
        for kind in chosen:
            points.append(refused.get((name, kind)) or exported(name, each, kind, config, source, progress))
            run_folder.write_json(folder / run_folder.COMPRESS_RECORD, result | {"points": points, "export": config.export.model_dump()})
    with progress.bar("measure times", len(points)) as advance:
        for point in points:
            if "refused" not in point:
                artifact = folders[point["run"]] / run_folder.EXPORT / point["file"]
                point |= speed_of(point["format"], artifact, result["runs"][point["run"]]["image_size"])
            advance(1)
    result |= {"points": points, "export": config.export.model_dump()}
    run_folder.write_json(folder / run_folder.COMPRESS_RECORD, result)
    write_points(folder / run_folder.COMPRESS_TABLE, result["runs"], points)
    draw_points(folder / run_folder.COMPRESS_PICTURE, [point for point in points if "refused" not in point], ORIGINAL)
    return result | {"folder": str(folder.path)}


def for_more_training(run: RunFolder, source: str | None) -> Config:
    """The configuration of a run as one for finetuning its network; what a finetuning decides by itself is open, unless the run was one.

    Raises:
        RunFolderError: of its kind none can be compressed.
    """
    own = read_config(run)
    if own.data.task != SINGLE_LABEL:
        raise RunFolderError(f"{run.path}: was trained with data.task={own.data.task}; compress takes runs of {SINGLE_LABEL}.")
    if own.mode not in CLASSIFIERS:
        raise RunFolderError(f"{run.path}: is a run of {own.mode}; compress takes those of {', '.join(CLASSIFIERS)}.")
    config = moved_to(own, source).replace("mode", "finetune").replace("model.weights", "pretrained").replace("model.preprocessing", "auto")
    config = config.replace("runtime", config.runtime.model_copy(update={"engine": "auto", "precision": "auto", "tracker": "none"}))
    if own.mode != "finetune":
        config = config.replace("features", FeaturesConfig(max_gb=own.features.max_gb))
    opened = dict.fromkeys(OPENED[own.mode])
    changed: dict[str, Any] = {"teacher": str(run.path.resolve()), "sparsity": 0.0, "interpolate": False} | opened
    return config.replace("train", config.train.model_copy(update=changed))


def require_backbones(names: Sequence[str]) -> None:
    """Refuse students that there are not, or that would have the same folder, before anything is trained.

    Raises:
        BackboneError: there is no such backbone.
        ConfigError: two are called the same.
    """
    for name in names:
        check_backbone(table_name(name))
    short = [short_name(table_name(name)) for name in names]
    if twice := [name for name in short if short.count(name) > 1]:
        raise ConfigError(f"compress.students: got several backbones that are called {twice[0]}, expected each name once.")


def planned(config: Config, run: RunFolder, folder: RunFolder, progress: Progress) -> dict[str, Config]:
    """The runs that are to be trained, by their names."""
    found = {f"pruned_{sparsity:g}": pruned(config, run, sparsity) for sparsity in config.compress.sparsities}
    students = config.compress.students
    for backbone in proposed(config, folder, progress) if students is None else students:
        found[f"student_{short_name(table_name(backbone))}"] = student(config, backbone)
    return found


def pruned(config: Config, run: RunFolder, sparsity: float) -> Config:
    """A finetuning of the run's own network in which weights become zero; it learns from the labels alone."""
    own = {"sparsity": sparsity, "teacher": None, "teacher_weight": TrainConfig().teacher_weight}
    changed = config.replace("model.backbone", str((run / run_folder.MODEL).resolve()))
    return changed.replace("train", config.train.model_copy(update=own))


def student(config: Config, backbone: str) -> Config:
    """A finetuning of another backbone, at its own size of image and from the stage that suits it, which learns from the run too."""
    changed = config.replace("model.backbone", backbone).replace("data.image_size", None)
    if config.train.unfreeze_from == "all":  # asked for, as for images that are mixed
        return changed
    return changed.replace("train.unfreeze_from", None).replace("train.unfreeze_every", None).replace("features.views", None)


def proposed(config: Config, folder: RunFolder, progress: Progress) -> list[str]:
    """The best backbones on the front of a ranking that are faster than the run's own: `MOST_STUDENTS` at most, the best first."""
    ranking, own = RunFolder(folder / RANKING), table_name(config.model.backbone)
    if not (ranking / run_folder.RANKING_JSON).is_file():
        names = tuple(dict.fromkeys([*config.rank.candidates, own]))
        asked = config.replace("mode", "rank").replace("rank.candidates", names).replace("data.image_size", None)
        progress.line(f"which smaller backbones suit these images: {ranking.path}")
        rank(asked, ranking.path, progress=progress)
    rows = run_folder.read_json(ranking / run_folder.RANKING_JSON, "the record of a ranking", MEND)["candidates"]
    most = next(row["ms"] for row in rows if row["backbone"] == own)
    found = [row["backbone"] for row in rows if row["on_front"] and row["ms"] < most][:MOST_STUDENTS]
    progress.line(f"students: {', '.join(map(short_name, found)) or f'none: no backbone on this machine is faster than {short_name(own)}'}")
    return found


def train_once(config: Config, folder: RunFolder, index: Index, source: str | None, progress: Progress) -> None:
    """Train a run, or what is left of it.

    Raises:
        RunFolderError: it was begun with other settings.
    """
    begun = (folder / run_folder.CONFIG).is_file() and (folder / run_folder.SPLITS).is_file()
    if begun:
        require_same(config, folder)
    if not folder.is_finished:
        progress.line(f"{'goes on with' if begun else 'trains'} {folder.path}")
        train(config, folder.path, resume=begun, progress=progress, index=None if begun else index, source=source if begun else None)


def require_same(config: Config, folder: RunFolder) -> None:
    """Refuse a run that was trained, or begun, with other settings of `train` than are asked for now."""
    there = used_settings(read_config(folder))
    for path, value in used_settings(config).items():
        if path.startswith("train.") and path != "train.teacher" and value not in (None, "auto", there[path]):
            raise RunFolderError(f"{folder.path}: was made with {path}={there[path]}, not {value}. Remove that folder, or the setting.")


def described(folder: RunFolder) -> dict[str, Any]:
    """What a run is, and its figures, as compress.json has them."""
    config, file, mend = read_config(folder), folder / run_folder.METRICS, "Train that run again."
    with run_folder.reading(file, "the metrics of a run", mend):
        metrics = run_folder.read_json(file, "the metrics of a run", mend)
        return {
            "folder": str(folder.path),
            "backbone": short_name(metrics["backbone"]),
            "image_size": config.data.image_size,
            "parameters": metrics["parameters"]["total"],
            "zeros": metrics.get("zeros", 0.0),
            "sparsity": config.train.sparsity,
            **{split: {key: metrics[split][key] for key in ("accuracy", "accuracy_ci95")} for split in ("val", "test")},
        }


def refused_before(folder: RunFolder, config: Config) -> dict[tuple[str, str], dict[str, Any]]:
    """The points that were refused by the same bounds when this was run before: they are not tried again."""
    file = folder / run_folder.COMPRESS_RECORD
    record = run_folder.read_json(file, "the record of a compression", MEND) if file.is_file() else {}
    with run_folder.reading(file, "the record of a compression", MEND):
        points = record["points"] if record.get("export") == config.export.model_dump() else []
        return {(point["run"], point["format"]): point for point in points if "refused" in point}


def exported(name: str, folder: RunFolder, kind: str, config: Config, source: str | None, progress: Progress) -> dict[str, Any]:
    """The point of a run in one format, which is written and compared with its model unless it is there; or why it is not kept."""
    point: dict[str, Any] = {"run": name, "format": kind}
    rows = read_exports(folder / run_folder.EXPORT)
    if kind not in rows:
        settings = {f"export.{setting}": value for setting, value in config.export.model_dump().items()}
        try:
            found = export(folder.path, formats=[kind], settings=settings, source=source, progress=progress)
        except ExportError as error:
            return point | {"refused": str(error)}
        if found["missed"]:
            return point | {"refused": found["missed"][0]}
        rows = found["formats"]
    row = rows[kind]
    kept = ("file", "images", "bytes", "accuracy", "accuracy_ci95", "agreement", "single_ms", "images_per_second")
    size = compressed_bytes(folder / run_folder.EXPORT / EXPORT_FORMATS[kind].file)
    return point | {key: row[key] for key in kept if key in row} | {"compressed_bytes": size}
