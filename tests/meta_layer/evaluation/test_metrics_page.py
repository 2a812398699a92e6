"""The metrics' page names every metric there is, and nothing that is not there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

from meta_spliceai.splice_engine.meta_layer import evaluation
from meta_spliceai.splice_engine.meta_layer.evaluation import baselines as rivals
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")


def test_every_metric_is_explained() -> None:
    for metric in OperatingPoints().metrics():
        assert f"`{metric.name}`" in PAGE, metric.name


def test_every_baseline_is_explained() -> None:
    for value in vars(rivals).values():
        if isinstance(value, Scorer):
            assert f"| `{value.name}` |" in PAGE, value.name


def test_every_function_named_exists() -> None:
    there: set[str] = set()
    for module in pkgutil.iter_modules(evaluation.__path__):
        there |= set(vars(importlib.import_module(f"{evaluation.__name__}.{module.name}")))
    functions = set(re.findall(r"`([a-z_]+)`(?:: |, | repairs)", PAGE))
    known = {f for f in functions if f.startswith(("evaluate_", "fit_", "within_", "gain_over", "replicate_"))}
    assert len(known) >= 8
    assert known <= there
