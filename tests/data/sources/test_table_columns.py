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
        (["path", "dog", "cat", "n"], {"label": ("dog", "cat")}, {"path": "path", "p_dog": "dog", "p_cat": "cat"}),
        (["path", "p_a", "p_b", "error"], {}, {"path": "path", "p_a": "p_a", "p_b": "p_b"}),
        (["path", "p_a", "p_b", "split"], {"label": ("p_a", "p_b")}, {"path": "path", "split": "split", "p_a": "p_a", "p_b": "p_b"}),
        (["path", "p_a", "b", "class"], {"label": ("p_a", "b")}, {"path": "path", "p_p_a": "p_a", "p_b": "b"}),
        (["path", "p_a", "p_b", "class"], {}, {"path": "path", "label": "class"}),
        (["p_path", "p_a", "p_b"], {"path": "p_path"}, {"path": "p_path", "p_a": "p_a", "p_b": "p_b"}),
        (["image", "file", "group", "x"], {"label": ("file", "group")}, {"path": "image", "p_file": "file", "p_group": "group"}),
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
        (
            ["path", "breed", "p_x"],
            {},
            "x.csv: none of its columns ('path', 'breed' and 'p_x') is known to be the label; known are category",
        ),
        (
            ["path", "cat", "dog"],
            {"label": ("cat", "dg")},
            "x.csv: has no column 'dg', which data.columns gives for label. Did you mean 'dog'?",
        ),
        (["path", "p_a", "p_a"], {}, "x.csv: has several columns for the class 'a'. Rename all but one."),
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
    chosen = {"path": "path", "p_cat": "cat", "p_dog": "p_dog"}
    assert columns_note(TABLE, ["path", "cat", "p_dog", "n"], chosen) == (
        "x.csv: columns read: path, cat, p_dog (shares of the classes); not used: n"
    )


def test_columns_of_classes_are_for_single_labels() -> None:
    with pytest.raises(DataError, match="is known to be the label"):
        choose_columns(TABLE, ["path", "p_a", "p_b"], {}, "multi_label")
