"""The card that goes with exported files: what the model is, what it was made of, how good it is, and a checksum of every file.

After Mitchell et al. 2019, arXiv:1810.03993: what can be told from the run is told; what it is for, its owner has to say.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tl_keras.config import Config
from tl_keras.evaluation.metrics import SUMMARY
from tl_keras.models.backbones import licence_of
from tl_keras.tasks import figure_text

JSON, MARKDOWN = "model_card.json", "model_card.md"
FIGURES = ("ece", "roc_auc")  # of test, beside those that tell most
LISTED = 20  # classes in the text


def card_of(
    config: Config, metrics: Mapping[str, Any], environment: Mapping[str, Any], about: Mapping[str, Any], formats: Mapping[str, Any]
) -> dict[str, Any]:
    """The card of a run.

    Args:
        config, metrics, environment: of the run; metrics are empty for a run that was not measured.
        about: what a program has to know, see `Exported.description`.
        formats: the rows of export.json.
    """
    test = metrics.get("test", {})
    shown = [name for name in (*SUMMARY[about["task"]], *FIGURES) if name in test]
    return {
        **{key: about[key] for key in ("task", "classes", "input", "resize", "outputs")},
        **{key: about[key] for key in ("thresholds", "novelty_threshold") if key in about},
        "mode": config.mode,
        "backbone": metrics.get("backbone", config.model.backbone),
        "licence_of_the_backbones_weights": licence_of(config.model.backbone, config.model.weights),
        "parameters": metrics.get("parameters", {}).get("total"),
        "images": config.data.source,
        "number_of_images": metrics.get("data", {}),
        "test": {key: test[key] for name in shown for key in (name, f"{name}_ci95") if key in test},
        **{key: metrics[key] for key in ("temperature", "novelty", "prediction_sets") if key in metrics},
        "formats": formats,
        "made_with": environment,
    }


def text_of(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Mapping[str, Any]) -> Iterator[str]:
    height, width = card["input"]["shape"][1:3]
    names = ", ".join(card["classes"][:LISTED]) + (f" and {len(card['classes']) - LISTED} more" if len(card["classes"]) > LISTED else "")
    yield f"# {card['backbone']}: {names}"
    yield ""
    yield f"- Task: {card['task']}, by `{card['mode']}`"
    yield f"- Input: RGB pixels of {height} x {width}, 0 to 255; images are resized by '{card['resize']}'"
    yield f"- Licence of the backbone's weights: {card['licence_of_the_backbones_weights'] or 'not known here'}"
    if counts := {name: card["number_of_images"].get(name) for name in ("train", "val", "test")}:
        yield f"- Images: {', '.join(f'{number:,} {name}' for name, number in counts.items() if number is not None)}, of {card['images']}"
    yield f"- Made with tl_keras {card['made_with'].get('tl_keras', '')}, Keras {card['made_with'].get('keras', '')}"
    if card["test"]:
        yield ""
        yield "| figure of test | | 95 % interval |"
        yield "|---|---:|---|"
        for name, value in card["test"].items():
            if not name.endswith("_ci95"):
                ends = " to ".join(figure_text(name, end) for end in card["test"].get(f"{name}_ci95", ()))
                yield f"| {name} | {figure_text(name, value)} | {ends} |"
    yield ""
    yield "| format | file | bytes | same classes as the model | sha256 |"
    yield "|---|---|---:|---:|---|"
    for name, row in card["formats"].items():
        same = "" if row["agreement"] is None else f"{row['agreement']:.3f}"
        sums = "<br>".join(f"{file} {digest}" for file, digest in row["sha256"].items())
        yield f"| {name} | {row['file']} | {row['bytes']:,} | {same} | {sums} |"
    yield ""
    yield "Figures hold for images like those of test. What the model is for, and what it must not be used for, its owner has to add."
