"""A finished run's evidence in a few sentences: what a reader of its numbers must know beside the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_spliceai.experiments.board.observed_text import NO_CHANGE, macro_f1
from meta_spliceai.experiments.board.shown import estimate
from meta_spliceai.experiments.store.workspace import RunDirectory


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
