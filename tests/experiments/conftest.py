"""A whole bench in miniature: a toy genome with measured variants, a toy base network, and rows that use them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from meta_spliceai import resources
from meta_spliceai.datasets import registry
from meta_spliceai.datasets.registry import DataSet, Loaded
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import change, load_rows
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.base_layer import families
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel, SpliceAINetwork, Stage
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.variants.table import (
    LOW_FREQUENCY,
    NORMAL,
    SPLICE_ALTERING,
    Coverage,
    as_variant_table,
)
from tests.experiments.silent import Silent

EXONS = 24
VARIANTS_AN_EXON = 10


def toy_label(effect: float) -> str:
    """Splice-altering below -1, Normal above -0.3, Low-frequency between."""
    return SPLICE_ALTERING if effect < -1 else NORMAL if effect > -0.3 else LOW_FREQUENCY


def load_toy() -> Loaded:
    """24 exons of 60 bases on two chromosomes, ten substitutions each, worse the nearer to a site."""
    random = np.random.default_rng(7)
    contigs = {name: "".join(random.choice(list("ACGT"), 4000)) for name in ("chr1", "chr2")}
    rows = []
    for exon in range(EXONS):
        chrom = f"chr{1 + exon % 2}"
        start = 200 + 150 * exon
        for at in sorted(random.choice(60, VARIANTS_AN_EXON, replace=False)):
            pos = start + int(at)
            ref = contigs[chrom][pos - 1]
            near = min(at, 59 - at)
            effect = -2.0 * np.exp(-near / 6) + 0.15 * random.standard_normal()
            alt = random.choice([base for base in "ACGT" if base != ref])
            rows.append(
                {
                    "variant_id": f"{chrom}:{pos}{ref}>{alt}",
                    "chrom": chrom,
                    "pos": pos,
                    "ref": ref,
                    "alt": alt,
                    "strand": "+" if exon % 3 else "-",
                    "gene": "",
                    "classification": toy_label(effect),
                    "effect": effect,
                    "source": "toy",
                    "method": "made up",
                    "group": f"exon-{exon:02d}",
                    "acceptor_pos": start if exon % 3 else start + 59,
                    "donor_pos": start + 59 if exon % 3 else start,
                }
            )
    table = as_variant_table(pd.DataFrame(rows), "toy")
    genome = MemoryGenome(contigs, "toy build", "toy genome")
    return Loaded(table, Coverage(len(table)), genome, None, registry.get("toy"), {})


def toy_network(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    """One random network that sees 12 bases to either side."""
    torch.manual_seed(3)
    network = SpliceAINetwork(Architecture((Stage(1, 5, 1), Stage(1, 5, 2)), channels=4))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    return BaseModel("toy", (network,), licence="none needed", citation="built in code")


def install_toy_bench() -> None:
    """Make the toy data set and the toy base network known, once in a process."""
    if "toy" in registry.names():
        return
    resources.register(
        resources.Resource(
            name="toy", title="Toy", source="built in code", licence="none needed", citation="nobody", files=()
        )
    )
    registry.register(
        DataSet(
            name="toy",
            title="Toy variants",
            resource="toy",
            build="toy build",
            rows=EXONS * VARIANTS_AN_EXON,
            effect="made up; negative = less",
            label_rule=toy_label,
            loader=load_toy,
        )
    )
    families.FAMILIES["toy"] = toy_network


TOY_ROW = {
    "id": "toy-row",
    "title": "A toy row",
    "section": "Toys",
    "wish": {"what": "toys", "vram_gb": 1, "hours": [1, 2], "priority": "low"},
    "data": {"name": "toy"},
    "base": {"name": "toy", "distance": 60},
    "window": 41,
    "encoder": {"name": "simple-cnn", "settings": {"hidden_dim": 8, "layers": 3}},
    "split": {"name": "group", "fractions": [0.5, 0.2, 0.3]},
    "training": {"epochs": 3, "batch_size": 32, "patience": 0},
    "bootstrap": 50,
    "evidence": "none",
}


@pytest.fixture(scope="session", autouse=True)
def _toy_bench() -> Iterator[None]:
    install_toy_bench()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def toy_values() -> dict[str, Any]:
    """The toy row as plain values."""
    return TOY_ROW


@pytest.fixture
def toy_row() -> ExperimentSpec:
    """A row that runs in a second."""
    return parse_spec(TOY_ROW, "test")


@pytest.fixture(scope="session")
def packaged_rows() -> dict[str, ExperimentSpec]:
    """The packaged catalogue, read once."""
    return load_rows(own=None)


@pytest.fixture
def catalogue(packaged_rows: dict[str, ExperimentSpec], toy_row: ExperimentSpec) -> dict[str, ExperimentSpec]:
    """The packaged catalogue and the toy row."""
    return {**packaged_rows, toy_row.id: toy_row}


@pytest.fixture(scope="session")
def toy_runs(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The toy row, run once as the catalogue has it and disturbed by nobody; to be read, not changed."""
    row = parse_spec(TOY_ROW, "test")
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("META_SPLICEAI_CACHE", str(folder / "cache"))
        run_experiment(row, Workspace(folder / "runs"), "cpu", rows={**load_rows(own=None), row.id: row})
    return Workspace(folder / "runs")


@pytest.fixture(scope="session")
def toy_cache(toy_runs: Workspace) -> Path:
    """The toys' base scores and baselines, which take four times as long as all else in a run; to be copied."""
    return toy_runs.root.parent / "cache"


@pytest.fixture(scope="session")
def folded(tmp_path_factory: pytest.TempPathFactory, toy_cache: Path) -> RunDirectory:
    """The toy row as a cross-validation of three folds, run once; to be read, not changed."""
    row = change(parse_spec(TOY_ROW, "test"), ["split.folds=3"])
    folder = tmp_path_factory.mktemp("folded")
    shutil.copytree(toy_cache, folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("META_SPLICEAI_CACHE", str(folder / "cache"))
        run = run_experiment(row, Workspace(folder / "runs"), "cpu", rows={row.id: row}).run
    assert run is not None
    return run


@pytest.fixture
def workspace(tmp_path: Path, toy_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty folder of runs, with a cache of its own that holds the toys' base scores."""
    shutil.copytree(toy_cache, tmp_path / "cache", dirs_exist_ok=True)
    monkeypatch.setitem(os.environ, "META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    return Workspace(tmp_path / "runs")


@pytest.fixture
def cold_workspace(workspace: Workspace, tmp_path: Path) -> Workspace:
    """An empty folder of runs, with an empty cache: base scores have to be computed."""
    shutil.rmtree(tmp_path / "cache")
    return workspace


@pytest.fixture(scope="session")
def unbroken(toy_runs: Workspace) -> dict[str, Any]:
    """Metrics of the toy row's run that nobody disturbed."""
    (run,) = toy_runs.runs()
    return run.metrics()


class Heard:
    """A screen that keeps what each row says."""

    def __init__(self) -> None:
        self.rows: dict[str, Silent] = {}
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keep a line of the queue."""
        self.lines.append(line)

    def row(self, label: str) -> Silent:
        """The callback of a row."""
        return self.rows.setdefault(label, Silent())


@pytest.fixture
def heard() -> Heard:
    """A screen that keeps what each row says."""
    return Heard()
