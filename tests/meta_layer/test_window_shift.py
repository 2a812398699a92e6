"""Shifted training windows: both alleles together, the reading and the labels move along, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.network import one_hot
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.meta_layer.features import WindowData, draw_shifts
from meta_spliceai.splice_engine.meta_layer.models import (
    ComposedPredictor,
    HyenaDNADeltaPredictor,
    ValidatedDeltaPredictor,
)
from meta_spliceai.splice_engine.meta_layer.models.composition import PairReadout
from meta_spliceai.splice_engine.meta_layer.models.heads import MultitaskHead, PositionHead
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training import FitReport
from meta_spliceai.splice_engine.variants.table import Windows, build_windows

from .conftest import WINDOW, ToyTask

MOST = 4
CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=3, batch_size=16, learning_rate=3e-3, seed=7, window_shift=MOST)


@pytest.fixture
def wide(toy_task: ToyTask) -> Windows:
    """The toy windows with further bases on either side."""
    rng = np.random.default_rng(8)
    sides = rng.integers(0, 4, (2, len(toy_task.windows.ref), MOST), dtype=np.uint8)
    return Windows(*(np.hstack((sides[0], codes, sides[1])) for codes in (toy_task.windows.ref, toy_task.windows.alt)))


def new_predictor() -> ValidatedDeltaPredictor:
    return ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8, layers=2, seed=1)


def train(
    task: ToyTask, windows: Windows, folder: Path, config: TrainingConfig = CONFIG, predictor=None, resume=False
) -> tuple[FitReport, np.ndarray]:
    predictor = predictor or new_predictor()
    report = task.fit(predictor, folder, config, windows=windows, resume=resume)
    return report, predict(predictor, task.windows, "cpu")


def results(report: FitReport) -> pd.DataFrame:
    return report.curves.drop(columns=["seconds", "windows_per_second"])


def test_the_middle_of_wide_windows_is_the_window_itself_also_of_indels_and_on_the_other_strand() -> None:
    bases = "".join(np.random.default_rng(1).choice(list("ACGT"), 300))
    rows = [(150, bases[149], "G", "+"), (150, bases[149:153], bases[149], "-"), (60, bases[59], "TTGACA", "-")]
    rows.append((61, bases[60], "ACGTT", "+"))
    table = pd.DataFrame(rows, columns=["pos", "ref", "alt", "strand"]).assign(chrom="chr1")
    genome = MemoryGenome({"chr1": bases}, "toy build", "toy genome")
    narrow, broad = (build_windows(table, genome, length) for length in (41, 41 + 2 * MOST))
    assert np.array_equal(broad.ref[:, MOST:-MOST], narrow.ref)
    assert np.array_equal(broad.alt[:, MOST:-MOST], narrow.alt)


def test_a_window_moves_downstream_and_takes_both_alleles_along(wide: Windows, toy_task: ToyTask) -> None:
    data = WindowData.on_device(wide, CPU, MOST)
    rows, shift = torch.tensor([3, 70, 5]), torch.tensor([0, MOST, -2])
    for pair, codes in zip(data.pair(rows, shift), (wide.ref, wide.alt), strict=True):
        for got, row, by in zip(pair, rows.tolist(), shift.tolist(), strict=True):
            first = MOST + by
            assert torch.equal(got, one_hot(torch.from_numpy(codes[row, first : first + WINDOW])))
    plain = WindowData.on_device(toy_task.windows, CPU).pair(rows)
    assert all(torch.equal(a, b) for a, b in zip(data.pair(rows), plain, strict=True))


def test_shifts_reach_both_ends_and_follow_the_seed() -> None:
    drawn = draw_shifts(500, 3, 11, CPU)
    assert sorted(set(drawn.tolist())) == [-3, -2, -1, 0, 1, 2, 3]
    assert torch.equal(drawn, draw_shifts(500, 3, 11, CPU))
    assert not torch.equal(drawn, draw_shifts(500, 3, 12, CPU))


def test_the_readout_reads_at_the_variant_wherever_it_stands() -> None:
    readout, shift = PairReadout(2), torch.tensor([0, 3, -4])
    ref, alt = torch.zeros(3, 2, 11), torch.zeros(3, 2, 11)
    for row, by in enumerate(shift.tolist()):
        alt[row, :, 5 - by] = torch.tensor([1.0, 2.0])
    compared = readout(ref, alt, shift)
    assert torch.equal(compared[:, :2], torch.tensor([[1.0, 2.0]] * 3))
    assert torch.equal(readout(ref, alt)[1:, :2], torch.zeros(2, 2))
    assert torch.equal(readout(ref, alt)[0], compared[0])


def test_labels_of_positions_move_along_and_others_stay() -> None:
    head = PositionHead(4, 4, WINDOW)
    offset, shift = torch.tensor([[5.0], [-2.0]]), torch.tensor([3, -4])
    place = WINDOW // 2 + offset - shift[:, None]  # the site's place in the moved window
    predictions = -0.5 * ((torch.arange(WINDOW) - place) / head.softness).square()
    here, _ = head.costs(predictions, head.moved(offset, shift), CONFIG)
    there, _ = head.costs(predictions, offset, CONFIG)
    assert here.abs().max() < 1e-5
    assert there.min() > 1
    joint = MultitaskHead(4, 4, WINDOW)
    labels = torch.arange(float(joint.labels)).repeat(2, 1)
    moved = (joint.moved(labels, shift) - labels).T.tolist()
    assert [column for column in moved if column != [0.0, 0.0]] == [[-3.0, 4.0]]
    assert moved[5] == [-3.0, 4.0]  # behind Δ (3), altering and effect type


def test_shifted_training_repeats_and_resumes_to_the_unbroken_result(
    toy_task: ToyTask, wide: Windows, tmp_path: Path
) -> None:
    whole, predictions = train(toy_task, wide, tmp_path / "whole")
    again, same = train(toy_task, wide, tmp_path / "again")
    pd.testing.assert_frame_equal(results(whole), results(again))
    assert np.array_equal(predictions, same)
    cut = new_predictor()
    forward, calls = cut.forward, iter(range(10**6))

    def failing(*inputs: torch.Tensor) -> torch.Tensor:
        if next(calls) == 9:  # six training batches and one of validation an epoch: in the second epoch
            raise KeyboardInterrupt
        return forward(*inputs)

    cut.forward = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train(toy_task, wide, tmp_path / "cut", predictor=cut)
    rest, resumed = train(toy_task, wide, tmp_path / "cut", resume=True)
    assert rest.resumed_from == 1
    pd.testing.assert_frame_equal(results(whole), results(rest))
    assert np.array_equal(predictions, resumed)
    still, _ = train(toy_task, toy_task.windows, tmp_path / "still", CONFIG.model_copy(update={"window_shift": 0}))
    assert not np.allclose(still.curves["train_loss"], whole.curves["train_loss"], rtol=1e-4)


def test_training_windows_move_anew_each_epoch_and_validation_windows_never(
    toy_task: ToyTask, wide: Windows, tmp_path: Path
) -> None:
    predictor, seen, held = new_predictor(), [], []
    forward = predictor.forward

    def recording(ref: torch.Tensor, alt: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        if predictor.training:
            assert shift is not None
            # The variant is the one place at which the toy's alleles differ.
            assert torch.equal((ref != alt).any(1).float().argmax(1), WINDOW // 2 - shift)
            seen.extend(shift.tolist())
        else:
            held.append((ref, shift))
        return forward(ref, alt, shift)

    predictor.forward = recording  # type: ignore[method-assign]
    train(toy_task, wide, tmp_path, CONFIG.model_copy(update={"epochs": 2}), predictor)
    first, second = seen[:90], seen[90:]
    assert sorted(first) != sorted(second)
    assert {abs(by) for by in seen} == set(range(MOST + 1))
    middle = one_hot(torch.from_numpy(toy_task.windows.ref[toy_task.validation]))
    assert torch.equal(held[0][0], middle)
    assert held[0][1] is None


def test_the_rule_is_learned_from_shifted_windows(toy_task: ToyTask, wide: Windows, tmp_path: Path) -> None:
    _, predictions = train(toy_task, wide, tmp_path, CONFIG.model_copy(update={"epochs": 14}))
    held = toy_task.validation
    assert np.corrcoef(predictions[held, 2], toy_task.targets.values[held, 2])[0, 1] > 0.9


@pytest.mark.parametrize("encoder", ["simple-cnn", "hyenadna-tiny-1k"])
def test_tuned_encoders_of_every_kind_take_shifted_windows(
    encoder: str, toy_task: ToyTask, wide: Windows, tmp_path: Path
) -> None:
    settings = {"hidden_dim": 8}
    settings |= {"layers": 2} if encoder == "simple-cnn" else {"weights": "scratch", "freeze_encoder": False}
    predictor = ComposedPredictor(encoder, "delta", WINDOW, 0, settings)
    report, _ = train(toy_task, wide, tmp_path, CONFIG.model_copy(update={"epochs": 1}), predictor)
    assert np.isfinite(report.curves["val_loss"]).all()


def test_what_cannot_be_shifted_is_refused(toy_task: ToyTask, wide: Windows, tmp_path: Path) -> None:
    frozen = HyenaDNADeltaPredictor("hyenadna-tiny-1k", hidden_dim=8, window=WINDOW, weights="scratch")
    with pytest.raises(InputError, match="window_shift = 4 is more than this predictor can follow"):
        train(toy_task, wide, tmp_path, predictor=frozen)
    near = HyenaDNADeltaPredictor(
        "hyenadna-tiny-1k", hidden_dim=8, window=WINDOW, weights="scratch", freeze_encoder=False, read_radius=3
    )
    with pytest.raises(InputError, match=r"can follow \(3\): it reads 7 positions"):
        train(toy_task, wide, tmp_path, predictor=near)
    with pytest.raises(InputError, match="a window of 13 bases was given to an encoder made for 21"):
        train(toy_task, toy_task.windows, tmp_path)
