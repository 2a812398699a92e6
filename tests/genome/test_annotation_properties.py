"""Genes looked up by place, nearest exons and chosen transcripts, against readings base by base."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.annotation import (
    IN_NONE,
    IN_SEVERAL,
    NO_GENE,
    TWO_STRANDS,
    Gene,
    GeneAnnotation,
    find_tested_exon,
    nearest_exon,
)
from tests.properties import quick

QUICK = quick(60)
LENGTH = 80
HEADER = "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END"


@st.composite
def genes(draw: st.DrawFn, strands: str = "+-") -> Gene:
    edges = sorted(draw(st.sets(st.integers(0, LENGTH), min_size=2, max_size=8)))
    edges = edges[: len(edges) // 2 * 2]
    exons = tuple(zip(edges[::2], edges[1::2], strict=True))
    chrom = draw(st.sampled_from(["1", "chr1", "chrM", "MT", "X"]))
    return Gene(draw(st.sampled_from("ABC")), chrom, draw(st.sampled_from(strands)), edges[0], edges[-1], exons)


SEVERAL = st.lists(genes(), min_size=1, max_size=6)


def bare(chrom: str) -> str:
    return {"M": "MT"}.get(chrom.removeprefix("chr"), chrom.removeprefix("chr"))


def mirrored(gene: Gene) -> Gene:
    """The gene on the reverse complement of its contig."""
    exons = tuple((LENGTH - end, LENGTH - start) for start, end in reversed(gene.exons))
    strand = "-" if gene.strand == "+" else "+"
    return Gene(gene.name, gene.chrom, strand, LENGTH - gene.end, LENGTH - gene.start, exons)


@QUICK
@given(SEVERAL, st.sampled_from(["1", "chr1", "M", "chrMT", "chrX", "7"]), st.integers(0, LENGTH), st.integers(1, 9))
def test_genes_are_found_base_by_base(listed: list[Gene], chrom: str, start: int, size: int) -> None:
    annotation = GeneAnnotation(listed, "toy", "toy genes")
    here = [gene for gene in listed if bare(gene.chrom) == bare(chrom)]
    asked = set(range(start, start + size))
    assert annotation.within(chrom, start, start + size) == [
        gene for gene in here if asked & set(range(gene.start, gene.end))
    ]
    positions = np.arange(0, LENGTH + 3)
    for pos, only in zip(positions, annotation.only(chrom, positions), strict=True):
        over = [gene for gene in here if gene.start < pos <= gene.end]
        assert annotation.overlapping(chrom, int(pos)) == over
        expected = IN_NONE if not over else IN_SEVERAL if len(over) > 1 else listed.index(over[0])
        assert only == expected or listed[only] == over[0]


@QUICK
@given(genes())
def test_the_sites_of_a_gene_read_backwards_are_those_of_its_mirror_image(gene: Gene) -> None:
    """On the other strand of the reversed contig nothing about a transcript changes but where it lies."""
    other = mirrored(gene)
    assert mirrored(other) == gene
    for sites, there in ((gene.acceptors(), other.acceptors()), (gene.donors(), other.donors())):
        assert sites == tuple(LENGTH + 1 - pos for pos in there)
        assert list(sites) == sorted(sites, reverse=gene.strand == "-")
        assert len(sites) == len(gene.exons) - 1
    assert (LENGTH + 1 - other.boundaries()[::-1] == gene.boundaries()).all()


@QUICK
@given(genes(), st.integers(-5, LENGTH + 5))
def test_no_exon_edge_is_nearer_than_the_nearest_exons(gene: Gene, pos: int) -> None:
    exon, distance = nearest_exon(gene, pos)
    edges = [(abs(pos - edge), edge) for start, end in gene.exons for edge in (start + 1, end)]
    assert distance == min(edges)[0]
    inside = [number for number, (start, end) in enumerate(gene.exons) if start < pos <= end]
    sites = {one for one in (exon.acceptor, exon.donor) if one is not None}
    among = [
        number
        for number, (start, end) in enumerate(gene.exons)
        if sites <= {start + 1, end} and distance in (abs(pos - start - 1), abs(pos - end))
    ]
    assert among
    assert not inside or inside[0] in among
    # An acceptor is known of every exon but the first in transcript order, a donor of every one but the last.
    assert exon.acceptor is None or exon.acceptor in gene.acceptors()
    assert exon.donor is None or exon.donor in gene.donors()
    assert None not in (exon.acceptor, exon.donor) or {0, len(gene.exons) - 1} & set(among)


@QUICK
@given(SEVERAL, st.integers(1, LENGTH), st.sampled_from(["", "A", "Z"]), st.sampled_from(["", "+", "-"]))
def test_the_tested_exon_is_of_the_named_gene_else_of_the_nearest(
    listed: list[Gene], pos: int, named: str, strand: str
) -> None:
    annotation = GeneAnnotation(listed, "toy", "toy genes")
    found = find_tested_exon(annotation, "chr1", pos, named, strand)
    over = [gene for gene in listed if bare(gene.chrom) == "1" and gene.start < pos <= gene.end]
    over = [gene for gene in over if strand in ("", gene.strand)]
    over = [gene for gene in over if gene.name == named] or over
    if not over:
        assert found == NO_GENE
        return
    distances = [nearest_exon(gene, pos)[1] for gene in over]
    nearest = [gene for gene, distance in zip(over, distances, strict=True) if distance == min(distances)]
    if len({gene.strand for gene in nearest}) > 1:
        assert found == TWO_STRANDS
        assert not strand
        return
    assert not isinstance(found, str)
    assert found.gene == nearest[0]


def as_table(listed: list[Gene], shuffled: int) -> str:
    """SpliceAI's form; the exons of a gene in any order, as nothing says that they ascend."""
    lines = [HEADER]
    random = np.random.default_rng(shuffled)
    for gene in listed:
        exons = [gene.exons[at] for at in random.permutation(len(gene.exons))]
        starts, ends = ("".join(f"{exon[side]}," for exon in exons) for side in (0, 1))
        lines.append(f"{gene.name}\t{gene.chrom}\t{gene.strand}\t{gene.start}\t{gene.end}\t{starts}\t{ends}")
    return "\n".join(lines) + "\n"


