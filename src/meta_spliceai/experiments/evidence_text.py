"""Leaderboards and evidence of a ledger in Markdown: what docs/results shows of the runs that are kept."""

from __future__ import annotations

from dataclasses import replace

from meta_spliceai.experiments.evidence_tables import evidence_tables
from meta_spliceai.experiments.leaderboard import Board, board_table, boards
from meta_spliceai.experiments.shown import as_markdown
from meta_spliceai.experiments.workspace import Workspace

NOTHING = "No finished run of this data set is kept in `results/` yet."


def results_in_markdown(workspace: Workspace, data: str) -> str:
    """Every board of one data set, and below each what the best learned model's evidence says.

    Args:
        workspace: the ledger's folder.
        data: name of the data set.
    """
    found = [board for board in boards(workspace) if board.data == data]
    return "\n\n".join(_board(workspace, board) for board in found) if found else NOTHING


def _board(workspace: Workspace, board: Board) -> str:
    parts = [f"### Held out: {board.split}", as_markdown(board_table(board))]
    learned = [line for line in board.lines if line.kind == "learned"]
    if learned:
        best = learned[0].scorer
        shown = evidence_tables(
            workspace.find(learned[0].run).evidence(),
            lambda name: name in (best, "position alone") or name.endswith("own_site"),
        )
        for table in shown:
            remarks = [line for remark in table.remarks for line in remark]
            parts += [f"{table.title}:", as_markdown(replace(table, remarks=())), *remarks]
    return "\n\n".join(parts)
