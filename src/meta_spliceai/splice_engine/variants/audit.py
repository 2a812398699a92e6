"""Does a split share between its parts what it promises to keep apart?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Bool

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
    window_kmers,
)
from meta_spliceai.splice_engine.variants.splits import PARTS, Split, split_digest
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
        if split.unit not in _LEAKS:
            raise InputError(f"split {split.name}: unit '{split.unit}' is none of {', '.join(_LEAKS)}")
        if len(table) != len(split.parts) or split_digest(table, split.parts) != split.digest:
            raise InputError(f"split {split.name} was not made of these {len(table)} variants")
    rows = table.reset_index(drop=True)
    compared = {check: _of_keys(keys) for check, keys in _keys(rows).items()}
    compared["overlapping windows"] = _overlapping(rows, window)
    not_done: tuple[str, ...] = ("near-identical windows: no sequence at hand", "paralogs: no sequence at hand")
    if genome is not None:
        seen = window_kmers(rows, genome, window)
        compared["near-identical windows"] = _near_identical(rows, seen)
        compared["paralogs"] = _paralogs(rows, gene_families(rows, genome, window, seen))
        not_done = ()
    return [_audited(rows, split, compared, window, not_done) for split in splits]


Mask = Bool[np.ndarray, " rows"]
Shared = Callable[[Mask, Mask], tuple[Mask, list[str]]]
"""From the rows of an earlier and of a later part: the later one's rows that share something, and what, in words."""


def _audited(
    table: pd.DataFrame, split: Split, compared: Mapping[str, Shared], window: int, not_done: tuple[str, ...]
) -> Audit:
    findings = []

    def add(check: str, count: int, examples: Iterable[str]) -> None:
        severity = LEAK if check in _LEAKS[split.unit] else NOTE
        findings.append(Finding(check, severity, count, tuple(dict.fromkeys(examples))[:EXAMPLES]))

    there = [part for part in PARTS if (split.parts == part).any()]
    for check, shared_by in compared.items():
        if check == "paralogs" and split.unit == "site":  # its groups are sites of one exon, not genes
            continue
        hits, words = np.zeros(len(table), dtype=bool), []
        for one, two in combinations(there, 2):
            shared, told = shared_by(split.parts == one, split.parts == two)
            hits |= shared
            words += [f"{text} in {one} and {two}" for text in told[:EXAMPLES]]
        if hits.any():
            add(check, int(hits.sum()), words)
    used = split.parts != ""
    for check, count, examples in _imbalances(table[used], split.parts[used]):
        add(check, count, examples)
    groups = table["group"][used]
    if len(single := sorted(groups[~groups.duplicated(keep=False)].astype(str))):
        add("single-member groups", len(single), single)
    findings.sort(key=lambda finding: finding.severity != LEAK)
    return Audit(split.name, split.digest, split.unit, window, tuple(findings), not_done)


