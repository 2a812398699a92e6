"""What each stage of a run gives for the toy rows: equal to what is kept, or the stage's version was raised."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from meta_spliceai.experiments.run.prepare import load_rows_of
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.address import STAGES, code_version, run_name
from meta_spliceai.experiments.store.workspace import Workspace
from tests.golden import kept

ROWS = {
    "single": (),
    "cross-validation": ("split.folds=3", "head.name=binary", "target=altering", "training.epochs=2"),
    "fusion": ("fusion.words=true",),
}
"""One toy row for each procedure that trains, as changes of the toy row."""

METRICS = ("auroc", "auprc", "pearson_validated_delta", "spearman_effect")

ROUNDING = {"scoring": 2e-6, "training": 0.02, "evaluation": 0.02}
"""How far a stage's numbers may differ between processors: rounding of a product, and what training makes of it."""


def measured(rows: dict[str, ExperimentSpec], workspace: Workspace) -> dict[str, Any]:
    """Version and numbers of every stage."""
    found: dict[str, Any] = {"versions": dict(STAGES), "scoring": {}, "training": {}, "evaluation": {}}
    found["data"] = load_rows_of(rows["single"].data).digest
    for name, row in rows.items():
        run = run_experiment(row, workspace, "cpu", rows=rows).run
        assert run is not None
        predictions = pd.read_parquet(run.path / "predictions.parquet").sort_values("variant_id")
        base = [column for column in predictions if column.startswith("base max_window")]
        model = [column for column in predictions if column.startswith(row.id)]
        assert base
        assert model
        found["scoring"][name] = predictions[base[0]].head(12).round(7).tolist()
        found["training"][name] = predictions[model[0]].head(12).round(5).tolist()
        found["evaluation"][name] = {
            f"{entry['scorer']}, {entry['metric']}": round(entry["estimate"], 6)
            for entry in run.metrics()["metrics"]
            if entry["metric"] in METRICS and entry["estimate"] is not None
        }
    return found


def test_numbers_of_every_stage_are_the_kept_ones(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: dict[str, ExperimentSpec]
) -> None:
    rows = {name: change(toy_row, assignments) for name, assignments in ROWS.items()}
    now = measured(rows, workspace)
    before = json.loads(kept("toy_rows.json", json.dumps(now, indent=1) + "\n"))
    assert now["versions"] == before["versions"], "a stage's version was raised: write the golden results anew"
    assert now["data"] == before["data"]
    for stage, tolerance in ROUNDING.items():
        assert now[stage].keys() == before[stage].keys()
        for name, numbers in before[stage].items():
            assert now[stage][name] == pytest.approx(numbers, abs=tolerance), f"{stage} of the {name} row"


def test_every_stage_is_part_of_the_address(toy_row: ExperimentSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {run_name(toy_row, "data", code_version())}
    for stage in STAGES:
        monkeypatch.setattr("meta_spliceai.experiments.store.address.STAGES", {**STAGES, stage: STAGES[stage] + 1})
        names.add(run_name(toy_row, "data", code_version()))
    assert len(names) == 1 + len(STAGES)
