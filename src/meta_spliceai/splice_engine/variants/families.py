"""Gene families, which must stay together in a split: genes that share an exon, neighbours, paralogs, and genes with
shared window sequence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64, UInt8, UInt64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.genome.sequence import N_CODE, SequenceSource
from meta_spliceai.splice_engine.variants.table import build_windows

CONTAINMENT = 0.2
"""Share of the smaller gene's k-mers found in the other one from which the two are relatives (about 93 % identity)."""

NEIGHBOURING_EXONS = 1000
"""Exons with fewer bases than this between them go to one part together: their windows would overlap."""

REPEAT_COPIES = 8
"""A k-mer in more genes than this belongs to a repeat (Alu, LINE) and says nothing about kinship."""

FEWEST_SHARED = 40
"""Shared k-mers below this are no evidence, however small the genes' sequence."""

NEAR_IDENTICAL = 0.8
"""Share of a window's 21-mers that also occur in other windows, from which it counts as seen there."""

K = 21
"""Bases of a k-mer. Long enough that unrelated sequence shares next to none (4**21), short enough that relatives share
many: at an identity of p, about p**21 of them are equal (0.22 at 93 %, 0.34 at 95 %)."""

_ROWS_AT_ONCE = 4096

COMPARED_BASES = 401
"""Of longer windows the middle part of this length is compared for near-identity."""


class WindowKmers(NamedTuple):
    """The 21-mers of windows, those with an N left out, and the row (0-based) each comes from. A 21-mer and its reverse
    complement are the same number (the smaller of the two), so that strand does not matter."""

    kmers: UInt64[np.ndarray, " kmers"]
    rows: Int64[np.ndarray, " kmers"]


def window_kmers(table: pd.DataFrame, genome: SequenceSource, window: int) -> WindowKmers:
    """The 21-mers of every row's reference window (of long ones the middle `COMPARED_BASES`), either strand alike."""
    return canonical_kmers(build_windows(table, genome, min(window, COMPARED_BASES)).ref)


def gene_families(
    table: pd.DataFrame, genome: SequenceSource, window: int = 501, seen: WindowKmers | None = None
) -> pd.Series:
    """A family for each variant: the groups (genes) that must not be separated.

    Two groups belong together when

    - they have variants of one exon (of one construct, where the variants stand in constructs): a variant may be given
      another gene than the exon that was measured;
    - variants of both lie so near on the genome that their windows overlap;
    - the sequence around their variants is alike on either strand: at least a fifth of the smaller one's 21-mers
      are in the other one, those of repeats left aside;
    - otherwise a window of one would be known from the others: as long as the k-mers of a window are to
      `NEAR_IDENTICAL` or more in the windows of all other families together, its family is joined with the one that
      shares most of them. What is left cannot be a near-identical window in any split by families.

    Kinship is passed on (the relative of a relative is a relative). Only the sequence within the windows is compared,
    because only that is seen by a model.

    Args:
        table: a variant table with the column `group`; `genome_chrom` and `genome_pos` are used where the variants
            stand in constructs.
        window: odd number of bases, that of the models.
        seen: `window_kmers` of the same arguments, where they are at hand.

    Returns:
        one text per row: the alphabetically first group of the family, index as the table's.
    """
    codes, groups = pd.factorize(table["group"], sort=True)
    if len(groups) < 2:
        return table["group"].copy()
    edges = [_one_exon(table, codes), _near(table, codes, window), _alike(table, genome, codes, window)]
    family = _joined(len(groups), np.concatenate(edges))
    seen = seen or window_kmers(table, genome, window)
    _, numbers = np.unique(seen.kmers, return_inverse=True)
    while len(known := _known_elsewhere(numbers, seen.rows, family[codes])):
        family = _joined(int(family.max()) + 1, known)[family]
    first = pd.Series(groups).groupby(family).transform("first").to_numpy()
    return pd.Series(first[codes], index=table.index, name="family")


