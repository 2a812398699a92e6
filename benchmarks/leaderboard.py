#!/usr/bin/env python3
"""How long `leaderboard` takes in a folder of many runs: when nothing was read yet, again, and after one run more.

    python benchmarks/leaderboard.py [--runs 5000] [--repeats 3]

Makes toy records in a temporary folder: ledger, run.json, data.json and metrics.json as large as those of real runs (80
metrics and 256 differences of 5 scorers), for 20 rows on one test. Prints one JSON object: processor seconds, user and
system (the best of the repeats where nothing has changed), and the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SCORERS = {
    "position alone": "baseline",
    "k-mers + position": "baseline",
    "base max_window": "base",
    "base own_site": "base",
}
METRICS = ("auprc", "auroc", "spearman_effect", "pearson_effect", "pearson_validated_delta", "detection_rate_at_fpr_5")
OTHERS = tuple(f"precision_{n}" for n in range(10))


def make_run(folder: Path, number: int, draw: random.Random) -> dict[str, Any]:
    """Write one finished run; its line of the ledger."""
    row = f"toy-{number % 20}"
    name = f"{row}-{number:012x}"
    scorers = {**SCORERS, row: "learned"}

    def value() -> dict[str, Any]:
        middle = draw.random()
        return {"estimate": middle, "low": middle - 0.05, "high": middle + 0.05, "undefined_resamples": 0, "reason": ""}

    sizes = {"n": 20_000, "n_positive": 900, "n_groups": 1400, "prevalence": 0.045, "n_seeds": 1, "seed_sd": None}
    metrics = [
        {"scorer": scorer, "kind": kind, "metric": metric, **value(), **sizes}
        for scorer, kind in scorers.items()
        for metric in (*METRICS, *OTHERS)
    ]
    differences = [
        {"scorer": scorer, "reference": rival, "metric": metric, **value()}
        for scorer in scorers
        for rival in SCORERS
        if rival != scorer
        for metric in (*METRICS, *OTHERS)
    ]
    run = folder / name
    run.mkdir()
    evaluated = {"scorers": [], "metrics": metrics, "differences": differences, "settings": {}}
    (run / "metrics.json").write_text(json.dumps(evaluated))
    (run / "data.json").write_text(json.dumps({"base": {"name": "toy"}, "coverage": {"read": 20_000, "left_out": {}}}))
    (run / "run.json").write_text(json.dumps({"state": "finished", "row": row}))
    return {
        "at": f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}+00:00",
        "event": "finished", "run": name, "row": row, "smoke": False, "seed": number,
        "data": {"name": "toys"}, "seconds": 60.0,
        "peak_memory_bytes": 10**9, "dollars": None, "notes": [], "verdicts": ["beats position alone: by a toy"],
        "test": {"digest": "toy", "rows": 20_000, "positives": 900, "groups": 1400},
        "split": {"name": "gene", "folds": 5},
        "metrics": [record for record in metrics if record["metric"] in METRICS], "folds": metrics[:40],
    }  # fmt: skip


def processor_seconds(command: list[str]) -> float:
    """User and system seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    runs, repeats = given.runs, given.repeats
    draw = random.Random(0)  # noqa: S311 - toy numbers
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "ledger.jsonl").open("w") as ledger:
            for number in range(runs):
                ledger.write(json.dumps(make_run(folder, number, draw)) + "\n")
        megabytes = (folder / "ledger.jsonl").stat().st_size / 1e6
        command = [sys.executable, "-m", "meta_spliceai", "leaderboard", "--runs-dir", name]
        seconds = {
            "for the first time": processor_seconds([*command, "--json"]),
            "again, as JSON": min(processor_seconds([*command, "--json"]) for _ in range(repeats)),
            "again, as a table": min(processor_seconds(command) for _ in range(repeats)),
        }
        with (folder / "ledger.jsonl").open("a") as ledger:
            ledger.write(json.dumps(make_run(folder, runs, draw)) + "\n")
        seconds["after one run more"] = processor_seconds([*command, "--json"])
        kept = sum(file.stat().st_size for file in (folder / "tables").iterdir()) / 1e6
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    sizes = {"ledger_megabytes": round(megabytes), "tables_megabytes": round(kept, 1)}
    cpu = {what: round(took, 2) for what, took in seconds.items()}
    print(json.dumps({"runs": runs, "repeats": repeats, **sizes, "cpu_seconds": cpu, **machine}))


if __name__ == "__main__":
    main()
