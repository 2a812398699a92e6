"""Rows that read a base network's hidden channels: run, found again, planned, and applied to new variants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meta_spliceai.datasets import load_dataset
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.bundle.make import _stretches
from meta_spliceai.experiments.plan.demand import Batch, ToCompute, demand_of
from meta_spliceai.experiments.plan.run_work import Parts, feature_count, processor
from meta_spliceai.experiments.predict.predict_new import NewVariants, RunModel, predict_all
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.parts import missing_parts
from meta_spliceai.experiments.spec.rows import as_smoke, change
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.meta_layer.models import ENCODERS
from meta_spliceai.splice_engine.meta_layer.models.composition import base_trunk
from meta_spliceai.splice_engine.meta_layer.settings import TRUNK_STEP
from tests.experiments.new_variants import read_variants
from tests.experiments.silent import Silent

SETTINGS = {"members": 1, "hidden_dim": 8, "read_radius": 4, "site_reach": 70}
TREES = {"most_trees": 15, "learning_rate": 0.3, "leaves": 4, "fewest_in_leaf": 5, "folds": 2, "seeds": 1}
COLUMNS = ["chrom", "pos", "ref", "alt", "strand", "acceptor_pos", "donor_pos"]


@pytest.fixture(scope="module", autouse=True)
def _toy_trunk() -> Iterator[None]:
    ENCODERS["toy-trunk"] = partial(base_trunk, family="toy", width=4)
    yield
    del ENCODERS["toy-trunk"]


def trunk_row(toy_values: dict[str, Any], **changed: Any) -> ExperimentSpec:
    values = {"id": "toy-trunk-row", "encoder": {"name": "toy-trunk", "settings": SETTINGS}, "target": "altering"}
    return parse_spec({**toy_values, **values, "head": {"name": "binary"}, **changed}, "test")


def fusion_row(toy_values: dict[str, Any]) -> ExperimentSpec:
    values = {key: value for key, value in toy_values.items() if key not in ("encoder", "training")}
    fusion = {"trunk": True, "words": False, "settings": {"trees": TREES}}
    return parse_spec({**values, "id": "toy-fusion", "split": {"name": "group", "folds": 3}, "fusion": fusion}, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place with a cache of its own for all tests here."""
    place = tmp_path_factory.mktemp("trunk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("META_SPLICEAI_CACHE", str(place / "cache"))
        yield place


def run_row(spec: ExperimentSpec, folder: Path) -> tuple[RunDirectory, Silent]:
    callback = Silent()
    found = run_experiment(spec, Workspace(folder / "runs"), "cpu", rows={spec.id: spec}, callback=callback).run
    assert found is not None
    return found, callback


@pytest.fixture(scope="module")
def first(folder: Path, toy_values: dict[str, Any]) -> tuple[RunDirectory, Silent]:
    return run_row(trunk_row(toy_values), folder)


@pytest.fixture(scope="module")
def second(first: tuple[RunDirectory, Silent], folder: Path, toy_values: dict[str, Any]) -> tuple[RunDirectory, Silent]:
    """Another head on the same features."""
    other = trunk_row(toy_values, id="other-head", head={"name": "delta"}, target="validated-delta")
    return run_row(other, folder)


def test_a_row_says_what_it_read_and_the_next_one_finds_it(
    first: tuple[RunDirectory, Silent], second: tuple[RunDirectory, Silent]
) -> None:
    run, callback = first
    record, trunk = run.record(), run.data()["trunk"]
    assert record["seconds_by_step"][TRUNK_STEP] > 0
    assert any("features of 240 of 240 variants computed" in line for line in callback.lines)
    assert (trunk["name"], trunk["networks"], trunk["read_radius"], trunk["site_reach"]) == ("toy", 1, 4, 70)
    assert trunk["acceptors_read"] == trunk["donors_read"] == 240
    assert record["weights_origin"] == "toy, the first 1 networks, frozen"
    assert [licence["name"] for licence in record["licences"]].count("toy weights") == 1
    again, callback = second
    assert any("features of all 240 variants were in the cache" in line for line in callback.lines)
    assert TRUNK_STEP not in again.record()["seconds_by_step"]


def test_new_variants_are_predicted_as_in_the_run(
    first: tuple[RunDirectory, Silent], folder: Path, tmp_path: Path
) -> None:
    run, _ = first
    toy = load_dataset("toy")
    path = tmp_path / "new.tsv"
    toy.variants.iloc[40:70][COLUMNS].to_csv(path, sep="\t", index=False)
    predicted = predict_all(
        RunModel(run, Workspace(folder / "runs")), NewVariants(*read_variants(path, None), toy.genome, device="cpu")
    )
    kept = run.read_predictions().iloc[40:70]
    np.testing.assert_allclose(predicted.table["score"], kept["toy-trunk-row.score"], atol=1e-5)
    toy.variants.iloc[40:70][COLUMNS[:-2]].to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match="give genes with --annotation, or columns acceptor_pos and donor_pos"):
        predict_all(
            RunModel(run, Workspace(folder / "runs")), NewVariants(*read_variants(path, None), toy.genome, device="cpu")
        )


