"""The variants that travel with the package: what they are, offline, and that they are what the originals say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import meta_spliceai
from meta_spliceai.datasets import Loaded, load_dataset
from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import N_CODE, decode
from meta_spliceai.splice_engine.variants.alleles import check_reference
from meta_spliceai.splice_engine.variants.table import LOW_FREQUENCY, NORMAL, SPLICE_ALTERING

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(meta_spliceai.__file__).parent / "datasets" / "packaged"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing but the package."""
    monkeypatch.delenv("META_SPLICEAI_MIRROR", raising=False)
    monkeypatch.setenv("META_SPLICEAI_OFFLINE", "1")


@pytest.fixture
def loaded(bare: None) -> Loaded:
    return load_dataset("packaged-human")


def test_it_holds_the_variants_of_both_sources_in_both_contexts(loaded: Loaded) -> None:
    table = loaded.variants
    counts = table.groupby(["source", "context", "classification"]).size()
    assert counts["CI-SpliceAI", "genome"].to_dict() == {NORMAL: 507, SPLICE_ALTERING: 463}
    assert counts["MaPSy", "construct"].to_dict() == {LOW_FREQUENCY: 1618, NORMAL: 483, SPLICE_ALTERING: 202}
    assert counts["MaPSy", "genome"].to_dict() == {LOW_FREQUENCY: 1467, NORMAL: 478, SPLICE_ALTERING: 196}
    assert table["effect"].notna().sum() == 3985
    assert loaded.coverage.read == 1139 + 4465
    assert loaded.coverage.used == len(table)
    assert not set(table["genome_chrom"]) & {"1", "9"}


def test_every_reference_allele_is_the_packed_sequence_s(loaded: Loaded) -> None:
    _, account = check_reference(loaded.variants, loaded.genome)
    assert account.left_out == {}


def test_a_variant_has_its_chromosome_or_its_construct_around_it(loaded: Loaded) -> None:
    lengths = loaded.genome.contigs()
    known = []
    for row in loaded.variants[loaded.variants["source"] == "MaPSy"].itertuples():
        if row.context == "construct":
            assert lengths[row.chrom] == 170
            assert (loaded.genome.fetch(row.chrom, 0, 170) != N_CODE).all()
        else:
            around = loaded.genome.fetch(row.chrom, row.pos - 1 - 5050, row.pos + 5050)
            assert (around[4050:6051] != N_CODE).all(), row.variant_id
            known.append((around != N_CODE).all())
    assert np.mean(known) > 0.8


def test_the_tested_exon_s_sites_are_splice_sites(loaded: Loaded) -> None:
    """GT behind an exon's last base: nearly always in human genes, by chance in one place of sixteen."""
    motifs = []
    for row in loaded.variants.dropna(subset=["donor_pos"]).itertuples():
        at = int(row.donor_pos) if row.strand == "+" else int(row.donor_pos) - 3
        letters = decode(loaded.genome.fetch(row.chrom, at, at + 2))
        if "N" not in letters:
            motifs.append(letters == ("GT" if row.strand == "+" else "AC"))
    assert len(motifs) > 4000
    assert np.mean(motifs) > 0.97


@pytest.mark.parametrize(("context", "rows"), [("genome", 3132), ("construct", 2303)])
def test_one_context_alone_leaves_the_others_out_and_says_so(bare: None, context: str, rows: int) -> None:
    loaded = load_dataset("packaged-human", context=context)
    assert set(loaded.variants["context"]) == {context}
    assert len(loaded.variants) == loaded.coverage.used == rows
    assert loaded.options == {"context": context}
    assert loaded.digest != load_dataset("packaged-human").digest


def test_another_context_names_those_there_are(bare: None) -> None:
    with pytest.raises(InputError, match=r"'genom'.*did you mean genome"):
        load_dataset("packaged-human", context="genom")


def test_it_is_small_and_says_whose_it_is() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 6_000_000
    attribution = (FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for words in ("CC BY 4.0", "Apache-2.0", "10.1371/journal.pone.0269159", "10.1038/ng.3837"):
        assert words in attribution


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.quickstart
def test_the_script_makes_the_same_content_from_the_originals(mirror: Path, tmp_path: Path) -> None:
    for package in ("spliceai", "cispliceai"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"package {package} is not installed")
    spec = importlib.util.spec_from_file_location("make_packaged_data", ROOT / "tools" / "make_packaged_data.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.make_data(tmp_path)
    made = sorted(file.name for file in tmp_path.iterdir())
    assert made == ["description.json", "sequence.npz", "variants.parquet"]  # scores are compared with the networks
    for name in ("description.json", "variants.parquet"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name
    # Versions of Python write another header of a zip's entries.
    with np.load(tmp_path / "sequence.npz") as own, np.load(FOLDER / "sequence.npz") as kept:
        assert own.files == kept.files
        for name in kept.files:
            np.testing.assert_array_equal(own[name], kept[name], strict=True)
