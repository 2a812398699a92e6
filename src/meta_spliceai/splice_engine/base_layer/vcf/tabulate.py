"""A scored VCF as a table: a row for each entry, and for each unscored allele the reason."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd

from meta_spliceai.files import whole_table
from meta_spliceai.splice_engine.base_layer.vcf.info_field import InfoField
from meta_spliceai.splice_engine.base_layer.vcf.text import INFO, TextRecord, TextVariants, declared

_PIECE = 1 << 20


def tabulate(text: Path, out: Path, info: InfoField) -> None:
    """Make a table of what `score` wrote.

    Columns: chrom, pos (1-based), id, ref, alt; gene; the scores (DS_…) and their positions relative to `pos` along the
    plus strand (DP_…), as `InfoField.columns` names them; reason, where an allele has no score; and source, where
    tables of published scores were used.

    Args:
        text: the finished VCF, not compressed.
        out: its suffix says the format; it appears when it is whole.
        info: the field that the scores stand in.
    """
    with text.open("rb") as stream, whole_table(out) as write:
        variants = TextVariants(iter(lambda: stream.read(_PIECE), b""), text.name)
        scores = info.columns.split("|")[2:]
        kinds = dict.fromkeys(("chrom", "id", "ref", "alt", "gene", "reason"), "string") | {"pos": "int64"}
        kinds |= {name: "float64" if name.startswith("DS_") else "Int64" for name in scores}
        columns = ["chrom", "pos", "id", "ref", "alt", "gene", *scores, "reason"]
        if info.source_key in declared(variants.header):
            kinds["source"] = "string"
            columns.append("source")
        write(pd.DataFrame([], columns=columns).astype(kinds))
        for block in variants.blocks():
            rows = [row for record in block for row in _rows_of(record, info, scores)]
            write(pd.DataFrame(rows, columns=columns).astype(kinds))


def _rows_of(record: TextRecord, info: InfoField, scores: list[str]) -> Iterator[dict[str, Any]]:
    fields = record.raw.rstrip(b"\r\n").decode("utf-8", "replace").split("\t", INFO + 1)
    told = dict(entry.partition("=")[::2] for entry in fields[INFO].split(";"))
    place = {"chrom": record.chrom, "pos": record.pos, "id": fields[2], "ref": record.ref}
    entries, sources = (told[key].split(",") if key in told else [] for key in (info.key, info.source_key))
    for text, source in zip_longest(entries, sources):
        alt, gene, *values = text.split("|")
        numbers = {name: None if value == "." else float(value) for name, value in zip(scores, values, strict=True)}
        yield {**place, "alt": unquote(alt), "gene": unquote(gene), **numbers, "source": source}
    for text in told[info.reason_key].split(",") if info.reason_key in told else ():
        alt, gene, reason = text.split("|")
        yield {**place, "alt": unquote(alt), "gene": unquote(gene) or None, "reason": reason.replace("_", " ")}
