"""Pre-training: it learns what there is to learn, holds out what it says, resumes, and its encoder can be used."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from meta_spliceai.cli import pretrain as command
from meta_spliceai.errors import InputError, IntegrityError, RunError
from meta_spliceai.resources.resolve import shipped_encoders
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, reverse_complement
from meta_spliceai.splice_engine.meta_layer import pretraining
from meta_spliceai.splice_engine.meta_layer.models import HyenaDNADeltaPredictor, hyenadna
from meta_spliceai.splice_engine.meta_layer.models.hyenadna import BASE_TOKENS, HyenaConfig, HyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.hyenadna_weights import load_hyenadna
from meta_spliceai.splice_engine.meta_layer.pretraining import (
    Corpus,
    MarkovModel,
    PretrainingConfig,
    PretrainingReport,
    corpus_of,
    known_bases,
    packaged_genes,
    pretrain,
)

CPU = torch.device("cpu")
CONFIG = PretrainingConfig(length=64, batch_size=4, steps=12, check_every=4, check_batches=2, learning_rate=3e-3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A HyenaDNA of toy size under the tiny one's name."""
    config = HyenaConfig(d_model=16, n_layer=1, d_inner=32, max_seq_len=130, filter_order=8, embed_dropout=0.1)
    monkeypatch.setattr(pretraining, "model_config", lambda name: config)


@pytest.fixture
def corpus() -> Corpus:
    """Two chromosomes in which C follows A and G follows C, on both strands: "ACGT" repeated, with a little noise."""
    rng = np.random.default_rng(0)
    contigs = {}
    for name in ("chr1", "chr2"):
        codes = np.tile(np.arange(4, dtype=np.uint8), 300)
        noisy = rng.random(len(codes)) < 0.1
        codes[noisy] = rng.integers(0, 4, int(noisy.sum()))
        contigs[name] = codes
    return corpus_of(MemoryGenome(contigs, "toy", "toy"), ["2"])


def results(report: PretrainingReport) -> pd.DataFrame:
    return report.curves.drop(columns="tokens_per_second")


MUON = {"optimizer": "muon", "precision": "bfloat16"}


@pytest.mark.parametrize("how", [{}, MUON], ids=["adamw", "muon in bfloat16"])
def test_it_learns_the_grammar_of_the_held_out_sequence(
    small: None, corpus: Corpus, tmp_path: Path, how: dict[str, str]
) -> None:
    report = pretrain(corpus, CONFIG.model_copy(update={"steps": 150, "check_every": 50, **how}), tmp_path, "cpu")
    assert report.curves["held_out_bits"].iloc[-1] < 1.4 < 1.8 < report.curves["train_bits"].iloc[0] + 0.5
    assert report.held_out_bits < 1.4


