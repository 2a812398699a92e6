"""benchmarks/construct_context.py: what stands around a construct changes, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.splice_engine.genome.sequence import N_CODE, MemoryGenome, reverse_complement

ROOT = Path(__file__).resolve().parents[2]
LONG, AT = 14_000, 7_000


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("construct_context", ROOT / "benchmarks" / "construct_context.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_constructs_are_found_on_either_strand_and_only_where_the_chromosome_is_known(tool: ModuleType) -> None:
    chromosome = np.random.default_rng(1).integers(0, 4, LONG).astype(np.uint8)
    holed = chromosome.copy()
    holed[AT - 4000] = N_CODE
    # 60 bases from AT on, an exon of 20 from the 31st base of the construct; on the minus strand read from the end
    stretch = chromosome[AT : AT + 60]
    constructs = MemoryGenome(
        {"plus": stretch, "minus": reverse_complement(stretch), "holed": stretch, "other": stretch[::-1].copy()},
        "c",
        "c",
    )
    names = ["plus", "minus", "holed", "other"]
    own = pd.DataFrame({"exon_id": names, "acceptor_pos": 31, "variant_id": names})
    inside = SimpleNamespace(
        genome=MemoryGenome({"1": chromosome, "2": holed}, "g", "g"),
        variants=pd.DataFrame(
            {
                "exon_id": names,
                "chrom": ["1", "1", "2", "1"],
                "strand": ["+", "-", "+", "+"],
                "acceptor_pos": [AT + 31, AT + 60 - 30, AT + 31, AT + 31],
            }
        ),
    )
    table, found = tool._in_reach(own, constructs, inside)
    assert table["exon_id"].tolist() == ["plus", "minus"]
    around = tool.FLANK + tool.DISTANCE
    assert np.array_equal(found["plus"], chromosome[AT - around : AT + 60 + around])
    assert np.array_equal(found["minus"], reverse_complement(found["plus"]))
    genomes = tool._surroundings(constructs, found, 0)
    for name, (genome, shift) in genomes.items():
        for exon in ("plus", "minus"):
            assert np.array_equal(genome.fetch(exon, shift, shift + 60), constructs.fetch(exon, 0, 60)), name
    invented, shift = genomes["random"]
    before = invented.fetch("plus", 0, shift)
    assert 0.2 < (before == found["plus"][:shift]).mean() < 0.3


def test_a_difference_is_never_told_smaller_than_it_is(tool: ModuleType) -> None:
    assert [f"{tool._above(size):.0e}" for size in (1.2e-7, 9.9e-8, 0)] == ["1e-06", "1e-07", "0e+00"]
