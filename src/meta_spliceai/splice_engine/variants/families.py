"""Genes that must stay together in a split: those that share an exon, neighbours, paralogs, and those whose windows the
others know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64, UInt64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.genome.source import SequenceSource
from meta_spliceai.splice_engine.variants.kmers import canonical_kmers
from meta_spliceai.splice_engine.variants.windows import build_windows

CONTAINMENT = 0.2
"""Share of the smaller gene's words found in the other one from which the two are relatives (about 93 % identity)."""

NEIGHBOURING_EXONS = 1000
"""Exons with fewer bases than this between them go to one part together: their windows would overlap."""

REPEAT_COPIES = 8
"""A word in more genes than this belongs to a repeat (Alu, LINE) and says nothing about kinship."""

FEWEST_SHARED = 40
"""Shared words below this are no evidence, however small the genes' sequence."""

NEAR_IDENTICAL = 0.8
"""Share of a window's 21-base words that also occur in other windows, from which it counts as seen there."""

COMPARED_BASES = 401
"""Of longer windows the middle part of this length is compared for near-identity."""


@dataclass(frozen=True)
class WindowWords:
    """The 21-base words of a table's windows, and the row (0-based) each comes from."""

    words: UInt64[np.ndarray, " words"]
    rows: Int64[np.ndarray, " words"]


def window_words(table: pd.DataFrame, genome: SequenceSource, window: int) -> WindowWords:
    """The words of every row's reference window (of long ones the middle `COMPARED_BASES`), either strand alike."""
    return WindowWords(*canonical_kmers(build_windows(table, genome, min(window, COMPARED_BASES)).ref))


def gene_families(
    table: pd.DataFrame, genome: SequenceSource, window: int = 501, seen: WindowWords | None = None
) -> pd.Series:
    """A family for each variant: the groups (genes) that must not be separated.

    Two groups belong together when

    - they have variants of one exon (of one construct, where the variants stand in constructs): a variant may be given
      another gene than the exon that was measured;
    - variants of both lie so near on the genome that their windows overlap;
    - the sequence around their variants is alike on either strand: at least a fifth of the smaller one's 21-base words
      are in the other one, words of repeats left aside;
    - otherwise a window of one would be known from the others: as long as the words of a window are to
      `NEAR_IDENTICAL` or more in the windows of all other families together, its family is joined with the one that
      shares most of them. What is left cannot be a near-identical window in any split by families.

    Kinship is passed on (the relative of a relative is a relative). Only the sequence within the windows is compared,
    because only that is seen by a model.

    Args:
        table: a variant table with the column `group`; `genome_chrom` and `genome_pos` are used where the variants
            stand in constructs.
        genome: where the windows come from.
        window: odd number of bases, that of the models.
        seen: `window_words` of the same arguments, where they are at hand.

    Returns:
        one text a row: the alphabetically first group of the family, index as the table's.
    """
    codes, groups = pd.factorize(table["group"], sort=True)
    if len(groups) < 2:
        return table["group"].copy()
    edges = [_one_exon(table, codes), _near(table, codes, window), _alike(table, genome, codes, window)]
    family = _joined(len(groups), np.concatenate(edges))
    words = window_words(table, genome, window) if seen is None else seen
    _, numbers = np.unique(words.words, return_inverse=True)
    while len(known := _known_elsewhere(numbers, words.rows, family[codes])):
        family = _joined(int(family.max()) + 1, known)[family]
    first = pd.Series(groups).groupby(family).transform("first").to_numpy()
    return pd.Series(first[codes], index=table.index, name="family")


def exon_families(
    table: pd.DataFrame, genome: SequenceSource, window: int = 501, apart: int = NEIGHBOURING_EXONS
) -> pd.Series:
    """A family for each variant: the exons that must not be separated, by the rules of `gene_families`.

    Args:
        table, genome, window: as `gene_families`.
        apart: exons with fewer bases between them stay together.
    """
    return gene_families(table.assign(group=exon_groups(table, max(apart, window))), genome, window)


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
    """The component of each of `count` units."""
    links = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)


