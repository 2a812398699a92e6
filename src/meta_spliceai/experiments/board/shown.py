"""Format numbers, amounts and tables for people, identically in the terminal, in documents and on the site; and a run's
evidence as such tables, and as the sentences of `runs show`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from meta_spliceai.experiments.store.ledger import NO_CHANGE
from meta_spliceai.experiments.store.workspace import RunDirectory

DASH = "–"


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        columns: headings.
        rows: one text per column.
        left: columns from the left that hold words, not numbers.
        kinds: of each row, where rows are scorers: "baseline", "base", "learned" or "labels".
        title: what stands above it.
        remarks: lists of sentences below it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    kinds: Sequence[str] = ()
    title: str = ""
    remarks: Sequence[Sequence[str]] = ()


def number(value: object, decimals: int = 3, sign: bool = False) -> str:
    """A fixed number of decimals with a true minus sign, never a negative zero; a dash for what is no number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return DASH
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    return f"{0:.{decimals}f}" if float(text) == 0 else text.replace("-", "−")


def interval(low: object, high: object, decimals: int = 3, sign: bool = False) -> str:
    """An interval in brackets; empty where an end is unknown."""
    ends = number(low, decimals, sign), number(high, decimals, sign)
    return "" if DASH in ends else f"[{ends[0]}, {ends[1]}]"


def estimate(record: Mapping[str, Any] | None, decimals: int = 3, sign: bool = False) -> str:
    """The fields estimate, low and high of a record: `0.712 [0.650, 0.770]`; a dash without an estimate."""
    if record is None:
        return DASH
    value = number(record.get("estimate"), decimals, sign)
    around = interval(record.get("low"), record.get("high"), decimals, sign)
    return value if value == DASH or not around else f"{value} {around}"


def duration(seconds: object) -> str:
    """A duration in seconds: `7.0 s`, `59 s`, `1 min 23 s`, `2 h 01 min`."""
    if number(seconds) == DASH:
        return DASH
    whole = round(seconds)  # type: ignore[call-overload]
    if whole < 60:
        return f"{seconds:.1f} s" if whole < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def memory(size: object) -> str:
    """Bytes in units of 1024."""
    if number(size) == DASH:
        return DASH
    small = size / 2**20 < 1023.5  # type: ignore[operator]
    return f"{size / 2**20:.0f} MiB" if small else f"{size / 2**30:.2f} GiB"  # type: ignore[operator]


def dollars(amount: object) -> str:
    """US dollars; what rounds to nothing and is more is `< $0.01`."""
    if number(amount) == DASH:
        return DASH
    return f"${amount:,.2f}" if amount == 0 or amount >= 0.005 else "< $0.01"  # type: ignore[operator]


def as_markdown(table: Table) -> str:
    """A pipe table and its remarks as lists; learned models in bold."""
    ruler = [" --- "] * table.left + [" ---: "] * (len(table.columns) - table.left)
    rows = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    for row, kind in zip(rows[1:], table.kinds, strict=False):
        row[0] = f"**{row[0]}**" if kind == "learned" else row[0]
    head, *lines = [f"| {' | '.join(row)} |" for row in rows]
    lines = [head, f"|{'|'.join(ruler)}|", *lines]
    for remark in filter(None, table.remarks):
        lines += ["", *(f"- {line}" for line in remark)]
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------- evidence

Record = Mapping[str, Any]
STATED = ("brier", "brier_skill", "calibration_error")

MEANINGS = {
    "peak precision": "of the sites predicted, those that are there",
    "peak recall": "of the sites that are there, those predicted",
    "gain detection": "of the gained sites observed that the reference lacks, those predicted",
    "loss detection": "of the lost sites observed that the reference has, those predicted to vanish",
    "false gain rate": "variants without a gained site that are given one; less is better",
}

FEW_GROUPS = 10
"""Groups below which an interval over groups is told to rest on few."""


