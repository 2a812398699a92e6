"""Pieces of a scored or annotated VCF put together again, as one run would have written them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from meta_spliceai.errors import InputError
from meta_spliceai.files import whole_file
from meta_spliceai.splice_engine.base_layer.vcf import bgzf
from meta_spliceai.splice_engine.base_layer.vcf.pieces import PIECE, Part, Piece, counted, in_order
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants, to_bcf
from meta_spliceai.splice_engine.base_layer.vcf.text import TextVariants


def merge_vcfs(out: Path, pieces: Sequence[Path]) -> int:
    """Join pieces that `--shard` made; the header is theirs without the line that names the piece.

    Args:
        out: .vcf, .vcf.gz or .bcf.
        pieces: in any order.

    Returns:
        records written.

    Raises:
        InputError: a piece is missing, doubled, of another run, or none.
        IntegrityError: a piece is truncated, or has not all of its records.
    """
    ordered = in_order(map(_part_of, pieces))
    header = [line.encode("latin-1") for line in ordered[0][0].common]
    merged = TextVariants(header, str(out))
    merged.rows = enumerate(_records(ordered), start=merged.first)
    bcf = out.name.lower().endswith(".bcf")
    pack = bgzf.compress if bcf or out.name.lower().endswith((".gz", ".bgz")) else bytes
    records = 0
    with whole_file(out) as temporary, tempfile.TemporaryDirectory(dir=out.parent) as folder:
        text = Path(folder) / "merged.vcf.gz" if bcf else temporary
        with text.open("wb") as sink:
            sink.write(pack(b"".join(header)))
            for block in merged.blocks():
                sink.write(pack(block.text))
                records += len(block.raws)
            sink.write(bgzf.END_BLOCK if pack is bgzf.compress else b"")
        if bcf:
            to_bcf(text, temporary)
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
            rows = open_variants(stream, str(part.path)).rows
            yield from (line for _, line in counted(rows, part.path, expected))
