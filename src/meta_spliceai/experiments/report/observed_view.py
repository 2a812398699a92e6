"""A run against observed splice sites, for its page: peaks, positions and kinds of effect, each with its intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from meta_spliceai.experiments.observed_text import (
    ITSELF,
    NEARER_SITE,
    NO_CHANGE,
    Record,
    crossed,
    few_groups_in_words,
    hits_in_words,
    kinds_in_words,
    kinds_of,
    macro_f1,
    peaks_in_words,
)
from meta_spliceai.experiments.report.block_plot import Block, BlockLine, block_plot

F1_OF = "F1 of "

MEANINGS = {
    "peak_precision": "of the sites predicted, those that are there",
    "peak_recall": "of the sites that are there, those predicted",
    "gain_detection": "of the gained sites observed that the reference lacks, those predicted",
    "loss_detection": "of the lost sites observed that the reference has, those predicted to vanish",
    "false_gain_rate": "variants without a gained site that are given one; less is better",
}


@dataclass(frozen=True)
class ObservedPart:
    """One question asked of every scorer.

    Attributes:
        title: the question.
        words: what it was judged on.
        plot: None where no scorer has a number.
        columns: headings of the table, with what each means.
        rows: scorer, its kind, and a record (or None) for every column.
    """

    title: str
    words: str
    plot: Markup | None
    columns: list[tuple[str, str]]
    rows: list[tuple[str, str, list[Record | None]]]


@dataclass(frozen=True)
class Confusion:
    """Observed kinds of effect against those one scorer predicted.

    Attributes:
        scorer, kind: whose.
        words: what it was judged on.
        macro: macro F1 with its interval.
        kinds: columns.
        rows: an observed kind, its variants, and of each predicted kind (count, share of the row).
    """

    scorer: str
    kind: str
    words: str
    macro: Record
    kinds: list[str]
    rows: list[tuple[str, int, list[tuple[int, float]]]]


@dataclass(frozen=True)
class ObservedView:
    """What the page shows; both are empty for data sets without observed sites."""

    parts: list[ObservedPart]
    confusions: list[Confusion]


def observed_view(evidence: Mapping[str, Any], learned: str) -> ObservedView:
    """A run's evidence on observed sites.

    Args:
        evidence: evidence.json.
        learned: the run's row, by whose id its model is named.
    """
    kind = _kind_of(learned)
    peaks, hits, kinds = (_records(evidence, name) for name in ("peaks", "localisation", "effect_types"))
    parts = []
    if hits:
        parts.append(_hits(hits, kind))
    if peaks:
        parts.append(_peaks(peaks, kind))
    if kinds:
        parts.append(_kinds(kinds, kind))
    return ObservedView(parts, [_confusion(record, kind) for record in _learned_first(kinds, learned)])


def _records(evidence: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = evidence.get(name)
    return [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []


def _kind_of(learned: str) -> Callable[[str], str]:
    def kind(scorer: str) -> str:
        if scorer in (ITSELF, NEARER_SITE, NO_CHANGE):
            return "row zero"
        return "learned" if scorer == learned else "base"

    return kind


def _learned_first(records: Sequence[dict[str, Any]], learned: str) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: record["scorer"] != learned)


def _part(
    title: str,
    words: str,
    measure: str,
    columns: Sequence[tuple[Any, str, str, str]],
    found: Mapping[str, Mapping[Any, Record]],
    kind: Callable[[str], str],
    more: Callable[[Record], str],
    only_in_table: Sequence[Any] = (),
) -> ObservedPart:
    """One part from its columns (key, heading, meaning, words beside the block's heading) and the scorers' records."""
    blocks = [
        Block(
            heading,
            [
                BlockLine(name, kind(name), mine[key]["estimate"], mine[key].get("low"), mine[key].get("high"),
                          more(mine[key]))
                for name, mine in found.items()
                if key in mine and mine[key].get("estimate") is not None
            ],
            aside,
        )
        for key, heading, _, aside in columns
        if key not in only_in_table
    ]  # fmt: skip
    drawn = [block for block in blocks if block.lines]
    order = ("row zero", "base", "learned")
    rows = sorted(
        ((name, kind(name), [mine.get(key) for key, *_ in columns]) for name, mine in found.items()),
        key=lambda row: order.index(row[1]),
    )
    plot = block_plot(drawn, measure, title) if drawn else None
    return ObservedPart(title, words, plot, [(heading, meaning) for _, heading, meaning, _ in columns], rows)


def _hits(hits: Sequence[Record], kind: Callable[[str], str]) -> ObservedPart:
    tolerances, found = crossed(hits, "tolerance")
    columns = [(near, f"{near} nt" if near == 0 else f"±{near} nt", "", "") for near in tolerances]

    def silent(record: Record) -> str:
        return f"{record['n_without_prediction']:,} without an answer" if record.get("n_without_prediction") else ""

    return _part("Is the strongest change at the right place?", hits_in_words(hits), "hit rate", columns, found, kind,
                 silent)  # fmt: skip


def _peaks(peaks: Sequence[Record], kind: Callable[[str], str]) -> ObservedPart:
    metrics, found = crossed(peaks, "metric")
    columns = [
        (metric, metric.replace("_", " "), MEANINGS.get(metric, ""), "less is better" if "false" in metric else "")
        for metric in metrics
    ]

    def counted(record: Record) -> str:
        hits, of = record.get("hits"), record.get("of")
        return f"{hits:,.0f} of {of:,.0f}" if isinstance(hits, int | float) and isinstance(of, int | float) else ""

    words = ". ".join(filter(None, (peaks_in_words(peaks), few_groups_in_words(peaks))))
    return _part("Do sites appear and vanish where they were seen to?", words, "share", columns, found, kind, counted)


def _kinds(kinds: Sequence[Record], kind: Callable[[str], str]) -> ObservedPart:
    found = {record["scorer"]: {one["metric"]: one for one in record["metrics"]} for record in kinds}
    first = kinds[0]
    named = [one["metric"] for one in first["metrics"]]
    columns = [(metric, metric.removeprefix(F1_OF) if metric.startswith(F1_OF) else metric, "", "") for metric in named]

    def counted(record: Record) -> str:
        return f"{record['n']:,} observed" if record["metric"].startswith(F1_OF) and "n" in record else ""

    words = f"Kind of effect on {kinds_in_words(first).partition(';')[0]}"
    return _part("Is the kind of effect right?", words, "F1", columns, found, kind, counted, ("accuracy",))


def _confusion(record: Record, kind: Callable[[str], str]) -> Confusion:
    kinds = kinds_of(record)
    rows = []
    for line in record["confusion"]:
        total = sum(line[name] for name in kinds)
        cells = [(line[name], line[name] / total if total else 0.0) for name in kinds]
        rows.append((line["observed"], total, cells))
    scorer = record["scorer"]
    words = kinds_in_words(record).partition(";")[0]
    return Confusion(scorer, kind(scorer), words, macro_f1(record), kinds, rows)
