"""Scores and what is made of them, against readings position by position, and what they must not depend on."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from meta_spliceai.splice_engine.base_layer.changes import Change
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.scores import (
    BaseScores,
    Entry,
    ScoreCache,
    max_window,
    own_site,
    read_scores,
    write_scores,
)
from meta_spliceai.splice_engine.base_layer.scoring import align_alternative, score_keys, score_variants
from meta_spliceai.splice_engine.base_layer.vcf.info_field import FIELDS
from meta_spliceai.splice_engine.genome.annotation import Gene
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, decode, encode, reverse_complement
from tests.properties import quick

QUICK = quick(40)
FEW = quick(6)
DISTANCE = 4
POSITIONS = 2 * DISTANCE + 1
PROBABILITIES = st.floats(0, 1, width=32)


def scores_of(draw: st.DrawFn, rows: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    shape = (rows, POSITIONS, channels)
    return tuple(draw(of_numpy.arrays(np.float32, shape, elements=PROBABILITIES)) for _ in range(2))  # type: ignore[return-value]


@QUICK
@given(st.data(), st.integers(1, 3))
def test_reductions_against_a_reading_position_by_position(data: st.DataObject, rows: int) -> None:
    ref, alt = scores_of(data.draw, rows)
    scores = BaseScores(ref, alt, DISTANCE, "toy", "d")
    site = st.none() | st.integers(90, 112)
    table = pd.DataFrame(
        [(100, data.draw(st.sampled_from("+-")), data.draw(site), data.draw(site)) for _ in range(rows)],
        columns=["pos", "strand", "acceptor_pos", "donor_pos"],
    ).astype({"acceptor_pos": "Int64", "donor_pos": "Int64"})
    window, own = max_window(scores), own_site(scores, table)
    for row in range(rows):
        changes = [alt[row, at, channel] - ref[row, at, channel] for at in range(POSITIONS) for channel in (1, 2)]
        assert window[row] in changes
        assert abs(window[row]) == max(map(abs, changes))
        turn = 1 if table["strand"][row] == "+" else -1
        mine = []
        for column, channel in (("acceptor_pos", 1), ("donor_pos", 2)):
            place = table[column][row]
            ahead = None if pd.isna(place) else (int(place) - 100) * turn
            if ahead is not None and -DISTANCE <= ahead <= DISTANCE:
                mine.append(alt[row, DISTANCE + ahead, channel] - ref[row, DISTANCE + ahead, channel])
        if mine:
            assert own[row] in mine
            assert abs(own[row]) == max(map(abs, mine))
        else:
            assert math.isnan(own[row])


@QUICK
@given(st.integers(-9, 9), st.integers(0, 99))
def test_an_alternative_is_laid_on_the_reference_position_by_position(shift: int, seed: int) -> None:
    """Inserted positions fold into the variant's own, deleted ones behind it are 0, all others keep their values."""
    outputs = max(DISTANCE + 1, POSITIONS + shift)
    raw = np.random.default_rng(seed).random((outputs, 3)).astype(np.float32)
    laid = align_alternative(raw, shift, DISTANCE)
    assert laid.shape == (POSITIONS, 3)
    for at in range(POSITIONS):
        if at < DISTANCE:
            expected = raw[at]
        elif at == DISTANCE:
            expected = raw[at : at + max(shift, 0) + 1].max(axis=0)
        elif shift < 0 and at <= DISTANCE - shift:
            expected = np.zeros(3)
        else:
            expected = raw[at + shift]
        np.testing.assert_array_equal(laid[at], expected)


CHANGES = st.builds(
    lambda at, removed, inserted, first, size: Change(
        0, 1, at, removed, encode(inserted), (first, first + size), (first, first + size + len(inserted) - removed)
    ),
    st.integers(-50, 50),
    st.integers(0, 6),
    st.text("ACGT", max_size=6),
    st.integers(-60, -51),
    st.integers(120, 140),
)


@QUICK
@given(CHANGES)
def test_a_change_turned_twice_is_itself_and_once_is_that_of_the_other_strand(change: Change) -> None:
    turned = change.along("-")
    again = turned.along("-")
    assert (again.at, again.removed, again.ref_outputs, again.alt_outputs) == (
        *(change.at, change.removed, change.ref_outputs, change.alt_outputs),
    )
    np.testing.assert_array_equal(again.inserted, change.inserted)
    assert change.along("+") is change
    # The bases that a change takes out, one by one, on the other strand.
    places = {-place for place in range(change.at, change.at + change.removed)}
    assert places == set(range(turned.at, turned.at + turned.removed))
    assert turned.shift == change.shift
    assert turned.alt_outputs[1] - turned.alt_outputs[0] == change.alt_outputs[1] - change.alt_outputs[0]


# --------------------------------------------------------------------------------------------- what scores depend on

BASES = "".join(np.random.default_rng(8).choice(list("ACGT"), 500))
REACH = 148 + 12
"""Bases that the toy networks see to either side of a variant, at a distance of 12."""

