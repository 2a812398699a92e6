"""Genes and their exons: from SpliceAI's tables, from a GTF, or from a user's own table.

All coordinates in memory are 0-based, half-open, on the plus strand. Positions handed out (`acceptors`, `donors`) and
asked for (`overlapping`) are 1-based, as in a VCF.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.read_hostile import text_lines
from meta_spliceai.resources.resolve import packaged_file
from meta_spliceai.splice_engine.genome.sequence import GRCH37, GRCH38, bare_contig

TABLE_COLUMNS = ("#NAME", "CHROM", "STRAND", "TX_START", "TX_END", "EXON_START", "EXON_END")
"""Header of SpliceAI's annotation tables (`spliceai/annotations/*.txt`)."""

PACKAGED_TABLES = {
    "grch37": (GRCH37, "spliceai/annotations/grch37.txt"),
    "grch38": (GRCH38, "spliceai/annotations/grch38.txt"),
}
"""Name on the command line: (build, file inside the PyPI package `spliceai`)."""

IN_NONE, IN_SEVERAL = -1, -2


@dataclass(frozen=True)
class Gene:
    """One gene, by one transcript: where it lies and which exons it has.

    Attributes:
        name: symbol or identifier, as the source gives it.
        start, end: of the transcript, 0-based half-open, plus strand.
        exons: (start, end) pairs, 0-based half-open, plus strand, ascending by start.
    """

    name: str
    chrom: str
    strand: str
    start: int
    end: int
    exons: tuple[tuple[int, int], ...]

    def acceptors(self) -> tuple[int, ...]:
        """1-based position of each exon's first base in transcript order; the transcription start is left out."""
        if self.strand == "+":
            return tuple(start + 1 for start, _ in self.exons[1:])
        return tuple(end for _, end in reversed(self.exons[:-1]))

    def donors(self) -> tuple[int, ...]:
        """1-based position of each exon's last base in transcript order; the transcription end is left out."""
        if self.strand == "+":
            return tuple(end for _, end in self.exons[:-1])
        return tuple(start + 1 for start, _ in reversed(self.exons[1:]))

    def boundaries(self) -> Int64[np.ndarray, " sites"]:
        """1-based first and last bases of all exons, transcription start and end included, ascending, each once."""
        edges = {start + 1 for start, _ in self.exons} | {end for _, end in self.exons}
        return np.array(sorted(edges), dtype=np.int64)