def exon_families(table: pd.DataFrame, genome: SequenceSource, window: int = 501) -> pd.Series:
    """A family for each variant: the exons that must not be separated, by the rules of `gene_families`; exons with
    fewer than `NEIGHBOURING_EXONS` bases between them stay together."""
    return gene_families(table.assign(group=exon_groups(table, max(NEIGHBOURING_EXONS, window))), genome, window)


def exon_groups(table: pd.DataFrame, apart: int = NEIGHBOURING_EXONS) -> pd.Series:
    """A name for each variant's exon; exons with fewer than `apart` bases between them (and variants without an exon
    as near to each other) share one. Variants in constructs go by their place on the genome."""
    sites = table[["acceptor_pos", "donor_pos"]].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    pos = table["pos"].to_numpy(dtype=float)
    chrom, place = (column.to_numpy() for column in genomic_places(table))
    if in_constructs(table).any():
        # how the construct lies on the genome is not in the table: as far to either side as its exon reaches
        reach = np.fmax(0, np.nanmax(np.abs(np.c_[sites - pos[:, None], np.zeros(len(table))]), axis=1))
        low, high = place - reach, place + reach
    else:
        low, high = np.fmin(np.fmin(*sites.T), pos), np.fmax(np.fmax(*sites.T), pos)
    names = np.empty(len(table), dtype=object)
    current, reached, contig = "", -np.inf, None
    for at in np.lexsort([low, chrom]):
        if chrom[at] != contig or low[at] - reached >= apart:
            current, reached, contig = f"{chrom[at]}:{int(low[at])}", -np.inf, chrom[at]
        reached = max(reached, high[at])
        names[at] = current
    return pd.Series(names, index=table.index, name="exon")