VARIANT = st.tuples(
    st.integers(240, 260), st.integers(1, 4), st.text("ACGT", min_size=1, max_size=4), st.sampled_from("+-")
)


def table_of(variants: list[tuple[int, int, str, str]], bases: str, chrom: str = "c") -> pd.DataFrame:
    rows = [(chrom, pos, bases[pos - 1 : pos - 1 + size], alt, strand) for pos, size, alt, strand in variants]
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "strand"])
    return table.assign(gene="", variant_id=[f"v{row}" for row in range(len(rows))])


def scored(variants: list[tuple[int, int, str, str]], bases: str, model: BaseModel) -> BaseScores:
    return score_variants(table_of(variants, bases), MemoryGenome({"c": bases}, "toy", "toy.fa"), model, 12)


@FEW
@given(variants=st.lists(VARIANT, min_size=1, max_size=3), seed=st.integers(0, 99), moved=st.integers(1, 40))
def test_scores_do_not_depend_on_what_the_networks_cannot_see_or_on_where_it_lies(
    toy_base_model: BaseModel, variants: list[tuple[int, int, str, str]], seed: int, moved: int
) -> None:
    plain = scored(variants, BASES, toy_base_model)
    random = np.random.default_rng(seed)
    other = "".join(random.choice(list("ACGTN"), 500))
    low, high = 240 - 1 - REACH, 260 + REACH + 8
    elsewhere = scored(variants, other[:low] + BASES[low:high] + other[high:], toy_base_model)
    shifted = scored([(pos + moved, *rest) for pos, *rest in variants], other[:moved] + BASES, toy_base_model)
    for found in (elsewhere, shifted):
        np.testing.assert_allclose(found.ref, plain.ref, atol=2e-6)
        np.testing.assert_allclose(found.alt, plain.alt, atol=2e-6)


@FEW
@given(variants=st.lists(VARIANT.filter(lambda one: len(one[2]) == one[1]), min_size=1, max_size=3))
def test_the_other_strand_of_the_turned_genome_has_the_same_scores(
    toy_base_model: BaseModel, variants: list[tuple[int, int, str, str]]
) -> None:
    """For substitutions of any length; the position is that of the other end of the allele there."""
    single = [(pos, 1, alt[:1], strand) for pos, _, alt, strand in variants]
    plain = scored(single, BASES, toy_base_model)
    turned = decode(reverse_complement(encode(BASES)))
    there = [
        (len(BASES) + 1 - pos, 1, decode(reverse_complement(encode(alt))), "-" if strand == "+" else "+")
        for pos, _, alt, strand in single
    ]
    other = scored(there, turned, toy_base_model)
    np.testing.assert_allclose(other.delta, plain.delta, atol=2e-6)
    np.testing.assert_allclose(other.ref, plain.ref, atol=2e-6)


@FEW
@given(pos=st.integers(100, 400), strand=st.sampled_from("+-"))
def test_an_allele_that_changes_nothing_has_no_delta(toy_base_model: BaseModel, pos: int, strand: str) -> None:
    same = scored([(pos, 1, BASES[pos - 1], strand), (pos, 3, BASES[pos - 1 : pos + 2], strand)], BASES, toy_base_model)
    assert np.abs(same.delta).max() < 1e-6


@QUICK
@given(variants=st.lists(VARIANT, min_size=2, max_size=5), seed=st.integers(0, 99))
def test_keys_differ_where_scores_could_and_nowhere_else(
    toy_base_model: BaseModel, variants: list[tuple[int, int, str, str]], seed: int
) -> None:
    genome = MemoryGenome({"c": BASES, "chrD": BASES}, "toy", "toy.fa")
    keys = score_keys(table_of(variants, BASES), genome, toy_base_model, 12)
    assert score_keys(table_of(variants, BASES, "D"), genome, toy_base_model, 12) == keys
    for one, key in zip(variants, keys, strict=True):
        for other, there in zip(variants, keys, strict=True):
            assert (key == there) == (one == other)
    assert not set(keys) & set(score_keys(table_of(variants, BASES), genome, toy_base_model, 13))
    place = 250 - 1 + int(np.random.default_rng(seed).integers(-100, 100))
    flipped = BASES[:place] + BASES[place].translate(str.maketrans("ACGT", "CGTA")) + BASES[place + 1 :]
    changed = MemoryGenome({"c": flipped}, "toy", "toy.fa")
    assert not set(keys) & set(score_keys(table_of(variants, flipped), changed, toy_base_model, 12))


# ------------------------------------------------------------------------------------------------------ on the disk


def entry(number: int, digits: int | None = None) -> tuple[bytes, Entry]:
    random = np.random.default_rng(number)
    ref = random.random((POSITIONS, 3)).astype(np.float32)
    alt = np.where(random.random(ref.shape) < 0.7, ref, random.random(ref.shape).astype(np.float32))
    return hashlib.sha256(str(number).encode()).digest(), Entry(ref, alt.astype(np.float32), digits)


