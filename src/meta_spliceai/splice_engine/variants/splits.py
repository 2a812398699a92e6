"""Which rows train, which stop the training, which judge: always whole groups, always as data with a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PARTS = (TRAIN, VALIDATION, TEST)
LEFT_OUT = ""

STRADDLES = "straddles a border between two parts"


@dataclass(frozen=True)
class Split:
    """A table's rows, each in one part or left out.

    Attributes:
        name: how results name it.
        parts: "train", "validation", "test" or "" (left out), one a row of the table, in its order.
        digest: SHA-256 over each variant's identity and part: equal for equal splits of equal variants.
        description: how it was made, in words.
        coverage: rows used, and why others were left out.
    """

    name: str
    parts: np.ndarray
    digest: str
    description: str
    coverage: Coverage

    def indices(self, part: str) -> Int64[np.ndarray, " rows"]:
        """Row numbers (0-based) of a part, ascending.

        Raises:
            InputError: no such part.
        """
        if part not in PARTS:
            raise unknown_value("part", part, PARTS, f"split {self.name}")
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
    classes: Sequence[str] = (SPLICE_ALTERING, NORMAL),
) -> Split:
    """A split, once every part that has rows at all has every class that the table has.

    Args:
        table: the variants.
        parts: one of PARTS or "" a row.
        name, description, coverage: as in `Split`.
        classes: those that each part must hold, if the table holds them.

    Raises:
        InputError: no training rows, or a part without one of the classes; the message says which and what to change.
    """
    if not (parts == TRAIN).any():
        raise InputError(f"split {name}: the training part is empty; use fewer or smaller other parts")
    labels = table["classification"].to_numpy()
    for part in PARTS:
        inside = parts == part
        for wanted in classes:
            if inside.any() and (labels == wanted).any() and not (labels[inside] == wanted).any():
                raise InputError(
                    f"split {name}: its {part} part ({int(inside.sum())} rows) has no variant of class {wanted}; "
                    "use another seed, larger parts or smaller groups"
                )
    return Split(name, parts, split_digest(table, parts), description, coverage)


def _checked_fractions(fractions: Mapping[str, float], name: str) -> dict[str, float]:
    """Fractions of all three parts, scaled to a sum of one.

    Raises:
        InputError: an unknown part, a negative fraction, or nothing to train on.
    """
    for part, fraction in fractions.items():
        if part not in PARTS:
            raise unknown_value("part", part, PARTS, f"split {name}")
        if not fraction >= 0:
            raise InputError(f"split {name}: the fraction of {part} must not be negative: {fraction}")
    if not fractions.get(TRAIN, 0) > 0:
        raise InputError(f"split {name}: the fraction of {TRAIN} must be above 0")
    total = sum(fractions.values())
    return {part: fractions.get(part, 0.0) / total for part in PARTS}


def _deal(sizes: Sequence[int], fractions: Mapping[str, float], seed: int, name: str, what: str) -> np.ndarray:
    """Deal whole units out to parts: in random order, each to the part it leaves furthest below its share; then single
    units move for as long as that brings the parts nearer to their shares.

    Returns:
        the part of each unit.

    Raises:
        InputError: fewer units than parts.
    """
    wanted = [part for part in PARTS if fractions[part] > 0]
    if len(sizes) < len(wanted):
        raise InputError(
            f"split {name}: {len(sizes)} {what} cannot fill {len(wanted)} parts ({', '.join(wanted)}); "
            "ask for fewer parts"
        )
    target = {part: fractions[part] * sum(sizes) for part in wanted}
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


def group_split(table: pd.DataFrame, fractions: Mapping[str, float], seed: int, name: str) -> Split:
    """Whole groups (column `group`) to parts, so that no group is in two.

    Args:
        table: a variant table.
        fractions: share of rows of each part, e.g. {"train": 0.7, "validation": 0.15, "test": 0.15}; scaled to one.
        seed: order in which groups are dealt.
        name: of the split.

    Raises:
        InputError: fewer groups than parts, a part without a class, a row without a group, bad fractions.
    """
    shares = _checked_fractions(fractions, name)
    without = table["group"].to_numpy() == ""
    if without.any():
        raise InputError(
            f"split {name}: {int(without.sum())} rows have no group, first "
            f"{table['variant_id'].iloc[int(without.argmax())]}; fill the column 'group' (gene, exon or mutated site)"
        )
    codes, groups = pd.factorize(table["group"], sort=True)
    dealt = _deal(np.bincount(codes, minlength=len(groups)).tolist(), shares, seed, name, "groups")
    description = f"{len(groups)} groups dealt whole to parts {_in_words(shares)}, seed {seed}"
    return make_split(table, dealt[codes], name, description, Coverage(len(table)))


def position_block_split(
    table: pd.DataFrame,
    fractions: Mapping[str, float],
    seed: int,
    name: str = "position-blocks",
    block: int = 5,
    sites: str = "sites_mutated",
) -> Split:
    """Contiguous blocks of mutated sites to parts, so that no mutated site is in two parts.

    The sites that occur are cut into blocks of about `block` neighbours, and whole blocks are dealt to the parts. A
    variant that changes sites of two parts (a double substitution across a border) is left out and counted. The same
    sequence in two parts is an error, whatever the sites say.

    Args:
        table: a variant table with a column of mutated sites: numbers joined by ";" ("7" or "7;8").
        fractions: share of rows of each part; scaled to one.
        seed: order in which blocks are dealt.
        name: of the split.
        block: sites in a block.
        sites: the column.

    Raises:
        InputError: no such column, a malformed entry (with its row), fewer blocks than parts, a part without a class,
            one sequence in two parts.
    """
    shares = _checked_fractions(fractions, name)
    if sites not in table:
        raise InputError(f"split {name}: the table has no column '{sites}' of mutated sites")
    if block < 1:
        raise InputError(f"split {name}: a block must hold at least one site: {block}")
    of_row = []
    for at, text in enumerate(table[sites]):
        if not str(text).replace(";", "").isdigit() or "" in str(text).split(";"):
            raise InputError(f"split {name}: row {at + 1}: '{text}' is no list of mutated sites like '7' or '7;8'")
        of_row.append([int(part) for part in str(text).split(";")])
    all_sites = sorted({site for row in of_row for site in row})
    blocks = np.array_split(np.array(all_sites), max(1, round(len(all_sites) / block)))
    block_of = {int(site): number for number, members in enumerate(blocks) for site in members}
    sizes = np.bincount([block_of[row[0]] for row in of_row], minlength=len(blocks)).tolist()
    part_of_block = _deal(sizes, shares, seed, name, "blocks of sites")
    touched = [{part_of_block[block_of[site]] for site in row} for row in of_row]
    parts = np.array([next(iter(found)) if len(found) == 1 else LEFT_OUT for found in touched], dtype=object)
    coverage = Coverage(len(table))
    coverage.leave_out(STRADDLES, table["variant_id"][parts == LEFT_OUT])
    _refuse_shared_sequences(table, parts, name)
    where = "; ".join(
        f"{part}: sites "
        + ", ".join(
            f"{members[0]}-{members[-1]}" for members, of in zip(blocks, part_of_block, strict=True) if of == part
        )
        for part in PARTS
        if part in part_of_block
    )
    description = f"blocks of about {block} neighbouring mutated sites, seed {seed} ({where})"
    return make_split(table, parts, name, description, coverage)


def _refuse_shared_sequences(table: pd.DataFrame, parts: np.ndarray, name: str) -> None:
    """The same measured sequence in two parts is a leak, however it is named."""
    if "sequence" not in table:
        return
    used = pd.DataFrame({"sequence": table["sequence"], "part": parts, "id": table["variant_id"]})[parts != LEFT_OUT]
    spread = used.groupby("sequence")["part"].transform("nunique") > 1
    if spread.any():
        first = used[spread].sort_values("sequence", kind="stable").head(2)
        raise InputError(
            f"split {name}: {int(spread.sum())} rows have a sequence that is in two parts, first "
            f"{' and '.join(first['id'])}; count such sequences once"
        )


def _in_words(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{part} {share:.0%}" for part, share in shares.items() if share > 0)
