"""Alleles, windows and merged rows against slow readings of what they mean."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, decode, encode, reverse_complement
from meta_spliceai.splice_engine.variants.alleles import (
    MISMATCH,
    NO_CONTIG,
    NO_SEQUENCE,
    allele_keys,
    compare_reference,
    merge_alleles,
    merge_class,
    trimmed,
)
from meta_spliceai.splice_engine.variants.table import (
    CLASSES,
    CONFLICTING,
    UNKNOWN,
    Coverage,
    as_variant_table,
    build_windows,
)
from tests.properties import quick

Make = Callable[..., pd.DataFrame]
QUICK = quick(60)
BASES = st.text("ACGT", min_size=1, max_size=6)
CONTIG = "".join(np.random.default_rng(11).choice(list("ACGTN"), 120, p=[0.24, 0.24, 0.24, 0.24, 0.04]))


def changed(pos: int, ref: str, alt: str) -> str:
    """The contig with an allele in place of the reference's bases, whatever these are."""
    return CONTIG[: pos - 1] + alt + CONTIG[pos - 1 + len(ref) :]


def written_otherwise(pos: int, ref: str, alt: str, before: int, behind: int) -> tuple[int, str, str]:
    """The same change with more of the contig's bases around both alleles."""
    left = CONTIG[pos - 1 - before : pos - 1]
    right = CONTIG[pos - 1 + len(ref) : pos - 1 + len(ref) + behind]
    return pos - before, left + ref + right, left + alt + right


@QUICK
@given(st.integers(20, 100), BASES, BASES, st.integers(0, 1))
def test_a_trimmed_allele_makes_the_same_sequence_and_shares_nothing_more(
    pos: int, ref: str, alt: str, least: int
) -> None:
    at, short, other = trimmed(pos, ref, alt, least)
    assert at + len(short) <= pos + len(ref)
    inside = ref[: at - pos] + other + ref[at - pos + len(short) :]
    assert inside == alt
    assert min(len(short), len(other)) >= min(least, len(ref), len(alt))
    if min(len(short), len(other)) > least:
        assert short[0] != other[0]
        assert short[-1] != other[-1]
    assert trimmed(at, short, other, least) == (at, short, other)


@QUICK
@given(st.integers(30, 80), BASES, BASES, st.integers(0, 8), st.integers(0, 8))
def test_padding_never_makes_another_key(pos: int, ref: str, alt: str, before: int, behind: int) -> None:
    """An allele with more of the reference around it makes the same sequence; substitutions have the same key, too."""
    ref = CONTIG[pos - 1 : pos - 1 + len(ref)]
    wide = written_otherwise(pos, ref, alt, before, behind)
    table = pd.DataFrame(
        [("chr7", *wide, "+"), ("7", pos, ref, alt, "+")], columns=["chrom", "pos", "ref", "alt", "strand"]
    )
    keys = allele_keys(table)
    place = keys[0].split(":")
    short, _, other = place[2].partition(">")
    assert changed(int(place[1]), short, other) == changed(pos, ref, alt)
    if len(ref) == len(alt) and ref != alt:
        assert keys[0] == keys[1]


@QUICK
@given(st.lists(st.sampled_from(CLASSES), max_size=6))
def test_the_class_of_several_measurements_does_not_depend_on_their_order_or_on_unknowns(classes: list[str]) -> None:
    found = merge_class(classes)
    assert found == merge_class(reversed(classes)) == merge_class([*classes, UNKNOWN]) == merge_class(classes * 2)
    told = set(classes) - {UNKNOWN}
    assert found == (UNKNOWN if not told else told.pop() if len(told) == 1 else CONFLICTING)


ROW = st.tuples(
    st.sampled_from([("chr1", 5, "A", "C"), ("1", 5, "A", "C"), ("1", 4, "GA", "GC"), ("1", 5, "A", "G")]),
    st.sampled_from("+-"),
    st.sampled_from(CLASSES),
    st.one_of(st.just(math.nan), st.floats(-5, 5)),
    st.sampled_from(["mfass", "mapsy"]),
    st.one_of(st.none(), st.integers(1, 9)),
)


def merged_slowly(rows: list[tuple]) -> dict[tuple, list[tuple]]:
    """Rows of each allele, in their order."""
    found: dict[tuple, list[tuple]] = defaultdict(list)
    for row in rows:
        (chrom, pos, ref, alt), strand = row[0], row[1]
        found[(chrom.removeprefix("chr"), *trimmed(pos, ref, alt), strand)].append(row)
    return found


@quick(15)
@given(st.lists(ROW, min_size=1, max_size=10))
def test_merged_rows_against_a_reading_row_by_row(rows: list[tuple]) -> None:
    frame = pd.DataFrame(
        [
            (f"v{at}", *place, strand, "", label, effect, source, source, "g", site)
            for at, (place, strand, label, effect, source, site) in enumerate(rows)
        ],
        columns=[
            *("variant_id", "chrom", "pos", "ref", "alt", "strand", "gene", "classification", "effect", "source"),
            *("method", "group", "donor_pos"),
        ],
    )
    merged, coverage = merge_alleles(as_variant_table(frame, "toy"), "toy")
    groups = list(merged_slowly(rows).values())
    assert coverage.read == len(rows)
    assert coverage.used == len(merged) == len(groups)
    assert merged["measurements"].sum() == len(rows)
    for (_, row), members in zip(merged.iterrows(), groups, strict=True):
        assert row["variant_id"] == f"v{rows.index(members[0])}" or rows.count(members[0]) > 1
        assert (row["chrom"], row["pos"], row["ref"], row["alt"]) == members[0][0]
        assert row["measurements"] == len(members)
        assert row["classification"] == merge_class([one[2] for one in members])
        sources = list(dict.fromkeys(one[4] for one in members))
        assert row["source"] == row["method"] == ",".join(sources)
        effects = [one[3] for one in members if not math.isnan(one[3])]
        if effects and (len(sources) == 1 or len(effects) == 1):
            assert row["effect"] == pytest.approx(sum(effects) / len(effects), abs=1e-12)
        else:
            assert math.isnan(row["effect"])
        known = [one[5] for one in members if one[5] is not None]
        assert known[:1] == [] if pd.isna(row["donor_pos"]) else row["donor_pos"] == known[0]
    again, nothing = merge_alleles(merged, "toy")
    pd.testing.assert_frame_equal(again, merged)
    assert nothing.left_out == {}


