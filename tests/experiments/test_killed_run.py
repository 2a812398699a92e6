"""SIGKILL at any moment costs at most the epoch that was running: the resumed run ends with the same metrics."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from meta_spliceai import files
from meta_spliceai.experiments.run import prepare, procedures, runner
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.meta_layer import training
from tests.experiments.conftest import TOY_ROW, install_toy_bench
from tests.experiments.silent import Silent
from tests.killed import Lines, die_at_moments, expect_killed, killed_in, run_apart

EPOCHS = 3
MOMENTS = {
    # when, at which call, and how many epochs the resumed run has to train
    (prepare, "score_variants", "before", 1): EPOCHS,
    (prepare, "score_variants", "after", 1): EPOCHS,
    (training.Trainer, "batch_loss", "after", 6): EPOCHS - 1,
    (training, "write_checkpoint", "before", 1): EPOCHS,
    (training, "write_checkpoint", "after", 1): EPOCHS - 1,
    (procedures, "fit", "after", 1): 0,
    (runner, "evaluate_run", "after", 1): 0,
    (runner, "record_result", "before", 1): 0,
    (RunDirectory, "mark", "before", 2): 0,
}


def die_at_call(owner: Any, name: str, side: str, call: int) -> None:
    """From now on this process is killed before, or after, so many calls of a function."""
    original, seen = getattr(owner, name), itertools.count(1)

    def deadly(*arguments: Any, **options: Any) -> Any:
        last = next(seen) == call
        result = None if last and side == "before" else original(*arguments, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def prepare_toys(folder: Path) -> ExperimentSpec:
    """Run the toy row once: whatever is forked finds everything imported, and the base scores in the cache."""
    install_toy_bench()
    torch.set_num_threads(1)
    os.environ["META_SPLICEAI_CACHE"] = str(folder / "cache")
    row = parse_spec(TOY_ROW, "test")
    run_experiment(row, Workspace(folder / "undisturbed"), "cpu", rows={row.id: row})
    return row


def cache_of(folder: Path, number: int) -> Path:
    """Base scores are found in the cache where the n-th moment comes after their computation."""
    cold = list(MOMENTS)[number][1] == "score_variants"
    return folder / (f"cache {number}" if cold else "cache")


def die_at_calls(folder: Path) -> None:
    """Run in a process of its own: the toy row is run once for each moment, and killed there."""
    row = prepare_toys(folder)
    for number, moment in enumerate(MOMENTS):
        if os.fork() == 0:
            os.environ["META_SPLICEAI_CACHE"] = str(cache_of(folder, number))
            die_at_call(*moment)
            run_experiment(row, Workspace(folder / str(number)), "cpu", rows={row.id: row})
            os._exit(1)
        expect_killed(str(moment))


def metrics(path: Path) -> dict[str, Any]:
    return json.loads((path / "metrics.json").read_text(encoding="utf-8"))


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")


@pytest.mark.slow
@needs_fork
def test_a_killed_run_resumes_to_the_metrics_of_an_unbroken_one(
    toy_row: ExperimentSpec, unbroken: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_apart(__name__, "die_at_calls", tmp_path)
    for number, (moment, epochs_left) in enumerate(MOMENTS.items()):
        monkeypatch.setenv("META_SPLICEAI_CACHE", str(cache_of(tmp_path, number)))
        workspace = Workspace(tmp_path / str(number))
        (run,) = workspace.runs()
        assert run.state() == "interrupted", moment
        assert "killed" in run.reason(), moment
        callback = Silent()
        outcome = run_experiment(toy_row, workspace, "cpu", resume=True, rows={toy_row.id: toy_row}, callback=callback)
        # Begun anew it would end with the same metrics: what counts is that epochs that were done are not trained
        # again.
        assert [kind for kind, _ in callback.facts].count("epoch") == epochs_left, moment
        assert outcome.run is not None
        assert outcome.run.path == run.path
        assert outcome.run.state() == "finished"
        assert metrics(outcome.run.path) == unbroken, moment
        assert len(workspace.ledger.finished()) == 1


MOMENTS_OF_TRAINING = 12


def die(folder: Path) -> None:
    """Run in a process of its own: the toy row is trained, and killed at moments within its training."""
    row = prepare_toys(folder)
    fit = procedures.fit

    def work(number: int, lines: Lines) -> None:
        def followed(*arguments: Any, **options: Any) -> Any:
            with lines.followed():
                return fit(*arguments, **options)

        procedures.fit = followed
        run_experiment(row, Workspace(folder / str(number)), "cpu", rows={row.id: row})

    die_at_moments(work, {str(module.__file__) for module in (training, files)}, MOMENTS_OF_TRAINING)


@pytest.mark.slow
@needs_fork
def test_training_killed_at_any_moment_resumes_to_the_metrics_of_an_unbroken_one(
    toy_row: ExperimentSpec, unbroken: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = killed_in(__name__, tmp_path)
    assert len(places) == MOMENTS_OF_TRAINING
    assert len(set(places)) > MOMENTS_OF_TRAINING // 2
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    trained = []
    for number, place in enumerate(places, start=1):
        workspace = Workspace(tmp_path / str(number))
        assert workspace.runs()[0].state() == "interrupted", place
        callback = Silent()
        outcome = run_experiment(toy_row, workspace, "cpu", resume=True, rows={toy_row.id: toy_row}, callback=callback)
        assert outcome.run is not None
        assert metrics(outcome.run.path) == unbroken, place
        assert not list(outcome.run.path.rglob(f"*{files.TEMPORARY}")), place
        trained.append([kind for kind, _ in callback.facts].count("epoch"))
    # Epochs that were done are not trained again: the later the moment, the fewer are left.
    assert trained == sorted(trained, reverse=True)
    assert trained[0] == EPOCHS
    assert trained[-1] <= 1


def test_a_run_that_a_living_process_works_on_is_running(toy_row: ExperimentSpec, workspace: Workspace) -> None:
    run = workspace.run("toy-row-0123456789ab")
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from meta_spliceai.experiments.store.workspace import RunDirectory\n"
        "run = RunDirectory(Path(sys.argv[1]))\n"
        "with run.taken():\n    run.mark('running')\n    print('taken', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "taken\n"
    assert run.state() == "running"
    holder.kill()
    holder.wait(timeout=10)
    deadline = time.monotonic() + 5
    while run.state() == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.state() == "interrupted"
