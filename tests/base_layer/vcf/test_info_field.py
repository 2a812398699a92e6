"""Scores as text: SpliceAI's format and masks, and texts that float noise cannot change unnoticed."""

from __future__ import annotations

import numpy as np
import pytest

from meta_spliceai.splice_engine.base_layer.vcf.info_field import FIELDS, NOISE, peak_of, two_decimals
from meta_spliceai.splice_engine.genome.annotation import Gene

DISTANCE = 5
POS = 1198
GENE = Gene("G", "1", "+", 1000, 4000, ((1000, 1200), (2000, 2150), (3800, 4000)))
"""Its first donor is position 1200, two bases behind POS."""


def delta(**values: float) -> np.ndarray:
    """Δ that is 0 but for named values: acceptor or donor, p or m (plus, minus), offset (a_p3 = 0.5)."""
    scores = np.zeros((2 * DISTANCE + 1, 3), np.float32)
    for name, value in values.items():
        channel, place = name.split("_")
        offset = int(place[1:]) * (1 if place[0] == "p" else -1)
        scores[DISTANCE + offset, {"a": 1, "d": 2}[channel]] = value
    return scores


def text(scores: np.ndarray, base: str = "spliceai", mask: bool = False, gene: Gene = GENE) -> str:
    return FIELDS[base].render(scores, gene, POS, mask)[0]


def test_gains_and_losses_in_spliceais_order() -> None:
    scores = delta(a_p3=0.5, a_m4=-0.25, d_p1=0.126, d_p2=-1.0)
    assert text(scores) == "0.50|0.25|0.13|1.00|3|-4|1|2"


def test_spliceais_mask_looks_at_the_nearest_boundary_alone() -> None:
    # A loss of the donor at +2 stays, a loss elsewhere goes; a gain there goes, a gain elsewhere stays.
    assert text(delta(d_p2=-0.4, a_p1=-0.3), mask=True) == "0.00|0.00|0.00|0.40|0|1|0|2"
    assert text(delta(d_p2=0.4, a_p1=0.3), mask=True) == "0.30|0.00|0.00|0.00|1|0|2|0"


def test_site_masks_look_at_every_site_of_the_kind() -> None:
    # Δ is largest at an unannotated place; with the mask by site the annotated one comes forward.
    scores = delta(d_m3=-0.6, d_p2=-0.4, d_p4=0.2)
    assert text(scores, "cispliceai") == "0.00|0.00|0.20|0.60|0|0|4|-3"
    assert text(scores, "cispliceai", mask=True) == "0.00|0.00|0.20|0.40|0|0|4|2"
    # An acceptor's loss at a donor's place is no loss of an annotated acceptor.
    assert text(delta(a_p2=-0.4), "cispliceai", mask=True) == "0.00|0.00|0.00|0.00|0|0|0|0"


def test_pangolin_gives_gain_and_negative_loss_over_tissues() -> None:
    tissues = np.zeros((2 * DISTANCE + 1, 4), np.float32)
    tissues[DISTANCE - 2] = [0.1, 0.3, 0.0, -0.1]
    tissues[DISTANCE + 2] = [-0.2, -0.7, 0.05, 0.0]
    assert text(tissues, "pangolin") == "0.30|-0.70|-2|2"
    tissues[DISTANCE + 1] = -0.8
    assert text(tissues, "pangolin") == "0.30|-0.80|-2|1"
    assert text(tissues, "pangolin", mask=True) == "0.30|-0.70|-2|2"


def test_zero_has_no_sign() -> None:
    assert two_decimals(-0.001) == "0.00"
    assert two_decimals(-0.0) == "0.00"
    assert two_decimals(-0.006) == "-0.01"


def test_the_first_of_equal_peaks_is_taken_and_not_sure() -> None:
    values = np.array([0, 0.3, 0, 0.3, 0])
    assert (peak_of(values).index, peak_of(values).sure) == (1, False)
    assert peak_of(np.array([0, 0.3, 0, 0.29, 0])).sure


def test_what_prints_as_zero_stands_nearest_to_the_variant() -> None:
    noise = np.array([3e-4, -1e-4, 1e-4, 2e-4, -3e-4])
    assert (peak_of(noise).index, peak_of(noise).sure) == (2, True)
    assert peak_of(np.array([0.004, 0, 0, 0, 0.001])).index == 0


@pytest.mark.parametrize("border", [0.005, 0.015, 0.255])
def test_a_value_at_a_rounding_border_is_not_sure(border: float) -> None:
    def sure(value: float) -> bool:
        return peak_of(np.array([0.0, value, 0.0])).sure

    assert not sure(border)
    assert not sure(border + 0.9 * NOISE)
    assert sure(border + 3 * NOISE)


@pytest.mark.slow
def test_sure_texts_withstand_noise_and_unsure_ones_exist() -> None:
    random = np.random.default_rng(0)
    field = FIELDS["spliceai"]
    unsure = 0
    for _ in range(400):
        scores = (random.standard_normal((2 * DISTANCE + 1, 3)) ** 5 / 1000).astype(np.float64)
        _, sure = field.render(scores, GENE, POS, mask=bool(random.integers(2)))
        if not sure:
            unsure += 1
            continue
        for mask in (False, True):
            expected = field.render(scores, GENE, POS, mask)[0]
            for _ in range(20):
                shaken = scores + random.uniform(-NOISE, NOISE, scores.shape)
                assert field.render(shaken, GENE, POS, mask)[0] == expected
    assert 0 < unsure < 100


def test_definitions_say_the_format_that_spliceais_readers_look_for() -> None:
    line = FIELDS["spliceai"].definitions()["SpliceAI"]
    assert line == (
        '##INFO=<ID=SpliceAI,Number=.,Type=String,Description="SpliceAIv1.3.1 variant annotation. These include delta '
        "scores (DS) and delta positions (DP) for acceptor gain (AG), acceptor loss (AL), donor gain (DG), and donor "
        'loss (DL). Format: ALLELE|SYMBOL|DS_AG|DS_AL|DS_DG|DS_DL|DP_AG|DP_AL|DP_DG|DP_DL">'
    )
    assert FIELDS["spliceai"].unscored() == ".|.|.|.|.|.|.|."
    keys = [key for field in FIELDS.values() for key in field.definitions()]
    assert len(set(keys)) == len(keys) == 12
    assert all(key.replace("_", "").isalnum() for key in keys)
