"""CI-SpliceAI, OpenSpliceAI and Pangolin: equal to the published networks, and strict about their files."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import pickle
import shutil
from pathlib import Path

import numpy as np
import pysam
import pytest
import torch

from meta_spliceai.errors import InputError, IntegrityError, MissingExtraError
from meta_spliceai.resources import packaged_file
from meta_spliceai.splice_engine.base_layer.families import (
    OPENSPLICEAI,
    TISSUES,
    gain_and_loss,
    load_base_model,
    load_cispliceai,
    load_openspliceai,
    load_pangolin,
    module_names,
)
from meta_spliceai.splice_engine.base_layer.network import SpliceAINetwork, one_hot
from meta_spliceai.splice_engine.base_layer.scores import CHANNELS
from meta_spliceai.splice_engine.genome.sequence import encode

GRAPH = "cispliceai/data/CI-SpliceAI.pb"

needs_cispliceai = pytest.mark.skipif(
    importlib.util.find_spec("cispliceai") is None, reason="CI-SpliceAI's weights come with the `cispliceai` extra"
)


def slice_and_expected(mirror: Path, family: str, contig: str) -> tuple[np.ndarray, np.ndarray]:
    """The 10,401 bases of a contig on which a family's reference outputs were made, and those outputs."""
    file = {"pangolin": "outputs.npz"}.get(family, "probabilities.npz")
    expected = np.load(mirror / "vectors" / family / file, allow_pickle=False)
    start = int(expected[f"{contig}_offset0"])
    with pysam.FastaFile(str(mirror / "vectors/spliceai/genome.fa")) as genome:
        return encode(genome.fetch(contig, start, start + 10_401)), expected[contig]


def outputs(network: SpliceAINetwork, codes: np.ndarray) -> np.ndarray:
    """[channels, positions]."""
    with torch.inference_mode():
        return network(one_hot(torch.from_numpy(codes)[None]))[0].numpy()


@pytest.mark.mirror
@needs_cispliceai
@pytest.mark.parametrize("contig", ["chr1", "chr2"])
def test_cispliceai_equals_the_published_graph(mirror: Path, contig: str) -> None:
    codes, expected = slice_and_expected(mirror, "cispliceai", contig)
    model = load_base_model("cispliceai")
    mean = np.mean([outputs(network, codes) for network in model.networks], axis=0)
    np.testing.assert_allclose(mean.T, expected, atol=1e-5, rtol=0)
    assert len(model.networks) == 5
    assert model.channels == CHANNELS
    assert "CC BY 4.0" in model.licence


