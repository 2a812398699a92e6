"""benchmarks/gpu.py runs to its end, counts work, and leaves an entry in the ledger."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from meta_spliceai.experiments.store.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.quickstart
def test_the_tiny_form(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--quick"]
    command += ["--families", "spliceai", "--rows", "simple-cnn-101", "--into", str(tmp_path)]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "benchmarks" / "gpu-cpu-quick.json").read_text())
    work = {one["what"]: one["gflop_per_variant"] for one in report["scoring"]}
    # The incremental form does less, the more so where variants share a reference.
    assert 0 < work["dense"] < work["isolated"] < work["full"]
    assert report["rates"]["float32"] > 0
    assert report["rates"]["bfloat16"] is None
    (trained,) = report["training"]
    assert trained["windows_per_second"] < trained["limit_per_second"]
    alone, two = report["at_once"]
    assert (alone["processes"], two["processes"], alone["times_one_alone"]) == (1, 2, 1)
    assert two["times_one_alone"] == two["windows_per_second"] / alone["windows_per_second"]
    assert "| simple-cnn-101 | 2 |" in done.stdout
    assert report["left_out"] == []
    assert "no result" in done.stdout
    (entry,) = Workspace(tmp_path).ledger.entries()
    assert entry["event"] == "benchmark"


def test_nothing_begins_after_the_time(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--quick"]
    command += ["--time-limit", "0.001s", "--into", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "benchmarks" / "gpu-cpu-quick.json").read_text())
    assert report["scoring"] == []
    assert len(report["left_out"]) == 4 * 3 + 1 + 1
    assert "Not measured: several at once: the time was over" in done.stdout
    assert "Not measured: scoring spliceai dense: the time was over" in done.stdout


def test_processes_that_take_too_long_together_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = importlib.import_module("gpu")
    monkeypatch.setattr(gpu, "AT_ONCE_LIMIT", 0.0)
    found, left = gpu.measure_at_once(torch.device("cpu"), (1, 2), quick=True)
    assert found == []
    assert left == [f"simple-cnn-101, {count} at once: the 0 s for it were over" for count in (1, 2)]
    assert multiprocessing.active_children() == []
