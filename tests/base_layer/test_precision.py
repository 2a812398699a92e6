"""Scores with bfloat16 products: nearly float32's, compared with it before they are used, and called what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from meta_spliceai.datasets import load_dataset
from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer import block_convolution, scoring
from meta_spliceai.splice_engine.base_layer.block_convolution import _as_left, _as_right, _product
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel
from meta_spliceai.splice_engine.base_layer.scores import ScoreCache
from meta_spliceai.splice_engine.base_layer.scoring import LARGEST_CHANGE, Computation, score_variants
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome

from .conftest import TOY_STAGES, build_network
from .test_incremental import genome, random_variants

__all__ = ["genome"]


@pytest.fixture(scope="module")
def wide_model() -> BaseModel:
    """As wide as SpliceAI's networks."""
    return BaseModel("toy", (build_network(Architecture(TOY_STAGES, channels=32), 3),), "", "")


@pytest.mark.parametrize("shape", [(7, 30, 9), (4, 7, 30, 9)])
def test_a_split_product_is_nearly_that_of_float32(shape: tuple[int, ...]) -> None:
    *batch, rows, inner, columns = shape
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(*batch, rows, inner, generator=generator)
    b = torch.randn(*batch, inner, columns, generator=generator)
    exact = a.double() @ b.double()
    left, right = _as_left(a), _as_right(b)
    assert left.dtype == right.dtype == torch.bfloat16
    found = _product(left, right)
    plain = a.bfloat16().float() @ b.bfloat16().float()
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 2e-4
    assert (plain - exact).abs().max() > 50 * (found - exact).abs().max()


@pytest.mark.parametrize("slope", [0.0, pytest.param(0.1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("distance", [1, 60])
def test_scores_stay_near_those_of_float32(genome: MemoryGenome, slope: float, distance: int) -> None:
    networks = tuple(build_network(Architecture(TOY_STAGES, channels=8, slope=slope), seed) for seed in (3, 4))
    model = BaseModel("toy", networks, "", "")
    table = random_variants(genome, 80, seed=distance)
    exact = score_variants(table, genome, model, distance)
    fast = score_variants(table, genome, model, distance, how=Computation(precision="bf16"))
    assert np.abs(exact.delta).max() > 0.05
    change = np.abs(fast.delta - exact.delta).max()
    assert 0 < change < LARGEST_CHANGE / 10  # other numbers, but hardly so
    np.testing.assert_allclose(fast.ref, exact.ref, atol=1e-5)  # references are not of this precision
    assert fast.precision == "bf16"
    assert fast.check.startswith("bf16: on 64 of 80 variants Δ differs from float32's by at most ")
    assert (exact.precision, exact.check) == ("fp32", "")


def test_where_the_numbers_differ_too_much_it_goes_on_in_float32_and_says_so(
    genome: MemoryGenome, wide_model: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One bfloat16 number of four bits, and no rest."""
        return ((x * 17).bfloat16() - (x * 16).bfloat16()), torch.zeros_like(x, dtype=torch.bfloat16)

    table = random_variants(genome, 30, seed=5)
    exact = score_variants(table, genome, wide_model, 12)
    monkeypatch.setattr(block_convolution, "_parts", coarse)
    found = score_variants(table, genome, wide_model, 12, how=Computation(precision="bf16"), cache=ScoreCache(tmp_path))
    assert found.precision == "fp32"
    assert found.check.startswith("bf16 was asked for and not used: on 30 of 30 variants Δ differs from float32's by")
    assert found.check.endswith("more than 0.001")
    np.testing.assert_allclose(found.alt, exact.alt, atol=1e-5)
    # What was kept is float32, for whoever asks for that.
    kept = score_variants(table, genome, wide_model, 12, cache=ScoreCache(tmp_path))
    assert np.array_equal(kept.alt, found.alt)


def test_the_sample_is_as_large_as_asked_for_and_not_a_number_is_no_agreement(
    genome: MemoryGenome, wide_model: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = random_variants(genome, 30, seed=6)
    found = score_variants(table, genome, wide_model, 12, how=Computation(precision="bf16", check_on=5))
    assert "on 5 of 30 variants" in found.check
    monkeypatch.setattr(scoring, "largest_change", lambda *_: float("nan"))
    assert score_variants(table, genome, wide_model, 12, how=Computation(precision="bf16")).precision == "fp32"


def test_precisions_are_kept_apart_in_the_cache(genome: MemoryGenome, wide_model: BaseModel, tmp_path: Path) -> None:
    table = random_variants(genome, 20, seed=7)
    cache = ScoreCache(tmp_path)
    exact = score_variants(table, genome, wide_model, 12, cache=cache)
    fast = score_variants(table, genome, wide_model, 12, cache=cache, how=Computation(precision="bf16"))
    assert not np.array_equal(fast.alt, exact.alt)
    again = score_variants(table, genome, wide_model, 12, cache=cache, how=Computation(precision="bf16"))
    assert np.array_equal(again.alt, fast.alt)
    assert again.check == "bf16: compared with float32 when they were scored"
    assert np.array_equal(score_variants(table, genome, wide_model, 12, cache=cache).alt, exact.alt)


def test_bad_requests(genome: MemoryGenome, wide_model: BaseModel) -> None:
    table = random_variants(genome, 2, seed=8)
    with pytest.raises(InputError, match="unknown precision 'fp8'"):
        score_variants(table, genome, wide_model, 12, how=Computation(precision="fp8"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bf16 is for method incremental; method full has fp32 only"):
        score_variants(table, genome, wide_model, 12, how=Computation("full", precision="bf16"))


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.quickstart
def test_spliceai_s_first_network_on_measured_variants(mirror: Path) -> None:
    loaded = load_dataset("mfass")
    altering = loaded.variants[loaded.variants["classification"] == "Splice-altering"]
    table = altering.iloc[::200].reset_index(drop=True)
    model = load_base_model("spliceai", members=[0])
    exact = score_variants(table, loaded.genome, model, 50, annotation=loaded.annotation)
    fast = score_variants(
        table, loaded.genome, model, 50, annotation=loaded.annotation, how=Computation(precision="bf16", check_on=2)
    )
    assert np.abs(exact.delta).max() > 0.1
    assert 0 < np.abs(fast.delta - exact.delta).max() < LARGEST_CHANGE
    assert fast.precision == "bf16"