@QUICK
@given(
    st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=5, unique=True), max_size=5), st.sets(st.integers(0, 15))
)
def test_a_cache_has_what_was_written_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[int]], asked: set[int]
) -> None:
    """In whatever blocks it was written, and some of it twice; of another network or distance there is nothing."""
    cache = ScoreCache(tmp_path_factory.mktemp("cache") / "scores")
    digest = "a" * 64
    for numbers in writes:
        made = [entry(number) for number in numbers]
        ref, alt = np.stack([one.ref for _, one in made]), np.stack([one.alt for _, one in made])
        cache.write([key for key, _ in made], ref, alt, digest, DISTANCE)
    found = cache.read([entry(number)[0] for number in asked], digest, DISTANCE)
    there = {number for numbers in writes for number in numbers} & asked
    assert set(found) == {entry(number)[0] for number in there}
    for number in there:
        key, wanted = entry(number)
        np.testing.assert_array_equal(found[key].ref, wanted.ref)
        np.testing.assert_array_equal(found[key].alt, wanted.alt)
    assert cache.read(list(found), "b" * 64, DISTANCE) == cache.read(list(found), digest, DISTANCE + 1) == {}
    assert cache.damaged == 0


@quick(12)
@given(st.sets(st.integers(0, 40), min_size=1, max_size=8), st.none() | st.integers(3, 7))
def test_packed_scores_come_back_to_the_bit_or_to_their_digits(
    tmp_path_factory: pytest.TempPathFactory, numbers: set[int], digits: int | None
) -> None:
    path: Path = tmp_path_factory.mktemp("packed") / "scores.npz"
    entries = dict(entry(number) for number in sorted(numbers))
    write_scores(path, entries, digits)
    found = read_scores(path)
    assert {one.digits for one in found.values()} == {digits}
    assert list(found) == list(entries)
    for key, wanted in entries.items():
        near = 0 if digits is None else 0.5 * 10**-digits + 1e-7
        np.testing.assert_allclose(found[key].ref, wanted.ref, atol=near, rtol=0)
        np.testing.assert_allclose(found[key].alt, wanted.alt, atol=near, rtol=0)
        unchanged = wanted.ref == wanted.alt
        np.testing.assert_array_equal(found[key].ref[unchanged], found[key].alt[unchanged])


# ------------------------------------------------------------------------------------------------------------- as text

GENE = Gene("G", "1", "+", 90, 130, ((90, 99), (103, 108), (118, 130)))


def by_hand(delta: np.ndarray, base: str, strand: str, pos: int, mask: bool) -> list[tuple[float, int]]:
    """Score and offset of every kind of change, read off place by place as the tools' own papers define them."""
    gene = Gene("G", "1", strand, GENE.start, GENE.end, GENE.exons)
    edges = sorted({start + 1 for start, _ in gene.exons} | {end for _, end in gene.exons})
    nearest = min(edges, key=lambda edge: (abs(edge - pos), edge))
    found = []
    tools = {"spliceai": 3, "cispliceai": 3, "pangolin": 2}
    kinds = [(1, 1, gene.acceptors()), (1, -1, gene.acceptors()), (2, 1, gene.donors()), (2, -1, gene.donors())]
    if tools[base] == 2:
        kinds = [(None, 1, gene.acceptors() + gene.donors()), (None, -1, gene.acceptors() + gene.donors())]
    for channel, sign, sites in kinds:
        best = (-1.0, 0)
        for offset in range(-DISTANCE, DISTANCE + 1):
            row = delta[DISTANCE + offset]
            value = sign * (row[channel] if channel is not None else (row.max() if sign > 0 else row.min()))
            if mask and base != "spliceai" and (pos + offset in sites) != (sign < 0):
                value = min(value, 0)
            if value > best[0]:
                best = (float(value), offset)
        if mask and base == "spliceai" and (pos + best[1] == nearest) != (sign < 0):
            best = (0.0, best[1])
        found.append(best)
    return found


@quick(80)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["spliceai", "cispliceai", "pangolin"]),
    st.sampled_from("+-"),
    st.integers(92, 128),
    st.booleans(),
)
def test_an_entry_has_the_scores_and_places_that_its_tool_defines(
    seed: int, base: str, strand: str, pos: int, mask: bool
) -> None:
    random = np.random.default_rng(seed)
    steps = random.permutation(np.arange(-60, 61))[: POSITIONS * 3].reshape(POSITIONS, 3)
    delta = (steps * 0.013).astype(np.float32)  # all different, and none near a rounding border
    gene = Gene("G", "1", strand, GENE.start, GENE.end, GENE.exons)
    text, _ = FIELDS[base].render(delta, gene, pos, mask)
    values = text.split("|")
    expected = by_hand(delta, base, strand, pos, mask)
    scores, places = values[: len(expected)], values[len(expected) :]
    for kind, (value, offset) in enumerate(expected):
        sign = -1 if base == "pangolin" and kind == 1 else 1
        assert float(scores[kind]) == pytest.approx(sign * value, abs=0.005001)
        if value >= 0.01:
            assert int(places[kind]) == offset
    assert all(-DISTANCE <= int(place) <= DISTANCE for place in places)
