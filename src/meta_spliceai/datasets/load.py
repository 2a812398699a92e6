"""Load a data set by name, or several as one ("mfass+mapsy": an allele in both becomes one row): find its files, fetch
them, and read them from the sources or from a bundle, which holds the loaded table, the sequence around its variants
and its genes, but no source file.

What is loaded from a bundle has the identity of what was loaded from the sources: every file is compared with the
bundle's index, the table and genes with the digests they had there, the genome with the table's reference alleles; and
a base that was not packed is an error and not N. So a run from a bundle has the address of the same run from the
sources.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets import registry
from meta_spliceai.datasets.human import LIFT_OVER_CHAIN, human_annotation
from meta_spliceai.datasets.registry import DataSet, Loaded
from meta_spliceai.errors import (
    InputError,
    IntegrityError,
    MissingExtraError,
    MissingResourceError,
    unknown_value,
)
from meta_spliceai.files import atomic_write
from meta_spliceai.read_hostile import MALFORMED
from meta_spliceai.resources import Resource, ResourceFile
from meta_spliceai.resources.resolve import (
    BUNDLE_INDEX,
    addresses_of,
    find_here,
    mirror_folders,
    resolve_choice,
    sha256_once,
    verified,
)
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.human_genome import (
    BYTES,
    UCSC_NAMES,
    genome_addresses,
    get_genome,
    whole_genome,
)
from meta_spliceai.splice_engine.genome.packed import Interval, PackedGenome, write_packed
from meta_spliceai.splice_engine.genome.sequence import GRCH37, GRCH38, JoinedSources, SequenceSource, decode
from meta_spliceai.splice_engine.variants.alleles import NO_PLACE, Chain, merge_alleles
from meta_spliceai.splice_engine.variants.table import CONFLICTING, Coverage, as_variant_table, describe

GENOMES = {name: build for build, ucsc in UCSC_NAMES.items() for name in (build.lower(), ucsc)}
"""What a genome may be asked for by: its build."""


def get(name: str) -> DataSet:
    """The data set of that name, or a combination of several ("mfass+mapsy"); InputError with the nearest names where
    there is none."""
    parts = [registry.get(part.strip()) for part in name.split("+")]
    return parts[0] if len(parts) == 1 else combine(parts)


def load_dataset(name: str, **options: object) -> Loaded:
    """Read a data set by name: from an opened bundle among the mirror folders, or from its sources.

    Raises:
        InputError: unknown data set or option, or a file whose content cannot be used.
        MissingResourceError, MissingExtraError: a file cannot be had.
        IntegrityError: a file has another checksum than the registry says.
    """
    dataset = get(name)
    bundled = bundled_dataset(dataset, options)
    if bundled is not None:
        return bundled
    allowed = inspect.signature(dataset.loader).parameters
    for option in options if not dataset.members else ():
        if not allowed:
            raise InputError(f"data set {name} takes no options; '{option}' was given")
        if option not in allowed:
            raise unknown_value("option", option, allowed, f"data set {name}")
    return dataset.loader(**options)


def label_by_each_rule(classifications: Sequence[str]) -> list[str]:
    """Every data set's own rule gives its classes.

    An allele that several data sets have keeps its class where all agree, and is Conflicting where they do not.
    """
    return list(classifications)


def combine(members: Sequence[DataSet]) -> DataSet:
    """The combination of some data sets, before anything is read; InputError for fewer than two different ones."""
    name = "+".join(member.name for member in members)
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
    genome: SequenceSource = first.genome
    if len({one.genome.digest for one in loaded}) > 1:
        builds = [_build_of_places(one) for one in loaded]
        build = GRCH38 if GRCH38 in builds else builds[0]
        try:
            genome = JoinedSources([one.genome for one in loaded], build)
        except InputError as error:  # contigs in common, as two builds have
            raise InputError(
                f"data set {combined.name}: {error}; combine them in one genome and build (context=genome), or give "
                "the one of them that has reporters in its constructs (such as mfass.context=construct)"
            ) from error
        loaded = [_placed_in(build, one) for one in loaded]
    coverage = Coverage(sum(one.coverage.read for one in loaded))
    frames = []
    for one in loaded:
        for reason, count in one.coverage.left_out.items():
            coverage.add(reason, count, [f"{one.dataset.name}: {line}" for line in one.coverage.examples[reason]])
        named = one.variants["variant_id"].radd(f"{one.dataset.name}:")
        frames.append(one.variants.assign(variant_id=named, dataset=one.dataset.name))
    columns = sorted(  # those that all sources have come first
        dict.fromkeys(column for frame in frames for column in frame),
        key=lambda column: not all(column in frame for frame in frames),
    )
    table = pd.concat([frame.reindex(columns=columns) for frame in frames], ignore_index=True)
    merged, merging = merge_alleles(as_variant_table(table, combined.name), combined.name)
    options = {f"{one.dataset.name}.{key}": value for one in loaded for key, value in one.options.items()}
    return Loaded(merged, coverage.then(merging), genome, first.annotation, combined, options)


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


class State(NamedTuple):
    """Whether a data set's files are on this machine.

    Attributes:
        here: which edition, "yes" where there is only one, what is wrong; empty if they are not.
    """

    here: str
    paths: tuple[str, ...]
    get: str


def state_of(dataset: DataSet) -> State:
    """Which parts of a data set are on this machine; nothing is downloaded."""
    resource = resources.get(dataset.resource)
    brings = resource.how_to_get or f"meta-spliceai data get {dataset.name}"
    try:
        found = [find_here(resource, choice) for choice in resource.choices]
        if found and all(found):
            files = [one for one in found if one is not None]
            return State(files[0].entry.edition or "yes", tuple(str(one.path) for one in files), brings)
        if dataset.built is not None:
            return State("built here", (str(dataset.built.find()),), brings)
    except (IntegrityError, MissingExtraError) as error:
        return State("" if isinstance(error, MissingExtraError) else "damaged", (), str(error))
    except MissingResourceError:
        pass
    return State("", (), brings)


def files_in_words(dataset: DataSet) -> list[str]:
    files = resources.get(dataset.resource).files
    return [
        "  ".join(part for part in (one.edition, one.path, f"{one.size:,} bytes", one.sha256, one.url or "") if part)
        for one in files
    ]


def check_files(name: str) -> pd.DataFrame:
    """Find every file of a data set and compare its checksum: file, edition, path on this machine, bytes, SHA-256.

    Raises:
        MissingResourceError, MissingExtraError, IntegrityError: the first file that is not there or not right.
    """
    rows = []
    dataset = get(name)
    for part in dataset.members or (dataset,):
        resource = resources.get(part.resource)
        for choice in resource.choices:
            if part.built is not None and find_here(resource, choice) is None:
                path = part.built.find()
                rows.append((path.name, "built on this machine", str(path), path.stat().st_size, sha256_once(path)))
                continue
            found = resolve_choice(resource, choice)
            about = found.entry
            rows.append((about.path, about.edition, str(found.path), found.path.stat().st_size, about.sha256))
    return pd.DataFrame(rows, columns=["file", "edition", "path", "bytes", "sha256"])


def _needed_by(name: str) -> list[Resource]:
    if name not in registry.names():
        if name not in resources.names():
            raise unknown_value("name", name, sorted({*registry.names(), *resources.names(), *GENOMES}), "data get")
        return [resources.get(name)]
    dataset = registry.get(name)
    needed = [dataset.resource]
    if dataset.built is not None:
        needed = ["mfass", "mapsy", "cispliceai-validated", "deep-intronic", LIFT_OVER_CHAIN]
    elif "chain" in inspect.signature(dataset.loader).parameters:
        needed.append(LIFT_OVER_CHAIN)
    return [resources.get(one) for one in needed]


def get_named(name: str) -> list[Path]:
    """Fetch a data set, a resource or a genome; returns where its files are."""
    build = GENOMES.get(name.lower())
    if build is not None:
        return [whole_genome(build) or get_genome(build, lambda: human_annotation(build))]
    dataset = registry.get(name) if name in registry.names() else None
    if dataset is not None and dataset.built is not None:
        here = state_of(dataset)
        return [Path(path) for path in here.paths] if here.paths else [dataset.built.make()]
    found = []
    for resource in _needed_by(name):
        if not resource.files:
            raise MissingResourceError(f"{name}: {resource.how_to_get}")
        found += [resolve_choice(resource, choice).path for choice in resource.choices]
    if any(path.suffix == ".RData" for path in found) and importlib.util.find_spec("pyreadr") is None:
        raise MissingExtraError(f"{name} is here ({found[0]}), and reading it, an R object,", "r-objects")
    return found


def plan_of(name: str) -> list[str]:
    """What `get_named` would do, one line per file: where it is, or how many bytes are downloaded from where."""
    build = GENOMES.get(name.lower())
    if build is not None:
        here = whole_genome(build)
        return [f"{name}: here  {here}" if here else f"{name}: {BYTES[build]:,} bytes  {genome_addresses(build)[-1]}"]
    return [_planned(resource, choice) for resource in _needed_by(name) for choice in resource.choices]


def _planned(resource: Resource, choice: Sequence[ResourceFile]) -> str:
    found = find_here(resource, choice)
    if found is not None:
        edition = f" ({found.entry.edition})" if found.entry.edition else ""
        return f"{resource.name}: here{edition}  {found.path}"
    for address, entry in addresses_of(choice):
        return f"{resource.name}: {entry.size:,} bytes  {address}"
    return f"{resource.name}: no public address; {resource.how_to_get}"


FOLDER = "bundle/data"
"""Where data sets stand in a bundle, and in the mirror that it is opened as: one folder each."""

DESCRIPTION, TABLE, GENOME = "data-set.json", "variants.parquet", "genome.npz"


_DAMAGED: tuple[type[Exception], ...] = (*MALFORMED, InputError)


def store_dataset(loaded: Loaded, asked: Mapping[str, object], intervals: Iterable[Interval], folder: Path) -> int:
    """Write a loaded data set into a new folder of plain data, and its genes beside it, once for all that share them;
    bases kept. `asked`: the options it was asked for with, by which it is found again."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / TABLE, "wb") as handle:
        loaded.variants.to_parquet(handle, index=False, compression="zstd")
    bases = write_packed(loaded.genome, intervals, folder / GENOME)
    genes = loaded.annotation
    if genes is not None:
        with atomic_write(_genes_file(folder, genes.digest), "wb") as handle:
            _genes_frame(genes).to_parquet(handle, index=False, compression="zstd")
    description = {
        "name": loaded.dataset.name,
        "asked": dict(asked),
        "options": dict(loaded.options),
        "digest": loaded.digest,
        "coverage": loaded.coverage.to_json(),
        "genome": {"name": loaded.genome.name, "build": loaded.genome.build, "digest": loaded.genome.digest},
        "annotation": None if genes is None else {"name": genes.name, "build": genes.build, "digest": genes.digest},
    }
    with atomic_write(folder / DESCRIPTION) as handle:
        json.dump(description, handle, indent=2, ensure_ascii=False, allow_nan=False)
    return bases


