"""What a bundle is for: rows run from it as from their sources, with the same address, where there are no sources."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.datasets import load_dataset, registry
from meta_spliceai.datasets.registry import Loaded
from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.experiments.bundle import make
from meta_spliceai.experiments.bundle.archive import open_bundle, read_index, read_opened, use_bundle
from meta_spliceai.experiments.bundle.make import Options, make_bundle, with_members
from meta_spliceai.experiments.run import prepare
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.base_layer.compiled_network import CompiledNetwork
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture, SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.scores import ScoreCache
from tests.experiments.silent import Silent

Rows = dict[str, ExperimentSpec]


def test_what_is_packed_beyond_a_network_s_sight_holds_every_reference() -> None:
    network = SpliceAINetwork(Architecture(SPLICEAI_STAGES))
    scoring = CompiledNetwork(network)
    for start in range(0, 9_000, 7):
        for end in (start + 1, start + 101, start + 2_001):
            first, last = scoring.bases(start, end)
            assert start - network.flank - make.SLACK <= first
            assert last <= end + network.flank + make.SLACK


@pytest.fixture
def no_sources(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> None:
    """The toy's loader fails, as it does where the source files are not."""
    dataset = registry.get("toy")

    def nowhere() -> Loaded:
        raise AssertionError("the sources were asked for")

    monkeypatch.setitem(registry._DATASETS, "toy", dataclasses.replace(dataset, loader=nowhere))
    monkeypatch.setenv("META_SPLICEAI_MIRROR", "")
    prepare._load.cache_clear()


def test_a_run_from_a_bundle_is_the_run_from_the_sources(
    bundle: Path, toy_runs: Workspace, cold_workspace: Workspace, no_sources: None
) -> None:
    (here,) = toy_runs.runs()
    opened = use_bundle(bundle)
    assert list(opened.rows) == ["toy-row", "toy-wide", "toy-pair"]
    there = run_experiment(opened.rows["toy-row"], cold_workspace, "cpu", rows=opened.rows).run
    assert there is not None
    assert there.data()["base"]["scored"] == 240  # of the bundle's sequence
    assert there.name == here.name
    assert there.metrics() == here.metrics()
    assert there.data()["coverage"] == here.data()["coverage"]
    again = run_experiment(opened.rows["toy-row"], toy_runs, "cpu", rows=opened.rows)
    assert again.reused


@pytest.mark.slow
def test_an_ensemble_s_members_come_along(rows: Rows, bundle: Path, workspace: Workspace, no_sources: None) -> None:
    opened = use_bundle(bundle)
    outcome = run_experiment(opened.rows["toy-pair"], workspace, "cpu", rows=opened.rows)
    assert outcome.run is not None
    assert outcome.run.state() == "finished"
    assert {run.row_id for run in workspace.runs()} == {"toy-row", "toy-wide", "toy-pair"}


def test_only_the_stretches_that_rows_need_travel(bundle: Path, workspace: Workspace, no_sources: None) -> None:
    whole = registry._DATASETS["toy"]
    opened = use_bundle(bundle)
    loaded = load_dataset("toy")
    assert loaded.dataset is whole
    assert loaded.origin.startswith("bundle ")
    assert 0 < opened.index["data"][0]["bases"] < 8_000
    with pytest.raises(InputError, match="does not hold chr1:1-4000"):
        loaded.genome.fetch("chr1", 0, 4000)


def test_scores_in_the_cache_travel_and_are_not_computed_again(
    rows: Rows, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_experiment(rows["toy-row"], workspace, "cpu", rows=rows).run
    made = make_bundle([rows["toy-row"]], rows, tmp_path / "with.zip", Silent())
    assert [(network["scores"], network["of"]) for network in made["networks"]] == [(240, 240)]
    none = make_bundle([rows["toy-row"]], rows, tmp_path / "without.zip", Silent(), Options(scores=False))
    assert [(network["scores"], network["of"]) for network in none["networks"]] == [(0, 240)]
    assert none["bytes"] < made["bytes"]
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "other cache"))
    opened = use_bundle(tmp_path / "with.zip")
    callback = Silent()
    again = run_experiment(
        opened.rows["toy-row"], Workspace(tmp_path / "there"), "cpu", rows=rows, callback=callback
    ).run
    assert any("240 base scores were in the cache" in line for line in callback.lines)
    assert not list((tmp_path / "other cache" / "scores").glob("*"))
    assert first is not None
    assert again is not None
    assert (np.load(first.path / "all_predictions.npy") == np.load(again.path / "all_predictions.npy")).all()


