"""Pieces of an input, one per machine: records within regions, and shards of these.

A shard is a run of records that follow one another. It is cut where neighbourhoods end, so that variants which share a
reference window stay together, and such that all shards are about equally much work: most of a genome's records lie in
no gene and cost next to nothing. Which shard a record is in depends on the input, the regions and the genes alone. A
piece says in its header which shard of what it is, and what its records are, by a checksum; `merge` puts the pieces
together again.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import sha256_file, whole_file
from meta_spliceai.read_hostile import one_error, text_lines
from meta_spliceai.splice_engine.base_layer.vcf import bgzf
from meta_spliceai.splice_engine.base_layer.vcf.reader import reopened, to_bcf
from meta_spliceai.splice_engine.base_layer.vcf.text import TextVariants
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Placed, Source
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation, bare_contig
from meta_spliceai.splice_engine.genome.packed import joined
from meta_spliceai.splice_engine.genome.sequence import SequenceSource, read_region

NEIGHBOURS = 5_000
"""Bases between two variants up to which they may share a reference, which is what the networks see on either side."""
WINDOW = 4 * NEIGHBOURS
"""Bases from the first to the last variant that share one."""

_RECORD, _ALLELE, _REFERENCE = 1, 10_000, 80_000
"""Work: a record that is passed on, an allele in a gene, and the reference that neighbours share."""

PIECE, REGIONS = "##meta_spliceai_piece=", "##meta_spliceai_regions="
_MOST_SHARDS = 1_000_000
_FURTHEST = 10**12


class Stretches:
    """Stretches of contigs (1-based, both ends included), joined where they touch; contigs with or without "chr"."""

    def __init__(self, stretches: Iterable[tuple[str, int, int]]) -> None:
        self._edges: dict[str, list[int]] = {}
        for contig, start, end in joined((bare_contig(contig), start, end + 1) for contig, start, end in stretches):
            self._edges.setdefault(contig, []).extend((start, end))

    def hold(self, contig: str, pos: int) -> bool:
        """Whether a position lies in one of them: behind an odd number of their edges."""
        return bisect_right(self._edges.get(bare_contig(contig), ()), pos) % 2 == 1


@dataclass(frozen=True)
class Cut:
    """What is taken of an input.

    Attributes:
        regions: "chr1:1,000-2,000" (1-based, both ends included), a contig, or a BED file; none: all records. A record
            is taken if its POS lies in one of them.
        shard: which one, from 1, of how many.
    """

    regions: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None

    @classmethod
    def asked(cls, regions: Sequence[str] | None, shard: str | None) -> Cut:
        """What the command line says."""
        if shard is None:
            return cls(tuple(regions or ()))
        found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", shard)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= _MOST_SHARDS:
            raise InputError(f"--shard {shard}: write which of how many, for example 3/40 (at most {_MOST_SHARDS:,})")
        return cls(tuple(regions or ()), (int(found[1]), int(found[2])))

    def stretches(self, genome: SequenceSource) -> Stretches | None:
        """The regions; None for all of the genome."""
        if not self.regions:
            return None
        return Stretches(one for text in self.regions for one in _stretches_of(text, genome))

    def header_line(self) -> list[str]:
        """A line for the output's header that names the regions, if there are any; BED files with their checksums."""
        named = [f"{Path(one).name} {sha256_file(Path(one))}" if Path(one).is_file() else one for one in self.regions]
        text = " ".join(named).replace("\\", "\\\\").replace('"', '\\"')
        return [f'{REGIONS}<Regions="{text}">'] if named else []


WHOLE = Cut()


def _stretches_of(text: str, genome: SequenceSource) -> Iterator[tuple[str, int, int]]:
    if Path(text).is_file():
        for number, line in enumerate(text_lines(Path(text)), start=1):
            if not line.strip() or line.startswith(("#", "track", "browser")):
                continue
            contig, *places = line.split("\t")[:3] if "\t" in line else line.split()[:3]
            good = len(places) == 2 and all(re.fullmatch(r"\d{1,12}", place) for place in places)
            if not good or int(places[0]) >= int(places[1]):
                raise InputError(
                    f"{text}, line {number}: no line of a BED file (contig, start and end, separated by tabs)"
                )
            yield contig, int(places[0]) + 1, int(places[1])
        return
    contig, start, end = read_region(text) or (text, 1, _FURTHEST)
    try:
        genome.resolve(contig)
    except InputError as error:
        raise InputError(f"--regions {text} is neither a file nor a region such as chr1:1000-2000: {error}") from None
    yield contig, start, end


