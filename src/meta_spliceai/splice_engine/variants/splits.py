"""Splits: which rows train, validate (for early stopping) and test; always whole groups, always as data with a hash,
stored in a Parquet file that records it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import whole_table
from meta_spliceai.read_hostile import one_error
from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.variants.families import genomic_places
from meta_spliceai.splice_engine.variants.table import NORMAL, SCHEMA, SPLICE_ALTERING, Coverage, as_variant_table

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PARTS = (TRAIN, VALIDATION, TEST)
LEFT_OUT = ""

STRADDLES = "straddles a border between two parts"
RELATIVE = "of a gene whose relative is in validation or test (paralog or neighbour)"

SPLICEAI_HELD_OUT = ("1", "3", "5", "7", "9")
"""Chromosomes SpliceAI's family of networks was not trained on (Jaganathan 2019, 10.1016/j.cell.2018.12.015)."""

BLOCK = 5
"""Mutated sites that `position_block_split` keeps together."""

HEADER = b"meta_spliceai.split"

_ALSO_KEPT = ("genome_chrom", "genome_pos", "sites_mutated", "sequence")
"""Columns beside the schema's that an audit reads."""


@dataclass(frozen=True)
class Split:
    """A table's rows, each in one part or left out.

    Attributes:
        parts: "train", "validation", "test" or "" (left out), one a row of the table, in its order.
        digest: SHA-256 over each variant's identity and part: equal for equal splits of equal variants.
        unit: what the split keeps apart, and so what an audit holds it to: "group" (the table's groups), "site"
            (mutated sites), "exon", "gene" or "chromosome".
    """

    name: str
    parts: np.ndarray
    digest: str
    description: str
    coverage: Coverage
    unit: str = "group"

    def indices(self, part: str) -> Int64[np.ndarray, " rows"]:
        """Row numbers (0-based) of a part, ascending."""
        return np.flatnonzero(self.parts == part)