@QUICK
@given(SEVERAL, st.integers(0, 9), st.booleans(), st.booleans(), st.booleans())
def test_a_table_gives_back_its_genes_whatever_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, listed: list[Gene], shuffled: int, crlf: bool, packed: bool, mark: bool
) -> None:
    raw = as_table(listed, shuffled).replace("\n", "\r\n" if crlf else "\n").encode()
    raw = b"\xef\xbb\xbf" * mark + raw
    path = tmp_path_factory.mktemp("genes") / "genes.txt"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    read = GeneAnnotation.named(str(path), "GRCh38")
    assert list(read.genes) == listed
    assert read.build == "GRCh38"
    assert read.digest == GeneAnnotation(listed, "toy", "in memory").digest


@st.composite
def transcripts(draw: st.DrawFn) -> list[tuple[str, str, Gene, int]]:
    """Gene, transcript, what it is, and how strongly it is marked."""
    found = []
    for gene in range(draw(st.integers(1, 3))):
        strand = draw(st.sampled_from("+-"))
        for number in range(draw(st.integers(1, 3))):
            one = draw(genes(strand))
            kept = Gene(f"name{gene}", "1", strand, one.start, one.end, one.exons)
            found.append((f"g{gene}", f"g{gene}.t{number}", kept, draw(st.integers(0, 2))))
    return found


@QUICK
@given(transcripts(), st.randoms(use_true_random=False), st.booleans())
def test_a_gtf_gives_of_each_gene_the_marked_or_the_longest_transcript(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, str, Gene, int]], random: object, crlf: bool
) -> None:
    """Lines of a file may stand in any order within a transcript; the order of transcripts decides between equals."""
    tags = {0: "", 1: ' tag "basic"; tag "Ensembl_canonical";', 2: ' tag "MANE_Select";'}
    lines = ["#!genome-build toy", ""]
    for gene_id, transcript_id, gene, rank in made:
        said = f'gene_id "{gene_id}"; transcript_id "{transcript_id}"; gene_name "{gene.name}";{tags[rank]}'
        exons = [f"1\tx\texon\t{start + 1}\t{end}\t.\t{gene.strand}\t.\t{said}" for start, end in gene.exons]
        random.shuffle(exons)  # type: ignore[attr-defined]
        lines += [f"1\tx\ttranscript\t{gene.start + 1}\t{gene.end}\t.\t{gene.strand}\t.\t{said}", *exons]
    path = tmp_path_factory.mktemp("gtf") / "genes.gtf"
    path.write_bytes(("\r\n" if crlf else "\n").join([*lines, ""]).encode())
    best: dict[str, tuple[tuple[int, int], Gene]] = {}
    for gene_id, _, gene, rank in made:
        worth = rank, sum(end - start for start, end in gene.exons)
        if gene_id not in best or worth > best[gene_id][0]:
            best[gene_id] = worth, gene
    assert list(GeneAnnotation.named(str(path)).genes) == [gene for _, gene in best.values()]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("UP\t1\t*\t1\t9\t1,\t9,", r"line 2 \(UP\): strand '\*'"),
        ("UP\t1\t+\t9\t1\t1,\t9,", "ends at 1, not after its start 9"),
        ("UP\t1\t+\t1\t9\t1,\t10,", "exon 1-10 is empty or reaches out of 1-9"),
        ("UP\t1\t+\t1\t9\t3,\t3,", "exon 3-3 is empty"),
        ("UP\t1\t+\t1\t9\t1,4,\t3,", "2 exon starts but 1 exon ends"),
        ("UP\t1\t+\t1\t9\t1,x,\t3,9,", "EXON_START 'x'"),
        ("UP\t1\t+\t1\t9\t,\t9,", "EXON_START ''"),
        ("UP\t1\t+\t-1\t9\t1,\t9,", "TX_START '-1'"),
        ("UP\t1\t+\t1\t1e3\t1,\t9,", "TX_END '1e3'"),
        ("UP\t1\t+\t1\t9\t1,\t9999999999999,", "EXON_END '9999999999999'"),
        ("UP\t1\t+\t1\t9\t1,", "6 fields where the header has 7"),
    ],
)
def test_a_gene_that_cannot_be_is_told_with_its_line_and_value(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "genes.txt"
    path.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(InputError, match=told):
        GeneAnnotation.named(str(path))
