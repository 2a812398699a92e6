"""`meta-spliceai merge`: the pieces that `--shard` made, put together again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meta_spliceai.cli.options import Reads, Writes


def merge(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="As the pieces, by suffix; of VCFs also a .bcf."),
        Writes((".card.json",)),
    ],
    pieces: Annotated[
        list[Path], typer.Argument(metavar="PIECES...", help="Every piece, in any order."), Reads(what="piece")
    ],
) -> None:
    """Put the pieces of `score --shard` or `predict --shard` together.

    The result is what one run without --shard would have written, byte for
    byte. Each piece says in its header (of a table: in its card) which shard of
    what input it is; one that is missing, doubled or of another run is an error
    that names it, and so is one that has lost records.

    [bold]Examples[/bold]

      meta-spliceai merge out.vcf.gz pieces/*.vcf.gz
      meta-spliceai merge out.parquet p1.parquet p2.parquet p3.parquet
    """
    from meta_spliceai.experiments.predict.output_files import merge_pieces

    records, what = merge_pieces(out, pieces)
    typer.echo(f"{len(pieces):,} pieces, {records:,} {what}: {out}", err=True)