def split_digest(table: pd.DataFrame, parts: np.ndarray) -> str:
    """SHA-256 over the variants' names, places, alleles and parts, in order of their names."""
    columns = (table["variant_id"], table["chrom"], table["pos"], table["ref"], table["alt"], parts)
    lines = sorted("\t".join(map(str, line)) for line in zip(*columns, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def make_split(
    table: pd.DataFrame,
    parts: np.ndarray,
    name: str,
    description: str,
    coverage: Coverage,
    unit: str = "group",
    may_lack: Sequence[str] = (),
) -> Split:
    """A split, once every part that has rows at all has both classes, as far as the table has them; `may_lack`: parts
    that need not (the one chromosome of a leave-one-out fold).

    Raises:
        InputError: no training rows, or a part without one of the classes; the message says which and what to change.
    """
    if not (parts == TRAIN).any():
        raise InputError(f"split {name}: the training part is empty; use fewer or smaller other parts")
    labels = table["classification"].to_numpy()
    for part in [part for part in PARTS if part not in may_lack and (parts == part).any()]:
        inside = parts == part
        for wanted in (SPLICE_ALTERING, NORMAL):
            if wanted in labels and wanted not in labels[inside]:
                raise InputError(
                    f"split {name}: its {part} part ({int(inside.sum())} rows) has no variant of class {wanted}; "
                    "use another seed, larger parts or smaller groups"
                )
    return Split(name, parts, split_digest(table, parts), description, coverage, unit)


def _deal(sizes: Sequence[int], fractions: Mapping[str, float], seed: int, name: str, what: str) -> np.ndarray:
    """The part of each unit: whole units dealt out in random order, each to the part it leaves furthest below its
    share; then single units move for as long as that brings the parts nearer to their shares. An InputError where there
    are fewer units than parts."""
    wanted, total = [part for part in PARTS if part in fractions], sum(fractions.values())
    if len(sizes) < len(wanted):
        raise InputError(
            f"split {name}: {len(sizes)} {what} cannot fill {len(wanted)} parts ({', '.join(wanted)}); "
            "ask for fewer parts"
        )
    target = {part: fractions[part] / total * sum(sizes) for part in wanted}
    filled, units = dict.fromkeys(wanted, 0), dict.fromkeys(wanted, 0)
    dealt = np.empty(len(sizes), dtype=object)
    order = np.random.default_rng(seed).permutation(len(sizes))
    for left, unit in zip(range(len(sizes), 0, -1), order, strict=True):
        empty = [part for part in wanted if units[part] == 0]
        open_to = empty if left == len(empty) else wanted  # the last units go where there is nothing yet
        dealt[unit] = min(open_to, key=lambda part: (filled[part] + sizes[unit]) / target[part])
        filled[dealt[unit]] += sizes[unit]
        units[dealt[unit]] += 1

    def worse_by(part: str, change: int) -> float:
        """How much the squared distance from the share grows, relative to the share, when rows come or go."""
        return ((filled[part] + change - target[part]) ** 2 - (filled[part] - target[part]) ** 2) / target[part]

    moved = True
    while moved:  # ends, because every move makes the sum of the distances smaller
        moved = False
        for unit in order:
            here, size = dealt[unit], sizes[unit]
            others = [part for part in wanted if part != here]
            there = min(others, key=lambda part: worse_by(part, size), default=here)
            if there != here and units[here] > 1 and worse_by(here, -size) + worse_by(there, size) < -1e-9:
                dealt[unit] = there
                filled[here], filled[there] = filled[here] - size, filled[there] + size
                units[here], units[there] = units[here] - 1, units[there] + 1
                moved = True
    return dealt


def group_split(
    table: pd.DataFrame,
    fractions: Mapping[str, float],
    seed: int,
    name: str,
    families: pd.Series | None = None,
    unit: str = "group",
) -> Split:
    """Whole groups (column `group`) to parts, so that no group is in two.

    Args:
        fractions: share of rows of each part, e.g. {"train": 0.7, "validation": 0.15, "test": 0.15}.
        families: what to keep together instead of the column `group`, one text per row (`gene_families`).
        unit: what is kept apart by that (see `Split`).

    Raises:
        InputError: fewer groups than parts, a part without a class, a row without a group.
    """
    codes, groups = _factorized(table, families, name)
    dealt = _deal(np.bincount(codes, minlength=len(groups)).tolist(), fractions, seed, name, "groups")
    told = ", ".join(f"{part} {share:.0%}" for part, share in fractions.items())
    kind = "groups" if families is None else "exons" if unit == "exon" else "families of genes"
    description = f"{len(groups)} {kind} dealt whole to parts {told}, seed {seed}"
    return make_split(table, dealt[codes], name, description, Coverage(len(table)), unit=unit)


def chromosome_split(
    table: pd.DataFrame,
    test: Sequence[str],
    seed: int,
    validation: float = 0.15,
    families: pd.Series | None = None,
    name: str = "chromosome",
    may_lack: Sequence[str] = (),
) -> Split:
    """Test on whole chromosomes; validation, for early stopping, on other whole chromosomes.

    Rows outside the test whose family has a member in the test are left out and counted, and so are training rows with
    a relative in validation.

    Args:
        table: a variant table; constructs go by their column `genome_chrom`.
        test: chromosomes, with or without "chr".
        seed: which chromosomes become validation.
        validation: share of the rows outside the test.
        families: from `gene_families`; None to take the column `group`.

    Raises:
        InputError: no chromosome, or one that no variant is on (those there are, are named); too few chromosomes, or a
            part without a class.
    """
    chrom, there = _chromosomes(table)
    if not test:
        raise InputError(f"split {name}: no chromosome to test on; give a list, like 21, 22")
    for one in test:
        if bare_contig(one) not in there:
            raise InputError(f"split {name}: no variant is on chromosome '{one}'; there are {', '.join(there)}")
    wanted = [bare_contig(one) for one in test]
    rest = [one for one in there if one not in wanted]
    shares = {TRAIN: 1 - validation, VALIDATION: validation}
    dealt = _deal([int((chrom == one).sum()) for one in rest], shares, seed, name, "chromosomes outside the test")
    held = [one for one, part in zip(rest, dealt, strict=True) if part == VALIDATION]
    parts = np.where(np.isin(chrom, wanted), TEST, np.where(np.isin(chrom, held), VALIDATION, TRAIN)).astype(object)
    description = (
        f"test chr {', '.join(wanted)}; validation chr {', '.join(held) or 'none'}; training on the others; seed {seed}"
    )
    return _without_relatives(table, parts, families, name, description, may_lack)


def spliceai_clean_split(
    table: pd.DataFrame, seed: int, validation: float = 0.15, families: pd.Series | None = None
) -> Split:
    """`chromosome_split` that tests only where SpliceAI's family of networks never trained: on those of chr 1, 3,
    5, 7 and 9 there are. An InputError where no variant is on any of them."""
    there = set(genomic_places(table)[0])
    clean = [one for one in SPLICEAI_HELD_OUT if one in there]
    if not clean:
        raise InputError(
            "split spliceai-clean: no variant on chromosomes 1, 3, 5, 7 or 9, the only ones SpliceAI's networks were "
            "not trained on; use another split and say that the base network knows the test"
        )
    return chromosome_split(table, clean, seed, validation, families, name="spliceai-clean")


def chromosome_folds(table: pd.DataFrame, folds: int, seed: int, families: pd.Series | None = None) -> list[Split]:
    """k-fold cross-validation (at least 3) over groups of whole chromosomes of similar size.

    In fold i, group i is the test and group i + 1 the validation; every row with its whole family is tested once.

    Raises:
        InputError: fewer chromosomes than folds, or a fold with a part without a class, by its number.
    """
    chrom, there = _chromosomes(table)
    splits = []
    for name, parts in _folds(pd.Categorical(chrom, there).codes, "chromosomes", folds, seed, "chromosome-folds"):
        held = ", ".join(_chromosomes(table[parts == TEST])[1])
        splits.append(_without_relatives(table, parts, families, name, f"{name}: test chr {held}, seed {seed}"))
    return splits


def gene_folds(table: pd.DataFrame, folds: int, seed: int, families: pd.Series | None = None) -> list[Split]:
    """As `chromosome_folds`, over whole groups or families."""
    codes, groups = _factorized(table, families, "gene-folds")
    kind, unit = ("groups", "group") if families is None else ("families of genes", "gene")
    return [
        make_split(table, parts, fold, f"{fold} of {len(groups)} {kind}, seed {seed}", Coverage(len(table)), unit)
        for fold, parts in _folds(codes, "groups", folds, seed, "gene-folds")
    ]


def leave_one_chromosome_out(
    table: pd.DataFrame, seed: int, validation: float = 0.15, families: pd.Series | None = None
) -> list[Split]:
    """`chromosome_split` for each chromosome as the test, which may lack a class: results are pooled over the folds."""
    return [
        chromosome_split(table, [one], seed, validation, families, f"leave-out-{one}", may_lack=(TEST,))
        for one in _chromosomes(table)[1]
    ]


def position_block_split(table: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> Split:
    """Contiguous blocks of mutated sites to parts, so that no mutated site is in two parts.

    The sites that occur are cut into blocks of about `BLOCK` neighbours, and whole blocks are dealt to the parts. A
    variant that changes sites of two parts (a double substitution across a border) is left out and counted. The table's
    column `sites_mutated` holds numbers joined by ";" ("7" or "7;8"); fractions and seed are as in `group_split`.

    Raises:
        InputError: no such column, fewer blocks than parts, a part without a class.
    """
    name = "position-blocks"
    if "sites_mutated" not in table:
        raise InputError(f"split {name}: the table has no column 'sites_mutated' of mutated sites")
    of_row = [[int(site) for site in text.split(";")] for text in table["sites_mutated"].astype(str)]
    all_sites = sorted({site for row in of_row for site in row})
    blocks = np.array_split(np.array(all_sites), max(1, round(len(all_sites) / BLOCK)))
    block_of = {int(site): number for number, members in enumerate(blocks) for site in members}
    sizes = np.bincount([block_of[row[0]] for row in of_row], minlength=len(blocks)).tolist()
    part_of_block = _deal(sizes, fractions, seed, name, "blocks of sites")
    touched = [{part_of_block[block_of[site]] for site in row} for row in of_row]
    parts = np.array([next(iter(found)) if len(found) == 1 else LEFT_OUT for found in touched], dtype=object)
    coverage = Coverage(len(table))
    coverage.leave_out(STRADDLES, table["variant_id"][parts == LEFT_OUT])
    spans: dict[str, list[str]] = {part: [] for part in PARTS if part in part_of_block}
    for members, part in zip(blocks, part_of_block, strict=True):
        spans[part].append(f"{members[0]}-{members[-1]}")
    where = "; ".join(f"{part}: sites {', '.join(of_part)}" for part, of_part in spans.items())
    description = f"blocks of about {BLOCK} neighbouring mutated sites, seed {seed} ({where})"
    return make_split(table, parts, name, description, coverage, unit="site")


def _factorized(table: pd.DataFrame, families: pd.Series | None, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Number of each row's group, and the groups' names; an InputError for a row without a group."""
    labels = table["group"] if families is None else families
    without = labels.to_numpy() == ""
    if without.any():
        raise InputError(
            f"split {name}: {int(without.sum())} rows have no group, first "
            f"{table['variant_id'].iloc[int(without.argmax())]}; fill the column 'group' (gene, exon or mutated site)"
        )
    codes, groups = pd.factorize(labels.to_numpy(), sort=True)
    return codes, np.asarray(groups)


def _folds(codes: np.ndarray, what: str, folds: int, seed: int, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and parts of each fold. Whole units (their number is each row's code) go to folds, largest first, each to
    the one with fewest rows so far; equal ones in random order. InputError: fewer units than folds."""
    sizes = np.bincount(codes)
    if len(sizes) < folds:
        raise InputError(f"split {name}: {len(sizes)} {what} cannot fill {folds} folds; ask for fewer folds")
    filled = np.zeros(folds, dtype=np.int64)
    fold_of = np.empty(len(sizes), dtype=np.int64)
    for unit in np.lexsort([np.random.default_rng(seed).random(len(sizes)), -sizes]):
        fold_of[unit] = filled.argmin()
        filled[fold_of[unit]] += sizes[unit]
    for fold in range(folds):
        validation = fold_of[codes] == (fold + 1) % folds
        parts = np.where(fold_of[codes] == fold, TEST, np.where(validation, VALIDATION, TRAIN)).astype(object)
        yield f"{name}-{fold + 1}of{folds}", parts


def _without_relatives(
    table: pd.DataFrame,
    parts: np.ndarray,
    families: pd.Series | None,
    name: str,
    description: str,
    may_lack: Sequence[str] = (),
) -> Split:
    codes, _ = _factorized(table, families, name)
    in_test = np.isin(codes, codes[parts == TEST]) & (parts != TEST)
    in_validation = np.isin(codes, codes[parts == VALIDATION]) & (parts == TRAIN)
    lost = in_test | in_validation
    kept = np.where(lost, LEFT_OUT, parts).astype(object)
    coverage = Coverage(len(table))
    coverage.leave_out(RELATIVE, table["variant_id"][lost])
    return make_split(table, kept, name, description, coverage, unit="chromosome", may_lack=may_lack)


def _chromosomes(table: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    chrom = genomic_places(table)[0].to_numpy()
    return chrom, sorted(set(chrom), key=lambda one: (int(one), "") if one.isdigit() else (1000, one))


class StoredSplit(NamedTuple):
    """A split read from a file, its variants, and the data set, options and digest it was made for, so that the
    sequence can be loaded again (may be empty)."""

    split: Split
    table: pd.DataFrame
    data: dict[str, Any]


def write_split(path: Path, split: Split, table: pd.DataFrame, data: Mapping[str, object] | None = None) -> None:
    """Write a split of a table (in its order) to a `.parquet` file, atomically: every variant's part, and in
    the header what it is and its hash. `data`: {"name": data set, "options": {...}, "digest": ...}, for an audit."""
    frame = table[[*SCHEMA, *[column for column in _ALSO_KEPT if column in table]]].assign(part=split.parts)
    told = {name: getattr(split, name) for name in ("name", "digest", "description", "unit")}
    header = {**told, "coverage": split.coverage.to_json(), "data": dict(data or {})}
    with whole_table(Path(path), {HEADER.decode(): json.dumps(header)}) as add:
        add(frame)


def read_split(path: Path) -> StoredSplit:
    """Read a split and compare its hash."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no split at {path}; give a .parquet file written with a run or by write_split")
    with one_error(f"{path}, read as a split,", "make the split anew", also=(pa.ArrowException,)):
        stored = pq.read_table(path)
        header = json.loads(stored.schema.metadata[HEADER])
        frame = stored.to_pandas()
        parts = frame.pop("part").to_numpy(dtype=object)
        table = as_variant_table(frame, str(path))
        coverage = Coverage.from_json(header["coverage"])
        split = Split(header["name"], parts, header["digest"], header["description"], coverage, header["unit"])
        data = dict(header["data"])
    if split_digest(table, parts) != split.digest:
        raise IntegrityError(f"{path}: its rows are not those of its hash {split.digest[:12]}…; make the split anew")
    return StoredSplit(split, table, data)