@pytest.mark.slow
def test_a_fusion_sees_the_trunk_at_both_sites_and_the_variant(
    folder: Path, toy_values: dict[str, Any], tmp_path: Path
) -> None:
    spec = fusion_row(toy_values)
    run, _ = run_row(spec, folder)
    features = run.record()["model"]["features"]
    assert sum(" trunk " in name for name in features) == 3 * 2 * 4
    assert feature_count(spec) == len(features)
    without = change(spec, ["fusion.trunk=false"])
    assert without.trunk is None
    plain, _ = run_row(without, folder)
    assert plain.record()["model"]["features"] == [name for name in features if " trunk " not in name]
    toy = load_dataset("toy")
    path = tmp_path / "new.tsv"
    toy.variants.iloc[:12][COLUMNS].to_csv(path, sep="\t", index=False)
    predicted = predict_all(
        RunModel(run, Workspace(folder / "runs")), NewVariants(*read_variants(path, None), toy.genome, device="cpu")
    )
    assert predicted.table["p_altering"].between(0, 1).all()


def test_a_plan_counts_the_networks_work_and_bundles_carry_it(toy_values: dict[str, Any], folder: Path) -> None:
    spec = trunk_row(toy_values)
    parts = Parts(rows=240, folds=((120, 50),), tested=70, neighbourhoods=10)

    def steps(row: ExperimentSpec, computed: float) -> dict[str, float]:
        work = ToCompute(features=computed)
        return demand_of(row, parts, processor(1, 8 * 10**9), Batch.of(row), work, 1.0).steps

    assert steps(spec, 1.0)[TRUNK_STEP] > steps(spec, 1.0)["base scores"] > 0  # farther positions, so somewhat more
    assert TRUNK_STEP not in steps(spec, 0.0)
    assert TRUNK_STEP not in steps(parse_spec(toy_values, "test"), 1.0)
    assert steps(fusion_row(toy_values), 1.0)[TRUNK_STEP] > 0
    assert not missing_parts(spec, {})
    assert as_smoke(spec).encoder.settings["members"] == 1
    loaded = load_dataset("toy")
    far = trunk_row(toy_values, encoder={"name": "toy-trunk", "settings": {**SETTINGS, "site_reach": 500}})
    long = replace(loaded, genome=type(loaded.genome)({"chr1": "A" * 60_000, "chr2": "A" * 60_000}, "toy", "toy"))
    for row in _stretches([far], long, loaded.variants.iloc[:1], 12):
        assert row[2] - row[1] >= 2 * (500 + 12) + 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"members": "all"}, "members = 'all' is not a number"), ({"site_reach": 0}, "site_reach = 0")],
)
def test_a_bad_setting_is_named_with_its_row(toy_values: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    spec = trunk_row(toy_values, encoder={"name": "toy-trunk", "settings": settings})
    with pytest.raises(InputError, match=f"row 'toy-trunk-row'.*{words}"):
        _ = spec.trunk