def _one_exon(table: pd.DataFrame, codes: np.ndarray) -> Int64[np.ndarray, "pairs 2"]:
    """Pairs of groups with variants of one exon, or of one construct."""
    chrom = table["chrom"].map(bare_contig)
    sites = chrom + ":" + table["acceptor_pos"].astype(str) + "-" + table["donor_pos"].astype(str)
    known = (table["acceptor_pos"].notna() & table["donor_pos"].notna()).to_numpy()
    keys = [np.where(known, sites, "")]
    keys.append(np.where(in_constructs(table), chrom, ""))
    pairs = []
    for key in keys:
        named = np.flatnonzero(key != "")
        order = named[np.argsort(key[named], kind="stable")]
        same = (key[order][1:] == key[order][:-1]) & (codes[order][1:] != codes[order][:-1])
        pairs.append(np.column_stack([codes[order][:-1][same], codes[order][1:][same]]))
    return np.concatenate(pairs).reshape(-1, 2).astype(np.int64)


def _known_elsewhere(
    words: Int64[np.ndarray, " words"], of_row: Int64[np.ndarray, " words"], family: Int64[np.ndarray, " rows"]
) -> Int64[np.ndarray, "pairs 2"]:
    """For every family with a window that the other families know, the pair of it and the one that knows most of it.

    Args:
        words: number of every word of the windows, equal for equal words.
        of_row: the row it stands in.
        family: of every row.
    """
    families = int(family.max()) + 1
    word_of_family = np.unique(words * families + family[of_row])  # each word once a family, ordered by word
    owners = word_of_family % families
    copies = np.bincount(word_of_family // families)
    starts = np.cumsum(copies) - copies
    elsewhere = np.bincount(of_row, weights=copies[words] > 1, minlength=len(family))
    known = elsewhere / np.maximum(np.bincount(of_row, minlength=len(family)), 1) >= NEAR_IDENTICAL
    rows = pd.Series(np.flatnonzero(known))
    pairs = []
    for row in rows.groupby(family[rows]).first():  # one a family and round: joining may settle its other windows
        mine = words[of_row == row]
        others = np.concatenate([owners[starts[word] : starts[word] + copies[word]] for word in mine])
        others = others[others != family[row]]
        pairs.append((int(family[row]), int(np.bincount(others).argmax())))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _near(table: pd.DataFrame, codes: np.ndarray, window: int) -> np.ndarray:
    """Pairs of groups that have variants closer than a window; neighbours in order of place are enough."""
    chrom, pos = genomic_places(table)
    order = np.lexsort([pos.to_numpy(), chrom.to_numpy()])
    contig, place, group = chrom.to_numpy()[order], pos.to_numpy()[order], codes[order]
    near = (contig[1:] == contig[:-1]) & (place[1:] - place[:-1] < window) & (group[1:] != group[:-1])
    return np.column_stack([group[:-1][near], group[1:][near]]).reshape(-1, 2)


def _alike(table: pd.DataFrame, genome: SequenceSource, codes: np.ndarray, window: int) -> np.ndarray:
    """Pairs of groups whose windows share enough words."""
    apart = table.assign(_group=codes)[["chrom", "pos", "ref", "alt", "strand", "_group"]]
    # windows a few bases apart hold the same words: one a quarter window and group is enough
    thinned = (
        apart.drop_duplicates(["chrom", "_group", "pos"])
        if window < 8
        else apart.assign(_bin=apart["pos"] // (window // 4)).drop_duplicates(["chrom", "_group", "_bin"])
    )
    words, rows = canonical_kmers(build_windows(thinned, genome, window).ref)
    group = thinned["_group"].to_numpy()[rows]
    order = np.lexsort([group, words])
    words, group = words[order], group[order]
    new = np.ones(len(words), dtype=bool)
    new[1:] = (words[1:] != words[:-1]) | (group[1:] != group[:-1])
    words, group = words[new], group[new]
    sizes = np.bincount(group, minlength=int(codes.max()) + 1)
    starts = np.flatnonzero(np.r_[True, words[1:] != words[:-1]]) if len(words) else np.empty(0, dtype=np.int64)
    copies = np.repeat(np.diff(np.r_[starts, len(words)]), np.diff(np.r_[starts, len(words)]))
    usable = copies <= REPEAT_COPIES
    pairs = []
    for step in range(1, REPEAT_COPIES):
        same = (words[step:] == words[:-step]) & usable[step:]
        pairs.append(np.column_stack([group[:-step][same], group[step:][same]]))
    found, shared = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    if not len(found):
        return np.empty((0, 2), dtype=np.int64)
    smaller = np.minimum(sizes[found[:, 0]], sizes[found[:, 1]])
    return found[(shared >= FEWEST_SHARED) & (shared >= CONTAINMENT * smaller)]