@pytest.mark.mirror
@pytest.mark.parametrize("contig", ["chr1", "chr2"])
def test_openspliceai_equals_the_published_networks(mirror: Path, contig: str) -> None:
    codes, expected = slice_and_expected(mirror, "openspliceai", contig)
    model = load_base_model("openspliceai")
    found = np.stack([outputs(network, codes).T for network in model.networks])
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert "GPL" in model.licence


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.parametrize("contig", ["chr1", "chr2"])
def test_pangolin_equals_the_published_networks(mirror: Path, contig: str) -> None:
    codes, expected = slice_and_expected(mirror, "pangolin", contig)
    model = load_base_model("pangolin")
    assert model.channels == TISSUES
    assert model.slots == (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3)
    found = np.stack([outputs(network, codes)[0] for network in model.networks])
    published = np.stack([expected[number, (1, 4, 7, 10)[number // 3]] for number in range(12)])
    np.testing.assert_allclose(found, published, atol=1e-5, rtol=0)


@pytest.mark.mirror
def test_pangolin_members_keep_their_tissues(mirror: Path) -> None:
    model = load_base_model("pangolin", members=[0, 6, 7])
    assert model.channels == ("heart", "brain")
    assert model.slots == (0, 1, 1)


def test_gain_and_loss_are_extremes_over_tissues() -> None:
    delta = np.array([[[0.1, -0.2, 0.0, 0.3], [-0.4, -0.1, -0.2, -0.3]]], dtype=np.float32)
    gain, loss = gain_and_loss(delta)
    np.testing.assert_array_equal(gain, np.array([[0.3, -0.1]], dtype=np.float32))
    np.testing.assert_array_equal(loss, np.array([[-0.2, -0.4]], dtype=np.float32))


def openspliceai_file(folder: Path, context: int, seed: int = 0) -> tuple[Path, SpliceAINetwork]:
    """A random network of one of OpenSpliceAI's architectures, written under OpenSpliceAI's names."""
    torch.manual_seed(seed)
    network = SpliceAINetwork(OPENSPLICEAI[context]).eval()
    names = {"first": "initial_conv", "first_skip": "initial_skip.conv", "head.conv": "final_conv"}
    unit = 0
    for module in module_names(OPENSPLICEAI[context]):
        if module.startswith("skips"):
            names[module] = f"residual_units.{unit}.conv"
            unit += 1
        elif module.startswith("stages"):
            part = module.rpartition(".")[2]
            names[module] = f"residual_units.{unit}.{part.replace('norm', 'batchnorm')}"
            unit += part == "conv2"
    state = {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in network.state_dict().items()}
    path = folder / f"model_{context}nt_rs{seed}.pt"
    torch.save(state, path)
    return path, network


@pytest.mark.parametrize("context", [80, 400, 2000])
def test_openspliceai_reads_its_context_off_the_layers(tmp_path: Path, context: int) -> None:
    path, network = openspliceai_file(tmp_path, context)
    model = load_base_model(f"openspliceai:{path}")
    assert model.flank == context // 2
    assert model.networks[0].architecture.slope == 0.1
    codes = np.random.default_rng(0).integers(0, 5, context + 7).astype(np.uint8)
    np.testing.assert_array_equal(outputs(model.networks[0], codes), outputs(network, codes))


def test_openspliceai_folder_of_one_kind_only(tmp_path: Path) -> None:
    openspliceai_file(tmp_path, 80, seed=0)
    openspliceai_file(tmp_path, 80, seed=1)
    assert len(load_base_model(f"openspliceai:{tmp_path}").networks) == 2
    assert len(load_base_model(f"openspliceai:{tmp_path}", members=[1]).networks) == 1
    openspliceai_file(tmp_path, 400)
    with pytest.raises(InputError, match="different contexts"):
        load_base_model(f"openspliceai:{tmp_path}")


def changed(path: Path, **tensors: torch.Tensor | None) -> Path:
    """The same file with tensors replaced, or taken out where None ("__" in a name stands for a dot)."""
    state = torch.load(path, weights_only=True)
    for name, value in tensors.items():
        key = name.replace("__", ".")
        if value is None:
            del state[key]
        else:
            state[key] = value
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"final_conv__weight": None, "final_conv__bias": None}, "lacks the layer final_conv"),
        ({"final_conv__bias": None}, "Missing key.*head.conv.bias"),
        ({"final_conv__bias": torch.zeros(4)}, "size mismatch for head.conv.bias"),
        ({"residual_units__2__conv1__bias": torch.full((32,), float("nan"))}, "not finite"),
        ({"residual_units__9__conv__bias": torch.zeros(32)}, "none of OpenSpliceAI's architectures"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, tensors: dict, message: str) -> None:
    path, _ = openspliceai_file(tmp_path, 80)
    with pytest.raises(IntegrityError, match=message):
        load_openspliceai(changed(path, **tensors))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path, _ = openspliceai_file(tmp_path, 80)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(IntegrityError, match=r"PyTorch weights .* cannot be read"):
        load_openspliceai(path)


class Marker:
    """Pickles into a call that would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_inside_a_weight_file_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    path = tmp_path / "model.pt"
    torch.save({"initial_conv.weight": Marker(trace)}, path)
    for _ in range(2):
        with pytest.raises(IntegrityError) as refused:
            load_openspliceai(path)
        assert "weights_only" not in str(refused.value)  # no advice to read the file unsafely
        path.write_bytes(pickle.dumps(Marker(trace)))
    assert not trace.exists()


@pytest.mark.parametrize(("content", "words"), [([1, 2], "holds nothing by name"), ({"a": 1}, "no state dict")])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(IntegrityError, match=words):
        load_openspliceai(path)


def test_pangolin_refuses_another_network(tmp_path: Path) -> None:
    path, _ = openspliceai_file(tmp_path, 80)
    with pytest.raises(IntegrityError, match="lacks the layer conv1"):
        load_pangolin(path, "heart")


@pytest.mark.mirror
def test_a_mirror_file_with_other_bytes_is_refused_by_its_checksum(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pangolin"
    folder.mkdir()
    shutil.copy(mirror / "weights/pangolin/final.1.2.3.v2", folder / "final.1.0.3.v2")  # another tissue's network
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(tmp_path))
    with pytest.raises(IntegrityError, match="SHA-256"):
        load_base_model("pangolin", members=[0])


@pytest.mark.mirror
def test_pangolin_by_path_takes_the_tissue_from_the_name(mirror: Path, tmp_path: Path) -> None:
    model = load_base_model(f"pangolin:{mirror / 'weights/pangolin/final.2.4.3.v2'}")
    assert model.channels == ("brain",)
    unnamed = tmp_path / "weights.pt"
    shutil.copy(mirror / "weights/pangolin/final.2.4.3.v2", unnamed)
    with pytest.raises(InputError, match="which tissue"):
        load_base_model(f"pangolin:{unnamed}")


@pytest.mark.parametrize("name", ["splice-ai", "pangolin:", "nothing:/tmp"])
def test_an_unknown_name_lists_the_choices(name: str) -> None:
    with pytest.raises(InputError, match="cispliceai"):
        load_base_model(name)


def test_a_path_without_weights_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights of openspliceai"):
        load_base_model(f"openspliceai:{tmp_path}")


@needs_cispliceai
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.999])
def test_a_truncated_graph_is_refused(tmp_path: Path, keep: float) -> None:
    whole = packaged_file("cispliceai", GRAPH).read_bytes()
    path = tmp_path / "CI-SpliceAI.pb"
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(IntegrityError):
        load_cispliceai(path)


def test_absent_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(MissingExtraError, match=r"\[cispliceai\]"):
        load_base_model("cispliceai")
