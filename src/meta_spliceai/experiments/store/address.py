"""The address of a run, a hash of everything that determines its result; stale runs, whose inputs have changed since;
and the machine and software used for a run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from types import MappingProxyType
from typing import Any

import meta_spliceai
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.files import sha256_file
from meta_spliceai.resources.resolve import shipped_encoders

HASH_LETTERS = 12

STAGES = MappingProxyType({"data": 1, "scoring": 1, "training": 2, "evaluation": 1})
"""Versions of the stages that decide a result. Raise a stage's number by hand when its code gives other numbers than
before for the same specification and data: every run made with the old number is then stale.

`tests/experiments/test_golden_results.py` holds what each stage gives; a change that makes it fail either has a defect
or needs a higher number here and new golden results."""

PACKAGES = (
    "meta-spliceai",
    "torch",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "seqleak",
    "pysam",
    "spliceai",
    "frame-alignment-checks",
)


def code_version() -> str:
    """The stages' versions as one string, such as `data-1.scoring-1.training-1.evaluation-1`."""
    return ".".join(f"{stage}-{version}" for stage, version in STAGES.items())


def source_state() -> str:
    """A hash of names, sizes and times of the package's source files: for caches that only this installation reads."""
    root = Path(meta_spliceai.__file__).parent
    total = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        state = file.stat()
        total.update(f"{file.relative_to(root)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return total.hexdigest()[:HASH_LETTERS]


def run_name(spec: ExperimentSpec, data_digest: str, code: str) -> str:
    facts = {"spec": spec.identity(), "data": data_digest, "code": code, **_own_files(spec)}
    whole = json.dumps(facts, sort_keys=True)
    return f"{spec.id}-{hashlib.sha256(whole.encode()).hexdigest()[:HASH_LETTERS]}"


def _own_files(spec: ExperimentSpec) -> dict[str, str]:
    """What is in the files that a row names: the folder of its encoder's weights, and other tools' scores. Nothing for
    a file that is not there (the run itself then says so)."""
    files: dict[str, Path] = {}
    if spec.fusion is not None:
        for text in spec.fusion.scores:
            path = Path(text.partition("=")[2])
            files[f"scores {text}"] = path if path.is_file() else Path(str(path).rpartition(":")[0])
    weights = spec.encoder.settings.get("weights")
    if isinstance(weights, str) and weights not in ("hub", "scratch"):
        packaged = shipped_encoders().get(spec.encoder.name) if weights == "packaged" else None
        folder = packaged or Path(weights).expanduser()
        whole = folder / "model.safetensors"
        files["encoder weights"] = whole if whole.is_file() else folder / "weights.ckpt"
    return {name: sha256_file(path) for name, path in files.items() if path.is_file()}


def mark_stale_runs(
    workspace: Workspace, spec: ExperimentSpec, data_digest: str, code: str
) -> list[tuple[RunDirectory, str]]:
    """Mark every finished run of this very specification that was made from other data or by other code, and return
    these with the reason in words.

    A run whose inputs are the current ones again (a file was put back) loses its mark. In a folder that may only be
    read nothing is marked.
    """
    identity = spec.identity()
    stale = []
    for run in workspace.own_runs():
        if run.row_id != spec.id or run.record().get("state") != "finished" or run.spec().identity() != identity:
            continue
        reasons = []
        if run.data()["digest"] != data_digest:
            reasons.append("the data set's content changed")
        if run.record()["code"] != code:
            reasons.append(f"the code changed from {run.record()['code']} to {code}")
        reason = " and ".join(reasons)
        if reason != run.stale() and os.access(run.path, os.W_OK):
            run.write_json("run.json", {**run.record(), "stale": reason})
        if reason:
            stale.append((run, reason))
    return stale


def describe_environment() -> dict[str, Any]:
    """Python, packages, processor, cores, memory, GPU, and the commit where the source is a git checkout."""
    import torch

    gpu = None
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        gpu = {"name": card.name, "memory_bytes": card.total_memory, "cuda": torch.version.cuda}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in os.sysconf_names else None
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: next((one.version for one in distributions(name=name)), None) for name in PACKAGES},
        "code": code_version(),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_bytes": pages,
        "gpu": gpu,
    }


def _commit() -> str | None:
    """Commit of the checkout the package is imported from, with `-dirty` where files differ; None elsewhere."""
    root = Path(meta_spliceai.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()