def _keys(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """What variants of two parts may have in common; a row may have several keys of a kind, and "" is none."""
    chrom, place = genomic_places(rows)
    alleles = [allele_keys(rows)]
    if "genome_pos" in rows:
        # the same for either strand: the smaller of the change and its complement
        complement = str.maketrans("ACGT", "TGCA")
        ref, alt = (rows[allele].str.translate(complement).str[::-1] for allele in ("ref", "alt"))
        change = pd.concat([rows["ref"] + ">" + rows["alt"], ref + ">" + alt], axis=1).min(axis=1)
        alleles.append(chrom + ":" + place.astype(str) + ":" + change)
    keys = {"shared variants": pd.concat(alleles)}
    if "sequence" in rows:
        keys["shared sequences"] = rows["sequence"]
    if "sites_mutated" in rows:
        keys["shared sites"] = "site " + rows["sites_mutated"].astype(str).str.split(";").explode()
    keys |= {"shared groups": rows["group"], "shared exons": exon_keys(rows), "shared genes": rows["gene"]}
    return {**keys, "shared chromosomes": chrom}


def _of_keys(keys: pd.Series) -> Shared:
    def shared_by(one: Mask, two: Mask) -> tuple[Mask, list[str]]:
        later = two[keys.index]
        common = (set(keys[one[keys.index]]) & set(keys[later])) - {""}
        hits = np.zeros(len(two), dtype=bool)
        hits[keys.index[later & keys.isin(common)]] = True
        return hits, sorted(map(str, common))

    return shared_by


def _overlapping(rows: pd.DataFrame, window: int) -> Shared:
    """Rows with a row of an earlier part nearer than a window, in the coordinates the windows are cut in and, for
    constructs, on the genome as well: two constructs may hold the same bases."""
    lines = []  # one number line: contigs far enough apart that windows of two never meet
    for chrom, pos in ((rows["chrom"].map(bare_contig), rows["pos"]), genomic_places(rows)):
        lines.append(pd.factorize(chrom)[0].astype(np.int64) * (int(pos.max()) + 2 * window) + pos.to_numpy(np.int64))

    def shared_by(one: Mask, two: Mask) -> tuple[Mask, list[str]]:
        hits = np.zeros(len(rows), dtype=bool)
        for line in lines:
            earlier = np.sort(line[one])
            at = np.searchsorted(earlier, line - window, side="right")
            hits |= two & (at < len(earlier)) & (earlier[np.minimum(at, len(earlier) - 1)] < line + window)
        named = rows[hits][:EXAMPLES]
        return hits, [f"{row.variant_id} ({row.chrom}:{row.pos})" for row in named.itertuples()]

    return shared_by


def _near_identical(rows: pd.DataFrame, seen: WindowKmers) -> Shared:
    """Windows of a later part whose k-mers nearly all occur in those of an earlier one."""
    total = np.maximum(np.bincount(seen.rows, minlength=len(rows)), 1)

    def shared_by(one: Mask, two: Mask) -> tuple[Mask, list[str]]:
        earlier, mine = np.unique(seen.kmers[one[seen.rows]]), two[seen.rows]
        known = np.isin(seen.kmers[mine], earlier)
        share = np.bincount(seen.rows[mine], weights=known, minlength=len(rows)) / total
        hits = two & (share >= NEAR_IDENTICAL)
        examples = np.flatnonzero(hits)[:EXAMPLES]
        return hits, [f"{share[row]:.0%} of the k-mers of {rows['variant_id'].iloc[row]}" for row in examples]

    return shared_by


def _paralogs(rows: pd.DataFrame, families: pd.Series) -> Shared:
    """Different groups of one family in two parts."""
    family, group = families.to_numpy(), rows["group"]

    def shared_by(one: Mask, two: Mask) -> tuple[Mask, list[str]]:
        earlier, later = (group[part].groupby(family[part]).agg(set) for part in (one, two))
        hits, told = np.zeros(len(rows), dtype=bool), []
        for name in earlier.index.intersection(later.index):
            if strangers := later[name] - earlier[name]:
                hits |= two & (family == name) & group.isin(strangers).to_numpy()
                told.append(f"{min(earlier[name])} and {min(strangers)}")
        return hits, told

    return shared_by


def _imbalances(rows: pd.DataFrame, parts: np.ndarray) -> Iterator[tuple[str, int, list[str]]]:
    """Check, count and examples of what is spread unevenly over the parts."""
    labels, sources = rows["classification"].to_numpy(), rows["source"].to_numpy()
    labelled = np.isin(labels, (SPLICE_ALTERING, NORMAL))
    there = [part for part in PARTS if (labelled & (parts == part)).any()]
    shares = {part: float((labels[labelled & (parts == part)] == SPLICE_ALTERING).mean()) for part in there}
    for name, of in ((SPLICE_ALTERING, shares), (NORMAL, {part: 1 - share for part, share in shares.items()})):
        if of and max(of.values()) > 2 * min(of.values()):
            told = ", ".join(f"{part} {share:.1%}" for part, share in of.items())
            yield "class imbalance", 1, [f"{name}: {told} of the labelled"]
    names = sorted(set(sources))
    make_up = {part: np.array([(sources[parts == part] == name).mean() for name in names]) for part in there}
    for one, two in combinations(there, 2):
        apart = np.abs(make_up[one] - make_up[two])
        if float(apart.sum() / 2) > 0.2:
            at = int(apart.argmax())
            told = f"{names[at]}: {make_up[one][at]:.0%} of {one}, {make_up[two][at]:.0%} of {two}"
            yield "source imbalance", 1, [told]
    if len(names) > 1:
        counts = pd.crosstab(sources[labelled], labels[labelled])
        lonely = counts[(counts.sum(axis="columns") >= 20) & ((counts > 0).sum(axis="columns") == 1)]
        if len(lonely):
            words = [
                f"{name}: only {lonely.columns[(row > 0).to_numpy()][0]} ({row.sum()})"
                for name, row in lonely.iterrows()
            ]
            yield "source tells class", int(lonely.to_numpy().sum()), words
