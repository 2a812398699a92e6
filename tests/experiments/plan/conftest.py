"""A market of made-up cards, and a planner of the toy bench."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace

CARDS = """
gpus:
  - {name: Tiny, vram_gb: 0.012, bandwidth_gb_s: 100, fp32_tflops: 1, tf32_tflops: 1, bf16_tflops: 2, source: a test}
  - {name: Slow, vram_gb: 24, bandwidth_gb_s: 100, fp32_tflops: 1, tf32_tflops: 1, bf16_tflops: 2, source: a test}
  - {name: Fast, vram_gb: 80, bandwidth_gb_s: 4000, fp32_tflops: 60, tf32_tflops: 400, bf16_tflops: 900, source: a test}
history:
  - as_of: 2026-11-20
    provider: nobody
    source: a test
    prices:
      - {gpu: Tiny, dollars_per_hour: 0.001}
      - {gpu: Slow, dollars_per_hour: 0.1}
      - {gpu: Fast, dollars_per_hour: 40}
"""

TODAY = date(2026, 11, 23)


@pytest.fixture
def own_prices(tmp_path: Path) -> Path:
    """A user's file of three cards."""
    file = tmp_path / "prices.yaml"
    file.write_text(CARDS)
    return file


@pytest.fixture
def planner(
    workspace: Workspace, catalogue: dict[str, ExperimentSpec], own_prices: Path, monkeypatch: pytest.MonkeyPatch
) -> Planner:
    """A planner that knows the three cards and no others."""
    made = Planner(workspace, catalogue, own_prices, today=TODAY)
    market = made.market
    own = {name: gpu for name, gpu in market.gpus.items() if name in ("Tiny", "Slow", "Fast")}
    offers = {name: offer for name, offer in market.offers.items() if name in own}
    made.__dict__["market"] = type(market)(own, offers)
    return made
