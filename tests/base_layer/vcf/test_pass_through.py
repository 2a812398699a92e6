"""Lines outside genes, written by the block: the same bytes and counts as record by record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meta_spliceai.splice_engine.base_layer.vcf import text
from meta_spliceai.splice_engine.base_layer.vcf.pass_through import Passed, PassThrough
from meta_spliceai.splice_engine.base_layer.vcf.score_file import FileScorer
from meta_spliceai.splice_engine.genome.annotation import IN_NONE, IN_SEVERAL, Gene, GeneAnnotation
from tests.base_layer.vcf.test_score_file import scored

Make = Callable[..., FileScorer]


def records(sequence: str, count: int) -> list[tuple]:
    """Records of every kind, half of them outside the genes and plain."""
    random = np.random.default_rng(3)
    found = []
    for _ in range(count):
        pos, length = int(random.integers(1, 6001)), int(random.choice([1, 1, 1, 2, 5, 60]))
        ref = sequence[pos - 1 : pos - 1 + length]
        odd = random.integers(12)
        ref = {0: ref.lower(), 1: "".join(reversed(ref)), 2: ref + "ACGT", 3: "N"}.get(int(odd), ref)
        alt = str(random.choice(["A", "C,GT", "N", "T,*", "<DEL>", "g", ".", "A" * 1200, "AC,A,ACGT"]))
        kinds = [".", "AC=1", "", "DB;", "A;;B", "AC=1;SpliceAI=A|old", "OTHER=SpliceAI", "SpliceAI_unscored=x"]
        info = str(random.choice(kinds))
        found.append((random.choice(["chr1", "1", "chr2", "2", "chr9"]), pos, ref, alt, info))
    return found


@pytest.mark.parametrize("strict", [False, True])
def test_a_file_is_scored_as_record_by_record(
    sequence: str,
    make_scorer: Make,
    write_vcf: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    strict: bool,
) -> None:
    path = write_vcf(*records(sequence, 3000))
    path.write_bytes(path.read_bytes().replace(b"\t\n", b"\t.\r\n"))
    monkeypatch.setattr(text, "BLOCK_RECORDS", 100)
    passed: list[int] = []
    real = PassThrough.find

    def counted(self: PassThrough, *args: Any) -> Passed:
        found = real(self, *args)
        passed.append(len(found.rows))
        return found

    def none(self: PassThrough, *args: Any) -> Passed:
        found = real(self, *args)
        return found.where(np.zeros(len(found.rows), dtype=bool))

    monkeypatch.setattr(PassThrough, "find", counted)
    quick = make_scorer(strict=strict, replace=True)
    lines = scored(path, quick)
    monkeypatch.setattr(PassThrough, "find", none)
    slow = make_scorer(strict=strict, replace=True)
    assert lines == scored(path, slow)
    assert not any("DB;;" in str(line) for line in lines)
    assert quick.totals == slow.totals
    assert list(quick.totals.unscored) == list(slow.totals.unscored)
    assert sum(passed) > 50


def test_the_only_gene_is_found_for_many_positions_as_for_each() -> None:
    random = np.random.default_rng(0)
    starts = random.integers(0, 900, 40)
    genes = [
        Gene(f"G{number}", "chr1" if number % 3 else "2", "+", int(start), int(end), ((int(start), int(end)),))
        for number, (start, end) in enumerate(zip(starts, starts + random.integers(1, 40, 40), strict=True))
    ]
    annotation = GeneAnnotation(genes, "toy", "toy")
    for chrom in ("1", "chr2", "3"):
        found = annotation.only(chrom, np.arange(0, 1000)).tolist()
        for pos, place in enumerate(found):
            there = annotation.overlapping(chrom, pos)
            expected = genes.index(there[0]) if len(there) == 1 else IN_SEVERAL if there else IN_NONE
            assert place == expected, (chrom, pos)
        assert {IN_NONE} < set(found) or chrom == "3"
