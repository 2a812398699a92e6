"""The parts of a run that count, draw and put together, against slow readings of what they promise."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.run.evaluate_run import spread
from meta_spliceai.experiments.run.evidence import plain, records
from meta_spliceai.experiments.run.prepare import choose_rows, digest_of_test
from meta_spliceai.experiments.run.procedures import out_of_fold, shared_seconds
from meta_spliceai.experiments.run.record import without_folders
from meta_spliceai.experiments.run.utilisation import in_words, put_together
from meta_spliceai.experiments.spec.experiment import DataSpec
from meta_spliceai.splice_engine.variants.splits import Split
from meta_spliceai.splice_engine.variants.table import CLASSES, Coverage, as_variant_table
from tests.properties import quick

QUICK = quick(40)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(CLASSES)), min_size=1, max_size=30))
    frame = pd.DataFrame(
        [(f"v{at}", f"chr{chrom}", at + 1, label) for at, (chrom, label) in enumerate(rows)],
        columns=["variant_id", "chrom", "pos", "classification"],
    ).assign(ref="A", alt="C", strand="+", gene="", source="toy", method="toy", group="g")
    frame["effect"] = draw(st.lists(st.floats(-3, 3), min_size=len(rows), max_size=len(rows)))
    return as_variant_table(frame, "toy")


WANTED = st.builds(
    lambda rows, labelled, balanced: DataSpec(name="toy", rows=rows, labelled_only=labelled, balanced=balanced),
    st.none() | st.integers(2, 40),
    st.booleans(),
    st.booleans(),
)


@QUICK
@given(tables(), WANTED, st.integers(0, 3), st.booleans(), st.integers(0, 5))
def test_a_draw_accounts_for_every_row_and_keeps_the_tables_order(
    table: pd.DataFrame, wanted: DataSpec, seed: int, in_turn: bool, lost_before: int
) -> None:
    before = Coverage(len(table) + lost_before)
    before.leave_out("before", ["x"] * lost_before)
    usable = table
    if wanted.labelled_only or wanted.balanced:
        usable = table[table["classification"].isin(["Splice-altering", "Normal"])]
    if usable.empty:
        with pytest.raises(InputError, match="no usable row"):
            choose_rows(table, before, wanted, seed, in_turn)
        return
    chosen = choose_rows(table, before, wanted, seed, in_turn)
    assert chosen.coverage.read == len(table) + lost_before
    assert chosen.coverage.used == len(chosen.table)
    picked = chosen.table["variant_id"].tolist()
    assert set(picked) <= set(usable["variant_id"])
    assert picked == [name for name in table["variant_id"] if name in set(picked)]
    asked = len(usable) if wanted.rows is None else wanted.rows
    sides = usable["classification"].value_counts()
    if asked >= len(usable):
        assert len(picked) == len(usable)
    elif wanted.balanced:
        assert chosen.table["classification"].value_counts().to_dict() == {
            side: min(count, asked // 2) for side, count in sides.items() if min(count, asked // 2)
        }
    else:
        assert len(picked) == asked
        if in_turn:
            there = usable["chrom"].value_counts()
            taken = chosen.table["chrom"].value_counts().reindex(there.index, fill_value=0)
            assert all(taken[one] == there[one] or taken[one] >= taken.max() - 1 for one in there.index)
    again = choose_rows(table, before, wanted, seed, in_turn)
    pd.testing.assert_frame_equal(again.table, chosen.table)
    assert again.notes == chosen.notes


@quick(15)
@given(tables(), st.integers(0, 99))
def test_a_test_is_the_same_in_any_order_and_another_with_any_other_label(table: pd.DataFrame, seed: int) -> None:
    digest = digest_of_test(table, "toy")
    assert digest_of_test(table.sample(frac=1, random_state=seed), "toy") == digest
    assert digest_of_test(table.assign(gene="other", group="other"), "toy") == digest
    row = seed % len(table)
    for column, value in (("classification", "x"), ("effect", 99.0), ("variant_id", "zz")):
        changed = table.copy()
        changed.loc[row, column] = value
        assert digest_of_test(changed, "toy") != digest
    assert digest_of_test(table, "other") != digest
    assert digest_of_test(table, "toy", ("Normal", "Low-frequency")) != digest
    assert digest_of_test(table.iloc[1:], "toy") != digest


@QUICK
@given(st.lists(st.sampled_from([0, 1, 2, None]), min_size=1, max_size=12))
def test_every_row_is_answered_by_the_fold_that_tests_it(fold_of: list[int | None]) -> None:
    splits, answers = [], []
    for fold in range(3):
        parts = np.array(["test" if one == fold else "train" for one in fold_of], dtype=object)
        splits.append(Split(f"f{fold}", parts, "", "", Coverage(len(parts))))
        answers.append(np.full((len(fold_of), 2), fold, dtype=np.float32))
    whole = out_of_fold(splits, answers)
    assert whole[:, 0].tolist() == whole[:, 1].tolist() == [0 if one is None else one for one in fold_of]
    assert (answers[0] == 0).all()  # what was given stays as it was


@QUICK
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=8))
def test_shared_time_is_what_several_at_once_took_together_beyond_the_clock(spans: list[tuple[str, int, int]]) -> None:
    made = [(boot, float(begin), float(begin + size)) for boot, begin, size in spans]
    clock = {(boot, second) for boot, begin, size in spans for second in range(begin, begin + size)}
    assert shared_seconds(made) == sum(size for *_, size in spans) - len(clock)


PART = st.tuples(st.floats(0.001, 1e6), st.floats(0.001, 1e4), st.none() | st.floats(0.1, 1e5))


@QUICK
@given(st.lists(PART, min_size=1, max_size=4))
def test_work_put_together_has_the_time_that_it_would_take_at_the_limits(parts: list[tuple]) -> None:
    made: list[dict[str, Any]] = [
        {"gflop": gflop, "seconds": seconds, "limit_gflop_per_second": limit, "precision": "float32", "why": ""}
        for gflop, seconds, limit in parts
    ]
    found = put_together(made)
    assert found["gflop"] == pytest.approx(sum(one[0] for one in parts))
    assert found["seconds"] == pytest.approx(sum(one[1] for one in parts))
    if None in [one[2] for one in parts]:
        assert found["share"] is None
        assert found["why"]
    else:
        assert found["share"] == pytest.approx(sum(one[0] / one[2] for one in parts) / found["seconds"])
    assert put_together([*made, {**made[0], "gflop": None, "why": "cache"}])["why"] == "cache"


@quick(150)
@given(st.floats(0.01, 5e8) | st.sampled_from([999.4, 999.5, 999.99, 999_499.0, 999_500.0, 1e6]))
def test_an_amount_of_work_is_told_in_three_digits_and_read_back(gflop: float) -> None:
    work = put_together([{"gflop": gflop, "seconds": 2.0, "limit_gflop_per_second": 1e9, "precision": "x", "why": ""}])
    told = in_words(work)
    amount, unit = re.match(r"([\d.,e+]+) ([GTP])FLOP counted", told).groups()  # type: ignore[union-attr]
    assert "e" not in amount
    assert float(amount.replace(",", "")) * {"G": 1, "T": 1e3, "P": 1e6}[unit] == pytest.approx(gflop, rel=5.001e-3)


FOLD = st.lists(st.tuples(st.none() | st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=5)


@QUICK
@given(FOLD)
def test_the_spread_over_folds_weighs_them_by_their_rows(folds: list[tuple[float | None, int]]) -> None:
    frames = [
        pd.DataFrame([("m", "auprc", np.nan if value is None else value, rows, fold), ("m", "other", 0.1, 5, fold)],
                     columns=["scorer", "metric", "estimate", "n", "fold"])
        for fold, (value, rows) in enumerate(folds)
    ]  # fmt: skip
    (found,) = spread(frames)
    known = [(value, rows, fold) for fold, (value, rows) in enumerate(folds) if value is not None]
    assert (found["metric"], found["folds"]) == ("auprc", len(known))
    assert found["values"] == {str(fold): value for value, _, fold in known}
    if known:
        total = sum(rows for _, rows, _ in known)
        assert found["mean"] == pytest.approx(sum(value * rows for value, rows, _ in known) / total, abs=1e-12)
    else:
        assert found["mean"] is None
    values = [value for value, *_ in known]
    assert found["sd"] == (None if len(values) < 2 else pytest.approx(np.std(values, ddof=1), abs=1e-12))


@QUICK
@given(
    st.recursive(
        st.text("ab/ .~", max_size=12) | st.integers(),
        lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text("k/", max_size=3), one, max_size=3),
        max_leaves=6,
    )
)
def test_results_name_no_folder_and_keep_all_else(value: Any) -> None:
    found = without_folders(value)
    assert without_folders(found) == found
    assert without_folders({"a": ["/home/me/x.vcf", ("see /data/y z",)], "/b/c": 1}) == {
        "a": ["x.vcf", ["see y z"]],
        "/b/c": 1,
    }
    if not re.search("/", str(value)):
        assert found == value


def test_plain_values_are_those_that_json_has() -> None:
    odd = [np.float32(0.5), np.int64(3), np.bool_(True), np.nan, np.float64("inf"), pd.NA, None, "x", -np.inf]
    assert [plain(value) for value in odd] == [0.5, 3, True, None, None, None, None, "x", None]
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], 3: ["x", None]})
    assert records(frame) == [{"a": 1, "b": 0.5, "3": "x"}, {"a": 2, "b": None, "3": None}]
