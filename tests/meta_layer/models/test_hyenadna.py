"""HyenaDNA: equal to the published implementation's outputs, the published sizes, causal, both strands aligned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.network import one_hot
from meta_spliceai.splice_engine.genome.sequence import encode, reverse_complement
from meta_spliceai.splice_engine.meta_layer.models.hyenadna import (
    BASE_TOKENS,
    N_TOKEN,
    BothStrandsHyenaDNA,
    HyenaConfig,
    HyenaDNA,
)
from meta_spliceai.splice_engine.meta_layer.models.hyenadna_weights import (
    PUBLISHED,
    model_config,
    read_folder,
)

SMALL = HyenaConfig(d_model=12, n_layer=2, d_inner=24, max_seq_len=130, filter_order=8)


def small_model(**options: bool) -> HyenaDNA:
    torch.manual_seed(2)
    return HyenaDNA(SMALL, **options).eval()


def codes_of(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 5, (1, length), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def tokens_of(codes: torch.Tensor) -> torch.Tensor:
    return torch.tensor([*BASE_TOKENS, N_TOKEN])[codes.long()]


@pytest.mark.mirror
@pytest.mark.parametrize("form", ["hf_format", "original_format"])
def test_hidden_states_equal_the_reference(mirror: Path, form: str) -> None:
    folder = mirror / "vectors" / "hyenadna" / form
    expected = np.load(folder / "expected.npz")
    model, _ = read_folder(folder)
    model.eval()
    sequences = json.loads((folder.parent / "sequences.json").read_text())
    assert {len(s) for s in sequences} >= {1, 256}
    assert any("N" in s for s in sequences)
    for i, sequence in enumerate(sequences):
        codes = torch.from_numpy(encode(sequence))[None]
        with torch.no_grad():
            hidden = model(model.embed(tokens_of(codes)))[0].numpy()
            from_bases = model(model.embed_bases(one_hot(codes)))[0].numpy()
        assert np.abs(hidden - expected[f"hidden_{i}"]).max() < 1e-5
        assert np.abs(from_bases - expected[f"hidden_{i}"]).max() < 1e-5
        if form == "hf_format":
            logits = hidden @ load((folder / "model.safetensors").read_bytes())["lm_head.weight"].numpy().T
            assert np.abs(logits - expected[f"logits_{i}"]).max() < 1e-5


def test_tokens_are_the_published_ones() -> None:
    # 0 to 6 are special tokens: a model fed 0 to 3 for A, C, G, T reads none of the bases it was trained on.
    assert (*BASE_TOKENS, N_TOKEN) == (7, 8, 9, 10, 11)
    model, codes = small_model(), codes_of(40)
    assert torch.equal(model.embed_bases(one_hot(codes)), model.embed(tokens_of(codes)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_have_their_number_of_parameters(name: str) -> None:
    known = {"hyenadna-tiny-1k": 436_096, "hyenadna-small-32k": 3_277_568}
    with torch.device("meta"):
        model = HyenaDNA(model_config(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == known.get(name, 6_550_528)


@pytest.mark.mirror
def test_published_sizes_have_the_shapes_of_the_public_checkpoints(mirror: Path) -> None:
    sizes = json.loads((mirror / "vectors" / "hyenadna" / "sizes.json").read_text())
    for name, size in sizes.items():
        with torch.device("meta"):
            model = HyenaDNA(model_config(name))
        assert sum(parameter.numel() for parameter in model.parameters()) == size["parameters_without_head"]
        assert sum(t.numel() for t in model.state_dict().values()) == size["state_dict_without_head"]
        assert model.config.max_seq_len == size["max_seq_len"]


def test_a_position_sees_itself_and_what_is_before_it() -> None:
    model = small_model().double()
    bases = torch.randn(1, 4, 60, dtype=torch.double, requires_grad=True)
    model(model.embed_bases(bases))[0, 30].square().sum().backward()
    assert bases.grad is not None
    seen = bases.grad.abs().amax(1)[0]
    assert (seen[:31] > 1e-12).all()
    assert (seen[31:] < 1e-12).all()


def test_both_strands_together_see_the_whole_window() -> None:
    encoder = BothStrandsHyenaDNA(small_model().double(), 61)
    bases = torch.randn(1, 4, 61, dtype=torch.double, requires_grad=True)
    encoder(bases)[0, :, 30].square().sum().backward()
    assert bases.grad is not None
    assert (bases.grad.abs().amax(1) > 1e-12).all()


def test_the_strands_are_aligned_position_by_position() -> None:
    model = small_model()
    encoder = BothStrandsHyenaDNA(model, 41)
    codes = codes_of(41)
    with torch.no_grad():
        features = encoder(one_hot(codes))[0]
        onward = model(model.embed(tokens_of(codes)))[0]
        other = torch.from_numpy(reverse_complement(codes.numpy()))
        backward = model(model.embed(tokens_of(other)))[0]
    assert torch.allclose(features[: SMALL.d_model].T, onward, atol=1e-6)
    # Position i of the transcript is position length − 1 − i of the other strand.
    for i in (0, 7, 20, 40):
        assert torch.allclose(features[SMALL.d_model :, i], backward[40 - i], atol=1e-6)


def test_the_other_strand_gives_the_same_features_mirrored() -> None:
    encoder = BothStrandsHyenaDNA(small_model(), 41)
    codes = codes_of(41)
    other = torch.from_numpy(reverse_complement(codes.numpy()))
    with torch.no_grad():
        here, there = encoder(one_hot(codes))[0], encoder(one_hot(other))[0]
    swapped = torch.cat((there[SMALL.d_model :], there[: SMALL.d_model])).flip(1)
    assert torch.allclose(here, swapped, atol=1e-6)


def test_reading_near_the_variant_is_a_cut_of_reading_everything() -> None:
    model = small_model()
    everything, near = BothStrandsHyenaDNA(model, 41), BothStrandsHyenaDNA(model, 41, radius=5)
    bases = one_hot(codes_of(41))
    with torch.no_grad():
        assert torch.equal(everything(bases)[:, :, 15:26], near(bases))
    assert (near.positions, BothStrandsHyenaDNA(model, 41, radius=99).positions) == (11, 41)


def test_bfloat16_keeps_the_long_convolution_in_float32() -> None:
    model = small_model()
    embedded = model.embed_bases(one_hot(codes_of(100)))
    seen: list[torch.dtype] = []
    for layer in model.backbone.layers:
        taps = layer.mixer.filter_fn.taps
        layer.mixer.filter_fn.taps = lambda length, taps=taps: seen.append(taps(length).dtype) or taps(length)
    with torch.no_grad():
        exact = model(embedded)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(embedded)
    assert set(seen) == {torch.float32}
    assert 0 < (exact - mixed).abs().max() < 0.05 * exact.abs().max()


def test_gradient_checkpointing_changes_memory_only() -> None:
    plain, careful = small_model(), small_model(gradient_checkpointing=True)
    grads = []
    for model in (plain, careful):
        model.train()
        model.dropout.p = 0.0
        model(model.embed_bases(one_hot(codes_of(60)))).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_training_keeps_grows_with_the_length_and_no_faster(checkpointing: bool) -> None:
    model = HyenaDNA(SMALL.model_copy(update={"max_seq_len": 2049}), gradient_checkpointing=checkpointing)

    def kept(length: int) -> int:
        held: dict[int, int] = {}

        def see(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
            hidden = model(model.embed_bases(one_hot(codes_of(length))))
        assert hidden.shape[1] == length
        return sum(held.values())

    first, second, third = kept(512), kept(1024), kept(2048)
    # Twice as much once more for twice the length: a part that is the same for all, and one linear in the length.
    assert (third - second) / (second - first) == pytest.approx(2, rel=0.03)


def test_gradient_reaches_every_parameter_of_the_encoder() -> None:
    model = small_model()
    model(model.embed_bases(one_hot(codes_of(60)))).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_sequences_longer_than_the_position_tables_are_refused() -> None:
    with pytest.raises(InputError, match="window 131 is longer"):
        BothStrandsHyenaDNA(small_model(), 131)
