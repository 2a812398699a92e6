"""Does a split share between its parts what it promises to keep apart?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, LeakageError
from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.genome.sequence import SequenceSource
from meta_spliceai.splice_engine.variants.alleles import allele_keys
from meta_spliceai.splice_engine.variants.families import (
    NEAR_IDENTICAL,
    WindowKmers,
    exon_keys,
    gene_families,
    genomic_places,
    in_constructs,
    window_kmers,
)
from meta_spliceai.splice_engine.variants.splits import PARTS, UNITS, Split, split_digest
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING

LEAK, NOTE = "leak", "note"

EXAMPLES = 3

_MEANING = {
    "shared variants": "the same allele is in two parts",
    "shared sequences": "the same measured sequence is in two parts",
    "shared sites": "the same mutated site is in two parts",
    "shared groups": "the same group is in two parts",
    "shared exons": "variants of the same exon are in two parts",
    "shared genes": "variants of the same gene are in two parts",
    "shared chromosomes": "variants of the same chromosome are in two parts",
    "overlapping windows": "windows of two parts cover the same bases of the genome",
    "near-identical windows": "a window is seen in training, on either strand",
    "paralogs": "genes of alike sequence, or neighbours, are in two parts",
    "class imbalance": "a class is more than twice as frequent in one part as in another",
    "source imbalance": "the sources make up different shares of the parts",
    "source tells class": "a source's labelled variants are all of one class, so that knowing the source is enough",
    "single-member groups": "groups of one variant: intervals over groups rest on them as much as on large ones",
}

_ALWAYS = ("shared variants", "shared sequences")
_OF_EXONS = (*_ALWAYS, "shared exons", "overlapping windows", "near-identical windows")
_OF_GENES = (*_OF_EXONS, "shared groups", "shared genes", "paralogs")
_LEAKS = {
    "group": (*_ALWAYS, "shared groups"),
    "site": (*_ALWAYS, "shared sites"),
    "exon": _OF_EXONS,
    "gene": _OF_GENES,
    "chromosome": (*_OF_GENES, "shared chromosomes"),
}
"""What a split promises by its unit. Everything else that is shared is told as a note: it is by design, and a reader
must know it (a split by site tests new mutations of a known exon, not new exons)."""


@dataclass(frozen=True)
class Finding:
    """One thing the parts share, or one imbalance.

    Attributes:
        severity: "leak" (the split promised otherwise) or "note".
        count: rows concerned in the later of the two parts, or what the example says.
        examples: up to three, in words.
    """

    check: str
    severity: str
    count: int
    examples: tuple[str, ...]

    @property
    def meaning(self) -> str:
        """The check in words."""
        return _MEANING[self.check]


@dataclass(frozen=True)
class Audit:
    """All findings of one split, leaks first.

    Attributes:
        unit: what it promises to keep apart.
        not_done: checks that could not be made, and why.
    """

    split: str
    digest: str
    unit: str
    window: int
    findings: tuple[Finding, ...]
    not_done: tuple[str, ...] = ()

    @property
    def leaks(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == LEAK)

    def require_clean(self) -> None:
        """LeakageError if there is a leak; the message names each with a count and an example."""
        if not self.leaks:
            return
        told = "; ".join(f"{leak.count} {leak.check} (first {leak.examples[0]})" for leak in self.leaks)
        raise LeakageError(
            f"split {self.split} ({self.unit}) leaks: {told}; make the split by families (gene_families), or allow the "
            "leak in words and the result is branded"
        )

    def to_json(self) -> dict[str, object]:
        told = {**asdict(self), "not_done": list(self.not_done), "findings": [asdict(one) for one in self.findings]}
        return {**told, "clean": not self.leaks}


Found = list[tuple[str, int, tuple[str, ...]]]
"""Check, count and examples of findings whose severity is not yet said."""


def audit_split(table: pd.DataFrame, split: Split, genome: SequenceSource | None = None, window: int = 201) -> Audit:
    """Compare the parts of a split two by two.

    Checked: shared alleles (in construct and in genome coordinates), measured sequences, mutated sites, groups, exons,
    genes and chromosomes; overlapping windows; with a genome also near-identical windows on either strand (of windows
    longer than 401 bases, their middle) and paralogous genes; class and source imbalance; groups with one member.

    Args:
        genome: where windows come from; without it the two sequence checks are named as not done.
        window: odd number of bases, that of the model.
    """
    return audit_splits(table, [split], genome, window)[0]


def audit_splits(
    table: pd.DataFrame, splits: Sequence[Split], genome: SequenceSource | None = None, window: int = 201
) -> list[Audit]:
    """`audit_split` for several splits of one table (the folds of a cross-validation): sequence is compared once."""
    for split in splits:
        if split.unit not in UNITS:
            raise InputError(f"split {split.name}: unit '{split.unit}' is none of {', '.join(UNITS)}")
        if len(table) != len(split.parts) or split_digest(table, split.parts) != split.digest:
            raise InputError(f"split {split.name} was not made of these {len(table)} variants")
    seen = families = None
    if genome is not None:
        seen = window_kmers(table, genome, window)
        families = gene_families(table, genome, window, seen)
    return [_audited(table, split, seen, families, window) for split in splits]


def _audited(
    table: pd.DataFrame, split: Split, seen: WindowKmers | None, families: pd.Series | None, window: int
) -> Audit:
    used = np.flatnonzero(split.parts != "")
    rows = table.iloc[used].reset_index(drop=True)
    parts = split.parts[used]
    found = [*_shared(rows, parts), *_overlapping(rows, parts, window)]
    not_done: tuple[str, ...] = ()
    if seen is None or families is None:
        not_done = ("near-identical windows: no sequence at hand", "paralogs: no sequence at hand")
    else:
        found += _near_identical(table, split.parts, seen)
        if split.unit != "site":  # its groups are sites of one exon, not genes
            found += _paralogs(rows, parts, families.iloc[used].reset_index(drop=True))
    found += _imbalances(rows, parts)
    single = sorted(rows["group"][~rows["group"].duplicated(keep=False)].astype(str))
    if single:
        found.append(("single-member groups", len(single), tuple(single[:EXAMPLES])))
    findings = [
        Finding(check, LEAK if check in _LEAKS[split.unit] else NOTE, count, examples)
        for check, count, examples in found
    ]
    findings.sort(key=lambda finding: finding.severity != LEAK)
    return Audit(split.name, split.digest, split.unit, window, tuple(findings), not_done)


def _pairs(parts: np.ndarray) -> Iterator[tuple[str, str]]:
    return combinations([part for part in PARTS if (parts == part).any()], 2)


def _told(check: str, hits: np.ndarray, words: Iterable[str]) -> Found:
    return [(check, int(hits.sum()), tuple(words)[:EXAMPLES])] if hits.any() else []


def _shared(rows: pd.DataFrame, parts: np.ndarray) -> Found:
    """Keys that rows of two parts have; a row may have several keys of a kind, and "" is none."""
    chrom, place = genomic_places(rows)
    alleles = [allele_keys(rows)]
    if "genome_pos" in rows:
        alleles.append(chrom + ":" + place.astype(str) + ":" + _change(rows))
    keys = {"shared variants": pd.concat(alleles)}
    if "sequence" in rows:
        keys["shared sequences"] = rows["sequence"]
    if "sites_mutated" in rows:
        keys["shared sites"] = "site " + rows["sites_mutated"].astype(str).str.split(";").explode()
    keys |= {"shared groups": rows["group"], "shared exons": exon_keys(rows), "shared genes": rows["gene"]}
    keys["shared chromosomes"] = chrom
    found: Found = []
    for check, values in keys.items():
        part_of_key = parts[values.index]
        hits = np.zeros(len(rows), dtype=bool)
        words: list[str] = []
        for one, two in _pairs(parts):
            common = (set(values[part_of_key == one]) & set(values[part_of_key == two])) - {""}
            hits[values.index[(part_of_key == two) & values.isin(common)]] = True
            words += [f"{value} in {one} and {two}" for value in sorted(common)[:EXAMPLES]]
        found += _told(check, hits, dict.fromkeys(words))
    return found


def _change(rows: pd.DataFrame) -> pd.Series:
    """The alleles, the same for either strand: the smaller of the change and its complement."""
    complement = str.maketrans("ACGT", "TGCA")
    turned = [rows[allele].str.translate(complement).str[::-1] for allele in ("ref", "alt")]
    return pd.concat([rows["ref"] + ">" + rows["alt"], turned[0] + ">" + turned[1]], axis=1).min(axis=1)


def _overlapping(rows: pd.DataFrame, parts: np.ndarray, window: int) -> Found:
    """Rows with a row of an earlier part nearer than a window, in the coordinates the windows are cut in and, for
    constructs, on the genome as well: two constructs may hold the same bases."""
    places = [(rows["chrom"].map(bare_contig), rows["pos"])]
    if in_constructs(rows).any():
        places.append(genomic_places(rows))
    hits = np.zeros(len(rows), dtype=bool)
    words: list[str] = []
    for chrom, column in places:
        contig, contigs = pd.factorize(chrom)
        pos = column.to_numpy(dtype=np.int64)
        # one number line: contigs far enough apart that windows of two never meet
        line = contig.astype(np.int64) * (int(pos.max()) + 2 * window) + pos
        for one, two in _pairs(parts):
            earlier = np.sort(line[parts == one])
            later = np.flatnonzero(parts == two)
            at = np.searchsorted(earlier, line[later] - window, side="right")
            near = (at < len(earlier)) & (earlier[np.minimum(at, len(earlier) - 1)] < line[later] + window)
            hits[later[near]] = True
            words += [
                f"{rows['variant_id'][row]} ({contigs[contig[row]]}:{pos[row]}) of {two} with {one}"
                for row in later[near][:EXAMPLES]
            ]
    return _told("overlapping windows", hits, words)


def _near_identical(table: pd.DataFrame, parts: np.ndarray, seen: WindowKmers) -> Found:
    """Windows of a later part whose k-mers nearly all occur in those of an earlier one."""
    part_of_kmer = parts[seen.rows]
    total = np.bincount(seen.rows, minlength=len(table))
    hits = np.zeros(len(table), dtype=bool)
    told = []
    for one, two in _pairs(parts):
        earlier, mine = np.unique(seen.kmers[part_of_kmer == one]), part_of_kmer == two
        if not len(earlier):
            continue
        at = np.minimum(np.searchsorted(earlier, seen.kmers[mine]), len(earlier) - 1)
        known = earlier[at] == seen.kmers[mine]
        share = np.bincount(seen.rows[mine], weights=known, minlength=len(table)) / np.maximum(total, 1)
        here = (parts == two) & (share >= NEAR_IDENTICAL)
        hits |= here
        told += [
            f"{table['variant_id'].iloc[row]} of {two}: {share[row]:.0%} of its k-mers are in {one}"
            for row in np.flatnonzero(here)[:EXAMPLES]
        ]
    return _told("near-identical windows", hits, told)


def _paralogs(rows: pd.DataFrame, parts: np.ndarray, families: pd.Series) -> Found:
    """Different groups of one family in two parts."""
    frame = pd.DataFrame({"family": families, "group": rows["group"], "part": parts})
    several = frame.groupby("family")["group"].transform("nunique") > 1
    hits = np.zeros(len(rows), dtype=bool)
    told = []
    for _, family in frame[several].groupby("family"):
        members = family.groupby("part")["group"].agg(set).to_dict()
        for one, two in _pairs(family["part"].to_numpy()):
            strangers = members[two] - members[one]
            if strangers:
                hits[family.index[(family["part"] == two) & family["group"].isin(strangers)]] = True
                told.append(f"{min(strangers)} of {two} and {min(members[one])} of {one}")
    return _told("paralogs", hits, told)


def _imbalances(rows: pd.DataFrame, parts: np.ndarray) -> Found:
    found: Found = []
    labels, sources = rows["classification"].to_numpy(), rows["source"].to_numpy()
    labelled = np.isin(labels, (SPLICE_ALTERING, NORMAL))
    there = [part for part in PARTS if (labelled & (parts == part)).any()]
    shares = {part: float((labels[labelled & (parts == part)] == SPLICE_ALTERING).mean()) for part in there}
    for name, of in ((SPLICE_ALTERING, shares), (NORMAL, {part: 1 - share for part, share in shares.items()})):
        if of and max(of.values()) > 2 * min(of.values()):
            told = ", ".join(f"{part} {share:.1%}" for part, share in of.items())
            found.append(("class imbalance", 1, (f"{name}: {told} of the labelled",)))
    names = sorted(set(sources))
    make_up = {part: np.array([(sources[parts == part] == name).mean() for name in names]) for part in there}
    for one, two in combinations(there, 2):
        apart = np.abs(make_up[one] - make_up[two])
        if float(apart.sum() / 2) > 0.2:
            at = int(apart.argmax())
            told = f"{names[at]}: {make_up[one][at]:.0%} of {one}, {make_up[two][at]:.0%} of {two}"
            found.append(("source imbalance", 1, (told,)))
    if len(names) > 1:
        counts = pd.crosstab(sources[labelled], labels[labelled])
        lonely = counts[(counts.sum(axis="columns") >= 20) & ((counts > 0).sum(axis="columns") == 1)]
        if len(lonely):
            words = tuple(
                f"{name}: only {lonely.columns[(row > 0).to_numpy()][0]} ({row.sum()})"
                for name, row in lonely.iterrows()
            )
            found.append(("source tells class", int(lonely.to_numpy().sum()), words[:EXAMPLES]))
    return found
