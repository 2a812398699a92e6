"""wt1-exon5, and the pickle it is partly read from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.datasets import Loaded, wt1_exon5
from meta_spliceai.datasets.wt1_exon5 import read_arrays
from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.genome.sequence import decode
from meta_spliceai.splice_engine.variants.splits import position_block_split
from meta_spliceai.splice_engine.variants.table import SCHEMA, build_windows

pytestmark = pytest.mark.quickstart


def test_every_row_is_accounted_for(wt1: Loaded) -> None:
    assert wt1.coverage.read == 5_560
    assert wt1.coverage.left_out == {wt1_exon5.WILD_TYPE: 10, wt1_exon5.LISTED_TWICE: 26}
    assert len(wt1.variants) == wt1.coverage.used
    assert list(wt1.variants.columns[: len(SCHEMA)]) == list(SCHEMA)


def test_no_sequence_is_counted_twice(wt1: Loaded) -> None:
    assert not wt1.variants["sequence"].duplicated().any()
    # GAAGAC-type twins: kept where the wild type is included more (C: 3.6, B: 0.8)
    twin = wt1.variants[wt1.variants["sequence"].str[23:].str.startswith("AGTTGAAGACGGG")]
    assert list(twin["background"]) == ["C"]


def test_windows_hold_the_measured_sequences(wt1: Loaded) -> None:
    some = wt1.variants.sample(200, random_state=0).reset_index(drop=True)
    windows = build_windows(some, wt1.genome, 201)
    for at, row in some.iterrows():
        offset = 100 - (23 + row["site"] - 1)  # where the 90 measured bases begin in the window
        assert decode(windows.alt[at])[offset : offset + 90] == row["sequence"]
        assert decode(windows.ref[at])[100 : 100 + len(row["ref"])] == row["ref"]


def test_exon_stands_between_ag_and_gt(wt1: Loaded) -> None:
    row = wt1.variants.iloc[0]
    assert row["donor_pos"] - row["acceptor_pos"] + 1 == 51
    assert decode(wt1.genome.fetch(row["chrom"], row["acceptor_pos"] - 3, row["acceptor_pos"] - 1)) == "AG"
    assert decode(wt1.genome.fetch(row["chrom"], row["donor_pos"], row["donor_pos"] + 2)) == "GT"
    assert wt1.annotation is not None
    (gene,) = wt1.annotation.overlapping(row["chrom"], row["pos"])
    assert row["acceptor_pos"] in gene.acceptors()
    assert row["donor_pos"] in gene.donors()


def test_effect_is_relative_to_the_own_background(wt1: Loaded) -> None:
    table = wt1.variants
    np.testing.assert_allclose(2 ** table["effect"] * table["wildtype_inclusion"], table["inclusion"])
    assert table.groupby("background")["wildtype_inclusion"].nunique().max() == 1
    assert table["group"].nunique() == 47


def test_label_rule_at_its_borders() -> None:
    wild = np.full(9, 1.0)
    mutant = np.array([0.5, 0.51, 2.0, 1.99, 1.25, 1.26, 0.8, 0.79, 0.0001])
    assert wt1_exon5.label_by_relative_inclusion(mutant, wild) == [
        "Splice-altering",
        "Low-frequency",
        "Splice-altering",
        "Low-frequency",
        "Normal",
        "Low-frequency",
        "Normal",
        "Low-frequency",
        "Splice-altering",
    ]


def test_a_silent_background_gets_no_class() -> None:
    mutant = np.array([0.0001, 0.09, 3.0])
    assert set(wt1_exon5.label_by_relative_inclusion(mutant, np.full(3, 0.09))) == {"Low-frequency"}
    # at the border of what can be seen, half of 0.1 is the floor itself
    assert wt1_exon5.label_by_relative_inclusion(np.array([0.0001, 0.1]), np.full(2, 0.1)) == [
        "Splice-altering",
        "Normal",
    ]


def test_thresholds_stand_above_the_datas_own_noise(wt1: Loaded) -> None:
    noise = wt1_exon5.measurement_noise(wt1.variants).set_index("estimate")["sd_of_an_effect"]
    bound = noise["additive model, well-included backgrounds B C F H I"]
    assert 2.5 * bound < wt1_exon5.ALTERING_LOG2
    assert 0.8 * bound < wt1_exon5.NORMAL_LOG2 < 1.2 * bound
    assert (noise[["saturated pair C and H, both above EI 1", "similar pair F and I, both above EI 1"]] < bound).all()
    # above the floor, weakly included backgrounds are measured as well as the bound says; below it, they are not
    assert noise["similar pair G and J, both within EI 0.05 to 0.1"] < bound
    assert noise["similar pair G and J, either below EI 0.05"] > wt1_exon5.ALTERING_LOG2 * 0.8


def test_both_classes_in_every_background_that_has_any(wt1: Loaded) -> None:
    counts = pd.crosstab(wt1.variants["background"], wt1.variants["classification"])
    labelled = counts[["Normal", "Splice-altering"]]
    assert ((labelled > 0).all(axis="columns") | (labelled == 0).all(axis="columns")).all()
    assert sorted(labelled[labelled.sum(axis="columns") == 0].index) == ["D", "E"]


@pytest.mark.parametrize("seed", range(3))
def test_position_block_split_fits_the_data_set(wt1: Loaded, seed: int) -> None:
    split = position_block_split(wt1.variants, {"train": 0.6, "validation": 0.2, "test": 0.2}, seed)
    sites = {
        part: set(";".join(wt1.variants["sites_mutated"].iloc[split.indices(part)]).split(";"))
        for part in ("train", "validation", "test")
    }
    assert not sites["train"] & sites["test"]
    assert not sites["train"] & sites["validation"]
    assert not sites["validation"] & sites["test"]
    for part in ("validation", "test"):
        assert 0.12 < len(split.indices(part)) / len(wt1.variants) < 0.25


def test_arrays_and_scalars_come_through(tmp_path: Path) -> None:
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps({"x": np.eye(3, dtype=np.int64), "at": np.int64(7), "name": "toy"}))
    content = read_arrays(path)
    np.testing.assert_array_equal(content["x"], np.eye(3))
    assert (content["at"], content["name"]) == (7, "toy")


class Runs:
    """A pickle of this makes a folder when it is loaded carelessly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.mkdir, (self.folder,))


def test_nothing_else_is_run(tmp_path: Path) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps({"x": Runs(tmp_path / "made")}))
    with pytest.raises(IntegrityError, match="it names"):
        read_arrays(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"x": np.zeros(50)})[:-20], pickle.dumps([1, 2])])
def test_damaged_files_are_an_integrity_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pkl"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"damaged\.pkl"):
        read_arrays(path)
