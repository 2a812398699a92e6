"""A data set as a bundle carries it: the loaded table, the bases around its variants, its genes; no source file.

What is loaded from here has the identity of what was loaded from the sources: every file is compared with the bundle's
index, the table and genes with the digests they had there, the genome with the table's reference alleles; and a base
that was not packed is an error and not N. So a run from a bundle has the address of the same run from the sources.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from meta_spliceai.datasets.registry import DataSet, Loaded
from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import atomic_write
from meta_spliceai.read_hostile import MALFORMED
from meta_spliceai.resources.resolve import BUNDLE_INDEX, mirror_folders, verified
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.packed import Interval, PackedGenome, write_packed
from meta_spliceai.splice_engine.genome.sequence import decode
from meta_spliceai.splice_engine.variants.coverage import Coverage

FOLDER = "bundle/data"
"""Where data sets stand in a bundle, and in the mirror that it is opened as: one folder each."""

DESCRIPTION, TABLE, GENOME = "data-set.json", "variants.parquet", "genome.npz"


_DAMAGED: tuple[type[Exception], ...] = (*MALFORMED, InputError)


def store_dataset(
    loaded: Loaded, asked: Mapping[str, object], intervals: Iterable[Interval], folder: Path
) -> tuple[int, list[Path]]:
    """Write a loaded data set into a folder of plain data, and its genes beside it, once for all that share them.

    Args:
        loaded: the data set, from its sources.
        asked: the options it was asked for with, by which it is found again.
        intervals: the stretches of its genome to keep.
        folder: a new folder.

    Returns:
        bases kept, and the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / DESCRIPTION, folder / TABLE, folder / GENOME]
    with atomic_write(folder / TABLE, "wb") as handle:
        loaded.variants.to_parquet(handle, index=False, compression="zstd")
    bases = write_packed(loaded.genome, intervals, folder / GENOME)
    genes = loaded.annotation
    if genes is not None:
        files.append(_genes_file(folder, genes.digest))
        with atomic_write(files[-1], "wb") as handle:
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
    return bases, files


def _genes_file(folder: Path, digest: str) -> Path:
    return folder.parent / f"genes-{digest[:16]}.parquet"


def bundled_dataset(dataset: DataSet, asked: Mapping[str, object]) -> Loaded | None:
    """The data set from the first mirror folder that is an opened bundle with it; None if there is none.

    Args:
        dataset: what is asked for.
        asked: the loader's options; a bundle serves those it was made with.

    Raises:
        IntegrityError: the files are not those of the bundle's index, or do not belong together.
    """
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
        """The file itself, once it is what the index says; it may have been changed since the bundle was opened."""
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
    _compare_bases(table, genome)
    return loaded


def _compare_bases(table: pd.DataFrame, genome: PackedGenome) -> None:
    """The table's content is part of the data set's identity, and its reference alleles must be the genome's.

    So another genome cannot pass under the digest of the real one, even in a bundle that was put together anew.

    Raises:
        ValueError: they are not.
    """
    for chrom, pos, ref in zip(table["chrom"], table["pos"].astype(int), table["ref"], strict=True):
        try:
            held = decode(genome.fetch(chrom, pos - 1, pos - 1 + len(ref)))
        except InputError:  # a variant that no row of the bundle draws
            continue
        if held != ref:
            raise ValueError(f"its genome has {held[:20]} at {chrom}:{pos}, and the variant there {ref[:20]}")


def _genes_frame(annotation: GeneAnnotation) -> pd.DataFrame:
    """One row a gene; exons as lists of starts and ends."""
    rows = [
        (
            gene.name,
            gene.chrom,
            gene.strand,
            gene.start,
            gene.end,
            [one[0] for one in gene.exons],
            [one[1] for one in gene.exons],
        )
        for gene in annotation.genes
    ]
    return pd.DataFrame(rows, columns=["name", "chrom", "strand", "start", "end", "exon_starts", "exon_ends"])


def _genes(frame: pd.DataFrame) -> Iterable[Gene]:
    for row in frame.itertuples(index=False):
        exons = tuple((int(start), int(end)) for start, end in zip(row.exon_starts, row.exon_ends, strict=True))
        yield Gene(row.name, row.chrom, row.strand, int(row.start), int(row.end), exons)
