"""Packed base scores come out bit for bit, or rounded as asked for, under their keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.scores import Entry, ScoreCache, read_scores, write_scores

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


def in_cache(folder: Path, wanted: dict[bytes, Entry], digits: int | None = None) -> dict[bytes, Entry]:
    """The entries as a cache reads them from a packed block beside it."""
    write_scores(folder / "packed" / f"{DIGEST[:16]}-5-fp32.npz", wanted, digits)
    return ScoreCache(folder / "cache", [folder / "packed"]).read(list(wanted), DIGEST, 5)


@pytest.mark.parametrize("channels", [3, 12])
def test_bit_for_bit(tmp_path: Path, channels: int) -> None:
    wanted = entries(7, channels)
    found = in_cache(tmp_path, wanted)
    assert found.keys() == wanted.keys()
    for key, (ref, alt, _) in wanted.items():
        assert found[key].ref.tobytes() == ref.tobytes()
        assert found[key].alt.tobytes() == alt.tobytes()
        assert found[key].digits is None


@pytest.mark.parametrize("digits", [3, 5, 7])
def test_rounded_scores_are_as_near_as_they_say_and_say_so(tmp_path: Path, digits: int) -> None:
    wanted = entries(2_000)
    found = in_cache(tmp_path, wanted, digits)
    assert found.keys() == wanted.keys()
    largest = 0.0
    for key, (ref, alt, _) in wanted.items():
        assert found[key].digits == digits
        change = (found[key].alt - found[key].ref) - (alt - ref)
        largest = max(largest, float(np.abs(change).max()))
        assert np.abs(found[key].ref - ref).max() <= 0.5 * 10.0**-digits + 1e-7
    assert 0.1 * 10.0**-digits < largest <= 10.0**-digits + 2e-7


def test_rounding_takes_less_space_and_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    exact, rounded, again = (tmp_path / name for name in ("exact.npz", "rounded.npz", "again.npz"))
    write_scores(exact, entries(300))
    for path in (rounded, again):
        write_scores(path, entries(300), 4)
    assert rounded.stat().st_size < 0.75 * exact.stat().st_size
    assert rounded.read_bytes() == again.read_bytes()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "scores.npz"
    write_scores(file, entries(7))
    with np.load(file) as content:
        arrays = dict(content)
    for bad in (
        {"digits": np.array([40])},
        {"digits": np.array([5, 5])},
        {"digits": np.array(["5"])},
        {"digits": np.array([5])},  # rounded ones are whole numbers
        {"keys": arrays["keys"][:-1]},
        {"alt": arrays["alt"][:, :-1]},
        {"ref": arrays["ref"].astype(np.float64)},
        {"ref": arrays["ref"] * np.float32(np.inf)},
    ):
        np.savez(file, **{**arrays, **bad})
        with pytest.raises(IntegrityError, match="holds no base scores"):
            read_scores(file)
    write_scores(file, entries(40), 5)
    whole = bytearray(file.read_bytes())
    file.write_bytes(whole[:200])
    with pytest.raises(IntegrityError, match="holds no base scores"):
        read_scores(file)
    whole[len(whole) // 2] ^= 255
    file.write_bytes(whole)
    with pytest.raises(IntegrityError, match="holds no base scores"):
        read_scores(file)


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
def test_hostile_files_are_refused(mirror: Path, case: str) -> None:
    with pytest.raises(IntegrityError):
        read_scores(mirror / "cases" / f"{case}.npz")
