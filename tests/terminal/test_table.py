"""Tables that fit a terminal without cutting a number."""

import io

from rich.console import Console

from tl_keras.terminal.table import plain_table


def test_a_table_folds_its_names_and_no_number() -> None:
    out = io.StringIO()
    rows = [("a_backbone_whose_name_is_long_" * 3, "224x224", "0.912", "0.890 to 0.931", "123.45", "25.61")]
    header = ("backbone", "pixels", "accuracy", "95 % interval", "ms", "M weights")
    Console(file=out, width=80).print(plain_table(header, rows, "title"))
    text = out.getvalue()
    for number in rows[0][1:]:
        assert f" {number} " in text
    assert max(map(len, text.splitlines())) <= 80
