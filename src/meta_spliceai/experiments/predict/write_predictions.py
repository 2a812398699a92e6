"""Predictions written as the output's name says: into the input's VCF, or as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from meta_spliceai import __version__
from meta_spliceai.errors import InputError
from meta_spliceai.files import atomic_write, whole_file
from meta_spliceai.splice_engine.base_layer.vcf import bgzf
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants
from meta_spliceai.splice_engine.base_layer.vcf.text import blocks, declared, info_safe

KEY = "MSAI"
COLUMNS = "ALLELE|SYMBOL|P|LOW|HIGH|DOMAIN|TYPE|POS"
VCF_SUFFIXES = (".vcf", ".vcf.gz")
TABLE_SUFFIXES = (".tsv", ".csv", ".parquet")


def check_output(out: Path, source: Path, annotates: bool) -> None:
    """Refuse an output that could not be written, before anything is computed.

    Args:
        annotates: the model gives what INFO MSAI holds.

    Raises:
        InputError: another suffix, or a VCF where the input is none, or the model's columns do not fit.
    """
    name = out.name.lower()
    if name.endswith(TABLE_SUFFIXES):
        return
    if not name.endswith(VCF_SUFFIXES):
        raise InputError(
            f"-o {out}: the suffix says no format; use one of {', '.join((*VCF_SUFFIXES, *TABLE_SUFFIXES))}"
        )
    if not source.name.lower().endswith((".vcf", ".vcf.gz", ".vcf.bgz")):
        raise InputError(f"-o {out}: {source} is no VCF that could be annotated; name a table, as out.tsv")
    if not annotates:
        raise InputError(f"-o {out}: a run's columns are a table's; name out.tsv, out.csv or out.parquet")


def write_predictions(table: pd.DataFrame, card: dict[str, Any], source: Path, out: Path) -> None:
    """Write the predictions, whole or not at all.

    Args:
        table: one row an allele, in the input's order.
        card: of the model; its title stands in a VCF's header.
        source: the input, whose records a VCF takes over.
        out: see `check_output`.
    """
    name = out.name.lower()
    if name.endswith(VCF_SUFFIXES):
        _annotate(table, card, source, out)
    elif name.endswith(".parquet"):
        with whole_file(out) as temporary:
            table.to_parquet(temporary, index=False)
    else:
        with atomic_write(out) as handle:
            table.to_csv(handle, sep="," if name.endswith(".csv") else "\t", index=False, float_format="%.6g")


def _annotate(table: pd.DataFrame, card: dict[str, Any], source: Path, out: Path) -> None:
    definition = (
        f'##INFO=<ID={KEY},Number=.,Type=String,Description="meta-spliceai: probability of altered splicing with its '
        f'interval, or in DOMAIN the reason for none. Format: {COLUMNS}">'
    )
    said = re.sub(r'["\\]', "'", f"{card['title']}. {card['split']}")
    extra = [f'##meta_spliceai_predict=<Version={__version__},Model={card["model"]},Card="{said}">']
    packed = out.name.lower().endswith(".gz")
    pack = bgzf.compress if packed else bytes
    entries = _entries(table)
    with source.open("rb") as stream, atomic_write(out, "wb") as handle:
        variants = open_variants(stream, str(source))
        if variants.binary:
            raise InputError(f"{source} is a BCF by its content; name a table, as out.tsv")
        if KEY in declared(variants.header):
            raise InputError(
                f"{source} already declares INFO {KEY}; take it out first (bcftools annotate -x INFO/{KEY})"
            )
        handle.write(pack(variants.header_with({KEY: definition}, extra)))
        for block in blocks(variants):
            records = list(block)
            told = (",".join(next(entries) for _ in record.alts or (".",)) for record in records)
            lines = [record.with_info([(KEY, text)]) for record, text in zip(records, told, strict=True)]
            handle.write(pack(b"".join(lines)))
        if packed:
            handle.write(bgzf.END_BLOCK)


def _entries(table: pd.DataFrame) -> Iterator[str]:
    for row in table.to_dict("records"):
        allele, symbol = info_safe(str(row["alt"])), info_safe(str(row["gene"] or "."))
        if row["reason"]:
            yield f"{allele}|{symbol}|.|.|.|{info_safe(str(row['reason']).replace(' ', '_'))}|.|."
            continue
        numbers = "|".join(f"{row[name]:.4f}" for name in ("p_altering", "p_low", "p_high"))
        kind = info_safe(str(row["effect_type"] or ".").replace(" ", "_"))
        yield f"{allele}|{symbol}|{numbers}|{row['in_domain']}|{kind}|{int(row['effect_pos'])}"
