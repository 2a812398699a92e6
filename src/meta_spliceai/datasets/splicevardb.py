"""splicevardb, the user's own download, and splicevardb-open, a table in the same format that is built locally from
open sources.

The format is tab-separated with quoted fields: variant_id, hg19 and hg38 (`chrom-pos-ref-alt`, plus strand), gene,
hgvs, method and doi (several, separated by commas), classification, location. It has no strand and no exon: both come
from the annotation (`find_tested_exon`), which may name another gene where the file's own is not in it.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets import cispliceai_validated, deep_intronic, human, mapsy, mfass
from meta_spliceai.datasets.registry import Built, Loaded, of_package
from meta_spliceai.errors import IntegrityError, MissingResourceError
from meta_spliceai.files import atomic_write, cache_dir
from meta_spliceai.resources.resolve import find_here, handed_out, sha256_once
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation, bare_contig
from meta_spliceai.splice_engine.genome.human_genome import AUTO, human_genome
from meta_spliceai.splice_engine.genome.sequence import GRCH37, build_name
from meta_spliceai.splice_engine.variants.alleles import Chain, merge_class
from meta_spliceai.splice_engine.variants.table import CLASSES, LOW_FREQUENCY, NORMAL, SPLICE_ALTERING, Coverage

COLUMNS = ("variant_id", "hg19", "hg38", "gene", "hgvs", "method", "classification", "location", "doi")
"""Of SpliceVarDB's download."""

_COORDINATE = r"^(?P<chrom>[0-9A-Za-z_.]+)-(?P<pos>[1-9][0-9]{0,11})-(?P<ref>[ACGTacgt]+)-(?P<alt>[ACGTacgt]+)$"

_OPEN_NAME = "splicevardb-open"
COMMAND = f"meta-spliceai data get {_OPEN_NAME}"

UNCHANGED_LOG2 = float(np.log2(1.5))
"""MaPSy's own threshold: a variant not called whose two ratios are both within it is Normal here."""


def label_as_downloaded(classification: str) -> str:
    """Classes are the file's own column "classification".

    SpliceVarDB's curators call a variant Splice-altering, Normal, Low-frequency (altering in a small share of
    transcripts, or between the two) or Conflicting (assays disagree). For the open sources the same words follow each
    source's numbers: MFASS ΔPSI at most -0.5 is Splice-altering and below 0.03 in size Normal.

    Nearly all Normal calls come from two reporter assays, and some sources have one class only: a look-up of the
    assay alone tells the class well. Read results beside that baseline.
    """
    return classification


def load_download(
    path: str | None = None, build: str = "GRCh38", genome: str = AUTO, annotation: str | None = None
) -> Loaded:
    """The user's own download.

    Args:
        path: the file from splicevardb.org. Required: nothing stands in for it.
        genome, annotation: as `datasets.human` says, of that build.

    Columns beside the schema's: hgvs, location, measurements, genome_chrom, genome_pos.
    """
    if path is None:
        raise MissingResourceError(
            f"data set splicevardb needs your own download: {resources.get('splicevardb').how_to_get}; or use the open "
            "sources in the same format: data set splicevardb-open"
        )
    return _load(human.source_file(DATASET, path), build, genome, annotation)


def load_open(
    path: str | None = None, build: str = "GRCh38", genome: str = AUTO, annotation: str | None = None
) -> Loaded:
    """MFASS, MaPSy, CI-SpliceAI's and the deep intronic variants in one table (see `build_open_sources`).

    Args: as `load_download`; without a path, the development copy or the table built on this machine is read.
    """
    return _load(_open_sources() if path is None else human.source_file(OPEN, path), build, genome, annotation)


def _load(source: human.Source, build: str, genome: str, annotation: str | None) -> Loaded:
    wanted = build_name(build)
    genes = human.human_annotation(wanted, annotation)
    frame, coverage = read_splicevardb(source, wanted, genes)
    return human.finish(frame, coverage, source, human_genome(wanted, genome), genes, {"build": wanted})


def read_splicevardb(source: human.Source, build: str, annotation: GeneAnnotation) -> tuple[pd.DataFrame, Coverage]:
    """The file's variants in a build, with strand, gene and exon from that build's genes, before alleles that stand in
    several rows are merged.

    Raises:
        InputError: a missing column, a malformed coordinate, an allele not made of A, C, G, T, or an unknown class
            (with its line).
    """
    where = str(source.path)
    rows = human.read_rows(source, "\t", COLUMNS)
    human.only(rows, "classification", CLASSES, where)
    coverage = Coverage(len(rows))
    column = "hg19" if build_name(build) == GRCH37 else "hg38"
    rows = human.without(rows, rows[column].str.strip() == "", human.NO_COORDINATE, coverage, "variant_id")
    parts = rows[column].str.strip().str.extract(_COORDINATE)
    form = "chrom-pos-ref-alt with alleles made of A, C, G, T, like 13-32890548-CTGT-C"
    human.refuse(parts["pos"].isna(), rows, column, where, form)
    frame = rows[["variant_id", "gene", "classification", "hgvs", "location"]].assign(
        chrom=parts["chrom"],
        pos=parts["pos"].astype("int64"),
        ref=parts["ref"].str.upper(),
        alt=parts["alt"].str.upper(),
        source=rows["doi"].map(_each_once),
        method=rows["method"].map(_each_once),
    )
    return human.place_in_exons(frame, annotation, coverage, strand_known=False), coverage