def genomic_places(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Chromosome without "chr" and position of each variant on the genome, also where it stands in a construct."""
    chrom = table["genome_chrom"] if "genome_chrom" in table else table["chrom"]
    pos = table["genome_pos"] if "genome_pos" in table else table["pos"]
    return chrom.map(bare_contig), pos.astype("int64")


def in_constructs(table: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
    """Which variants stand in a construct, and not on the chromosome itself."""
    return (table["chrom"].map(bare_contig) != genomic_places(table)[0]).to_numpy()


def _joined(count: int, edges: Int64[np.ndarray, "edges 2"]) -> Int64[np.ndarray, " units"]:
    links = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)


def exon_keys(table: pd.DataFrame) -> pd.Series:
    """One text per exon whose two sites are known, in the coordinates of the table; "" for other rows."""
    sites = table["acceptor_pos"].astype(str) + "-" + table["donor_pos"].astype(str)
    known = table["acceptor_pos"].notna() & table["donor_pos"].notna()
    return (table["chrom"].map(bare_contig) + ":" + sites).where(known, "")


def _one_exon(table: pd.DataFrame, codes: np.ndarray) -> Int64[np.ndarray, "pairs 2"]:
    """Pairs of groups with variants of one exon, or of one construct."""
    construct = table["chrom"].map(bare_contig).where(in_constructs(table), "")
    pairs = []
    for key in (exon_keys(table).to_numpy(), construct.to_numpy()):
        order = np.argsort(key, kind="stable")
        order = order[key[order] != ""]
        same = (key[order][1:] == key[order][:-1]) & (codes[order][1:] != codes[order][:-1])
        pairs.append(np.column_stack([codes[order][:-1][same], codes[order][1:][same]]))
    return np.concatenate(pairs).astype(np.int64)


def _known_elsewhere(
    kmers: Int64[np.ndarray, " kmers"], of_row: Int64[np.ndarray, " kmers"], family: Int64[np.ndarray, " rows"]
) -> Int64[np.ndarray, "pairs 2"]:
    """For every family with a window that the other families know, the pair of it and the one that knows most of it.
    `kmers`: number of every k-mer of the windows, equal for equal ones; `of_row`: the row it stands in."""
    families = int(family.max()) + 1
    kmer_of_family = np.unique(kmers * families + family[of_row])  # each k-mer once a family, ordered by k-mer
    owners = kmer_of_family % families
    copies = np.bincount(kmer_of_family // families)
    starts = np.cumsum(copies) - copies
    elsewhere = np.bincount(of_row, weights=copies[kmers] > 1, minlength=len(family))
    known = elsewhere / np.maximum(np.bincount(of_row, minlength=len(family)), 1) >= NEAR_IDENTICAL
    rows = pd.Series(np.flatnonzero(known))
    pairs = []
    for row in rows.groupby(family[rows]).first():  # one a family and round: joining may settle its other windows
        others = np.concatenate([owners[starts[at] : starts[at] + copies[at]] for at in kmers[of_row == row]])
        pairs.append((int(family[row]), int(np.bincount(others[others != family[row]]).argmax())))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _near(table: pd.DataFrame, codes: np.ndarray, window: int) -> np.ndarray:
    """Pairs of groups that have variants closer than a window; neighbours in order of place are enough."""
    chrom, pos = genomic_places(table)
    order = np.lexsort([pos.to_numpy(), chrom.to_numpy()])
    contig, place, group = chrom.to_numpy()[order], pos.to_numpy()[order], codes[order]
    near = (contig[1:] == contig[:-1]) & (place[1:] - place[:-1] < window) & (group[1:] != group[:-1])
    return np.column_stack([group[:-1][near], group[1:][near]]).reshape(-1, 2)


def _alike(table: pd.DataFrame, genome: SequenceSource, codes: np.ndarray, window: int) -> np.ndarray:
    """Pairs of groups whose windows share enough k-mers."""
    apart = table.assign(_group=codes)[["chrom", "pos", "ref", "alt", "strand", "_group"]]
    # windows a few bases apart hold the same k-mers: one a quarter window and group is enough
    binned = apart.assign(_bin=apart["pos"] // max(1, window // 4))
    thinned = binned.drop_duplicates(["chrom", "_group", "_bin"])
    kmers, rows = canonical_kmers(build_windows(thinned, genome, window).ref)
    groups = np.uint64(codes.max() + 1)
    kmer_of_group = np.unique(kmers * groups + thinned["_group"].to_numpy(np.uint64)[rows])  # ordered by k-mer
    kmers, group = kmer_of_group // groups, (kmer_of_group % groups).astype(np.int64)
    sizes = np.bincount(group, minlength=int(groups))
    _, copies = np.unique(kmers, return_counts=True)
    usable = np.repeat(copies, copies) <= REPEAT_COPIES
    pairs = []
    for step in range(1, REPEAT_COPIES):
        same = (kmers[step:] == kmers[:-step]) & usable[step:]
        pairs.append(np.column_stack([group[:-step][same], group[step:][same]]))
    found, shared = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    smaller = np.minimum(sizes[found[:, 0]], sizes[found[:, 1]])
    return found[(shared >= FEWEST_SHARED) & (shared >= CONTAINMENT * smaller)]


def canonical_kmers(windows: UInt8[np.ndarray, "rows length"]) -> WindowKmers:
    """The k-mers of every window."""
    kmers = [np.empty(0, dtype=np.uint64)]
    rows = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(windows), _ROWS_AT_ONCE):
        part = windows[start : start + _ROWS_AT_ONCE]
        places = part.shape[1] - K + 1
        if places < 1:
            continue
        forward = np.zeros((len(part), places), dtype=np.uint64)
        backward = np.zeros_like(forward)
        known = np.ones_like(forward, dtype=bool)
        for offset in range(K):
            base = part[:, offset : offset + places]
            known &= base != N_CODE
            code = np.minimum(base, 3).astype(np.uint64)
            forward = (forward << np.uint64(2)) | code
            backward |= (np.uint64(3) - code) << np.uint64(2 * offset)
        both = np.minimum(forward, backward)
        at, place = np.nonzero(known)
        kmers.append(both[at, place])
        rows.append(at + start)
    return WindowKmers(np.concatenate(kmers), np.concatenate(rows))
