"""What a row lacks on this machine is said with what brings it, and that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meta_spliceai.experiments.spec import parts
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.parts import lacking
from meta_spliceai.experiments.spec.rows import as_smoke, at_scale, load_rows
from tests.conftest import RunCli

ROWS = load_rows(own=None)
WISHED = [spec for spec in ROWS.values() if spec.wish is not None]
PRETRAINED = {
    "hyenadna-small-validated-delta", "hyenadna-small-quantile", "hyenadna-medium-validated-delta",
    "hyenadna-large-finetune", "hyenadna-10k-context", "hyenadna-cv5", "cnn-hyenadna-ensemble",
}  # fmt: skip


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing but the package: no mirror, no network, an empty cache of the hub, no package that carries networks."""
    monkeypatch.delenv("META_SPLICEAI_MIRROR", raising=False)
    monkeypatch.setenv("META_SPLICEAI_OFFLINE", "1")
    monkeypatch.setattr(parts, "folder_at_hand", lambda name, revision=None: None)
    monkeypatch.setattr(parts, "package_at_hand", lambda distribution, paths: False)


def changed(row_id: str, **blocks: dict[str, object]) -> ExperimentSpec:
    values = ROWS[row_id].model_dump(mode="json")
    for block, fields in blocks.items():
        values[block] = {**values[block], **fields}
    return parse_spec(values, "test")


def test_every_row_without_published_weights_starts_on_a_bare_machine() -> None:
    assert len(WISHED) == 21
    assert {spec.id for spec in WISHED if lacking(spec, ROWS)} == PRETRAINED


def test_weights_of_the_hub_can_be_downloaded_with_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("META_SPLICEAI_OFFLINE")
    assert [spec.id for spec in WISHED if lacking(spec, ROWS)] == []
    monkeypatch.setattr(parts.importlib.util, "find_spec", lambda name: None)
    (line,) = lacking(ROWS["hyenadna-small-quantile"], ROWS)
    assert "pip install 'huggingface-hub>=0.26' (the extra 'hyena'); or run it with those in the package" in line


def test_every_row_starts_on_a_bare_machine_at_laptop_scale() -> None:
    assert {spec.id for spec in WISHED if lacking(at_scale(spec, "laptop"), ROWS)} == set()


def test_what_it_says_for_weights_works() -> None:
    (line,) = lacking(ROWS["hyenadna-small-quantile"], ROWS)
    found = re.search(r"--set encoder\.settings\.(\w+)=(\w+)$", line)
    assert found is not None
    settings = {**ROWS["hyenadna-small-quantile"].encoder.settings, found[1]: found[2]}
    assert lacking(changed("hyenadna-small-quantile", encoder={"settings": settings}), ROWS) == []
    (member,) = lacking(ROWS["cnn-hyenadna-ensemble"], ROWS)
    assert "scratch" not in member  # the ensemble takes its members as they stand in the catalogue


def test_an_ensemble_in_miniature_lacks_no_weights_and_one_whose_members_were_run_neither() -> None:
    assert lacking(as_smoke(ROWS["cnn-hyenadna-ensemble"]), ROWS) == []
    assert lacking(ROWS["cnn-hyenadna-ensemble"], ROWS, {"hyenadna-small-validated-delta"}) == []


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"data": {"name": "mfass"}}, "data set mfass on this machine: meta-spliceai data get mfass"),
        ({"data": {"name": "mfass", "options": {"path": "x"}}}, "meta-spliceai data get grch38"),
        ({"data": {"name": "splicevardb"}}, "--set data.options.path=FILE"),
        ({"base": {"name": "spliceai"}}, "'spliceai>=1.3.1' (the extra 'quickstart')"),
        ({"base": {"distance": 60}}, "pip install 'cispliceai>=1.2.2' (the extra 'cispliceai')"),
        ({"base": {"members": [0]}}, "pip install 'cispliceai>=1.2.2'"),
        ({"base": {"name": "pangolin"}}, "unset META_SPLICEAI_OFFLINE"),
    ],
)
def test_other_data_and_networks_are_missed(blocks: dict[str, dict[str, object]], words: str) -> None:
    lines = lacking(changed("validated-delta-10k", **blocks), ROWS)
    assert any(words in line for line in lines), lines


def test_the_wishlist_says_what_is_missing_and_counts_what_would_start(run_cli: RunCli, tmp_path: Path) -> None:
    code, out, _ = run_cli(["wishlist", "--runs-dir", str(tmp_path)])
    assert code == 0
    assert "21 rows: 7 wished, 14 runnable, 0 completed" in " ".join(out.split())
    assert "no weights of hyenadna-large-1m on this machine: unset META_SPLICEAI_OFFLINE" in out