def evidence_tables(evidence: Record, strata_of: Callable[[str], bool] = lambda _: True) -> list[Table]:
    """Tables of strata, position held fixed, gain over position, predicted probabilities and observed sites.

    Args:
        strata_of: whether a scorer stands in the table of strata.
    """
    held = [[record["scorer"], estimate(record)] for record in records(evidence, "within_position")]
    gains = [
        [record["scorer"], number(record.get("position")), number(record.get("with_scorer")), estimate(record)]
        for record in records(evidence, "gain_over_position")
        if record["metric"] == "auprc"
    ]
    stated = []
    for record in records(evidence, "calibration"):
        summary = {one["metric"]: one for one in record["summary"]}
        stated.append([record["scorer"], *(estimate(summary.get(name)) for name in STATED)])
    fixed, gained, said = (
        "AUROC with position held fixed (0.5: no information beyond position)",
        "What a score adds to position (AUPRC, out-of-fold on the evaluated rows)",
        "Predicted probabilities",
    )
    found = [
        strata_table(records(evidence, "strata"), strata_of),
        Table(("scorer", "AUROC within bins of position"), held, title=fixed),
        Table(("scorer", "position", "position and score", "gain"), gains, title=gained),
        Table(("scorer", "Brier score", "Brier skill", "calibration error"), stated, title=said),
        *_observed_tables(evidence),
    ]
    return [table for table in found if table.rows]


