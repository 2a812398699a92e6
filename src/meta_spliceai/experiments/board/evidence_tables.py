"""A run's evidence as tables: the same ones in documents and on the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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


ITSELF, NEARER_SITE = "the variant itself", "the exon's nearer site"
"""Answers to "where?" that know nothing of the variant's effect: baselines of the hit rates."""

NO_CHANGE = "no change"
"""The reference's sites, as the row's base network sees them, left as they are: baseline of the peaks."""


def peaks_in_words(peaks: Sequence[Record]) -> str:
    """What the records of `peaks` were evaluated on; those of early runs do not say on how many variants."""
    words = "Splice sites after adding Δ, against observed ones"
    if "n" not in peaks[0]:
        return words
    return (
        f"{words} ({peaks[0]['n']:,} variants; {peaks[0]['out_of_reach']:,} observed sites lie farther away than Δ is "
        "kept)"
    )


MEANINGS = {
    "peak precision": "of the sites predicted, those that are there",
    "peak recall": "of the sites that are there, those predicted",
    "gain detection": "of the gained sites observed that the reference lacks, those predicted",
    "loss detection": "of the lost sites observed that the reference has, those predicted to vanish",
    "false gain rate": "variants without a gained site that are given one; less is better",
}

FEW_GROUPS = 10
"""Groups below which an interval over groups is told to rest on few."""


def few_groups_in_words(peaks: Sequence[Record]) -> str:
    """Which shares among the records of `peaks` rest on few groups, whose intervals are then hardly more than the
    spread between those; empty where none does, and for early runs, whose records do not say."""
    few: dict[str, tuple[float, int]] = {}
    for record in peaks:
        if record.get("of") and "groups" in record and record["groups"] < FEW_GROUPS:
            few.setdefault(record["metric"].replace("_", " "), (record["of"], record["groups"]))
    if not few:
        return ""
    told = [
        f"{metric} rests on {of:,.0f} cases in {groups} {'group' if groups == 1 else 'groups'}"
        for metric, (of, groups) in few.items()
    ]
    return f"{'; '.join(told)}: so few say little of others, whatever the interval"


def hits_in_words(hits: Sequence[Record]) -> str:
    """What the records of `localisation` were evaluated on."""
    return (
        f"Strongest change at an observed site, within so many bases ({hits[0]['n']:,} variants with one in reach, "
        f"{hits[0]['out_of_reach']:,} others have theirs beyond it)"
    )


def kinds_in_words(record: Record) -> str:
    """What a record of `effect_types` was evaluated on, and how its confusion is to be read."""
    several = f"{record['several_observed']:,} with several observed kinds, any of which is right"
    return f"{record['n']:,} variants ({several}); rows observed, columns predicted"


def macro_f1(record: Record) -> Record:
    """The macro F1 of a record of `effect_types`, with its interval."""
    return next(one for one in record["metrics"] if one["metric"] == "macro F1")


def kinds_of(record: Record) -> list[str]:
    """The kinds of effect that a record of `effect_types` tells apart, in its order."""
    return [name for name in record["confusion"][0] if name != "observed"]


def crossed(records: Sequence[Record], key: str) -> tuple[list[Any], dict[str, dict[Any, Record]]]:
    """The values of `key`, in the order found, and for each scorer its record at each of them."""
    values = list(dict.fromkeys(record[key] for record in records))
    found: dict[str, dict[Any, Record]] = {}
    for record in records:
        found.setdefault(record["scorer"], {})[record[key]] = record
    return values, found
