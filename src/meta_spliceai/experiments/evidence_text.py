"""Leaderboards and evidence of a ledger in Markdown: what docs/results shows of the runs that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meta_spliceai.experiments.leaderboard import Board, Value, board_table, boards
from meta_spliceai.experiments.observed_text import (
    crossed,
    few_groups_in_words,
    hits_in_words,
    kinds_in_words,
    kinds_of,
    macro_f1,
    peaks_in_words,
)
from meta_spliceai.experiments.workspace import Workspace
from meta_spliceai.splice_engine.meta_layer.evaluation.render import as_markdown

NOTHING = "No finished run of this data set is kept in `results/` yet."
DASH = "–"


def results_in_markdown(workspace: Workspace, data: str) -> str:
    """Every board of one data set, and below each what the best learned model's evidence says.

    Args:
        workspace: the ledger's folder.
        data: name of the data set.
    """
    found = [board for board in boards(workspace) if board.data == data]
    parts = [_board(workspace, board) for board in found]
    return "\n\n".join(parts) if parts else NOTHING


def _board(workspace: Workspace, board: Board) -> str:
    parts = [f"### Held out: {board.split}", as_markdown(board_table(board)).strip()]
    learned = [line for line in board.lines if line.kind == "learned"]
    if learned:
        evidence = workspace.find(learned[0].run).evidence()
        if evidence:
            parts += _evidence(evidence, learned[0].scorer)
    return "\n\n".join(parts)


def _evidence(evidence: dict[str, Any], best: str) -> list[str]:
    """The tables of one run's evidence, for the row zero `position alone`, the base networks and the model."""
    parts = []
    strata = [
        record
        for record in evidence.get("strata", [])
        if record.get("metric") == "auprc" and record["stratification"] in ("region", "type", "source")
    ]
    scorers = [
        name
        for name in dict.fromkeys(record["scorer"] for record in strata)
        if name == best or name == "position alone" or name.endswith("own_site")
    ]
    if strata:
        rows = []
        for kind, stratum in dict.fromkeys((record["stratification"], record["stratum"]) for record in strata):
            mine = {r["scorer"]: r for r in strata if (r["stratification"], r["stratum"]) == (kind, stratum)}
            size = next(iter(mine.values()))
            cells = [_value(mine.get(name)) for name in scorers]
            rows.append([stratum, f"{size['n']:,}", f"{size['n_positive']:,}", *cells])
        parts += ["AUPRC within strata:", _table(["stratum", "variants", "altering", *scorers], rows)]
    held = [[record["scorer"], _value(record)] for record in evidence.get("within_position", [])]
    if held:
        parts += [
            "AUROC with position held fixed (0.5: knows position only):",
            _table(["scorer", "AUROC within bins of position"], held),
        ]
    gains = [
        [
            record["scorer"],
            _number(record["position"]),
            _number(record["with_scorer"]),
            _value(record),
        ]
        for record in evidence.get("gain_over_position", [])
        if record["metric"] == "auprc"
    ]
    if gains:
        parts += [
            "What a score adds to position (AUPRC, out of fold on the judged rows):",
            _table(["scorer", "position", "position and score", "gain"], gains),
        ]
    stated = []
    for record in evidence.get("calibration", []):
        summary = {one["metric"]: one for one in record["summary"]}
        stated.append(
            [record["scorer"], *(_value(summary.get(name)) for name in ("brier", "brier_skill", "calibration_error"))]
        )
    if stated:
        parts += [
            "Stated probabilities:",
            _table(["scorer", "Brier score", "Brier skill", "calibration error"], stated),
        ]
    return parts + _observed_sites(evidence)


def _observed_sites(evidence: dict[str, Any]) -> list[str]:
    """Peaks, positions and kinds of effect against observed ones, of every network and the model."""
    parts = []
    peaks = evidence.get("peaks", [])
    if peaks:
        metrics, rows = _crossed(peaks, "metric")
        parts += [
            f"{peaks_in_words(peaks)}:",
            _table(["scorer", *(metric.replace("_", " ") for metric in metrics)], rows),
        ]
        few = few_groups_in_words(peaks)
        parts += [f"{few[0].upper()}{few[1:]}."] if few else []
    hits = evidence.get("localisation", [])
    if hits:
        tolerances, rows = _crossed(hits, "tolerance")
        parts += [f"{hits_in_words(hits)}:", _table(["scorer", *(f"{tolerance} nt" for tolerance in tolerances)], rows)]
    for record in evidence.get("effect_types", []):
        kinds = kinds_of(record)
        parts += [
            f"Kind of effect, {record['scorer']}: macro F1 {_value(macro_f1(record))} on {kinds_in_words(record)}:",
            _table(
                ["", *kinds],
                [[line["observed"], *(f"{line[kind]:,}" for kind in kinds)] for line in record["confusion"]],
            ),
        ]
    return parts


def _crossed(records: Sequence[dict[str, Any]], key: str) -> tuple[list[Any], list[list[str]]]:
    """The values of `key`, in the order found, and a row of cells for each scorer with one estimate for each value."""
    values, found = crossed(records, key)
    return values, [[scorer, *(_value(mine.get(value)) for value in values)] for scorer, mine in found.items()]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _value(record: Mapping[str, Any] | None) -> str:
    return DASH if record is None else str(Value(record["estimate"], record["low"], record["high"]))


def _number(value: float | None) -> str:
    return str(Value(value, None, None))
