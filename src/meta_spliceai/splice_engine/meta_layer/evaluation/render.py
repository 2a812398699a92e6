"""A judgement as one table for readers: Markdown, HTML or plain values. Pure functions; nothing is computed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.errors import unknown_value
from meta_spliceai.splice_engine.meta_layer.evaluation.result import Evaluation

SHOWN = ("auprc", "auroc", "precision_at_recall_50", "precision_top_100", "spearman_effect", "pearson_validated_delta")
"""Metrics of the usual table; the first orders it."""
DASH = "–"


@dataclass(frozen=True)
class Cost:
    """What a scorer took; None where it was not recorded.

    Attributes:
        seconds: to train and to score the test part.
        peak_memory_bytes: of the device that did it.
        dollars: at the price of the machine.
    """

    seconds: float | None = None
    peak_memory_bytes: float | None = None
    dollars: float | None = None


@dataclass(frozen=True)
class Table:
    """A leaderboard ready to be written down.

    Attributes:
        columns: headings; the first is the scorer.
        rows: texts, one a column.
        kinds: of each row.
        notes: what must be read with the table: rows judged, prevalence, pitfalls, reasons for dashes.
        verdicts: sentences about the learned models.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    kinds: tuple[str, ...]
    notes: tuple[str, ...]
    verdicts: tuple[str, ...] = field(default_factory=tuple)


def leaderboard_table(
    evaluation: Evaluation,
    metrics: Sequence[str] = SHOWN,
    costs: Mapping[str, Cost] | None = None,
    ceiling: Mapping[str, float] | None = None,
) -> Table:
    """The leaderboard as texts: rows zero first, intervals in brackets, dashes explained in the notes.

    Args:
        evaluation: the judgement.
        metrics: columns; the first orders the rows and is what the verdicts are about.
        costs: of each scorer, by name.
        ceiling: for a metric, how well the labels agree with themselves; shown as the last row.

    Raises:
        InputError: a metric that was not judged, a cost of an unknown scorer.
    """
    judged = list(dict.fromkeys(evaluation.metrics["metric"]))
    names = [scorer.name for scorer in evaluation.scorers]
    for metric in (*metrics, *(ceiling or {})):
        if metric not in judged:
            raise unknown_value("metric", metric, judged)
    for name in costs or {}:
        if name not in names:
            raise unknown_value("scorer", name, names, "costs")
    board = evaluation.leaderboard(metrics[0])
    labels = evaluation.settings.get("labels", {})
    reference = evaluation.settings.get("reference")
    columns = ["scorer", "kind", *(labels.get(metric, metric) for metric in metrics)]
    if reference:
        columns.append(f"{labels.get(metrics[0], metrics[0])} − {reference}")
    if costs:
        columns += ["seconds", "peak memory", "cost"]
    rows: list[tuple[str, ...]] = []
    reasons: dict[str, None] = {}
    for name, kind in zip(board["scorer"], board["kind"], strict=True):
        cells = [name, kind]
        for metric in metrics:
            value = evaluation.value(name, metric)
            cells.append(_number(value["estimate"], value["low"], value["high"]))
            if value["reason"]:
                reasons[f"{name}, {labels.get(metric, metric)}: {value['reason']}"] = None
        if reference:
            cells.append(DASH if name == reference else _paired(evaluation.difference(name, reference, metrics[0])))
        if costs:
            cells += cost_cells(costs.get(name, Cost()))
        rows.append(tuple(cells))
    kinds = list(board["kind"])
    if ceiling:
        found = [f"{ceiling[metric]:.3f}" if metric in ceiling else DASH for metric in metrics]
        rows.append(("label ceiling", "labels", *found, *[DASH] * (len(columns) - 2 - len(metrics))))
        kinds.append("labels")
    return Table(
        tuple(columns),
        tuple(rows),
        tuple(kinds),
        (*_notes(evaluation, metrics), *reasons),
        tuple(f"{verdict.scorer} {verdict.text}" for verdict in evaluation.verdicts(metrics[0])),
    )


def as_markdown(table: Table) -> str:
    """A pipe table, the verdicts and the notes; learned models in bold."""
    lines = [
        "| " + " | ".join(_pipe(column) for column in table.columns) + " |",
        "|" + "|".join([" --- ", " --- ", *[" ---: "] * (len(table.columns) - 2)]) + "|",
    ]
    for kind, row in zip(table.kinds, table.rows, strict=True):
        first = f"**{_pipe(row[0])}**" if kind == "learned" else _pipe(row[0])
        lines.append("| " + " | ".join([first, *map(_pipe, row[1:])]) + " |")
    for part in (table.verdicts, table.notes):
        if part:
            lines += ["", *(f"- {line}" for line in part)]
    return "\n".join(lines) + "\n"


