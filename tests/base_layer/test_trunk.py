"""A base model's hidden channels come out of the scorer as the plain forward has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from meta_spliceai.splice_engine.base_layer.model import BaseModel
from meta_spliceai.splice_engine.base_layer.network import SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.scoring import align_alternative, score_variants
from meta_spliceai.splice_engine.base_layer.trunk import trunk_of
from meta_spliceai.splice_engine.genome.memory import MemoryGenome
from meta_spliceai.splice_engine.genome.one_hot import one_hot
from meta_spliceai.splice_engine.genome.sequence import encode, reverse_complement
from meta_spliceai.splice_engine.variants.table import as_variant_table

DISTANCE = 20
CHANGES = (("A", "C"), ("A", "ACGT"), ("ACGTA", "A"), ("ACG", "TT"))
CONTIGS = {"long": 3000, "construct": 170}


@pytest.fixture(scope="module")
def genome() -> MemoryGenome:
    random = np.random.default_rng(11)
    made = {}
    for name, length in CONTIGS.items():
        bases = random.choice(list("ACGT"), length)
        for number in range(len(CHANGES)):  # the longest reference allele stands at every place used below
            at = length // 2 - 20 + 10 * number
            bases[at : at + 5] = list("ACGTA")
        made[name] = "".join(bases)
    return MemoryGenome(made, "toy build", "toy genome")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = [
        {
            "variant_id": f"{contig} {strand} {number}",
            "chrom": contig,
            "pos": length // 2 - 20 + 10 * number + 1,
            "ref": ref,
            "alt": alt,
            "strand": strand,
            "gene": "",
            "classification": "Normal",
            "source": "toy",
            "method": "made up",
            "group": "one",
        }
        for contig, length in CONTIGS.items()
        for strand in "+-"
        for number, (ref, alt) in enumerate(CHANGES)
    ]
    return as_variant_table(pd.DataFrame(rows), "toy")


def _before_head(network: SpliceAINetwork, x: torch.Tensor) -> torch.Tensor:
    heard: list[torch.Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    network(x)
    hook.remove()
    return heard[0]


def plain(row: pd.Series, genome: MemoryGenome, model: BaseModel) -> tuple[np.ndarray, np.ndarray]:
    """Hidden channels of one variant by whole forward passes: the sum of skip connections of each network."""
    reach = DISTANCE + model.flank
    start, shift = int(row["pos"]) - 1, len(row["alt"]) - len(row["ref"])
    around = genome.fetch(row["chrom"], start - reach, start + reach + 10)
    changed = np.concatenate([around[:reach], encode(row["alt"]), around[reach + len(row["ref"]) :]])
    outputs = []
    for codes, length in ((around, 2 * DISTANCE + 1), (changed, max(DISTANCE + 1, 2 * DISTANCE + 1 + shift))):
        codes = codes[: length + 2 * model.flank]
        codes = codes if row["strand"] == "+" else reverse_complement(codes)
        x = one_hot(torch.from_numpy(codes.copy())[None])
        heard = [_before_head(network, x) for network in model.networks]
        outputs.append(torch.cat(heard, dim=1)[0].T.numpy())
    turn = slice(None, None, -1 if row["strand"] == "-" else 1)
    return outputs[0], align_alternative(outputs[1][turn], shift, DISTANCE)[turn]


@pytest.mark.parametrize("method", ["incremental", "full"])
def test_hidden_channels_are_those_of_the_plain_forward(
    method: str, table: pd.DataFrame, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    trunk = trunk_of(toy_base_model)
    scores = score_variants(table, genome, trunk, DISTANCE, method=method)  # type: ignore[arg-type]
    assert scores.ref.shape == (len(table), 2 * DISTANCE + 1, 2 * 8)
    for number, row in table.iterrows():
        ref, alt = plain(row, genome, toy_base_model)
        largest = np.abs(ref).max()  # hidden channels have no scale of their own; here they reach 15
        np.testing.assert_allclose(scores.ref[number] / largest, ref / largest, atol=1e-5)
        np.testing.assert_allclose(scores.alt[number] / largest, alt / largest, atol=1e-5)
    deleted = table.index[(table["ref"] == "ACGTA") & (table["strand"] == "+")]
    assert (scores.alt[deleted, DISTANCE + 1 : DISTANCE + 5] == 0).all()


def test_heads_on_the_trunk_give_the_scores(
    table: pd.DataFrame, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    one = replace(toy_base_model, networks=toy_base_model.networks[:1], slots=(0,), digest="")
    hidden = torch.from_numpy(score_variants(table, genome, trunk_of(one), DISTANCE).ref)
    expected = score_variants(table, genome, one, DISTANCE).ref
    found = one.networks[0].head(hidden.mT).mT
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_a_trunk_is_told_from_its_model(toy_base_model: BaseModel) -> None:
    trunk = trunk_of(toy_base_model)
    assert trunk.digest != toy_base_model.digest
    assert trunk.flank == toy_base_model.flank
    # The same tensors, not copies of them.
    assert trunk.networks[0].first.weight.data_ptr() == toy_base_model.networks[0].first.weight.data_ptr()
