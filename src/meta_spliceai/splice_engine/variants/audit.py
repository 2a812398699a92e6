"""Does a split share between its parts what it promises to keep apart?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, LeakageError
from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.genome.source import SequenceSource
from meta_spliceai.splice_engine.variants.families import (
    NEAR_IDENTICAL,
    WindowWords,
    gene_families,
    genomic_places,
    in_constructs,
    window_words,
)
from meta_spliceai.splice_engine.variants.merge import allele_keys
from meta_spliceai.splice_engine.variants.splits import PARTS, TEST, TRAIN, UNITS, VALIDATION, Split, split_digest
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
_LEAKS: dict[str, tuple[str, ...]] = {
    "group": (*_ALWAYS, "shared groups"),
    "site": (*_ALWAYS, "shared sites"),
    "exon": (*_ALWAYS, "shared exons", "overlapping windows", "near-identical windows"),
    "gene": (
        *_ALWAYS, "shared groups", "shared genes", "shared exons", "overlapping windows", "near-identical windows",
        "paralogs",
    ),
    "chromosome": (
        *_ALWAYS, "shared chromosomes", "shared groups", "shared genes", "shared exons", "overlapping windows",
        "near-identical windows", "paralogs",
    ),
}  # fmt: skip
"""What a split promises by its unit. Everything else that is shared is told as a note: it is by design, and a reader
must know it (a split by site tests new mutations of a known exon, not new exons)."""


@dataclass(frozen=True)
class Finding:
    """One thing the parts share, or one imbalance.

    Attributes:
        check: its name.
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
    """All findings of one split.

    Attributes:
        split: its name.
        digest: its hash.
        unit: what it promises to keep apart.
        window: bases of the windows compared.
        findings: leaks first.
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
        """Findings that break the split's promise."""
        return tuple(finding for finding in self.findings if finding.severity == LEAK)

    def require_clean(self) -> None:
        """Nothing, if there is no leak.

        Raises:
            LeakageError: there is one; the message names each with a count and an example.
        """
        if not self.leaks:
            return
        told = "; ".join(f"{leak.count} {leak.check} (first {leak.examples[0]})" for leak in self.leaks)
        raise LeakageError(
            f"split {self.split} ({self.unit}) leaks: {told}; make the split by families (gene_families), or allow the "
            "leak in words and the result is branded"
        )

    def to_frame(self) -> pd.DataFrame:
        """One line a finding."""
        return pd.DataFrame(
            [(f.severity, f.check, f.count, f.meaning, "; ".join(f.examples)) for f in self.findings],
            columns=["severity", "check", "count", "meaning", "examples"],
        )

    def to_json(self) -> dict[str, object]:
        """Plain values, for a run's data.json."""
        return {
            "split": self.split,
            "digest": self.digest,
            "unit": self.unit,
            "window": self.window,
            "clean": not self.leaks,
            "not_done": list(self.not_done),
            "findings": [
                {"check": f.check, "severity": f.severity, "count": f.count, "examples": list(f.examples)}
                for f in self.findings
            ],
        }


@dataclass(frozen=True)
class _Sequences:
    """What the audits of one table's splits share: the words of its windows, and its families."""

    seen: WindowWords
    families: pd.Series


def audit_split(table: pd.DataFrame, split: Split, genome: SequenceSource | None = None, window: int = 201) -> Audit:
    """Compare the parts of a split two by two.

    Checked: shared alleles (in construct and in genome coordinates), measured sequences, mutated sites, groups, exons,
    genes and chromosomes; overlapping windows; with a genome also near-identical windows on either strand (of windows
    longer than 401 bases, their middle) and paralogous genes; class and source imbalance; groups with one member.

    Args:
        table: the split's variants, in its order.
        split: the split.
        genome: where windows come from; without it the two sequence checks are named as not done.
        window: odd number of bases, that of the model.

    Raises:
        InputError: the split is of another table, or has an unknown unit.
    """
    return audit_splits(table, [split], genome, window)[0]


