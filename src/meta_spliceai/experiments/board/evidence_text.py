"""Leaderboards and evidence in words: the pages of docs/results, and the few sentences that `runs show` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meta_spliceai.experiments.board.evidence_tables import NO_CHANGE, evidence_tables, macro_f1
from meta_spliceai.experiments.board.leaderboard import UNKNOWN, Board, Line, boards, coverage_in_words, evaluated_on
from meta_spliceai.experiments.board.shown import DASH, Table, as_markdown, duration, estimate
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace

NOTHING = "No finished run of this data set is kept in `results/` yet."
COLUMNS = {"auprc": "AUPRC", "auroc": "AUROC", "spearman_effect": "Spearman r, effect"}
DIFFERENCE = "AUPRC difference "


def results_in_markdown(workspace: Workspace, data: str) -> str:
    """Every board of one data set, and folded below each what the best learned model's evidence says.

    A row that was run several times stands once, with its newest run.

    Args:
        workspace: the ledger's folder.
        data: name of the data set.
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
        rows.append(
            ("one replicate for the other", *(str(board.ceiling.get(name, UNKNOWN)) for name in COLUMNS), DASH, DASH)
        )
    table = Table(("scorer", *COLUMNS.values(), f"AUPRC minus {rival}'s", "time"), rows, 1)
    parts = [f"### Held out: {board.split}", f"{evaluated_on(board)}.", as_markdown(table)]
    learned = [line for line in lines if line.kind == "learned"]
    if learned:
        parts.append(_folded(workspace, board, learned[0]))
    return "\n\n".join(parts)


def _difference(line: Line, rival: str) -> str:
    """The paired difference from one rival, out of the line's verdicts; a dash where it was not compared."""
    for verdict in line.verdicts:
        relation, _, difference = verdict.partition(f": {DIFFERENCE}")
        if difference and relation.endswith(f" {rival}"):
            return difference
    return DASH


def _folded(workspace: Workspace, board: Board, best: Line) -> str:
    """Notes and the evidence of one model, behind a line to click on."""
    notes = [f"- {note}" for note in board.notes if note]
    if board.coverage:
        notes.insert(0, f"- {board.data}: {coverage_in_words(board.coverage)}")
    parts = [f"<details><summary>{best.scorer}: strata, position held fixed, calibration</summary>", "\n".join(notes)]
    shown = evidence_tables(
        workspace.find(best.run).evidence(),
        lambda name: name in (best.scorer, "position alone") or name.endswith("own_site"),
    )
    for table in shown:
        remarks = [line for remark in table.remarks for line in remark]
        parts += [f"{table.title}:", as_markdown(replace(table, remarks=())), *remarks]
    return "\n\n".join([*filter(None, parts), "</details>"])


def evidence_in_short(run: RunDirectory) -> list[str]:
    """Lines on the run's base networks, leaks, position, calibration and observed sites.

    What beats what, and the rows left out, stand on the leaderboard and are not repeated here.

    Args:
        run: a finished run.
    """
    data, evidence = run.data(), run.evidence()
    lines = [_networks(data), f"leaks: {_leaks(data)}"]
    learned = run.row_id
    gains = [r for r in evidence.get("gain_over_position", []) if r["metric"] == "auprc"]
    lines += [
        f"beyond position: {record['scorer']} adds {estimate(record)} AUPRC to position alone"
        for record in gains
        if record["scorer"] == learned and record["estimate"] is not None
    ]
    for record in evidence.get("calibration", []):
        if record["scorer"] == learned:
            summary = {one["metric"]: one for one in record["summary"]}
            lines.append(f"stated probabilities: calibration error {estimate(summary['calibration_error'])}")
    lines += _sites(evidence)
    return lines


def _networks(data: Mapping[str, Any]) -> str:
    base, beside = data["base"], data.get("beside", [])
    words = f"base network: {base['name']} ({base['networks']} networks), Δ within {base['distance']} bases"
    return words + (f"; beside it {', '.join(str(one['name']) for one in beside)}" if beside else "")


def _leaks(data: Mapping[str, Any]) -> str:
    """The audits in words: no leak, or the brand."""
    split = data["split"]
    audits = [fold["audit"] for fold in split["folds"]] if "folds" in split else [split["audit"]]
    found: dict[str, int] = {}
    for audit in audits:
        for finding in audit["findings"]:
            if finding["severity"] == "leak":
                found[finding["check"]] = max(found.get(finding["check"], 0), finding["count"])
    if found:
        told = ", ".join(f"up to {count:,} {check}" for check, count in found.items())
        return f"LEAKY SPLIT, allowed by split.allow_leaks: {told}"
    undone = list(dict.fromkeys(reason for audit in audits for reason in audit.get("not_done", [])))
    what = f"all {len(audits)} folds" if len(audits) > 1 else "the split"
    return f"none, {what} audited" + (f"; not checked: {'; '.join(undone)}" if undone else "")


def _sites(evidence: Mapping[str, Any]) -> list[str]:
    """Peaks, positions and kinds of effect against observed ones, a line a scorer."""
    told: dict[str, list[str]] = {}
    wanted = {"gain_detection": "gains found", "loss_detection": "losses found", "false_gain_rate": "false gains"}
    for record in evidence.get("peaks", []):
        if record["metric"] in wanted and record["estimate"] is not None and record["scorer"] != NO_CHANGE:
            told.setdefault(record["scorer"], []).append(f"{wanted[record['metric']]} {estimate(record)}")
    for record in evidence.get("localisation", []):
        if record["tolerance"] == 0 and record["scorer"] in told and record["estimate"] is not None:
            told[record["scorer"]].append(f"strongest change at an observed site {estimate(record)}")
    for record in evidence.get("effect_types", []):
        told.setdefault(record["scorer"], []).append(f"kind of effect, macro F1 {estimate(macro_f1(record))}")
    return [f"observed sites, {scorer}: {', '.join(words)}" for scorer, words in told.items()]
