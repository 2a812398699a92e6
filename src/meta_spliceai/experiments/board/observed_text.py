"""What a run's evidence says about observed splice sites, in the words that documents and the page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

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
