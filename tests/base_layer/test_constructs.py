"""Short contigs are scored as changes of a contig of N; the numbers are those of the plain full forward."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.splice_engine.base_layer import incremental
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel
from meta_spliceai.splice_engine.base_layer.scoring import _LONGEST_CONSTRUCT as LONGEST_CONSTRUCT
from meta_spliceai.splice_engine.base_layer.scoring import Computation, score_variants
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, decode

from .conftest import TOY_STAGES, build_network

LENGTHS = {"short": 60, "other": 171, "longest": LONGEST_CONSTRUCT, "long": LONGEST_CONSTRUCT + 1}


@pytest.fixture(scope="module")
def library() -> MemoryGenome:
    rng = np.random.default_rng(5)
    contigs = {name: rng.integers(0, 4, length).astype(np.uint8) for name, length in LENGTHS.items()}
    return MemoryGenome(contigs, "toy", "toy library")


def every_kind(library: MemoryGenome) -> pd.DataFrame:
    """On either strand of each contig: SNVs inside and at the ends, a deletion, an insertion and a delins."""
    rows = []
    for contig, length in LENGTHS.items():
        for strand in "+-":
            for pos, removed, alt in ((1, 1, ""), (length, 1, ""), (30, 1, ""), (31, 9, "G"), (33, 1, "GATTACA" * 3)):
                ref = decode(library.fetch(contig, pos - 1, pos - 1 + removed))
                alt = alt or "ACGT"["ACGT".index(ref) - 1]
                rows.append((contig, pos, ref, alt, strand))
            rows.append((contig, 40, decode(library.fetch(contig, 39, 44)), "TT", strand))
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "strand"])
    return table.assign(gene="", variant_id=[f"v{row}" for row in range(len(table))])


@pytest.mark.parametrize("channels", [8, 32])
@pytest.mark.parametrize("distance", [1, 12, 80])
def test_equal_to_the_full_forward(
    library: MemoryGenome, toy_base_model: BaseModel, distance: int, channels: int
) -> None:
    model = toy_base_model
    if channels == 32:
        model = BaseModel("toy", (build_network(Architecture(TOY_STAGES), 1),), "", "")
    table = every_kind(library)
    full = score_variants(table, library, model, distance, how=Computation("full"))
    fast = score_variants(table, library, model, distance)
    assert np.abs(full.delta).max() > 0.05
    assert np.abs(full.ref - fast.ref).max() < 1e-5
    assert np.abs(full.alt - fast.alt).max() < 1e-5


def test_all_constructs_share_one_reference(
    library: MemoryGenome, toy_base_model: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = incremental.TorchNetwork.reference

    def counting(self: object, windows: object, codes: list[np.ndarray], workspace: object) -> object:
        calls.extend(codes)
        return original(self, windows, codes, workspace)  # type: ignore[arg-type]

    monkeypatch.setattr(incremental.TorchNetwork, "reference", counting)
    table = every_kind(library)
    score_variants(table[table["chrom"] == "long"], library, toy_base_model, 12)
    assert any((codes < 4).any() for codes in calls)  # above the limit, a contig is its own reference
    calls.clear()
    score_variants(table[table["chrom"] != "long"], library, toy_base_model, 12)
    assert calls
    assert all((codes == 4).all() for codes in calls)


def test_a_gene_on_a_short_contig_keeps_its_limits(library: MemoryGenome, toy_base_model: BaseModel) -> None:
    annotation = GeneAnnotation([Gene("G", "short", "+", 20, 50, ((20, 50),))], "toy", "toy annotation")
    base = decode(library.fetch("short", 29, 30))
    row = {"chrom": "short", "pos": 30, "ref": base, "alt": "ACGT"["ACGT".index(base) - 1], "strand": "+", "gene": "G"}
    table = pd.DataFrame([{**row, "variant_id": "v"}])
    fast = score_variants(table, library, toy_base_model, 12, annotation=annotation)
    full = score_variants(table, library, toy_base_model, 12, how=Computation("full"), annotation=annotation)
    free = score_variants(table, library, toy_base_model, 12)
    assert np.abs(full.alt - fast.alt).max() < 1e-5
    assert np.abs(free.alt - fast.alt).max() > 1e-3
