"""SIGKILL at any moment of pre-training: the resumed one ends with the same encoder, byte for byte."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from meta_spliceai import files
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.meta_layer import pretraining, training
from meta_spliceai.splice_engine.meta_layer.models import hyenadna_weights
from meta_spliceai.splice_engine.meta_layer.models.hyenadna import HyenaConfig
from meta_spliceai.splice_engine.meta_layer.pretraining import Corpus, PretrainingConfig, corpus_of, pretrain
from tests.killed import Lines, die_at_moments, killed_in

MOMENTS = 10
CONFIG = PretrainingConfig(length=64, batch_size=2, steps=6, check_every=2, check_batches=1, learning_rate=3e-3)
SMALL = HyenaConfig(d_model=16, n_layer=1, d_inner=32, max_seq_len=130, filter_order=8, embed_dropout=0.1)
FOLLOWED = {module.__file__ for module in (files, training, pretraining, hyenadna_weights)}


def corpus() -> Corpus:
    rng = np.random.default_rng(0)
    contigs = {name: rng.integers(0, 4, 500).astype(np.uint8) for name in ("chr1", "chr2")}
    return corpus_of(MemoryGenome(contigs, "toy", "toy"), ["2"])


def die(folder: Path) -> None:
    """Run in a process of its own."""
    torch.set_num_threads(1)
    pretraining.model_config = lambda name: SMALL
    toys = corpus()
    pretrain(toys, CONFIG, folder / "undisturbed", "cpu")  # what is forked then finds everything imported

    def work(number: int, lines: Lines) -> None:
        with lines.followed():
            pretrain(toys, CONFIG, folder / str(number), "cpu")

    die_at_moments(work, {str(path) for path in FOLLOWED}, MOMENTS, "MarkovModel")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_killed_pretraining_resumes_to_the_encoder_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = killed_in(__name__, tmp_path)
    assert len(places) == MOMENTS
    assert len(set(places)) > MOMENTS // 2
    monkeypatch.setattr(pretraining, "model_config", lambda name: SMALL)
    whole = tmp_path / "0"
    kept = []
    for number, place in enumerate(places, start=1):
        folder = tmp_path / str(number)
        report = pretrain(corpus(), CONFIG, folder, "cpu", resume=True)
        kept.append(report.resumed_from)
        for name in ("model.safetensors", "config.json"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), place
        curves = [pd.read_parquet(one / "curves.parquet") for one in (whole, folder)]
        same = ["step", "train_bits", "held_out_bits", "learning_rate"]
        assert curves[0][same].equals(curves[1][same]), place
        assert sorted(one.name for one in folder.iterdir()) == sorted(one.name for one in whole.iterdir()), place
    # What was done is not done again: the later the moment, the more steps are kept.
    assert kept[0] is None
    assert kept[-1] >= CONFIG.steps - CONFIG.check_every
    assert [step or 0 for step in kept] == sorted(step or 0 for step in kept)