def records(evidence: Record, name: str) -> list[dict[str, Any]]:
    """A list of the evidence; empty where it is none."""
    found = evidence.get(name)
    return [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []


def strata_table(strata: Sequence[Record], strata_of: Callable[[str], bool] = lambda _: True) -> Table:
    """AUPRC with one row per stratum of region, kind of variant and source, and one column per scorer."""
    shown = [
        record
        for record in strata
        if record.get("metric") == "auprc" and record["stratification"] in ("region", "type", "source")
    ]
    by_stratum: dict[tuple[str, str], dict[str, Record]] = {}
    for record in shown:
        by_stratum.setdefault((record["stratification"], record["stratum"]), {})[record["scorer"]] = record
    scorers = [name for name in dict.fromkeys(record["scorer"] for record in shown) if strata_of(name)]
    rows = []
    for (_, stratum), mine in by_stratum.items():
        size = next(iter(mine.values()))
        cells = [estimate(mine.get(name)) for name in scorers]
        rows.append([str(stratum), f"{size['n']:,}", f"{size['n_positive']:,}", *cells])
    return Table(("stratum", "variants", "altering", *scorers), rows, title="AUPRC within strata")


def _observed_tables(evidence: Record) -> list[Table]:
    """Peaks, positions and kinds of effect against observed ones, of every network and the model."""
    found = []
    peaks, hits = records(evidence, "peaks"), records(evidence, "localisation")
    if peaks:
        title = "Splice sites after adding Δ, against observed ones"
        if "n" in peaks[0]:  # early runs do not say on how many variants
            beyond = f"{peaks[0]['out_of_reach']:,} observed sites lie beyond the range of Δ"
            title += f" ({peaks[0]['n']:,} variants; {beyond})"
        few = _resting_on_few(peaks)
        table = _crossed(peaks, "metric", title, lambda name: str(name).replace("_", " "))
        found.append(replace(table, remarks=[[few]] if few else []))
    if hits:
        title = (
            f"Strongest change within this many bases of an observed site ({hits[0]['n']:,} variants with a site in "
            f"range, {hits[0]['out_of_reach']:,} more with sites out of range)"
        )
        found.append(_crossed(hits, "tolerance", title, lambda near: f"{near} nt"))
    for record in records(evidence, "effect_types"):
        kinds = [name for name in record["confusion"][0] if name != "observed"]
        rows = [[line["observed"], *(f"{line[kind]:,}" for kind in kinds)] for line in record["confusion"]]
        title = (
            f"Kind of effect, {record['scorer']}: macro F1 {estimate(_macro_f1(record))} on {record['n']:,} variants "
            f"({record['several_observed']:,} with several observed kinds, any of which counts as correct); rows "
            "observed, columns predicted"
        )
        found.append(Table(("", *kinds), rows, title=title))
    return found


def _resting_on_few(peaks: Sequence[Record]) -> str:
    """Which shares rest on few groups, whose intervals are then hardly more than the spread between those; empty where
    none does, and for early runs, whose records do not say."""
    few: dict[str, str] = {}
    for record in peaks:
        if record.get("of") and record.get("groups", FEW_GROUPS) < FEW_GROUPS:
            name, groups = record["metric"].replace("_", " "), record["groups"]
            words = f"{name} rests on {record['of']:,.0f} cases in {groups} {'group' if groups == 1 else 'groups'}"
            few.setdefault(name, words)
    told = "; ".join(few.values())
    return f"{told[0].upper()}{told[1:]}: too few to generalise from, whatever the interval." if told else ""


def _crossed(found: Sequence[Record], key: str, title: str, heading: Callable[[object], str]) -> Table:
    """A row per scorer, a column per value of `key`."""
    values, mine = crossed(found, key)
    rows = [[scorer, *(estimate(cells.get(value)) for value in values)] for scorer, cells in mine.items()]
    return Table(("scorer", *map(heading, values)), rows, title=title)


def crossed(records: Sequence[Record], key: str) -> tuple[list[Any], dict[str, dict[Any, Record]]]:
    """The values of `key`, in the order found, and for each scorer its record at each of them."""
    found: dict[str, dict[Any, Record]] = {}
    for record in records:
        found.setdefault(record["scorer"], {})[record[key]] = record
    return list(dict.fromkeys(record[key] for record in records)), found


def _macro_f1(record: Record) -> Record:
    return next(one for one in record["metrics"] if one["metric"] == "macro F1")


def evidence_in_short(run: RunDirectory) -> list[str]:
    """Lines on a finished run's base networks, leaks, position, calibration and observed sites.

    What beats what, and the rows left out, stand on the leaderboard and are not repeated here.
    """
    data, evidence = run.data(), run.evidence()
    base, beside = data["base"], ", ".join(str(one["name"]) for one in data.get("beside", []))
    networks = f"base network: {base['name']} ({base['networks']} networks), Δ within {base['distance']} bases"
    lines = [networks + (f"; beside it {beside}" if beside else ""), f"leaks: {_leaks(data)}"]
    lines += [
        f"beyond position: {record['scorer']} adds {estimate(record)} AUPRC to position alone"
        for record in records(evidence, "gain_over_position")
        if record["metric"] == "auprc" and record["scorer"] == run.row_id and record["estimate"] is not None
    ]
    lines += [
        f"stated probabilities: calibration error {estimate(one)}"
        for record in records(evidence, "calibration")
        for one in record["summary"]
        if record["scorer"] == run.row_id and one["metric"] == "calibration_error"
    ]
    told: dict[str, list[str]] = {}
    wanted = {"gain_detection": "gains found", "loss_detection": "losses found", "false_gain_rate": "false gains"}
    for record in records(evidence, "peaks"):
        if record["metric"] in wanted and record["estimate"] is not None and record["scorer"] != NO_CHANGE:
            told.setdefault(record["scorer"], []).append(f"{wanted[record['metric']]} {estimate(record)}")
    for record in records(evidence, "localisation"):
        if record["tolerance"] == 0 and record["scorer"] in told and record["estimate"] is not None:
            told[record["scorer"]].append(f"strongest change at an observed site {estimate(record)}")
    for record in records(evidence, "effect_types"):
        told.setdefault(record["scorer"], []).append(f"kind of effect, macro F1 {estimate(_macro_f1(record))}")
    return [*lines, *(f"observed sites, {scorer}: {', '.join(words)}" for scorer, words in told.items())]


def _leaks(data: Mapping[str, Any]) -> str:
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
