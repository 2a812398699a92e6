"""What loggers are told: parameters, every epoch, final metrics, places; read back from where it was written."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError, MissingExtraError, RunError
from meta_spliceai.experiments.execute.queue import Request, carry_out
from meta_spliceai.experiments.run.callback import NEEDS, check_loggers
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from tests.experiments.silent import Silent

needs_loggers = pytest.mark.skipif(
    importlib.util.find_spec("lightning") is None, reason="the extra 'tracking' is not installed"
)
needs_mlflow = pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in ("lightning", *NEEDS["mlflow"])),
    reason="the extra 'tracking' is not installed",
)


def run(spec: ExperimentSpec, workspace: Workspace, *track: str, uri: str | None = None, **more: Any) -> RunDirectory:
    request = Request(
        spec, {spec.id: spec}, workspace.root, "cpu", track=check_loggers(track), tracking_uri=uri, **more
    )
    answer = carry_out(request, Silent())
    assert answer.error is None, answer.error
    outcome = answer.outcome(request)
    assert outcome.run is not None
    return outcome.run


def learned(done: RunDirectory, metric: str) -> dict[str, Any]:
    (record,) = [m for m in done.metrics()["metrics"] if m["kind"] == "learned" and m["metric"] == metric]
    return record


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A folder of runs in which MLflow makes its tables once; they take it longer than the runs."""
    return Workspace(tmp_path_factory.mktemp("tracked") / "runs")


def kept_runs(workspace: Workspace, row: str) -> tuple[Any, list[Any]]:
    """MLflow's client, and what it holds of a row."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace.root.absolute()}/tracking/mlflow.db")
    experiment = client.get_experiment_by_name("meta-spliceai")
    assert experiment is not None
    return client, [one for one in client.search_runs([experiment.experiment_id]) if one.data.tags["row"] == row]


@pytest.mark.slow
@needs_mlflow
def test_mlflow_holds_what_the_run_directory_holds(toy_row: ExperimentSpec, tracked: Workspace) -> None:
    done = run(toy_row, tracked, "mlflow", price_per_hour=3600.0)
    client, (kept,) = kept_runs(tracked, "toy-row")
    assert kept.info.run_name == done.name
    assert kept.info.status == "FINISHED"
    assert kept.data.tags["row"] == "toy-row"
    assert kept.data.params["training.batch_size"] == "32"
    assert kept.data.params["encoder.settings.layers"] == "3"
    assert kept.data.params["run_directory"] == str(done.path)
    assert kept.data.params["artefact.metrics.json"] == str(done.path / "metrics.json")
    for name in ("auprc", "auroc"):
        record = learned(done, name)
        assert kept.data.metrics[f"test/{name}"] == pytest.approx(record["estimate"])
        assert kept.data.metrics[f"test/{name}_low"] == pytest.approx(record["low"])
    assert kept.data.metrics["run/seconds"] == pytest.approx(done.record()["seconds"])
    assert kept.data.metrics["run/dollars"] == pytest.approx(done.record()["seconds"], abs=0.01)
    history = client.get_metric_history(kept.info.run_id, "val_loss")
    curves = done.read_curves()
    assert [point.step for point in history] == [1, 2, 3]
    assert [point.value for point in history] == pytest.approx(list(curves["val_loss"]))
    # Two folds' curves do not get mixed up.
    folded = run(change(toy_row, ["split.folds=3"]), tracked, "mlflow")
    kept = next(one for one in kept_runs(tracked, "toy-row")[1] if one.info.run_name == folded.name)
    for fold in (1, 2, 3):
        history = client.get_metric_history(kept.info.run_id, f"fold{fold}/val_loss")
        expected = folded.read_curves().query(f"fold == {fold}")["val_loss"]
        assert [point.value for point in history] == pytest.approx(list(expected))


@needs_mlflow
def test_a_resumed_run_goes_on_in_the_same_mlflow_run(
    toy_row: ExperimentSpec, tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meta_spliceai.experiments.run import runner

    row = toy_row.model_copy(update={"id": "resumed"})
    with monkeypatch.context() as patch:
        patch.setattr(runner, "evaluate_run", lambda *_: (_ for _ in ()).throw(RunError("no luck")))
        request = Request(row, {row.id: row}, tracked.root, "cpu", track=("mlflow",))
        assert carry_out(request, Silent()).error == "no luck"
    assert [kept.info.status for kept in kept_runs(tracked, "resumed")[1]] == ["FAILED"]
    run(row, tracked, "mlflow", resume=True)
    _, (kept,) = kept_runs(tracked, "resumed")
    assert kept.info.status == "FINISHED"
    assert "test/auprc" in kept.data.metrics


@needs_mlflow
@pytest.mark.slow
def test_workers_that_begin_together_share_one_file(tmp_path: Path) -> None:
    """Two processes on a file that is not there yet: each makes MLflow's tables, or finds them whole."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from meta_spliceai.experiments.run.callback import Callback, Tracked\n"
        "folder, name = Path(sys.argv[1]), sys.argv[2]\n"
        "(folder / name).mkdir()\n"
        "tracked = Tracked(Callback(), ('mlflow',), folder / 'tracking', None)\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "tracked.tell('run', {'run': name, 'path': str(folder / name), 'row': 'toy', 'spec': {}})\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), f"toy-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        _, err = process.communicate("\n", timeout=120)
        assert process.returncode == 0, err[-2000:]


@needs_loggers
def test_the_csv_logger_by_its_name_in_lightning(toy_row: ExperimentSpec, workspace: Workspace, tmp_path: Path) -> None:
    done = run(toy_row, workspace, "csv", "lightning.pytorch.loggers.CSVLogger", uri=str(tmp_path / "logs"))
    folder = tmp_path / "logs" / "csv" / done.name
    with (folder / "metrics.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    losses = [float(row["val_loss"]) for row in rows if row["val_loss"]]
    assert losses == pytest.approx(list(done.read_curves()["val_loss"]))
    assert "window: 41" in (folder / "hparams.yaml").read_text(encoding="utf-8")
    assert json.loads((done.path / "tracking.json").read_text(encoding="utf-8")) == {"csv": done.name}


@needs_loggers
def test_the_ledger_is_written_with_and_without_loggers(toy_row: ExperimentSpec, workspace: Workspace) -> None:
    done = run(toy_row, workspace)
    assert not (done.path / "tracking.json").exists()
    assert len(workspace.ledger.finished()) == 1


@needs_mlflow
@needs_loggers
def test_a_place_that_cannot_be_logged_to_stops_the_run_before_any_work(
    toy_row: ExperimentSpec, workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    request = Request(toy_row, {toy_row.id: toy_row}, workspace.root, "cpu", track=("mlflow",), tracking_uri=uri)
    answer = carry_out(request, Silent())
    assert answer.error is not None
    assert answer.error.startswith("--track mlflow: ")
    assert not any((run.path / "curves.parquet").exists() for run in workspace.runs())


def test_unknown_and_missing_loggers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown logger 'mlflo' in --track; did you mean mlflow"):
        check_loggers(["mlflo"])
    with pytest.raises(InputError, match=r"unknown logger 'os\.system'"):
        check_loggers(["os.system"])
    monkeypatch.setattr("meta_spliceai.experiments.run.callback.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs the optional extra 'tracking'"):
        check_loggers(["mlflow"])
    with pytest.raises(MissingExtraError, match="tracking with csv needs the optional extra 'tracking'"):
        check_loggers(["csv"])
    assert "wandb" not in sys.modules
