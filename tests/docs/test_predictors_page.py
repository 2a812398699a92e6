"""The page on shipped predictors says what its kept numbers and the predictors' cards say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from meta_spliceai.splice_engine.meta_layer.shipped_predictor import load_shipped, names

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_rendered_from_the_kept_numbers() -> None:
    spec = importlib.util.spec_from_file_location("make_predictors", ROOT / "tools" / "make_predictors.py")
    assert spec is not None
    assert spec.loader is not None
    tool = sys.modules["make_predictors"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    results = json.loads(tool.RESULTS.read_text(encoding="utf-8"))
    explored = json.loads(tool.EXPLORED.read_text(encoding="utf-8"))
    assert sorted(results["predictors"]) == names()
    for name, found in results["predictors"].items():
        assert load_shipped(name).card["metrics"] == found["tried"][tool.CHOSEN]
    assert tool.RESULTS.with_suffix(".md").read_text(encoding="utf-8") == tool.rendered(results, explored)
