#!/usr/bin/env python3
"""Make the human variants that travel with the package, from the originals.

    python tools/make_packaged_data.py data            variants and sequence; needs the mirror of the originals
    python tools/make_packaged_data.py scores WORK     CI-SpliceAI's scores of them; goes on where an earlier call ended
    python tools/make_packaged_data.py checksums       what src/meta_spliceai/resources/registry.toml has to say

The same originals give the same bytes (with the pinned pandas and pyarrow of constraints.txt). `data` needs the
resources cispliceai-validated, mapsy and human-regions and the packages spliceai and cispliceai; `scores` needs
cispliceai, about half an hour of one core, and a folder WORK for what is done already.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets import Loaded, cispliceai_validated, load_dataset
from meta_spliceai.datasets.human import CONSTRUCT, GENOME, place_in_exons
from meta_spliceai.files import atomic_write, sha256_file
from meta_spliceai.resources.registry import DESCRIPTION, DEVELOPMENT, FOLDER, SCORES, SEQUENCE, VARIANTS, Resource
from meta_spliceai.resources.resolve import resolve_choice
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.scores import Entry, ScoreCache, write_scores
from meta_spliceai.splice_engine.base_layer.scoring import score_keys, score_variants
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.human_genome import REGIONS
from meta_spliceai.splice_engine.genome.packed import Interval, write_packed
from meta_spliceai.splice_engine.genome.sequence import GRCH38, N_CODE, JoinedSources, SequenceSource
from meta_spliceai.splice_engine.variants.alleles import Chain, merge_alleles
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING, Coverage, as_variant_table, describe

ROOT = Path(__file__).resolve().parents[1] / "src"

NETWORK, DISTANCE, DIGITS = "cispliceai", 50, 4

REACH = 5_000 + 500
"""Bases kept to either side of a variant: what a network sees of it, and half a window of 1,001 more."""

AT_ONCE = 128
"""Variants between two writes of what was scored."""

KNOWN = 1_000
"""Known bases to either side from which a variant of MaPSy stands on its chromosome, and not in its construct."""

NOT_AT_HAND = "no reference sequence was at hand when the data were packed"
NO_PLACE = "no place in GRCh38, which says what must not be shared between training and test"

COLUMNS = (
    "context", "genome_chrom", "genome_pos", "effect_type", "acceptors_lost", "donors_lost", "acceptors_gained",
    "donors_gained", "exon_id", "log2_vitro_ratio", "vivo_error", "vitro_error", "called", "measurements",
)  # fmt: skip
"""Columns kept beside the schema's."""


def development_copy(resource: Resource) -> str:
    """The edition without chr1 and chr9, whatever other one is at hand."""
    (copy,) = (entry for entry in resource.files if entry.edition == DEVELOPMENT)
    return str(resolve_choice(resource, [copy]).path)


def genes_of_cispliceai() -> GeneAnnotation:
    """The genes of CI-SpliceAI's table of GRCh38 (CC BY 4.0), with every exon that two of its junctions enclose.

    The table has junctions of all isoforms: the last base of one exon and the first of the next (1-based, plus strand).
    An exon's first base is paired with the nearest end behind it, an exon's end with the nearest first base before it.
    """
    file = resources.packaged_file("cispliceai", "cispliceai/data/grch38.csv", extra="cispliceai")
    genes = []
    for row in pd.read_csv(file, dtype=str, keep_default_na=False).itertuples(index=False):
        start, end = int(row.start) - 1, int(row.end)
        firsts = np.unique([start, *(int(one) - 1 for one in row.jn_end.split(",") if one)])
        ends = np.unique([*(int(one) for one in row.jn_start.split(",") if one), end])
        pairs = {(int(one), int(ends[np.searchsorted(ends, one, "right")])) for one in firsts if one < ends[-1]}
        pairs |= {(int(firsts[np.searchsorted(firsts, one) - 1]), int(one)) for one in ends if firsts[0] < one}
        genes.append(Gene(row.gene_id, row.chr, row.strand, start, end, tuple(sorted(pairs))))
    return GeneAnnotation(genes, "GRCh38", "CI-SpliceAI's genes of GRCh38")


