"""Plans of rows of every kind on several cards, within limits and without: equal to what is kept."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch

from meta_spliceai.datasets import Loaded
from meta_spliceai.errors import MissingResourceError
from meta_spliceai.experiments.plan import run_work
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.spec.experiment import DataSpec
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.workspace import Workspace
from tests.golden import kept

ROWS = ("simple-cnn-501", "mfass-fusion", "hyenadna-cv5", "cnn-hyenadna-ensemble")
"""A CNN, a fusion, folds with a frozen pretrained encoder, an ensemble."""

CARDS = ("RTX 4090", "A100 80GB", "H100")
WORDS = ("why", "notes")
"""What is said in words may change."""


def numbers(value: Any) -> Any:
    """A plan without its words, and numbers to six digits: processors differ in the last."""
    if isinstance(value, dict):
        shown = {**value, "left_out": list(value["left_out"])} if "left_out" in value else value
        return {key: numbers(inner) for key, inner in shown.items() if key not in WORDS}
    if isinstance(value, list):
        return [numbers(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


@pytest.mark.slow
def test_plans_are_the_kept_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(_: DataSpec) -> Loaded:
        raise MissingResourceError("not here")

    monkeypatch.setattr(run_work, "load_rows_of", not_there)  # rows are counted as declared on every machine
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    rows = load_rows(own=None)
    planner = Planner(Workspace(tmp_path / "runs"), rows, today=date(2026, 11, 29))
    market = planner.market
    planner.__dict__["market"] = type(market)({name: market.gpus[name] for name in CARDS}, market.offers)
    specs = [rows[row_id] for row_id in ROWS]
    now = numbers({"plan": planner.rows(specs).to_json(), "limited": planner.rows(specs, None, 0.05, 0.2).to_json()})
    now["torch"] = torch.__version__.partition("+")[0]
    before = json.loads(kept("plan.json", json.dumps(now, indent=1) + "\n"))
    if now["torch"] != before["torch"]:
        pytest.skip(f"memory is that of PyTorch {before['torch']}")
    assert now == before
