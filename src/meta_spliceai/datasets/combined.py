"""Several data sets as one: "mfass+mapsy"; an allele that two of them have becomes one row."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import pandas as pd

from meta_spliceai.datasets.registry import DataSet, Loaded
from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.variants.coverage import EXAMPLES_KEPT, Coverage
from meta_spliceai.splice_engine.variants.merge import merge_alleles
from meta_spliceai.splice_engine.variants.table import CONFLICTING, as_variant_table

JOIN = "+"


def label_by_each_rule(classifications: Sequence[str]) -> list[str]:
    """Every data set's own rule gives its classes.

    An allele that several data sets have keeps its class where all agree, and is Conflicting where they do not.
    """
    return list(classifications)


def combine(members: Sequence[DataSet]) -> DataSet:
    """The combination of some data sets, before anything is read.

    Raises:
        InputError: fewer than two different ones.
    """
    name = JOIN.join(member.name for member in members)
    if len({member.name for member in members}) < max(2, len(members)):
        raise InputError(f"data set {name}: a combination is of two or more different data sets")

    def load(**options: object) -> Loaded:
        """Load every member with those of the options that it takes."""
        taken = [inspect.signature(member.loader).parameters for member in members]
        for option in options:
            if not any(option in takes for takes in taken):
                raise unknown_value("option", option, sorted(set().union(*taken)), f"data set {name}")
        loaded = [
            member.loader(**{key: value for key, value in options.items() if key in takes})
            for member, takes in zip(members, taken, strict=True)
        ]
        return _merged(loaded, combined)

    combined = DataSet(
        name=name,
        title="; ".join(member.title for member in members),
        resource="",
        build=members[0].build,
        rows=sum(member.rows for member in members),
        effect="each source's own unit, not comparable between sources: "
        + "; ".join(f"{member.name}: {member.effect}" for member in members),
        label_rule=label_by_each_rule,
        loader=load,
        evidence=agreement,
        notes=" ".join(member.notes for member in members),
        members=tuple(members),
    )
    return combined


def agreement(loaded: Loaded) -> pd.DataFrame:
    """Alleles measured more than once: how many agree, and how many became Conflicting."""
    several = loaded.variants[loaded.variants["measurements"] > 1]
    against = int((several["classification"] == CONFLICTING).sum())
    return pd.DataFrame(
        [("measured more than once", len(several)), ("all agree", len(several) - against), ("Conflicting", against)],
        columns=["alleles", "count"],
    )


def _merged(loaded: Sequence[Loaded], combined: DataSet) -> Loaded:
    first = loaded[0]
    for other in loaded[1:]:
        if other.genome.digest != first.genome.digest:
            raise InputError(
                f"data set {combined.name}: {first.dataset.name} is in {first.genome.name} ({first.genome.build}), "
                f"{other.dataset.name} in {other.genome.name} ({other.genome.build}); combine them in one genome and "
                "build (context=genome)"
            )
    coverage = Coverage(sum(one.coverage.read for one in loaded))
    frames = []
    for one in loaded:
        for reason, count in one.coverage.left_out.items():
            coverage.left_out[reason] = coverage.left_out.get(reason, 0) + count
            kept = coverage.examples.setdefault(reason, [])
            told = one.coverage.examples[reason][: EXAMPLES_KEPT - len(kept)]
            kept.extend(f"{one.dataset.name}: {line}" for line in told)
        named = one.variants["variant_id"].radd(f"{one.dataset.name}:")
        frames.append(one.variants.assign(variant_id=named, dataset=one.dataset.name))
    columns = sorted(  # those that all sources have come first
        dict.fromkeys(column for frame in frames for column in frame),
        key=lambda column: not all(column in frame for frame in frames),
    )
    table = pd.concat([frame.reindex(columns=columns) for frame in frames], ignore_index=True)
    table = as_variant_table(table, combined.name)
    merged, merging = merge_alleles(table, combined.name)
    options = {f"{one.dataset.name}.{key}": value for one in loaded for key, value in one.options.items()}
    return Loaded(merged, coverage.then(merging), first.genome, first.annotation, combined, options)