def _each_once(text: str) -> str:
    return ",".join(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _built_at() -> Path:
    return cache_dir() / "resources" / _OPEN_NAME / "built" / "open_sources.tsv"


def _open_sources() -> human.Source:
    """The development copy from a mirror, or the table that was built on this machine.

    Raises:
        MissingResourceError: neither is there; the message names the command that builds it.
        IntegrityError: the table is not the one that was built.
    """
    resource = resources.get(_OPEN_NAME)
    if find_here(resource, resource.files) is not None:
        return human.source_file(OPEN, None)
    built = _built_at()
    if not built.is_file():
        raise MissingResourceError(f"data set {_OPEN_NAME} is built on your machine, once: {COMMAND}")
    try:
        about = json.loads(built.with_suffix(".json").read_text(encoding="utf-8"))
        origin, expected = str(about["origin"]), str(about["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{built} has no account beside it ({error}); delete it and build it again: {COMMAND}"
        ) from error
    if sha256_once(built) != expected:
        raise IntegrityError(f"{built} is not the table that was built; delete it and build it again: {COMMAND}")
    handed_out(resource.files[0].path, built)
    return human.Source(OPEN, built, origin)


def build_open_sources(target: Path | None = None) -> Path:
    """Put the four sources, as they are at hand or can be downloaded, into one table in SpliceVarDB's format, written
    to `target` (the cache's own place by default), with an account of the sources beside it.

    Every variant stands once, sorted by its place in GRCh38, with the methods and DOIs of all sources that have it and
    the one class they agree on, or Conflicting. Classes: MFASS by SpliceVarDB's rule (ΔPSI at most -0.5 altering, below
    0.03 in size Normal, else Low-frequency); MaPSy by the authors' call (altering), else Normal where both ratios
    changed less than 1.5-fold, else Low-frequency; the two collections by their authors' word. Their method is given
    as RT-PCR, which stands for the assays of many papers. Coordinates of the other build are lifted over; where there
    is no place, the field is empty, and where the other build reads the other way round, its alleles do too.
    """
    chain = resources.resolve_edition(human.LIFT_OVER_CHAIN).path
    forward, backward = Chain(chain), Chain(chain, backward=True)
    sources = [human.source_file(one.DATASET, None) for one in (mfass, mapsy, cispliceai_validated, deep_intronic)]
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
            **dict.fromkeys(("hg19", "hg38", "gene", "location"), lambda words: next(filter(None, words), "")),
            **dict.fromkeys(("method", "doi"), lambda words: ",".join(dict.fromkeys(words))),
            "classification": merge_class,
        }
    )
    place = table.index.str.removeprefix("hg19 ").str.split("-")
    order = sorted(range(len(table)), key=lambda at: (place[at][0], int(place[at][1]), table.index[at]))
    table = table.iloc[order].reset_index(drop=True).assign(variant_id=range(1, len(table) + 1), hgvs="")
    target = target or _built_at()
    with atomic_write(target) as handle:
        handle.write("\t".join(COLUMNS) + "\n")
        table[list(COLUMNS)].to_csv(handle, sep="\t", index=False, header=False, quoting=csv.QUOTE_NONNUMERIC)
    origin = "built from " + "; ".join(f"{source.dataset.name}: {source.origin}" for source in sources)
    with atomic_write(target.with_suffix(".json")) as handle:
        json.dump({"origin": origin, "sha256": sha256_once(target), "rows": len(table)}, handle, indent=2)
    return target


def _frame(variants: pd.DataFrame, method: str, doi: str, **columns: object) -> pd.DataFrame:
    """chrom (without "chr"), pos, ref, alt and the format's fields."""
    told = {"gene": "", "location": "", "method": method, "doi": doi, **columns}
    frame = variants[["chrom", "pos", "ref", "alt"]].assign(**told)
    return frame.assign(chrom=frame["chrom"].map(bare_contig))


def _mfass(source: human.Source) -> pd.DataFrame:
    rows, _ = mfass.read_mutants(source)
    where = np.where(rows["region"] == "exon", "Exonic", "Intronic")
    classes = rows["classification"]
    return _frame(rows, "MFASS", "10.1016/j.molcel.2018.10.037", classification=classes, location=where)


def _mapsy(source: human.Source) -> pd.DataFrame:
    variants, _ = mapsy.read_variants(source)
    calm = (variants["effect"].abs() < UNCHANGED_LOG2) & (variants["log2_vitro_ratio"].abs() < UNCHANGED_LOG2)
    classes = np.select([variants["called"], calm], [SPLICE_ALTERING, NORMAL], LOW_FREQUENCY)
    return _frame(variants, "MaPSy", "10.1038/ng.3837", classification=classes)


def _validated(source: human.Source) -> pd.DataFrame:
    variants = cispliceai_validated.read_variants(source)
    return _frame(variants, "RT-PCR", "10.1371/journal.pone.0269159", classification=variants["classification"])


def _deep_intronic(source: human.Source) -> pd.DataFrame:
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


DATASET = of_package("splicevardb", label_as_downloaded, load_download)

OPEN = of_package(
    _OPEN_NAME, label_as_downloaded, load_open, built=Built(lambda: _open_sources().path, build_open_sources)
)
