"""Cached scores are found by content, survive two writers, and are computed again where they are damaged."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.splice_engine.base_layer import scoring
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.scores import ScoreCache
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, decode

DISTANCE = 5


@pytest.fixture
def genome() -> MemoryGenome:
    return MemoryGenome({"c": np.random.default_rng(5).integers(0, 4, 700).astype(np.uint8)}, "toy", "toy")


@pytest.fixture
def table(genome: MemoryGenome) -> pd.DataFrame:
    rows = []
    for pos in range(330, 342):
        base = genome.fetch("c", pos - 1, pos)
        rows.append({"chrom": "c", "pos": pos, "ref": decode(base), "alt": decode((base + 1) % 4), "strand": "+"})
    return pd.DataFrame(rows).assign(gene="", variant_id=[f"v{row}" for row in range(len(rows))])


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many variants each call really computed."""
    counts: list[int] = []
    for name in ("_full", "_incremental"):
        original = getattr(scoring, name)

        def counting(genome: object, loci: list, *rest: object, original: object = original) -> object:
            counts.append(len(loci))
            return original(genome, loci, *rest)  # type: ignore[operator]

        monkeypatch.setattr(scoring, name, counting)
    return counts


def test_second_call_computes_nothing(
    table: pd.DataFrame, genome: MemoryGenome, toy_base_model: BaseModel, tmp_path: Path, computed: list[int]
) -> None:
    cache = ScoreCache(tmp_path)
    first = score_variants(table, genome, toy_base_model, DISTANCE, cache=cache)
    again = score_variants(table.iloc[::-1], genome, toy_base_model, DISTANCE, cache=ScoreCache(tmp_path))
    assert computed == [12]
    np.testing.assert_array_equal(again.alt[::-1], first.alt)
    np.testing.assert_array_equal(again.ref[::-1], first.ref)


def test_what_scores_depend_on_is_in_the_key(
    table: pd.DataFrame, genome: MemoryGenome, toy_base_model: BaseModel, tmp_path: Path, computed: list[int]
) -> None:
    cache = ScoreCache(tmp_path)
    score_variants(table, genome, toy_base_model, DISTANCE, cache=cache)
    score_variants(table, genome, toy_base_model, DISTANCE + 1, cache=cache)
    score_variants(table.assign(strand="-"), genome, toy_base_model, DISTANCE, cache=cache)
    one = BaseModel("toy", toy_base_model.networks[:1], "", "")
    score_variants(table, genome, one, DISTANCE, cache=cache)
    codes = genome.fetch("c", 0, 700)
    codes[330 - 1 - DISTANCE - toy_base_model.flank] ^= 1  # seen by the first variant only, at its window's edge
    score_variants(table, MemoryGenome({"c": codes}, "toy", "toy"), toy_base_model, DISTANCE, cache=cache)
    assert computed == [12, 12, 12, 12, 1]


@pytest.mark.parametrize("damage", ["cut", "flip a score", "flip a key", "flip the head", "empty"])
def test_damaged_block_is_noticed_and_computed_again(
    table: pd.DataFrame,
    genome: MemoryGenome,
    toy_base_model: BaseModel,
    tmp_path: Path,
    computed: list[int],
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = score_variants(table, genome, toy_base_model, DISTANCE, cache=ScoreCache(tmp_path))
    (block,) = tmp_path.glob("*.npz")
    data = bytearray(block.read_bytes())
    if damage == "cut":
        data = data[:-7]
    elif damage == "empty":
        data = bytearray()
    else:
        at = {"flip a score": len(data) // 2, "flip a key": data.index(b"keys.npy") + 200, "flip the head": 1}[damage]
        data[at] ^= 4
    block.write_bytes(data)
    cache = ScoreCache(tmp_path)
    again = score_variants(table, genome, toy_base_model, DISTANCE, cache=cache)
    np.testing.assert_allclose(again.alt, first.alt, atol=1e-5)
    assert cache.damaged == 1
    assert "computed again" in caplog.text
    assert computed == [12, 12]
    healed = ScoreCache(tmp_path)
    score_variants(table, genome, toy_base_model, DISTANCE, cache=healed)
    assert healed.damaged == 0


def test_torn_write_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ScoreCache(tmp_path)
    values = np.ones((1, 3, 3), np.float32)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        cache.write([b"k" * 32], values, values, "d" * 64, 1)
    assert cache.read([b"k" * 32], "d" * 64, 1) == {}
    assert list(tmp_path.glob("*.npz")) == []


def _write_many(folder: Path, first: int) -> None:
    cache = ScoreCache(folder)
    for number in range(first, first + 40):
        key = number.to_bytes(32, "big")
        values = np.full((1, 3, 3), number, np.float32)
        cache.write([key], values, -values, "d" * 64, 1)
        assert set(cache.read([key], "d" * 64, 1)) == {key}


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_many, args=(tmp_path, first)) for first in (0, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    keys = [number.to_bytes(32, "big") for number in range(60)]
    cache = ScoreCache(tmp_path)
    found = cache.read(keys, "d" * 64, 1)
    assert cache.damaged == 0
    assert [float(found[key][0][0, 0]) for key in keys] == list(range(60))
    assert [float(found[key][1][0, 0]) for key in keys] == [-n for n in range(60)]