def _genes_file(folder: Path, digest: str) -> Path:
    return folder.parent / f"genes-{digest[:16]}.parquet"


def bundled_dataset(dataset: DataSet, asked: Mapping[str, object]) -> Loaded | None:
    """The data set from the first mirror folder that is an opened bundle with it, made with these options of the
    loader; None if there is none. IntegrityError: the files are not those of the bundle's index, or do not belong
    together."""
    for mirror in mirror_folders():
        for file in sorted((mirror / FOLDER).glob(f"*/{DESCRIPTION}")):
            try:
                index = (mirror / BUNDLE_INDEX).read_bytes()
                opened = _Opened(mirror, json.loads(index)["members"])
                about = json.loads(opened.checked(file).read_text(encoding="utf-8"))
                if about["name"] == dataset.name and about["asked"] == dict(asked):
                    origin = f"bundle {hashlib.sha256(index).hexdigest()[:12]}"
                    return _load(opened, file.parent, about, dataset, origin)
            except _DAMAGED as error:
                raise IntegrityError(
                    f"{file.parent} holds no whole data set ({error}); open its bundle again"
                ) from error
    return None


class _Opened(NamedTuple):
    """An opened bundle, whose index names every file with its digest."""

    mirror: Path
    members: dict[str, dict[str, str]]

    def checked(self, file: Path) -> Path:
        return verified(file, self.members[file.relative_to(self.mirror).as_posix()]["sha256"])


