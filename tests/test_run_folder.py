"""Files appear whole or not at all; a run folder says what it holds."""

import csv
import json
import os

import pytest

from tl_keras.claim import CLAIM
from tl_keras.errors import RunFolderError
from tl_keras.run_folder import (
    BEST,
    CONFIG,
    ENSEMBLE,
    METRICS,
    MODEL,
    RANKING,
    RANKING_JSON,
    SCRATCH,
    SPLITS,
    RunFolder,
    open_text,
    read_csv,
    read_json,
    write_atomically,
    write_csv,
    write_json,
    write_numbered,
    write_text,
)


def test_write_atomically_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def half(temporary):
        temporary.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_write_atomically_replaces_a_folder(tmp_path):
    folder = tmp_path / "model"
    for content in ("one", "two"):

        def fill(temporary, content=content):
            temporary.mkdir()
            (temporary / content).touch()

        write_atomically(folder, fill)
    assert [entry.name for entry in folder.iterdir()] == ["two"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_numbered_folders_follow_each_other_and_none_is_replaced(tmp_path):
    parent = tmp_path / "evaluations"

    def fill(text):
        return lambda folder: (folder / "a.txt").write_text(text)

    assert write_numbered(parent, fill("one")) == parent / "1"
    (parent / "9").mkdir()
    (parent / "9" / "kept.txt").touch()
    (parent / "notes").mkdir()

    def beaten(folder):  # another process is faster
        (folder / "a.txt").write_text("mine")
        (parent / "10").mkdir()
        (parent / "10" / "its.txt").touch()

    assert write_numbered(parent, beaten) == parent / "11"
    with pytest.raises(OSError, match="disk full"):
        write_numbered(parent, lambda _: (_ for _ in ()).throw(OSError("disk full")))
    assert sorted(entry.name for entry in parent.iterdir()) == ["1", "10", "11", "9", "notes"]
    assert (parent / "1" / "a.txt").read_text() == "one"


def test_write_atomically_keeps_the_suffixes(tmp_path):
    seen = []
    write_atomically(tmp_path / "a.weights.h5", lambda path: (seen.append(path.name), path.write_text("x")))
    assert seen[0].endswith("a.weights.h5")


def test_json_and_csv_round_trip(tmp_path):
    write_json(tmp_path / "a.json", {"grün": [1, 2.5]})
    assert "grün" in (tmp_path / "a.json").read_text(encoding="utf-8")
    rows = [["a,b", "1"], ['say "no"', "2"]]
    write_csv(tmp_path / "a.csv", ("name", "number"), iter(rows))
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["name", "number"], *rows]


NAMES = ["a\rb", "a\nb", "\r\n", 'say "no", please', "Löwe", os.fsdecode(b"b\xe4r.png"), ""]
FORMULAS = ["=1+1", "+a", "-a.jpg", "@x", "\tx", "\rx", "'=x", "''+x", "=cmd|' /C calc'!A0"]
PLAIN = ["'x", "a=b", "-1.5", "+2e-3", "-inf", "-.5", "x", "'", ""]


def test_a_cell_is_no_formula_and_reads_back_as_it_was(tmp_path):
    write_csv(tmp_path / "a.csv", ("name",), ([name] for name in FORMULAS + PLAIN))
    with open_text(tmp_path / "a.csv") as file:
        raw = [line[0] for line in csv.reader(file)][1:]
    assert raw == [f"'{name}" for name in FORMULAS] + PLAIN
    with open_text(tmp_path / "a.csv") as file:
        assert [line[0] for line in read_csv(file)] == ["name", *FORMULAS, *PLAIN]


def test_a_file_that_is_damaged_is_one_line(tmp_path):
    file = tmp_path / "a.json"
    for content in (b"", b"[]", b"{", b"\xff", b'{"a": 1'):
        file.write_bytes(content)
        with pytest.raises(RunFolderError, match=r"a\.json: is damaged, or is not a record\. Restore it\.$"):
            read_json(file, "a record", "Restore it.")
    file.unlink()
    with pytest.raises(RunFolderError, match=r"a\.json: cannot be read \(No such file or directory\)\. Restore it\.$"):
        read_json(file, "a record", "Restore it.")


@pytest.mark.skipif(os.name != "posix", reason="no FIFOs")
def test_nobody_waits_for_a_fifo_in_a_run_folder(tmp_path):
    for name in (CONFIG, METRICS, CLAIM):
        os.mkfifo(tmp_path / name)
    run = RunFolder(tmp_path)
    with pytest.raises(RunFolderError, match=r"metrics\.json: cannot be read \(not a regular file\)\. Restore it\."):
        read_json(run / METRICS, "the metrics of a run", "Restore it.")
    with pytest.raises(RunFolderError, match="holds no trained model"):
        run.require_model()
    with pytest.raises(RunFolderError, match="cannot be written"):
        run.resume()
    for name in (CONFIG, METRICS):
        (run / name).unlink()
    with pytest.raises(RunFolderError, match="cannot write a run folder here"):
        run.start()


def test_a_csv_file_holds_every_name_that_a_file_may_have(tmp_path):
    write_csv(tmp_path / "a.csv", ("name", "number"), ([name, str(number)] for number, name in enumerate(NAMES)))
    with open_text(tmp_path / "a.csv") as file:
        assert list(read_csv(file)) == [["name", "number"], *([name, str(number)] for number, name in enumerate(NAMES))]
    assert b"\nb\xe4r.png,5\n" in (tmp_path / "a.csv").read_bytes()
    assert b"\nL\xc3\xb6we,4\n" in (tmp_path / "a.csv").read_bytes()