@dataclass(frozen=True)
class Piece:
    """Which part of what input a file holds.

    Attributes:
        shard: number, from 1, and how many there are.
        before: records of the shards before it.
        records: of all shards.
        input: SHA-256 of the input file.
        content: SHA-256 of the piece's own records, or of its table, once it is whole; "" if it was written to a pipe.
    """

    shard: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(le=_MOST_SHARDS)]]
    before: int
    records: int
    input: str
    content: str = ""

    def __str__(self) -> str:
        return PIECE + json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str, where: object) -> Piece:
        """What `str` gave."""
        with one_error(f"{where}: its line {PIECE}", "make the piece anew"):
            return TypeAdapter(cls).validate_json(line.removeprefix(PIECE))


def take(
    source: Source,
    again: Callable[[], Source],
    path: str,
    cut: Cut,
    genes: GeneAnnotation | None,
    genome: SequenceSource,
) -> list[str]:
    """Leave in a source only what is to be taken; returns lines for the output's header: the regions, then the piece.

    Args:
        source: the input, just opened.
        again: opens it a second time: all of it is read once to know how much work it is.
        path: of the input.
        genes: outside of which records are no work; None: all of them are the same work.
        genome: whose contigs regions may name.
    """
    regions = cut.stretches(genome)
    lines = cut.header_line()
    if regions is not None:
        source.rows = (row for row, *_ in _within(source, regions))
    if cut.shard is None:
        return lines
    if path == "-":
        raise InputError("--shard needs a file, which is read twice; name one in place of standard input")
    spans = None if genes is None else Stretches((gene.chrom, gene.start + 1, gene.end) for gene in genes.genes)
    before, work = _neighbourhoods(_within(again(), regions), spans)
    number, of = cut.shard
    # A neighbourhood belongs to the shard in whose share of all work it begins.
    start, stop = (
        before[bisect_left(work, shards * work[-1], key=lambda done: done * of)] for shards in (number - 1, number)
    )
    source.rows = islice(source.rows, start, stop)
    return [*lines, str(Piece(cut.shard, start, before[-1], sha256_file(Path(path))))]


def _within(source: Source, regions: Stretches | None) -> Iterator[Placed]:
    placed = source.placed(source.rows)
    return placed if regions is None else (one for one in placed if regions.hold(one[1], one[2]))


def _neighbourhoods(placed: Iterable[Placed], genes: Stretches | None) -> tuple[array[int], array[int]]:
    """How many records, and how much work, there are before each neighbourhood, and in all."""
    found = array("q"), array("q")  # a genome has millions
    contig, first, last, records, work, shares = "", 0, 0, 0, 0, False
    for _, chrom, pos, alleles in placed:
        if chrom != contig or not last <= pos <= min(last + NEIGHBOURS, first + WINDOW):
            found[0].append(records)
            found[1].append(work)
            contig, first, shares = chrom, pos, False
        last = pos
        records += 1
        work += _RECORD
        if alleles and (genes is None or genes.hold(chrom, pos)):
            work += alleles * _ALLELE + (0 if shares else _REFERENCE)
            shares = True
    found[0].append(records)
    found[1].append(work)
    return found


@dataclass(frozen=True)
class Part:
    """A piece on the disk.

    Attributes:
        common: what all pieces of one run share, and the merged file has too: lines of the header, or of the card.
        expected: records that it must have.
    """

    path: Path
    piece: Piece
    common: list[str]
    expected: int = 0

    def require_content(self, content: str) -> None:
        """Refuse a piece that has not what it had when it was made."""
        if self.piece.content not in ("", content):
            raise IntegrityError(f"{self.path} was changed or damaged after it was made (SHA-256); make it anew")


