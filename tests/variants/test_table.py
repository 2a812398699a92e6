"""The variant table's schema, and the account of its rows."""

from __future__ import annotations

import pandas as pd
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.variants.table import EXAMPLES_KEPT, SCHEMA, Coverage, as_variant_table, describe


def rows(**changes: object) -> pd.DataFrame:
    base: dict[str, object] = {
        "variant_id": ["a", "b"],
        "chrom": ["chr2", "chr2"],
        "pos": [10, 20],
        "ref": ["A", "CG"],
        "alt": ["G", "C"],
        "strand": ["+", "-"],
        "gene": ["X", None],
        "classification": ["Normal", "Unknown"],
        "source": ["s", "s"],
        "method": ["m", "m"],
        "group": ["g", "g"],
    }
    return pd.DataFrame(base | changes)


def test_the_schemas_columns_come_first_in_their_types_and_extra_columns_stay() -> None:
    table = as_variant_table(rows(note=["x", "y"]), "here")
    assert list(table)[: len(SCHEMA)] == list(SCHEMA)
    assert list(table["note"]) == ["x", "y"]
    assert table["pos"].dtype == "int64"
    assert table["effect"].isna().all()
    assert table["acceptor_pos"].isna().all()
    assert table.loc[1, "gene"] == ""


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("variant_id", ["a", "a"], "names must be unique"),
        ("pos", [10, 0], "1-based"),
        ("ref", ["A", "c"], "made of A, C, G, T"),
        ("alt", ["G", "<DEL>"], "made of A, C, G, T"),
        ("alt", ["G", "CG"], "differ from ref"),
        ("strand", ["+", "."], "it is + or -"),
        ("classification", ["Normal", "Benign"], "classes are Splice-altering"),
    ],
)
def test_a_bad_value_is_refused_with_its_row(column: str, values: list[object], words: str) -> None:
    with pytest.raises(InputError, match="first at row 2") as caught:
        as_variant_table(rows(**{column: values}), "my.tsv")
    assert words in str(caught.value)
    assert str(caught.value).startswith("my.tsv: 1 rows with a bad ")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InputError, match="column strand missing; found variant_id"):
        as_variant_table(rows().drop(columns="strand"), "my.tsv")


def test_a_variant_in_words() -> None:
    assert describe(as_variant_table(rows(), "here").loc[1]) == "b (chr2:20 CG>C)"


def test_every_row_is_accounted_for() -> None:
    coverage = Coverage(10)
    coverage.leave_out("indel", [f"row {i}" for i in range(7)])
    coverage.leave_out("nothing", [])
    assert coverage.used == 3
    assert coverage.left_out == {"indel": 7}
    assert len(coverage.examples["indel"]) == EXAMPLES_KEPT
    later = Coverage(3)
    later.leave_out("indel", ["row 9"])
    later.leave_out("mismatch", ["row 8"])
    joined = coverage.then(later)
    assert (joined.read, joined.used, joined.left_out) == (10, 1, {"indel": 8, "mismatch": 1})
    assert coverage.left_out == {"indel": 7}
    assert joined.to_frame()["count"].tolist() == [10, 8, 1, 1]
    assert joined.to_json()["used"] == 1


def test_an_account_that_does_not_add_up_is_a_defect() -> None:
    coverage = Coverage(1)
    with pytest.raises(ValueError, match="only 1 remain"):
        coverage.leave_out("indel", ["row 1", "row 2"])
    with pytest.raises(ValueError, match="handed on"):
        coverage.then(Coverage(2))
