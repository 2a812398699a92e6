from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from meta_spliceai import datasets
from meta_spliceai.datasets import Loaded, registry
from meta_spliceai.errors import InputError


def test_every_data_set_says_what_it_is() -> None:
    # Other tests of the same process may have registered toys of their own.
    ours = [name for name in datasets.names() if datasets.get(name).loader.__module__.startswith("meta_spliceai.")]
    assert "wt1-exon5" in ours
    for name in ours:
        dataset = datasets.get(name)
        assert dataset.licence
        assert dataset.source
        assert dataset.citation
        assert dataset.rows > 0
        assert len(dataset.rule_in_words) > 80
        assert dataset.checksums or name == "splicevardb"  # the user's own download
        assert all(len(sha256) == 64 for sha256 in dataset.checksums.values())


def test_unknown_data_set_and_option() -> None:
    with pytest.raises(InputError, match="unknown data set 'wt1-exon6'; did you mean wt1-exon5"):
        datasets.load_dataset("wt1-exon6")
    with pytest.raises(InputError, match="wt1-exon5 takes no options; 'context' was given"):
        datasets.load_dataset("wt1-exon5", context="genome")


def test_names_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_DATASETS", {})
    dataset = dataclasses.replace(datasets.wt1_exon5.DATASET, name="toy")
    registry.register(dataset)
    with pytest.raises(ValueError, match="two data sets are named 'toy'"):
        registry.register(dataset)
    with pytest.raises(ValueError, match="label rule of 'silent' has no docstring"):
        registry.register(dataclasses.replace(dataset, name="silent", label_rule=lambda: None))


@pytest.mark.quickstart
def test_digest_follows_variants_and_options(wt1: Loaded) -> None:
    assert wt1.digest == dataclasses.replace(wt1).digest
    assert dataclasses.replace(wt1, variants=wt1.variants.iloc[:-1]).digest != wt1.digest
    assert dataclasses.replace(wt1, options={"context": "construct"}).digest != wt1.digest


@pytest.mark.quickstart
def test_check_files_names_each_file(wt1: Loaded) -> None:
    files = datasets.check_files(wt1.dataset.name)
    assert len(files) == 2
    assert all(Path(path).is_file() for path in files["path"])
