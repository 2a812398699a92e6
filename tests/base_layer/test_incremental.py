"""Incremental scoring equals the plain full forward, whatever the variant, its place, its strand and its company."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest
import torch

from meta_spliceai.splice_engine.base_layer import incremental, kernel_choice
from meta_spliceai.splice_engine.base_layer.changes import Workspace
from meta_spliceai.splice_engine.base_layer.compiled_convolution import NOISE, NoCompiledCodeError, library
from meta_spliceai.splice_engine.base_layer.compiled_network import CompiledNetwork
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.incremental import IncrementalScorer
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.base_layer.scoring import Computation, score_variants
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import N_CODE, MemoryGenome, decode, encode

from .conftest import TOY_STAGES, build_network

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def genome() -> MemoryGenome:
    codes = np.random.default_rng(11).integers(0, 4, 2600).astype(np.uint8)
    codes[1200:1230] = N_CODE
    return MemoryGenome({"c": codes}, "toy", "toy genome")


def random_variants(genome: MemoryGenome, count: int, seed: int, low: int = 1, high: int = 2600) -> pd.DataFrame:
    """Substitutions, insertions, deletions and delins of many lengths, on both strands, also at the contig's ends."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, int, str, str, str]] = []
    while len(rows) < count:
        pos = int(rng.integers(low, high + 1))
        ref_length, alt_length = (int(rng.choice([1, 1, 1, 1, 2, 3, 6, 15, 40])) for _ in range(2))
        ref = genome.fetch("c", pos - 1, pos - 1 + ref_length)
        alt = rng.integers(0, 4, alt_length).astype(np.uint8)
        if rng.random() < 0.6:
            alt[0] = ref[0]  # as a VCF writes insertions and deletions
        if pos + ref_length <= 2601 and not np.array_equal(ref, alt):
            rows.append(("c", pos, decode(ref), decode(alt), str(rng.choice(["+", "-"]))))
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "strand"])
    return table.assign(gene="", variant_id=[f"v{row}" for row in range(count)])


def assert_same_numbers(kernel: str, one: BaseScores, other: BaseScores, what: object = "") -> None:
    """To the bit where convolutions are compiled, within float noise in PyTorch."""
    allowed = 0.0 if kernel == "compiled" else NOISE
    assert largest_difference(one, other) <= allowed, what


def largest_difference(one: BaseScores, other: BaseScores) -> float:
    return float(max(np.abs(one.ref - other.ref).max(), np.abs(one.alt - other.alt).max()))


