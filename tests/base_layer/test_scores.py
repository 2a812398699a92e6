"""One number a variant: the largest change in the window, and the change at the exon's own sites."""

from __future__ import annotations

import numpy as np
import pandas as pd

from meta_spliceai.splice_engine.base_layer.scores import (
    ACCEPTOR,
    CHANNELS,
    DONOR,
    NEITHER,
    BaseScores,
    max_window,
    own_site,
)


def _scores(changes: list[dict[tuple[int, int], float]], channels: tuple[str, ...] = CHANNELS) -> BaseScores:
    """Scores with distance 3 whose Δ is zero but for the given {(offset from pos, channel): Δ}."""
    ref = np.full((len(changes), 7, len(channels)), 0.5, np.float32)
    alt = ref.copy()
    for row, change in enumerate(changes):
        for (offset, channel), value in change.items():
            alt[row, 3 + offset, channel] += value
    return BaseScores(ref, alt, 3, "toy", "d", channels)


def test_max_window_keeps_the_sign_and_leaves_neither_out() -> None:
    scores = _scores([{(-3, ACCEPTOR): -0.3, (2, DONOR): 0.2}, {(3, DONOR): 0.4, (0, NEITHER): -0.5}, {}])
    np.testing.assert_allclose(max_window(scores), [-0.3, 0.4, 0.0], atol=1e-6)


def test_max_window_of_a_model_without_acceptors_uses_all_channels() -> None:
    scores = _scores([{(0, 0): -0.4, (1, 3): 0.1}], ("heart", "liver", "brain", "testis"))
    np.testing.assert_allclose(max_window(scores), [-0.4], atol=1e-6)


def test_own_site_looks_only_at_the_exons_own_sites() -> None:
    change = {(-2, ACCEPTOR): -0.1, (3, DONOR): -0.2, (0, DONOR): 0.5, (-2, DONOR): 0.4}
    scores = _scores([change] * 6)
    table = pd.DataFrame(
        {
            "pos": [100] * 6,
            "strand": ["+", "+", "-", "+", "+", "+"],
            "acceptor_pos": pd.array([98, 98, 102, pd.NA, 98, 90], dtype="Int64"),
            "donor_pos": pd.array([103, 500, 97, pd.NA, pd.NA, 104], dtype="Int64"),
        }
    )
    np.testing.assert_allclose(own_site(scores, table), [-0.2, -0.1, -0.2, np.nan, -0.1, np.nan], atol=1e-6)


def test_own_site_of_a_network_without_acceptors_is_the_mean_of_its_channels() -> None:
    table = pd.DataFrame({"pos": [100], "strand": ["+"], "acceptor_pos": [98], "donor_pos": [103]})
    scores = _scores([{(-2, 0): -0.4, (-2, 1): -0.2, (3, 2): -0.3, (0, 0): 0.9}], ("heart", "liver", "brain", "testis"))
    np.testing.assert_allclose(own_site(scores, table), [-0.15], atol=1e-6)
