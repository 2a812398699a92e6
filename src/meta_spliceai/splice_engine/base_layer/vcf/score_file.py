"""Reads a file of variants and writes the same file with scores.

Records are taken in blocks. Within a block the alleles of all records are scored together, ordered by gene and place so
that neighbours share work, and the records are written in the order in which they came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.block_convolution import Precision
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.base_layer.vcf import bgzf
from meta_spliceai.splice_engine.base_layer.vcf.info_field import InfoField, Reason, reason_of_allele
from meta_spliceai.splice_engine.base_layer.vcf.pass_through import Passed, PassThrough
from meta_spliceai.splice_engine.base_layer.vcf.precomputed import ScoreTable
from meta_spliceai.splice_engine.base_layer.vcf.text import Block, TextRecord, TextVariants, declared, info_safe
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import EXAMPLES_KEPT, Report, Totals
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import N_CODE, SequenceSource, decode, encode

_ROWS_AT_ONCE = 5_000_000
"""Positions (rows times window) scored in one call: bounds the memory that scores take."""

MISMATCHES_TO_STOP = 0.5
CHECKED_BEFORE_STOPPING = 100
"""From this many records on, more mismatches than that fraction mean another build."""


Scorer = Callable[[pd.DataFrame, GeneAnnotation, bool], BaseScores]
"""Scores rows (chrom, pos, ref, alt, strand, gene), neighbours side by side; `gene` names genes of the annotation. If
the last argument, `alone`, is true, scores must not depend on anything else (batch, threads, earlier calls)."""


@dataclass(frozen=True)
class Settings:
    """How a file is scored.

    Attributes:
        distance: positions to either side of a variant.
        mask: ignore gains of annotated sites and losses of others.
        strict: only what SpliceAI's own command scores, and no reasons in INFO.
        replace: overwrite INFO entries under the same key that the input already has.
        precision: of the products behind the scores (see `score_variants`).
    """

    distance: int = 50
    mask: bool = False
    strict: bool = False
    replace: bool = False
    precision: Precision = "fp32"


@dataclass(frozen=True, order=True)
class _Job:
    """One allele and one gene to be scored; in order, neighbours stand side by side. `key`: the gene's own name."""

    key: str
    pos: int
    ref: str
    alt: str
    chrom: str = field(compare=False)
    gene: Gene = field(compare=False)


def _table(jobs: Sequence[_Job]) -> pd.DataFrame:
    rows = [(job.chrom, job.pos, job.ref, job.alt, job.gene.strand, job.key) for job in jobs]
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "strand", "gene"])
    return table.assign(variant_id=[":".join(map(str, row)) for row in rows])


@dataclass
class _Planned:
    """What will be written behind one record: alleles, each with the rest of its entry or a job for it; and reasons."""

    record: TextRecord
    entries: list[tuple[str, str | _Job]] = field(default_factory=list)
    unscored: list[str] = field(default_factory=list)


