"""Weights and scores that are no numbers are an error with a name in it, and never a result."""

from __future__ import annotations

import copy
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from meta_spliceai.errors import IntegrityError, RunError
from meta_spliceai.splice_engine.base_layer.families import load_keras_weights, module_names
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel, SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, ScoreCache
from meta_spliceai.splice_engine.base_layer.scoring import Computation, score_variants
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from tests.base_layer.conftest import TOY_STAGES, build_network

TOY = Architecture(TOY_STAGES, channels=8)
GENOME = MemoryGenome({"c": "ACGT" * 200}, "toy", "toy")
TABLE = pd.DataFrame([{"variant_id": "v", "chrom": "c", "pos": 401, "ref": "A", "alt": "G", "strand": "+", "gene": ""}])


def write_keras(network: SpliceAINetwork, path: Path) -> Path:
    """The network as Keras stores it: layers numbered as the published code makes them."""
    modules = [(name, network.get_submodule(name)) for name in module_names(network.architecture)]
    convolutions = [module for name, module in modules if "norm" not in name]
    norms = [module for name, module in modules if "norm" in name]
    with h5py.File(path, "w") as file:
        for number, module in enumerate(convolutions, start=1):
            group = file.create_group(f"model_weights/conv1d_{number}/conv1d_{number}")
            group["kernel:0"] = module.weight.permute(2, 1, 0).numpy()
            group["bias:0"] = module.bias.numpy()
        for number, module in enumerate(norms, start=1):
            group = file.create_group(f"model_weights/batch_normalization_{number}/batch_normalization_{number}")
            group["gamma:0"], group["beta:0"] = module.weight.numpy(), module.bias.numpy()
            group["moving_mean:0"], group["moving_variance:0"] = (
                module.running_mean.numpy(),
                module.running_var.numpy(),
            )
    return path


@pytest.fixture
def keras_file(tmp_path: Path) -> Path:
    return write_keras(build_network(TOY, 1).requires_grad_(False), tmp_path / "toy.h5")


def test_sound_keras_weights_are_read(keras_file: Path) -> None:
    network = load_keras_weights(keras_file, TOY)
    for name, tensor in build_network(TOY, 1).state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(network.state_dict()[name], tensor)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "place", ["conv1d_3/conv1d_3/kernel:0", "batch_normalization_2/batch_normalization_2/moving_mean:0"]
)
def test_keras_weights_that_are_no_numbers(keras_file: Path, place: str, value: float) -> None:
    with h5py.File(keras_file, "r+") as file:
        file[f"model_weights/{place}"][0] = value
    with pytest.raises(
        IntegrityError,
        match=r"toy\.h5: stages\.0\.0\.(conv1\.weight|norm2\.running_mean) holds values that are not finite",
    ):
        load_keras_weights(keras_file, TOY)


@pytest.mark.parametrize("kind", ["words", "ragged", "claim", "no group"])
def test_keras_files_that_hold_something_else(keras_file: Path, kind: str) -> None:
    with h5py.File(keras_file, "r+") as file:
        if kind == "no group":
            del file["model_weights"]
            file["model_weights"] = 3.0
        else:
            group = file["model_weights/conv1d_3/conv1d_3"]
            del group["bias:0"]
            if kind == "words":
                group["bias:0"] = np.array([b"eight"] * 8)
            elif kind == "ragged":
                group.create_dataset("bias:0", (8,), dtype=h5py.vlen_dtype(np.float32))
            else:
                group.create_dataset("bias:0", (10**13,), dtype="f4", chunks=(1024,))
    with pytest.raises(IntegrityError, match=r"toy\.h5 is truncated or damaged"):
        load_keras_weights(keras_file, TOY)


@pytest.mark.mirror
@pytest.mark.parametrize("name", ["b.h5", "b2.h5", "b3.h5", "b4.h5"])
def test_keras_files_of_the_attack(mirror: Path, name: str) -> None:
    path = mirror / "cases" / name
    if not path.is_file():
        pytest.skip(f"no {name} in the mirror")
    with pytest.raises(IntegrityError, match=name):
        load_keras_weights(path, TOY)


def test_scores_that_are_no_numbers_are_an_error_and_are_not_kept(toy_base_model: BaseModel, tmp_path: Path) -> None:
    """Finite weights, but products that overflow."""
    model = copy.deepcopy(toy_base_model)
    with torch.no_grad():
        model.networks[0].first.weight.mul_(3e38)
    for method in ("incremental", "full"):
        with pytest.raises(RunError, match=r"the scores of .*c:401.* are no numbers"):
            score_variants(TABLE, GENOME, model, 5, cache=ScoreCache(tmp_path), how=Computation(method))
    assert not list(tmp_path.iterdir())


def test_base_scores_hold_numbers() -> None:
    ones = np.ones((2, 3, 3), np.float32)
    spoiled = ones.copy()
    spoiled[1, 1, 1] = np.nan
    for pair in ((ones, spoiled), (spoiled, ones)):
        with pytest.raises(ValueError, match="no numbers"):
            BaseScores(*pair, 1, "toy", "d")


def test_kept_scores_that_are_no_numbers_are_computed_again(toy_base_model: BaseModel, tmp_path: Path) -> None:
    first = score_variants(TABLE, GENOME, toy_base_model, 5, cache=ScoreCache(tmp_path))
    (block,) = tmp_path.glob("*.npz")
    cache = ScoreCache(tmp_path)
    (key, entry), *_ = cache.read([np.load(block)["keys"][0].tobytes()], toy_base_model.digest, 5).items()
    block.unlink()
    spoiled = np.full_like(entry.ref, np.nan)[None]
    cache.write([key], spoiled, spoiled, toy_base_model.digest, 5)
    again = score_variants(TABLE, GENOME, toy_base_model, 5, cache=cache)
    np.testing.assert_array_equal(again.alt, first.alt)
    assert cache.damaged == 1
