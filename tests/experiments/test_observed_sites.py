"""Peaks, positions and kinds of effect against observed splice sites, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.experiments.run.evidence import OBSERVED, evaluate_observed_sites, quantile_coverage
from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, CHANNELS, DONOR, BaseScores

HALF = 10


@pytest.fixture
def scores() -> BaseScores:
    """Four variants: a lost donor at +3, a skipped exon (donor -2, acceptor -8), a gained acceptor at +1, nothing."""
    ref = np.zeros((4, 2 * HALF + 1, 3), np.float32)
    ref[0, HALF + 3, DONOR] = 0.9
    ref[1, HALF - 2, DONOR] = 0.9
    ref[1, HALF - 8, ACCEPTOR] = 0.9
    alt = ref.copy()
    alt[0, HALF + 3, DONOR] = 0.1
    alt[1, HALF - 2, DONOR] = 0.4
    alt[1, HALF - 8, ACCEPTOR] = 0.3  # the farther of the two observed sites is where the network is strongest
    alt[2, HALF + 2, ACCEPTOR] = 0.7  # one base beside the observed site
    alt[3, HALF + 5, DONOR] = 0.6  # a false gain
    return BaseScores(ref, alt, HALF, "toy", "d")


@pytest.fixture
def tested() -> pd.DataFrame:
    """The observations, the first variant on the minus strand; the index says which row of the table each is."""
    return pd.DataFrame(
        {
            "variant_id": list("abcd"),
            "classification": ["Splice-altering"] * 3 + ["Normal"],
            "group": list("ghij"),
            "pos": [100, 200, 300, 400],
            "strand": ["-", "+", "+", "+"],
            "acceptor_pos": pd.array([90, 192, 250, None], dtype="Int64"),
            "donor_pos": pd.array([97, 198, None, None], dtype="Int64"),
            "donors_lost": ["97", "198", "", ""],
            "acceptors_lost": ["", "192", "", ""],
            "acceptors_gained": ["", "", "301", ""],
        }
    )


def prepared(*scores: BaseScores, names: tuple[str, ...] = ("toy",)) -> Any:
    return SimpleNamespace(
        networks=tuple((SimpleNamespace(name=name), one, 0) for name, one in zip(names, scores, strict=True)),
        scores=scores[0],
        loaded=SimpleNamespace(dataset=SimpleNamespace(name="t")),
    )


def spec(**more: Any) -> Any:
    return SimpleNamespace(id="row", seed=0, **{"fusion": None, **more})


def evaluated(
    scores: BaseScores, tested: pd.DataFrame, wanted: Any = None, columns: dict[str, np.ndarray] | None = None
) -> dict[str, list[dict[str, Any]]]:
    return evaluate_observed_sites(prepared(scores), tested, wanted or spec(), columns or {}, 10, {})


def peaks_of(found: dict[str, list[dict[str, Any]]], scorer: str) -> dict[str, float]:
    return {record["metric"]: record["estimate"] for record in found["peaks"] if record["scorer"] == scorer}


def hits_of(found: dict[str, list[dict[str, Any]]], scorer: str) -> list[float]:
    return [record["estimate"] for record in found["localisation"] if record["scorer"] == scorer]


def test_sites_that_vanish_and_appear(scores: BaseScores, tested: pd.DataFrame) -> None:
    numbers = peaks_of(evaluated(scores, tested), "toy")
    assert numbers["loss_detection"] == 1
    assert numbers["gain_detection"] == 0  # a base beside it
    assert numbers["false_gain_rate"] == pytest.approx(1 / 3)  # of a, b and d, none of which gains a site


def test_what_the_reference_alone_would_score_stands_first(scores: BaseScores, tested: pd.DataFrame) -> None:
    found = evaluated(scores, tested)
    assert [record["scorer"] for record in found["peaks"]] == ["no change"] * 5 + ["toy"] * 5
    nothing = peaks_of(found, "no change")
    assert (nothing["gain_detection"], nothing["loss_detection"], nothing["false_gain_rate"]) == (0, 0, 0)
    assert nothing["peak_precision"] == 0  # all three sites of the reference were seen lost
    assert {record["scorer"] for record in found["effect_types"]} == {"toy"}


def test_the_strongest_change_lies_at_an_observed_site_beside_answers_that_know_nothing(
    scores: BaseScores, tested: pd.DataFrame
) -> None:
    found = evaluated(scores, tested)
    assert hits_of(found, "toy") == [pytest.approx(2 / 3), 1, 1]
    assert hits_of(found, "the variant itself") == [0, pytest.approx(1 / 3), 1]
    assert hits_of(found, "the exon's nearer site") == [pytest.approx(2 / 3)] * 3  # 250 is far from 301
    far = tested.assign(acceptors_gained=["", "", "350", ""])
    assert {(r["n"], r["out_of_reach"]) for r in evaluated(scores, far)["localisation"]} == {(2, 1)}


def test_any_observed_kind_is_right_and_otherwise_the_nearest_is_missed(
    scores: BaseScores, tested: pd.DataFrame
) -> None:
    (found,) = evaluated(scores, tested)["effect_types"]
    lines = {line.pop("observed"): line for line in found["confusion"]}
    assert lines["donor loss"]["donor loss"] == 1
    assert lines["acceptor loss"]["acceptor loss"] == 1  # the skipped exon's farther site
    assert lines["acceptor gain"]["acceptor gain"] == 1
    assert lines["no effect"] == {**dict.fromkeys(lines, 0), "donor gain": 1}
    assert (found["n"], found["several_observed"]) == (4, 1)
    quiet = BaseScores(scores.ref, scores.ref + 0.1 * scores.delta, HALF, "toy", "d")
    (found,) = evaluated(quiet, tested)["effect_types"]
    lines = {line.pop("observed"): line["no effect"] for line in found["confusion"]}
    assert lines == {"donor loss": 2, "donor gain": 0, "acceptor loss": 0, "acceptor gain": 1, "no effect": 1}


def test_a_fusion_is_its_base_network_where_it_says_altering(scores: BaseScores, tested: pd.DataFrame) -> None:
    said = {"score": np.array([0.9, 0.1, 0.9, 0.2], np.float32)}
    found = evaluated(scores, tested, spec(fusion="some"), said)
    assert peaks_of(found, "row")["false_gain_rate"] == 0
    assert peaks_of(found, "row")["loss_detection"] == pytest.approx(1 / 3)
    assert hits_of(found, "row")[0] == pytest.approx(1 / 3)
    assert [r["n_without_prediction"] for r in found["localisation"] if r["scorer"] == "row"] == [1] * 3


def test_heads_are_judged_alone_or_as_one_of_several(scores: BaseScores, tested: pd.DataFrame) -> None:
    own = {
        "validated-delta.delta_acceptor": np.zeros(4, np.float32),
        "validated-delta.delta_donor": np.array([-0.8, -0.6, 0, 0], np.float32),
        "position.offset": np.array([3, 0, 1, 0], np.float32),
        "effect-type.effect_type": np.array([1, 3, 2, 0]),
        "score": np.array([0.9, 0.9, 0.9, 0.1], np.float32),
    }
    found = evaluated(scores, tested, columns=own)
    assert peaks_of(found, "row")["loss_detection"] == pytest.approx(1 / 3)  # placed where the network is strongest
    assert hits_of(found, "row") == [pytest.approx(2 / 3), pytest.approx(2 / 3), 1]
    macro = {r["scorer"]: r["metrics"][0]["estimate"] for r in found["effect_types"]}
    assert macro["row"] == 1
    alone = {name.partition(".")[2]: values for name, values in own.items() if name.startswith("validated-delta.")}
    assert peaks_of(evaluated(scores, tested, columns=alone), "row") == peaks_of(found, "row")


def test_what_cannot_be_judged_says_why(scores: BaseScores, tested: pd.DataFrame) -> None:
    reasons: dict[str, str] = {}
    nothing = evaluate_observed_sites(prepared(scores), tested[["variant_id"]], spec(), {}, 10, reasons)
    assert nothing == {part: [] for part in OBSERVED}
    assert reasons["localisation"] == "t has no observed positions of splice sites"
    reasons.clear()
    evaluate_observed_sites(prepared(scores), tested.iloc[3:], spec(), {}, 10, reasons)
    assert set(reasons.values()) == {"no test variant has an observed position"}
    tissues = BaseScores(scores.ref[:, :, :2], scores.alt[:, :, :2], HALF, "tissues", "d", channels=("heart", "liver"))
    reasons.clear()
    both = prepared(scores, tissues, names=("toy", "tissues"))
    found = evaluate_observed_sites(both, tested, spec(), {}, 10, reasons)
    assert {record["scorer"] for record in found["peaks"]} == {"no change", "toy"}
    assert reasons == {"peaks of tissues": "it does not tell acceptors from donors"}
    assert tuple(scores.channels) == tuple(CHANNELS)


def test_the_share_of_effects_below_each_predicted_quantile(scores: BaseScores, tested: pd.DataFrame) -> None:
    """Validated |Δ| of the four variants at (acceptor, donor): (0, 0.8), (0.6, 0), (0.7, 0), (0, 0)."""
    row = prepared(scores)
    row.table, row.parts = tested, np.array(["test"] * 4)
    levels = {"q50": [0.0, 0.0, 0.0, 0.0], "q90": [0.65, 0.65, 0.65, 0.65]}
    columns = {f"{level}_{site}": np.array(values) for level, values in levels.items() for site in CHANNELS}
    found = quantile_coverage(spec(bootstrap=20), row, columns)["quantiles"]["metrics"]
    told = {(one["of"], one["metric"]): (one["estimate"], one["n"]) for one in found}
    assert told == {
        ("all", "at or below the 50 % quantile"): (pytest.approx(5 / 8), 4),
        ("all", "at or below the 90 % quantile"): (pytest.approx(6 / 8), 4),
        ("Splice-altering", "at or below the 50 % quantile"): (pytest.approx(3 / 6), 3),
        ("Splice-altering", "at or below the 90 % quantile"): (pytest.approx(4 / 6), 3),
    }
    assert quantile_coverage(spec(bootstrap=20), row, {"score": np.zeros(4)}) == {}