@dataclass
class FileScorer:
    """Scores the records of one file.

    Attributes:
        flank: bases that the networks see on either side, for strict compatibility near a contig's end.
        precomputed: tables of scores; what the first of them has is not computed.
        totals: what was read and written so far.
    """

    genome: SequenceSource
    annotation: GeneAnnotation
    scorer: Scorer
    info: InfoField
    settings: Settings
    flank: int
    precomputed: Sequence[ScoreTable] = ()
    totals: Totals = field(default_factory=Totals)

    def __post_init__(self) -> None:
        genes = self.annotation
        # Two genes may have one name; to the scorer each has its own.
        self._keys = {gene: f"{gene.name}#{number}" for number, gene in enumerate(genes.genes)}
        named = [replace(gene, name=key) for gene, key in self._keys.items()]
        self._keyed = GeneAnnotation(named, genes.build, genes.name)
        self._lengths = self.genome.contigs()
        distance, strict = self.settings.distance, self.settings.strict
        margin = self.flank + distance if strict else 0
        self._pass_through = PassThrough(self.genome, genes, self.info, 2 * distance, margin, strict, self.precomputed)

    def header(self, source: TextVariants, provenance: Sequence[str]) -> bytes:
        """The output's header; an input that declares our INFO key already is refused, unless it is to be replaced."""
        if self.info.key in declared(source.header) and not self.settings.replace:
            raise InputError(
                f"{source.name} already declares INFO {self.info.key}; add --replace to overwrite such entries"
            )
        definitions = self.info.definitions()
        if self.settings.strict:
            del definitions[self.info.reason_key]
        if not self.precomputed:
            del definitions[self.info.source_key]
        return source.header_with(definitions, provenance)

    def block(self, block: Block) -> bytes:
        """The records' text with scores put in, in their order; ends the run where they are of another build."""
        passed = self._passed(block)
        others = np.delete(np.arange(len(block)), passed.rows)
        planned = [self._plan(block.record(row)) for row in others.tolist()]
        self._count(passed)
        self._stop_at_another_build()
        jobs = [rest for plan in planned for _, rest in plan.entries if isinstance(rest, _Job)]
        found = self._look_up(jobs) if self.precomputed else {}
        texts = found | self._score(set(jobs) - found.keys())
        return passed.text(block, others, [self._write(plan, texts, found) for plan in planned])

    def _passed(self, block: Block) -> Passed:
        """The lines that need no network."""
        passed = self._pass_through.find(block)
        # The examples of the reason are taken from records that are looked at one by one.
        missing = EXAMPLES_KEPT - len(self.totals.examples.get(Reason.NOT_IN_GENE, ()))
        return passed.where(passed.looked_up | (np.cumsum(~passed.looked_up) > missing)) if missing > 0 else passed

    def _count(self, passed: Passed) -> None:
        totals, found = self.totals, int(passed.alleles[passed.looked_up].sum())
        totals.records += len(passed.rows)
        totals.reference_checked += len(passed.rows)
        totals.alleles += int(passed.alleles.sum())
        totals.alleles_scored += found
        totals.scores += found
        totals.looked_up += found
        if outside := int(passed.alleles.sum()) - found:
            totals.unscored[Reason.NOT_IN_GENE] += outside

    def _look_up(self, jobs: list[_Job]) -> dict[_Job, str]:
        """Symbol, scores and positions of the jobs that a table has."""
        texts = {}
        for job in jobs:
            found = self._pass_through.look_up(job.chrom, job.pos, job.ref, job.alt, job.gene)
            if found is not None:
                texts[job] = found
                self.totals.looked_up += 1
        for table in self.precomputed:
            table.stop_at_another_build()
        return texts

    def _write(self, plan: _Planned, texts: Mapping[_Job, str], found: Mapping[_Job, str]) -> bytes:
        keys = (self.info.key, self.info.reason_key)
        held = plan.record.has_info(keys)
        if held and not self.settings.replace:
            raise InputError(
                f"line {plan.record.number} ({plan.record.chrom}:{plan.record.pos}) already has a {self.info.key} "
                "entry; add --replace to overwrite such entries"
            )
        self.totals.entries_replaced += held
        additions = []
        if plan.entries:
            entries = [f"{alt}|{texts[rest] if isinstance(rest, _Job) else rest}" for alt, rest in plan.entries]
            additions.append((self.info.key, ",".join(entries)))
            if self.precomputed:
                made = {True: "precomputed", False: "computed"}
                sources = [made[rest in found] if isinstance(rest, _Job) else "." for _, rest in plan.entries]
                additions.append((self.info.source_key, ",".join(sources)))
        if plan.unscored and not self.settings.strict:
            additions.append((self.info.reason_key, ",".join(plan.unscored)))
        return plan.record.with_info(additions, (*keys, self.info.source_key) if held else ())

    def _plan(self, record: TextRecord) -> _Planned:
        """Which alleles of a record are scored for which genes, and why the others are not."""
        plan, totals = _Planned(record), self.totals
        reason_of_record = self._reason_of_record(record)
        genes = [] if reason_of_record else self.annotation.overlapping(record.chrom, record.pos)
        ref = "" if reason_of_record else decode(encode(record.ref))
        totals.records += 1
        for alt in record.alts or (".",):
            totals.alleles += 1
            reason = reason_of_record or reason_of_allele(alt) or ("" if genes else Reason.NOT_IN_GENE)
            if not reason and self.settings.strict and len(ref) > 1 and len(alt) > 1:
                reason = Reason.DELINS
                plan.entries += [(alt, f"{info_safe(gene.name)}|{self.info.unscored()}") for gene in genes]
            if reason:
                totals.leave_out(f"{record.chrom}:{record.pos} {record.ref[:30]}>{alt[:30]}", reason)
                plan.unscored.append(f"{info_safe(alt)}||{reason.replace(' ', '_')}")
                continue
            totals.alleles_scored += 1
            totals.scores += len(genes)
            plan.entries += [
                (alt, _Job(self._keys[gene], record.pos, ref, alt.upper(), record.chrom, gene)) for gene in genes
            ]
        return plan

    def _reason_of_record(self, record: TextRecord) -> str:
        """Why no allele of the record can be scored, or "". Counts the comparison with the genome."""
        if not record.alts:
            return Reason.NO_ALTERNATIVE
        contig = self.genome.find(record.chrom)
        if contig is None:
            return Reason.CONTIG_ABSENT
        if not re.fullmatch(r"[ACGTNRYSWKMBDHVU]+", record.ref, re.IGNORECASE):
            return Reason.BAD_REFERENCE
        codes = encode(record.ref)
        start, end, length = record.pos - 1, record.pos - 1 + len(codes), self._lengths[contig]
        self.totals.reference_checked += 1
        there = self.genome.fetch(contig, start, end) if start >= 0 and end <= length else None
        if there is None or not np.array_equal(there, codes):
            if there is not None and (there == N_CODE).all():
                return Reason.NO_SEQUENCE
            self.totals.reference_mismatches += 1
            return Reason.MISMATCH
        if len(codes) > 2 * self.settings.distance:
            return Reason.TOO_LONG
        reach = self.flank + self.settings.distance
        if self.settings.strict and record.ref != record.ref.upper():
            return Reason.LOWER_CASE
        if self.settings.strict and (start - reach < 0 or start + reach + 1 > length):
            return Reason.NEAR_END
        return ""

    def _stop_at_another_build(self) -> None:
        checked, mismatched = self.totals.reference_checked, self.totals.reference_mismatches
        if checked >= CHECKED_BEFORE_STOPPING and mismatched > MISMATCHES_TO_STOP * checked:
            example = self.totals.examples[Reason.MISMATCH][0]
            raise InputError(
                f"{mismatched} of the first {checked} records have another reference base than {self.genome.name} "
                f"(first: {example}); variants and FASTA are of different builds: give the FASTA of the variants' build"
            )

    def _score(self, jobs: set[_Job]) -> dict[_Job, str]:
        """Symbol, scores and positions of each job."""
        texts: dict[_Job, str] = {}
        ordered = sorted(jobs)
        at_once = max(1, _ROWS_AT_ONCE // (2 * self.settings.distance + 1))
        for start in range(0, len(ordered), at_once):
            chunk = ordered[start : start + at_once]
            scores = self.scorer(_table(chunk), self._keyed, False)
            for place, job in enumerate(chunk):
                text, sure = self._render(scores, place, job)
                if not sure:
                    self.totals.computed_alone += 1
                    text, _ = self._render(self.scorer(_table([job]), self._keyed, True), 0, job)
                texts[job] = f"{info_safe(job.gene.name)}|{text}"
        return texts

    def _render(self, scores: BaseScores, row: int, job: _Job) -> tuple[str, bool]:
        turn = -1 if job.gene.strand == "-" else 1
        ref, alt = scores.ref[row][::turn], scores.alt[row][::turn]
        if self.settings.strict:
            alt = _as_spliceai_cuts(alt, len(job.ref) - len(job.alt))
        return self.info.render(alt - ref, job.gene, job.pos, self.settings.mask)


def _as_spliceai_cuts(
    alt: Float[np.ndarray, "positions channels"], deleted: int
) -> Float[np.ndarray, "positions channels"]:
    """Under strict compatibility: SpliceAI draws no bases in from the right for a deletion, so that one longer than the
    distance also takes away outputs on the left of the variant, which it fills with 0."""
    distance = len(alt) // 2
    if deleted > distance:
        alt = alt.copy()
        alt[len(alt) - deleted : distance + 1] = 0
    return alt


def score_stream(
    variants: TextVariants,
    scorer: FileScorer,
    sink: IO[bytes],
    packed: bool,
    provenance: list[str],
    report: Report | None,
) -> None:
    """Score to a stream, block by block; what was written cannot be taken back. Arguments as for `fill`."""
    pack = bgzf.compress if packed else bytes
    sink.write(pack(scorer.header(variants, provenance)))
    for block in variants.blocks():
        sink.write(pack(scorer.block(block)))
        sink.flush()
        if report is not None:
            report(scorer.totals)
    if packed:
        sink.write(bgzf.END_BLOCK)
    sink.flush()
