"""Which column says what: the usual names, what is said by hand, and what is asked where it is not plain."""

from pathlib import Path

import pytest

from tl_keras.data.sources.table_columns import choose_columns, columns_note
from tl_keras.errors import DataError

TABLE = Path("x.csv")


@pytest.mark.parametrize(
    ("names", "said", "chosen"),
    [
        (["path", "label"], {}, {"path": "path", "label": "label"}),
        (["Species", "File Name", "mass"], {}, {"path": "File Name", "label": "Species"}),
        (["image_path", "class", "split", "group", "domain"], {}, ["image_path", "class", "split", "group", "domain"]),
        (["id", "breed"], {"path": "id", "label": "breed"}, {"path": "id", "label": "breed"}),
        (["path", "file", "label"], {"path": "file"}, {"path": "file", "label": "label"}),
        (["file", "label", "target"], {"label": "target", "group": "label"}, {"path": "file", "label": "target", "group": "label"}),
    ],
)
def test_columns_are_known_by_name(names, said, chosen):
    found = choose_columns(TABLE, names, said)
    assert (list(found.values()) if isinstance(chosen, list) else found) == chosen


@pytest.mark.parametrize(
    ("names", "said", "text"),
    [
        (
            ["id", "breed"],
            {},
            "x.csv: none of its columns ('id' and 'breed') is known to be the path; known are file, filename, filepath, image, imagepath, "
            "path. Say which is: --set data.columns='{path: NAME}'. The first line of the table names the columns.",
        ),
        (["path", "breed"], {}, "x.csv: none of its columns ('path' and 'breed') is known to be the label; known are category, class, "),
        (
            ["path", "file", "label"],
            {},
            "x.csv: several of its columns may be the path ('path' and 'file'). Say which is: --set data.columns='{path: path}'.",
        ),
        (["path", "label", "label"], {}, "x.csv: has several columns 'label'. Rename all but the one that says the label."),
        (["path", "breed"], {"label": "bread"}, "x.csv: has no column 'bread', which data.columns gives for label. Did you mean 'breed'?"),
        (["path", "x"], {"label": "y"}, "x.csv: has no column 'y', which data.columns gives for label. It has 'path' and 'x'."),
    ],
)
def test_what_is_not_plain_is_asked(names, said, text):
    with pytest.raises(DataError) as caught:
        choose_columns(TABLE, names, said)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(("name", "task"), [("tags", "multi_label"), ("Value", "regression"), ("breed", None)])
def test_a_column_of_another_task_is_told(name, task):
    with pytest.raises(DataError) as caught:
        choose_columns(TABLE, ["path", name], {})
    assert str(caught.value).endswith(f" for each image, add --set data.task={task}." if task else "names the columns.")


def test_for_a_run_nothing_is_advised_that_it_does_not_take():
    for names in (["path", "breed"], ["path", "label", "target"]):
        with pytest.raises(DataError) as caught:
            choose_columns(TABLE, names, {}, of_run=True)
        assert "--set" not in str(caught.value)
        assert "Rename " in str(caught.value)


def test_what_is_read_and_what_is_not_is_one_line():
    names = ["", "File", "breed", "split", "mass"]
    chosen = {"path": "File", "label": "breed", "split": "split"}
    assert columns_note(TABLE, names, chosen) == (
        "x.csv: columns read: File (path), breed (label), split; not used: one without a name, mass"
    )
    assert columns_note(TABLE, ["path", "label"], {"path": "path", "label": "label"}) == "x.csv: columns read: path, label"
