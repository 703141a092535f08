"""Table files as programs write them: encodings, delimiters, quotes and blank lines; what is damaged is told with its line."""

import sys

import pytest

from tl_keras.data.sources.table_file import csv_cells, csv_names, parquet_cells, parquet_names
from tl_keras.errors import DataError

WANTED = ["path", "label"]


def write(folder, content, name="x.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def error_of(function, *given):
    with pytest.raises(DataError) as caught:
        function(*given)
    assert str(caught.value).startswith(f"{given[0]}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{given[0]}: ")


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,cat\nb c.png,dog\n",
        "path;label\na.png;cat\nb c.png;dog",
        "path\tlabel\na.png\tcat\nb c.png\tdog\n",
        "\ufeffpath,label\r\na.png,cat\r\nb c.png,dog\r\n",
        "\n\npath , label\na.png, cat \n\n ,\nb c.png,dog\n,\n",
        '"path","label"\n"a.png","cat"\n"b c.png","dog"\n',
        "id,path,note,label\n1,a.png,x;y;z,cat\n2,b c.png,,dog\n",
    ],
)
def test_a_table_in_any_hand(tmp_path, text):
    found = csv_cells(write(tmp_path, text), WANTED)
    assert found.columns == {"path": ["a.png", "b c.png"], "label": ["cat", "dog"]}
    assert len(found.places) == 2


def test_a_column_may_have_two_roles(tmp_path):
    found = csv_cells(write(tmp_path, "path,label\na.png,cat\n"), ["path", "label", "label"])
    assert found.columns == {"path": ["a.png"], "label": ["cat"]}


def test_the_delimiter_is_what_most_of_the_first_line_is_divided_by(tmp_path):
    path = write(tmp_path, '"path, of the image";label;note\n"a,b.png";cat;1,5\n')
    assert csv_names(path) == ["path, of the image", "label", "note"]
    assert csv_cells(path, ["path, of the image"]).columns == {"path, of the image": ["a,b.png"]}


def test_quotes_hold_delimiters_quotes_and_line_ends(tmp_path):
    found = csv_cells(write(tmp_path, 'path,label\n"a,""1"".png","two\nlines"\nb.png,dog\n'), WANTED)
    assert found.columns == {"path": ['a,"1".png', "b.png"], "label": ["two\nlines", "dog"]}
    assert found.places == ["line 3", "line 4"]


def test_lines_are_counted_from_the_beginning_of_the_file(tmp_path):
    assert csv_cells(write(tmp_path, "\n\npath,label\na.png,cat\n\nb.png,dog\n"), WANTED).places == ["line 4", "line 6"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "is empty. The first line names the columns: path,label."),
        ("\n \n", "is empty. The first line names the columns: path,label."),
        ("path,label\na.png\n", "line 2 has 1 cell, and the first line 2 cells. Cells that hold ',' need quotes."),
        ("path;label\na.png;cat\nb;c.png;dog\n", "line 3 has 3 cells, and the first line 2 cells. Cells that hold ';' need quotes."),
        ("path,label\nröte.png,rot\n".encode("latin-1"), "is not text in UTF-8. Save it as UTF-8; in Excel, as 'CSV UTF-8'."),
        ("path,label\na.png,cat\n".encode("utf-16"), "is not text in UTF-8. Save it as UTF-8; in Excel, as 'CSV UTF-8'."),
        (
            'path,label\n"a.png,cat\nb.png,dog\n',
            "is not a CSV file, or a quote in it is not closed (unexpected end of data). Mend that line.",
        ),
        (
            f"path,label\n{'a' * 200_000},cat\n",
            "is not a CSV file, or a quote in it is not closed (field larger than field limit (131072)). ",
        ),
    ],
)
def test_what_is_no_table_is_told(tmp_path, content, text):
    assert error_of(csv_cells, write(tmp_path, content), WANTED).startswith(text)


def test_parquet_of_texts_and_whole_numbers_and_categories(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    labels = pyarrow.array(["cat", None, "dog"]).dictionary_encode()
    parquet.write_table(
        pyarrow.table({"path": [" a.png", "b.png", None], "label": labels, "number": [1, 2, 3], "mass": [0.5, 1.0, 2.0]}), path
    )
    assert parquet_names(path) == ["path", "label", "number", "mass"]
    found = parquet_cells(path, ["path", "label", "number"])
    assert found.columns == {"path": ["a.png", "b.png", ""], "label": ["cat", "", "dog"], "number": ["1", "2", "3"]}
    assert found.places == ["row 1", "row 2", "row 3"]
    assert error_of(parquet_cells, path, ["mass"]).startswith("column 'mass' holds double, expected text or whole numbers.")
    assert list(map(float, parquet_cells(path, ["mass"], ["mass"]).columns["mass"])) == [0.5, 1.0, 2.0]


def test_images_inside_of_parquet_are_told(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"image": [{"bytes": b"1", "path": "a.png"}], "label": [0]}), path)
    assert "Images inside of the table are not read: write them to files" in error_of(parquet_cells, path, ["image", "label"])


def test_what_is_no_parquet_is_told(tmp_path):
    pytest.importorskip("pyarrow")
    for content in (b"", b"path,label\n" * 10, b"PAR1" + bytes(100) + b"PAR1"):
        assert error_of(parquet_names, write(tmp_path, content, "x.parquet")).startswith("is not a Parquet file, or is damaged (")


def test_without_pyarrow_its_installation_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    text = error_of(parquet_names, write(tmp_path, b"", "x.parquet"))
    assert text == "a Parquet file is read by pyarrow. Install it: pip install pyarrow. Or save the table as CSV."
