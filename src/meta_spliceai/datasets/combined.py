"""Several data sets as one: "mfass+mapsy"; an allele that two of them have becomes one row."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets.human import LIFT_OVER_CHAIN
from meta_spliceai.datasets.registry import DataSet, Loaded
from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.genome.builds import GRCH37, GRCH38
from meta_spliceai.splice_engine.genome.source import JoinedSources, SequenceSource
from meta_spliceai.splice_engine.variants.coverage import EXAMPLES_KEPT, Coverage
from meta_spliceai.splice_engine.variants.liftover import NO_PLACE, Chain
from meta_spliceai.splice_engine.variants.merge import merge_alleles
from meta_spliceai.splice_engine.variants.table import CONFLICTING, as_variant_table, describe

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
        """Load every member with those of the options that it takes; an option "mfass.context" is for mfass alone."""
        taken = {member.name: list(inspect.signature(member.loader).parameters) for member in members}
        allowed = {words for one in taken for option in taken[one] for words in (option, f"{one}.{option}")}
        for option in options:
            if option not in allowed:
                raise unknown_value("option", option, sorted(allowed), f"data set {name}")
        loaded = []
        for member in members:
            own = options_of(member.name, options)
            loaded.append(member.loader(**{key: value for key, value in own.items() if key in taken[member.name]}))
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


def options_of(member: str, options: Mapping[str, object]) -> dict[str, object]:
    """A combination's options as one member is given them: its own ("mfass.context") over those for all ("context")."""
    own = {key.removeprefix(f"{member}."): value for key, value in options.items() if key.startswith(f"{member}.")}
    return {**{key: value for key, value in options.items() if "." not in key}, **own}


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
    genome = first.genome
    if len({one.genome.digest for one in loaded}) > 1:
        builds = [_build_of_places(one) for one in loaded]
        build = GRCH38 if GRCH38 in builds else builds[0]
        genome = _joined([one.genome for one in loaded], build, combined.name)
        loaded = [_placed_in(build, one) for one in loaded]
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
    return Loaded(merged, coverage.then(merging), genome, first.annotation, combined, options)


def _joined(genomes: Sequence[SequenceSource], build: str, name: str) -> JoinedSources:
    """Chromosomes and constructs, or constructs of several libraries, as one source of sequence.

    Raises:
        InputError: two of them have contigs in common, as two builds do.
    """
    try:
        return JoinedSources(genomes, build)
    except InputError as error:
        raise InputError(
            f"data set {name}: {error}; combine them in one genome and build (context=genome), or give the one of them "
            "that has reporters in its constructs (such as mfass.context=construct)"
        ) from error


def _build_of_places(loaded: Loaded) -> str:
    """The build in which the variants' places on the genome are told, by which splits hold out."""
    return loaded.genome.build if loaded.genome.build in (GRCH37, GRCH38) else loaded.dataset.build


def _placed_in(build: str, loaded: Loaded) -> Loaded:
    """A data set with its places on the genome in this build; only constructs can be told in another one."""
    table = loaded.variants
    if "context" not in table:
        table = table.assign(context=loaded.options.get("context", ""))
    coverage = Coverage(len(table))
    if _build_of_places(loaded) != build:
        chain = Chain(resources.resolve_edition(LIFT_OVER_CHAIN).path)
        places = [
            chain.lift(chrom, int(pos)) for chrom, pos in zip(table["genome_chrom"], table["genome_pos"], strict=True)
        ]
        found = [place is not None for place in places]
        coverage.leave_out(NO_PLACE, (describe(row) for _, row in table[[not one for one in found]].iterrows()))
        there = [place for place in places if place is not None]
        table = table[found].assign(genome_chrom=[one[0] for one in there], genome_pos=[one[1] for one in there])
    return replace(loaded, variants=table.reset_index(drop=True), coverage=loaded.coverage.then(coverage))
