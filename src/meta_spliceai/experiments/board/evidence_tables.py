"""A run's evidence as tables: the same ones in documents and on the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meta_spliceai.experiments.board.observed_text import (
    crossed,
    few_groups_in_words,
    hits_in_words,
    kinds_in_words,
    kinds_of,
    macro_f1,
    peaks_in_words,
)
from meta_spliceai.experiments.board.shown import Table, estimate, number

Record = Mapping[str, Any]
STATED = ("brier", "brier_skill", "calibration_error")


def evidence_tables(evidence: Record, strata_of: Callable[[str], bool] = lambda _: True) -> list[Table]:
    """Tables of strata, position held fixed, gain over position, stated probabilities and observed sites.

    Args:
        evidence: evidence.json.
        strata_of: whether a scorer stands in the table of strata.
    """
    held = records(evidence, "within_position")
    gains = [record for record in records(evidence, "gain_over_position") if record["metric"] == "auprc"]
    found = [strata_table(records(evidence, "strata"), "auprc", strata_of)]
    found.append(
        Table(
            ("scorer", "AUROC within bins of position"),
            [[record["scorer"], estimate(record)] for record in held],
            title="AUROC with position held fixed (0.5: knows position only)",
        )
    )
    found.append(
        Table(
            ("scorer", "position", "position and score", "gain"),
            [
                [record["scorer"], number(record.get("position")), number(record.get("with_scorer")), estimate(record)]
                for record in gains
            ],
            title="What a score adds to position (AUPRC, out of fold on the evaluated rows)",
        )
    )
    stated = []
    for record in records(evidence, "calibration"):
        summary = {one["metric"]: one for one in record["summary"]}
        stated.append([record["scorer"], *(estimate(summary.get(name)) for name in STATED)])
    found.append(
        Table(("scorer", "Brier score", "Brier skill", "calibration error"), stated, title="Stated probabilities")
    )
    return [table for table in [*found, *observed_tables(evidence)] if table.rows]


def records(evidence: Record, name: str) -> list[dict[str, Any]]:
    """A list of the evidence; empty where it is none."""
    found = evidence.get(name)
    return [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []


def strata_table(strata: Sequence[Record], metric: str, strata_of: Callable[[str], bool]) -> Table:
    """One row a stratum of region, kind of variant and source; one column a scorer."""
    mine = [
        record
        for record in strata
        if record.get("metric") == metric and record["stratification"] in ("region", "type", "source")
    ]
    scorers = [name for name in dict.fromkeys(record["scorer"] for record in mine) if strata_of(name)]
    rows = []
    for place in dict.fromkeys((record["stratification"], record["stratum"]) for record in mine):
        here = {record["scorer"]: record for record in mine if (record["stratification"], record["stratum"]) == place}
        size = next(iter(here.values()))
        cells = [estimate(here.get(name)) for name in scorers]
        rows.append([str(place[1]), f"{size['n']:,}", f"{size['n_positive']:,}", *cells])
    return Table(("stratum", "variants", "altering", *scorers), rows, title=f"{metric.upper()} within strata")


def observed_tables(evidence: Record) -> list[Table]:
    """Peaks, positions and kinds of effect against observed ones, of every network and the model."""
    found = []
    peaks, hits = records(evidence, "peaks"), records(evidence, "localisation")
    if peaks:
        few = few_groups_in_words(peaks)
        found.append(_crossed(peaks, "metric", peaks_in_words(peaks), lambda name: str(name).replace("_", " "), few))
    if hits:
        found.append(_crossed(hits, "tolerance", hits_in_words(hits), lambda near: f"{near} nt"))
    for record in records(evidence, "effect_types"):
        kinds = kinds_of(record)
        rows = [[line["observed"], *(f"{line[kind]:,}" for kind in kinds)] for line in record["confusion"]]
        words = f"Kind of effect, {record['scorer']}: macro F1 {estimate(macro_f1(record))} on {kinds_in_words(record)}"
        found.append(Table(("", *kinds), rows, title=words))
    return found


def _crossed(
    found: Sequence[Record], key: str, title: str, heading: Callable[[object], str], remark: str = ""
) -> Table:
    """A row a scorer, a column a value of `key`."""
    values, mine = crossed(found, key)
    rows = [[scorer, *(estimate(cells.get(value)) for value in values)] for scorer, cells in mine.items()]
    remarks = [[f"{remark[0].upper()}{remark[1:]}."]] if remark else []
    return Table(("scorer", *map(heading, values)), rows, title=title, remarks=remarks)
