from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace

import pandas as pd
import pytest

from meta_spliceai import datasets, resources
from meta_spliceai.datasets import DataSet, Loaded, registry
from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.variants.table import Coverage, as_variant_table

GENOME = MemoryGenome({"1": "A" * 50}, build="toy", name="toy")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers a toy data set of (position, class) rows that leaves one row out."""
    monkeypatch.setattr(registry, "_DATASETS", {})

    def make(
        name: str, rows: list[tuple[int, str]], genome: MemoryGenome = GENOME, build: str = "toy", **extra: object
    ) -> None:
        def load(context: str = "genome") -> Loaded:
            frame = pd.DataFrame(
                {
                    "variant_id": [f"v{pos}" for pos, _ in rows], "chrom": "1", "pos": [pos for pos, _ in rows],
                    "ref": "A", "alt": "C", "strand": "+", "gene": "g", "group": "g", "source": name, "method": name,
                    "classification": [label for _, label in rows], "effect": 1.0, "measurements": 1, **extra,
                }
            )  # fmt: skip
            coverage = Coverage(len(rows) + 1)
            coverage.leave_out("damaged", ["row 9"])
            return Loaded(as_variant_table(frame, name), coverage, genome, None, dataset, {"context": context})

        dataset = registry.register(DataSet(name, name, "wt1-exon5", build, len(rows) + 1, "a number", make_rule, load))

    return make


def make_rule() -> None:
    """A rule."""


def test_alleles_of_two_sources_become_one_row(make: Callable[..., None]) -> None:
    make("one", [(1, "Normal"), (2, "Normal"), (3, "Splice-altering")])
    make("two", [(2, "Normal"), (3, "Normal"), (4, "Low-frequency")], exon="e")
    loaded = datasets.load_dataset("one+two", context="genome")
    table = loaded.variants.set_index("pos")
    assert table["classification"].to_dict() == {1: "Normal", 2: "Normal", 3: "Conflicting", 4: "Low-frequency"}
    assert table["measurements"].to_dict() == {1: 1, 2: 2, 3: 2, 4: 1}
    assert table["source"][2] == "one,two"
    assert table["variant_id"][4] == "two:v4"
    assert table["effect"].isna().to_dict() == {1: False, 2: True, 3: True, 4: False}
    assert loaded.coverage.read == 8
    assert loaded.coverage.left_out == {"damaged": 2, "same allele as another row (merged with it)": 2}
    assert loaded.coverage.used == 4
    assert loaded.dataset.evidence is not None
    assert dict(loaded.dataset.evidence(loaded).to_numpy()) == {
        "measured more than once": 2,
        "all agree": 1,
        "Conflicting": 1,
    }
    assert dict(loaded.options) == {"one.context": "genome", "two.context": "genome"}


def test_different_genomes_are_not_mixed(make: Callable[..., None]) -> None:
    make("one", [(1, "Normal")])
    make("two", [(2, "Normal")], MemoryGenome({"1": "A" * 51}, build="other", name="other"))
    with pytest.raises(
        InputError, match=r"toy \(toy\) and other \(other\) both have contig 1; combine them in one genome"
    ):
        datasets.load_dataset("one+two")


class Chain:
    """Leads 100 bases on, and nowhere from the base 7."""

    def __init__(self, path: object) -> None:
        pass

    def lift(self, chrom: str, pos: int) -> tuple[str, int, str] | None:
        return None if pos == 7 else (chrom, pos + 100, "+")


def test_chromosomes_and_constructs_are_one_genome_with_places_in_one_build(
    make: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("meta_spliceai.datasets.load"), "Chain", Chain)
    monkeypatch.setattr(resources, "resolve_edition", lambda name: SimpleNamespace(path=name))
    chromosomes = MemoryGenome({"chr1": "A" * 50}, build="GRCh38", name="chromosomes")
    make("one", [(1, "Normal"), (2, "Normal")], chromosomes, "GRCh38", genome_chrom="1", genome_pos=[1, 2])
    library = MemoryGenome({"exon": "C" + "A" * 9}, build="two's constructs", name="library")
    rows = [(2, "Normal"), (3, "Splice-altering"), (4, "Normal")]
    make("two", rows, library, "GRCh37", chrom="exon", genome_chrom="1", genome_pos=[5, 6, 7])
    for name in ("one+two", "two+one"):
        loaded = datasets.load_dataset(name, **{"two.context": "construct"})
        table = loaded.variants.set_index("variant_id")
        assert table["genome_pos"].to_dict() == {"one:v1": 1, "one:v2": 2, "two:v2": 105, "two:v3": 106}
        assert table["context"].to_dict() == {
            "one:v1": "genome", "one:v2": "genome", "two:v2": "construct", "two:v3": "construct"
        }  # fmt: skip
        assert loaded.coverage.left_out == {"damaged": 2, "no place in the other build": 1}
        assert loaded.coverage.used == 4
        assert loaded.genome.build == "GRCh38"
        assert loaded.genome.fetch("exon", -1, 3).tolist() == [4, 1, 0, 0]
        assert loaded.genome.fetch("1", 48, 52).tolist() == [0, 0, 4, 4]
        assert loaded.options["two.context"] == "construct"
        assert loaded.options["one.context"] == "genome"
    with pytest.raises(
        InputError, match=r"unknown option 'two\.contest' in data set one\+two; did you mean two\.context"
    ):
        datasets.load_dataset("one+two", **{"two.contest": "genome"})


def test_bad_combinations_and_options(make: Callable[..., None]) -> None:
    make("one", [(1, "Normal")])
    make("two", [(2, "Normal")])
    with pytest.raises(InputError, match=r"one\+one: a combination is of two or more different data sets"):
        datasets.load_dataset("one+one")
    with pytest.raises(InputError, match="unknown data set 'three'"):
        datasets.load_dataset("one+three")
    with pytest.raises(InputError, match=r"unknown option 'contest' in data set one\+two; did you mean context"):
        datasets.load_dataset("one+two", contest="genome")


def test_a_combination_tells_what_its_members_tell(make: Callable[..., None]) -> None:
    make("one", [(1, "Normal")])
    make("two", [(2, "Normal")])
    both = datasets.get("one+two")
    assert both.licence == "one: none stated; two: none stated"
    assert both.rows == 4
    assert "Conflicting" in both.rule_in_words
    assert len(both.checksums) == 2