def test_rounded_scores_travel_and_the_result_says_so(
    rows: Rows, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_experiment(rows["toy-row"], workspace, "cpu", rows=rows).run
    made = make_bundle([rows["toy-row"]], rows, tmp_path / "rounded.zip", Silent(), Options(digits=4))
    assert [(network["scores"], network["digits"]) for network in made["networks"]] == [(240, 4)]
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "other cache"))
    opened = use_bundle(tmp_path / "rounded.zip")
    again = run_experiment(opened.rows["toy-row"], Workspace(tmp_path / "there"), "cpu", rows=rows).run
    assert first is not None
    assert again is not None
    words = "base scores of toy came from a bundle, rounded to 4 decimals: a Δ differs from the exact one by at most"
    for notes in (again.data()["notes"], again.record()["notes"]):
        assert any(note.startswith(words) for note in notes)
    assert again.data()["base"]["rounded_to_decimals"] == 4
    assert first.data()["base"]["rounded_to_decimals"] is None
    assert not any("rounded" in note for note in first.record()["notes"])
    # A bundle that is made of an opened one does not pass rounded scores on as exact ones.
    second = make_bundle([rows["toy-row"]], rows, tmp_path / "second.zip", Silent())
    assert [network["scores"] for network in second["networks"]] == [0]
    with pytest.raises(InputError, match="--score-digits 2: base scores are rounded to 3 to 7 decimals"):
        make_bundle([rows["toy-row"]], rows, tmp_path / "b.zip", Silent(), Options(digits=2))


def test_a_row_that_draws_fewer_takes_fewer_bases(rows: Rows, tmp_path: Path) -> None:
    few = rows["toy-row"].model_copy(update={"data": rows["toy-row"].data.model_copy(update={"rows": 20})})
    all_of_them = make_bundle([rows["toy-row"]], rows, tmp_path / "all.zip", Silent())
    # A smoke run of the row draws 96 rows of its own: they are there too.
    some = make_bundle([few], {few.id: few}, tmp_path / "some.zip", Silent())
    assert some["data"][0]["variants"] < all_of_them["data"][0]["variants"] == 240
    assert some["data"][0]["bases"] < all_of_them["data"][0]["bases"]


def test_too_large_is_refused_with_what_is_large(rows: Rows, tmp_path: Path) -> None:
    words = r"MB, 0\.0 MB are allowed: variants, genes and sequence .* largest files: bundle/data/0-toy/.*--max-size"
    with pytest.raises(InputError, match=words):
        make_bundle([rows["toy-row"]], rows, tmp_path / "b.zip", Silent(), Options(most_bytes=1_000))
    assert not (tmp_path / "b.zip").exists()
    with pytest.raises(InputError, match="no row was given"):
        make_bundle([], rows, tmp_path / "b.zip", Silent())


def test_rows_that_cannot_be_packed_are_left_out_where_that_is_asked_for(rows: Rows, tmp_path: Path) -> None:
    bad = rows["toy-wide"].model_copy(
        update={"data": rows["toy-wide"].data.model_copy(update={"options": {"path": "nowhere"}})}
    )
    catalogue = {**rows, bad.id: bad}
    with pytest.raises(InputError, match="takes no options"):
        make_bundle([catalogue["toy-pair"]], catalogue, tmp_path / "b.zip", Silent())
    made = make_bundle([catalogue["toy-pair"]], catalogue, tmp_path / "b.zip", Silent(), Options(leave_out=True))
    assert made["rows"] == ["toy-row"]
    assert [line.split(":")[0] for line in made["missing"]] == ["row toy-wide", "row toy-pair"]
    assert "its member toy-wide is not in the bundle" in made["missing"][1]
    with pytest.raises(InputError, match="no row can be packed: data set toy takes no options"):
        make_bundle([bad], {bad.id: bad}, tmp_path / "c.zip", Silent(), Options(leave_out=True))


def test_a_network_of_the_user_s_own_is_refused(rows: Rows, tmp_path: Path) -> None:
    own = rows["toy-row"].model_copy(
        update={"base": rows["toy-row"].base.model_copy(update={"name": "spliceai:/some/where"})}
    )
    with pytest.raises(InputError, match="a file of your own"):
        make_bundle([own], rows, tmp_path / "b.zip", Silent())


def test_the_index_says_what_is_in_it_and_what_the_machine_needs(bundle: Path) -> None:
    index = read_index(bundle)
    assert index["rows"] == ["toy-row", "toy-wide", "toy-pair"]
    assert [data["licence"] for data in index["data"]] == ["none needed"]
    assert {wheel.split("==")[0] for wheel in index["wheels"]["needed"]} >= {"pydantic", "jaxtyping"}
    assert "seqleak" in index["wheels"]["better_with"]
    assert {name.rsplit("/", 1)[-1] for name in index["members"]} == {
        "rows.json",
        "data-set.json",
        "variants.parquet",
        "genome.npz",
    }


