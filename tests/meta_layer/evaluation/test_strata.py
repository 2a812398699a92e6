"""Evaluation within strata, with position held fixed, and the gain over position."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import seqleak
from sklearn.metrics import roc_auc_score

from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.position import position_features
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer
from meta_spliceai.splice_engine.meta_layer.evaluation.strata import (
    evaluate_strata,
    gain_over_position,
    position_bins,
    strata_of,
    within_strata_auroc,
)
from meta_spliceai.splice_engine.variants.table import as_variant_table

Predictions = Callable[..., pd.DataFrame]


def variants(rows: list[tuple[int, str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["pos", "ref", "alt"]).assign(
        variant_id=[f"v{i}" for i in range(len(rows))],
        chrom="toy",
        strand="+",
        gene="",
        classification="Normal",
        source=["screen", *[""] * (len(rows) - 1)],
        method="toy",
        group="g",
        acceptor_pos=101,
        donor_pos=200,
    )
    return as_variant_table(frame, "toy")


def test_strata_by_hand() -> None:
    rows = [(99, "A", "C"), (90, "AC", "GT"), (150, "A", "ACC"), (150, "ACC", "A"), (300, "AC", "T"), (205, "A", "C")]
    strata = strata_of(variants(rows))
    assert strata["region"].tolist() == [
        "canonical ±2",
        "splice region",
        "exonic",
        "exonic",
        "deep intronic",
        "splice region",
    ]
    assert strata["type"].tolist() == ["SNV", "substitution", "insertion", "deletion", "complex", "SNV"]
    assert strata["source"].tolist() == ["screen", *["source not given"] * 5]
    assert strata["position"].tolist()[0] == "intron, acceptor 0–2"
    assert strata["position"].tolist()[4] == "intron, donor 51+"
    unknown = variants(rows[:1]).assign(acceptor_pos=pd.NA)
    assert strata_of(unknown).iloc[0][["region", "position"]].tolist() == ["no site known"] * 2


def test_each_stratum_is_the_evaluation_of_its_rows(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions(rows=600)
    half = np.where(np.random.default_rng(0).random(600) < 0.5, "one", "two")
    only = np.where(frame["classification"] == "Splice-altering", "clinic", "screen")
    found = evaluate_strata(frame, scorers, pd.DataFrame({"half": half, "source": only}), n_boot=30)
    table = pd.DataFrame([record for record in found if "scorer" in record])
    mine = table[(table["stratum"] == "one") & (table["scorer"] == "weak")].set_index("metric")
    theirs = evaluate(frame[half == "one"], scorers, n_boot=30).metrics
    theirs = theirs[theirs["scorer"] == "weak"].set_index("metric").loc[mine.index]
    pd.testing.assert_frame_equal(
        mine[["estimate", "low", "high", "n"]],
        theirs[["estimate", "low", "high", "n"]],
        check_dtype=False,
        check_index_type=False,
    )
    assert set(table["stratification"]) == {"half"}
    clinic, screen = (record for record in found if record["stratification"] == "source")
    sides = frame["classification"].isin(["Splice-altering", "Normal"]).sum()
    assert clinic["n"] + screen["n"] == sides
    assert clinic["reason"].endswith("of them positive: not evaluated")


def positioned(rows: int = 900, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Class by position and by something else; one scorer knows the position, one the other thing, one both."""
    rng = np.random.default_rng(seed)
    pos = rng.integers(80, 130, rows)
    table = variants([(int(p), "A", "C") for p in pos])
    near = (np.abs(pos - 101) <= 4) * 2.5
    other = rng.normal(0, 1, rows)
    altering = near + 1.2 * other + rng.logistic(0, 0.6, rows) > 1.5
    table["classification"] = np.where(altering, "Splice-altering", "Normal")
    table["group"] = [f"g{i}" for i in rng.integers(0, 60, rows)]
    frame = table[["variant_id", "group", "classification", "effect"]].assign(target=np.nan)
    frame["place.score"] = near + rng.normal(0, 0.01, rows)
    frame["other.score"] = other
    frame["both.score"] = near + 1.2 * other
    return frame, position_features(table)


PLACE, OTHER, BOTH = (Scorer(name, "learned", scale="rank") for name in ("place", "other", "both"))


def test_within_strata_auroc_equals_seqleak_and_takes_position_away() -> None:
    frame, features = positioned()
    strata = position_bins(features)
    table = within_strata_auroc(frame, [PLACE, OTHER, BOTH], strata, n_boot=200, seed=3)
    y = (frame["classification"] == "Splice-altering").to_numpy().astype(int)
    plan = seqleak.Resample(frame["group"], method="cluster", n_boot=200, seed=3)
    for scorer in (PLACE, OTHER, BOTH):
        theirs = seqleak.within_auc(
            y,
            frame[scorer.score_column],
            pd.factorize(strata)[0],
            frame["group"],
            compare="across_groups",
            resample=plan,
        )
        mine = table.loc[scorer.name]
        assert mine["estimate"] == pytest.approx(theirs.estimate, abs=1e-12)
        assert (mine["low"], mine["high"]) == pytest.approx(theirs.ci, abs=1e-12)
    assert roc_auc_score(y, frame["place.score"]) > 0.65
    assert table.loc["place", "estimate"] == pytest.approx(0.5, abs=0.1)
    assert table.loc["other", "estimate"] > 0.75


def test_within_strata_auroc_states_what_it_left_aside_and_what_it_cannot_say() -> None:
    frame, _ = positioned()
    frame.loc[:19, "other.score"] = np.nan
    by_class = frame["classification"]
    table = within_strata_auroc(frame, [OTHER], by_class, n_boot=10)
    assert table.loc["other", "reason"] == "no stratum holds both classes"
    assert table.loc["other", "n_left_aside"] == 20


def test_gain_over_position_is_there_only_for_what_position_does_not_tell() -> None:
    frame, features = positioned()
    place, other = (gain_over_position(frame, scorer, features, n_boot=200) for scorer in (PLACE, OTHER))
    nothing = place.difference("position + place", "position", "auroc")
    assert nothing["low"] < 0.01
    assert abs(nothing["estimate"]) < 0.03
    much = other.difference("position + other", "position", "auroc")
    assert much["low"] > 0.05
    assert other.verdicts("auroc")[0].text.startswith("beats position: AUROC difference +0.")
