"""splicevardb-open's table: put together on this machine from the four open sources, in SpliceVarDB's format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets import cispliceai_validated, deep_intronic, mapsy, mfass
from meta_spliceai.datasets.human import LIFT_OVER_CHAIN, Source, source_file
from meta_spliceai.datasets.registry import DataSet, get
from meta_spliceai.errors import IntegrityError, MissingResourceError
from meta_spliceai.files import atomic_write, cache_dir
from meta_spliceai.resources.resolve import find_here, handed_out, sha256_once
from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.variants.liftover import Chain
from meta_spliceai.splice_engine.variants.merge import merge_class
from meta_spliceai.splice_engine.variants.table import LOW_FREQUENCY, NORMAL, SPLICE_ALTERING

COLUMNS = ("variant_id", "hg19", "hg38", "gene", "hgvs", "method", "classification", "location", "doi")
"""Of SpliceVarDB's download."""

_NAME = "splicevardb-open"
COMMAND = f"meta-spliceai data get {_NAME}"

UNCHANGED_LOG2 = float(np.log2(1.5))
"""MaPSy's own threshold: a variant not called whose two ratios are both within it is Normal here."""


def open_sources_file(dataset: DataSet) -> Source:
    """The development copy from a mirror, or the table that was built on this machine.

    Raises:
        MissingResourceError: neither is there; the message names the command that builds it.
        IntegrityError: the table is not the one that was built.
    """
    if find_here(resources.get(_NAME), resources.get(_NAME).files) is not None:
        return source_file(dataset, None)
    built = _place()
    if not built.is_file():
        raise MissingResourceError(f"data set {dataset.name} is built on your machine, once: {COMMAND}")
    try:
        about = json.loads(built.with_suffix(".json").read_text(encoding="utf-8"))
        origin, expected = str(about["origin"]), str(about["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{built} has no account beside it ({error}); delete it and build it again: {COMMAND}"
        ) from error
    if sha256_once(built) != expected:
        raise IntegrityError(f"{built} is not the table that was built; delete it and build it again: {COMMAND}")
    handed_out(resources.get(_NAME).files[0].path, built)
    return Source(dataset, built, origin)


def built_table() -> Path:
    """The table that was built on this machine.

    Raises: as `open_sources_file`.
    """
    return open_sources_file(get(_NAME)).path


def build_open_sources(target: Path | None = None) -> Path:
    """Put the four sources, as they are at hand or can be downloaded, into one table in SpliceVarDB's format.

    Every variant stands once, sorted by its place in GRCh38, with the methods and DOIs of all sources that have it and
    the one class they agree on, or Conflicting. Classes: MFASS by SpliceVarDB's rule (ΔPSI at most -0.5 altering, below
    0.03 in size Normal, else Low-frequency); MaPSy by the authors' call (altering), else Normal where both ratios
    changed less than 1.5-fold, else Low-frequency; the two collections by their authors' word. Their method is given
    as RT-PCR, which stands for the assays of many papers. Coordinates of the other build are lifted over; where there
    is no place, the field is empty, and where the other build reads the other way round, its alleles do too.

    Args:
        target: where to write it; the cache's own place by default, with an account of the sources beside it.

    Returns:
        the table's path.

    Raises:
        MissingResourceError, IntegrityError, InputError: a source cannot be had or read.
    """
    chain = resources.resolve_edition(LIFT_OVER_CHAIN).path
    forward, backward = Chain(chain), Chain(chain, backward=True)
    sources = [source_file(one.DATASET, None) for one in (mfass, mapsy, cispliceai_validated, deep_intronic)]
    frames = [
        _both_builds(_mfass(sources[0]), forward, ("hg19", "hg38")),
        _both_builds(_mapsy(sources[1]), forward, ("hg19", "hg38")),
        _both_builds(_validated(sources[2]), backward, ("hg38", "hg19")),
        _both_builds(_deep_intronic(sources[3]), forward, ("hg19", "hg38")),
    ]
    rows = pd.concat(frames, ignore_index=True).fillna("")
    rows["allele"] = rows["hg38"].where(rows["hg38"] != "", "hg19 " + rows["hg19"])
    table = rows.groupby("allele", sort=False).agg(
        {
            **dict.fromkeys(("hg19", "hg38", "gene", "location"), _first_told),
            **dict.fromkeys(("method", "doi"), lambda words: ",".join(dict.fromkeys(words))),
            "classification": merge_class,
        }
    )
    place = table.index.str.removeprefix("hg19 ").str.split("-")
    order = sorted(range(len(table)), key=lambda at: (place[at][0], int(place[at][1]), table.index[at]))
    table = table.iloc[order].reset_index(drop=True).assign(variant_id=range(1, len(table) + 1), hgvs="")
    target = target or _place()
    with atomic_write(target) as handle:
        handle.write("\t".join(COLUMNS) + "\n")
        table[list(COLUMNS)].to_csv(handle, sep="\t", index=False, header=False, quoting=csv.QUOTE_NONNUMERIC)
    origin = "built from " + "; ".join(f"{source.dataset.name}: {source.origin}" for source in sources)
    with atomic_write(target.with_suffix(".json")) as handle:
        json.dump({"origin": origin, "sha256": sha256_once(target), "rows": len(table)}, handle, indent=2)
    return target


def _place() -> Path:
    return cache_dir() / "resources" / _NAME / "built" / "open_sources.tsv"


def _first_told(words: pd.Series) -> str:
    return next((word for word in words if word), "")


def _frame(variants: pd.DataFrame, method: str, doi: str, **columns: object) -> pd.DataFrame:
    """chrom (without "chr"), pos, ref, alt and the format's fields."""
    told = {"gene": "", "location": "", "method": method, "doi": doi, **columns}
    frame = variants[["chrom", "pos", "ref", "alt"]].assign(**told)
    return frame.assign(chrom=frame["chrom"].map(bare_contig))


def _mfass(source: Source) -> pd.DataFrame:
    variants, _ = mfass.read_mutants(source)
    where = np.where(variants["region"] == "exon", "Exonic", "Intronic")
    return _frame(
        variants, "MFASS", "10.1016/j.molcel.2018.10.037", classification=variants["classification"], location=where
    )


def _mapsy(source: Source) -> pd.DataFrame:
    variants = mapsy.read_variants(source)
    calm = (variants["effect"].abs() < UNCHANGED_LOG2) & (variants["log2_vitro_ratio"].abs() < UNCHANGED_LOG2)
    classes = np.select([variants["called"], calm], [SPLICE_ALTERING, NORMAL], LOW_FREQUENCY)
    return _frame(variants, "MaPSy", "10.1038/ng.3837", classification=classes)


def _validated(source: Source) -> pd.DataFrame:
    variants = cispliceai_validated.read_variants(source)
    return _frame(variants, "RT-PCR", "10.1371/journal.pone.0269159", classification=variants["classification"])


def _deep_intronic(source: Source) -> pd.DataFrame:
    rows = deep_intronic.read_source(source)
    rows = rows[rows["Position_hg19"].str.isdigit()]
    variants = rows.rename(columns={"Chromosome": "chrom", "Position_hg19": "pos", "Ref": "ref", "Alt": "alt"})
    classes = np.where(rows["Affects_splicing"] == "TRUE", SPLICE_ALTERING, NORMAL)
    return _frame(variants, "RT-PCR", "10.1093/gigascience/giad085", classification=classes, gene=rows["Gene_name"])


def _both_builds(frame: pd.DataFrame, chain: Chain, builds: tuple[str, str]) -> pd.DataFrame:
    """The fields hg19 and hg38 from the coordinates in the first of `builds`, which the chain leads away from."""
    here, there = builds
    lifted = [
        chain.lift_allele(chrom, int(pos), ref, alt)
        for chrom, pos, ref, alt in zip(frame["chrom"], frame["pos"], frame["ref"], frame["alt"], strict=True)
    ]
    return frame.assign(
        **{
            here: frame["chrom"] + "-" + frame["pos"].astype(str) + "-" + frame["ref"] + "-" + frame["alt"],
            there: ["" if isinstance(one, str) else "-".join(map(str, one[:4])) for one in lifted],
        }
    ).drop(columns=["chrom", "pos", "ref", "alt"])
