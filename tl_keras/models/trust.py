"""The SavedModels that this machine trusts: those that do more than compute are loaded only if a user here has allowed it.

`graph_safety` says what a graph may do. One that may not be loaded is known by a hash of it and of the files that it reads, and
the hashes that are trusted lie in the cache folder of this machine. `model.trust` puts the backbone's there, so that the runs that
were made with it go on working here; nothing in a file or folder that a stranger sends can. So does

    python -m tl_keras.models.trust RUN/model.keras

for a run of somebody else, which names what its graph would do.
"""

import hashlib
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath

from tl_keras.cache import cache_folder
from tl_keras.errors import BackboneError, UserError
from tl_keras.models.backbone_kinds import SAVED_MODEL
from tl_keras.models.graph_safety import refused_in
from tl_keras.models.zip_members import read_member
from tl_keras.run_folder import write_text

ASSETS = "assets"  # the folder of files that a SavedModel reads, such as a vocabulary
TRUSTED = "trusted_graphs"  # in the cache folder: an empty file for each, named after its hash
MOST_NAMED = 6  # operations in a message

Files = Mapping[str, bytes]  # of a SavedModel, its weights left out: path in its folder -> content

_trusting: ContextVar[bool] = ContextVar("trusting", default=False)


@contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Put what is loaded inside on this machine's list, where `trust` is set, in place of refusing it."""
    token = _trusting.set(trust)
    try:
        yield
    finally:
        _trusting.reset(token)


def require_safe(where: str, files: Files) -> None:
    """Refuse a SavedModel that does more than compute, unless it is trusted here.

    Raises:
        BackboneError: naming its operations, and how to trust it.
        ValueError: its graph is damaged.
    """
    refused = refused_in(files[SAVED_MODEL])
    mark = cache_folder() / TRUSTED / digest(files)
    if not refused or mark.is_file():
        return
    if not _trusting.get():
        raise BackboneError(
            f"{where}: is refused, because its graph does more than compute: it reads or writes files, opens connections or calls "
            f"Python ({_few(refused)}). Only if you know who made it and trust them: --set model.trust=true for a backbone, or "
            f"python -m tl_keras.models.trust FILE for a model.keras."
        )
    _note(mark)


def digest(files: Files) -> str:
    """A hash of all files, their names included."""
    found = hashlib.sha256()
    for name, content in files.items():
        found.update(f"{name} {len(content)} ".encode() + content)
    return found.hexdigest()


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a SavedModel, without its weights."""
    paths = [folder / SAVED_MODEL, *sorted(path for path in (folder / ASSETS).rglob("*") if path.is_file())]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def graphs_in(keras_file: Path) -> Iterator[dict[str, bytes]]:
    """The SavedModels that layers of a `.keras` file hold, each as `files_of`.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: it is not such a file, or holds one that is packed to next to nothing.
    """
    with zipfile.ZipFile(keras_file) as archive:
        members = sorted((name for name in archive.namelist() if not name.endswith("/")), key=PurePosixPath)
        for graph in (name for name in members if PurePosixPath(name).name == SAVED_MODEL):
            folder = graph.removesuffix(SAVED_MODEL)
            names = [graph, *(name for name in members if name.startswith(f"{folder}{ASSETS}/"))]
            yield {name.removeprefix(folder): read_member(archive, name) for name in names}


def _note(mark: Path) -> None:
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_text(mark, "")
    except OSError as error:
        raise BackboneError(
            f"{mark}: cannot note here that a SavedModel is trusted ({error.strerror}). "
            "Set TL_KERAS_CACHE to a folder that you may write to."
        ) from error


def _few(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def main(words: list[str]) -> int:
    """Trust the SavedModels in folders and `.keras` files; return the exit status."""
    if not words or words[0].startswith("-"):
        print("usage: python -m tl_keras.models.trust FILE.keras|FOLDER ...", file=sys.stderr)
        return 2
    try:
        for word in words:
            path = Path(word)
            for files in [files_of(path)] if path.is_dir() else graphs_in(path):
                with trusting(True):
                    require_safe(word, files)
                print(f"{word}: trusted from now on; beyond computing, its graph has: {_few(refused_in(files[SAVED_MODEL])) or 'nothing'}")
    except (OSError, ValueError, UserError, zipfile.BadZipFile) as error:
        print(f"error: {word}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
