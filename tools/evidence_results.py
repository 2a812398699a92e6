#!/usr/bin/env python3
"""The boards of a data set and their best models' evidence as Markdown, a block of `tools/render_docs.py`."""

from __future__ import annotations

from dataclasses import replace

from meta_spliceai.experiments.board.leaderboard import UNKNOWN, Board, Line, boards, coverage_in_words, evaluated_on
from meta_spliceai.experiments.board.shown import DASH, Table, as_markdown, duration, evidence_tables
from meta_spliceai.experiments.store.workspace import Workspace

NOTHING = "No finished run of this data set is kept in `results/` yet."
COLUMNS = {"auprc": "AUPRC", "auroc": "AUROC", "spearman_effect": "Spearman r, effect"}
DIFFERENCE = "AUPRC difference "


def results_in_markdown(workspace: Workspace, data: str) -> str:
    """Every board of one data set, and folded below each what the best learned model's evidence says.

    A row that was run several times stands once, with its newest run.
    """
    found = [board for board in boards(workspace) if board.data == data]
    age = {str(entry["run"]): place for place, entry in enumerate(workspace.finished())}
    return "\n\n".join(_board(workspace, board, age) for board in found) if found else NOTHING


def _board(workspace: Workspace, board: Board, age: dict[str, int]) -> str:
    newest = {line.scorer: line for line in sorted(board.lines, key=lambda line: age.get(line.run, -1))}
    lines = [line for line in board.lines if line is newest[line.scorer]]
    rivals = [line for line in lines if line.kind != "learned"]
    rival = max(rivals, key=lambda line: line.values.get("auprc", UNKNOWN).estimate or 0).scorer if rivals else ""
    rows = [
        (
            f"**{line.scorer}**" if line.kind == "learned" else line.scorer,
            *(str(line.values.get(metric, UNKNOWN)) for metric in COLUMNS),
            _difference(line, rival),
            duration(line.seconds),
        )
        for line in lines
    ]
    if board.ceiling:
        ceiling = [str(board.ceiling.get(name, UNKNOWN)) for name in COLUMNS]
        rows.append(("one replicate predicting the other", *ceiling, DASH, DASH))
    table = Table(("scorer", *COLUMNS.values(), f"AUPRC minus {rival}'s", "time"), rows, 1)
    parts = [f"### Held out: {board.split}", f"{evaluated_on(board)}.", as_markdown(table)]
    learned = [line for line in lines if line.kind == "learned"]
    return "\n\n".join([*parts, *(_folded(workspace, board, best) for best in learned[:1])])


def _difference(line: Line, rival: str) -> str:
    """The paired difference from one rival, out of the line's verdicts; a dash where it was not compared."""
    for verdict in line.verdicts:
        relation, _, difference = verdict.partition(f": {DIFFERENCE}")
        if difference and relation.endswith(f" {rival}"):
            return difference
    return DASH


def _folded(workspace: Workspace, board: Board, best: Line) -> str:
    """Notes and the evidence of one model, behind a line to click on."""
    account = [f"{board.data}: {coverage_in_words(board.coverage)}"] if board.coverage else []
    notes = "\n".join(f"- {note}" for note in (*account, *filter(None, board.notes)))
    parts = [f"<details><summary>{best.scorer}: strata, position held fixed, calibration</summary>", notes]
    tables = evidence_tables(
        workspace.find(best.run).evidence(),
        lambda name: name in (best.scorer, "position alone") or name.endswith("own_site"),
    )
    for table in tables:
        remarks = [line for remark in table.remarks for line in remark]
        parts += [f"{table.title}:", as_markdown(replace(table, remarks=())), *remarks]
    return "\n\n".join([*filter(None, parts), "</details>"])
