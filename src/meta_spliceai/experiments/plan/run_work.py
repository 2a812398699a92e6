"""How fast a machine does counted work, how many variants a row has, and the time and memory of everything in a run
other than training networks: base scores, trees, baselines, evaluation, tables.

Every constant is an assumption, corrected by finished runs as all estimates are. Those about a run's steps were taken
once from processor seconds on a two-core machine (Xeon at 2.8 GHz).
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from meta_spliceai import datasets
from meta_spliceai.errors import IntegrityError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.plan.dry_trace import Traced
from meta_spliceai.experiments.plan.gpu_prices import Gpu
from meta_spliceai.experiments.run.prepare import load_rows_of
from meta_spliceai.experiments.spec.experiment import BaseSpec, DataSpec, ExperimentSpec
from meta_spliceai.files import cached_json
from meta_spliceai.splice_engine.base_layer.block_convolution import PRECISIONS
from meta_spliceai.splice_engine.base_layer.families import FAMILIES, load_base_model
from meta_spliceai.splice_engine.base_layer.kernel_choice import measured_rate
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture
from meta_spliceai.splice_engine.base_layer.scoring import CHECKED
from meta_spliceai.splice_engine.meta_layer.settings import BoostingConfig
from meta_spliceai.splice_engine.variants.splits import SPLICEAI_HELD_OUT
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING

# Of machines.
MATRIX_SHARE = 0.30  # of a card's matrix rate that training reaches
BANDWIDTH_SHARE = 0.60  # of a memory's bandwidth that elementwise work reaches
LAUNCH_SECONDS = 8e-6  # in which PyTorch issues one operation: no operation is shorter
CORE_FLOPS = 40e9  # float32 operations a second of one processor core
CORE_BANDWIDTH = 6e9  # bytes a second of one processor core
CONVOLUTIONS_SHARE = 0.75  # of base scoring's time on a processor in its convolutions, whose rate is measured
SCORING_SHARE = 0.10  # of a card's float32 rate that base scoring reaches; of its bfloat16 rate with precision bf16
USABLE = 0.93  # of advertised memory that a training may fill: the context and fragmentation take the rest

CUBLAS_BYTES = 8_519_680
CUBLAS_BYTES_HOPPER = 33_554_432
"""Workspace PyTorch gives cuBLAS once (CUBLAS_WORKSPACE_CONFIG's default: 8 MiB and a bit, 32 MiB on Hopper)."""

CPU = "cpu"

# Of a run's steps.
FOUND = "base scores found"
"""The step "base scores" of a run that found them all in the cache: another work, which calibrates nothing else."""

FEATURES, FEATURES_FOUND = "frozen features", "frozen features found"
"""The steps in which a frozen encoder's features are computed, and in which all of them are found in the cache."""

POSITION_FEATURES, NETWORK_FEATURES, POOLED_FEATURES, KMER_FEATURES = 14, 35, 21, 104
"""Features of a fusion: position, each network, all networks together where there are several, k-mers."""

TRUNK_FEATURES = 6  # features of a fusion for each hidden channel of a network: three places, reference and change
FOUND_BYTES_SECOND = 600e6  # how fast what is found in a cache is read and checked
LEFT_BEHIND = 200e6  # bytes that training leaves in a process: oneDNN's code for its shapes, pieces of freed memory
NETWORK_BYTES = 2_900_000  # one of SpliceAI's networks (about 700,000 numbers)

KEPT_ACTIVATIONS, BESIDE_REFERENCE = 33, 1.6
"""Activations kept of each reference for the alternatives to take from, and what base scoring held in all beside them
(in a run of 566 variants on one thread)."""

ENSEMBLES = {"spliceai": 5, "cispliceai": 5, "openspliceai": 5, "pangolin": 12}
"""Networks of the families with SpliceAI's trunk, so that their weights need not be read to count work."""


@dataclass(frozen=True)
class Machine:
    """A card, or this computer's processor.

    Rates are floating-point operations a second: `half` of matrix units on 16-bit numbers, `whole` of everything else,
    `scoring` and `scoring_half` of incremental base scoring in float32 and in parts of bfloat16. `memory_bytes` is
    usable: what the driver takes is left out; `held_bytes` is what libraries hold whatever runs; `assumed` says what
    was assumed.
    """

    name: str
    cuda: bool
    memory_bytes: int
    half: float
    whole: float
    bandwidth: float
    scoring: float
    scoring_half: float
    held_bytes: int
    assumed: str

    def seconds(self, traced: Traced) -> float:
        """What one traced pass takes: each operation as long as its arithmetic, its memory traffic or its launch,
        whichever is longest (the roofline, Williams, Waterman and Patterson 2009, 10.1145/1498765.1498785)."""
        rate = np.where(traced.matrix & traced.half, self.half, self.whole)
        each = np.maximum(traced.flops / rate, traced.moved / self.bandwidth)
        return float(np.maximum(each, LAUNCH_SECONDS).sum())


def card(gpu: Gpu) -> Machine:
    """A card by its data sheet. PyTorch's convolutions use TF32 by default, its matrix products do not; training runs
    in bfloat16 anyway."""
    return Machine(
        name=gpu.name,
        cuda=True,
        memory_bytes=int(gpu.vram_gb * 1e9 * USABLE),
        half=gpu.bf16_tflops * 1e12 * MATRIX_SHARE,
        whole=gpu.fp32_tflops * 1e12 * MATRIX_SHARE,
        bandwidth=gpu.bandwidth_gb_s * 1e9 * BANDWIDTH_SHARE,
        scoring=gpu.fp32_tflops * 1e12 * SCORING_SHARE,
        scoring_half=gpu.bf16_tflops * 1e12 * SCORING_SHARE,
        held_bytes=CUBLAS_BYTES_HOPPER if gpu.name.startswith("H") else CUBLAS_BYTES,
        assumed=(
            f"data sheet × assumed {MATRIX_SHARE:.0%} of arithmetic and {BANDWIDTH_SHARE:.0%} of bandwidth, "
            f"{SCORING_SHARE:.0%} of arithmetic in base scoring"
        ),
    )


def processor(threads: int, memory_bytes: int, convolutions: float | None = None) -> Machine:
    """A processor with so many of PyTorch's threads at work in a computer of so much memory; `convolutions`: operations
    a second and thread that base networks' convolutions came to there."""
    rate = threads * CORE_FLOPS
    measured = "" if convolutions is None else f"; convolutions measured at {convolutions / 1e9:.0f} GFLOP/s a thread"
    return Machine(
        name=CPU,
        cuda=False,
        memory_bytes=int(memory_bytes * USABLE),
        half=rate,
        whole=rate,
        bandwidth=threads * CORE_BANDWIDTH,
        scoring=rate if convolutions is None else threads * convolutions * CONVOLUTIONS_SHARE,
        scoring_half=rate,  # a processor multiplies the parts in float32
        held_bytes=0,
        assumed=(
            f"assumed {CORE_FLOPS / 1e9:.0f} GFLOP/s and {CORE_BANDWIDTH / 1e9:.0f} GB/s a thread, {threads} threads"
            f"{measured}"
        ),
    )


def this_processor() -> Machine:
    """This computer, with PyTorch's current number of threads."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in os.sysconf_names else 8e9
    return processor(torch.get_num_threads(), int(memory), measured_rate())


class ScoringWork(NamedTuple):
    """Floating-point operations of base scoring: of float32 numbers, and of those in parts of bfloat16."""

    whole: float
    half: float = 0.0

    def seconds(self, machine: Machine) -> float:
        return self.whole / machine.scoring + self.half / machine.scoring_half


def scoring_work(base: BaseSpec, rows: int, neighbourhoods: int, spread: int) -> ScoringWork:
    """Operations of scoring variants.

    Each variant costs, in every convolution, the zone that it can change and that reaches an output asked for; the
    reference of its neighbourhood is computed once for all who share it (see `base_layer.incremental`). In bfloat16
    three products take the place of each of an alternative's, and a sample is scored both ways first.

    Args:
        base: the network; its distance, method and precision.
        rows: variants.
        neighbourhoods: groups that share a reference.
        spread: bases between the first and last variant of each group, summed.
    """
    architecture, networks = shape_of(base)
    alternative = reference = per_base = 0.0
    depth, taps_of_channels = 0, 2.0 * architecture.channels**2
    for stage in architecture.stages:
        for _ in range(2 * stage.blocks):
            depth += stage.radius
            taps, reach = stage.kernel * taps_of_channels, architecture.flank - depth
            zone = 2 * min(depth, base.distance + reach) + 1
            whole = 2 * base.distance + 1 + 2 * reach
            alternative += taps * (zone if base.method == "incremental" else whole)
            reference += taps * whole
            per_base += taps
    if base.method == "full":
        return ScoringWork(networks * rows * (alternative + reference))
    references = neighbourhoods * reference + spread * per_base
    if base.precision == "fp32":
        return ScoringWork(networks * (rows * alternative + references))
    checked = min(CHECKED, rows)
    checking = checked * alternative + 2 * min(checked, neighbourhoods) * reference
    half = PRECISIONS[base.precision] * (rows + checked) * alternative
    return ScoringWork(networks * (references + checking), networks * half)


def shape_of(base: BaseSpec) -> tuple[Architecture, int]:
    """A family's architecture and the number of its networks that score."""
    family = base.name.partition(":")[0]
    if family in ENSEMBLES and ":" not in base.name:
        return Architecture(SPLICEAI_STAGES), len(base.members) if base.members else ENSEMBLES[family]
    if family not in FAMILIES:
        return Architecture(SPLICEAI_STAGES), 1  # an unknown family is reported as a missing part of the row
    model = load_base_model(base.name, members=base.members)
    return model.networks[0].architecture, len(model.networks)


def feature_count(spec: ExperimentSpec) -> int:
    """Features that a fusion's trees are grown on."""
    networks, fusion = len(spec.networks), spec.fusion
    count = POSITION_FEATURES + networks * NETWORK_FEATURES + (POOLED_FEATURES if networks > 1 else 0)
    if fusion is not None:
        count += len(fusion.scores)
    if fusion is not None and fusion.words:
        count += KMER_FEATURES
    if fusion is not None and fusion.trunk:
        architecture, members = shape_of(spec.base)
        count += TRUNK_FEATURES * architecture.channels * members
    return count


def trees_seconds(rows: float, features: int, config: BoostingConfig) -> float:
    """Growing trees once (see `boosting.grow`): on folds to choose their number, then with all rows for each seed."""

    def tree(seen: float) -> float:
        return 2.5e-3 + features * (1.6e-5 + 8.5e-9 * seen)

    choosing = config.folds * tree(rows * (config.folds - 1) / config.folds) + 3e-8 * rows
    return config.most_trees * (choosing + 0.8 * config.seeds * tree(rows))


def fusion_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """Growing a fusion's trees, of the class and (where the data set has amounts) of the effect, in every fold."""
    if spec.fusion is None:
        return 0.0
    config, learned = spec.fusion.settings, spec.fusion.validation == "learn"
    amounts = config.use_effect and not datasets.get(spec.data.name).effect.startswith("not ")
    rows = [train + (validation if learned else 0) for train, validation in parts.folds]
    return (2 if amounts else 1) * sum(trees_seconds(one, feature_count(spec), config.trees) for one in rows)


def features_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """A fusion's features, made once for all folds."""
    return 2.7e-7 * parts.rows * _positions(spec) * len(spec.networks)


def baselines_seconds(parts: Parts) -> float:
    """The baselines that learn, where none is in the cache: trees on k-mers and place, and on place alone."""
    config = BoostingConfig.model_validate({})
    each = [trees_seconds(sum(fold), POSITION_FEATURES + KMER_FEATURES, config) for fold in parts.folds]
    return sum(each) + 1.5e-4 * parts.rows * len(each)


def audit_seconds(parts: Parts) -> float:
    """An audit of the split."""
    return 0.05 + parts.rows * (6e-5 + 2.2e-5 * max(1, len(parts.folds)))


def evaluating_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """Metrics with intervals, strata, calibration, over all scorers (four more for what is done whatever they are)."""
    scorers = 7 + 2 * len(spec.networks)
    return 1.0 + 0.2 * len(parts.folds) + parts.tested * scorers * (5.5e-5 + 6e-8 * spec.bootstrap)


def found_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """Finding base scores that were computed before: each network's weights, a variant's key, and reading."""
    return len(spec.networks) * (0.6 + 2e-4 * parts.rows + score_bytes(spec, parts) / FOUND_BYTES_SECOND)


def score_bytes(spec: ExperimentSpec, parts: Parts) -> float:
    """One network's base scores: three channels of both alleles at every position, in float32."""
    return parts.rows * _positions(spec) * 3 * 2 * 4.0


def _positions(spec: ExperimentSpec) -> int:
    return 2 * spec.base.distance + 1


def scoring_bytes(spec: ExperimentSpec) -> float:
    """What base scoring holds: every network's reference around a neighbourhood, and alternatives."""
    most = 0.0
    for base in spec.networks:
        architecture, networks = shape_of(base)
        positions = 2 * (base.distance + architecture.flank) + 1
        most = max(most, networks * positions * architecture.channels * 4.0)
    return most * KEPT_ACTIVATIONS * BESIDE_REFERENCE


def held_bytes(spec: ExperimentSpec, parts: Parts) -> float:
    """What a run on a processor holds from preparation to its end, beside its model: the interpreter and its libraries,
    annotation and genome, the data set as read, the row's table, networks and base scores."""
    data = 95e6 + 3e3 * datasets.get(spec.data.name).rows + 1.5e3 * parts.rows
    return 540e6 + data + len(spec.networks) * (5.0 * NETWORK_BYTES + score_bytes(spec, parts))


def passing_bytes(spec: ExperimentSpec, parts: Parts) -> dict[str, float]:
    """What a run on a processor holds on top of that for a time, by phase; the phases follow each other.

    Base scores, and a fusion's features, are made a network at a time: networks show only in what is held.
    """
    phases = {"base scores": score_bytes(spec, parts), "evaluation": 9e3 * parts.rows}
    if spec.procedure == "fusion":
        features = 8.0 * parts.rows * feature_count(spec)
        phases["features"] = 9 * 8.0 * parts.rows * _positions(spec) + features  # nine arrays of rows and positions
        phases["training"] = 5 * features  # of all rows, of a fold, their bins
    elif spec.ensemble is None:
        phases["evaluation"] += LEFT_BEHIND
    return phases


NEAR = 1000  # variants at most so far apart share the reference's activations in base scoring


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
    """The sizes of a row's training and evaluation sets.

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
