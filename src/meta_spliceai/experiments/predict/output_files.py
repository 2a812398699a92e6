"""Prediction files: format by suffix, each with a card next to it, in one piece or several."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from csv import reader
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json

from meta_spliceai.errors import InputError
from meta_spliceai.files import TABLE_SUFFIXES, atomic_write, sha256_file, whole_file
from meta_spliceai.read_hostile import one_error
from meta_spliceai.splice_engine.base_layer.vcf.pieces import Part, Piece, in_order, merge_vcfs
from meta_spliceai.splice_engine.variants.external_scores import require_scores

VCF_SUFFIXES = (".vcf", ".vcf.gz")
ROWS_A_GROUP = 100_000
"""Of a Parquet file."""


def check_output(out: Path, source: Path, annotates: bool) -> None:
    """Refuse an output that could not be written, before anything is computed.

    Args:
        annotates: the model gives what INFO MSAI holds.
    """
    name = out.name.lower()
    if name.endswith(TABLE_SUFFIXES):
        return
    if not name.endswith(VCF_SUFFIXES):
        raise InputError(f"-o {out}: end the name in one of {', '.join((*VCF_SUFFIXES, *TABLE_SUFFIXES))}")
    if not source.name.lower().endswith((".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")):
        raise InputError(f"-o {out}: {source} is read as a table, as no VCF's name ends so; name a table, as out.tsv")
    if not annotates:
        raise InputError(f"-o {out}: a run's columns are a table's; name out.tsv, out.csv or out.parquet")


def card_of(out: Path) -> Path:
    """The path of an output's card."""
    return out.with_name(f"{out.name}.card.json")


def write_card(out: Path, card: dict[str, Any]) -> None:
    """Write the model's card next to an output."""
    with atomic_write(card_of(out), "wb") as handle:
        handle.write(to_json(card, indent=2, inf_nan_mode="null") + b"\n")


def merge_pieces(out: Path, pieces: Sequence[Path]) -> tuple[int, str]:
    """Put together what `score` or `predict` wrote with --shard, as one run would have written it.

    Args:
        out: .vcf, .vcf.gz or .bcf of VCFs; .tsv, .csv or .parquet of tables in the same format.
        pieces: in any order; tables have their cards beside them.

    Returns:
        how many, and of what: records or rows.

    Raises:
        InputError: a piece is missing, doubled, of another run or kind, or none; or a tool scored nothing of them all.
        IntegrityError: a piece is truncated, has not all of its records, or is not what it was when it was made.
    """
    name = out.name.lower()
    if not name.endswith((*VCF_SUFFIXES, ".bcf", *TABLE_SUFFIXES)):
        raise InputError(f"{out}: the suffix says no format; use that of the pieces")
    if not name.endswith(TABLE_SUFFIXES):
        records = merge_vcfs(out, pieces)
        if card_of(pieces[0]).is_file():
            write_card(out, _card_and_piece(pieces[0])[0])
        return records, "records"
    for path in pieces:
        if path.suffix.lower() != out.suffix.lower():
            raise InputError(f"{path} is no {out.suffix}, as {out} is; pieces and output have one format")
    cards = {path: _card_and_piece(path) for path in pieces}
    ordered = in_order([Part(path, made.piece, [json.dumps(card)]) for path, (card, made) in cards.items()])
    rows, predicted, from_tools = 0, 0, Counter[str]()
    for part in ordered:
        made = cards[part.path][1]
        part.require_content(sha256_file(part.path))
        rows += made.rows
        predicted += made.predicted
        from_tools.update(made.from_tools)
    require_scores(from_tools, predicted)
    if name.endswith(".parquet"):
        from pyarrow import parquet

        batches = (batch for part in ordered for batch in parquet.ParquetFile(part.path).iter_batches())
        write_parquet(out, parquet.read_schema(ordered[0].path), batches)
    else:
        with atomic_write(out, "wb") as sink:
            for part in ordered:
                with part.path.open("rb") as stream:
                    sink.writelines(islice(stream, 0 if part is ordered[0] else 1, None))  # one line names the columns
    write_card(out, cards[ordered[0].path][0])
    return rows, "rows"


@dataclass(frozen=True)
class PieceOfTable:
    """What the card of a piece says of it."""

    piece: Piece
    rows: int
    predicted: int
    from_tools: dict[str, int]


def _card_and_piece(path: Path) -> tuple[dict[str, Any], PieceOfTable]:
    """The card of a file's model, and what it says of the piece."""
    file = card_of(path)
    if not file.is_file():
        raise InputError(f"{path} has no {file.name} beside it, which says what piece it is; keep them together")
    with one_error(file, "make the piece anew"):
        card = dict(json.loads(file.read_text(encoding="utf-8")))
        if "piece" in card:
            return card, TypeAdapter(PieceOfTable).validate_python(card.pop("piece"))
    raise InputError(f"{path} is no piece: its card names none; name files that predict wrote with --shard")


def as_parquet(text: Path, out: Path, columns: dict[str, type]) -> None:
    """Make a Parquet file of the text that a `PredictionWriter` wrote for it; `columns` are the model's."""
    import pyarrow as pa
    from pyarrow import compute, csv

    with text.open(encoding="utf-8") as stream:
        names = next(reader(stream))
    kinds = {"pos": pa.int64()} | {name: pa.float64() for name, kind in columns.items() if kind is float}
    types = {name: kinds.get(name, pa.string()) for name in names}

    def batches() -> Iterator[pa.RecordBatch]:
        options = csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False)
        with csv.open_csv(text, convert_options=options) as found:
            for batch in found:
                arrays = [
                    compute.if_else(compute.equal(array, ""), None, array) if columns.get(name) is str else array
                    for name, array in zip(names, batch.columns, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    schema = pa.schema(list(types.items()))
    write_parquet(out, schema, batches())


def write_parquet(out: Path, schema: Any, batches: Iterable[Any]) -> None:
    """Write record batches, atomically, in groups of rows that do not depend on where one batch ends."""
    import pyarrow as pa
    from pyarrow import parquet

    held = pa.Table.from_batches([], schema)
    with whole_file(out) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for batch in batches:
            held = pa.concat_tables([held, pa.Table.from_batches([batch], schema)])
            while held.num_rows >= ROWS_A_GROUP:
                writer.write_table(held.slice(0, ROWS_A_GROUP).combine_chunks())
                held = held.slice(ROWS_A_GROUP)
        writer.write_table(held.combine_chunks())
