"""Run folders, stored features and studies with a damaged file: the same answer as before, or one line."""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PLAIN = ("--set", "features.views=0")
GARBAGE = (b"", b"\0" * 64, b"\xff\xfe\xff", b"{", b"[]", b"null", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"a,b\n1,2\n", b"\x93NUMPY\x01\0")


def damage(file: Path, rng: random.Random) -> str:
    """Cut, flip, replace, empty, remove or turn into a folder one file; says how."""
    content = file.read_bytes()
    how = rng.choice(("cut", "flip", "garbage", "remove", "folder", "text", "double"))
    if how == "cut":
        file.write_bytes(content[: rng.randrange(len(content) + 1)])
    elif how == "flip" and content:
        changed = bytearray(content)
        for _ in range(rng.choice((1, 3, 30))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        file.write_bytes(bytes(changed))
    elif how == "garbage":
        file.write_bytes(rng.choice(GARBAGE))
    elif how == "text" and content:  # a mistake that keeps the form: another digit, another letter
        places = [place for place, byte in enumerate(content) if chr(byte).isalnum()]
        changed = bytearray(content)
        changed[rng.choice(places or [0])] = ord(rng.choice("0129azAZ"))
        file.write_bytes(bytes(changed))
    elif how == "double":
        file.write_bytes(content + content)
    else:
        file.unlink()
        if how == "folder":
            file.mkdir()
    return how


def pick(folder: Path, files: Sequence[Path], number: int, rng: random.Random) -> Path:
    """Which file is damaged: first the largest, which has weights or features, then any."""
    return rng.choice(files) if number else max(files, key=lambda file: (folder / file).stat().st_size)


def check(command: Any, told: str) -> str:
    """'done' or 'refused' in one line each."""
    assert "Traceback" not in command.text, told + command.text
    assert command.status in (0, 2), told + command.text
    assert " object at 0x" not in command.text, told + command.text
    return "done" if command.status == 0 else "refused"


def test_a_damaged_run_is_used_as_before_or_refused(
    finished: Path, command_line: Any, photos: Path, tmp_path: Path, rng: random.Random, times: Callable[[int, int], int],
    report: Callable[..., None],
) -> None:  # fmt: skip
    images = sorted(str(path) for path in photos.rglob("*.png"))[:4]

    def answers(run: Path) -> Any:
        return command_line.run(["--mode", "predict", "--run-dir", run, *images, "--output", tmp_path / "found.csv"])

    def evaluated(run: Path) -> Any:
        return command_line.run(["evaluate", run])

    def explained(run: Path) -> Any:
        return command_line.run(["explain", run, images[0]])

    uses = (answers, evaluated, explained)
    assert answers(finished).status == 0
    wanted = (tmp_path / "found.csv").read_bytes()
    files = [path.relative_to(finished) for path in sorted(finished.rglob("*")) if path.is_file()]
    for number in range(times(6, 400)):
        run = tmp_path / str(number)
        shutil.copytree(finished, run)
        file = pick(run, files, number, rng)
        told = f"{file}, {damage(run / file, rng)}: "
        (tmp_path / "found.csv").unlink(missing_ok=True)
        use = number % len(uses)
        found = check(uses[use](run), told)
        wrong = int(use == 0 and found == "done" and (tmp_path / "found.csv").read_bytes() != wanted)
        report("run folders", damaged=1, **{found: 1}, silent_wrong_answers=wrong)
        assert not wrong, told
        shutil.rmtree(run)


def test_an_interrupted_run_that_is_damaged_goes_on_or_is_refused(
    interrupted: tuple[Path, str], command_line: Any, tmp_path: Path, rng: random.Random, times: Callable[[int, int], int],
    report: Callable[..., None], tools: Any,
) -> None:  # fmt: skip
    broken, wanted = interrupted
    files = [path.relative_to(broken) for path in sorted(broken.rglob("*")) if path.is_file()]
    for number in range(times(2, 100)):
        run = tmp_path / str(number)
        shutil.copytree(broken, run)
        file = pick(run, files, number, rng)
        told = f"{file}, {damage(run / file, rng)}: "
        found = check(command_line.run(["--mode", "finetune", "--resume", "--run-dir", run]), told)
        wrong = int(found == "done" and file.suffix == ".h5" and tools.digest_of_run(run) != wanted)
        report("run folders", damaged=1, **{found: 1}, silent_wrong_answers=wrong)
        assert not wrong, told
        shutil.rmtree(run)


def test_damaged_shards_are_computed_again(
    command_line: Any, photos: Path, small: tuple[str, ...], tmp_path: Path, rng: random.Random, times: Callable[[int, int], int],
    report: Callable[..., None], tools: Any,
) -> None:  # fmt: skip
    cache = tmp_path / "cache"
    arguments = ["--mode", "extract", "--data", photos, *PLAIN, *small]
    assert command_line.run([*arguments, "--run-dir", tmp_path / "whole"], TL_KERAS_CACHE=str(cache)).status == 0
    wanted = tools.digest_of_run(tmp_path / "whole")
    files = [path.relative_to(cache) for path in sorted((cache / "features").rglob("*")) if path.is_file()]
    for number in range(times(4, 150)):
        copy, run = tmp_path / f"cache{number}", tmp_path / str(number)
        shutil.copytree(cache, copy)
        file = pick(copy, files, number, rng)
        told = f"{file}, {damage(copy / file, rng)}: "
        found = check(command_line.run([*arguments, "--run-dir", run], TL_KERAS_CACHE=str(copy)), told)
        wrong = int(found == "done" and tools.digest_of_run(run) != wanted)
        report("store and studies", damaged=1, **{found: 1}, silent_wrong_answers=wrong)
        assert not wrong, told
        shutil.rmtree(copy)


def test_a_damaged_study_goes_on_or_is_refused(
    command_line: Any, photos: Path, small: tuple[str, ...], tmp_path: Path, rng: random.Random, times: Callable[[int, int], int],
    report: Callable[..., None],
) -> None:  # fmt: skip
    whole = tmp_path / "whole"
    search = ["--mode", "search", "--data", photos, "--set", "search.max_trials=3", "--set", "search.tuner=random", *PLAIN, *small]
    assert command_line.run([*search, "--run-dir", whole]).status == 0
    (whole / "search.json").unlink()  # as if it had been killed at the very end
    files = [path.relative_to(whole) for path in sorted(whole.glob("study-*/**/*")) if path.is_file()]
    for number in range(times(3, 50)):
        run = tmp_path / str(number)
        shutil.copytree(whole, run)
        file = pick(run, files, number, rng)
        told = f"{file}, {damage(run / file, rng)}: "
        found = check(command_line.run(["--mode", "search", "--resume", "--run-dir", run]), told)
        report("store and studies", damaged=1, **{found: 1}, silent_wrong_answers=0)
        shutil.rmtree(run)