def in_order(parts: Sequence[Part]) -> list[Part]:
    """The pieces by their number, each with the records it must have."""
    found: dict[int, Part] = {}
    first = parts[0]
    of, records = first.piece.shard[1], first.piece.records
    for part in parts:
        number = part.piece.shard[0]
        if (part.piece.input, part.piece.shard[1], part.piece.records) != (first.piece.input, of, records):
            raise InputError(f"{part.path} is a piece of another input than {first.path}, or one of another number")
        if part.common != first.common:
            said = next((line for line in part.common if line not in first.common), "less")
            raise InputError(f"{part.path} is a piece of another run than {first.path}: it says '{said[:200]}'")
        if number in found:
            raise InputError(f"{part.path} and {found[number].path} are both shard {number}; name one of them")
        found[number] = part
    missing = [f"{number}/{of}" for number in range(1, of + 1) if number not in found]
    if missing:
        raise InputError(
            f"{len(missing)} of {of} pieces are missing: shard {', '.join(missing[:10])}; make them, or name them too"
        )
    ordered = [found[number] for number in range(1, of + 1)]
    ends = [*(part.piece.before for part in ordered[1:]), records]
    return [replace(part, expected=end - part.piece.before) for part, end in zip(ordered, ends, strict=True)]


def merge_vcfs(out: Path, pieces: Sequence[Path]) -> int:
    """Join pieces that `--shard` made, in any order; the header is theirs without the line that names the piece.

    Args:
        out: .vcf, .vcf.gz or .bcf.

    Returns:
        records written.

    Raises:
        InputError: a piece is missing, doubled, of another run, or none.
        IntegrityError: a piece is truncated, has not all of its records, or others than when it was made.
    """
    ordered = in_order([_part_of(path) for path in pieces])
    merged = TextVariants((line.encode("latin-1") for line in ordered[0].common), str(out))
    merged.rows = enumerate(chain.from_iterable(map(_records, ordered)), start=1)
    bcf = out.name.lower().endswith(".bcf")
    with whole_file(out) as temporary, tempfile.TemporaryDirectory(dir=out.parent) as folder:
        text = Path(folder) / "merged.vcf.gz" if bcf else temporary
        records = _write(merged, text, bcf or out.name.lower().endswith((".gz", ".bgz")))
        if bcf:
            to_bcf(text, temporary)
    return records


def seal(unsealed: Path, out: Path, packed: bool) -> None:
    """Write a whole piece that says in its header what its records are."""
    digest = hashlib.sha256()
    for block in reopened(str(unsealed)).blocks():
        digest.update(block.text)
    content = f'"content": "{digest.hexdigest()}"'.encode()
    variants = reopened(str(unsealed))
    variants.header = [
        line.replace(b'"content": ""', content) if line.startswith(PIECE.encode()) else line for line in variants.header
    ]
    with whole_file(out) as temporary:
        _write(variants, temporary, packed)


def _write(variants: TextVariants, out: Path, packed: bool) -> int:
    """Write header and records; how many."""
    pack, records = bgzf.compress if packed else bytes, 0
    with out.open("wb") as sink:
        sink.write(pack(b"".join(variants.header)))
        for block in variants.blocks():
            sink.write(pack(block.text))
            records += len(block)
        sink.write(bgzf.END_BLOCK if packed else b"")
    return records


def _part_of(path: Path) -> Part:
    header = [line.decode("latin-1") for line in reopened(str(path)).header]
    named = [line for line in header if line.startswith(PIECE)]
    if len(named) != 1:
        raise InputError(f"{path} has {len(named)} header lines {PIECE}, where a file that --shard wrote has one")
    return Part(path, Piece.read(named[0].rstrip(), path), [line for line in header if line not in named])


def _records(part: Part) -> Iterator[bytes]:
    digest, records = hashlib.sha256(), 0
    for _, line in reopened(str(part.path)).rows:
        digest.update(line)
        records += 1
        yield line
    if records != part.expected:
        raise IntegrityError(f"{part.path} has {records:,} records and should have {part.expected:,}; make it anew")
    part.require_content(digest.hexdigest())