def test_a_bundle_is_opened_once_and_never_over_something_else(bundle: Path, tmp_path: Path) -> None:
    first = open_bundle(bundle, tmp_path / "mirror")
    stamp = (first.folder / "bundle" / "index.json").stat().st_mtime_ns
    second = open_bundle(bundle, tmp_path / "mirror")
    assert (second.folder / "bundle" / "index.json").stat().st_mtime_ns == stamp
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("long")
    with pytest.raises(InputError, match="holds something else"):
        open_bundle(bundle, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "long"
    with pytest.raises(InputError, match="is no opened bundle"):
        read_opened(tmp_path / "mine")


def test_a_damaged_bundle_leaves_nothing_behind(bundle: Path, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    bundle.write_bytes(content[: len(content) // 2])
    with pytest.raises(IntegrityError):
        open_bundle(bundle, tmp_path / "new" / "mirror")
    assert not list((tmp_path / "new").glob("**/*")) if (tmp_path / "new").exists() else True


@pytest.mark.parametrize("name", ["data-set.json", "variants.parquet", "genome.npz"])
def test_what_is_changed_after_opening_is_noticed(bundle: Path, no_sources: None, name: str) -> None:
    opened = use_bundle(bundle)
    (file,) = opened.folder.glob(f"bundle/data/*/{name}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match="is not the file it should be"):
        load_dataset("toy")


@pytest.mark.parametrize("index_too", [False, True], ids=["bases", "bases and index"])
def test_flipped_bases_do_not_load_under_the_digest_of_the_real_genome(
    bundle: Path, tmp_path: Path, no_sources: None, index_too: bool
) -> None:
    with zipfile.ZipFile(bundle) as pack:
        members = {name: pack.read(name) for name in pack.namelist()}
    (name,) = (name for name in members if name.endswith("genome.npz"))
    with np.load(io.BytesIO(members[name])) as arrays:
        half = {key: arrays[key].copy() for key in arrays}
    half["bases"][: len(half["bases"]) // 2] ^= 0b01010101
    flipped = io.BytesIO()
    np.savez(flipped, **half)
    members[name] = flipped.getvalue()
    if index_too:
        index = json.loads(members["bundle/index.json"])
        index["members"][name] = {"bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}
        members["bundle/index.json"] = json.dumps(index).encode()
    with zipfile.ZipFile(tmp_path / "flipped.zip", "w") as pack:
        for member, content in members.items():
            pack.writestr(member, content)

    def use() -> None:
        use_bundle(tmp_path / "flipped.zip")
        load_dataset("toy")

    with pytest.raises(IntegrityError, match="its genome has" if index_too else "does not have the digest"):
        use()


def test_an_opened_bundle_comes_before_other_mirrors(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("META_SPLICEAI_MIRROR", "/some/mirror")
    opened = use_bundle(bundle)
    assert os.environ["META_SPLICEAI_MIRROR"] == f"{opened.folder}{os.pathsep}/some/mirror"
    assert ScoreCache.default().beside[0] == opened.folder / "bundle" / "scores"


def test_members_stand_before_their_ensemble_once(rows: Rows) -> None:
    found = with_members([rows["toy-pair"], rows["toy-wide"]], rows)
    assert [spec.id for spec in found] == ["toy-row", "toy-wide", "toy-pair"]


def test_a_row_whose_encoder_has_no_weights_here_is_left_out_unless_it_is_named(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "folder_at_hand", lambda name: None)
    encoder = {"name": "hyenadna-small-32k"}
    far = ExperimentSpec.model_validate(
        {**rows["toy-wide"].model_dump(mode="json"), "encoder": {**encoder, "settings": {"weights": "encoders/mine"}}}
    )
    hub = ExperimentSpec.model_validate(
        {**rows["toy-row"].model_dump(mode="json"), "id": "toy-hub", "encoder": encoder}
    )
    catalogue = {**rows, far.id: far, hub.id: hub}
    made = make_bundle(list(catalogue.values()), catalogue, tmp_path / "all.zip", Silent(), Options(leave_out=True))
    assert made["rows"] == ["toy-row"]
    assert sorted(made["missing"]) == [
        "row toy-hub: no weights of hyenadna-small-32k (not in the hub's cache here)",
        "row toy-pair: its member toy-wide is not in the bundle",
        "row toy-wide: no weights of hyenadna-small-32k (the folder encoders/mine is not packed)",
    ]
    named = make_bundle([hub], catalogue, tmp_path / "one.zip", Silent())
    assert named["rows"] == ["toy-hub"]
    assert named["missing"] == ["weights of hyenadna-small-32k (not in the hub's cache here): needed by toy-hub"]
    with pytest.raises(InputError, match="no row can be packed: no weights of hyenadna-small-32k"):
        make_bundle([hub], catalogue, tmp_path / "none.zip", Silent(), Options(leave_out=True))
