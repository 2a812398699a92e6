"""Genes that must stay together in a split: overlapping, neighbouring and paralogous ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.genome.source import SequenceSource
from meta_spliceai.splice_engine.variants.kmers import canonical_kmers
from meta_spliceai.splice_engine.variants.windows import build_windows

CONTAINMENT = 0.2
"""Share of the smaller gene's words found in the other one from which the two are relatives (about 93 % identity)."""

REPEAT_COPIES = 8
"""A word in more genes than this belongs to a repeat (Alu, LINE) and says nothing about kinship."""

FEWEST_SHARED = 40
"""Shared words below this are no evidence, however small the genes' sequence."""


def gene_families(table: pd.DataFrame, genome: SequenceSource, window: int = 501) -> pd.Series:
    """A family for each variant: the groups (genes) that must not be separated.

    Two groups belong together when variants of both lie so near that their windows overlap, or when the sequence around
    their variants is alike on either strand: at least a fifth of the smaller one's 21-base words are in the other one,
    words of repeats left aside. Kinship is passed on (the relative of a relative is a relative).

    Only the sequence within the windows is compared, because only that is seen by a model.

    Args:
        table: a variant table with the column `group`; `genome_chrom` and `genome_pos` are used where the variants
            stand in constructs.
        genome: where the windows come from.
        window: odd number of bases, that of the models.

    Returns:
        one text a row: the alphabetically first group of the family, index as the table's.
    """
    codes, groups = pd.factorize(table["group"], sort=True)
    if len(groups) < 2:
        return table["group"].copy()
    edges = np.concatenate([_near(table, codes, window), _alike(table, genome, codes, window)])
    links = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(groups), len(groups)))
    _, component = connected_components(links, directed=False)
    first = pd.Series(groups).groupby(component).transform("first").to_numpy()
    return pd.Series(first[codes], index=table.index, name="family")


def genomic_places(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Chromosome without "chr" and position of each variant on the genome, also where it stands in a construct."""
    chrom = table["genome_chrom"] if "genome_chrom" in table else table["chrom"]
    pos = table["genome_pos"] if "genome_pos" in table else table["pos"]
    return chrom.map(bare_contig), pos.astype("int64")


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