class GeneAnnotation:
    """A set of genes, looked up by place or by name.

    Attributes:
        build: "GRCh37", "GRCh38" or what the source says.
    """

    def __init__(self, genes: Iterable[Gene], build: str, name: str) -> None:
        self.genes: tuple[Gene, ...] = tuple(genes)
        self.build = build
        self.name = name
        if not self.genes:
            raise InputError(
                f"{name}: holds no gene; give a table with the columns {' '.join(TABLE_COLUMNS)}, or a GTF"
            )
        self._by_name: dict[str, list[Gene]] = {}
        by_contig: dict[str, list[tuple[int, int, int]]] = {}
        for place, gene in enumerate(self.genes):
            by_contig.setdefault(bare_contig(gene.chrom), []).append((gene.start, gene.end, place))
            self._by_name.setdefault(gene.name, []).append(gene)
        self._spans = {contig: np.array(spans, dtype=np.int64).T.copy() for contig, spans in by_contig.items()}

    @cached_property
    def digest(self) -> str:
        digest = hashlib.sha256()
        for gene in self.genes:
            line = (gene.name, bare_contig(gene.chrom), gene.strand, gene.start, gene.end, gene.exons)
            digest.update(f"{line}\n".encode())
        return digest.hexdigest()

    def overlapping(self, chrom: str, pos: int) -> list[Gene]:
        """The genes whose transcript holds the base at `pos` (1-based), in the source's order.

        A contig is found with or without "chr", and M is MT; one that has no gene gives an empty list.
        """
        return self.within(chrom, pos - 1, pos)

    def only(self, chrom: str, pos: Int64[np.ndarray, " positions"]) -> Int64[np.ndarray, " positions"]:
        """For many positions (1-based) of one contig the place in `genes` of the only gene that `overlapping` finds;
        IN_NONE where it finds none, IN_SEVERAL where it finds more."""
        contig = bare_contig(chrom)
        if contig not in self._edges:
            return np.full(len(pos), IN_NONE)
        edges, counts, places = self._edges[contig]
        at = np.searchsorted(edges, pos - 1, side="right")
        return np.where(counts[at] == 1, places[at], np.where(counts[at] == 0, IN_NONE, IN_SEVERAL))

    @cached_property
    def _edges(self) -> dict[str, tuple[Int64[np.ndarray, " edges"], ...]]:
        """Of each contig the places where a gene begins or ends, ascending; and from before the first of them on how
        many genes there are, and the sum of their places in `genes`."""
        found = {}
        for contig, (starts, ends, places) in self._spans.items():
            edges, one = np.concatenate([starts, ends]), np.ones(len(starts), dtype=np.int64)
            order = np.argsort(edges, kind="stable")
            steps = np.concatenate([one, -one])[order], np.concatenate([places, -places])[order]
            found[contig] = edges[order], *(np.concatenate([[0], np.cumsum(step)]) for step in steps)
        return found

    def within(self, chrom: str, start: int, end: int) -> list[Gene]:
        """The genes that share a base with [start, end) (0-based half-open), in the source's order."""
        contig = bare_contig(chrom)
        if contig not in self._spans:
            return []
        starts, ends, places = self._spans[contig]
        return [self.genes[place] for place in places[(starts < end) & (start < ends)]]

    def gene(self, name: str) -> Gene:
        """The gene of this name; InputError for no such gene (the nearest names are given), or several."""
        found = self._by_name.get(name)
        if not found:
            near = difflib.get_close_matches(name, self._by_name, n=3, cutoff=0.6)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise InputError(f"gene '{name}' is not in {self.name}{hint}")
        if len(found) > 1:
            places = ", ".join(f"{gene.chrom}:{gene.start + 1}-{gene.end}({gene.strand})" for gene in found[:4])
            raise InputError(
                f"gene '{name}' stands {len(found)} times in {self.name}: {places}; name the region instead"
            )
        return found[0]

    def __len__(self) -> int:
        return len(self.genes)

    @classmethod
    def named(cls, what: str, build: str | None = None) -> GeneAnnotation:
        """What `--annotation` takes: "grch37", "grch38", a table in SpliceAI's format, or a GTF (either may be .gz; its
        kind is seen from its first line, its build is the one given)."""
        packaged = PACKAGED_TABLES.get(what.lower())
        if packaged is not None:
            return cls.from_spliceai_table(packaged_file("spliceai", packaged[1]), packaged[0])
        path = Path(what)
        if not path.is_file():
            known = [*PACKAGED_TABLES, "path of a table", "path of a GTF"]
            raise unknown_value("annotation", what, known, "--annotation")
        read = cls.from_spliceai_table if next(text_lines(path), "").startswith("#NAME") else cls.from_gtf
        return read(path, build or "unknown build")

    @classmethod
    def from_spliceai_table(cls, path: Path, build: str) -> GeneAnnotation:
        """Read SpliceAI's table format: tab-separated, one transcript a line, exons as comma-separated lists.

        Starts (TX_START, EXON_START) are 0-based, ends are 1-based inclusive, so that a pair is half-open as it stands.

        Raises:
            InputError: a column is missing or a line cannot be right; the message names line and value.
        """
        lines = text_lines(path)
        header = next(lines, "").split("\t")
        missing = [column for column in TABLE_COLUMNS if column not in header]
        if missing:
            raise InputError(
                f"{path}: column {', '.join(missing)} missing in line 1; an annotation table has the tab-separated "
                f"columns {' '.join(TABLE_COLUMNS)}"
            )
        place = [header.index(column) for column in TABLE_COLUMNS]
        genes = []
        for number, line in enumerate(lines, start=2):
            if not line.strip():
                continue
            fields = line.split("\t")
            if len(fields) != len(header):
                raise InputError(f"{path}, line {number}: {len(fields)} fields where the header has {len(header)}")
            name, chrom, strand, start, end, exon_starts, exon_ends = (fields[index] for index in place)
            where = f"{path}, line {number} ({name})"
            starts = _integers(exon_starts, "EXON_START", where)
            ends = _integers(exon_ends, "EXON_END", where)
            if len(starts) != len(ends):
                raise InputError(f"{where}: {len(starts)} exon starts but {len(ends)} exon ends")
            exons = tuple(sorted(zip(starts, ends, strict=True)))
            span = _integer(start, "TX_START", where), _integer(end, "TX_END", where)
            genes.append(_checked_gene(Gene(name, chrom, strand, *span, exons), where))
        return cls(genes, build, str(path))

    @classmethod
    def from_gtf(cls, path: Path, build: str) -> GeneAnnotation:
        """Read a GTF (GENCODE, Ensembl, RefSeq): for each gene one transcript, taken by its `exon` lines.

        The transcript is the one tagged MANE_Select, else Ensembl_canonical, else the one with the most exonic bases
        (the first in the file among equals). Gene and exons are 1-based inclusive in the file.

        Raises:
            InputError: no exon line, or a line that is no GTF; the message names it.
        """
        transcripts: dict[tuple[str, str], dict[str, _Transcript]] = {}
        for number, line in enumerate(text_lines(path), start=1):
            if re.match(r"##\s*gff-version\s+3", line) or re.match(r"(?:[^\t]*\t){8}\s*\w+=", line):
                raise InputError(
                    f"{path}, line {number}: this is GFF3, and a GTF is read; convert it, for example with "
                    f"'gffread {path.name} -T -o genes.gtf', or take the source's GTF (GENCODE and Ensembl have both)"
                )
            if not line.strip() or line.startswith("#"):
                continue
            fields = line.split("\t")
            if len(fields) != 9:
                raise InputError(
                    f"{path}, line {number}: {len(fields)} tab-separated fields where a GTF has 9; "
                    f"give a GTF, or a table with the columns {' '.join(TABLE_COLUMNS)}"
                )
            if fields[2] != "exon":
                continue
            chrom, strand, attributes = fields[0], fields[6], fields[8]
            gene_id, transcript_id = (_attribute(attributes, key) for key in ("gene_id", "transcript_id"))
            if gene_id is None or transcript_id is None:
                raise InputError(f"{path}, line {number}: an exon without gene_id or transcript_id")
            where = f"{path}, line {number} ({transcript_id})"
            exon = (_integer(fields[3], "start", where) - 1, _integer(fields[4], "end", where))
            of_gene = transcripts.setdefault((gene_id, chrom), {})
            if transcript_id not in of_gene:
                name = _attribute(attributes, "gene_name") or gene_id
                of_gene[transcript_id] = _Transcript(name, chrom, strand, _rank(attributes), where, [])
            of_gene[transcript_id].exons.append(exon)
        if not transcripts:
            raise InputError(f"{path}: no exon line; give a GTF with exons, or a table in SpliceAI's format")
        return cls([_representative(of_gene.values()) for of_gene in transcripts.values()], build, str(path))


