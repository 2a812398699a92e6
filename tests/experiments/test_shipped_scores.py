"""Scores that travel with the package are found without the networks, and are those the networks give."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from meta_spliceai.datasets import Loaded, load_dataset
from meta_spliceai.errors import MissingExtraError
from meta_spliceai.experiments.run import prepare
from meta_spliceai.experiments.run.prepare import _of_another_exactness, _score, shipped_scores
from meta_spliceai.experiments.spec.experiment import BaseSpec
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from tests.experiments.silent import Silent

WANTED = BaseSpec(name="cispliceai")


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load_dataset("packaged-human")


def test_every_variant_has_its_scores(loaded: Loaded) -> None:
    found = shipped_scores(WANTED, loaded.variants, loaded)
    assert found is not None
    identity, scores = found
    assert identity.size == 5
    assert identity.name == scores.model == "cispliceai"
    assert len(scores) == len(loaded.variants)
    assert np.isfinite(scores.delta).all()
    assert np.abs(scores.ref.sum(axis=2) - 1).max() < 1e-3  # three probabilities, each rounded
    (told,) = _of_another_exactness(scores)
    assert "came from the package itself, rounded to 4 decimals" in told


def test_they_tell_altering_variants_from_normal_ones(loaded: Loaded) -> None:
    """By far more than chance: a score that stands at another variant's place would not."""
    table = loaded.variants[loaded.variants["source"] == "CI-SpliceAI"].reset_index(drop=True)
    found = shipped_scores(WANTED, table, loaded)
    assert found is not None
    largest = np.abs(found[1].delta[:, :, 1:]).max(axis=(1, 2))
    altering = (table["classification"] == "Splice-altering").to_numpy()
    assert np.median(largest[altering]) > 0.5
    assert np.median(largest[~altering]) < 0.1


@pytest.mark.parametrize("other", [{"distance": 51}, {"members": (0,)}, {"name": "spliceai"}, {"precision": "bf16"}])
def test_of_another_network_or_distance_there_are_none(loaded: Loaded, other: dict[str, object]) -> None:
    wanted = WANTED.model_copy(update=other)
    assert shipped_scores(wanted, loaded.variants, loaded) is None


def test_another_sequence_around_the_variants_has_none(loaded: Loaded) -> None:
    some = loaded.variants[loaded.variants["context"] == "construct"].head(3)
    library = {name: loaded.genome.fetch(name, 0, 170) for name in some["chrom"]}
    same = replace(loaded, genome=MemoryGenome(library, "toy", "toy"))
    assert shipped_scores(WANTED, some, same) is not None
    library[some["chrom"].iloc[0]][0] = (library[some["chrom"].iloc[0]][0] + 1) % 4
    assert shipped_scores(WANTED, some, replace(loaded, genome=MemoryGenome(library, "toy", "toy"))) is None


def test_what_did_not_travel_needs_the_networks_and_names_the_extra(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str, device: str, members: object) -> None:
        raise MissingExtraError(f"the networks of {name}", "cispliceai")

    monkeypatch.setattr(prepare, "load_base_model", absent)
    some = loaded.variants.head(2)
    assert len(_score(WANTED, some, loaded, "cpu", Silent())[1]) == 2
    with pytest.raises(MissingExtraError, match="pip install 'cispliceai"):
        _score(WANTED.model_copy(update={"distance": 40}), some, loaded, "cpu", Silent())


@pytest.mark.slow
def test_they_are_what_the_networks_give(loaded: Loaded) -> None:
    if importlib.util.find_spec("cispliceai") is None:
        pytest.skip("the extra cispliceai is not installed")
    table = loaded.variants
    some = [
        table[(table["context"] == "genome") & (table["ref"].str.len() > 1)].index[0],
        table[(table["context"] == "genome") & (table["strand"] == "-")].index[0],
        *table[table["context"] == "construct"].index[[0, 900]],
    ]
    chosen = table.loc[some].reset_index(drop=True)
    found = shipped_scores(WANTED, chosen, loaded)
    assert found is not None
    identity, scores = found
    model = load_base_model("cispliceai")
    assert identity == model.identity
    exact = score_variants(chosen, loaded.genome, model, 50)
    assert np.abs(scores.ref - exact.ref).max() <= 0.6e-4
    assert np.abs(scores.alt - exact.alt).max() <= 0.6e-4
