"""What the documents say holds: commands parse, settings and files exist, links lead somewhere, examples run."""

import ast
import json
import re
import shlex
import shutil
import textwrap
import tomllib
from pathlib import Path

import pytest
import yaml

from tl_keras import run, run_folder
from tl_keras.arguments import examples, read_options
from tl_keras.config import fields
from tl_keras.config_file import check_value, load_config
from tl_keras.modes import MODES

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PAGES = sorted((ROOT / "docs").glob("*.md"))
PROSE = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "saved_models/README.md", "benchmarks/README.md")),
    ROOT / "tl_keras" / "models" / "bundled" / "README.md",
    *PAGES,
]
DOCUMENTS = [*PROSE, *CONFIGS, *sorted((ROOT / "notebooks").glob("*.py"))]
SECTIONS = "data|model|features|train|rank|search|crossval|ensemble|export|compress|runtime"
FILE = re.compile(r"\.(csv|json|png|md|yaml|keras|onnx|tflite|xml|sig)$")


def commands(text):
    """The arguments of every `python -m tl_keras.run`, `tl-keras` or bare `--mode` in a text, without optional [parts]."""
    found = [match.group(1) for match in re.finditer(r"tl_keras\.run (--mode(?: ?[^\n`# ]+)*)", text)]
    found += [match.group(1) for match in re.finditer(rf"tl-keras ((?:{'|'.join(MODES)})(?: ?[^\n`# ]+)*)", text)]
    found += [match.group(1) for match in re.finditer(r"`(--mode [^`]*)`", text)]
    plain = [re.sub(r"\$\w+", "1", re.sub(r" \[-.*?\]", "", command)) for command in found if command not in {"--mode ...", "--mode …"}]
    return [shlex.split(command) for command in plain]  # variables of a shell, such as part $K of 8, are taken for numbers


def cases():
    texts = [examples(), *(path.read_text() for path in DOCUMENTS)]
    return {" ".join(command): command for text in texts for command in commands(text)}


def settings():
    """Every setting that a document names, with its value where one is given: in backticks, or behind --set."""
    found = {}
    for path in DOCUMENTS:
        text = path.read_text()
        named = re.findall(rf"`((?:{SECTIONS})\.[a-z_.]+(?:=[^`\s]+)?)`", text) + re.findall(r"--set ([\w.]+=(?:'[^']*'|[^\s`]+))", text)
        found |= {name: path.name for name in named if not FILE.search(name)}
    return sorted(found)


def blocks(path, language):
    """The code blocks of a document in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def without_code(path):
    """The text of a document without its code blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """The anchors of a document's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", without_code(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def settings_file(path, folder):
    """A file of settings that a command in a document names: of `configs/`, a block of a page that begins with its path, or a run's."""
    if (ROOT / path).is_file():
        return ROOT / path
    found = [re.search(rf"^ *# {re.escape(str(path))}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL) for page in PAGES]
    texts = ["data: {source: photos}"] if path.name == run_folder.CONFIG else [block.group(1) for block in found if block]
    assert len(texts) == 1, path
    (folder / path.name).write_text(textwrap.dedent(texts[0]))
    return folder / path.name


@pytest.mark.parametrize("command", cases().values(), ids=cases().keys())
def test_every_command_is_one_that_the_program_takes(command, tmp_path):
    if command == ["--mode", "extract"] or (command[0] == "--mode" and "--resume" in command):
        command = [*command, "--run-dir", "RUN"] if "--run-dir" not in command else command
    options = read_options([re.sub(r"^runtime\.seed=S$", "runtime.seed=0", word) for word in command])
    if MODES[options.mode].makes_run and not options.resume:
        if options.config is not None:
            options.config = settings_file(options.config, tmp_path)
        run.configure(options)


@pytest.mark.parametrize("setting", settings())
def test_every_setting_in_the_documents_is_one(setting):
    path, given, value = setting.replace("=S", "=0").partition("=")
    assert path in fields()
    if given and value.isupper():
        return  # a placeholder
    if given:
        check_value(path, yaml.safe_load(shlex.split(value)[0]), setting)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_loads_and_begins_with_its_command(path):
    mode = re.search(r"--mode (\w+)", path.read_text()).group(1)
    load_config(mode, file=path, flags={}, sets=[])
    assert f"configs/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_links_in_the_documents_lead_somewhere(path):
    text = path.read_text()
    for name in re.findall(r"`((?:configs|benchmarks|docs|notebooks|tl_keras|tests)/[\w/.]+\.\w+)`", text):
        assert (ROOT / name).is_file(), name
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", without_code(path)):
        file = path.parent / target if target else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_every_page_is_in_the_site_and_in_its_overview():
    nav = json.dumps(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    for page in PAGES:
        assert f'"{page.name}"' in nav
        assert page.name == "index.md" or f"({page.name})" in (ROOT / "docs" / "index.md").read_text()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_no_document_holds_a_number_yet_to_be_measured():
    for document in DOCUMENTS:
        assert not re.search(r"RESULT_|_ROW|_TABLE|TODO", document.read_text()), document.name


def texts_of_the_package():
    """Every literal text in the package's code; of f-strings, the parts between what is filled in."""
    for file in sorted((ROOT / "tl_keras").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.slow
@pytest.mark.parametrize("page", ["troubleshooting.md", "search-cluster.md"])
def test_messages_that_a_page_explains_are_messages_of_the_package(page):
    known = "\n".join(texts_of_the_package())
    rows = re.findall(r"^\| `([^`]*)` \|", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    messages = [message for message in rows if " " in message]
    assert messages
    for message in messages:
        for part in message.replace("JPEG", "...").split("..."):
            assert part.strip() in known, f"{message}: the package does not say '{part.strip()}'"


@pytest.mark.parametrize("path", [path for path in PROSE if blocks(path, "python")], ids=lambda path: path.name)
def test_python_examples_compile_and_import_what_is_there(path):
    for code in blocks(path, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "tl_keras":
                module = __import__("tl_keras")
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", [path for path in PROSE if blocks(path, "yaml")], ids=lambda path: path.name)
def test_yaml_examples_are_configurations(path, tmp_path):
    for code in blocks(path, "yaml"):
        (tmp_path / "example.yaml").write_text(code)
        load_config("search" if "search:" in code else "finetune", file=tmp_path / "example.yaml", flags={}, sets=[])


@pytest.mark.slow
@pytest.mark.usefixtures("quick_exports")
def test_python_examples_run(photo_folder, own_backbone, tmp_path, monkeypatch):
    photos = photo_folder(per_class=8, size=(32, 32), splits=("train", "val", "test"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")
    shutil.copytree(photos / "test", "new")
    shutil.copy(next(photos.rglob("*.jpg")), "photo.jpg")
    shown = {}
    for name in ("docs/python-api.md", "docs/deploying.md", "docs/exporting.md", "README.md"):
        for number, code in enumerate(blocks(ROOT / name, "python")):
            code = re.sub(r'(?<!BACKBONES\[")mobilenet_v2', own_backbone, code).replace("RUN/", "runs/frozen/")
            exec(compile(code, f"{name}, example {number + 1}", "exec"), shown)
