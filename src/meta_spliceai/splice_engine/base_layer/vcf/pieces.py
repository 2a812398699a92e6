"""Pieces of an input, one per machine: records within regions, and shards of these.

A shard is a run of records that follow one another. It is cut where neighbourhoods end, so that variants which share a
reference window stay together, and such that all shards are about equally much work: most of a genome's records lie in
no gene and cost next to nothing. Which shard a record is in depends on the input, the regions and the genes alone. A
piece says in its header which shard of what it is, and what its records are, by a checksum; `merge` puts the pieces
together again.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, dropwhile, takewhile
from pathlib import Path
from typing import Any, TypeVar

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import sha256_file, whole_file
from meta_spliceai.read_hostile import text_lines
from meta_spliceai.splice_engine.base_layer.vcf import bgzf
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants, reopened, to_bcf
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
_PIECE = re.compile(
    r"<Shard=(\d{1,7})/(\d{1,7}),Before=(\d{1,15}),Records=(\d{1,15}),Input=([0-9a-f]{64})"
    r"(?:,Content=([0-9a-f]{64}))?>"
)
_MOST_SHARDS = 1_000_000
_FURTHEST = 10**12

T = TypeVar("T")


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
        """What the command line says.

        Raises:
            InputError: a shard that is none.
        """
        if shard is None:
            return cls(tuple(regions or ()))
        found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", shard)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= _MOST_SHARDS:
            raise InputError(f"--shard {shard}: write which of how many, for example 3/40 (at most {_MOST_SHARDS:,})")
        return cls(tuple(regions or ()), (int(found[1]), int(found[2])))

    def stretches(self, genome: SequenceSource) -> Stretches | None:
        """The regions; None for all of the genome.

        Raises:
            InputError: one that is neither a file, nor a region, nor a contig of the genome; a BED file's line that is
                none.
        """
        if not self.regions:
            return None
        return Stretches(one for text in self.regions for one in _stretches_of(text, genome))

    def header_line(self) -> list[str]:
        """A line for the output's header that names the regions, if there are any."""
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
                    f"{text}, line {number}: no line of a BED file, which has contig, start and end (0-based, end not "
                    "included), separated by tabs"
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
        digest: SHA-256 of the input file.
        content: SHA-256 of the piece's own records, once they are all there; "" in a piece that was written to a pipe.
    """

    shard: tuple[int, int]
    before: int
    records: int
    digest: str
    content: str = ""

    def __str__(self) -> str:
        number, of = self.shard
        content = f",Content={self.content}" if self.content else ""
        return f"{PIECE}<Shard={number}/{of},Before={self.before},Records={self.records},Input={self.digest}{content}>"

    @classmethod
    def read(cls, line: str, where: object) -> Piece:
        """What `str` gave.

        Raises:
            IntegrityError: it did not.
        """
        found = _PIECE.fullmatch(line.removeprefix(PIECE))
        if found is None:
            raise IntegrityError(f"{where}: its line {PIECE} is damaged; make the piece anew")
        number, of, before, records = map(int, found.groups()[:4])
        return cls((number, of), before, records, found[5], found[6] or "")


def take(
    source: Source,
    again: Callable[[], Source],
    path: str,
    cut: Cut,
    genes: GeneAnnotation | None,
    genome: SequenceSource,
) -> list[str]:
    """Leave in a source only what is to be taken.

    Args:
        source: the input, just opened.
        again: opens it a second time: all of it is read once to know how much work it is.
        path: of the input.
        genes: outside of which records are no work; None: all of them are the same work.
        genome: whose contigs regions may name.

    Returns:
        lines for the output's header: the regions, then the piece.

    Raises:
        InputError: a bad region; a shard of standard input; what reading the input raises.
    """
    regions = cut.stretches(genome)
    lines = cut.header_line()
    placed = source.placed(source.rows)
    if cut.shard is None:
        if regions is not None:
            source.rows = (row for row, contig, pos, _ in placed if regions.hold(contig, pos))
        return lines
    if path == "-":
        raise InputError("--shard needs a file, which is read twice; name one in place of standard input")
    spans = None if genes is None else Stretches((gene.chrom, gene.start + 1, gene.end) for gene in genes.genes)
    records = work = 0
    whole = again()
    for _, _, done in _weighed(whole.placed(whole.rows), regions, spans):
        records, work = records + 1, done
    number, of = cut.shard
    numbered = enumerate((before * of // work + 1, row) for row, before, _ in _weighed(placed, regions, spans))
    later = dropwhile(lambda one: one[1][0] < number, numbered)
    head = next(later, None)
    here = () if head is None else takewhile(lambda one: one[1][0] == number, chain([head], later))
    source.rows = (row for _, (_, row) in here)
    piece = Piece(cut.shard, records if head is None else head[0], records, sha256_file(Path(path)))
    return [*lines, str(piece)]


def _weighed(
    placed: Iterable[Placed], regions: Stretches | None, genes: Stretches | None
) -> Iterator[tuple[Any, int, int]]:
    """Each row in the regions, the work before its neighbourhood, and the work so far, its own included."""
    contig, first, last, before, done, shares = "", 0, 0, 0, 0, False
    for row, chrom, pos, alleles in placed:
        if regions is not None and not regions.hold(chrom, pos):
            continue
        if chrom != contig or not last <= pos <= min(last + NEIGHBOURS, first + WINDOW):
            contig, first, before, shares = chrom, pos, done, False
        last = pos
        done += _RECORD
        if alleles and (genes is None or genes.hold(chrom, pos)):
            done += alleles * _ALLELE + (0 if shares else _REFERENCE)
            shares = True
        yield row, before, done


@dataclass(frozen=True)
class Part:
    """A piece on the disk.

    Attributes:
        common: what all pieces of one run share, and the merged file has too: lines of the header, or of the card.
    """

    path: Path
    piece: Piece
    common: Sequence[str]


def in_order(parts: Iterable[Part]) -> list[tuple[Part, int]]:
    """The pieces, one at least, by their number, each with the records it must hold.

    Raises:
        InputError: one is missing, doubled, or of another input or run; it is named.
    """
    found: dict[int, Part] = {}
    parts = iter(parts)
    first = next(parts)
    of = first.piece.shard[1]
    for part in chain([first], parts):
        number = part.piece.shard[0]
        other = f"{part.path} is a piece of another run than {first.path}:"
        if part.piece.digest != first.piece.digest:
            raise InputError(f"{other} its input is another")
        if (part.piece.shard[1], part.piece.records) != (of, first.piece.records):
            raise InputError(f"{other} its number of shards or records is another")
        for line, other_line in zip([*part.common, ""], [*first.common, ""], strict=False):
            if line != other_line:
                raise InputError(
                    f"{other} it says {line[:200] or 'less'!r} where that says {other_line[:200] or 'less'!r}"
                )
        if number in found:
            raise InputError(f"{part.path} and {found[number].path} are both shard {number}; name one of them")
        found[number] = replace(part, common=first.common)  # equal, and kept once
    missing = [number for number in range(1, of + 1) if number not in found]
    if missing:
        shown = ", ".join(f"{number}/{of}" for number in missing[:10]) + (" …" if len(missing) > 10 else "")
        raise InputError(f"{len(missing)} of {of} pieces are missing: shard {shown}; make them, or name them too")
    ordered = [found[number] for number in range(1, of + 1)]
    begins = [*(part.piece.before for part in ordered), first.piece.records]
    return [(part, end - begin) for part, begin, end in zip(ordered, begins, begins[1:], strict=False)]


def counted(rows: Iterable[T], path: Path, expected: int) -> Iterator[T]:
    """The rows of a piece.

    Raises:
        IntegrityError: more or fewer than expected.
    """
    held = 0
    for row in rows:
        held += 1
        yield row
    require_count(path, held, expected)


def require_count(path: Path, held: int, expected: int) -> None:
    """Refuse a piece that has not all that it should have.

    Raises:
        IntegrityError: it has not.
    """
    if held != expected:
        raise IntegrityError(f"{path} has {held:,} records and should have {expected:,}; make this piece anew")


def require_content(path: Path, held: str, expected: str) -> None:
    """Refuse a piece that is not what it was when it was made, by SHA-256.

    Raises:
        IntegrityError: it is not.
    """
    if held != expected:
        raise IntegrityError(f"{path} was changed or damaged after it was made (SHA-256); make this piece anew")


def merge_vcfs(out: Path, pieces: Sequence[Path]) -> int:
    """Join pieces that `--shard` made; the header is theirs without the line that names the piece.

    Args:
        out: .vcf, .vcf.gz or .bcf.
        pieces: in any order.

    Returns:
        records written.

    Raises:
        InputError: a piece is missing, doubled, of another run, or none.
        IntegrityError: a piece is truncated, has not all of its records, or others than when it was made.
    """
    ordered = in_order(map(_part_of, pieces))
    header = [line.encode("latin-1") for line in ordered[0][0].common]
    merged = TextVariants(header, str(out))
    merged.rows = enumerate(_records(ordered), start=merged.first)
    bcf = out.name.lower().endswith(".bcf")
    with whole_file(out) as temporary, tempfile.TemporaryDirectory(dir=out.parent) as folder:
        text = Path(folder) / "merged.vcf.gz" if bcf else temporary
        records = _write(merged, text, bcf or out.name.lower().endswith((".gz", ".bgz")))
        if bcf:
            to_bcf(text, temporary)
    return records


def seal(unsealed: Path, out: Path, packed: bool) -> None:
    """Write a whole piece that says in its header what its records are.

    Args:
        unsealed: the piece as it was made.
        packed: compress it (BGZF).
    """
    digest = hashlib.sha256()
    for block in reopened(str(unsealed)).blocks():
        digest.update(block.text)
    variants = reopened(str(unsealed))
    place = next(place for place, line in enumerate(variants.header) if line.startswith(PIECE.encode()))
    body = variants.header[place].decode().rstrip("\r\n")
    sealed = replace(Piece.read(body, unsealed), content=digest.hexdigest())
    variants.header[place] = variants.header[place].replace(body.encode(), str(sealed).encode())
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
    with path.open("rb") as stream:
        header = [line.decode("latin-1") for line in open_variants(stream, str(path)).header]
    named = [line for line in header if line.startswith(PIECE)]
    if len(named) != 1:
        raise InputError(
            f"{path} has {len(named)} header lines {PIECE}, where a piece has one; name files that score or predict "
            "wrote with --shard"
        )
    piece = Piece.read(named[0].rstrip("\r\n"), path)
    return Part(path, piece, [line for line in header if line not in named])


def _records(ordered: Sequence[tuple[Part, int]]) -> Iterator[bytes]:
    for part, expected in ordered:
        with part.path.open("rb") as stream:
            digest = hashlib.sha256()
            for _, line in counted(open_variants(stream, str(part.path)).rows, part.path, expected):
                digest.update(line)
                yield line
            require_content(part.path, digest.hexdigest(), part.piece.content or digest.hexdigest())
