"""A file of new variants read whole, where a command reads it block by block."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.predict.read_variants import alleles_of, open_file
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation


def read_variants(path: Path, annotation: GeneAnnotation | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every allele of the file, and the usable ones, as `alleles_of`."""
    source = open_file(path)
    parts: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for block in source.blocks():
        parts.append(alleles_of(block, annotation, sum(len(alleles) for alleles, _ in parts)))
    if not parts:
        raise InputError(f"{path} holds no variant")
    return pd.concat([alleles for alleles, _ in parts]), pd.concat([one for _, one in parts], ignore_index=True)