@QUICK
@given(
    st.lists(st.tuples(st.integers(1, 120), BASES, BASES, st.sampled_from("+-")), min_size=1, max_size=6),
    st.integers(0, 20),
)
def test_windows_are_cut_out_of_the_changed_chromosome(rows: list[tuple[int, str, str, str]], half: int) -> None:
    """The alternative window is the changed chromosome's, beginning as many bases before the variant as the
    reference's does, and N beyond both ends."""
    length, padding = 2 * half + 1, "N" * 60
    table = pd.DataFrame(rows, columns=["pos", "ref", "alt", "strand"]).assign(chrom="chr1")
    windows = build_windows(table, MemoryGenome({"1": CONTIG}, "toy", "toy.fa"), length)
    assert (len(windows), windows.length) == (len(rows), length)
    for at, (pos, ref, alt, strand) in enumerate(rows):
        start = len(padding) + pos - 1 - half
        whole = padding + CONTIG + padding
        wild = whole[start : start + length]
        mutant = (whole[: len(padding) + pos - 1] + alt + whole[len(padding) + pos - 1 + len(ref) :])[start:][:length]
        for found, expected in ((windows.ref[at], wild), (windows.alt[at], mutant)):
            turned = reverse_complement(found) if strand == "-" else found
            assert decode(turned) == expected
        assert windows.real_bases[at] == sum(base != "N" for base in wild)


@QUICK
@given(st.integers(3, 110), st.sampled_from("ACGT"), st.integers(1, 30))
def test_a_substitution_changes_one_base_of_its_window_the_middle_one(pos: int, alt: str, half: int) -> None:
    ref = CONTIG[pos - 1].replace("N", "A")
    for strand in "+-":
        table = pd.DataFrame([("1", pos, ref, alt, strand)], columns=["chrom", "pos", "ref", "alt", "strand"])
        windows = build_windows(table, MemoryGenome({"1": CONTIG}, "toy", "toy.fa"), 2 * half + 1)
        differ = np.flatnonzero(windows.ref[0] != windows.alt[0])
        assert differ.tolist() == ([half] if CONTIG[pos - 1] != alt else [])


@QUICK
@given(st.lists(st.tuples(st.sampled_from(["1", "chr1", "9"]), st.integers(1, 125), BASES), min_size=1, max_size=12))
def test_every_row_is_kept_or_has_the_reason_that_its_bases_give(rows: list[tuple[str, int, str]]) -> None:
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref"]).assign(alt="A", variant_id="v", strand="+")
    reasons, coverage = compare_reference(table, MemoryGenome({"chr1": CONTIG}, "toy", "toy.fa"))
    for reason, (chrom, pos, ref) in zip(reasons, rows, strict=True):
        found = (CONTIG + "N" * 10)[pos - 1 : pos - 1 + len(ref)]
        expected = "" if found == ref else NO_SEQUENCE if "N" in found else MISMATCH
        assert reason == (NO_CONTIG if chrom == "9" else expected)
    assert coverage.used == (reasons == "").sum()
    assert {reason: int((reasons == reason).sum()) for reason in set(reasons) - {""}} == coverage.left_out
    assert all(0 < len(lines) <= 5 for lines in coverage.examples.values())


@QUICK
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=8), st.integers(0, 40))
def test_accounts_of_steps_add_up_however_they_are_joined(steps: list[tuple[str, int]], more: int) -> None:
    read = more + sum(count for _, count in steps)
    at_once = Coverage(read)
    joined = Coverage(read)
    for reason, count in steps:
        lines = [f"{reason}{at}" for at in range(count)]
        at_once.leave_out(reason, lines)
        step = Coverage(joined.used)
        step.leave_out(reason, lines)
        joined = joined.then(step)
    assert joined == at_once
    assert joined.used == more
    assert Coverage.from_json(joined.to_json()) == joined
    frame = joined.to_frame().set_index("rows")["count"]
    assert frame["read"] - frame.drop(["read", "used"]).sum() == frame["used"]


@pytest.mark.parametrize("bad", [1.5, float("nan"), "x", None, 10**30])
def test_a_position_that_is_no_whole_number_is_refused_with_its_row(bad: object, variants: Make) -> None:
    frame = variants([("chr1", 5, "A", "C", "+"), ("chr1", 6, "A", "C", "+")])
    frame["pos"] = pd.Series([5, bad], dtype=object)
    with pytest.raises(InputError, match=r"toy: 1 rows with a bad pos, first at row 2 \(v1\)"):
        as_variant_table(frame, "toy")


def test_codes_of_an_unusual_letter_name_letter_and_place() -> None:
    for text, letter in (("ACGé", "é"), ("ACG-", "-"), ("ACG\u0391", "\u0391"), ("ACG\n", "\n")):
        with pytest.raises(InputError) as refused:
            encode(text)
        assert "position 3" in str(refused.value)
        assert letter.strip() in str(refused.value)
