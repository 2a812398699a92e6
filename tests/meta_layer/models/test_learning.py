"""Every encoder learns: within 200 steps at a row's own settings it remembers 256 variants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from meta_spliceai.splice_engine.meta_layer.models import ENCODERS, ComposedPredictor
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.settings import TRUNK, TrainingConfig
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.meta_layer.training import fit
from meta_spliceai.splice_engine.variants.table import Coverage

WINDOW, VARIANTS, STEPS, ALTERING = 41, 256, 200, 64
GUANINE, THYMINE = 2, 3


@dataclass
class Variants:
    ref: np.ndarray
    alt: np.ndarray
    altering: np.ndarray


def of_eight_exons(seed: int = 0) -> Variants:
    """Substitutions at many places of eight sequences, as assays make them, a quarter of them altering at random.

    Reference windows of one exon overlap and recur: only who compares the two alleles can tell them apart.
    """
    random, middle = np.random.default_rng(seed), WINDOW // 2
    exons = random.integers(0, 4, (8, WINDOW + 20), dtype=np.uint8)
    places = [(exon, place, step) for exon in range(8) for place in range(21) for step in (1, 2, 3)]
    chosen = random.permutation(len(places))[:VARIANTS]
    ref = np.stack([exons[exon, place : place + WINDOW] for exon, place, _ in (places[i] for i in chosen)])
    alt = ref.copy()
    alt[:, middle] = (alt[:, middle] + np.array([places[i][2] for i in chosen], np.uint8)) % 4
    return Variants(ref, alt, random.permutation(np.arange(VARIANTS) < ALTERING))


def of_random_sequences(seed: int = 0) -> Variants:
    """Substitutions in sequences of their own, a quarter of them altering at random."""
    random, middle = np.random.default_rng(seed), WINDOW // 2
    ref = random.integers(0, 4, (VARIANTS, WINDOW), dtype=np.uint8)
    alt = ref.copy()
    alt[:, middle] = (alt[:, middle] + random.integers(1, 4, VARIANTS)) % 4
    return Variants(ref, alt, random.permutation(np.arange(VARIANTS) < ALTERING))


def that_break_donors(seed: int = 0) -> Variants:
    """Substitutions in random sequences; those that change the G of a GT alter, the others do not."""
    random, middle = np.random.default_rng(seed), WINDOW // 2
    ref = random.integers(0, 4, (VARIANTS, WINDOW), dtype=np.uint8)
    altering = np.arange(VARIANTS) < ALTERING
    ref[altering, middle], ref[altering, middle + 1] = GUANINE, THYMINE
    ref[~altering & (ref[:, middle] == GUANINE) & (ref[:, middle + 1] == THYMINE), middle + 1] = GUANINE
    alt = ref.copy()
    alt[:, middle] = (alt[:, middle] + random.integers(1, 4, VARIANTS)) % 4
    return Variants(ref, alt, altering)


def settings_of(encoder: str) -> dict[str, int | str]:
    """Few channels where they are trained; random weights where they are frozen. All else as a row has it."""
    if encoder.startswith("hyenadna"):
        return {"weights": "scratch"}
    return {"hidden_dim": 32} if encoder.endswith("-cnn") else {}


class Remembered(Exception):
    """Raised out of training that need not go on."""


def remembers(encoder: str, variants: Variants, folder: Path) -> bool:
    """Whether the AUROC on the training rows reaches 0.99 within `STEPS` steps."""
    config = TrainingConfig(patience=0)
    config = config.model_copy(update={"epochs": STEPS * config.batch_size // VARIANTS})
    predictor = ComposedPredictor(encoder, "binary", WINDOW, encoder_settings=settings_of(encoder))
    # Validated on rows that are trained on, under other numbers.
    again = np.arange(VARIANTS) % 4 == 0
    twice = Variants(*(np.concatenate((of, of[again])) for of in vars(variants).values()))
    labels = twice.altering[:, None].astype(np.float32)
    targets = Targets(labels, np.ones(len(labels), bool), Coverage(len(labels)), "altering")
    rows, others = np.arange(VARIANTS), np.arange(VARIANTS, len(labels))

    def look(kind: str, facts: dict[str, float]) -> None:
        if kind == "epoch" and facts["epoch"] % 5 == 0:
            scores = predict(predictor, variants, "cpu")[:, 0]
            if roc_auc_score(variants.altering, scores) >= 0.99:
                raise Remembered

    try:
        fit(
            predictor,
            twice,
            targets,
            rows,
            others,
            config,
            folder / "run",
            "cpu",
            progress=look,
        )
    except Remembered:
        return True
    return False


QUICK = "simple-cnn"
"""The others take longer: more channels, more layers."""

EVERY = [
    pytest.param(name, marks=() if name == QUICK else pytest.mark.slow)
    for name in ENCODERS
    if not name.endswith(TRUNK)  # these read a base network's hidden channels, which come with a row's base scores
]


@pytest.mark.parametrize("encoder", EVERY)
def test_it_remembers_variants(encoder: str, tmp_path: Path) -> None:
    assert remembers(encoder, of_random_sequences(), tmp_path)


@pytest.mark.parametrize("encoder", ["simple-cnn", pytest.param("gated-cnn", marks=pytest.mark.slow)])
def test_what_is_trained_remembers_variants_of_few_exons(encoder: str, tmp_path: Path) -> None:
    """Frozen random features take more than 200 steps: their alleles differ by little beside what they share."""
    assert remembers(encoder, of_eight_exons(), tmp_path)


@pytest.mark.parametrize(
    "encoder", [QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in ("gated-cnn", "hyenadna-tiny-1k"))]
)
def test_it_learns_what_breaks_a_donor(encoder: str, tmp_path: Path) -> None:
    assert remembers(encoder, that_break_donors(), tmp_path)
