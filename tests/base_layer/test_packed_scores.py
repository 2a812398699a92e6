"""Packed base scores come out bit for bit, or rounded as asked for, under their keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.scores import Entry, ScoreCache, unpack_scores, write_packed_scores

DIGEST = "ab" * 32


def entries(count: int, channels: int = 3) -> dict[bytes, Entry]:
    random = np.random.default_rng(2)
    found = {}
    for _ in range(count):
        ref = random.random((11, channels), dtype=np.float32)
        alt = ref.copy()
        alt[5:] = np.float32([0.0, -0.0, 1e-42])[:1]
        found[random.bytes(32)] = Entry(ref, alt)
    return found


@pytest.mark.parametrize("channels", [3, 12])
def test_bit_for_bit(tmp_path: Path, channels: int) -> None:
    wanted = entries(7, channels)
    write_packed_scores(wanted, DIGEST, 5, tmp_path / "scores.npz")
    cache = ScoreCache(tmp_path / "cache")
    assert unpack_scores(tmp_path / "scores.npz", cache) == 7
    found = cache.read(list(wanted), DIGEST, 5)
    assert found.keys() == wanted.keys()
    for key, (ref, alt, _) in wanted.items():
        assert found[key].ref.tobytes() == ref.tobytes()
        assert found[key].alt.tobytes() == alt.tobytes()
        assert found[key].digits is None


@pytest.mark.parametrize("digits", [3, 5, 7])
def test_rounded_scores_are_as_near_as_they_say_and_say_so(tmp_path: Path, digits: int) -> None:
    wanted = entries(2_000)  # more than are packed at a time
    write_packed_scores(wanted, DIGEST, 5, tmp_path / "scores.npz", digits)
    cache = ScoreCache(tmp_path / "cache")
    assert unpack_scores(tmp_path / "scores.npz", cache) == 2_000
    found = cache.read(list(wanted), DIGEST, 5)
    assert found.keys() == wanted.keys()
    largest = 0.0
    for key, (ref, alt, _) in wanted.items():
        assert found[key].digits == digits
        change = (found[key].alt - found[key].ref) - (alt - ref)
        largest = max(largest, float(np.abs(change).max()))
        assert np.abs(found[key].ref - ref).max() <= 0.5 * 10.0**-digits + 1e-7
    assert 0.1 * 10.0**-digits < largest <= 10.0**-digits + 2e-7


def test_rounding_takes_less_space(tmp_path: Path) -> None:
    exact, rounded = tmp_path / "exact.npz", tmp_path / "rounded.npz"
    write_packed_scores(entries(300), DIGEST, 5, exact)
    write_packed_scores(entries(300), DIGEST, 5, rounded, 4)
    assert rounded.stat().st_size < 0.75 * exact.stat().st_size


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "scores.npz"
    write_packed_scores(entries(7), DIGEST, 5, file)
    with np.load(file) as content:
        arrays = dict(content)
    np.savez(file, **{**arrays, "distance": np.array(6)})
    with pytest.raises(IntegrityError, match="do not fit"):
        unpack_scores(file, ScoreCache(tmp_path / "cache"))
    for bad in ({"digits": np.array(40)}, {"digest": np.array("../" * 20 + "ab" * 2)}, {"digest": np.array(3)}):
        np.savez(file, **{**arrays, **bad})
        with pytest.raises(IntegrityError, match="do not fit"):
            unpack_scores(file, ScoreCache(tmp_path / "cache"))
    np.savez(file, **{**arrays, "distance": np.array([5, 5])})
    with pytest.raises(IntegrityError, match="no whole numbers"):
        unpack_scores(file, ScoreCache(tmp_path / "cache"))
    write_packed_scores(entries(40), DIGEST, 5, file, 5)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match="holds no base scores"):
        unpack_scores(file, ScoreCache(tmp_path / "cache"))
    np.savez(file, **{**arrays, "keys": arrays["keys"][:-1]})
    with pytest.raises(IntegrityError, match="do not fit"):
        unpack_scores(file, ScoreCache(tmp_path / "cache"))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(IntegrityError, match="holds no base scores"):
        unpack_scores(file, ScoreCache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*.npz"))


def test_scores_beside_the_cache_are_read_and_left_alone(tmp_path: Path) -> None:
    wanted = entries(3)
    beside = ScoreCache(tmp_path / "beside")
    keys = list(wanted)
    ref, alt = (np.stack([wanted[key][side] for key in keys]) for side in (0, 1))
    beside.write(keys, ref, alt, DIGEST, 5)
    (block,) = (tmp_path / "beside").glob("*.npz")
    both = ScoreCache(tmp_path / "own", [tmp_path / "beside"])
    assert both.read(keys, DIGEST, 5).keys() == set(keys)
    block.write_bytes(block.read_bytes()[:-9] + b"123456789")
    assert not both.read(keys, DIGEST, 5)
    assert block.exists()
    assert both.damaged == 1


@pytest.mark.mirror
@pytest.mark.parametrize("case", ["npzscores-0ad63582", "unpack-34288e8b", "s", "s3", "pk"])
def test_hostile_files_are_refused(mirror: Path, tmp_path: Path, case: str) -> None:
    with pytest.raises(IntegrityError):
        unpack_scores(mirror / "cases" / f"{case}.npz", ScoreCache(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()
