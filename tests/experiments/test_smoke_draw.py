"""The variants of a smoke run: few, and enough for every part of the split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.datasets import registry
from meta_spliceai.datasets.registry import Loaded
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.run.prepare import choose_rows, rows_and_splits
from meta_spliceai.experiments.spec.experiment import DataSpec, ExperimentSpec
from meta_spliceai.experiments.spec.rows import MOST_SMOKE_ROWS, SMOKE_ROWS, as_smoke, change
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.variants.splits import PARTS
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING, Coverage, as_variant_table

SIDES = (SPLICE_ALTERING, NORMAL)


def on_chromosomes(counts: Mapping[str, tuple[int, int]]) -> Loaded:
    """Variants far from each other, so many altering and Normal ones on each chromosome."""
    random = np.random.default_rng(0)
    contigs = {chrom: "".join(random.choice(list("ACGT"), 200 * (sum(sides) + 1))) for chrom, sides in counts.items()}
    rows: list[dict[str, Any]] = []
    for chrom, sides in counts.items():
        for i, label in enumerate([SPLICE_ALTERING] * sides[0] + [NORMAL] * sides[1]):
            pos = 200 * (i + 1)
            ref = contigs[chrom][pos - 1]
            row = {"chrom": chrom, "pos": pos, "ref": ref, "alt": "C" if ref == "A" else "A", "strand": "+"}
            names = {"variant_id": f"{chrom}:{pos}", "gene": "", "group": f"{chrom}:{pos}", "source": "toy"}
            rows.append({**row, **names, "classification": label, "method": "made up", "effect": np.nan})
    table = as_variant_table(pd.DataFrame(rows), "toy")
    return Loaded(table, Coverage(len(table)), MemoryGenome(contigs, "toy", "toy"), None, registry.get("toy"), {})


@pytest.mark.parametrize("seed", range(4))
def test_rare_test_chromosomes_are_drawn_with_both_classes(toy_row: ExperimentSpec, seed: int) -> None:
    # Two in a hundred variants lie where the row is tested.
    sides = {"chr1": (10, 10), "chr2": (700, 100), "chr4": (20, 60), "chr6": (12, 12), "chr8": (12, 12)}
    loaded = on_chromosomes(sides)
    row = change(toy_row, ["split.name=spliceai-clean", f"training.seed={seed}"])
    chosen, (split,) = rows_and_splits(as_smoke(row), loaded)
    assert len(chosen.table) == SMOKE_ROWS
    for part in PARTS:
        labels = chosen.table["classification"].to_numpy()[split.indices(part)]
        assert min((labels == side).sum() for side in SIDES) >= 4, part


def test_every_chromosome_left_out_has_the_classes_that_the_data_set_has_there(toy_row: ExperimentSpec) -> None:
    sides = {f"chr{i}": (2, 200) if i % 2 else (300, 3) for i in range(1, 12)} | {"chr12": (0, 30)}
    loaded = on_chromosomes(sides)
    row = change(toy_row, ["split.name=chromosome", "split.folds=chromosome"])
    chosen, splits = rows_and_splits(as_smoke(row), loaded)
    assert len(chosen.table) == SMOKE_ROWS
    for split in splits:
        tested = chosen.table.iloc[split.indices("test")]
        (chrom,) = set(tested["chrom"])
        assert set(tested["classification"]) == {s for s, n in zip(SIDES, sides[chrom], strict=True) if n}


def test_a_draw_grows_until_every_part_has_both_classes_and_no_further(toy_row: ExperimentSpec) -> None:
    loaded = on_chromosomes({f"chr{i}": (3, 3) for i in range(1, 121)})
    row = change(toy_row, ["split.name=chromosome", "split.test_chromosomes=[chr7]"])
    lengths = set()
    for seed in range(6):
        chosen, (split,) = rows_and_splits(as_smoke(change(row, [f"training.seed={seed}"])), loaded)
        assert set(chosen.table["classification"].to_numpy()[split.indices("test")]) == set(SIDES)
        lengths.add(len(chosen.table))
    assert lengths <= {SMOKE_ROWS, 2 * SMOKE_ROWS, 4 * SMOKE_ROWS}
    assert len(lengths) > 1
    with pytest.raises(InputError, match=r"no variant is on chromosome 'chr999'"):
        rows_and_splits(as_smoke(change(row, ["split.test_chromosomes=[chr999]"])), loaded)
    with pytest.raises(InputError, match=r"no variant is on chromosome"):  # a row in earnest is drawn once
        rows_and_splits(change(row, ["data.rows=3"]), loaded)


def test_a_larger_draw_in_turn_holds_the_smaller_one_and_a_plain_draw_stays_what_it_was() -> None:
    table = on_chromosomes({"chr1": (40, 40), "chr2": (200, 5)}).variants
    small, large, plain = (
        choose_rows(table, Coverage(len(table)), DataSpec(name="toy", rows=rows, balanced=True), 3, in_turn).table
        for rows, in_turn in ((20, True), (60, True), (20, False))
    )
    assert set(small["variant_id"]) < set(large["variant_id"])
    assert small.groupby(["chrom", "classification"]).size().tolist() == [5, 5, 5, 5]
    random = np.random.default_rng(3)
    of_side = [np.flatnonzero((table["classification"] == side).to_numpy()) for side in SIDES]
    expected = np.sort(np.concatenate([random.choice(rows, 10, replace=False) for rows in of_side]))
    assert plain["variant_id"].tolist() == table["variant_id"].iloc[expected].tolist()


def test_a_split_with_an_empty_part_is_refused_before_anything_is_scored(toy_row: ExperimentSpec) -> None:
    loaded = on_chromosomes({"chr1": (5, 5), "chr2": (5, 5)})
    row = change(toy_row, ["split.name=chromosome", "split.test_chromosomes=[chr1]"])
    with pytest.raises(InputError, match=r"fill 2 parts|has no validation part"):
        rows_and_splits(row, loaded)
    assert MOST_SMOKE_ROWS >= 4 * SMOKE_ROWS
