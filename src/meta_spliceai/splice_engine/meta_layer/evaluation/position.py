"""A variant's position (distances to the surrounding splice sites, in transcript orientation, and the region's name)
and how it changes the k-mers around it.

Sites are given as the exon's own bases: `acceptor_pos` is its first base, `donor_pos` its last, in transcript order.
`to_acceptor` and `to_donor` are 0 there, positive into the exon, negative into the intron, so −1 and −2 are the
canonical AG or GT.
"""

from __future__ import annotations

from itertools import product, takewhile

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8

from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import N_CODE
from meta_spliceai.splice_engine.variants.table import Windows

CANONICAL = 2
"""Intronic bases of a site that are almost never anything but AG or GT."""
EXONIC_EDGE = 3
"""Exonic bases of the splice region (Ensembl variation's `splice_region_variant`: 1–3 in the exon)."""
INTRONIC_EDGE = {"acceptor": 20, "donor": 8}
"""Intronic bases of the splice region: 3–8 beyond a donor; at an acceptor the polypyrimidine tract as well."""

REGIONS = (
    "canonical acceptor",
    "canonical donor",
    "acceptor region",
    "donor region",
    "exonic",
    "deep intronic",
    "no site known",
)


def position_features(table: pd.DataFrame, annotation: GeneAnnotation | None = None) -> pd.DataFrame:
    """The position features of every variant, aligned with the table.

    The tested exon's own sites (`acceptor_pos`, `donor_pos`) are used where the table has both; else the nearest
    acceptor and donor of the annotated gene; else the row is marked "no site known" and its distances are NaN.

    Args:
        table: variant table (`pos` 1-based, alleles on the plus strand, `strand` of the gene).

    Returns:
        Columns `to_acceptor`, `to_donor`; `nearest`, the distance of smaller magnitude; `nearest_is_donor`, 1.0 if that
        is the donor's; `in_exon`, 1.0 if no site separates it from the exon; `region` (of REGIONS); `acceptor_site` and
        `donor_site`, the sites measured from (1-based, plus strand); `site_source` ("table", "annotation" or "").
    """
    start, end = changed_span(table)
    sign = np.where(table["strand"].to_numpy() == "-", -1, 1)
    acceptor = _positions(table["acceptor_pos"])
    donor = _positions(table["donor_pos"])
    known = ~(np.isnan(acceptor) | np.isnan(donor))
    source = np.where(known, "table", "").astype(object)
    exonic_by_annotation = np.full(len(table), np.nan)
    if annotation is not None and not known.all():
        for row in np.flatnonzero(~known):
            gene = _gene_of(table.iloc[row], annotation)
            if gene is None:
                continue
            middle = (start[row] + end[row]) / 2
            acceptor[row] = min(gene.acceptors(), key=lambda site: abs(site - middle))
            donor[row] = min(gene.donors(), key=lambda site: abs(site - middle))
            exonic_by_annotation[row] = any(s < end[row] and start[row] <= e for s, e in gene.exons)
            source[row] = "annotation"
    has_sites = source != ""
    to_acceptor = np.where(has_sites, _nearest_edge(start - acceptor, end - acceptor) * sign, np.nan)
    to_donor = np.where(has_sites, _nearest_edge(donor - start, donor - end) * sign, np.nan)
    nearest_is_donor = np.abs(to_donor) < np.abs(to_acceptor)
    nearest = np.where(nearest_is_donor, to_donor, to_acceptor)
    inside = (to_acceptor >= 0) & (to_donor >= 0)
    in_exon = np.where(np.isnan(exonic_by_annotation), inside, exonic_by_annotation == 1)
    return pd.DataFrame(
        {
            "to_acceptor": to_acceptor,
            "to_donor": to_donor,
            "nearest": nearest,
            "nearest_is_donor": nearest_is_donor.astype(np.float64),
            "in_exon": in_exon.astype(np.float64),
            "region": _regions(nearest, nearest_is_donor, in_exon, has_sites),
            "acceptor_site": np.where(has_sites, acceptor, np.nan),
            "donor_site": np.where(has_sites, donor, np.nan),
            "site_source": source,
        },
        index=table.index,
    )


