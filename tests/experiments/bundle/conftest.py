"""Rows on the toy data set, packed so that only stretches of its genome travel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meta_spliceai.experiments.bundle import make
from meta_spliceai.experiments.bundle.make import make_bundle
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from tests.experiments.silent import Silent


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has its own cache and mirror."""
    monkeypatch.setenv("META_SPLICEAI_MIRROR", os.environ.get("META_SPLICEAI_MIRROR", ""))
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def _stretches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy contigs are short; here they are long ones, of which stretches are kept."""
    monkeypatch.setattr(make, "WHOLE_CONTIG", 100)
    monkeypatch.setattr(make, "SLACK", 8)


@pytest.fixture
def rows(toy_row: ExperimentSpec, _stretches_only: None) -> dict[str, ExperimentSpec]:
    """The toy row, one with a wider window, and their ensemble."""
    wide = toy_row.model_copy(update={"id": "toy-wide", "window": 61})
    pair = ExperimentSpec.model_validate(
        {
            **toy_row.model_dump(mode="json"),
            "id": "toy-pair",
            "ensemble": {"members": ["toy-row", "toy-wide"], "combine": "mean"},
        }
    )
    return {row.id: row for row in (toy_row, wide, pair)}


@pytest.fixture
def bundle(rows: dict[str, ExperimentSpec], tmp_path: Path) -> Path:
    """A bundle of the ensemble; its members come along."""
    make_bundle([rows["toy-pair"]], rows, tmp_path / "toy.zip", Silent())
    return tmp_path / "toy.zip"