@pytest.fixture(params=["compiled", "pytorch"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of convolutions, where there are both."""
    if request.param == "compiled":
        try:
            library()
        except NoCompiledCodeError as error:
            pytest.skip(str(error))
    monkeypatch.setenv(kernel_choice.VARIABLE, request.param)
    return request.param


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("distance", [1, pytest.param(12, marks=pytest.mark.slow), 60])
@pytest.mark.parametrize("channels", [8, 32])
def test_equals_the_full_forward(genome: MemoryGenome, slope: float, distance: int, channels: int, kernel: str) -> None:
    if channels == 8 and kernel == "compiled":
        pytest.skip("the compiled code is for 32 channels")
    architecture = Architecture(TOY_STAGES, channels=channels, slope=slope)
    model = BaseModel("toy", tuple(build_network(architecture, seed) for seed in (3, 4)), "", "")
    table = random_variants(genome, 120 if channels == 8 else 40, seed=distance)
    full = score_variants(table, genome, model, distance, how=Computation("full"))
    fast = score_variants(table, genome, model, distance)
    assert np.abs(full.delta).max() > 0.05
    assert largest_difference(full, fast) < TOLERANCE


def test_equals_the_full_forward_near_gene_ends(genome: MemoryGenome, wide_model: BaseModel, kernel: str) -> None:
    exons = ((300, 340), (500, 520))
    genes = [Gene("G", "c", strand, 300, 520, exons) for strand in "+-"]
    annotation = GeneAnnotation(genes, "toy", "toy annotation")
    for low, high in ((301, 310), (490, 520)):
        table = random_variants(genome, 40, seed=low, low=low, high=high)
        full = score_variants(table, genome, wide_model, 12, how=Computation("full"), annotation=annotation)
        fast = score_variants(table, genome, wide_model, 12, annotation=annotation)
        assert largest_difference(full, fast) < TOLERANCE
        unlimited = score_variants(table, genome, wide_model, 12)
        assert largest_difference(full, unlimited) > 1e-3


def test_equals_the_full_forward_for_several_slots(genome: MemoryGenome) -> None:
    """Models whose networks speak for different tissues (Pangolin): one slot each, averaged within the slot."""
    architecture = Architecture(TOY_STAGES, channels=8, outputs=2)
    networks = tuple(build_network(architecture, seed) for seed in (5, 6, 7))
    model = BaseModel("toy", networks, "", "", channels=("a", "b", "c", "d"), slots=(0, 0, 1))
    table = random_variants(genome, 20, seed=2)
    full = score_variants(table, genome, model, 12, how=Computation("full"))
    fast = score_variants(table, genome, model, 12)
    assert full.alt.shape == (20, 25, 4)
    assert largest_difference(full, fast) < TOLERANCE


def test_variants_of_one_place_share_the_reference(
    genome: MemoryGenome, toy_base_model: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = incremental.TorchNetwork.reference

    def counting(self: object, windows: object, codes: object, workspace: object) -> object:
        calls.append(windows)
        return original(self, windows, codes, workspace)  # type: ignore[arg-type]

    monkeypatch.setattr(incremental.TorchNetwork, "reference", counting)
    table = random_variants(genome, 60, seed=8, low=400, high=450).assign(strand="+")
    score_variants(table, genome, toy_base_model, 12)
    assert len(calls) <= len(toy_base_model.networks) * 4  # 60 changes are at most four jobs


def test_long_genes_are_cut_into_windows_that_fit_in_memory(genome: MemoryGenome, toy_base_model: BaseModel) -> None:
    scorer = IncrementalScorer(toy_base_model, 12, 8)
    table = random_variants(genome, 400, seed=9).assign(strand="+")
    changes = [
        incremental.Change(row, 0, pos, 1, encode("A"), (pos - 12, pos + 13), (pos - 12, pos + 13))
        for row, pos in enumerate(table["pos"])
    ]
    windows = scorer._windows(changes)
    assert sum(len(window.changes) for window in windows) == 400
    assert 4 <= len(windows) < 40
    assert all(
        window.end - window.start <= 4 * toy_base_model.flank + 2 * scorer._networks[0].grid for window in windows
    )


@pytest.fixture(scope="module")
def wide_model() -> BaseModel:
    """As wide as the real networks: matrix products of fewer channels take other routes."""
    return BaseModel("toy", (build_network(Architecture(TOY_STAGES), 1),), "", "")


def rows_of(scores: BaseScores, rows: slice | list[int]) -> BaseScores:
    return replace(scores, ref=scores.ref[rows], alt=scores.alt[rows])


def test_company_changes_nothing(genome: MemoryGenome, wide_model: BaseModel, kernel: str) -> None:
    table = random_variants(genome, 90, seed=21)
    together = score_variants(table, genome, wide_model, 12)
    for batch_size in (1, 3, 16):
        other = score_variants(table.iloc[::-1], genome, wide_model, 12, how=Computation(batch_size=batch_size))
        assert_same_numbers(kernel, rows_of(other, slice(None, None, -1)), together, batch_size)
    for row in range(0, 90, 9):
        alone = score_variants(table.iloc[[row]], genome, wide_model, 12)
        assert_same_numbers(kernel, alone, rows_of(together, [row]), row)


def test_number_of_threads_changes_nothing(genome: MemoryGenome, wide_model: BaseModel, kernel: str) -> None:
    table = random_variants(genome, 40, seed=22)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = score_variants(table, genome, wide_model, 12)
        torch.set_num_threads(2)
        two = score_variants(table, genome, wide_model, 12)
    finally:
        torch.set_num_threads(threads)
    assert_same_numbers(kernel, one, two)


def test_where_all_bases_are_n_nothing_is_computed(
    genome: MemoryGenome, wide_model: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a gene's ends lie constants: the fewer bases a gene has, the fewer positions of its reference are made."""
    monkeypatch.setenv(kernel_choice.VARIABLE, "compiled")
    network = CompiledNetwork(wide_model.networks[0])
    made = []
    for layer in network._layers:
        monkeypatch.setattr(layer.convolution, "run", lambda *args, **_: made.append(args[4][1] - args[4][0]) or 0.0)
    window = incremental.Window(0, 1000, 1025, ())
    first, last = network.bases(1000, 1025)
    positions = {}
    for known in (0, 30, last - first):
        codes = np.full(last - first, N_CODE, np.uint8)
        codes[1010 - first : 1010 - first + known] = 1
        if known == last - first:
            codes[:] = 1
        made.clear()
        network.reference([window], [codes], Workspace(torch.device("cpu")))
        positions[known] = sum(made)
    assert positions[0] == 0
    assert 0 < positions[30] < positions[last - first]


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.quickstart
@pytest.mark.skipif(importlib.util.find_spec("spliceai") is None, reason="needs the `quickstart` extra")
def test_the_five_real_networks_equal_their_full_forward(mirror: Path) -> None:
    with pysam.FastaFile(str(mirror / "vectors/spliceai/genome.fa")) as fasta:
        genome = MemoryGenome({name: encode(fasta.fetch(name)) for name in fasta.references}, "toy", "genome.fa")
    rows = []
    for chrom, strand, pos in (("chr1", "+", 15_990), ("chr2", "-", 15_520)):
        ref = decode(genome.fetch(chrom, pos - 1, pos + 6))
        other = decode((encode(ref[:1]) + 1) % 4)
        alleles = [(ref[0], other), (ref[0], ref[0] + "GTAAGT"), (ref, ref[0]), (ref[:4], other + "CC")]
        rows += [(chrom, pos, one, two, strand) for one, two in alleles]
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "strand"])
    table = table.assign(gene="", variant_id=[f"v{row}" for row in range(len(table))])
    model = load_base_model("spliceai")
    full = score_variants(table, genome, model, 50, how=Computation("full"))
    fast = score_variants(table, genome, model, 50)
    assert np.abs(full.delta).max() > 0.2
    assert largest_difference(full, fast) < TOLERANCE
