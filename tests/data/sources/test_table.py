"""A table as a source: the index that it makes, and one line for each mistake in it."""

import os
import zipfile

import numpy as np
import pytest

from tl_keras.config import Config, DataConfig
from tl_keras.config_file import load_config
from tl_keras.data.sources import absolute_source, check_layout_of, check_source, find_root, open_labelled, open_source
from tl_keras.data.splits import read_splits, write_splits
from tl_keras.errors import ConfigError, DataError

NAMES = ("a/0.png", "a/1.png", "b/0.png", "b/1.png", "c.png")


@pytest.fixture
def photos(tmp_path):
    """A folder with a few empty files in it; the scan looks at names alone."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def table_in(folder, *lines, name="labels.csv"):
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def opened(table, **more):
    config = DataConfig(source=str(table), **more)
    check_source(config)
    check_layout_of(config)
    return open_source(config)


def error_of(table, **more):
    with pytest.raises(DataError) as caught:
        opened(table, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{table}: ")


def test_an_index_of_a_table_is_by_class_and_path(photos):
    index = opened(table_in(photos, "label,path,mass", "dog,c.png,1", "cat,b/0.png,2", "dog,a/1.png,3", "cat,a/0.png,4"))
    assert (index.root, index.classes) == (photos, ("cat", "dog"))
    assert index.paths == ("a/0.png", "b/0.png", "a/1.png", "c.png")
    np.testing.assert_array_equal(index.labels, [0, 0, 1, 1])
    assert index.labels.dtype == np.int32
    assert (index.given, index.groups, index.domains) == (None, None, None)
    assert index.notes == ("labels.csv: columns read: path, label; not used: mass",)


def test_splits_groups_and_domains_stay_with_their_images(photos):
    lines = ["c.png,dog,Valid,g1,d1", "a/0.png,dog,train,g2,d2", "b/0.png,cat,TRAIN,g3,d3", "b/1.png,cat,test,g4,d4"]
    index = opened(table_in(photos, "path,label,split,group,domain", *lines))
    assert index.paths == ("b/0.png", "a/0.png", "c.png", "b/1.png")
    assert index.given == ("train", "train", "val", "test")
    assert index.groups == ("g3", "g2", "g1", "g4")
    assert index.domains == ("d3", "d2", "d1", "d4")


def test_images_may_lie_in_another_folder_or_anywhere(photos, tmp_path):
    (tmp_path / "tables").mkdir()
    lines = ["path,label", "0.png,dog", "1.png,cat"]
    assert opened(table_in(photos, *lines), image_folder="a").root == photos / "a"
    assert opened(table_in(photos, *lines), image_folder=str(photos / "b")).root == photos / "b"
    index = opened(table_in(tmp_path / "tables", "path,label", f"{photos}/a/0.png,dog", "../b/0.png,cat"))
    assert (index.root, index.paths) == (photos, ("b/0.png", "a/0.png"))
    assert find_root(DataConfig(source=str(tmp_path / "tables" / "labels.csv"))) == photos


def test_splits_of_a_run_on_absolute_paths_are_read_back(photos, tmp_path):
    index = opened(table_in(photos, "path,label", f"{photos}/a/0.png,dog", f"{photos}/b/0.png,cat"))
    write_splits(tmp_path / "splits.csv", index, np.array(["train", "test"]))
    again = read_splits(tmp_path / "splits.csv", index.root)[0]
    assert [again.root / path for path in again.paths] == [photos / "b/0.png", photos / "a/0.png"]


def test_splits_of_a_run_are_a_table(photos):
    index = opened(table_in(photos, "path,label", "a/0.png,dog", "b/0.png,cat"))
    write_splits(photos / "splits.csv", index, np.array(["train", "train"]))
    again = opened(photos / "splits.csv")
    assert (again.paths, again.classes, again.given) == (index.paths, index.classes, ("train", "train"))


def test_a_table_of_a_competition(photos):
    lines = ["id;breed", "0;boxer", "1;pug"]
    index = opened(table_in(photos, *lines), columns={"path": "id", "label": "breed"}, image_folder="a")
    assert (index.paths, index.classes) == (("0.png", "1.png"), ("boxer", "pug"))


def test_a_table_may_lie_in_an_archive_with_its_images(photos):
    table = table_in(photos, "path,label", "a/0.png,dog", "b/0.png,cat")
    with zipfile.ZipFile(photos / "x.zip", "w") as archive:
        for name in (*NAMES, table.name):
            archive.write(photos / name, f"data/{name}")
    index = opened(photos / "x.zip/data/labels.csv")
    assert (index.root, index.paths) == (photos / "x.zip/data", ("b/0.png", "a/0.png"))
    assert absolute_source(str(photos / "x.zip/data/labels.csv")) == str(photos / "x.zip/data/labels.csv")


def test_parquet_is_a_table_too(photos):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"path": ["c.png", "a/0.png"], "label": [7, 10]}), photos / "x.parquet")
    index = opened(photos / "x.parquet")
    assert (index.paths, index.classes) == (("a/0.png", "c.png"), ("10", "7"))


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["path,label"], "has no rows below the names of its columns. Add one for each image."),
        (["path,label", "c.png,a"], "one class only ('a'); a classifier needs at least 2."),
        (
            ["path,label", "c.png,a", "a/0.png,", ",b"],
            "1 row has nothing in the column 'path'; the first is line 4. Fill them in, remove the rows, or set data.missing_values=drop.",
        ),
        (["path,label,group", "c.png,a,1", "a/0.png,b,", "a/1.png,b,"], "2 rows have nothing in the column 'group'; the first is line 3. "),
        (
            ["path,label", "c.png,Cat", "a/0.png,cat", "a/1.png,cat"],
            "the labels 'Cat' (1 rows) and 'cat' (2 rows) differ in nothing but case or blanks. Give both the same name.",
        ),
        (["path,label", "c.png,red  fox", "a/0.png,red fox"], "the labels 'red  fox' (1 rows) and 'red fox' (1 rows) differ in nothing "),
        (
            ["path,label", "c.png,a", '"two\nlines.png",b'],
            "of 2 images, 1 is not there; the first is 'two\\nlines.png' (line 4), looked for ",
        ),
        (
            ["path,label,split", "c.png,a,train", "a/0.png,b,dev"],
            "line 3 has the split 'dev', expected one of train, val, test. Change it; or rename the column, and splits are cut.",
        ),
        (["path,label,split", "c.png,a,test", "a/0.png,b,test"], "no row has the split 'train'. Add some; or rename the column, "),
    ],
)
def test_a_mistake_is_one_line(photos, lines, text):
    assert error_of(table_in(photos, *lines)).startswith(text)


def test_images_that_are_not_there_are_told(photos):
    os.mkfifo(photos / "pipe.png")
    table = table_in(photos, "path,label", "c.png,a", "a/9.png,b", "pipe.png,b")
    assert error_of(table) == (
        f"of 3 images, 2 are not there; the first is 'a/9.png' (line 3), looked for at '{photos}/a/9.png'. "
        "Put them there, or say with data.image_folder where the paths begin."
    )
    assert error_of(table, image_folder="nowhere") == (
        f"{photos}/nowhere: no such folder; data.image_folder names it, relative to the folder of the table."
    )


def test_columns_that_are_not_known_are_told_before_training_and_any_table_may_be_evaluated(photos):
    config = DataConfig(source=str(table_in(photos, "id,breed", "c.png,a")))
    check_source(config)  # the run that it is for may know the columns
    with pytest.raises(DataError, match="is known to be the path"):
        check_layout_of(config)


def test_what_a_run_says_of_its_table_counts_for_another_as_far_as_it_is_there(photos):
    said = {"columns": {"path": "id", "label": "breed"}, "image_folder": "a"}
    same = open_labelled(DataConfig(source=str(table_in(photos, "id,breed", "0.png,x")), **said), ("x", "y"))
    assert (same.root, same.paths) == (photos / "a", ("0.png",))
    other = open_labelled(DataConfig(source=str(table_in(photos / "b", "file,label", "1.png,y")), **said), ("x", "y"))
    assert (other.root, other.paths) == (photos / "b", ("1.png",))
    assert other.notes == ("labels.csv: columns read: file (path), label",)


def test_a_table_that_is_not_there(tmp_path):
    config = DataConfig(source=str(tmp_path / "labels.csv"))
    with pytest.raises(DataError, match=r"labels\.csv: no such file\."):
        check_source(config)


def test_a_table_for_a_model_that_knows_its_classes(photos):
    lines = ["path,label,split", "c.png,dog,train", "a/0.png,dog,test", "b/0.png,cat,test"]
    index = open_labelled(DataConfig(source=str(table_in(photos, *lines))), ("dog", "owl", "cat"))
    assert (index.paths, index.labels.tolist(), index.given) == (("a/0.png", "b/0.png"), [0, 2], None)
    assert index.notes == ("labels.csv: columns read: path, label, split",)
    with pytest.raises(DataError, match=r"has a class 'dog', which the model does not know\. Did you mean 'dogs'\?"):
        open_labelled(DataConfig(source=str(photos / "labels.csv")), ("dogs", "cat"))
    only = table_in(photos, "path,label,split", "c.png,dog,test", name="only.csv")
    assert len(open_labelled(DataConfig(source=str(only)), ("dog", "cat")).paths) == 1


def test_groups_are_said_once(photos):
    table = table_in(photos, "path,label,group", "c.png,a,1", "a/0.png,b,2")
    with pytest.raises(ConfigError, match=r"data\.group_pattern: .*labels\.csv says the group of each image already\."):
        check_layout_of(DataConfig(source=str(table), group_pattern="(.)"))
    plain = open_source(DataConfig(source=str(table_in(photos, "path,label", "c.png,a", "a/0.png,b")), group_pattern="(.)"))
    assert plain.groups == ("c", "a")


@pytest.mark.parametrize("setting", ["data.columns={path: id}", "data.image_folder=x"])
def test_settings_of_tables_do_nothing_without_one(setting):
    with pytest.raises(ConfigError, match=r"has no effect without a table \(\.csv, \.tsv, \.parquet\) as source"):
        load_config("extract", sets=["data.source=photos/", setting])
    assert isinstance(load_config("extract", sets=["data.source=labels.csv", setting]), Config)


@pytest.mark.parametrize(
    ("task", "lines", "paths"),
    [
        ("single_label", ["path,label,group", "a/0.png,x,1", "a/1.png,,1", "b/0.png,y,", ",y,2", "c.png,y,NA"], ("a/0.png", "c.png")),
        ("regression", ["path,value", "a/0.png,1", "a/1.png,NaN", "b/0.png,n/a", "c.png,2"], ("a/0.png", "c.png")),
        ("multi_label", ["path,tags", "a/0.png,x;y", "a/1.png,", ",x", "c.png,y"], ("a/0.png", "a/1.png", "c.png")),
    ],
)
def test_rows_with_missing_values_are_left_out_where_that_is_asked_for(photos, task, lines, paths):
    index = opened(table_in(photos, *lines), task=task, missing_values="drop")
    assert index.paths == paths
    number = len(lines) - 1 - len(paths)
    assert index.notes[0].endswith(f"; {number} row{'s' * (number > 1)} with missing values left out")
    assert "data.missing_values=drop" in error_of(table_in(photos, *lines), task=task)


def test_a_table_that_misses_a_value_in_every_row_is_refused(photos):
    table = table_in(photos, "path,label,group", "a/0.png,x,", "a/1.png,,1")
    assert error_of(table, missing_values="drop") == "a value is missing in every row. Fill them in."


def test_weights_are_read_where_they_are_asked_for(photos, tmp_path):
    table = table_in(photos, "path,label,weight", "c.png,x,2.5", "a/0.png,y,1", "b/0.png,x,0.1")
    assert opened(table).weights is None  # many tables have the weight of an animal
    index = opened(table, columns={"weight": "weight"})
    assert dict(zip(index.paths, index.weights.tolist(), strict=True)) == pytest.approx({"c.png": 2.5, "a/0.png": 1, "b/0.png": 0.1})
    assert index.weights.dtype == np.float32
    write_splits(tmp_path / "splits.csv", index, np.array(["train", "", "test"]))
    again, _ = read_splits(tmp_path / "splits.csv", index.root)
    np.testing.assert_array_equal(again.weights, index.weights[[0, 2]])


@pytest.mark.parametrize("text", ["0", "-1", "x", "inf"])
def test_a_weight_is_a_number_above_0(photos, text):
    table = table_in(photos, "path,label,w", "a/0.png,x,1", f"a/1.png,y,{text}")
    assert error_of(table, columns={"weight": "w"}) == (
        f"line 3 has '{text}' in the column 'w', expected a weight above 0. Change it; to leave the image out, remove the row."
    )


def test_numbers_have_no_weights(photos):
    table = table_in(photos, "path,value,w", "a/0.png,1,1", "a/1.png,2,1")
    assert error_of(table, columns={"weight": "w"}, task="regression") == (
        "data.columns gives the column 'w' for weight, which has no effect with data.task=regression."
    )


VOTES = ("path,dog,cat,n", "c.png,3,1,4", "a/0.png,0,2,2", "b/0.png,1,1,2", "a/1.png,5,0,5")


def test_a_column_for_each_class_is_a_soft_label(photos, tmp_path):
    index = opened(table_in(photos, *VOTES), columns={"label": ["dog", "cat"]})
    assert (index.classes, index.paths) == (("cat", "dog"), ("a/0.png", "b/0.png", "a/1.png", "c.png"))
    np.testing.assert_array_equal(index.labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(index.shares, np.float32([[1, 0], [0.5, 0.5], [0, 1], [0.25, 0.75]]))
    assert index.learned is index.shares
    assert index.notes == (
        "labels.csv: columns read: path, dog, cat (shares of the classes); not used: n",
        "soft labels: an image is 81% its most probable class on average; 1 with a tie count as the first of them",
    )


def test_columns_that_are_called_like_probabilities_need_no_setting_and_have_a_sum_of_1(photos):
    table = table_in(photos, "path,p_cat,p_dog,error", "c.png,0.2,0.8,", "a/0.png,0.9,0.1,")
    np.testing.assert_array_equal(opened(table).shares, np.float32([[0.9, 0.1], [0.2, 0.8]]))
    assert error_of(table_in(photos, "path,p_cat,p_dog", "c.png,0.2,0.8", "a/0.png,9,1")).startswith("the probabilities of line 3")
    index = opened(table_in(photos, "path,label,p_cat,p_dog", "c.png,x,0.2,0.8", "a/0.png,y,9,1"))
    assert (index.classes, index.shares) == (("x", "y"), None)  # a column that is called like a label says it, as ever


def test_a_name_with_a_colon_is_a_name(photos):
    index = opened(table_in(photos, "path,label", "c.png,cat:0.7;dog:0.3", "a/0.png,cat:1"))
    assert (index.classes, index.shares) == (("cat:0.7;dog:0.3", "cat:1"), None)


@pytest.mark.parametrize("cell", ["", "NaN", "n/a"])
def test_a_missing_share_is_a_missing_value(photos, cell):
    table = table_in(photos, *VOTES, f"b/1.png,1,{cell},1")
    assert error_of(table, columns={"label": ["dog", "cat"]}).startswith("1 row has nothing in the column 'cat'; the first is line 6.")
    assert len(opened(table, columns={"label": ["dog", "cat"]}, missing_values="drop").paths) == 4


def test_a_run_evaluates_soft_labels_and_others(photos):
    config = DataConfig(source=str(table_in(photos, *VOTES)), columns={"label": ["dog", "cat"]})
    index = open_labelled(config, ["dog", "cat"])
    assert (index.classes, index.shares.shape) == (("dog", "cat"), (4, 2))
    np.testing.assert_array_equal(index.labels == 0, index.shares[:, 0] >= 0.5)
    hard = table_in(photos, "path,label", "c.png,dog", "a/0.png,cat", name="hard.csv")
    index = open_labelled(config.replace("source", str(hard)), ["dog", "cat"])
    assert (index.labels.tolist(), index.shares) == ([0, 1], None)
    soft = table_in(photos, "path,p_dog", "c.png,1", name="few.csv")
    with pytest.raises(DataError, match="is known to be the label"):
        open_labelled(config.replace("source", str(soft)), ["dog", "cat"])


def test_fractions_in_parquet_are_numbers(photos):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"path": ["c.png", "a/0.png"], "p_cat": np.float32([0.25, 1]), "p_dog": [0.75, 0.0], "value": [1.5, 2.5]}
    parquet.write_table(pyarrow.table(columns), photos / "x.parquet")
    np.testing.assert_array_equal(opened(photos / "x.parquet").shares, np.float32([[1, 0], [0.25, 0.75]]))
    assert sorted(opened(photos / "x.parquet", task="regression").labels.tolist()) == [1.5, 2.5]
