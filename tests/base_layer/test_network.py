"""SpliceAI-shaped networks equal the published ones, and hand on their hidden channels."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pysam
import pytest
import torch

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.resources import packaged_file
from meta_spliceai.splice_engine.base_layer import families
from meta_spliceai.splice_engine.base_layer.families import SPLICEAI_FILES, load_base_model, load_keras_weights
from meta_spliceai.splice_engine.base_layer.network import (
    SPLICEAI_STAGES,
    Architecture,
    BaseModel,
    SpliceAINetwork,
    one_hot,
    trunk_of,
)
from meta_spliceai.splice_engine.base_layer.scoring import Computation, align_alternative, score_variants
from meta_spliceai.splice_engine.genome.sequence import N_CODE, MemoryGenome, encode, reverse_complement
from meta_spliceai.splice_engine.variants.table import as_variant_table

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("spliceai") is None, reason="SpliceAI's weights come with the `quickstart` extra"
)


def _probabilities(network: SpliceAINetwork, codes: np.ndarray) -> np.ndarray:
    """Outputs [positions, channels] on one sequence."""
    with torch.inference_mode():
        return network(one_hot(torch.from_numpy(codes)[None]))[0].T.numpy()


def _random_codes(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, length).astype(np.uint8)


@pytest.mark.quickstart
@needs_weights
@pytest.mark.mirror
@pytest.mark.parametrize("contig", ["chr1", "chr2"])
def test_the_five_networks_equal_the_published_ones(mirror: Path, contig: str) -> None:
    expected = np.load(mirror / "vectors/spliceai/probabilities.npz", allow_pickle=False)
    start = int(expected[f"{contig}_offset0"])
    with pysam.FastaFile(str(mirror / "vectors/spliceai/genome.fa")) as genome:
        codes = encode(genome.fetch(contig, start, start + 10_401))
    found = np.stack([_probabilities(network, codes) for network in load_base_model("spliceai").networks])
    np.testing.assert_allclose(found, expected[contig], atol=1e-5, rtol=0)


def test_receptive_field_is_exactly_5000_bases_each_side() -> None:
    # The outermost base acts through one tap of every layer. With trained weights that product is far below any
    # float's noise, so the weights here let the outer taps through and nothing dies in an activation.
    network = SpliceAINetwork(Architecture(SPLICEAI_STAGES, channels=2), head=torch.nn.Identity()).double().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv1d):
                module.weight.zero_()
                module.weight[..., [0, -1]] = 0.5
                module.bias.fill_(1.0)
    network.first.weight.data[:] = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None]
    codes = torch.from_numpy(_random_codes(10_003))
    with torch.inference_mode():
        before = network(one_hot(codes[None]).double())[0, :, 1]
        for index, acts in ((0, False), (1, True), (10_001, True), (10_002, False)):
            changed = codes.clone()
            changed[index] = (changed[index] + 1) % 4
            after = network(one_hot(changed[None]).double())[0, :, 1]
            assert bool((after != before).any()) is acts, index


def test_toy_receptive_field_is_its_flank(toy_base_model: BaseModel) -> None:
    network = toy_base_model.networks[0]
    assert network.flank == toy_base_model.flank == 2 * 2 * 2 + 2 * 10 + 2 * 2 * 30
    codes = _random_codes(2 * network.flank + 1)
    before = _probabilities(network, codes)
    for index in (0, 2 * network.flank):
        changed = codes.copy()
        changed[index] = (changed[index] + 1) % 4
        assert np.abs(_probabilities(network, changed) - before).max() > 0


def test_n_is_a_zero_row_not_a_padded_activation(toy_base_model: BaseModel) -> None:
    network = toy_base_model.networks[0]
    codes = _random_codes(2 * network.flank + 20)
    codes[: network.flank + 5] = N_CODE
    x = one_hot(torch.from_numpy(codes)[None])
    assert x[..., : network.flank + 5].abs().max() == 0
    with torch.inference_mode():
        first = network.first(x)[0, :, 0]
    torch.testing.assert_close(first, network.first.bias)


def test_unpadded_equals_padded_and_cropped(toy_base_model: BaseModel) -> None:
    """The original pads every convolution with zeros and crops at the end; written out here once more."""
    network = toy_base_model.networks[0]
    x = one_hot(torch.from_numpy(_random_codes(2 * network.flank + 31))[None])
    functional = torch.nn.functional

    def same(conv: torch.nn.Conv1d, value: torch.Tensor) -> torch.Tensor:
        pad = conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
        return functional.conv1d(value, conv.weight, conv.bias, padding=pad, dilation=conv.dilation)

    with torch.inference_mode():
        stream = network.first(x)
        collected = network.first_skip(stream)
        for blocks, skip in zip(network.stages, network.skips, strict=True):
            for block in blocks:
                y = same(block.conv1, functional.relu(block.norm1(stream)))
                stream = stream + same(block.conv2, functional.relu(block.norm2(y)))
            collected = collected + skip(stream)
        padded = network.head(collected)[..., network.flank : -network.flank]
        torch.testing.assert_close(network(x), padded, atol=1e-6, rtol=1e-5)


def test_too_few_bases_are_refused(toy_base_model: BaseModel) -> None:
    with pytest.raises(ValueError, match="too few"):
        toy_base_model.networks[0](torch.zeros(1, 4, 2 * toy_base_model.flank))


def test_unknown_base_model_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean spliceai"):
        load_base_model("splicai")


@pytest.mark.quickstart
@needs_weights
def test_member_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="members 0 to 4"):
        load_base_model("spliceai", members=[5])


@pytest.mark.quickstart
@needs_weights
def test_truncated_weight_file_is_refused_by_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packaged_file("spliceai", next(iter(SPLICEAI_FILES)))
    cut = tmp_path / "spliceai1.h5"
    cut.write_bytes(whole.read_bytes()[:-1000])
    monkeypatch.setattr(families, "packaged_file", lambda distribution, path: cut)
    with pytest.raises(IntegrityError, match="SHA-256"):
        load_base_model("spliceai", members=[0])
    with pytest.raises(IntegrityError, match="truncated"):
        load_keras_weights(cut)


@pytest.mark.quickstart
@needs_weights
def test_weight_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = packaged_file("spliceai", next(iter(SPLICEAI_FILES)))
    with pytest.raises(IntegrityError, match="shape"):
        load_keras_weights(path, Architecture(SPLICEAI_STAGES, channels=16))
    with pytest.raises(IntegrityError, match="layers, expected"):
        load_keras_weights(path, Architecture(SPLICEAI_STAGES[:2]))
    gutted = tmp_path / "gutted.h5"
    shutil.copy(path, gutted)
    with h5py.File(gutted, "r+") as file:
        del file["model_weights/conv1d_7/conv1d_7/bias:0"]
    with pytest.raises(IntegrityError, match=r"Missing key.*stages\.0\.2\.conv1\.bias"):
        load_keras_weights(gutted)


def test_digest_follows_the_weights(toy_base_model: BaseModel) -> None:
    first, second = toy_base_model.networks
    alone = BaseModel("a", (first,), "", "")
    assert alone.digest != BaseModel("a", (second,), "", "").digest
    assert alone.digest == BaseModel("b", (first,), "", "").digest


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
    scores = score_variants(table, genome, trunk, DISTANCE, how=Computation(method))  # type: ignore[arg-type]
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
