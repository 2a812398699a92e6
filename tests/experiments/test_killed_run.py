"""SIGKILL at any moment costs at most the epoch that was running: the resumed run ends with the same metrics."""

from __future__ import annotations

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
from meta_spliceai.experiments.run import procedures
from meta_spliceai.experiments.run.callback import Silent
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.store.address import code_version
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.meta_layer import trainer, training
from tests.experiments.conftest import TOY_ROW, install_toy_bench
from tests.killed import Lines, die_at_moments, killed_in

CHILD = """
import importlib.util, os, signal, sys
from pathlib import Path

path, runs, moment, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
spec = importlib.util.spec_from_file_location("toy_bench", path)
toys = importlib.util.module_from_spec(spec)
sys.modules["toy_bench"] = toys
spec.loader.exec_module(toys)
toys.install_toy_bench()

import torch
torch.set_num_threads(1)
from meta_spliceai.experiments.store import address
from meta_spliceai.experiments.run import prepare
from meta_spliceai.experiments.run import procedures
from meta_spliceai.experiments.run import runner
from meta_spliceai.experiments.spec.experiment import parse_spec
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.meta_layer import training

seen = 0

def die_at(owner, name, before=False):
    original = getattr(owner, name)
    def wrapped(*arguments, **options):
        global seen
        if before:
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if not before:
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, wrapped)

owner, name, before = {
    "scoring": (prepare, "score_variants", True),
    "scored": (prepare, "score_variants", False),
    "batch": (training.Trainer, "batch_loss", False),
    "best weights": (training, "write_best", False),
    "epoch": (training, "write_last", False),
    "trained": (procedures, "fit", False),
    "evaluated": (runner, "evaluate_run", False),
    "metrics written": (runner, "record_result", True),
    "marking": (RunDirectory, "mark", True),
}[moment]
die_at(owner, name, before)
runner.code_version = address.code_version = lambda: sys.argv[5]
row = parse_spec(toys.TOY_ROW, "test")
runner.run_experiment(row, Workspace(runs), "cpu", rows={row.id: row})
"""

EPOCHS = 3
MOMENTS = [
    ("scoring", 1),
    ("scored", 1),
    ("batch", 1),
    ("batch", 6),
    ("best weights", 1),
    ("epoch", 1),
    ("epoch", 3),
    ("trained", 1),
    ("evaluated", 1),
    ("metrics written", 1),
    ("marking", 2),
]


EPOCHS_LEFT = (
    dict.fromkeys(MOMENTS, 0)
    | dict.fromkeys(MOMENTS[:3], EPOCHS)
    | {
        ("batch", 6): EPOCHS - 1,
        ("best weights", 1): EPOCHS,  # the weights are written before the epoch is
        ("epoch", 1): EPOCHS - 1,
    }
)
"""Epochs that the resumed run has to train."""


def run_and_be_killed(runs: Path, moment: str, count: int) -> None:
    toys = Path(__file__).with_name("conftest.py")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(toys), str(runs), moment, str(count), code_version()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, f"not killed at {moment} {count}: {done.stderr[-2000:]}"


def metrics(path: Path) -> dict[str, Any]:
    return json.loads((path / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "count"), MOMENTS, ids=[f"{moment}-{count}" for moment, count in MOMENTS])
def test_a_killed_run_resumes_to_the_metrics_of_an_unbroken_one(
    toy_row: ExperimentSpec, workspace: Workspace, unbroken: dict[str, Any], moment: str, count: int
) -> None:
    run_and_be_killed(workspace.root, moment, count)
    (run,) = workspace.runs()
    assert run.state() == "interrupted"
    assert "killed" in run.reason()
    callback = Silent()
    outcome = run_experiment(toy_row, workspace, "cpu", resume=True, rows={toy_row.id: toy_row}, callback=callback)
    # Begun anew it would end with the same metrics: what counts is that epochs that were done are not trained again.
    assert [kind for kind, _ in callback.facts].count("epoch") == EPOCHS_LEFT[moment, count]
    assert outcome.run is not None
    assert outcome.run.path == run.path
    assert outcome.run.state() == "finished"
    assert metrics(outcome.run.path) == unbroken
    assert len(workspace.ledger.finished()) == 1


MOMENTS_OF_TRAINING = 20


def die(folder: Path) -> None:
    """Run in a process of its own: the toy row is trained, and killed at moments within its training."""
    install_toy_bench()
    torch.set_num_threads(1)
    os.environ["META_SPLICEAI_CACHE"] = str(folder / "cache")
    row = parse_spec(TOY_ROW, "test")
    fit = procedures.fit

    def work(number: int, lines: Lines) -> None:
        def followed(*arguments: Any, **options: Any) -> Any:
            with lines.followed():
                return fit(*arguments, **options)

        procedures.fit = followed
        run_experiment(row, Workspace(folder / str(number)), "cpu", rows={row.id: row})

    die_at_moments(work, {str(module.__file__) for module in (training, trainer, files)}, MOMENTS_OF_TRAINING)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
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