def test_a_model_made_for_long_sequences_learns_on_short_ones_what_stands_a_few_bases_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each base is that of 11 bases before, but for one in ten: out of reach of a short convolution, so the long filter
    has to tell neighbouring taps apart although it was made for 32,770 of them."""
    config = HyenaConfig(d_model=16, n_layer=1, d_inner=32, max_seq_len=32_770, filter_order=32, embed_dropout=0)
    monkeypatch.setattr(pretraining, "model_config", lambda name: config)
    rng = np.random.default_rng(0)
    contigs = {}
    for name in ("chr1", "chr2"):
        codes = rng.integers(0, 4, 20_000, dtype=np.uint8)
        for at in np.flatnonzero(rng.random(len(codes)) < 0.9):
            codes[at] = codes[at - 11] if at >= 11 else codes[at]
        contigs[name] = codes
    settings = {"steps": 150, "check_every": 150, "learning_rate": 3e-3, "optimizer": "muon"}
    corpus = corpus_of(MemoryGenome(contigs, "toy", "toy"), ["2"])
    assert pretrain(corpus, CONFIG.model_copy(update=settings), tmp_path / "short", "cpu").held_out_bits < 1.3
    monkeypatch.setattr(HyenaDNA, "start_for", lambda self, length: None)
    # From the published start it does not get under way.
    assert pretrain(corpus, CONFIG.model_copy(update=settings), tmp_path / "flat", "cpu").held_out_bits > 1.9


def test_kmers_are_counted_on_both_strands_within_stretches_that_are_not_held_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contigs = {"chr1": "AACN", "chr2": "GGGG", "chr3": "A", "chr4": "CA"}
    corpus = corpus_of(MemoryGenome(contigs, "toy", "toy"), ["2"])
    wanted = np.zeros((4, 4), np.int64)
    for kmer in ((0, 0), (3, 3), (0, 1), (2, 3), (1, 0), (3, 2)):  # AA and TT, AC and GT, CA and TG
        wanted[kmer] = 1
    assert corpus.kmers(2).tolist() == wanted.tolist()
    assert corpus.kmers(1).tolist() == [4, 2, 2, 4]
    monkeypatch.setattr(pretraining, "_COUNTED_AT_ONCE", 3)
    assert corpus.kmers(2).tolist() == wanted.tolist()


def test_a_markov_model_asks_for_what_follows_known_bases_only() -> None:
    kmers = np.zeros((4, 4, 4), np.int64)
    kmers[0, 1, 2], kmers[0, 1, 3], kmers[1, 1, 0] = 5, 1, 3
    smoothed = kmers + 1.0

    def chance(*context: int) -> float:
        """Of the last base after those before it, longer contexts summed over."""
        counts = smoothed if len(context) == 3 else smoothed.sum(axis=0)
        return float(counts[context] / counts[context[:-1]].sum())

    # A C G N C A: asked for C after A, G after A C, A after C; not the first base, N, nor with the N before it a pair.
    bits = -np.log2([chance(0, 1), chance(0, 1, 2), smoothed.sum(axis=(0, 1))[1] / smoothed.sum(), chance(1, 0)])
    codes = np.array([[0, 1, 2, 4, 1, 0]], np.uint8)
    assert MarkovModel(kmers, 2).bits(codes) == pytest.approx(bits.mean())
    # Knowing only the composition: on the order of the bases nothing depends.
    composition = kmers.sum(axis=(0, 1)) + 1
    alone = -np.log2(composition / composition.sum())
    assert MarkovModel(kmers, 0).bits(codes) == pytest.approx((alone[1] * 2 + alone[2] + alone[0]) / 4)


def test_a_markov_model_reaches_the_entropy_of_what_it_was_counted_on() -> None:
    random = np.random.default_rng(0)
    codes = np.zeros(200_000, np.uint8)
    steps = random.choice(3, len(codes), p=[0.8, 0.1, 0.1])
    codes = (np.cumsum(steps + 1) % 4).astype(np.uint8)  # the next base is one, two or three further on
    corpus = corpus_of(MemoryGenome({"chr1": codes[:150_000], "chr2": codes[150_000:]}, "toy", "toy"), ["2"])
    held_out = codes[150_000:].reshape(100, -1)
    entropy = -sum(p * np.log2(p) for p in (0.8, 0.1, 0.1))
    kmers = corpus.kmers(6)
    # On the other strand the order of the bases is that of their complements backwards, which is the same rule.
    assert MarkovModel(kmers, 1).bits(held_out) == pytest.approx(entropy, abs=0.02)
    assert MarkovModel(kmers, 5).bits(held_out) == pytest.approx(entropy, abs=0.05)
    assert MarkovModel(kmers, 0).bits(held_out) > 1.99


def test_only_an_encoder_that_beats_the_markov_models_is_called_pretrained(
    small: None, corpus: Corpus, tmp_path: Path
) -> None:
    report = pretrain(corpus, CONFIG.model_copy(update={"steps": 2, "learning_rate": 1e-6}), tmp_path / "poor", "cpu")
    assert report.held_out_bits > min(report.markov_bits.values())
    assert report.origin.startswith("trained, not better than a Markov model: 0.0 Mb of toy without 2, 2 steps, ")
    card = json.loads((tmp_path / "poor" / "config.json").read_text())["pretraining"]
    assert card["pretrained"] is False
    assert card["held_out_bits"] == report.held_out_bits
    assert card["markov_bits"] == {str(order): bits for order, bits in report.markov_bits.items()}
    # In what repeats after more bases than a Markov model looks back, an encoder can know where it stands.
    unit = "AAAAAAAAAAAC"
    periodic = corpus_of(MemoryGenome({"chr1": unit * 120, "chr2": unit * 90}, "toy", "toy"), ["2"])
    better = pretrain(periodic, CONFIG.model_copy(update={"steps": 200, "check_every": 100}), tmp_path / "good", "cpu")
    assert better.held_out_bits < min(better.markov_bits.values())
    assert better.origin.startswith("pre-trained: ")
    assert f"{better.held_out_bits:.4f} bits a base (Markov models, order 5: " in better.origin


def test_batches_come_from_their_part_and_from_both_strands(corpus: Corpus) -> None:
    cut = pretraining._Sequences(corpus.held_out, 40, CPU).batch(200, seed=1).numpy()
    held_out = corpus.held_out[0].tobytes()
    onward = sum(row.tobytes() in held_out for row in cut)
    backward = sum(reverse_complement(row).tobytes() in held_out for row in cut)
    assert onward + backward >= 200
    assert min(onward, backward) > 60
    training = pretraining._Sequences(corpus.training, 40, CPU)
    assert torch.equal(training.batch(5, seed=3), training.batch(5, seed=3))
    assert not torch.equal(training.batch(5, seed=3), training.batch(5, seed=4))


def test_unknown_bases_are_not_asked_for(small: None) -> None:
    torch.manual_seed(0)
    model = pretraining._LanguageModel(CONFIG).eval()
    codes = torch.randint(0, 4, (2, 30), dtype=torch.uint8)
    tail = torch.cat((codes, torch.full((2, 10), 4, dtype=torch.uint8)), dim=1)
    # A causal model does not see what follows, so bases before a run of N cost what they cost without it.
    assert model(tail).item() == pytest.approx(model(codes).item(), rel=1e-5)
    assert model(torch.full((2, 10), 4, dtype=torch.uint8)).item() == 0


@pytest.mark.parametrize(("stop", "how"), [(2, {}), (7, {}), (11, {}), (7, MUON)])
def test_an_interrupted_run_resumes_to_the_unbroken_result(
    small: None, corpus: Corpus, tmp_path: Path, stop: int, how: dict[str, str]
) -> None:
    config = CONFIG.model_copy(update=how)
    whole = pretrain(corpus, config, tmp_path / "whole", "cpu")

    def interrupt(step: int, bits: float, speed: float) -> None:
        if step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, config, tmp_path / "cut", "cpu", progress=interrupt)
    with pytest.raises(RunError, match="holds an unfinished encoder: go on with --resume, or start over with --fresh"):
        pretrain(corpus, config, tmp_path / "cut", "cpu")
    rest = pretrain(corpus, config, tmp_path / "cut", "cpu", resume=True)
    assert rest.resumed_from == stop
    assert results(rest)["held_out_bits"].tolist() == results(whole)["held_out_bits"].tolist()
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "cut" / "last.ckpt").exists()


def test_a_checkpoint_of_another_run_is_refused(small: None, corpus: Corpus, tmp_path: Path) -> None:
    def interrupt(step: int, bits: float, speed: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, CONFIG, tmp_path, "cpu", progress=interrupt)
    with pytest.raises(RunError, match=r"is of another run \(seed was 0, is 1"):
        pretrain(corpus, CONFIG.model_copy(update={"seed": 1}), tmp_path, "cpu", resume=True)


def test_a_damaged_checkpoint_is_refused(small: None, corpus: Corpus, tmp_path: Path) -> None:
    def interrupt(step: int, bits: float, speed: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, CONFIG, tmp_path, "cpu", progress=interrupt)
    whole = (tmp_path / "last.ckpt").read_bytes()
    for content in (whole[:5000], whole[:-30], b"", b"\x80\x02cos\nsystem\nq\x01."):
        (tmp_path / "last.ckpt").write_bytes(content)
        with pytest.raises(IntegrityError, match=r"last\.ckpt cannot be read \(.+\); delete it") as raised:
            pretrain(corpus, CONFIG, tmp_path, "cpu", resume=True)
        assert "weights_only" not in str(raised.value)


def test_recomputed_layers_train_the_same_encoder(
    small: None, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recomputed: list[object] = []
    checkpoint = hyenadna.checkpoint

    def counting(layer: object, *rest: Any, **how: Any) -> Any:
        recomputed.append(layer)
        return checkpoint(layer, *rest, **how)

    monkeypatch.setattr(hyenadna, "checkpoint", counting)
    config = CONFIG.model_copy(update={"steps": 3, "check_every": 1})
    kept = pretrain(corpus, config, tmp_path / "kept", "cpu").curves
    assert recomputed == []
    again = pretrain(
        corpus, config.model_copy(update={"gradient_checkpointing": True}), tmp_path / "again", "cpu"
    ).curves
    assert recomputed
    assert np.allclose(kept["held_out_bits"], again["held_out_bits"], atol=1e-5)


def test_a_finished_encoder_is_replaced_only_where_that_was_asked_for(
    small: None, corpus: Corpus, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"steps": 1})
    pretrain(corpus, config, tmp_path, "cpu")
    before = (tmp_path / "model.safetensors").read_bytes()
    other = config.model_copy(update={"seed": 1})
    for resume in (True, False):
        with pytest.raises(RunError, match="holds a finished encoder: choose another folder, or replace it with --fre"):
            pretrain(corpus, other, tmp_path, "cpu", resume=resume)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    pretrain(corpus, other, tmp_path, "cpu", fresh=True)
    assert (tmp_path / "model.safetensors").read_bytes() != before
    assert pretrain(corpus, config, tmp_path / "new", "cpu", resume=True).resumed_from is None


def test_a_place_that_is_no_folder_is_refused_before_the_first_step(
    small: None, corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    steps: list[int] = []
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="cannot be made a folder"):
            pretrain(corpus, CONFIG, place, "cpu", progress=lambda step, bits, speed: steps.append(step))
    assert steps == []


@pytest.mark.parametrize(("held_out", "words"), [("1", "held out"), ("2", "to train on")])
def test_a_part_without_a_known_base_is_refused(held_out: str, words: str) -> None:
    genome = MemoryGenome({"chr1": "N" * 100, "chr2": "ACGT" * 25}, "toy", "toy")
    with pytest.raises(InputError, match=f"what is {words} has no known base"):
        corpus_of(genome, [held_out])


def test_bad_input_is_named(small: None, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="length 300 is more than hyenadna-tiny-1k reads"):
        pretrain(corpus, CONFIG.model_copy(update={"length": 300}), tmp_path, "cpu")
    genome = MemoryGenome({"chr1": "ACGT" * 9, "chr2": "ACGT" * 9}, "toy", "toy")
    with pytest.raises(InputError, match="no stretch that is held out, or to train on, has 64 bases; the longest: 36"):
        pretrain(corpus_of(genome, ["chr1"]), CONFIG, tmp_path, "cpu")
    with pytest.raises(InputError, match="chromosome '7' to hold out is not in toy; it has 1, 2"):
        corpus_of(genome, ["chr7"])
    with pytest.raises(InputError, match="what is to train on has no known base"):
        corpus_of(genome, ["1", "2"])
    with pytest.raises(InputError, match=r"pretrain: learning_rate = -1"):
        PretrainingConfig.from_mapping({"learning_rate": -1}, "pretrain")


def test_a_pretrained_encoder_serves_as_weights_and_says_what_it_saw(corpus: Corpus, tmp_path: Path) -> None:
    pretrain(corpus, CONFIG.model_copy(update={"steps": 1}), tmp_path, "cpu")
    predictor = HyenaDNADeltaPredictor("hyenadna-tiny-1k", hidden_dim=8, window=31, weights=str(tmp_path))
    assert "trained, not better than a Markov model: 0.0 Mb of toy without 2, 1 steps" in predictor.weights
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "hyenadna"


@pytest.mark.slow
def test_the_command_writes_an_encoder(tmp_path: Path) -> None:
    fasta = tmp_path / "genome.fa"
    rng = np.random.default_rng(1)
    fasta.write_text("".join(f">chr{i}\n{''.join(rng.choice(list('ACGT'), 400))}\n" for i in (2, 3)))
    app = typer.Typer()
    app.command()(command.pretrain)
    arguments = ["--output", tmp_path / "encoder", "--sequence", fasta, "--steps", 2, "--length", 64]
    done = CliRunner().invoke(app, [str(word) for word in arguments])
    assert done.exit_code == 0, done.output
    assert "step 2 of 2: " in done.output, "a log file gets a line at each look, as it has no progress bar"
    assert "trained, not better than a Markov model: 0.0 Mb of genome.fa without chr3, 2 steps" in done.output
    for words in ("base composition alone: ", "(Markov models, order 5: ", ", order 8: "):
        assert words in done.output
    assert (tmp_path / "encoder" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def human_genes() -> Corpus:
    """Whole genes of chromosomes 1 and 3, the second held out."""
    try:
        importlib.metadata.distribution("frame-alignment-checks")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the extra 'quickstart' is not installed")
    return packaged_genes(["chr3"])


@pytest.mark.quickstart
def test_packaged_genes_are_split_by_chromosome(human_genes: Corpus) -> None:
    assert len(human_genes.training) + len(human_genes.held_out) == 590
    assert known_bases(human_genes.training) > known_bases(human_genes.held_out) > 5_000_000


@pytest.mark.quickstart
@pytest.mark.parametrize("name", ["hyenadna-small-32k", "hyenadna-medium-160k"])
def test_the_encoder_in_the_package_predicts_chromosomes_it_has_not_seen(human_genes: Corpus, name: str) -> None:
    """Its config says that it was trained without chromosomes 1 and 3: better than a Markov model counted on one of
    them, on the other."""
    encoder, origin = load_hyenadna(name, "packaged")
    assert "pre-trained: 90.4 Mb" in origin
    assert "without chr1, chr3" in origin
    codes = pretraining._Sequences(human_genes.held_out, 1024, CPU).batch(8, seed=0)
    head = load_file(shipped_encoders()[name] / "model.safetensors")["lm_head.weight"].float()
    with torch.inference_mode():
        logits = encoder.eval()(encoder.embed(codes[:, :-1].long() + BASE_TOKENS[0])) @ head.T
    bits = torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes[:, 1:].flatten().long() + BASE_TOKENS[0])
    assert bits.item() / np.log(2) < MarkovModel(human_genes.kmers(9), 8).bits(codes.numpy()) - 0.02