def audit_splits(
    table: pd.DataFrame, splits: Sequence[Split], genome: SequenceSource | None = None, window: int = 201
) -> list[Audit]:
    """`audit_split` for several splits of one table (the folds of a cross-validation): sequence is compared once.

    Args, Raises: as `audit_split`.
    """
    for split in splits:
        if split.unit not in UNITS:
            raise InputError(f"split {split.name}: unit '{split.unit}' is none of {', '.join(UNITS)}")
        if len(table) != len(split.parts) or split_digest(table, split.parts) != split.digest:
            raise InputError(f"split {split.name} was not made of these {len(table)} variants")
    sequences = None
    if genome is not None:
        seen = window_words(table, genome, window)
        sequences = _Sequences(seen, gene_families(table, genome, window, seen))
    return [_audited(table, split, sequences, window) for split in splits]


def _audited(table: pd.DataFrame, split: Split, sequences: _Sequences | None, window: int) -> Audit:
    used = np.flatnonzero(split.parts != "")
    rows = table.iloc[used].reset_index(drop=True)
    parts = split.parts[used]
    found: list[tuple[str, int, tuple[str, ...]]] = [*_shared(rows, parts), *_overlapping(rows, parts, window)]
    not_done: tuple[str, ...] = ()
    if sequences is None:
        not_done = ("near-identical windows: no sequence at hand", "paralogs: no sequence at hand")
    else:
        found += _near_identical(table, split.parts, sequences)
        if split.unit != "site":  # its groups are sites of one exon, not genes
            found += _paralogs(rows, parts, sequences.families.iloc[used].reset_index(drop=True))
    found += [*_imbalances(rows, parts), *_single_members(rows)]
    findings = [
        Finding(check, LEAK if check in _LEAKS[split.unit] else NOTE, count, examples)
        for check, count, examples in found
    ]
    findings.sort(key=lambda finding: finding.severity != LEAK)
    return Audit(split.name, split.digest, split.unit, window, tuple(findings), not_done)


def _pairs(parts: np.ndarray) -> Iterator[tuple[str, str]]:
    there = [part for part in PARTS if (parts == part).any()]
    for at, one in enumerate(there):
        for two in there[at + 1 :]:
            yield one, two


def _told(check: str, hits: np.ndarray, words: Iterable[str]) -> list[tuple[str, int, tuple[str, ...]]]:
    if not hits.any():
        return []
    return [(check, int(hits.sum()), tuple(words)[:EXAMPLES])]


def _shared(rows: pd.DataFrame, parts: np.ndarray) -> list[tuple[str, int, tuple[str, ...]]]:
    """Equal values of a key in two parts."""
    chrom, place = genomic_places(rows)
    keys: dict[str, list[pd.Series]] = {"shared variants": [allele_keys(rows)]}
    if "genome_pos" in rows:
        keys["shared variants"].append(chrom + ":" + place.astype(str) + ":" + _change(rows))
    if "sequence" in rows:
        keys["shared sequences"] = [rows["sequence"]]
    if "sites_mutated" in rows:
        keys["shared sites"] = []
    keys["shared groups"] = [rows["group"]]
    known = rows["acceptor_pos"].notna() & rows["donor_pos"].notna()
    exons = (
        rows["chrom"].map(bare_contig) + ":" + rows["acceptor_pos"].astype(str) + "-" + rows["donor_pos"].astype(str)
    )
    keys["shared exons"] = [exons.where(known, "")]
    keys["shared genes"] = [rows["gene"]]
    keys["shared chromosomes"] = [chrom]
    found = []
    for check, columns in keys.items():
        hits = np.zeros(len(rows), dtype=bool)
        words: list[str] = []
        if check == "shared sites":
            hits, words = _shared_sites(rows, parts)
        for column in columns:
            values = column.to_numpy(dtype=object)
            for one, two in _pairs(parts):
                common = (set(values[parts == one]) & set(values[parts == two])) - {""}
                here = np.isin(values, list(common)) & (parts == two) if common else np.zeros(len(rows), dtype=bool)
                hits |= here
                words += [f"{value} in {one} and {two}" for value in sorted(map(str, common))[:EXAMPLES]]
        found += _told(check, hits, dict.fromkeys(words))
    return found


def _change(rows: pd.DataFrame) -> pd.Series:
    """The alleles, the same for either strand: the smaller of the change and its complement."""
    complement = str.maketrans("ACGT", "TGCA")
    pairs = []
    for ref, alt in zip(rows["ref"], rows["alt"], strict=True):
        turned = f"{ref.translate(complement)[::-1]}>{alt.translate(complement)[::-1]}"
        pairs.append(min(f"{ref}>{alt}", turned))
    return pd.Series(pairs, index=rows.index)


