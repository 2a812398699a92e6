"""Strata: one line a stratum and scorer, estimate with interval, the prevalence of the stratum as its own chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from meta_spliceai.experiments.report.block_plot import Block, BlockLine, block_plot

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
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in mine:
        found.setdefault(str(record["stratum"]), []).append(record)
    blocks = [
        Block(
            name,
            [BlockLine(r["scorer"], r["kind"], r["estimate"], r.get("low"), r.get("high")) for r in block],
            f"{block[0]['n']:,} variants, {block[0]['n_positive']:,} altering",
            block[0].get("prevalence") if metric == "auprc" else 0.5,
        )
        for name, block in found.items()
    ]
    title = TITLES.get(metric, metric)
    return block_plot(blocks, title, f"{title} by {stratification}")
