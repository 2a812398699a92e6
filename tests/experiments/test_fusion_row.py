"""Fusion as a row: out of fold, evaluated like every other, kept, and applied to new variants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meta_spliceai.cli.leaderboard import leaderboard
from meta_spliceai.datasets import load_dataset
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.board.leaderboard import boards
from meta_spliceai.experiments.board.shown import evidence_in_short
from meta_spliceai.experiments.predict.predict_new import NewVariants, RunModel, predict_all
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.parts import missing_parts, needed_parts
from meta_spliceai.experiments.spec.rows import as_smoke, change
from meta_spliceai.experiments.store.address import run_name
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.base_layer import families
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel, SpliceAINetwork, Stage
from meta_spliceai.splice_engine.meta_layer.fusion import Fusion
from meta_spliceai.splice_engine.variants.external_scores import ScoreFile
from tests.experiments.new_variants import read_variants

TREES = {"most_trees": 15, "learning_rate": 0.3, "leaves": 4, "fewest_in_leaf": 5, "folds": 2, "seeds": 1}


def tissue_network(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    """A random network that tells two tissues but not acceptors from donors, as Pangolin does."""
    torch.manual_seed(5)
    made = []
    for _ in range(2):
        network = SpliceAINetwork(Architecture((Stage(1, 5, 1),), channels=4, outputs=2))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2)
        made.append(network)
    return BaseModel("tissues", tuple(made), "none needed", "built in code", ("heart", "liver"))


def fusion_row(toy_values: dict[str, Any], **changed: Any) -> ExperimentSpec:
    """The toy row as a fusion of two networks."""
    values = {key: value for key, value in toy_values.items() if key not in ("encoder", "training")}
    values |= {
        "id": "toy-fusion",
        "evidence": "full",
        "negatives": ["Normal", "Low-frequency"],
        "split": {"name": "group", "folds": 3},
        "fusion": {"beside": ["tissues"], "settings": {"trees": TREES}},
    }
    return parse_spec({**values, **changed}, "test")


@pytest.fixture(scope="module", autouse=True)
def _second_network() -> Iterator[None]:
    families.FAMILIES["tissues"] = tissue_network
    yield
    del families.FAMILIES["tissues"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place with a cache of its own for all tests here."""
    place = tmp_path_factory.mktemp("fusion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("META_SPLICEAI_CACHE", str(place / "cache"))
        yield place


@pytest.fixture(scope="module")
def run(folder: Path, toy_values: dict[str, Any]) -> RunDirectory:
    """The cross-validated fusion, run once."""
    spec = fusion_row(toy_values)
    found = run_experiment(spec, Workspace(folder / "runs"), "cpu", rows={spec.id: spec}).run
    assert found is not None
    return found


def test_every_row_is_answered_by_the_fusion_that_did_not_see_it(run: RunDirectory) -> None:
    cards = run.record()["training"]["fusions"]
    assert [card["tested"] for card in cards] == run.read_split().groupby("fold").size().tolist()
    # Test rows are in no fold's training rows: what is learned from and what is tested make up the whole table.
    sides = {name: Fusion.load(run.path / "folds" / name / "model").card["classes"]["rows"] for name in "123"}
    assert [sides[str(place)] + card["tested"] for place, card in enumerate(cards, 1)] == [240] * 3
    frame = run.read_predictions()
    assert frame["toy-fusion.score"].between(0, 1).all()
    assert np.load(run.path / "all_predictions.npy").shape == (240, 2)


def test_every_network_has_its_baselines_and_stands_in_the_record(run: RunDirectory) -> None:
    evaluated = {scorer["name"]: scorer for scorer in run.metrics()["scorers"]}
    assert {"base max_window", "base own_site", "tissues max_window", "tissues own_site", "toy-fusion"} <= set(
        evaluated
    )
    assert "tissues (2 networks)" in evaluated["tissues own_site"]["note"]
    assert evaluated["toy-fusion"]["scale"] == "probability"
    frame = run.read_predictions()
    assert not np.allclose(frame["base own_site.score"], frame["tissues own_site.score"])
    data = run.data()
    assert [network["name"] for network in (data["base"], *data["beside"])] == ["toy", "tissues"]
    assert data["base"]["scored"] == 240
    assert {"toy weights", "tissues weights"} <= {licence["name"] for licence in run.record()["licences"]}


def test_negatives_are_part_of_the_question(run: RunDirectory, folder: Path, toy_values: dict[str, Any]) -> None:
    assert run.metrics()["settings"]["negatives"] == ["Normal", "Low-frequency"]
    assert run.data()["target"]["rule"].startswith("Splice-altering 1; Normal and Low-frequency 0")
    (board,) = boards(Workspace(folder / "runs"))
    assert board.negatives == ("Normal", "Low-frequency")
    assert board.split == "group, 3 folds"
    other = Workspace(folder / "narrow")
    spec = fusion_row(toy_values, negatives=["Normal"], split={"name": "group", "fractions": [0.5, 0.2, 0.3]})
    narrow = run_experiment(change(spec, ["fusion.beside=[]", "fusion.words=false"]), other, "cpu", rows={}).run
    assert narrow is not None
    assert (narrow.path / "model" / "fusion.json").is_file()
    assert boards(other)[0].test_digest != board.test_digest
    features = narrow.record()["model"]["features"]
    assert not any(name.startswith(("Δ", "tissues")) for name in features)
    tested = narrow.read_predictions()["part"] == "test"
    card = narrow.record()["training"]["fusions"][0]["classes"]
    classes = narrow.read_predictions()["classification"]
    assert card["rows"] == int((~tested & classes.isin(["Splice-altering", "Normal"])).sum())


def test_the_evidence_of_a_run_is_kept(run: RunDirectory) -> None:
    evidence = run.evidence()
    assert evidence["rows"] == 240
    exonic = [r for r in evidence["strata"] if r["stratum"] == "exonic" and r.get("scorer") == "toy-fusion"]
    assert {record["metric"] for record in exonic} == {"auprc", "auroc"}
    tiny = [record for record in evidence["strata"] if "scorer" not in record]
    assert all("not evaluated" in record["reason"] for record in tiny)
    held = {record["scorer"]: record["estimate"] for record in evidence["within_position"]}
    assert held["toy-fusion"] > held["base max_window"]
    gains = {(r["scorer"], r["metric"]): r for r in evidence["gain_over_position"]}
    one = gains["base own_site", "auprc"]
    assert one["estimate"] == pytest.approx(one["with_scorer"] - one["position"])
    mine = next(record for record in evidence["calibration"] if record["scorer"] == "toy-fusion")
    assert sum(bin_["n"] for bin_ in mine["curve"]) == mine["n"] == 240
    assert {record["metric"] for record in mine["summary"]} >= {"brier", "calibration_error"}
    assert "no replicates" in evidence["reasons"]["ceiling"]


def test_new_variants_are_scored_fused_and_described(run: RunDirectory, folder: Path, tmp_path: Path) -> None:
    toy = load_dataset("toy")
    rows = toy.variants.iloc[:12][["chrom", "pos", "ref", "alt", "strand", "acceptor_pos", "donor_pos"]]
    path = tmp_path / "new.tsv"
    rows.to_csv(path, sep="\t", index=False)
    alleles, variants = read_variants(path, None)
    predicted = predict_all(
        RunModel(run, Workspace(folder / "runs")), NewVariants(alleles, variants, toy.genome, device="cpu")
    )
    frame, kept = predicted.table, run.read_predictions().iloc[:12]
    np.testing.assert_allclose(frame["toy.delta_own_site"], kept["base own_site.signed"], atol=1e-6)
    np.testing.assert_allclose(frame["tissues.delta_max_window"], kept["tissues max_window.signed"], atol=1e-6)
    # The kind of effect goes with the sign of the network's strongest Δ, and is not named for a network without kinds.
    strongest = frame["toy.delta_max_window"]
    kinds = frame["toy.effect_type"].fillna("")
    assert (kinds == "").equals(strongest.abs() < 0.1)
    assert kinds[strongest >= 0.1].str.endswith("gain").all()
    assert kinds[strongest <= -0.1].str.endswith("loss").all()
    assert "tissues.effect_type" not in frame
    assert frame["p_altering"].between(0, 1).all()
    assert predicted.card["base_networks"][1]["name"] == "tissues"
    assert predicted.card["negatives"] == ["Normal", "Low-frequency"]
    rows.drop(columns=["acceptor_pos", "donor_pos"]).to_csv(path, sep="\t", index=False)
    alleles, variants = read_variants(path, None)
    with pytest.raises(InputError, match="give genes with --annotation, or columns acceptor_pos and donor_pos"):
        predict_all(RunModel(run, Workspace(folder / "runs")), NewVariants(alleles, variants, toy.genome, device="cpu"))


@dataclass(frozen=True)
class WithTool:
    """A fusion that learned from a tool's scores too; the tool has none for the first forty of the toy's variants."""

    run: RunDirectory
    workspace: Workspace
    file: Path


@pytest.fixture(scope="module")
def with_tool(folder: Path, toy_values: dict[str, Any]) -> WithTool:
    file, workspace = folder / "tool.csv", Workspace(folder / "with a tool")
    scored = load_dataset("toy").variants.iloc[40:].assign(score=lambda rows: -rows["effect"])
    scored[["chrom", "pos", "ref", "alt", "score"]].to_csv(file, index=False)
    run = run_experiment(change(fusion_row(toy_values), [f'fusion.scores=["tool={file}"]']), workspace, "cpu", rows={})
    assert run.run is not None
    return WithTool(run.run, workspace, file)


def new_variants(path: Path, start: int, end: int) -> NewVariants:
    """Some of the toy's variants, as a table at the path."""
    toy = load_dataset("toy")
    rows = toy.variants.iloc[start:end][["chrom", "pos", "ref", "alt", "strand", "acceptor_pos", "donor_pos"]]
    rows.to_csv(path, index=False)
    return NewVariants(*read_variants(path, None), toy.genome, device="cpu")


@pytest.mark.slow
def test_another_tools_score_is_learned_from_and_its_gaps_are_said(
    run: RunDirectory, with_tool: WithTool, tmp_path: Path
) -> None:
    mine, workspace = with_tool.run, with_tool.workspace
    assert any("tool (tool.csv) scores 200 of 240 variants" in note for note in mine.record()["notes"])
    losses = [[fold["classes"]["log_loss"] for fold in one.record()["training"]["fusions"]] for one in (run, mine)]
    assert (np.array(losses[1]) < losses[0]).all()
    predicted = predict_all(RunModel(mine, workspace, "cpu"), new_variants(tmp_path / "new.csv", 35, 50))
    assert predicted.table["tool.score"].isna().tolist() == [True] * 5 + [False] * 10
    assert predicted.scored == {"tool": 10}
    assert predicted.table["p_altering"].between(0, 1).all()


def test_new_variants_may_have_a_tools_scores_in_a_file_of_their_own(with_tool: WithTool, tmp_path: Path) -> None:
    new = new_variants(tmp_path / "new.csv", 0, 10)
    with pytest.raises(InputError, match=r"scores of tool, whose file has none for any of 10 alleles.*--scores tool="):
        predict_all(RunModel(with_tool.run, with_tool.workspace, "cpu"), new)
    load_dataset("toy").variants[:10].assign(s=0.5)[["chrom", "pos", "ref", "alt", "s"]].to_csv(
        tmp_path / "own.tsv", sep="\t", index=False
    )
    own = ScoreFile.parse(f"tool={tmp_path / 'own.tsv'}")
    model = RunModel(with_tool.run, with_tool.workspace, "cpu", [own])
    assert (predict_all(model, new).table["tool.score"] == 0.5).all()
    assert model.card["scores"]["tool"]["file"] == "own.tsv"
    with pytest.raises(InputError, match=r"--scores cadd: run .* reads those of tool"):
        RunModel(with_tool.run, with_tool.workspace, "cpu", [ScoreFile("cadd", own.path)])


def test_a_changed_or_absent_file_of_scores_is_noticed(
    with_tool: WithTool, toy_values: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "copy.csv"
    path.write_text(with_tool.file.read_text())
    spec = change(fusion_row(toy_values), [f'fusion.scores=["tool={path}"]'])
    name = run_name(spec, "data", "code")
    path.write_text(path.read_text().replace("chr1", "1"))
    assert run_name(spec, "data", "code") != name
    path.unlink()
    with pytest.raises(InputError, match="scores tool: no file at"):
        ScoreFile.parse(f"tool={path}")


def test_a_site_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("chrom,pos,ref,alt,acceptor_pos\nchr1,5,A,C,\nchr1,5,A,C,six\n")
    with pytest.raises(InputError, match="line 3: acceptor_pos 'six' is no position"):
        read_variants(path, None)


def test_the_leaderboard_is_written_as_markdown_and_json(
    run: RunDirectory, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"runs_dir": folder / "empty", "ledgers": [folder / "runs"]}
    nothing = {"data": None, "split": None, "as_json": False, "as_markdown_": False}
    leaderboard(**{**nothing, "as_markdown_": True, "split": "group"}, **place)
    text = capsys.readouterr().out
    assert "## toy, group, 3 folds" in text
    assert "| **toy-fusion** | learned |" in text
    assert "against Normal and Low-frequency" in text
    leaderboard(**{**nothing, "as_json": True, "data": "toy"}, **place)
    (board,) = json.loads(capsys.readouterr().out)
    assert board["lines"][-1]["rows"] == 240
    with pytest.raises(InputError, match="unknown split 'gene'"):
        leaderboard(**{**nothing, "split": "gene"}, **place)
    with pytest.raises(InputError, match="one of --json and --markdown"):
        leaderboard(**{**nothing, "as_json": True, "as_markdown_": True}, **place)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fusion": {"beside": ["toy"]}}, "base network 'toy' is given twice"),
        ({"fusion": {"scores": ["a=x.tsv", "a=y.tsv"]}}, "no name is given twice"),
        ({"fusion": {"besides": []}}, r"field 'fusion\.besides': no such field; fields here: beside, words"),
        ({"fusion": {"settings": {"trees": {"folds": 1}}}}, r"'fusion\.settings\.trees\.folds' = 1"),
        ({"fusion": {}, "ensemble": {"members": ["a", "b"]}}, "a fusion or an ensemble, not both"),
        ({"negatives": ["Conflicting"]}, "'Normal' or 'Low-frequency'"),
        ({"negatives": []}, "negatives"),
    ],
)
def test_a_bad_fusion_is_named(toy_values: dict[str, Any], changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fusion_row(toy_values, **changed)


def test_a_fusion_needs_its_networks_and_no_encoder(toy_values: dict[str, Any]) -> None:
    spec = fusion_row(toy_values)
    needed = list(needed_parts(spec, {}))
    assert ("base network", "tissues") in needed
    assert ("procedure", "fusion") in needed
    assert not any(kind in ("encoder", "head", "target") for kind, _ in needed)
    offered = dict.fromkeys(("data set", "base network", "procedure", "split with folds"), ())
    assert "base network 'tissues'" in missing_parts(spec, {}, offered)
    small = as_smoke(spec)
    assert small.fusion is not None
    assert small.networks[1].members == (0,)
    assert small.fusion.settings.trees.most_trees <= 10


def test_a_run_says_in_short_what_its_numbers_rest_on(run: RunDirectory) -> None:
    lines = evidence_in_short(run)
    assert lines[:2] == [
        "base network: toy (1 networks), Δ within 60 bases; beside it tissues",
        "leaks: none, all 3 folds audited",
    ]
    assert any(line.startswith("beyond position: toy-fusion adds ") for line in lines)
    assert any(line.startswith("stated probabilities: calibration error ") for line in lines)


def test_baselines_are_kept_for_a_test(folder: Path, run: RunDirectory) -> None:
    assert len(list((folder / "cache" / "baselines").iterdir())) >= 2  # position alone and k-mers + position of `run`
