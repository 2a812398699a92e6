"""How many variants a row has, in which classes and chromosomes, and how near they lie to each other."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass

import pandas as pd

from meta_spliceai import datasets
from meta_spliceai.errors import IntegrityError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.run.prepare import load_rows_of
from meta_spliceai.experiments.spec.experiment import DataSpec, ExperimentSpec
from meta_spliceai.files import cached_json
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING

NEAR = 1000  # variants at most so far apart share the reference's activations in base scoring

SPLICEAI_HELD_OUT = ("1", "3", "5", "7", "9")
"""Chromosomes that SpliceAI's networks never saw, the test of split 'spliceai-clean' (Jaganathan et al. 2019)."""


@dataclass(frozen=True)
class DataFacts:
    """A data set in numbers.

    Attributes:
        by_chromosome: for each chromosome, variants of each class.
        neighbourhoods: groups of variants that share a reference in base scoring.
        spread: bases between the first and the last variant of each neighbourhood, summed.
        load_seconds: processor seconds that reading it took; 0 where it was not read.
        source: where the numbers are from, in words.
        exact: whether they were counted, not declared.
    """

    rows: int
    by_chromosome: dict[str, dict[str, int]]
    neighbourhoods: int
    spread: int
    load_seconds: float
    source: str
    exact: bool

    def of_class(self, *classes: str) -> int:
        return sum(counts.get(name, 0) for counts in self.by_chromosome.values() for name in classes)


@dataclass(frozen=True)
class Parts:
    """What a row trains on and is evaluated on.

    Attributes:
        rows: variants in the row's table (base scores, windows and predictions are made for all of them).
        folds: labelled variants in the train and in the validation part of every model that is trained.
        tested: variants in the test parts.
        neighbourhoods, spread: see `DataFacts`, for the rows drawn.
    """

    rows: int
    folds: tuple[tuple[int, int], ...]
    tested: int
    neighbourhoods: int = 0
    spread: int = 0


def facts_of(wanted: DataSpec) -> DataFacts:
    """The data set in numbers, whatever a row draws from it: counted once and kept in the cache; where its files are
    not at hand, as declared. InputError: an unknown data set or option."""
    described, paths = datasets.get(wanted.name), [value for value in wanted.options.values() if isinstance(value, str)]
    files = [(path, os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in paths if os.path.isfile(path)]
    # Where files are looked for decides how much there is.
    mirror = os.environ.get("META_SPLICEAI_MIRROR", "")
    made_from = [wanted.name, dict(wanted.options), described.checksums, mirror, NEAR, files]
    try:
        return DataFacts(**cached_json("plan/data", made_from, lambda: asdict(_count(wanted))))
    except (MissingResourceError, MissingExtraError, IntegrityError) as error:
        rows = max(1, described.rows)
        half = {SPLICE_ALTERING: rows // 2, NORMAL: rows - rows // 2}
        why = f"{rows:,} variants as declared, an upper bound; not at hand: {error}"
        return DataFacts(rows, {"all": half}, rows, 0, 0.0, why, False)


def _count(wanted: DataSpec) -> DataFacts:
    started = time.process_time()  # of the processor: how busy this computer is says nothing about another one
    loaded = load_rows_of(wanted.model_copy(update={"rows": None, "labelled_only": False, "balanced": False}))
    seconds = round(time.process_time() - started, 3)
    table = loaded.variants
    # Constructs have contigs of their own; the chromosome of the genome decides about splits.
    chroms = table["genome_chrom"] if "genome_chrom" in table else table["chrom"]
    by_chromosome = {
        str(chrom): {str(name): int(n) for name, n in rows.value_counts().items()}
        for chrom, rows in table["classification"].groupby(chroms.astype(str).str.removeprefix("chr"))
    }
    source = f"{len(table):,} variants counted in {loaded.dataset.name}"
    return DataFacts(len(table), by_chromosome, *_neighbourhoods(table), seconds, source, True)


def _neighbourhoods(table: pd.DataFrame) -> tuple[int, int]:
    ordered = table.sort_values(["chrom", "strand", "gene", "pos"])
    gene = ordered.groupby(["chrom", "strand", "gene"], dropna=False).ngroup()
    steps = ordered["pos"].diff()
    joined = (gene.diff() == 0) & (steps <= NEAR)
    return int((~joined).sum()), int(steps[joined].sum())


def parts_of(spec: ExperimentSpec, facts: DataFacts) -> Parts:
    """What a row trains on, from its data set's numbers and its split.

    The split itself is not made: groups are taken to fall into parts in their shares, which a real split follows to a
    few per cent.
    """
    data, rows = spec.data, facts.rows
    if data.balanced:
        rows = 2 * min(facts.of_class(SPLICE_ALTERING), facts.of_class(NORMAL))
    elif data.labelled_only:
        rows = facts.of_class(SPLICE_ALTERING, NORMAL)
    drawn = min(rows, data.rows or rows)
    share = drawn / max(1, rows)
    labelled = _labelled(spec, facts) / max(1, rows if data.labelled_only else facts.rows)
    shares = _shares(spec, facts)
    folds = tuple((round(drawn * labelled * train), round(drawn * labelled * val)) for train, val, _ in shares)
    tested = round(drawn * min(1.0, sum(test for _, _, test in shares)))
    # Of neighbours drawn at random fewer remain near each other.
    alone = facts.neighbourhoods + (facts.rows - facts.neighbourhoods) * (1 - share)
    neighbourhoods = max(1, round(min(drawn, alone * drawn / max(1, facts.rows))))
    return Parts(drawn, folds, tested, neighbourhoods, round(facts.spread * share))


def _labelled(spec: ExperimentSpec, facts: DataFacts) -> int:
    """Variants the target can use."""
    if spec.target in ("effect-type", "position"):
        return facts.of_class(SPLICE_ALTERING)
    return facts.rows if spec.target == "magnitude" else facts.of_class(SPLICE_ALTERING, NORMAL)


def _shares(spec: ExperimentSpec, facts: DataFacts) -> list[tuple[float, float, float]]:
    """Train, validation and test of every model, as shares of the rows."""
    split = spec.split
    train, validation, test = split.fractions
    of_rest = validation / (train + validation)
    sizes = {chrom: sum(counts.values()) for chrom, counts in facts.by_chromosome.items()}
    total = max(1, sum(sizes.values()))
    if split.folds == "chromosome":
        each = [size / total for size in sizes.values()] if facts.exact else [1 / 22] * 22
        return [((1 - one) * (1 - of_rest), (1 - one) * of_rest, one) for one in each]
    if split.folds is not None:
        one = 1 / split.folds
        return [(1 - 2 * one, one, one)] * split.folds
    if split.name in ("spliceai-clean", "chromosome"):
        held_out = SPLICEAI_HELD_OUT if split.name == "spliceai-clean" else split.test_chromosomes
        wanted = {chrom.removeprefix("chr") for chrom in held_out}
        test = sum(size for chrom, size in sizes.items() if chrom in wanted) / total if facts.exact else test
        return [((1 - test) * (1 - of_rest), (1 - test) * of_rest, test)]
    return [(train, validation, test)]