def known_around(genome: SequenceSource, chrom: str, pos: int, reach: int) -> int:
    """Bases known on both sides of a position (1-based) without a gap, at most `reach`."""
    unknown = np.flatnonzero(genome.fetch(chrom, pos - 1 - reach, pos + reach) == N_CODE) - reach
    return int(np.abs(unknown).min(initial=reach + 1)) - 1


def in_constructs(loaded: Loaded, strands: pd.Series, coverage: Coverage) -> pd.DataFrame:
    """MaPSy in its constructs, with its place in GRCh38 and the strand there (`genome_strand`)."""
    chain = Chain(resources.resolve_edition("hg19-to-hg38-chain").path)
    table = loaded.variants
    places = [
        chain.lift(chrom, int(pos)) for chrom, pos in zip(table["genome_chrom"], table["genome_pos"], strict=True)
    ]
    found = np.array([place is not None for place in places])
    coverage.leave_out(NO_PLACE, (describe(row) for _, row in table[~found].iterrows()))
    lifted = [place for place in places if place is not None]
    turned = np.array([place[2] == "-" for place in lifted])
    own = table["variant_id"].map(strands)[found].to_numpy()
    return table[found].assign(
        genome_chrom=[place[0] for place in lifted],
        genome_pos=[place[1] for place in lifted],
        genome_strand=np.where(turned, np.where(own == "+", "-", "+"), own),
        context=CONSTRUCT,
    )


def packaged_variants() -> tuple[pd.DataFrame, Coverage, JoinedSources, dict[str, int]]:
    """The variant table, the account from the originals' rows to it, and where its bases come from."""
    genes = genes_of_cispliceai()
    validated = load_dataset(
        "cispliceai-validated", path=development_copy(resources.get("cispliceai-validated")), genome=REGIONS
    )
    cells, reporter = (
        load_dataset("mapsy", path=development_copy(resources.get("mapsy")), genome=REGIONS, context=context)
        for context in (GENOME, CONSTRUCT)
    )
    coverage = Coverage(validated.coverage.read + reporter.coverage.read)
    ((reason, count),) = validated.coverage.left_out.items()  # no base at hand at the variant: all that may happen here
    coverage.left_out[NOT_AT_HAND] = count
    coverage.examples[NOT_AT_HAND] = validated.coverage.examples[reason]

    raw = pd.read_csv(development_copy(resources.get("mapsy")), dtype=str)
    strands = raw.set_index("ID")["strand"]
    constructs = in_constructs(reporter, strands, coverage)
    around = [
        known_around(cells.genome, chrom, int(pos), KNOWN)
        for chrom, pos in zip(cells.variants["chrom"], cells.variants["pos"], strict=True)
    ]
    on_chromosome = cells.variants[np.array(around) >= KNOWN].assign(context=GENOME)
    on_chromosome = on_chromosome.assign(
        genome_chrom=on_chromosome["chrom"], genome_pos=on_chromosome["pos"], genome_strand=on_chromosome["strand"]
    )
    constructs = constructs[~constructs["variant_id"].isin(on_chromosome["variant_id"])]
    of_mapsy = pd.concat([on_chromosome, constructs], ignore_index=True)
    # Genes by one table for all. MaPSy's own exon is the tested one, whatever the table has there.
    placed = place_in_exons(
        of_mapsy.assign(chrom=of_mapsy["genome_chrom"], pos=of_mapsy["genome_pos"], strand=of_mapsy["genome_strand"]),
        genes,
        coverage,
        strand_known=True,
    )
    of_mapsy["gene"] = placed["gene"].where(placed["gene"].str.startswith("ENSG"), "")
    of_mapsy["group"] = of_mapsy["gene"].where(of_mapsy["gene"] != "", of_mapsy["exon_id"])
    of_literature = place_in_exons(
        validated.variants.assign(gene="", context=GENOME, effect=np.nan), genes, coverage, strand_known=True
    )
    table = as_variant_table(pd.concat([of_literature, of_mapsy], ignore_index=True), "packaged-human")
    for column in ("effect_type", *cispliceai_validated.GOLD.values(), "exon_id"):
        table[column] = table[column].fillna("").astype(object)
    table["called"] = table["called"].astype("boolean")
    merged, merging = merge_alleles(table, "packaged-human")
    kept = [*merged.columns[: list(merged.columns).index("donor_pos") + 1], *COLUMNS]
    return (
        merged[kept],
        coverage.then(merging),
        JoinedSources([validated.genome, reporter.genome], GRCH38),
        reporter.genome.contigs(),
    )