def _shared_sites(rows: pd.DataFrame, parts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    seen: dict[str, set[str]] = {}
    listed = [str(text).split(";") for text in rows["sites_mutated"]]
    for sites, part in zip(listed, parts, strict=True):
        for site in sites:
            seen.setdefault(site, set()).add(str(part))
    several = {site for site, where in seen.items() if len(where) > 1}
    hits = np.array([part != TRAIN and bool(several & set(sites)) for sites, part in zip(listed, parts, strict=True)])
    return hits, [f"site {site} in {' and '.join(sorted(seen[site]))}" for site in sorted(several)]


def _overlapping(rows: pd.DataFrame, parts: np.ndarray, window: int) -> list[tuple[str, int, tuple[str, ...]]]:
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


def _near_identical(
    table: pd.DataFrame, parts: np.ndarray, sequences: _Sequences
) -> list[tuple[str, int, tuple[str, ...]]]:
    """Windows of a later part whose words nearly all occur in those of an earlier one."""
    words, of_row = sequences.seen.words, sequences.seen.rows
    part_of_word = parts[of_row]
    total = np.bincount(of_row, minlength=len(table))
    hits = np.zeros(len(table), dtype=bool)
    told = []
    for one, two in _pairs(parts):
        earlier = np.unique(words[part_of_word == one])
        mine = part_of_word == two
        if not len(earlier) or not mine.any():
            continue
        at = np.minimum(np.searchsorted(earlier, words[mine]), len(earlier) - 1)
        seen = np.bincount(of_row[mine], weights=earlier[at] == words[mine], minlength=len(table))
        share = seen / np.maximum(total, 1)
        here = (parts == two) & (total > 0) & (share >= NEAR_IDENTICAL)
        hits |= here
        told += [
            f"{table['variant_id'].iloc[row]} of {two}: {share[row]:.0%} of its words are in {one}"
            for row in np.flatnonzero(here)[:EXAMPLES]
        ]
    return _told("near-identical windows", hits, told)


def _paralogs(rows: pd.DataFrame, parts: np.ndarray, families: pd.Series) -> list[tuple[str, int, tuple[str, ...]]]:
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


def _imbalances(rows: pd.DataFrame, parts: np.ndarray) -> list[tuple[str, int, tuple[str, ...]]]:
    found: list[tuple[str, int, tuple[str, ...]]] = []
    labels, sources = rows["classification"].to_numpy(), rows["source"].to_numpy()
    labelled = np.isin(labels, (SPLICE_ALTERING, NORMAL))
    there = [part for part in (TRAIN, VALIDATION, TEST) if (labelled & (parts == part)).any()]
    shares = {part: float((labels[labelled & (parts == part)] == SPLICE_ALTERING).mean()) for part in there}
    for name, of in ((SPLICE_ALTERING, shares), (NORMAL, {part: 1 - share for part, share in shares.items()})):
        if of and max(of.values()) > 2 * min(of.values()):
            told = ", ".join(f"{part} {share:.1%}" for part, share in of.items())
            found.append(("class imbalance", 1, (f"{name}: {told} of the labelled",)))
    names = sorted(set(sources))
    make_up = {part: np.array([(sources[parts == part] == name).mean() for name in names]) for part in there}
    for one, two in _pairs(parts):
        if one in make_up and two in make_up:
            distance = float(np.abs(make_up[one] - make_up[two]).sum() / 2)
            if distance > 0.2:
                at = int(np.abs(make_up[one] - make_up[two]).argmax())
                found.append(
                    (
                        "source imbalance",
                        1,
                        (f"{names[at]}: {make_up[one][at]:.0%} of {one}, {make_up[two][at]:.0%} of {two}",),
                    )
                )
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


def _single_members(rows: pd.DataFrame) -> list[tuple[str, int, tuple[str, ...]]]:
    counts = rows["group"].value_counts()
    single = counts[counts == 1]
    return (
        [("single-member groups", len(single), tuple(sorted(map(str, single.index))[:EXAMPLES]))] if len(single) else []
    )