def as_html(table: Table) -> str:
    """A `<table>` with its verdicts and notes as lists; all texts escaped, no style of its own but classes."""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = "\n".join(
        f'<tr class="{escape(kind.replace(" ", "-"))}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for kind, row in zip(table.kinds, table.rows, strict=True)
    )
    lists = "".join(
        f'<ul class="{name}">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>\n"
        for name, lines in (("verdicts", table.verdicts), ("notes", table.notes))
        if lines
    )
    return f'<table class="leaderboard">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n{lists}'


def as_values(
    evaluation: Evaluation, metric: str = SHOWN[0], costs: Mapping[str, Cost] | None = None
) -> dict[str, Any]:
    """The leaderboard as plain values for JSON: rows in order, null for what is undefined, every reason beside it."""
    board = evaluation.leaderboard(metric)
    rows = []
    for name, kind, note in zip(board["scorer"], board["kind"], board["note"], strict=True):
        mine = evaluation.metrics[evaluation.metrics["scorer"] == name]
        numbers = {
            row["metric"]: {
                key: _plain(row[key])
                for key in ("estimate", "low", "high", "n", "n_positive", "n_groups", "prevalence", "seed_sd", "reason")
            }
            for row in mine.to_dict(orient="records")
        }
        cost = (costs or {}).get(name, Cost())
        rows.append({"scorer": name, "kind": kind, "note": note, "metrics": numbers, "cost": dict(cost.__dict__)})
    return {
        "ordered_by": metric,
        "rows": rows,
        "verdicts": [dict(verdict.__dict__) for verdict in evaluation.verdicts(metric)],
        "coverage": evaluation.coverage.to_json(),
        "settings": evaluation.settings,
    }


def _notes(evaluation: Evaluation, metrics: Sequence[str]) -> list[str]:
    settings = evaluation.settings
    binary = evaluation.metrics[evaluation.metrics["prevalence"].notna()]
    notes = []
    if not binary.empty:
        row = binary.iloc[0]
        negatives = " and ".join(settings.get("negatives", []))
        notes.append(
            f"Binary metrics: {row['n_positive']} {settings.get('positive')} against {row['n'] - row['n_positive']} "
            f"{negatives} in {row['n_groups']} groups; prevalence {row['prevalence']:.3f}, which is the AUPRC of "
            "knowing nothing."
        )
    coverage = evaluation.coverage
    if coverage.left_out:
        parts = "; ".join(f"{count} {reason}" for reason, count in coverage.left_out.items())
        notes.append(f"Of {coverage.read} test rows {coverage.used} are judged by binary metrics. Left out: {parts}.")
    notes.append(
        f"Brackets: {100 * settings.get('level', 0.95):g} % intervals from {settings.get('n_boot')} resamples of "
        "whole groups; differences are paired."
    )
    pitfalls, labels = settings.get("pitfalls", {}), settings.get("labels", {})
    notes += [f"{labels.get(metric, metric)}: {pitfalls[metric]}." for metric in metrics if metric in pitfalls]
    return notes


def _number(estimate: float, low: float, high: float) -> str:
    if np.isnan(estimate):
        return DASH
    text = _true_minus(f"{estimate:.3f}")
    return text if np.isnan(low) else f"{text} [{_true_minus(f'{low:.3f}')}, {_true_minus(f'{high:.3f}')}]"


def _paired(row: Any) -> str:
    if np.isnan(row["estimate"]):
        return DASH
    low, high = row["low"], row["high"]
    text = _true_minus(f"{row['estimate']:+.3f}")
    return text if np.isnan(low) else f"{text} [{_true_minus(f'{low:+.3f}')}, {_true_minus(f'{high:+.3f}')}]"


def _true_minus(text: str) -> str:
    return text.replace("-", "−")


def cost_cells(cost: Cost) -> list[str]:
    """Seconds, memory and dollars as texts; a dash for what was not recorded."""
    return [
        DASH if cost.seconds is None else f"{cost.seconds:.0f} s",
        DASH if cost.peak_memory_bytes is None else f"{cost.peak_memory_bytes / 2**30:.1f} GB",
        DASH if cost.dollars is None else f"${cost.dollars:.2f}",
    ]


def _pipe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value
