"""A data set as a bundle carries it: the loaded table, the bases around its variants, its genes; no source file.

What is loaded from here has the identity of what was loaded from the sources: the table is compared with the digest it
had there, and a base that was not packed is an error and not N. So a run from a bundle has the address, and is found
as the result, of the same run from the sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.datasets.registry import DataSet, Loaded
from meta_spliceai.errors import IntegrityError
from meta_spliceai.files import atomic_write, sha256_file
from meta_spliceai.resources.bundles import INDEX
from meta_spliceai.resources.resolve import mirror_folders
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.packed import Interval, PackedGenome, write_packed
from meta_spliceai.splice_engine.variants.coverage import Coverage

FOLDER = "bundle/data"
"""Where data sets stand in a bundle, and in the mirror that it is opened as: one folder each."""

DESCRIPTION, TABLE, GENOME = "data-set.json", "variants.parquet", "genome.npz"


def store_dataset(loaded: Loaded, asked: Mapping[str, object], intervals: Iterable[Interval], folder: Path) -> int:
    """Write a loaded data set into a folder of plain data, and its genes beside it, once for all that share them.

    Args:
        loaded: the data set, from its sources.
        asked: the options it was asked for with, by which it is found again.
        intervals: the stretches of its genome to keep.
        folder: a new folder.

    Returns:
        bases kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / TABLE, "wb") as handle:
        loaded.variants.to_parquet(handle, index=False, compression="zstd")
    bases = write_packed(loaded.genome, intervals, folder / GENOME)
    genes = loaded.annotation
    if genes is not None:
        with atomic_write(genes_file(folder, genes.digest), "wb") as handle:
            _genes_frame(genes).to_parquet(handle, index=False, compression="zstd")
    description = {
        "name": loaded.dataset.name,
        "asked": dict(asked),
        "options": dict(loaded.options),
        "digest": loaded.digest,
        "rows": len(loaded.variants),
        "coverage": loaded.coverage.to_json(),
        "genome": {"name": loaded.genome.name, "build": loaded.genome.build, "digest": loaded.genome.digest},
        "annotation": None if genes is None else {"name": genes.name, "build": genes.build, "digest": genes.digest},
    }
    with atomic_write(folder / DESCRIPTION) as handle:
        json.dump(description, handle, indent=2, ensure_ascii=False, allow_nan=False)
    return bases


def genes_file(folder: Path, digest: str) -> Path:
    """Where the genes of the data set in a folder stand: beside it, under their content."""
    return folder.parent / f"genes-{digest[:16]}.parquet"


def bundled_dataset(dataset: DataSet, asked: Mapping[str, object]) -> Loaded | None:
    """The data set from the first mirror folder that is an opened bundle with it; None if there is none.

    Args:
        dataset: what is asked for.
        asked: the loader's options; a bundle serves those it was made with.

    Raises:
        IntegrityError: the bundle's files are not what its description says.
    """
    for mirror in mirror_folders():
        for file in sorted((mirror / FOLDER).glob(f"*/{DESCRIPTION}")):
            description = _description(file)
            if description["name"] == dataset.name and description["asked"] == dict(asked):
                return _load(file.parent, description, dataset, _origin(mirror))
    return None


def _origin(mirror: Path) -> str:
    """The bundle in words: what its index hashes to, so that two bundles are told apart."""
    return f"bundle {sha256_file(mirror / INDEX)[:12]}"


def _load(folder: Path, description: dict[str, Any], dataset: DataSet, origin: str) -> Loaded:
    try:
        table = pd.read_parquet(folder / TABLE)
        genome = PackedGenome(folder / GENOME, **description["genome"])
        annotation = None
        if description["annotation"] is not None:
            about = description["annotation"]
            annotation = GeneAnnotation(
                _genes(pd.read_parquet(genes_file(folder, about["digest"]))), build=about["build"], name=about["name"]
            )
        account = description["coverage"]
        coverage = Coverage(account["read"], account["left_out"], account["examples"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder} holds no whole data set ({error}); open its bundle again") from error
    loaded = Loaded(table, coverage, genome, annotation, dataset, description["options"], origin)
    if loaded.digest != description["digest"]:
        raise IntegrityError(f"{folder}: the table is not the one that was packed; open its bundle again")
    if annotation is not None and annotation.digest != description["annotation"]["digest"]:
        raise IntegrityError(f"{folder}: the genes are not those that were packed; open its bundle again")
    return loaded


def _description(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IntegrityError(f"{file} is damaged ({error}); open its bundle again") from error
    needed = {"name", "asked", "options", "digest", "coverage", "genome", "annotation"}
    if not isinstance(content, dict) or not needed <= content.keys():
        raise IntegrityError(f"{file} does not describe a data set; open its bundle again")
    return content


def _genes_frame(annotation: GeneAnnotation) -> pd.DataFrame:
    """One row a gene; exons as lists of starts and ends."""
    return pd.DataFrame(
        {
            "name": [gene.name for gene in annotation.genes],
            "chrom": [gene.chrom for gene in annotation.genes],
            "strand": [gene.strand for gene in annotation.genes],
            "start": np.array([gene.start for gene in annotation.genes], np.int64),
            "end": np.array([gene.end for gene in annotation.genes], np.int64),
            "exon_starts": [[start for start, _ in gene.exons] for gene in annotation.genes],
            "exon_ends": [[end for _, end in gene.exons] for gene in annotation.genes],
        }
    )


def _genes(frame: pd.DataFrame) -> Iterable[Gene]:
    for row in frame.itertuples(index=False):
        exons = tuple((int(start), int(end)) for start, end in zip(row.exon_starts, row.exon_ends, strict=True))
        yield Gene(row.name, row.chrom, row.strand, int(row.start), int(row.end), exons)
