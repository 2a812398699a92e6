"""Runs of a row that differ in their random start alone stand on the leaderboard as one model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from meta_spliceai.cli import main
from meta_spliceai.experiments.board.compare import pool_starts
from meta_spliceai.experiments.board.leaderboard import boards
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import parse_spec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import Workspace


@pytest.fixture
def three(workspace: Workspace, toy_values: dict[str, Any]) -> Workspace:
    """The toy row from two starts, and a changed row that must stay apart."""
    row = parse_spec({**toy_values, "training": {**toy_values["training"], "epochs": 1}}, "test")
    for spec in (row, change(row, ["training.start=1"]), change(row, ["training.epochs=2"])):
        run_experiment(spec, workspace, "cpu", rows={row.id: row})
    return workspace


def test_starts_are_one_line_with_their_mean_and_other_rows_keep_theirs(
    three: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (board,) = boards(three)
    single = {line.run: line for line in board.lines if line.kind == "learned"}
    assert len(single) == 3
    pooled = pool_starts(board, three)
    assert [line for line in pooled.lines if line.kind != "learned"] == [
        line for line in board.lines if line.kind != "learned"
    ]
    lines = {line.scorer: line for line in pooled.lines if line.kind == "learned"}
    assert set(lines) == {"toy-row", "toy-row, 2 starts"}
    both = lines["toy-row, 2 starts"]
    members = [single[name] for name in both.run.split()]
    mean = np.mean([line.values["auprc"].estimate for line in members])
    assert both.values["auprc"].estimate == pytest.approx(mean)
    assert both.seconds == pytest.approx(sum(line.seconds for line in members))
    assert any("position alone" in verdict for verdict in both.verdicts)

    with pytest.raises(SystemExit):
        main(["leaderboard", "--pool-starts", "--json", "--runs-dir", str(three.root)])
    (shown,) = json.loads(capsys.readouterr().out)
    assert {line["scorer"] for line in shown["lines"] if line["kind"] == "learned"} == set(lines)
