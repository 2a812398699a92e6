"""The base network's reductions and the prevalence as scorers, through the frame, to the leaderboard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, DONOR, BaseScores, max_window, own_site
from meta_spliceai.splice_engine.meta_layer.evaluation.baselines import (
    BASE_MAX_WINDOW,
    BASE_OWN_SITE,
    POSITION,
    position_only,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import (
    Scorer,
    predictions_frame,
    signed_scores,
    strongest,
    target_magnitude,
    unsigned,
)
from meta_spliceai.splice_engine.variants.table import as_variant_table


@pytest.fixture
def table() -> pd.DataFrame:
    rows = 60
    return as_variant_table(
        pd.DataFrame(
            {
                "variant_id": [f"v{i}" for i in range(rows)],
                "chrom": "toy",
                "pos": np.tile(np.arange(101, 107), 10),
                "ref": "A",
                "alt": "C",
                "strand": "+",
                "gene": "G",
                "classification": np.tile(["Splice-altering", "Normal", "Normal"], 20),
                "effect": -np.tile([0.6, 0.0, 0.1], 20),
                "source": "toy",
                "method": "toy",
                "group": [f"g{i % 6}" for i in range(rows)],
                "acceptor_pos": 100,
                "donor_pos": [pd.NA if i == 0 else 108 for i in range(rows)],
            }
        ),
        "toy",
    )


def base_scores(table: pd.DataFrame) -> BaseScores:
    distance = 10
    ref = np.zeros((len(table), 2 * distance + 1, 3), dtype=np.float32)
    alt = ref.copy()
    # the acceptor at 100 loses 0.4; far from the tested exon's sites a donor gains 0.5
    alt[np.arange(len(table)), 100 - table["pos"] + distance, ACCEPTOR] = -0.4
    alt[:, 0, DONOR] = 0.5
    return BaseScores(ref, alt, distance, "toy", "0")


def test_reductions_as_scorers(table: pd.DataFrame) -> None:
    window, own = signed_scores(max_window(base_scores(table))), signed_scores(own_site(base_scores(table), table))
    assert window.signed[0] == pytest.approx(0.5)
    assert own.signed[0] == pytest.approx(-0.4)
    assert own.score[0] == pytest.approx(0.4)


def test_an_unknown_site_is_nan_and_counted(table: pd.DataFrame) -> None:
    blind = table.copy()
    blind.loc[3, ["acceptor_pos", "donor_pos"]] = pd.NA
    own = signed_scores(own_site(base_scores(table), blind))
    assert np.flatnonzero(np.isnan(own.score)).tolist() == [3]
    frame = predictions_frame(blind, None, {BASE_OWN_SITE: own})
    result = evaluate(frame, [BASE_OWN_SITE], reference=None, n_boot=5)
    assert result.coverage.left_out == {"no score from base own_site": 1}
    assert result.coverage.examples["no score from base own_site"] == ["v3"]


def test_from_tables_to_the_leaderboard(table: pd.DataFrame) -> None:
    learned, prevalence = Scorer("model", "learned"), Scorer("prevalence", "baseline", scale="probability")
    delta = np.zeros((len(table), 3))
    delta[:, DONOR] = np.where(table["classification"] == "Splice-altering", -0.7, 0.1)
    target = target_magnitude(delta, np.arange(len(table)) % 2 == 0)
    assert np.isnan(target[1::2]).all()
    np.testing.assert_allclose(target[::2], np.abs(delta[::2, DONOR]))
    frame = predictions_frame(
        table,
        target,
        {
            prevalence: unsigned(np.full(len(table), 1 / 3)),
            POSITION: position_only(table, table),
            BASE_MAX_WINDOW: signed_scores(max_window(base_scores(table))),
            BASE_OWN_SITE: signed_scores(own_site(base_scores(table), table)),
            learned: signed_scores(strongest(delta)),
        },
    )
    result = evaluate(frame, [learned, BASE_OWN_SITE, BASE_MAX_WINDOW, POSITION, prevalence], n_boot=50)
    board = result.leaderboard("auroc")
    assert set(board["scorer"][:2]) == {"prevalence", "position alone"}
    assert board["scorer"].iloc[-1] == "model"
    assert result.value("prevalence", "auprc")["estimate"] == pytest.approx(1 / 3)
    assert result.value("model", "auroc")["estimate"] == 1
    assert result.value("model", "pearson_effect")["estimate"] > 0.9


def test_delta_takes_the_channel_of_largest_magnitude_and_never_neither() -> None:
    scores = signed_scores(strongest(np.array([[0.9, 0.1, -0.3], [-0.9, 0.2, 0.1]])))
    np.testing.assert_allclose(scores.signed, [-0.3, 0.2])
    np.testing.assert_allclose(scores.score, [0.3, 0.2])