def test_a_json_file_is_utf_8_whatever_the_names(tmp_path):
    write_json(tmp_path / "a.json", NAMES)
    text = (tmp_path / "a.json").read_text(encoding="utf-8", errors="strict")
    assert "Löwe" in text
    assert "b\\udce4r.png" in text
    assert json.loads(text) == NAMES


def test_start_makes_parents_and_refuses_what_is_taken(tmp_path):
    run = RunFolder(tmp_path / "deep" / "run")
    claim = run.start()
    assert claim.made == (tmp_path / "deep" / "run", tmp_path / "deep")
    claim.release()
    claim = run.start()  # empty: still to be had
    assert claim.made == ()
    claim.release()
    (run / "notes.txt").touch()
    with pytest.raises(RunFolderError, match="holds other files already"):
        run.start()
    (run / CONFIG).touch()
    with pytest.raises(RunFolderError, match="holds another run already"):
        run.start()
    assert sorted(entry.name for entry in run.path.iterdir()) == [CONFIG, "notes.txt"]


def kill_in(run, mode, *left):
    """Leave in a run folder what a process does that is killed there."""
    os.close(run.start().descriptor)
    for name in left:
        (run / name).write_text(f"mode: {mode}\n" if name == CONFIG else "")


@pytest.mark.parametrize(
    ("mode", "left"), [("extract", ()), ("finetune", (SPLITS, RANKING)), ("rank", (CONFIG, RANKING)), ("ensemble", (SPLITS, CONFIG))]
)
def test_what_a_kill_leaves_that_cannot_be_resumed_is_started_over(tmp_path, mode, left):
    run = RunFolder(tmp_path / "run")
    kill_in(run, mode, *left)
    run.require_free()
    claim = run.start()
    assert [entry.name for entry in run.path.iterdir()] == [CLAIM]
    claim.release()


def test_what_a_kill_leaves_that_can_be_resumed_stays(tmp_path):
    run = RunFolder(tmp_path / "run")
    kill_in(run, "finetune", CONFIG, SPLITS)
    for refuse in (run.require_free, run.start):
        with pytest.raises(RunFolderError, match=r"holds another run already.* continue the interrupted one with --resume\.$"):
            refuse()
    (run / ".0123456789abcdef.partial").mkdir()
    (run / ".0123456789abcdef.partial" / "model.keras").touch()
    (run / SCRATCH).mkdir()
    run.resume().release()
    assert sorted(entry.name for entry in run.path.iterdir()) == [CONFIG, SPLITS]


@pytest.mark.parametrize(("mode", "last"), [("rank", (RANKING_JSON,)), ("ensemble", (ENSEMBLE, METRICS)), ("finetune", (METRICS, MODEL))])
def test_a_finished_run_is_never_started_over_nor_resumed(tmp_path, mode, last):
    run = RunFolder(tmp_path / "run")
    kill_in(run, mode, CONFIG, SPLITS, *last)  # killed after its last file
    with pytest.raises(RunFolderError, match=r"holds another run already\. Give another --run-dir\.$"):
        run.start()
    with pytest.raises(RunFolderError, match="this run is finished"):
        run.resume()
    assert {CONFIG, SPLITS, *last} == {entry.name for entry in run.path.iterdir()}


def test_no_two_have_one_folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    first = run.start()
    for attempt in (run.require_free, run.start, run.resume):
        with pytest.raises(RunFolderError, match=rf"another process \(process {os.getpid()} on .*\) is working in this folder"):
            attempt()
    assert [entry.name for entry in run.path.iterdir()] == [CLAIM]
    first.release()
    run.resume().release()


def test_a_start_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tl_keras.claim.os.open", refuse)
    with pytest.raises(RunFolderError, match=r"cannot write a run folder here \(No space left on device\)"):
        RunFolder(tmp_path / "deep" / "run").start()
    assert list(tmp_path.iterdir()) == []


def test_undo_removes_what_was_made(tmp_path):
    (tmp_path / "empty").mkdir()
    for run in (RunFolder(tmp_path / "deep" / "run"), RunFolder(tmp_path / "empty")):
        claim = run.start()
        (run / SCRATCH).mkdir()
        (run / SPLITS).touch()
        run.undo(claim)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_folder_whose_name_is_not_utf_8_is_refused_where_that_will_not_do(tmp_path):
    RunFolder(tmp_path / "rün").require_utf8("KerasTuner")
    with pytest.raises(RunFolderError, match=r"the name of this folder is not UTF-8, which KerasTuner needs\. Give another --run-dir"):
        RunFolder(tmp_path / os.fsdecode(b"r\xfcn")).require_utf8("KerasTuner")


def test_undo_keeps_what_another_run_has_made_meanwhile(tmp_path):
    run = RunFolder(tmp_path / "deep" / "run")
    claim = run.start()
    (tmp_path / "deep/other").mkdir()
    run.undo(claim)
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["other"]


def test_what_a_folder_is_good_for(tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(RunFolderError, match="no such run folder"):
        run.require_model()
    run.start().release()
    with pytest.raises(RunFolderError, match="no interrupted run"):
        run.require_unfinished("finetune")
    for name in (CONFIG, SPLITS):
        (run / name).touch()
    assert run.require_unfinished("finetune") is run
    with pytest.raises(RunFolderError, match="Continue it with --resume"):
        run.require_model()
    (run / BEST).mkdir()
    (run / BEST / MODEL).touch()
    with pytest.raises(RunFolderError, match=r"Give .*best, the winner of this search"):
        run.require_model()
    (run / MODEL).touch()
    assert run.require_model() is run
    assert not run.is_finished
    (run / METRICS).touch()
    assert run.is_finished
    with pytest.raises(RunFolderError, match="finished"):
        run.require_unfinished("finetune")
