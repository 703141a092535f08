"""The page: the verdict, and every part that applies to the run."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.evaluation.explain.small import SmallMaps
from tl_keras.evaluation.markup import fill, text
from tl_keras.evaluation.report import calibration, curves, examples, exports, figures, origin, slices
from tl_keras.evaluation.report.facts import commands_for, facts_of
from tl_keras.evaluation.report.record import Record, read_record
from tl_keras.evaluation.report.verdict import Sentence, verdict
from tl_keras.run_folder import RunFolder

Part = Callable[[Record], str]


def of_judged(part: Part) -> Part:
    """A part that shows how the model does on the images that it is for; empty where nothing is known of these."""
    return lambda record: "" if record.judged is None else part(record.judged)


def of_test(part: Part) -> Part:
    """A part that needs what only test has: baselines and photos; empty where the model is for other images than test."""
    return lambda record: part(record) if record.judged is record else ""


SECTIONS: tuple[Part, ...] = (  # each is empty where it does not apply
    figures.of_target,
    of_test(figures.overview),
    of_judged(figures.of_classes),
    of_judged(figures.of_confusions),
    figures.of_numbers,
    of_test(slices.section_of),
    curves.section_of,
    of_judged(calibration.section_of),
    of_test(examples.section_of),
    exports.section_of,
    origin.of_data,
    origin.of_making,
)
HEADING = re.compile(r'<h2 id="(\w+)" tabindex="-1">(.*?)</h2>')


def write_report(run: RunFolder, config: Config, metrics: Mapping[str, Any], root: Path | None, maps: SmallMaps | None = None) -> Path:
    """Write report.html into a run's folder.

    Args:
        config: of the run.
        metrics: what metrics.json holds, or is going to hold.
        root: the folder that the paths of the run's images are relative to; None where nobody knows where they lie now.
        maps: what makes maps of them, if anything does.

    Returns:
        The file.

    Raises:
        RunFolderError: see `read_record`.
    """
    path = run / run_folder.REPORT
    run_folder.write_text(path, render(read_record(run, config, metrics, root, maps)))
    return path


def render(record: Record) -> str:
    """The page as HTML."""
    metrics, version = record.metrics, record.environment.get("tl_keras")
    return assemble(
        f"{Path(record.config.data.source).name or record.config.data.source}: {metrics['backbone']}",
        f"{metrics['mode']}, run folder {record.run.path.name}" + (f", tl_keras {version}" if version else ""),
        verdict(facts_of(record)),
        [found for part in SECTIONS if (found := part(record))],
        commands_for(record.config, record.run.path),
    )


def assemble(name: str, about: str, sentences: Sequence[Sentence], parts: Sequence[str], commands: Mapping[str, str]) -> str:
    """A page of a verdict and the parts behind it.

    Args:
        name: of the page.
        about: what it is about, in a line.
        sentences: the verdict.
        parts: HTML of each, see `markup.section`.
        commands: those that the sentences name.
    """
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for part in parts for anchor, title in HEADING.findall(part))
    return fill(
        "tl_keras.evaluation.report",
        "page.html",
        name=text(name),
        about=text(about),
        verdict="\n".join(_sentence(each, commands) for each in sentences),
        contents=f"<ul>{links}</ul>",
        sections="\n".join(parts),
    )


def _sentence(sentence: Sentence, commands: Mapping[str, str]) -> str:
    lines = "".join(f"<pre>{text(commands[name])}</pre>" for name in sentence.commands)
    said = text(sentence.text).replace(" %", "\u00a0%")  # which no line begins with
    return f"<dt>{text(sentence.title)}</dt><dd>{said}{lines}</dd>"