def make_data(folder: Path) -> None:
    """Write variants, sequence and description."""
    table, coverage, genome, constructs = packaged_variants()
    places = zip(table["chrom"], table["pos"], table["ref"], strict=True)
    wanted: list[Interval] = [
        (chrom, 0, constructs[chrom])
        if chrom in constructs
        else (genome.resolve(chrom), int(pos) - 1 - REACH, int(pos) + len(ref) + REACH)
        for chrom, pos, ref in places
    ]
    table.to_parquet(folder / Path(VARIANTS).name, index=False, compression="zstd", compression_level=19)
    bases = write_packed(genome, wanted, folder / Path(SEQUENCE).name)
    model = load_base_model(NETWORK)
    description = {
        "coverage": coverage.to_json(),
        "bases": bases,
        "scores": {
            "network": NETWORK,
            "networks": len(model.networks),
            "digest": model.digest,
            "flank": model.flank,
            "channels": list(model.channels),
            "distance": DISTANCE,
            "digits": DIGITS,
            "licence": model.licence,
            "citation": model.citation,
        },
    }
    with atomic_write(folder / Path(DESCRIPTION).name) as handle:
        json.dump(description, handle, indent=2, ensure_ascii=False)
        handle.write("\n")
    print(json.dumps(description["coverage"], indent=2, ensure_ascii=False))
    print(f"{bases:,} bases")
    print(table.groupby(["source", "context", "classification"]).size().to_string())


def make_scores(folder: Path, work: Path) -> None:
    """Score what lies in the package, as a row does, and pack the scores."""
    loaded = load_dataset("packaged-human")
    model = load_base_model(NETWORK)
    cache = ScoreCache(work)
    order = loaded.variants.sort_values(["chrom", "strand", "pos", "variant_id"]).reset_index(drop=True)
    labelled = order["classification"].isin([SPLICE_ALTERING, NORMAL])
    done = 0
    for part in (order[labelled], order[~labelled]):  # those first that most rows of the wishlist need
        for at in range(0, len(part), AT_ONCE):
            some = part.iloc[at : at + AT_ONCE].reset_index(drop=True)
            score_variants(some, loaded.genome, model, DISTANCE, cache=cache)
            done += len(some)
            print(f"{done:,} of {len(order):,}", file=sys.stderr, flush=True)
    keys = list(dict.fromkeys(score_keys(order, loaded.genome, model, DISTANCE)))
    found: dict[bytes, Entry] = cache.read(keys, model.digest, DISTANCE)
    target = folder / Path(SCORES).name
    write_scores(target, {key: found[key] for key in keys}, DIGITS)
    print(f"{len(keys):,} scores")


def checksums(folder: Path) -> None:
    """Print the files as the resource lists them."""
    for name in ("VARIANTS", "SEQUENCE", "SCORES", "DESCRIPTION"):
        file = folder / Path(globals()[name]).name
        print(f'{{ path = "{globals()[name]}", size = {file.stat().st_size:_}, sha256 = "{sha256_file(file)}" }},')
    print(f"{sum(file.stat().st_size for file in folder.iterdir()):,} bytes in all")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=ROOT / FOLDER, help="folder that is written to")
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("data")
    steps.add_parser("scores").add_argument("work", type=Path, metavar="WORK")
    steps.add_parser("checksums")
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    if asked.step == "data":
        make_data(asked.to)
    elif asked.step == "scores":
        make_scores(asked.to, asked.work)
    else:
        checksums(asked.to)


if __name__ == "__main__":
    main()