@dataclass
class _Transcript:
    gene_name: str
    chrom: str
    strand: str
    rank: int
    where: str
    exons: list[tuple[int, int]]


def _integers(text: str, what: str, where: str) -> list[int]:
    return [_integer(part, what, where) for part in text.rstrip(",").split(",")]


def _integer(text: str, what: str, where: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise InputError(f"{where}: {what} '{text}' is not a coordinate (a whole number)")
    return int(text)


def _checked_gene(gene: Gene, where: str) -> Gene:
    if gene.strand not in ("+", "-"):
        raise InputError(f"{where}: strand '{gene.strand}' is neither + nor -")
    if not gene.start < gene.end:
        raise InputError(f"{where}: the transcript ends at {gene.end}, not after its start {gene.start}")
    for start, end in gene.exons:
        if not (gene.start <= start < end <= gene.end):
            raise InputError(f"{where}: exon {start}-{end} is empty or reaches out of {gene.start}-{gene.end}")
    return gene


def _attribute(attributes: str, key: str) -> str | None:
    found = re.search(rf'(?:^|[;\s]){key}\s+"?([^";]+)"?', attributes)
    return found.group(1) if found else None


def _rank(attributes: str) -> int:
    """How strongly the source marks a transcript as the gene's own: 2 MANE Select, 1 Ensembl canonical, 0 neither."""
    tags = [tag.replace(" ", "_") for tag in re.findall(r'(?:^|[;\s])tag\s+"?([^";]+)"?', attributes)]
    return 2 if "MANE_Select" in tags else 1 if "Ensembl_canonical" in tags else 0


def _representative(transcripts: Iterable[_Transcript]) -> Gene:
    """The gene, by its marked transcript, else by the one with the most exonic bases."""
    chosen = max(transcripts, key=lambda one: (one.rank, sum(end - start for start, end in one.exons)))
    exons = tuple(sorted(chosen.exons))
    gene = Gene(chosen.gene_name, chosen.chrom, chosen.strand, exons[0][0], max(end for _, end in exons), exons)
    return _checked_gene(gene, chosen.where)


NO_GENE = "no gene at the variant (strand not known)"
TWO_STRANDS = "genes on both strands equally near (strand not known)"


@dataclass(frozen=True)
class TestedExon:
    """The exon nearest to a variant: 1-based positions of its first and last base in transcript order (None at the
    transcription's start and end)."""

    __test__ = False  # its name begins with "Test", but it is none

    gene: Gene
    acceptor: int | None
    donor: int | None


def nearest_exon(gene: Gene, pos: int) -> tuple[TestedExon, int]:
    """The exon of a gene whose edge is nearest to a position (1-based), and that distance in bases (0 = an edge base).

    Within an exon that is the exon itself: the edges of others lie beyond its own.
    """
    distances = [min(abs(pos - (start + 1)), abs(pos - end)) for start, end in gene.exons]
    best = distances.index(min(distances))
    start, end = gene.exons[best]
    low, high = None if best == 0 else start + 1, None if best == len(gene.exons) - 1 else end
    acceptor, donor = (low, high) if gene.strand == "+" else (high, low)
    return TestedExon(gene, acceptor, donor), distances[best]


def find_tested_exon(
    annotation: GeneAnnotation, chrom: str, pos: int, named_gene: str = "", strand: str = ""
) -> TestedExon | str:
    """The exon a variant (1-based) most likely tests, where its source does not say: among the genes over the position
    (only those on `strand`, if it is known) of the one the source names, if it is there, otherwise of the gene with the
    nearest exon edge.

    Returns:
        the exon, or the reason why there is none: `NO_GENE`, or `TWO_STRANDS` when genes of both strands are equally
        near, so that neither can be preferred.
    """
    genes = [gene for gene in annotation.overlapping(chrom, pos) if strand in ("", gene.strand)]
    genes = [gene for gene in genes if gene.name == named_gene] or genes
    if not genes:
        return NO_GENE
    found = [nearest_exon(gene, pos) for gene in genes]
    nearest = min(distance for _, distance in found)
    near = [exon for exon, distance in found if distance == nearest]
    return near[0] if len({exon.gene.strand for exon in near}) == 1 else TWO_STRANDS
