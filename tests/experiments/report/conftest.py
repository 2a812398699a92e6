"""A folder of runs made in code: two evaluated models on a small saturation screen, as the bench writes them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.experiments.run.prepare import digest_of_test
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer
from meta_spliceai.splice_engine.variants.table import Coverage

from .browser import Browser, find_chromium

BASES = "ACGT"
EXON_SEED = 20181123


def screen(backgrounds: str = "AB", sites: int = 40, doubles: bool = True) -> pd.DataFrame:
    """All single and (for neighbouring sites) double substitutions of a random exon, with invented effects."""
    rng = np.random.default_rng(EXON_SEED)
    exon = rng.integers(0, 4, sites)
    weight = rng.normal(0, 0.55, (sites, 4)) - 0.15
    weight[5:9] -= 0.7
    weight[sites - 3 :] -= 1.0
    rows: list[dict[str, Any]] = []
    for background in backgrounds:
        own = exon.copy()
        own[10:16] = rng.integers(0, 4, 6)
        shift = rng.normal(0, 0.12, (sites, 4))
        for site in range(sites):
            for length in (1, 2) if doubles and site + 1 < sites else (1,):
                ref = own[site : site + length]
                for code in range(4**length):
                    alt = np.array([code // 4, code % 4][-length:])
                    if (alt == ref).any():
                        continue
                    effect = sum(weight[site + i, base] + shift[site + i, base] for i, base in enumerate(alt))
                    name = "".join(BASES[b] for b in ref), "".join(BASES[b] for b in alt)
                    rows.append(
                        {
                            "variant_id": f"{background}:{site + 1}{name[0]}>{name[1]}",
                            "chrom": f"WT1e5-{background}",
                            "pos": 6000 + site,
                            "ref": name[0],
                            "alt": name[1],
                            "strand": "+",
                            "background": background,
                            "site": site + 1,
                            "sites_mutated": length,
                            "group": f"block {site // 2}",
                            "effect": float(effect + rng.normal(0, 0.25)),
                        }
                    )
    frame = pd.DataFrame(rows)
    frame["classification"] = np.select(
        [frame["effect"] < -1.0, frame["effect"].abs() < 0.35], ["Splice-altering", "Normal"], "Low-frequency"
    )
    block = frame["site"].sub(1).floordiv(2)
    frame["part"] = np.select([block % 4 == 1, block % 4 == 3], ["test", "validation"], "train")
    return frame


def predictions(frame: pd.DataFrame, learned: str, skill: float, seed: int) -> pd.DataFrame:
    """The screen with the columns of two baselines, the base network twice and one learned model."""
    rng = np.random.default_rng(seed)
    table = frame.copy()
    effect = table["effect"].to_numpy()

    def noisy(share: float) -> np.ndarray:
        return np.tanh(0.35 * (share * effect + (1 - share) * rng.normal(0, 1.0, len(effect))))

    position = np.abs(table["site"].to_numpy() - 20) / 20
    table["target"] = np.where(table["classification"] == "Splice-altering", np.abs(np.tanh(effect)), np.nan)
    table.loc[table["classification"] == "Normal", "target"] = 0.0
    shared = np.random.default_rng(1)
    columns = {"position only": (position + shared.normal(0, 0.2, len(position)), None)}
    for name, share in (("base max_window", 0.55), ("base own_site", 0.62)):
        signed = np.tanh(0.35 * (share * effect + (1 - share) * shared.normal(0, 1.0, len(effect))))
        columns[name] = (np.abs(signed), signed)
    signed = noisy(skill)
    columns[learned] = (np.abs(signed), signed)
    for name, (score, direction) in columns.items():
        table[f"{name}.score"] = score
        table[f"{name}.signed"] = np.nan if direction is None else direction
    return table


def write_run(
    workspace: Workspace, row: str, title: str, skill: float, *, frame: pd.DataFrame, state: str = "finished"
) -> RunDirectory:
    """One run directory with every file that the bench writes."""
    run = workspace.run(f"{row}-0123456789ab")
    run.path.mkdir(parents=True)
    table = predictions(frame, row, skill, seed=len(row))
    scorers = [
        Scorer("position only", "baseline", "the site, without its sequence", scale="rank"),
        Scorer("base max_window", "base", "largest |Δ| within 50 bases"),
        Scorer("base own_site", "base", "Δ at the exon's own two sites"),
        Scorer(row, "learned", f"{title}, 101 bases"),
    ]
    evaluated = evaluate(table[table["part"] == "test"], scorers, n_boot=200)
    account = Coverage(len(frame) + 12)
    account.leave_out("straddles a block border", [f"row {i}" for i in range(12)])
    run.write_yaml(
        "spec.yaml",
        {"id": row, "title": title, "section": "Quickstart", "data": {"name": "wt1-exon5"}, "window": 101,
         "training": {"epochs": 30, "learning_rate": 0.001, "seed": 7}},
    )  # fmt: skip
    run.write_json("environment.json", {"python": "3.11.9", "cpu": "two cores", "packages": {"torch": "2.6"}})
    run.write_json(
        "data.json",
        {
            "data_set": "wt1-exon5",
            "title": "Saturation mutagenesis of WT1 exon 5",
            "licence": "none stated",
            "citation": "Ke et al. 2018, 10.1101/gr.219683.116",
            "label_rule": "Splice-altering: relative inclusion below a half; Normal: within a fifth of the wild type.",
            "coverage": account.to_json(),
            "effect_label": "log2 relative inclusion; negative = less",
            "options": {"context": "construct"},
            "window": {"length": 101},
            "base": {"name": "spliceai", "networks": 5, "distance": 50},
            "split": {"name": "position-blocks", "description": "Blocks of two neighbouring sites go to one part."},
        },
    )
    epochs = np.arange(1, 25)
    run.write_frame(
        "curves.parquet",
        pd.DataFrame(
            {
                "epoch": epochs,
                "train_loss": 0.09 * np.exp(-epochs / 6) + 0.012,
                "val_loss": 0.08 * np.exp(-epochs / 5) + 0.018 + 0.0004 * np.maximum(epochs - 12, 0),
            }
        ),
    )
    run.write_frame("predictions.parquet", table)
    run.write_json("metrics.json", evaluated.to_json())
    run.mark(
        state,
        row=row,
        title=title,
        seconds=83.4 if row != "wt1-simple-cnn" else 7.0,
        peak_memory_bytes=712_000_000,
        dollars=0.25 if row != "wt1-simple-cnn" else None,
        device="cpu",
        seed=7,
        started="2026-01-05T09:58:36+00:00",
        finished="2026-01-05T10:00:00+00:00",
        licences=[{"name": "SpliceAI networks", "licence": "CC BY-NC 4.0", "citation": "Jaganathan et al. 2019"}],
        notes=["a subset: 1,000 of 5,560 variants, drawn with seed 7"],
    )
    if state == "finished":
        workspace.ledger.append(
            {"event": "finished", "run": run.name, "row": row, "at": "2026-01-05T10:00:00+00:00",
             "test": {"digest": digest_of_test(table[table["part"] == "test"], "wt1-exon5"),
                      "rows": 90, "positives": 30, "groups": 6},
             "data": {"name": "wt1-exon5"}, "split": {"name": "position-blocks", "folds": None}, "seconds": 83.4,
             "notes": ["a subset: 1,000 of 5,560 variants, drawn with seed 7"], "peak_memory_bytes": 712_000_000,
             "verdicts": [verdict.text for verdict in evaluated.verdicts()], "smoke": False}
        )  # fmt: skip
    return run


@pytest.fixture(scope="session")
def small_screen() -> pd.DataFrame:
    """Two backgrounds of twenty-four sites: enough for every plot, quick to evaluate."""
    return screen("AB", 24)


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory, small_screen: pd.DataFrame) -> Path:
    """Two finished runs on the same test; not to be changed."""
    place = Workspace(tmp_path_factory.mktemp("finished") / "runs")
    write_run(place, "wt1-validated-delta", "ValidatedDelta", 0.8, frame=small_screen)
    write_run(place, "wt1-simple-cnn", "SimpleCNN", 0.6, frame=small_screen)
    return place.root


@pytest.fixture
def workspace(tmp_path: Path, finished_runs: Path) -> Workspace:
    """A copy of the two finished runs."""
    return Workspace(Path(shutil.copytree(finished_runs, tmp_path / "runs")))


@pytest.fixture(scope="module")
def command() -> str:
    """The browser's command; without one the tests that need it are skipped."""
    found = find_chromium()
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def browser(command: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One headless browser for all tests of a file."""
    with Browser(command, tmp_path_factory.mktemp("profile")) as started:
        yield started


STRATUM = {
    "stratification": "region",
    "stratum": "exon",
    "metric": "auprc",
    "n": 90,
    "n_positive": 30,
    "prevalence": 0.33,
}
