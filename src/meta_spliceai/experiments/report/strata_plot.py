"""Strata: one line a stratum and scorer, estimate with interval, the prevalence of the stratum as its own chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from meta_spliceai.experiments.report.forest_plot import kind_class, mark
from meta_spliceai.experiments.report.svg import Scale, line, number, padded, picture, tag, text, tick_label

ROW, HEAD, LABEL, PANEL = 22, 30, 250, 360
TITLES = {"auprc": "AUPRC", "auroc": "AUROC"}


def strata_plot(records: Sequence[Mapping[str, Any]], stratification: str, metric: str) -> Markup | None:
    """Every stratum of one stratification as a block of lines; None where none was judged.

    Args:
        records: as `evidence.json` holds them; those of other stratifications and metrics are left aside.
        stratification: region, type, source or position.
        metric: auprc or auroc.
    """
    mine = [r for r in records if r["stratification"] == stratification and r.get("metric") == metric]
    mine = [r for r in mine if r.get("estimate") is not None]
    if not mine:
        return None
    blocks: dict[str, list[Mapping[str, Any]]] = {}
    for record in mine:
        blocks.setdefault(str(record["stratum"]), []).append(record)
    seen = [r[key] for r in mine for key in ("estimate", "low", "high") if r.get(key) is not None]
    chance = [r["prevalence"] for r in mine if metric == "auprc" and r.get("prevalence") is not None]
    width = LABEL + PANEL + 76
    low, high = padded([*seen, *chance, *([0.5] if metric == "auroc" else [])], 0.05)
    scale = Scale(max(low, 0.0), min(high, 1.0), LABEL, LABEL + PANEL)
    height = 34 + sum(HEAD + ROW * len(block) for block in blocks.values()) + 10
    parts = [text(LABEL, 16, TITLES.get(metric, metric), "panel-title")]
    for tick in scale.ticks(5):
        parts.append(line(scale(tick), 26, scale(tick), height - 22, "grid"))
        parts.append(text(scale(tick), height - 6, tick_label(tick), "tick", "middle"))
    y = 30.0
    said = []
    for name, block in blocks.items():
        first = block[0]
        parts.append(text(8, y + 16, name, "panel-title"))
        parts.append(
            text(LABEL - 10, y + 16, f"{first['n']:,} variants, {first['n_positive']:,} altering", "tick", "end")
        )
        y += HEAD
        none = first.get("prevalence") if metric == "auprc" else 0.5
        if none is not None:
            parts.append(line(scale(none), y - 6, scale(none), y + ROW * len(block) - 4, "chance"))
        order = {"row zero": 0, "base": 1, "learned": 2}
        for record in sorted(block, key=lambda r: (order.get(r["kind"], 3), -r["estimate"])):
            middle = y + ROW / 2 - 4
            parts.append(mark(record["kind"], 18, middle, 4))
            parts.append(text(32, middle + 4.5, record["scorer"], "name"))
            words = f"{name}, {record['scorer']}: {TITLES.get(metric, metric)} {number(record['estimate'])}"
            if _known(record.get("low")) and _known(record.get("high")):
                parts.append(
                    line(
                        scale(record["low"]),
                        middle,
                        scale(record["high"]),
                        middle,
                        f"whisker {kind_class(record['kind'])}",
                    )
                )
                words += f" [{number(record['low'], 2)}, {number(record['high'], 2)}]"
            parts.append(tag("g", mark(record["kind"], scale(record["estimate"]), middle, 4.5), data_tip=words))
            parts.append(text(width - 6, middle + 4, number(record["estimate"]), "value", "end"))
            y += ROW
            said.append(words)
    return picture(
        width, height, f"{TITLES.get(metric, metric)} by {stratification}", "; ".join(said), *parts,
        class_="plot strata", tabindex=0,
    )  # fmt: skip


def _known(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
