"""Finished runs looked at again: compared on shared rows, found stale, pruned, exported."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.board.compare import compare_on_shared_rows
from meta_spliceai.experiments.board.leaderboard import boards
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import as_smoke, change
from meta_spliceai.experiments.store.address import mark_stale_runs
from meta_spliceai.experiments.store.keep_runs import Sorted, export_run, keep_runs
from meta_spliceai.experiments.store.run_record import diff_runs
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from tests.conftest import RunCli


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory: pytest.TempPathFactory, toy_values: dict[str, object], toy_cache: Path) -> Workspace:
    """The toy row with two window lengths, and a smoke run of it."""
    from meta_spliceai.experiments.spec.experiment import parse_spec

    row = parse_spec(toy_values, "test")
    folder = tmp_path_factory.mktemp("three")
    shutil.copytree(toy_cache, folder / "cache")
    workspace = Workspace(folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("META_SPLICEAI_CACHE", str(folder / "cache"))
        for spec in (row, change(row, ["window=61"]), as_smoke(row)):
            run_experiment(spec, workspace, "cpu", rows={row.id: row})
    return workspace


@pytest.fixture
def runs(three_runs: Workspace, tmp_path: Path) -> Workspace:
    """A copy of them that a test may change."""
    shutil.copytree(three_runs.root, tmp_path / "runs")
    return Workspace(tmp_path / "runs")


def real_runs(workspace: Workspace) -> list[str]:
    return [entry["run"] for entry in workspace.ledger.finished() if not entry["smoke"]]


def test_compare_judges_both_models_on_the_same_rows(runs: Workspace) -> None:
    first, second = (runs.find(name) for name in real_runs(runs))
    evaluation = compare_on_shared_rows([first, second], n_boot=50)
    names = [scorer.name for scorer in evaluation.scorers]
    assert names[-2:] == [first.name, second.name]
    alone = {
        (entry["run"], metric["metric"]): metric["estimate"]
        for entry in runs.ledger.finished()
        for metric in entry["metrics"]
        if metric["kind"] == "learned"
    }
    for run in (first, second):
        assert evaluation.value(run.name, "auprc")["estimate"] == pytest.approx(alone[run.name, "auprc"])
    difference = evaluation.difference(second.name, first.name, "auprc")["estimate"]
    assert difference == pytest.approx(alone[second.name, "auprc"] - alone[first.name, "auprc"])


def test_compare_shows_whole_headings_and_intervals_in_a_terminal_of_80_columns(
    runs: Workspace, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run_cli(["runs", "compare", *sorted(real_runs(runs)), "--runs-dir", str(runs.root)])
    assert code == 0
    assert "…" not in out
    heading = next(line for line in out.splitlines() if "AUPRC" in line)
    (base,) = [line for line in out.splitlines() if line.strip().startswith("base max_window")]
    assert len(re.findall(r"0\.\d{3} \[[−0-9.]+, [−0-9.]+\]|–", base)) == len(re.split(r" {3,}", heading.strip()))
    assert "further metrics: in a wider terminal, or with --json" in out


def test_compare_needs_two_runs_with_rows_in_common(runs: Workspace) -> None:
    first, second = (runs.find(name) for name in real_runs(runs))
    with pytest.raises(InputError, match="at least two"):
        compare_on_shared_rows([first])
    predictions = second.read_predictions()
    second.write_frame("predictions.parquet", predictions.assign(variant_id="other " + predictions["variant_id"]))
    with pytest.raises(InputError, match="no test variant in common"):
        compare_on_shared_rows([first, second])


def test_diff_names_what_differs_and_nothing_else(runs: Workspace) -> None:
    found = diff_runs(*(runs.find(name) for name in real_runs(runs)))["fields"].set_index("field")
    assert list(found.loc["window"]) == [41, 61]
    assert not {"training.epochs", "data.name", "data.digest", "split.digest"} & set(found.index)


def test_runs_without_labels_borrow_them_or_say_so(runs: Workspace, tmp_path: Path) -> None:
    first, second = (runs.find(name) for name in real_runs(runs))
    keep_runs(runs, [first.name, second.name], tmp_path / "kept", predictions=True, labels=False)
    kept = Workspace(tmp_path / "kept")
    whole = compare_on_shared_rows([first, second], n_boot=20)
    borrowed = compare_on_shared_rows([kept.find(first.name), second], n_boot=20)
    pd.testing.assert_frame_equal(borrowed.metrics, whole.metrics)
    with pytest.raises(InputError, match="were kept without the data set's labels"):
        compare_on_shared_rows(kept.runs(), n_boot=20)


def test_a_comparison_counts_as_negative_what_its_runs_do(runs: Workspace) -> None:
    compared = [runs.find(name) for name in real_runs(runs)]
    for run in compared:
        evaluated = run.metrics()
        wider = {**evaluated["settings"], "negatives": ["Normal", "Low-frequency"]}
        run.write_json("metrics.json", {**evaluated, "settings": wider})
        if run is compared[0]:
            with pytest.raises(InputError, match="as negative"):
                compare_on_shared_rows(compared, n_boot=20)
    evaluation = compare_on_shared_rows(compared, n_boot=20)
    assert evaluation.settings["negatives"] == ["Normal", "Low-frequency"]


def test_diff_shows_machine_versions_and_metrics_too(runs: Workspace, run_cli: RunCli) -> None:
    first, second = (runs.find(name) for name in real_runs(runs))
    environment = second.environment()
    environment["packages"]["torch"] = "9.9"
    second.write_json("environment.json", {**environment, "cpu": "another"})
    tables = diff_runs(first, second)
    assert list(tables["environment"]["field"]) == ["packages.torch", "cpu"]
    assert tables["environment"].set_index("field").loc["cpu", second.name] == "another"
    metrics = tables["metrics"].set_index("metric").loc["auprc"]
    estimates = [
        next(m for m in run.metrics()["metrics"] if m["kind"] == "learned" and m["metric"] == "auprc")["estimate"]
        for run in (first, second)
    ]
    assert [metrics[first.name], metrics[second.name]] == estimates
    assert metrics["difference"] == pytest.approx(estimates[1] - estimates[0])
    where = ["--runs-dir", str(runs.root)]
    code, out, _ = run_cli(["runs", "diff", first.name, second.name, "--json", *where])
    assert code == 0
    shown = json.loads(out)
    assert {line["field"]: line[second.name] for line in shown["fields"]}["window"] == 61
    assert {line["metric"] for line in shown["metrics"]} >= {"auprc", "auroc"}
    code, out, _ = run_cli(["runs", "diff", first.name, first.name, *where])
    assert "the runs were made in the same way" in out


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_all_runs_as_a_table_for_other_programs(runs: Workspace, tmp_path: Path, suffix: str, run_cli: RunCli) -> None:
    failed = runs.run("toy-row-ffffffffffff")
    failed.mark("failed", "no luck")
    out = tmp_path / f"runs.{suffix}"
    code, said, _ = run_cli(["runs", "export", "-o", str(out), "--runs-dir", str(runs.root)])
    assert (code, said.strip()) == (0, str(out))
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[suffix]
    table = read(out).set_index("run")
    assert list(table.index) == [run.name for run in runs.runs()]
    run = runs.find(real_runs(runs)[1])
    line = table.loc[run.name]
    assert line["spec.window"] == 61
    assert line["spec.encoder.settings.layers"] == 3
    assert line["spec.split.fractions"] == "[0.5, 0.2, 0.3]"
    assert line["data.rows"] == 240
    record = next(m for m in run.metrics()["metrics"] if m["kind"] == "learned" and m["metric"] == "auroc")
    assert line["auroc"] == pytest.approx(record["estimate"], rel=1e-12)
    assert line["auroc_low"] == pytest.approx(record["low"], rel=1e-12)
    assert (table.loc[failed.name, "state"], table.loc[failed.name, "reason"]) == ("failed", "no luck")
    assert pd.isna(table.loc[failed.name, "auroc"])


def test_what_cannot_be_exported_is_said(runs: Workspace, run_cli: RunCli) -> None:
    where = ["--runs-dir", str(runs.root)]
    code, _, err = run_cli(["runs", "export", *real_runs(runs), *where])
    assert code == 2
    assert "an archive holds one run" in err
    code, _, err = run_cli(["runs", "export", "-o", "runs.xlsx", *where])
    assert code == 2
    assert "a table as .csv, .json, .parquet" in err


def test_a_run_made_by_other_code_or_data_is_stale_and_said_to_be(runs: Workspace) -> None:
    name = real_runs(runs)[0]
    run = runs.find(name)
    spec, digest, code = run.spec(), run.data()["digest"], run.record()["code"]
    assert mark_stale_runs(runs, spec, digest, code) == []
    ((stale, why),) = mark_stale_runs(runs, spec, "other data", "0.2.0+new")
    assert stale.name == name
    assert why == run.stale() == f"the data set's content changed and the code changed from {code} to 0.2.0+new"
    assert any("is stale" in note for board in boards(runs) for note in board.notes)
    assert mark_stale_runs(runs, spec, digest, code) == []
    assert run.stale() == ""


def test_prune_says_what_goes_and_what_stays_and_asks_first(runs: Workspace, run_cli: RunCli) -> None:
    where = ["--runs-dir", str(runs.root)]
    kept, stale = sorted(real_runs(runs))
    runs.find(stale).mark("finished", stale="the data set's content changed")
    runs.run("toy-row-ffffffffffff").mark("failed", "no luck")
    runs.run("toy-row-eeeeeeeeeeee").mark("interrupted", "stopped by the user")
    runs.run("toy-row-dddddddddddd").mark("running")  # its process is gone
    damaged, begun = runs.run("toy-row-cccccccccccc"), runs.run("toy-row-bbbbbbbbbbbb")
    damaged.mark("finished")
    (damaged.path / "run.json").write_text('{"state": "fini', encoding="utf-8")
    begun.path.mkdir()
    (begun.path / "lock").touch()
    (runs.root / "notes").mkdir()  # not a run's folder
    (runs.root / "notes" / "lock").touch()
    code, out, _ = run_cli(["runs", "prune", *where])
    assert code == 0
    for words in (
        f"would delete {stale} (stale, ",
        "MB): the data set's content changed",
        "would delete toy-row-ffffffffffff (failed, 0.0 MB): no luck",
        "would delete toy-row-eeeeeeeeeeee (interrupted, 0.0 MB): stopped by the user",
        "would delete toy-row-dddddddddddd (interrupted, 0.0 MB): the process ended without a word",
        "would delete toy-row-cccccccccccc (damaged, 0.0 MB): ",
        "would delete toy-row-bbbbbbbbbbbb (never begun, 0.0 MB)",
        "(smoke, ",
        f"would keep {kept}: finished and current",
        "nothing was deleted; --yes deletes 7 runs and frees ",
    ):
        assert words in out, words
    assert len(runs.runs()) == 7
    lines = len(runs.ledger.entries())
    code, out, _ = run_cli(["runs", "prune", "--yes", *where])
    assert code == 0
    assert "7 of 7 runs deleted" in out
    assert {path.name for path in runs.root.iterdir() if path.is_dir()} == {kept, "notes"}
    assert len(runs.ledger.entries()) == lines
    code, out, _ = run_cli(["runs", "prune", *where])
    assert "nothing to delete" in out


@pytest.mark.parametrize("held", ["", "folds/2"], ids=["the run", "a fold of it"])
def test_prune_never_deletes_what_a_process_holds(
    runs: Workspace, run_cli: RunCli, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, idle = runs.run("toy-row-ffffffffffff"), runs.run("toy-row-eeeeeeeeeeee")
    busy.mark("interrupted", "stopped by the user")
    idle.mark("failed", "no luck")
    where = ["--runs-dir", str(runs.root)]
    with RunDirectory(busy.path / held).taken():
        code, out, _ = run_cli(["runs", "prune", "--yes", *where])
        assert code == 0
        assert f"kept {busy.name}: a process works on it" in out
        assert busy.path.is_dir()
        assert not idle.path.exists()
        # Begun between the look and the deletion: it is refused, and the command says so.
        found = Sorted(busy, "interrupted", "stopped by the user", 1)
        monkeypatch.setattr("meta_spliceai.experiments.store.keep_runs.sort_runs", lambda workspace: ([found], []))
        code, out, err = run_cli(["runs", "prune", "--yes", *where])
        assert code == 1
        assert f"not deleted: run {busy.name} is being worked on" in err
        assert busy.path.is_dir()


def test_the_list_has_the_whole_time_in_a_terminal_of_80_columns(
    runs: Workspace, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run_cli(["runs", "list", "--runs-dir", str(runs.root)])
    finished = runs.find(real_runs(runs)[0]).record()["finished"]
    assert finished[:16].replace("T", " ") in out
    assert "…" not in out


def test_a_damaged_record_stops_neither_lists_nor_other_runs(
    runs: Workspace, run_cli: RunCli, toy_row: ExperimentSpec
) -> None:
    name = sorted(real_runs(runs))[0]
    run = runs.find(name)
    spec, where = run.spec(), ["--runs-dir", str(runs.root)]
    (run.path / "run.json").write_text('{"state": "fini', encoding="utf-8")
    _, out, _ = run_cli(["runs", "list", "--json", *where])
    (shown,) = [line for line in json.loads(out) if line["run"] == name]
    assert shown["state"] == "damaged"
    assert "run.json is damaged" in shown["reason"]
    assert shown["reason"].endswith("and run its row again")
    with pytest.raises(RunError, match="delete its folder"):
        run_experiment(spec, runs, "cpu", rows={toy_row.id: toy_row})
    assert run_experiment(spec, runs, "cpu", rows={toy_row.id: toy_row}, fresh=True).run.state() == "finished"


def test_export_packs_a_run_that_can_be_read_elsewhere(runs: Workspace, tmp_path: Path) -> None:
    run = runs.find(real_runs(runs)[0])
    archive = export_run(run, tmp_path / "out.tar.gz")
    shutil.unpack_archive(archive, tmp_path / "elsewhere")
    again = Workspace(tmp_path / "elsewhere").find(run.name)
    assert again.state() == "finished"
    assert again.metrics() == run.metrics()
    assert not (again.path / "lock").exists()
    failed = runs.run("toy-row-ffffffffffff")
    failed.mark("failed", "no luck")
    with pytest.raises(RunError, match="only a finished run"):
        export_run(failed, tmp_path / "no.tar.gz")


def test_the_command_line_lists_shows_and_finds(runs: Workspace, run_cli: RunCli) -> None:
    where = ["--runs-dir", str(runs.root)]
    code, out, _ = run_cli(["runs", "list", "--json", *where])
    assert code == 0
    listed = json.loads(out)
    assert [row["state"] for row in listed] == ["finished"] * 3
    assert sum(row["smoke"] for row in listed) == 1
    name = real_runs(runs)[0]
    code, out, _ = run_cli(["runs", "show", name[:14], "--json", *where])
    assert json.loads(out)["run"] == name
    code, _, err = run_cli(["runs", "show", "toy-row-zzzz", *where])
    assert code == 2
    assert "unknown run 'toy-row-zzzz'" in err
    code, _, err = run_cli(["runs", "show", "toy-row", *where])
    assert code == 2
    assert "give more of the name" in err
    code, _, err = run_cli(["runs", "list", "--state", "done", *where])
    assert code == 2
    assert "unknown state 'done'" in err


def test_the_leaderboard_as_json_has_baselines_first(runs: Workspace, run_cli: RunCli) -> None:
    code, out, _ = run_cli(["leaderboard", "--json", "--runs-dir", str(runs.root)])
    assert code == 0
    (board,) = json.loads(out)
    assert [line["kind"] for line in board["lines"]] == ["baseline", "baseline", "base", "base", "learned", "learned"]
    learned = board["lines"][-1]
    assert learned["auprc"]["low"] <= learned["auprc"]["estimate"] <= learned["auprc"]["high"]
    assert 0 < board["prevalence"] < 1
    code, _, err = run_cli(["leaderboard", "--data", "mfas", "--runs-dir", str(runs.root)])
    assert code == 2
    assert "unknown data set 'mfas'" in err


def test_a_damaged_file_of_a_run_is_named(runs: Workspace, run_cli: RunCli) -> None:
    run = runs.find(real_runs(runs)[0])
    (run.path / "run.json").write_text("{", encoding="utf-8")
    code, _, err = run_cli(["runs", "show", run.name, "--runs-dir", str(runs.root)])
    assert code == 2
    assert "run.json is damaged" in err


def test_answers_are_kept_for_every_row(runs: Workspace) -> None:
    run = runs.find(real_runs(runs)[0])
    assert np.load(run.path / "all_predictions.npy").shape == (240, 3)


def test_spec_of_a_run_is_the_spec_that_was_run(runs: Workspace, toy_row: ExperimentSpec) -> None:
    assert runs.find(real_runs(runs)[0]).spec() == toy_row


def test_a_rows_own_run_is_found_where_another_rows_name_begins_alike(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    for name in ("fusion-0123456789ab", "fusion-clean-0123456789ab"):
        workspace.run(name).mark("finished")
    assert workspace.find("fusion").name == "fusion-0123456789ab"
    assert workspace.find("fusion-cl").name == "fusion-clean-0123456789ab"