def changed_span(table: pd.DataFrame) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
    """First and last changed reference base of every variant, 1-based inclusive, plus strand.

    Bases that both alleles share at their ends (a VCF's anchor base) are no change. An insertion changes no base; its
    span is the two bases between which it falls.
    """
    first = np.empty(len(table), dtype=np.int64)
    last = np.empty(len(table), dtype=np.int64)
    for row, (pos, ref, alt) in enumerate(zip(table["pos"], table["ref"], table["alt"], strict=True)):
        head = _shared(ref, alt)
        tail = _shared(ref[head:][::-1], alt[head:][::-1])
        first[row], last[row] = pos + head, pos + len(ref) - tail - 1
        if last[row] < first[row]:
            first[row], last[row] = last[row], first[row]
    return first, last


def _shared(one: str, other: str) -> int:
    """Bases that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _positions(column: pd.Series) -> Float[np.ndarray, " rows"]:
    return np.array(column.astype("Int64").to_numpy(dtype=np.float64, na_value=np.nan))


def _nearest_edge(one: Float[np.ndarray, " rows"], other: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """The distance of smaller magnitude; 0 where the span holds the site itself."""
    spans = np.sign(one) * np.sign(other) < 0
    return np.where(spans, 0.0, np.where(np.abs(one) <= np.abs(other), one, other))


def _gene_of(place: pd.Series, annotation: GeneAnnotation) -> Gene | None:
    """The gene with introns that a variant belongs to: named like the row's gene if one is, else on its strand, else
    none."""
    genes = [g for g in annotation.overlapping(place["chrom"], int(place["pos"])) if g.strand == place["strand"]]
    named = [g for g in genes if g.name == place.get("gene", "")]
    candidates = [g for g in named or genes if len(g.exons) > 1]
    return candidates[0] if candidates else None


def _regions(
    nearest: Float[np.ndarray, " rows"], is_donor: np.ndarray, in_exon: np.ndarray, has_sites: np.ndarray
) -> np.ndarray:
    intronic = ~in_exon.astype(bool)
    depth = -nearest
    region = np.where(intronic, "deep intronic", "exonic").astype(object)
    for site, of_site in (("acceptor", ~is_donor), ("donor", is_donor)):
        edge = (~intronic & (nearest >= 0) & (nearest < EXONIC_EDGE)) | (intronic & (depth <= INTRONIC_EDGE[site]))
        region[of_site & edge] = f"{site} region"
        region[of_site & intronic & (depth > 0) & (depth <= CANONICAL)] = f"canonical {site}"
    region[~has_sites] = "no site known"
    return region


LONGEST, REACH = 3, 10
"""Longest k-mer that is counted, and bases to either side of the variant: farther ones are the same in both alleles."""


def count_kmers(codes: UInt8[np.ndarray, "rows length"], k: int) -> Int[np.ndarray, "rows kmers"]:
    """How often each k-mer stands in each row (those with an N are not counted), in alphabetical order."""
    rows, length = codes.shape
    if length < k:
        return np.zeros((rows, 4**k), dtype=np.int64)
    pieces = np.lib.stride_tricks.sliding_window_view(codes, k, axis=1)
    index = np.minimum(pieces, 3) @ 4 ** np.arange(k)[::-1] + 4**k * np.arange(rows)[:, None]
    real = (pieces < N_CODE).all(axis=2)
    return np.bincount(index[real], minlength=rows * 4**k).reshape(rows, 4**k)


def kmer_changes(windows: Windows) -> pd.DataFrame:
    """Counts of each k-mer in the alternative minus the reference window, and of bases and pairs in the reference.

    Returns:
        Columns `Δ{k-mer}` for k-mers of 1 to LONGEST bases, `near {k-mer}` for those of 1 and 2 bases in the reference.
    """
    centre = windows.length // 2
    near = slice(max(0, centre - REACH), min(windows.length, centre + REACH + 1))
    columns: dict[str, np.ndarray] = {}
    for k in range(1, LONGEST + 1):
        ref, alt = count_kmers(windows.ref[:, near], k), count_kmers(windows.alt[:, near], k)
        for number, letters in enumerate(product("ACGT", repeat=k)):
            columns[f"Δ{''.join(letters)}"] = (alt - ref)[:, number].astype(np.float64)
            if k <= 2:
                columns[f"near {''.join(letters)}"] = ref[:, number].astype(np.float64)
    return pd.DataFrame(columns)
