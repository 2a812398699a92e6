"""A row becomes a run directory; a finished one is found again; an unfinished one is never lost."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from meta_spliceai.errors import MissingResourceError, RunError
from meta_spliceai.experiments.board.leaderboard import boards
from meta_spliceai.experiments.execute import queue
from meta_spliceai.experiments.execute.queue import Request, carry_out
from meta_spliceai.experiments.run import runner
from meta_spliceai.experiments.run.prepare import load_rows_of, rows_and_splits
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import as_smoke, at_scale, change, member_of
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.experiments.wishlist.document import state_of_rows
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Evaluation
from meta_spliceai.splice_engine.meta_layer.models import Predictor
from meta_spliceai.splice_engine.variants.splits import read_split
from tests.conftest import RunCli
from tests.experiments.silent import Silent

Rows = dict[str, ExperimentSpec]


def metrics_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "metrics.json").read_text(encoding="utf-8"))


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int, error: BaseException) -> None:
    """Training ends with `error` after some epochs, checkpoints written."""
    from meta_spliceai.splice_engine.meta_layer import training

    done = 0
    original = training.write_checkpoint

    def counting(path: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
        nonlocal done
        original(path, identity, state)
        done += 1
        if done == epochs:
            raise error

    monkeypatch.setattr(training, "write_checkpoint", counting)


def test_a_run_directory_has_everything(toy_row: ExperimentSpec, toy_runs: Workspace) -> None:
    (run,) = toy_runs.runs()
    assert run.name.startswith("toy-row-")
    assert run.state() == "finished"
    names = {path.name for path in run.path.iterdir()} - {"lock"}
    assert names == {
        "spec.yaml",
        "environment.json",
        "data.json",
        "split.parquet",
        "curves.parquet",
        "predictions.parquet",
        "all_predictions.npy",
        "evidence.json",
        "metrics.json",
        "model",
        "run.json",
    }
    assert run.spec() == toy_row
    record = run.record()
    assert record["peak_memory_bytes"] > 50e6
    assert record["seconds"] == pytest.approx(sum(record["seconds_by_step"].values()), abs=0.01)
    assert record["weights_origin"] == "scratch"
    assert run.environment()["packages"]["torch"]
    data = run.data()
    assert data["coverage"]["read"] == 240
    assert data["split"]["parts"]["test"]["altering"] > 0

    predictions = run.read_predictions()
    assert len(predictions) == 240
    split = run.read_split()
    assert (split["part"] == predictions["part"]).all()
    assert predictions["group"][predictions["part"] == "test"].nunique() > 2
    shared = set(predictions["group"][predictions["part"] == "test"]) & set(
        predictions["group"][predictions["part"] == "train"]
    )
    assert shared == set()
    evaluated = Evaluation.from_json(run.metrics())
    assert [scorer.name for scorer in evaluated.scorers][-1] == "toy-row"
    assert {"baseline", "base", "learned"} == {scorer.kind for scorer in evaluated.scorers}
    test_rows = int((predictions["part"] == "test").sum())
    assert evaluated.value("toy-row", "spearman_effect")["n"] == test_rows


def test_saved_weights_give_the_saved_predictions(toy_runs: Workspace) -> None:
    from meta_spliceai.datasets import load_dataset
    from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import signed_scores, strongest
    from meta_spliceai.splice_engine.meta_layer.prediction import predict
    from meta_spliceai.splice_engine.variants.table import build_windows

    (run,) = toy_runs.runs()
    predictor = Predictor.from_pretrained(run.path / "model")
    toy = load_dataset("toy")
    again = signed_scores(strongest(predict(predictor, build_windows(toy.variants, toy.genome, 41), "cpu")))
    np.testing.assert_allclose(run.read_predictions()["toy-row.signed"], again.signed, atol=1e-6)
    card = (run.path / "model" / "README.md").read_text()
    trained = run.record()["training"]["train_rows"]
    assert f"Run `{run.name}`, row `toy-row`" in card
    assert f"{trained:,} variants to train on" in card


def test_the_ledger_line_carries_the_result(toy_runs: Workspace) -> None:
    (run,) = toy_runs.runs()
    (entry,) = toy_runs.ledger.finished()
    assert entry["run"] == run.name
    assert entry["as_wished"] is True
    evaluated = Evaluation.from_json(run.metrics())
    found = {(m["scorer"], m["metric"]): m["estimate"] for m in entry["metrics"]}
    assert found["toy-row", "auprc"] == evaluated.value("toy-row", "auprc")["estimate"]
    assert entry["test"]["rows"] == int((run.read_predictions()["part"] == "test").sum())
    assert len(entry["verdicts"]) == 4


def test_a_finished_row_is_found_again_and_not_repeated(
    toy_row: ExperimentSpec, toy_runs: Workspace, catalogue: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "prepare", lambda *_: pytest.fail("computed again"))
    callback = Silent()
    again = run_experiment(toy_row, toy_runs, "cpu", rows=catalogue, callback=callback)
    assert again.reused
    assert [again.run] == toy_runs.runs()
    assert any("finished already" in line for line in callback.lines)
    assert len(toy_runs.ledger.entries()) == 1


def test_seed_field_and_code_make_another_run(
    toy_row: ExperimentSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meta_spliceai.experiments.store.address import run_name

    names = {
        run_name(toy_row, "data", "code"),
        run_name(change(toy_row, ["training.seed=1"]), "data", "code"),
        run_name(change(toy_row, ["window=43"]), "data", "code"),
        run_name(toy_row, "other data", "code"),
        run_name(toy_row, "data", "other code"),
    }
    assert len(names) == 5
    assert run_name(toy_row.model_copy(update={"title": "Other"}), "data", "code") in names


def test_another_encoder_in_the_folder_that_is_named_makes_another_run(toy_row: ExperimentSpec, tmp_path: Path) -> None:
    from meta_spliceai.experiments.store.address import run_name

    row = change(toy_row, ["encoder.name=hyenadna-tiny-1k", f"encoder.settings.weights={tmp_path}"])
    names = [run_name(row, "data", "code")]
    for content in (b"first", b"second", b"first"):
        (tmp_path / "model.safetensors").write_bytes(content)
        names.append(run_name(row, "data", "code"))
    assert len(set(names)) == 3
    assert names[1] == names[3]


def test_more_rows_than_there_are_uses_all_and_says_so(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows
) -> None:
    outcome = run_experiment(change(toy_row, ["data.rows=100000"]), workspace, "cpu", rows=catalogue)
    assert outcome.run is not None
    assert outcome.run.record()["notes"][0] == (
        "100,000 variants were asked for; the data set has 240 usable ones: all are used"
    )
    assert outcome.run.data()["n_variants"] == 240


def test_a_row_at_laptop_scale_counts_and_says_what_differs(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows
) -> None:
    row = toy_row.model_copy(update={"laptop": {"training": {"epochs": 1}}})
    rows = {**catalogue, row.id: row}
    run = run_experiment(at_scale(row, "laptop"), workspace, "cpu", rows=rows).run
    assert run is not None
    assert run.record()["notes"][0] == "laptop scale: training.epochs = 1"
    run_experiment(change(at_scale(row, "laptop"), ["window=31"]), workspace, "cpu", rows=rows)
    assert [(entry["scale"], entry["as_wished"]) for entry in workspace.ledger.finished()] == [
        ("laptop", True),
        ("laptop", False),
    ]


def test_fewer_training_rows_leave_the_test_whole(toy_row: ExperimentSpec) -> None:
    loaded = load_rows_of(toy_row.data)
    whole, forty, twenty = (
        rows_and_splits(change(toy_row, [f"split.train_rows={rows}"]), loaded)[1][0] for rows in ("null", 40, 20)
    )
    for part in ("validation", "test"):
        assert whole.indices(part).tolist() == forty.indices(part).tolist() == twenty.indices(part).tolist()
    assert [len(split.indices("train")) for split in (forty, twenty)] == [40, 20]
    assert set(twenty.indices("train")) < set(forty.indices("train")) < set(whole.indices("train"))
    assert whole.coverage.used - twenty.coverage.used == len(whole.indices("train")) - 20
    assert len({split.digest for split in (whole, forty, twenty)}) == 3


def test_a_subset_is_drawn_with_the_seed_counted_and_said(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows
) -> None:
    spec = change(toy_row, ["data.rows=150"])
    run = run_experiment(spec, workspace, "cpu", rows=catalogue).run
    other = run_experiment(change(spec, ["training.seed=1"]), workspace, "cpu", rows=catalogue).run
    assert run is not None
    assert other is not None
    data = run.data()
    assert data["coverage"]["left_out"] == {"not drawn: the row asks for fewer": 90}
    assert data["coverage"]["read"] == 240
    assert run.record()["subset_note"] == "a subset: 150 of 240 variants, drawn with seed 0"
    assert len(run.read_predictions()) == 150
    assert set(run.read_predictions()["variant_id"]) != set(other.read_predictions()["variant_id"])
    # It is not the row as the wishlist has it.
    assert [entry["as_wished"] for entry in workspace.ledger.finished()] == [False, False]


def test_labelled_only_draws_among_altering_and_normal(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows
) -> None:
    run = run_experiment(change(toy_row, ["data.labelled_only=true"]), workspace, "cpu", rows=catalogue).run
    assert run is not None
    assert set(run.read_predictions()["classification"]) == {"Splice-altering", "Normal"}
    assert sum(run.data()["coverage"]["left_out"].values()) == 240 - len(run.read_predictions())


def test_one_seed_gives_one_result(
    toy_row: ExperimentSpec, workspace: Workspace, unbroken: dict[str, Any], catalogue: Rows
) -> None:
    again = run_experiment(toy_row, workspace, "cpu", rows=catalogue).run
    assert again is not None
    assert metrics_of(again.path) == unbroken


def test_an_interrupted_run_resumes_to_the_same_metrics(
    toy_row: ExperimentSpec, workspace: Workspace, toy_runs: Workspace, catalogue: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    (unbroken,) = toy_runs.runs()
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    (run,) = workspace.runs()
    assert (run.state(), run.reason()) == ("interrupted", "stopped by the user")
    with pytest.raises(RunError, match="go on with --resume, or start over with --fresh"):
        run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    outcome = run_experiment(toy_row, workspace, "cpu", resume=True, rows=catalogue)
    assert outcome.run is not None
    assert outcome.run.record()["training"]["resumed_from"] == 1
    assert metrics_of(outcome.run.path) == metrics_of(unbroken.path)
    curves = [
        frame.drop(columns=["seconds", "windows_per_second"])
        for frame in (outcome.run.read_curves(), unbroken.read_curves())
    ]
    pd.testing.assert_frame_equal(*curves)
    assert [entry["event"] for entry in workspace.ledger.entries()] == ["interrupted", "finished"]


def test_fresh_throws_an_unfinished_run_away(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    outcome = run_experiment(toy_row, workspace, "cpu", fresh=True, rows=catalogue)
    assert outcome.run is not None
    assert outcome.run.record()["training"]["resumed_from"] is None


def test_a_failure_is_a_state_with_a_reason(toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows) -> None:
    # A rate beyond what a specification may hold, so that the loss is no number at once.
    diverging = toy_row.training.model_copy(update={"learning_rate": 1e30, "gradient_clip": 0.0})
    bad = toy_row.model_copy(update={"training": diverging})
    with pytest.raises(RunError, match="lower learning_rate"):
        run_experiment(bad, workspace, "cpu", rows=catalogue)
    failed = next(run for run in workspace.runs() if run.state() == "failed")
    assert "lower learning_rate" in failed.reason()
    assert failed.reason().endswith("or clip the gradient (gradient_clip is 0, and 0 does not clip)")
    assert workspace.ledger.entries()[0]["event"] == "failed"


def test_a_row_with_a_missing_part_does_not_start(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows
) -> None:
    spec = change(toy_row, ["encoder.name=crystal-ball"])
    with pytest.raises(RunError, match="missing encoder 'crystal-ball'"):
        run_experiment(spec, workspace, "cpu", rows=catalogue)
    assert workspace.runs() == []


@pytest.mark.parametrize("inside", [False, True], ids=["no folder", "nothing in the folder"])
def test_a_row_without_its_encoders_weights_ends_before_anything_is_computed(
    toy_row: ExperimentSpec,
    workspace: Workspace,
    catalogue: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inside: bool,
) -> None:
    monkeypatch.setattr(runner, "prepare", lambda *_: pytest.fail("base scores were computed"))
    folder = tmp_path / "encoder"
    if inside:
        folder.mkdir()
    row = change(toy_row, ["encoder.name=hyenadna-tiny-1k", f"encoder.settings={{weights: {folder}}}"])
    said = (
        "holds no HyenaDNA"
        if inside
        else "ways out: fill the cache .* folder .* weights='scratch' .--set encoder.settings.weights=FOLDER"
    )
    with pytest.raises(MissingResourceError, match=f"row 'toy-row': .*{said}"):
        run_experiment(row, workspace, "cpu", rows=catalogue)
    assert workspace.runs() == []
    folds = change(row, ["split.folds=3"])
    monkeypatch.setattr(queue, "prepare", lambda *_: pytest.fail("base scores were computed"))
    answer = carry_out(Request(folds, catalogue, workspace.root, "cpu", part=0), Silent())
    assert answer.error is not None
    assert answer.error.startswith("row 'toy-row'")


def test_two_processes_cannot_take_the_same_run(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def second(*arguments: Any) -> None:
        run = workspace.runs()[0]
        assert run.state() == "running"
        try:
            with run.taken():
                seen.append("taken twice")
        except RunError as error:
            seen.append(str(error))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "prepare", second)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    assert len(seen) == 1
    assert "is being worked on by another process" in seen[0]


def test_folds_are_pooled_out_of_fold_and_their_spread_is_shown(folded: RunDirectory) -> None:
    run = folded
    predictions = run.read_predictions()
    assert set(predictions["fold"]) == {1, 2, 3}
    assert (predictions["part"] == "test").all()
    for fold in (1, 2, 3):
        stored = read_split(run.path / "folds" / str(fold) / "split.parquet")
        in_fold = pd.Series(stored.split.parts)
        assert ((in_fold == "test") == (predictions["fold"] == fold)).all()
        assert set(in_fold) == {"train", "validation", "test"}
        groups = {part: set(rows["group"]) for part, rows in stored.table.groupby(in_fold)}
        assert not groups["test"] & (groups["train"] | groups["validation"])
        assert not groups["train"] & groups["validation"]
        assert (run.path / "folds" / str(fold) / "model" / "model.safetensors").exists()
    spread = {(line["scorer"], line["metric"]): line for line in run.record()["folds"]}
    line = spread["toy-row", "auroc"]
    assert line["folds"] == 3
    values = list(line["values"].values())
    assert min(values) <= line["mean"] <= max(values)
    assert line["sd"] == pytest.approx(np.std(values, ddof=1))
    assert Evaluation.from_json(run.metrics()).value("toy-row", "spearman_effect")["n"] == 240


def test_every_row_is_answered_by_the_fold_that_did_not_see_it(folded: RunDirectory) -> None:
    from meta_spliceai.datasets import load_dataset
    from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import signed_scores, strongest
    from meta_spliceai.splice_engine.meta_layer.prediction import predict
    from meta_spliceai.splice_engine.variants.table import build_windows

    toy = load_dataset("toy")
    windows = build_windows(toy.variants, toy.genome, 41)
    predictions = folded.read_predictions()
    for fold in (1, 2, 3):
        predictor = Predictor.from_pretrained(folded.path / "folds" / str(fold) / "model")
        tested = (predictions["fold"] == fold).to_numpy()
        again = signed_scores(strongest(predict(predictor, windows, "cpu"))).signed
        np.testing.assert_allclose(predictions["toy-row.signed"][tested], again[tested], atol=1e-6)
        assert not np.allclose(predictions["toy-row.signed"][~tested], again[~tested], atol=1e-6)


@pytest.mark.slow
def test_an_interrupted_cross_validation_keeps_its_finished_folds(
    toy_row: ExperimentSpec,
    workspace: Workspace,
    folded: RunDirectory,
    catalogue: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = change(toy_row, ["split.folds=3"])
    with monkeypatch.context() as patch:
        stop_after(patch, 4, KeyboardInterrupt())  # in the second fold
        with pytest.raises(KeyboardInterrupt):
            run_experiment(spec, workspace, "cpu", rows=catalogue)
    callback = Silent()
    resumed = run_experiment(spec, workspace, "cpu", resume=True, rows=catalogue, callback=callback).run
    assert resumed is not None
    assert [line for line in callback.lines if "finished already" in line] == ["fold 1 is finished already"]
    assert metrics_of(resumed.path) == metrics_of(folded.path)


@pytest.fixture
def with_ensemble(toy_row: ExperimentSpec, catalogue: Rows) -> Rows:
    """The toy row, a second one with another encoder, and their ensemble."""
    other = change(toy_row, ["encoder.name=gated-cnn", "encoder.settings.kernel=5"]).model_copy(
        update={"id": "toy-other"}
    )
    both = parse_spec(
        {**toy_row.model_dump(mode="json"), "id": "toy-both", "ensemble": {"members": ["toy-row", "toy-other"]}}, "test"
    )
    return {**catalogue, other.id: other, both.id: both}


def test_an_ensemble_reuses_finished_members_and_fits_weights_on_validation(
    toy_row: ExperimentSpec, workspace: Workspace, with_ensemble: Rows
) -> None:
    first = run_experiment(toy_row, workspace, "cpu", rows=with_ensemble).run
    callback = Silent()
    both = run_experiment(with_ensemble["toy-both"], workspace, "cpu", rows=with_ensemble, callback=callback).run
    assert first is not None
    assert both is not None
    assert f"{first.name} is finished already; nothing is computed again" in callback.lines
    assert {run.row_id for run in workspace.runs()} == {"toy-row", "toy-other", "toy-both"}
    weights = both.record()["model"]["member_weights"]
    assert sum(weights.values()) == pytest.approx(1, abs=1e-3)
    members = [workspace.find(name) for name in both.record()["model"]["members"]]
    predictions = [np.load(member.path / "all_predictions.npy") for member in members]
    expected = sum(weights[member.row_id] * answer for member, answer in zip(members, predictions, strict=True))
    np.testing.assert_allclose(np.load(both.path / "all_predictions.npy"), expected, atol=1e-3)
    assert both.record()["training"]["disagreement"]["rows"] > 0


def test_an_ensemble_ends_before_its_first_member_runs_where_another_has_no_weights(
    toy_row: ExperimentSpec, workspace: Workspace, with_ensemble: Rows
) -> None:
    without = change(toy_row, ["encoder.name=hyenadna-tiny-1k", "encoder.settings={weights: no-such-folder}"])
    rows = {**with_ensemble, "toy-other": without.model_copy(update={"id": "toy-other"})}
    with pytest.raises(MissingResourceError, match="row 'toy-other': the weights of hyenadna-tiny-1k cannot be had"):
        run_experiment(rows["toy-both"], workspace, "cpu", rows=rows)
    assert workspace.runs() == []


def test_an_ensemble_of_members_with_other_splits_is_refused(
    toy_row: ExperimentSpec, workspace: Workspace, with_ensemble: Rows
) -> None:
    elsewhere = change(with_ensemble["toy-other"], ["split.fractions=[0.6, 0.2, 0.2]"])
    rows = {**with_ensemble, elsewhere.id: elsewhere}
    with pytest.raises(RunError, match="trained on another split"):
        run_experiment(rows["toy-both"], workspace, "cpu", rows=rows)


@pytest.mark.slow
def test_members_follow_the_ensembles_own_changes(workspace: Workspace, with_ensemble: Rows) -> None:
    both = run_experiment(change(with_ensemble["toy-both"], ["data.rows=160"]), workspace, "cpu", rows=with_ensemble)
    assert both.run is not None
    assert {len(run.read_predictions()) for run in workspace.runs()} == {160}


def test_a_smoke_run_is_small_branded_and_on_no_leaderboard(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows, run_cli: RunCli
) -> None:
    run = run_experiment(as_smoke(toy_row), workspace, "cpu", rows=catalogue).run
    assert run is not None
    assert run.record()["smoke"] is True
    assert run.record()["notes"][0].startswith("a smoke run")
    predictions = run.read_predictions()
    assert len(predictions) <= 96
    assert set(predictions["classification"]) == {"Splice-altering", "Normal"}
    assert boards(workspace) == []
    code, out, _ = run_cli(["leaderboard", "--runs-dir", str(workspace.root)])
    assert code == 0
    assert "has only smoke runs (1 finished)" in out
    assert "without --smoke" in out
    (state,) = [row for row in state_of_rows(catalogue, workspace) if row.spec.id == toy_row.id]
    assert state.state == "runnable"
    run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    (state,) = [row for row in state_of_rows(catalogue, workspace) if row.spec.id == toy_row.id]
    assert state.state == "completed"
    (board,) = boards(workspace)
    assert [line.kind for line in board.lines] == ["baseline", "baseline", "base", "base", "learned"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/runs/x"), "No space left on device: /runs/x"),
        (OSError(errno.ESTALE, "Stale file handle", "/mount/x"), "Stale file handle: /mount/x"),
        (MemoryError(), "out of memory"),
        (RuntimeError("could not create a primitive"), "out of memory"),
    ],
)
def test_a_full_disk_a_lost_mount_and_no_memory_are_states_and_the_run_resumes(
    toy_row: ExperimentSpec,
    workspace: Workspace,
    catalogue: Rows,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    reason: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(runner, "evaluate_run", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(RunError):
            run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    (run,) = workspace.runs()
    assert (run.state(), run.reason()) == ("failed", reason)
    outcome = run_experiment(toy_row, workspace, "cpu", resume=True, rows=catalogue)
    assert outcome.run is not None
    assert outcome.run.record()["training"]["resumed_from"] == 3


def test_a_disk_too_full_to_say_so_leaves_an_interrupted_run(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/x")

    def fill_up(*_: Any) -> None:
        monkeypatch.setattr(type(workspace.runs()[0]), "write_json", full)
        full()

    with monkeypatch.context() as patch:
        patch.setattr(runner, "evaluate_run", fill_up)
        with pytest.raises(RunError, match="No space left on device"):
            run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    assert workspace.runs()[0].state() == "interrupted"


def test_a_defect_keeps_its_traceback_and_leaves_its_name(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "evaluate_run", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    assert workspace.runs()[0].reason().startswith("ZeroDivisionError")


def test_a_run_goes_on_with_the_threads_it_was_begun_with(toy_row: ExperimentSpec, workspace: Workspace) -> None:
    """Another number of threads sums in another order: the record says which it was, and a resumed run keeps to it."""
    at_work = torch.get_num_threads()
    seen: list[int] = []

    class Stopping(Silent):
        def tell(self, kind: str, facts: dict[str, Any]) -> None:
            if kind.startswith("step"):
                return  # reading data comes before
            seen.append(torch.get_num_threads())
            if kind == "epoch" and len(set(seen)) == 1 and not stopped:
                stopped.append(True)
                raise KeyboardInterrupt

    stopped: list[bool] = []
    rows = {toy_row.id: toy_row}
    try:
        torch.set_num_threads(3)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(toy_row, workspace, "cpu", rows=rows, callback=Stopping())
        (run,) = workspace.runs()
        assert run.record()["threads"] == 3
        torch.set_num_threads(2)
        seen.clear()
        run_experiment(toy_row, workspace, "cpu", resume=True, rows=rows, callback=Stopping())
        assert set(seen) == {3}
        assert torch.get_num_threads() == 2
        assert run.record()["threads"] == 3
        assert run.environment()["torch_threads"] == 3
        listening = Silent()
        assert run_experiment(toy_row, workspace, "cpu", rows=rows, callback=listening).reused
        assert any("made with 3 threads and here are 2" in line for line in listening.lines)
    finally:
        torch.set_num_threads(at_work)


def test_an_ensembles_training_settings_reach_its_members(with_ensemble: Rows) -> None:
    both = change(with_ensemble["toy-both"], ["training.epochs=2"])
    members = [member_of(both, name, with_ensemble) for name in both.ensemble.members]  # type: ignore[union-attr]
    assert [member.training.epochs for member in members] == [2, 2]
    smoke = change(as_smoke(with_ensemble["toy-both"]), ["training.epochs=2"])
    assert member_of(smoke, members[0].id, with_ensemble).training.epochs == 2
    assert member_of(as_smoke(with_ensemble["toy-both"]), members[0].id, with_ensemble).training.epochs == 1
