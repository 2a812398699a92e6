"""The receptive field is what it is said to be, measured by gradients."""

from __future__ import annotations

import pytest
import torch

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models.cnn import (
    GatedCNNEncoder,
    SimpleCNNEncoder,
    plan_dilations,
    receptive_field,
    unseen,
)


def seen_by_the_middle(encoder: torch.nn.Module, length: int) -> torch.Tensor:
    """Input positions that the middle output position depends on."""
    torch.manual_seed(0)
    encoder.eval().double()
    codes = torch.randn(1, 4, length, dtype=torch.double, requires_grad=True)
    encoder(codes)[0, :, length // 2].square().sum().backward()
    assert codes.grad is not None
    return codes.grad.abs().amax(1)[0].nonzero().flatten()


@pytest.mark.parametrize("window", [1, 51, 101, 501, 1001])
@pytest.mark.parametrize("kind", [GatedCNNEncoder, SimpleCNNEncoder])
def test_the_middle_sees_every_base_of_the_window(kind: type[torch.nn.Module], window: int) -> None:
    seen = seen_by_the_middle(kind(window, hidden_dim=16), window)
    assert seen.tolist() == list(range(window))


def test_the_field_is_as_wide_as_stated_and_no_wider() -> None:
    encoder = GatedCNNEncoder(101, hidden_dim=8)
    stated = encoder.receptive_field
    encoder.window = 301  # the layers read any length; only the check holds them to the window
    seen = seen_by_the_middle(encoder, 301)
    assert int(seen.max() - seen.min()) + 1 == stated
    assert stated >= 101


@pytest.mark.parametrize("window", [101, 501, 1001, 5001, 10001])
@pytest.mark.parametrize(("layers", "kernel"), [(6, 7), (5, 11), (9, 5)])
def test_planned_dilations_cover_the_window_without_gaps(window: int, layers: int, kernel: int) -> None:
    dilations = plan_dilations(window, layers, kernel)
    assert len(dilations) == layers
    assert receptive_field(kernel, dilations) >= window
    for layer, dilation in enumerate(dilations):
        assert dilation <= receptive_field(kernel, dilations[:layer])


def test_too_few_layers_even_windows_and_wrong_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="2 layers of kernel 7 cannot see all"):
        plan_dilations(10001, 2, 7)
    with pytest.raises(InputError, match="window 100 is not an odd"):
        GatedCNNEncoder(100)
    with pytest.raises(InputError, match="kernel 4"):
        SimpleCNNEncoder(101, kernel=4)
    with pytest.raises(InputError, match="51 bases was given to an encoder made for 101"):
        GatedCNNEncoder(101, hidden_dim=4)(torch.zeros(1, 4, 51))


@pytest.mark.parametrize(("window", "layers", "kernel"), [(10001, 6, 7), (5001, 4, 11), (501, 6, 7), (101, 4, 11)])
def test_no_base_of_the_window_is_out_of_the_middles_sight(window: int, layers: int, kernel: int) -> None:
    # A field as wide as the window is not enough: the way from a base near the edge may need a step outside.
    encoder = GatedCNNEncoder(window, hidden_dim=2, layers=layers, kernel=kernel).double().eval()
    bases = torch.randn(1, 4, window, dtype=torch.double, requires_grad=True)
    encoder(bases)[0, :, window // 2].square().sum().backward()
    assert bases.grad is not None
    assert int((bases.grad.abs().amax(1) == 0).sum()) == 0


def test_layers_that_cannot_see_all_of_a_window_are_refused() -> None:
    with pytest.raises(InputError, match="6 layers of kernel 7 cannot see all of a window of 100001 bases"):
        plan_dilations(100001, 6, 7)
    assert unseen(100001, 7, plan_dilations(100001, 8, 7)) == 0
    assert unseen(10001, 7, (1, 4, 18, 74, 311, 1307)) == 6