def _load(opened: _Opened, folder: Path, about: dict[str, Any], dataset: DataSet, origin: str) -> Loaded:
    table = pd.read_parquet(opened.checked(folder / TABLE))
    genome = PackedGenome(opened.checked(folder / GENOME), **about["genome"])
    annotation = None
    if about["annotation"] is not None:
        name, build, digest = (about["annotation"][key] for key in ("name", "build", "digest"))
        genes = pd.read_parquet(opened.checked(_genes_file(folder, digest)))
        annotation = GeneAnnotation(_genes(genes), build=build, name=name)
        if annotation.digest != digest:
            raise ValueError("the genes are not those that were packed")
    coverage = Coverage.from_json(about["coverage"])
    loaded = Loaded(table, coverage, genome, annotation, dataset, about["options"], origin)
    if loaded.digest != about["digest"]:
        raise ValueError("the table is not the one that was packed")
    # The table's content is part of the data set's identity, and its reference alleles must be the genome's: another
    # genome cannot pass under the digest of the real one, even in a bundle that was put together anew.
    for chrom, pos, ref in zip(table["chrom"], table["pos"].astype(int), table["ref"], strict=True):
        try:
            held = decode(genome.fetch(chrom, pos - 1, pos - 1 + len(ref)))
        except InputError:  # a variant that no row of the bundle draws
            continue
        if held != ref:
            raise ValueError(f"its genome has {held[:20]} at {chrom}:{pos}, and the variant there {ref[:20]}")
    return loaded


def _genes_frame(annotation: GeneAnnotation) -> pd.DataFrame:
    """One row per gene; exons as lists of starts and ends."""
    rows = []
    for gene in annotation.genes:
        starts, ends = ([exon[side] for exon in gene.exons] for side in (0, 1))
        rows.append((gene.name, gene.chrom, gene.strand, gene.start, gene.end, starts, ends))
    return pd.DataFrame(rows, columns=["name", "chrom", "strand", "start", "end", "exon_starts", "exon_ends"])


def _genes(frame: pd.DataFrame) -> Iterable[Gene]:
    for row in frame.itertuples(index=False):
        exons = tuple((int(start), int(end)) for start, end in zip(row.exon_starts, row.exon_ends, strict=True))
        yield Gene(row.name, row.chrom, row.strand, int(row.start), int(row.end), exons)
