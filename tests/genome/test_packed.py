"""A packed genome gives what the whole one gives, and refuses what it was not given."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.genome.packed import PackedGenome, joined, write_packed
from meta_spliceai.splice_engine.genome.sequence import N_CODE, MemoryGenome


@pytest.fixture
def genome() -> MemoryGenome:
    random = np.random.default_rng(5)
    letters = np.array(list("ACGT"))
    first = random.choice(letters, 997)
    first[100:140] = "N"
    first[996] = "N"
    return MemoryGenome(
        {"chr1": "".join(first), "chr2": "".join(random.choice(letters, 310)), "chr3": "ACGT"}, "toy", "toy genome"
    )


@pytest.fixture
def packed(genome: MemoryGenome, tmp_path: Path) -> PackedGenome:
    kept = write_packed(
        genome, [("chr1", 50, 203), ("chr1", 200, 260), ("chr1", 900, 2000), ("chr2", -20, 61)], tmp_path / "g.npz"
    )
    assert kept == 210 + 97 + 61
    return PackedGenome(tmp_path / "g.npz", genome.name, genome.build, genome.digest)


@pytest.mark.parametrize(
    "interval", [("chr1", 50, 260), ("chr1", 99, 141), ("1", 203, 207), ("chr1", 950, 1100), ("chr2", -30, 17)]
)
def test_every_kept_base_is_the_genome_s_own(
    genome: MemoryGenome, packed: PackedGenome, interval: tuple[str, int, int]
) -> None:
    assert (packed.fetch(*interval) == genome.fetch(*interval)).all()
    assert packed.digest == genome.digest


@pytest.mark.parametrize(
    "interval", [("chr1", 49, 60), ("chr1", 250, 261), ("chr1", 255, 905), ("chr1", 300, 310), ("chr2", 60, 62)]
)
def test_a_base_that_was_not_kept_is_an_error_and_not_n(packed: PackedGenome, interval: tuple[str, int, int]) -> None:
    with pytest.raises(InputError, match="does not hold chr"):
        packed.fetch(*interval)


def test_a_contig_that_was_not_kept_is_named(packed: PackedGenome) -> None:
    assert packed.contigs() == {"chr1": 997, "chr2": 310}
    with pytest.raises(InputError, match="no contig 'chr3'"):
        packed.fetch("chr3", 0, 2)


def test_beyond_a_contig_is_n(packed: PackedGenome) -> None:
    assert (packed.fetch("chr1", 2000, 2003) == 4).all()
    with pytest.raises(InputError, match="before it starts"):
        packed.fetch("chr1", 60, 59)


def test_touching_intervals_become_one() -> None:
    assert joined([("b", 5, 9), ("a", 0, 2), ("a", 2, 3), ("b", 6, 7)]) == [("a", 0, 3), ("b", 5, 9)]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bases", lambda array: array[:-1]),
        ("bases", lambda array: array.astype(np.int32)),
        ("end", lambda array: array - 1_000),
        ("end", lambda array: array + 200),
        ("contig", lambda array: array + 7),
        ("lengths", lambda array: array // 100),
        ("start", lambda array: array.astype(float)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(packed: PackedGenome, name: str, change: object) -> None:
    with np.load(packed.path) as content:
        arrays = dict(content)
    arrays[name] = change(arrays[name])  # type: ignore[operator]
    np.savez(packed.path, **arrays)
    with pytest.raises(IntegrityError, match="holds no packed genome"):
        PackedGenome(packed.path, "toy", "toy", "digest")


def test_a_cut_off_file_is_refused(packed: PackedGenome) -> None:
    content = packed.path.read_bytes()
    packed.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(IntegrityError, match="holds no packed genome"):
        PackedGenome(packed.path, "toy", "toy", "digest")


@pytest.mark.mirror
@pytest.mark.parametrize("case", ["packed-03d83bab", "s", "s3", "pk"])
def test_hostile_files_are_refused(mirror: Path, case: str) -> None:
    with pytest.raises(IntegrityError, match="holds no packed genome"):
        PackedGenome(mirror / "cases" / f"{case}.npz", "toy", "toy", "digest")


def test_an_array_that_claims_more_than_it_holds_takes_no_memory(packed: PackedGenome, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed.path) as pack:
        members = {name: pack.read(name) for name in pack.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as pack:
        for name, content in {**members, "bases.npy": header.getvalue()}.items():
            pack.writestr(name, content)
    with pytest.raises(IntegrityError, match="holds no packed genome"):
        PackedGenome(tmp_path / "large.npz", "toy", "toy", "digest")


def test_a_sparse_one_has_n_between_and_beyond_its_stretches(
    genome: MemoryGenome, packed: PackedGenome, tmp_path: Path
) -> None:
    sparse = PackedGenome(packed.path, "stretches", "toy", "digest", sparse=True)
    known = np.zeros(997, dtype=bool)
    known[50:260] = known[900:997] = True
    expected = np.where(known, genome.fetch("chr1", 0, 997), N_CODE)
    for start, end in ((0, 997), (255, 905), (260, 900), (990, 997), (40, 51)):
        assert (sparse.fetch("chr1", start, end) == expected[start:end]).all()
    assert (sparse.fetch("chr1", -5, 3) == N_CODE).all()
    assert sparse.fetch("chr1", 995, 1000).tolist() == [*expected[995:997], N_CODE, N_CODE, N_CODE]
