"""A row on every card: what fits, what it costs, what is bought, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError, MissingResourceError
from meta_spliceai.experiments.plan import run_work
from meta_spliceai.experiments.plan.choose import RowPlan
from meta_spliceai.experiments.plan.gpu_prices import load_market
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.plan.run_work import (
    FOUND,
    NETWORK_BYTES,
    DataFacts,
    Parts,
    card,
    evaluating_seconds,
    facts_of,
    feature_count,
    features_seconds,
    found_seconds,
    held_bytes,
    parts_of,
    passing_bytes,
    processor,
    score_bytes,
    scoring_work,
    trees_seconds,
)
from meta_spliceai.experiments.spec.experiment import BaseSpec, ExperimentSpec, SplitSpec, parse_spec
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.meta_layer.settings import BoostingConfig


def changed(spec: ExperimentSpec, **fields: Any) -> ExperimentSpec:
    values = {**spec.model_dump(mode="json"), **fields}
    return parse_spec(values, "test")


def offers(plan: RowPlan) -> dict[str, Any]:
    return {offer.gpu: offer for offer in plan.offers}


def test_data_are_counted_once_and_found_again(planner: Planner, toy_row: ExperimentSpec) -> None:
    facts = facts_of(toy_row.data)
    assert facts.rows == 240
    assert facts.exact
    assert set(facts.by_chromosome) == {"1", "2"}
    assert sum(sum(counts.values()) for counts in facts.by_chromosome.values()) == 240
    assert facts_of(toy_row.data) == facts


def test_data_that_are_not_at_hand_count_as_declared_and_say_so(
    planner: Planner, toy_row: ExperimentSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_there(_: Any) -> Any:
        raise MissingResourceError("no such file; download it")

    monkeypatch.setattr(run_work, "load_rows_of", not_there)
    plan = planner.row(toy_row, gpu="Slow")
    assert plan.best is not None
    assert plan.notes == ("240 variants as declared, an upper bound; not at hand: no such file; download it",)


@pytest.mark.parametrize(
    ("split", "folds", "train"),
    [
        (SplitSpec(name="group", fractions=(0.5, 0.2, 0.3)), 1, 50),
        (SplitSpec(name="group", folds=5), 5, 60),
        (SplitSpec(name="chromosome", folds="chromosome"), 2, None),
        (SplitSpec(name="spliceai-clean", fractions=(0.6, 0.2, 0.2)), 1, 30),
    ],
)
def test_parts_follow_the_split(toy_row: ExperimentSpec, split: SplitSpec, folds: int, train: int | None) -> None:
    classes = {"Splice-altering": 20, "Normal": 20, "Low-frequency": 10}
    facts = DataFacts(100, {"1": classes, "2": classes}, 10, 500, 1.0, "made up", True)
    row = toy_row.model_copy(update={"split": split})
    parts = parts_of(row, facts)
    assert parts.rows == 100
    assert len(parts.folds) == folds
    if train is not None:
        assert parts.folds[0][0] == pytest.approx(train * 0.8 if split.name != "spliceai-clean" else 30, abs=1)


def test_incremental_scoring_is_less_work_and_neighbours_share() -> None:
    base = BaseSpec()
    alone, together = (scoring_work(base, *size).whole for size in ((100, 100, 0), (100, 1, 300)))
    full = scoring_work(base.model_copy(update={"method": "full"}), 100, 100, 0).whole
    assert together < 0.5 * alone < 0.5 * full
    one = base.model_copy(update={"members": (0,)})
    assert scoring_work(one, 100, 100, 0).whole == pytest.approx(alone / 5)


def test_scoring_in_bfloat16_counts_at_the_cards_own_rate_for_it() -> None:
    base = BaseSpec()
    half = base.model_copy(update={"precision": "bf16"})
    few, many = (scoring_work(half, rows, 1, 0) for rows in (1000, 2000))
    one = scoring_work(base, 2000, 1, 0).whole - scoring_work(base, 1000, 1, 0).whole
    assert many.half - few.half == pytest.approx(3 * one)
    assert many.whole == few.whole > 0  # references, and the sample that is scored both ways
    fast = card(load_market().find("H200"))
    whole = scoring_work(base, 100_000, 100_000, 0).seconds(fast)
    assert scoring_work(half, 100_000, 100_000, 0).seconds(fast) < whole
    here = processor(2, 8 * 10**9)
    assert scoring_work(half, 1000, 1, 0).seconds(here) > 2.5 * scoring_work(base, 1000, 1, 0).seconds(here)


def test_the_cheapest_card_that_fits_is_best(planner: Planner, toy_row: ExperimentSpec) -> None:
    plan = planner.row(toy_row)
    tiny, slow, fast = (offers(plan)[name] for name in ("Tiny", "Slow", "Fast"))
    assert plan.state == "planned"
    assert not tiny.fits
    assert slow.fits
    assert plan.best == slow
    assert slow.dollars == pytest.approx(slow.hours * 0.1)
    assert fast.hours < slow.hours
    assert (slow.memory_basis, slow.time_basis) == ("estimate", "estimate")
    assert "dry trace" in slow.why
    assert "assumed" in slow.why
    json.dumps(plan.to_json(), allow_nan=False)


def test_where_the_batch_is_too_large_a_smaller_one_is_taken(planner: Planner, toy_row: ExperimentSpec) -> None:
    wide = changed(
        toy_row,
        base={"name": "toy", "distance": 60},
        encoder={"name": "simple-cnn", "settings": {"hidden_dim": 64, "layers": 3}},
        training={"epochs": 3, "batch_size": 262144, "patience": 0},
    )
    at_own, smaller = offers(planner.row(toy_row))["Slow"], offers(planner.row(wide))["Slow"]
    assert (at_own.batch_size, at_own.accumulate) == (32, 1)
    assert smaller.fits
    assert smaller.batch_size * smaller.accumulate == 262144
    assert smaller.accumulate > 1


def test_one_card_can_be_asked_for(planner: Planner, toy_row: ExperimentSpec) -> None:
    assert [offer.gpu for offer in planner.row(toy_row, gpu="fast").offers] == ["Fast"]
    own = planner.row(toy_row, gpu="cpu").offers[0]
    assert own.gpu == "cpu"
    assert own.dollars == 0
    with pytest.raises(InputError, match="unknown GPU 'Fats' in --gpu; did you mean Fast"):
        planner.row(toy_row, gpu="Fats")


def test_a_missing_part_is_said(planner: Planner, toy_row: ExperimentSpec) -> None:
    plan = planner.row(changed(toy_row, encoder={"name": "gated-cmm"}))
    assert plan.state == "cannot run"
    assert "encoder 'gated-cmm'" in plan.notes[0]


def test_weights_that_are_not_here_are_said_and_the_row_is_planned_all_the_same(
    planner: Planner, toy_row: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(tmp_path))
    settings = {"hidden_dim": 8, "weights": str(tmp_path / "none")}
    row = changed(toy_row, encoder={"name": "hyenadna-tiny-1k", "settings": settings})
    plan = planner.row(row, gpu="Fast")
    assert plan.best is not None
    assert any(
        "none' is neither 'hub', 'packaged', 'scratch' nor a folder" in note and "pretrain" in note
        for note in plan.notes
    )
    hub = changed(toy_row, encoder={"name": "hyenadna-tiny-1k", "settings": {"hidden_dim": 8, "revision": "a branch"}})
    (said,) = planner.row(hub, gpu="Fast").notes
    assert said.startswith("the weights of hyenadna-tiny-1k are not on this machine; a run begins by downloading them")
    assert said.endswith("at a branch)")
    member = changed(toy_row, id="toy-two")
    planner.rows_by_id |= {"toy-hub": changed(hub, id="toy-hub"), "toy-two": member}
    both = changed(toy_row, id="toy-both", ensemble={"members": ["toy-two", "toy-hub"]})
    assert said in planner.row(both, gpu="Fast").notes
    scratch = changed(hub, encoder={"name": "hyenadna-tiny-1k", "settings": {"hidden_dim": 8, "weights": "scratch"}})
    assert planner.row(scratch, gpu="Fast").notes == ()


def test_base_scores_are_paid_for_once(planner: Planner, toy_row: ExperimentSpec) -> None:
    second = changed(toy_row, id="toy-two", title="Second")
    made = planner.rows([toy_row, second], gpu="Slow")
    first, later = made.rows
    assert first.offers[0].steps["base scores"] > 0
    assert later.offers[0].steps["base scores"] == 0
    assert later.offers[0].steps[FOUND] > 0
    assert FOUND not in first.offers[0].steps
    assert "found in the cache" in later.notes[0]
    assert made.in_order()[0] == "toy-row"


def test_baselines_are_paid_for_once_where_the_split_is_the_same(planner: Planner, toy_row: ExperimentSpec) -> None:
    second = changed(toy_row, id="toy-two", encoder={"name": "gated-cnn", "settings": {"layers": 3}})
    another = changed(second, id="toy-three", training={"epochs": 3, "seed": 5})
    first, same, other = planner.rows([toy_row, second, another], gpu="Slow").rows
    assert first.offers[0].steps["baselines"] > 0
    assert same.offers[0].steps["baselines"] == 0
    assert other.offers[0].steps["baselines"] > 0  # another seed, another split


def test_a_fusions_features_are_as_many_as_those_of_the_runs_kept_in_this_repository() -> None:
    kept = [run for run in Workspace(Path(__file__).parents[3] / "results").runs() if run.record().get("model")]
    fused = [(run.spec(), run.record()["model"]["features"]) for run in kept if "features" in run.record()["model"]]
    assert fused
    assert [feature_count(spec) for spec, _ in fused] == [len(features) for _, features in fused]


def test_networks_of_a_fusion_weigh_what_their_scores_do_because_features_are_made_one_network_at_a_time() -> None:
    rows = load_rows()
    one, four = rows["mfass-fusion"], rows["mfass-fusion-all-networks"]
    parts = Parts(1000, ((800, 0),), 200)
    more = held_bytes(four, parts) - held_bytes(one, parts)
    assert more == 3 * (score_bytes(one, parts) + 5 * NETWORK_BYTES)
    few, many = passing_bytes(one, parts), passing_bytes(four, parts)
    assert few["base scores"] == many["base scores"]
    columns = feature_count(four) - feature_count(one)
    assert many["features"] - few["features"] == 8 * 1000 * columns
    assert features_seconds(four, parts) == 4 * features_seconds(one, parts)


def test_a_short_runs_seconds_are_not_all_fixed() -> None:
    spec = load_rows()["observed-sites-fusion-clean"]
    few, many = (Parts(20 * tested, ((19 * tested, 0),), tested) for tested in (50, 5000))
    assert evaluating_seconds(spec, few) < 1.5 < 5 < evaluating_seconds(spec, many)
    assert found_seconds(spec, few) < 2 < 10 < found_seconds(spec, many)


def test_trees_take_longer_with_rows_features_folds_and_seeds() -> None:
    config = BoostingConfig.model_validate({})
    least = trees_seconds(1000, 50, config)
    assert trees_seconds(4000, 50, config) > least
    assert trees_seconds(1000, 200, config) > least
    for field, more in (("folds", 6), ("seeds", 4), ("most_trees", 300)):
        assert trees_seconds(1000, 50, config.model_copy(update={field: more})) > 1.3 * least


def test_an_ensemble_costs_nothing_for_members_planned_beside_it(planner: Planner, toy_row: ExperimentSpec) -> None:
    second = changed(toy_row, id="toy-two", title="Second", encoder={"name": "gated-cnn", "settings": {"layers": 3}})
    both = changed(toy_row, id="toy-both", title="Both", ensemble={"members": ["toy-row", "toy-two"]})
    planner.rows_by_id.update({"toy-two": second, "toy-both": both})
    alone = planner.row(both, gpu="Slow").best
    beside = planner.rows([toy_row, second, both], gpu="Slow")
    together = beside.chosen["toy-both"]
    assert alone is not None
    assert "member toy-two" in alone.steps
    assert together.hours < 0.7 * alone.hours
    assert beside.in_order()[-1] == "toy-both"


def rows_of_three(toy_row: ExperimentSpec) -> list[ExperimentSpec]:
    def wish(priority: str) -> dict[str, Any]:
        return {"what": "toys", "vram_gb": 1, "hours": [1, 2], "priority": priority}

    return [
        changed(toy_row, id=f"toy-{priority}", wish=wish(priority), training={"epochs": 3, "seed": seed})
        for seed, priority in enumerate(("low", "high", "medium"), start=1)
    ]


def test_a_budget_leaves_out_what_matters_least(planner: Planner, toy_row: ExperimentSpec) -> None:
    rows = rows_of_three(toy_row)
    whole = planner.rows(rows)
    assert whole.dollars is not None
    assert list(whole.chosen) == ["toy-low", "toy-high", "toy-medium"]
    least = min(offer.dollars for offer in whole.chosen.values() if offer.dollars is not None)
    made = planner.rows(rows, budget=whole.dollars - least / 2)
    assert set(made.chosen) == {"toy-high", "toy-medium"}
    assert "does not fit: $" in made.left_out["toy-low"]
    assert made.dollars is not None
    assert made.dollars <= whole.dollars - least / 2


def test_a_deadline_buys_faster_cards_and_then_leaves_out(planner: Planner, toy_row: ExperimentSpec) -> None:
    rows = rows_of_three(toy_row)
    slow, fast = planner.rows(rows, gpu="Slow"), planner.rows(rows, gpu="Fast")
    assert fast.hours < slow.hours
    between = planner.rows(rows, deadline=(slow.hours + fast.hours) / 2)
    assert len(between.chosen) == 3
    assert {offer.gpu for offer in between.chosen.values()} >= {"Fast"}
    assert between.hours <= (slow.hours + fast.hours) / 2
    tight = planner.rows(rows, deadline=fast.hours * 0.8)
    assert "toy-high" in tight.chosen
    assert "h left" in tight.left_out["toy-low"]


def test_a_price_of_less_than_a_cent_is_not_rounded_to_one_and_nothing_bought_costs_nothing(
    planner: Planner, toy_row: ExperimentSpec
) -> None:
    made = planner.rows([toy_row], gpu="Tiny")
    assert (made.chosen, made.dollars) == ({}, 0)
    wide = planner.market.gpus["Tiny"].model_copy(update={"vram_gb": 24.0})
    planner.market.gpus["Tiny"] = wide
    (said,) = planner.rows([toy_row], gpu="Tiny").prices
    assert said.startswith("Tiny $0.001/h (nobody, 2026-11-20")


@pytest.mark.parametrize(("limits", "said"), [({"budget": -1}, "--budget -1"), ({"deadline": 0}, "--deadline 0")])
def test_limits_are_above_zero(planner: Planner, toy_row: ExperimentSpec, limits: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"{said} is not allowed; give (dollars|hours) above 0"):
        planner.rows([toy_row], **limits)


def test_a_row_that_ran_out_of_memory_stays_and_says_so(planner: Planner, toy_row: ExperimentSpec) -> None:
    run = planner.workspace.run(f"{toy_row.id}-0123456789ab")
    run.write_yaml("spec.yaml", toy_row.model_dump(mode="json"))
    run.mark("failed", "out of memory on cuda at batch 32; fits at 16")
    plan = planner.row(toy_row)
    assert plan.state == "out of memory"
    assert any("out of memory on cuda at batch 32; fits at 16" in note for note in plan.notes)
    assert toy_row.id in {one.spec.id for one in planner.rows([toy_row]).rows}
