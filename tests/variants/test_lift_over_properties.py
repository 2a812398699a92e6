"""Lift-over through chains of random blocks, against a table of every base and against the two genomes themselves."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.genome.sequence import decode, encode, reverse_complement
from meta_spliceai.splice_engine.variants.alleles import BROKEN_UP, NO_PLACE, Chain, Lifted, lift_over
from meta_spliceai.splice_engine.variants.table import as_variant_table
from tests.properties import quick

QUICK = quick(40)


@dataclass(frozen=True)
class Builds:
    """Two builds of one chromosome made of the same blocks, and the chain from the old one to the new one.

    Attributes:
        old, new: bases; between the blocks each has bases of its own.
        blocks: 0-based old start, and 0-based new start on the strand that reads like the old one, and size.
        forward: whether the new build reads like the old one.
    """

    old: str
    new: str
    blocks: tuple[tuple[int, int, int], ...]
    forward: bool

    def text(self, score: int = 1000) -> str:
        (first, other, _), (last, at, size) = self.blocks[0], self.blocks[-1]
        strand = "+" if self.forward else "-"
        lines = [
            f"chain {score} chr1 {len(self.old)} + {first} {last + size} "
            f"chr1 {len(self.new)} {strand} {other} {at + size} 1"
        ]
        for (start, there, length), (following, further, _) in pairwise(self.blocks):
            lines.append(f"{length} {following - start - length} {further - there - length}")
        return "\n".join([*lines, str(size), ""])

    def counterparts(self) -> dict[int, tuple[int, str]]:
        """1-based old position: 1-based new position, and the strand there."""
        found = {}
        for start, there, size in self.blocks:
            for step in range(size):
                place = there + step
                at = place if self.forward else len(self.new) - 1 - place
                found[start + step + 1] = (at + 1, "+" if self.forward else "-")
        return found


@st.composite
def builds(draw: st.DrawFn) -> Builds:
    pieces = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=5))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))

    def bases(count: int) -> str:
        return "".join(random.choice(list("ACGT"), count))

    old, new, blocks = bases(draw(st.integers(0, 5))), bases(draw(st.integers(0, 5))), []
    for size, own, other in pieces:
        shared = bases(size)
        blocks.append((len(old), len(new), size))
        old, new = old + shared + bases(own), new + shared + bases(other)
    forward = draw(st.booleans())
    old, new = old + "ACGTAC", new + "GTA"
    return Builds(old, new if forward else turned(new), tuple(blocks), forward)


def turned(bases: str) -> str:
    return decode(reverse_complement(encode(bases)))


def chain_of(folder: Path, text: str, **options: bool) -> Chain:
    path = folder / "toy.chain"
    path.write_text(text)
    return Chain(path, **options)


@QUICK
@given(builds())
def test_every_base_is_lifted_to_its_counterpart_and_back(
    tmp_path_factory: pytest.TempPathFactory, both: Builds
) -> None:
    folder = tmp_path_factory.mktemp("chain")
    there, back = chain_of(folder, both.text()), chain_of(folder, both.text(), backward=True)
    counterparts = both.counterparts()
    for pos in range(1, len(both.old) + 2):
        found = there.lift("chr1", pos)
        assert found == (None if pos not in counterparts else ("1", *counterparts[pos]))
        if found is not None:
            assert back.lift("1", found[1]) == ("1", pos, found[2])
    reached = {new for new, _ in counterparts.values()}
    assert all((back.lift("chr1", pos) is not None) == (pos in reached) for pos in range(1, len(both.new) + 2))


@QUICK
@given(builds(), st.data())
def test_a_lifted_allele_stands_in_the_new_genome_and_makes_the_same_change(
    tmp_path_factory: pytest.TempPathFactory, both: Builds, data: st.DataObject
) -> None:
    chain = chain_of(tmp_path_factory.mktemp("chain"), both.text())
    pos = data.draw(st.integers(1, len(both.old)))
    ref = both.old[pos - 1 : pos - 1 + data.draw(st.integers(1, 5))]
    alt = data.draw(st.text("ACGT", min_size=1, max_size=4))
    found = chain.lift_allele("1", pos, ref, alt)
    counterparts = both.counterparts()
    places = [counterparts.get(pos + step) for step in range(len(ref))]
    if isinstance(found, str):
        apart = [abs(one[0] - other[0]) for one, other in pairwise(places) if one and other]
        assert found == (NO_PLACE if places[0] is None or places[-1] is None else BROKEN_UP)
        assert None in places or any(step != 1 for step in apart)
        return
    assert found.forward == both.forward
    assert both.new[found.pos - 1 : found.pos - 1 + len(ref)] == found.ref or None in places
    mutant = both.old[: pos - 1] + alt + both.old[pos - 1 + len(ref) :]
    lifted = both.new[: found.pos - 1] + found.alt + both.new[found.pos - 1 + len(ref) :]
    reads_alike = lifted if both.forward else turned(lifted)
    start = both.blocks[[start <= pos - 1 < start + size for start, _, size in both.blocks].index(True)]
    before = pos - 1 - start[0]  # bases of the block before the variant
    at = start[1]
    assert mutant[start[0] : start[0] + before + len(alt)] == reads_alike[at : at + before + len(alt)]


@quick(15)
@given(builds(), st.data())
def test_a_lifted_table_accounts_for_every_row(
    tmp_path_factory: pytest.TempPathFactory, both: Builds, data: st.DataObject
) -> None:
    chain = chain_of(tmp_path_factory.mktemp("chain"), both.text())
    places = data.draw(st.lists(st.integers(1, len(both.old)), min_size=1, max_size=8, unique=True))
    site = data.draw(st.integers(1, len(both.old)))
    other = dict(zip("ACGT", "CGTA", strict=True))
    rows = [(f"v{pos}", "chr1", pos, both.old[pos - 1], other[both.old[pos - 1]], "+") for pos in places]
    frame = pd.DataFrame(rows, columns=["variant_id", "chrom", "pos", "ref", "alt", "strand"])
    frame = frame.assign(gene="", classification="Normal", source="toy", method="", group="g", donor_pos=site)
    table, coverage = lift_over(as_variant_table(frame, "toy"), chain)
    counterparts = both.counterparts()
    kept = [pos for pos in places if pos in counterparts]
    assert table["variant_id"].tolist() == [f"v{pos}" for pos in kept]
    assert (coverage.read, coverage.used) == (len(places), len(kept))
    assert table["pos"].tolist() == [counterparts[pos][0] for pos in kept]
    assert set(table["strand"]) <= {"+" if both.forward else "-"}
    for _, row in table.iterrows():
        assert both.new[row["pos"] - 1] == row["ref"]
        assert row["alt"] != row["ref"]
        assert (row["donor_pos"] == counterparts[site][0]) if site in counterparts else pd.isna(row["donor_pos"])


@QUICK
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(1, 9)), min_size=1, max_size=6))
def test_of_several_chains_over_a_base_the_best_one_counts(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int, int]]
) -> None:
    """Overlapping chains in any order; those that lead elsewhere are told apart by the contig they lead to."""
    text = "".join(
        f"chain {score * 10 + at} chr1 99 + {start} {start + size} chr{at + 1} 99 + 0 {size} {at}\n{size}\n\n"
        for at, (start, size, score) in enumerate(spans)
    )
    chain = chain_of(tmp_path_factory.mktemp("chains"), text)
    for pos in range(1, 50):
        over = [
            (score * 10 + at, at, pos - 1 - start)
            for at, (start, size, score) in enumerate(spans)
            if start < pos <= start + size
        ]
        best = max(over, default=None)
        assert chain.lift("1", pos) == (None if best is None else (str(best[1] + 1), best[2] + 1, "+"))


CHAIN = "chain 10 chr1 50 + 0 20 chr1 50 + 5 25 1\n20\n\n"


@pytest.mark.parametrize("form", ["lf", "crlf", "gz", "bom", "comment", "no last line end"])
def test_a_chain_is_read_whatever_wrote_it(tmp_path: Path, form: str) -> None:
    raw = {
        "lf": CHAIN.encode(),
        "crlf": CHAIN.replace("\n", "\r\n").encode(),
        "gz": gzip.compress(CHAIN.encode()),
        "bom": b"\xef\xbb\xbf" + CHAIN.encode(),
        "comment": b"# made by hand\n\n" + CHAIN.encode(),
        "no last line end": CHAIN.rstrip().encode(),
    }[form]
    path = tmp_path / "toy.chain"
    path.write_bytes(raw)
    assert Chain(path).lift("chr1", 3) == ("1", 8, "+")
    assert Chain(path).lift_allele("1", 3, "AC", "A") == Lifted("1", 8, "AC", "A", True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CHAIN.replace("20\n\n", "19\n\n"), "line 2"),
        (CHAIN.replace("\n20\n", "\n20 x 1\n"), "line 2"),
        (CHAIN.replace("\n20\n", "\n20 1\n"), "line 2"),
        (CHAIN.replace(" 5 25", " five 25"), "line 1"),
        ("20\n", "line 1"),
        (CHAIN.split("\n")[0] + "\n", "ends within a chain"),
        (CHAIN.split("\n")[0] + "\n" + CHAIN, "line 2"),
        ("# nothing\n", "holds none"),
        ("", "holds none"),
        (CHAIN.replace("20\n\n", "10 99999999999999999999999 1\n9\n"), "line 3"),
    ],
)
def test_a_chain_that_cannot_be_right_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(IntegrityError, match=told):
        chain_of(tmp_path, text)
