"""Training: it learns, it stops, it repeats, it resumes, and its failures have names."""

from __future__ import annotations

import signal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from meta_spliceai.errors import InputError, IntegrityError, RunError
from meta_spliceai.splice_engine.meta_layer.features import rows_at_a_time, validation_rows
from meta_spliceai.splice_engine.meta_layer.models import ComposedPredictor, ValidatedDeltaPredictor
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training import FitReport, class_weights, fit, pearson

from .conftest import WINDOW, ToyTask

CONFIG = TrainingConfig(epochs=5, batch_size=16, learning_rate=3e-3, seed=7)


def new_predictor() -> ValidatedDeltaPredictor:
    return ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8, layers=2, seed=1)


def train(
    task: ToyTask, folder: Path, config: TrainingConfig = CONFIG, resume: bool = False, predictor=None
) -> tuple[FitReport, np.ndarray]:
    predictor = predictor or new_predictor()
    report = task.fit(predictor, folder, config, resume=resume)
    return report, predict(predictor, task.windows, "cpu")


def results(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves without the clock's columns."""
    return curves.drop(columns=["seconds", "windows_per_second"])


def stop_at(predictor: ValidatedDeltaPredictor, call: int, error: BaseException) -> ValidatedDeltaPredictor:
    """Let the predictor raise at its n-th batch."""
    forward, calls = predictor.forward, iter(range(1, 10**6))

    def failing(ref: torch.Tensor, alt: torch.Tensor) -> torch.Tensor:
        if next(calls) == call:
            raise error
        return forward(ref, alt)

    predictor.forward = failing  # type: ignore[method-assign]
    return predictor


def test_the_toy_rule_is_learned(toy_task: ToyTask, tmp_path: Path) -> None:
    report, predictions = train(toy_task, tmp_path, CONFIG.model_copy(update={"epochs": 12}))
    held_out = toy_task.validation
    r = pearson(torch.from_numpy(predictions[held_out]), torch.from_numpy(toy_task.targets.values[held_out]))
    assert r > 0.9
    assert report.curves["val_loss"].iloc[-1] < 0.3 * report.curves["val_loss"].iloc[0]
    assert r == pytest.approx(report.curves["val_r"][report.best_epoch - 1], abs=1e-5)


def test_two_runs_with_one_seed_agree_and_another_seed_differs(toy_task: ToyTask, tmp_path: Path) -> None:
    first, predictions = train(toy_task, tmp_path / "a")
    torch.manual_seed(99)  # the caller's generator plays no part
    second, again = train(toy_task, tmp_path / "b")
    pd.testing.assert_frame_equal(results(first.curves), results(second.curves))
    assert np.array_equal(predictions, again)
    other, _ = train(toy_task, tmp_path / "c", CONFIG.model_copy(update={"seed": 8}))
    assert not np.allclose(first.curves["train_loss"], other.curves["train_loss"])


@pytest.mark.parametrize("batch", [3, 20, 31, 34])
def test_an_interrupted_run_resumes_to_the_unbroken_result(toy_task: ToyTask, tmp_path: Path, batch: int) -> None:
    # Six training batches and one validation batch an epoch: batch 3 falls into the first epoch, 34 into the last.
    whole, predictions = train(toy_task, tmp_path / "whole")
    listening = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(toy_task, tmp_path / "cut", predictor=stop_at(new_predictor(), batch, KeyboardInterrupt()))
    assert signal.getsignal(signal.SIGINT) is listening
    rest, resumed = train(toy_task, tmp_path / "cut", resume=True)
    done = (batch - 1) // 7
    assert rest.resumed_from == (done or None)
    pd.testing.assert_frame_equal(results(whole.curves), results(rest.curves))
    assert np.array_equal(predictions, resumed)


def test_a_resumed_run_that_is_interrupted_again_resumes_too(toy_task: ToyTask, tmp_path: Path) -> None:
    whole, predictions = train(toy_task, tmp_path / "whole")
    for batch in (16, 9):  # in the third epoch; then, resumed, in the fourth
        stopped = stop_at(new_predictor(), batch, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train(toy_task, tmp_path / "cut", resume=True, predictor=stopped)
    rest, resumed = train(toy_task, tmp_path / "cut", resume=True)
    assert rest.resumed_from == 3
    pd.testing.assert_frame_equal(results(whole.curves), results(rest.curves))
    assert np.array_equal(predictions, resumed)


def test_a_finished_run_resumes_to_its_own_result_without_training(toy_task: ToyTask, tmp_path: Path) -> None:
    whole, predictions = train(toy_task, tmp_path)
    never = stop_at(new_predictor(), 1, AssertionError("trained again"))
    forward = ValidatedDeltaPredictor.forward
    report = fit(
        never,
        toy_task.windows,
        toy_task.targets,
        toy_task.train,
        toy_task.validation,
        CONFIG,
        tmp_path,
        "cpu",
        resume=True,
    )
    assert report.resumed_from == report.epochs_run == whole.epochs_run
    assert report.stopped_because == "all 5 epochs done"
    never.forward = forward.__get__(never)  # type: ignore[method-assign]
    assert np.array_equal(predict(never, toy_task.windows, "cpu"), predictions)


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(toy_task: ToyTask, tmp_path: Path) -> None:
    train(toy_task, tmp_path)
    with pytest.raises(RunError, match=r"learning_rate was 0\.003, is 0\.1"):
        train(toy_task, tmp_path, CONFIG.model_copy(update={"learning_rate": 0.1}), resume=True)
    toy_task.windows.alt[0, 0] ^= 1
    with pytest.raises(RunError, match="data was"):
        train(toy_task, tmp_path, resume=True)
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(IntegrityError, match=r"last\.ckpt cannot be read"):
        train(toy_task, tmp_path, resume=True)


def test_training_stops_early_and_keeps_the_best_weights(toy_task: ToyTask, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    toy_task.targets.values[:] = rng.normal(size=toy_task.targets.values.shape)  # nothing to learn
    config = CONFIG.model_copy(update={"epochs": 60, "patience": 2, "learning_rate": 2e-2})
    report, predictions = train(toy_task, tmp_path, config)
    assert report.epochs_run == report.best_epoch + 2 < 60
    assert report.stopped_because == "validation loss no better for 2 epochs"
    labels = torch.from_numpy(toy_task.targets.values)
    loss = torch.nn.functional.huber_loss(
        torch.from_numpy(predictions)[toy_task.validation], labels[toy_task.validation], delta=0.1
    )
    assert float(loss) / 0.1 == pytest.approx(report.curves["val_loss"].min(), rel=1e-4)


def test_patience_counts_on_over_an_interruption(toy_task: ToyTask, tmp_path: Path) -> None:
    toy_task.targets.values[:] = np.random.default_rng(0).normal(size=toy_task.targets.values.shape)
    config = CONFIG.model_copy(update={"epochs": 60, "patience": 3, "learning_rate": 2e-2})
    whole, _ = train(toy_task, tmp_path / "whole", config)
    inside_the_last_epoch = 7 * (whole.epochs_run - 1) + 2
    stopped = stop_at(new_predictor(), inside_the_last_epoch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(toy_task, tmp_path / "cut", config, predictor=stopped)
    rest, _ = train(toy_task, tmp_path / "cut", config, resume=True)
    assert rest.resumed_from == whole.epochs_run - 1
    assert rest.stopped_because == whole.stopped_because == "validation loss no better for 3 epochs"
    pd.testing.assert_frame_equal(results(whole.curves), results(rest.curves))


def test_a_loss_that_is_no_number_ends_the_run_with_a_reason(toy_task: ToyTask, tmp_path: Path) -> None:
    toy_task.targets.values[5] = np.inf
    with pytest.raises(RunError, match="training loss became inf in epoch 1; lower learning_rate"):
        train(toy_task, tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_out_of_memory_is_named_with_a_way_out(toy_task: ToyTask, tmp_path: Path) -> None:
    full = stop_at(new_predictor(), 2, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RunError, match="out of memory at batch 16 on cpu with windows of 21; try batch_size 8"):
        train(toy_task, tmp_path, predictor=full)
    for words in ("DefaultCPUAllocator: can't allocate memory: you tried", "could not create a primitive"):
        full = stop_at(new_predictor(), 2, RuntimeError(words))
        with pytest.raises(RunError, match="out of memory at batch 16 on cpu"):
            train(toy_task, tmp_path, predictor=full)
    with pytest.raises(RuntimeError, match="another defect"):
        train(toy_task, tmp_path, predictor=stop_at(new_predictor(), 2, RuntimeError("another defect")))


def test_rows_that_do_not_fit_are_refused(toy_task: ToyTask, tmp_path: Path) -> None:
    def attempt(train_rows: list[int], validation: list[int]) -> None:
        fit(
            new_predictor(),
            toy_task.windows,
            toy_task.targets,
            np.array(train_rows),
            np.array(validation),
            CONFIG,
            tmp_path,
            "cpu",
        )

    with pytest.raises(InputError, match="the validation part is empty"):
        attempt([1, 2], [])
    with pytest.raises(InputError, match="row 2 stands in the training and in the validation part"):
        attempt([1, 2], [2, 3])


def test_training_is_quiet_and_leaves_only_its_checkpoints(
    toy_task: ToyTask, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit(
            new_predictor(),
            toy_task.windows,
            toy_task.targets,
            toy_task.train,
            toy_task.validation,
            CONFIG.model_copy(update={"epochs": 1}),
            tmp_path / "run",
            "cpu",
        )
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert [str(w.message) for w in heard] == []
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["last.ckpt", "run"]


def test_batch_size_does_not_change_predictions(toy_task: ToyTask) -> None:
    predictor = new_predictor()
    one, many = (predict(predictor, toy_task.windows, "cpu", size) for size in (7, 120))
    assert one.dtype == np.float32
    assert one.shape == (120, 3)
    assert np.allclose(one, many, atol=1e-6)


@pytest.mark.parametrize(
    ("window", "predicted", "validated"), [(101, 256, 64), (1001, 256, 64), (10001, 26, 26), (160001, 1, 16)]
)
def test_long_windows_are_read_a_few_at_a_time(window: int, predicted: int, validated: int) -> None:
    assert rows_at_a_time(256, window) == predicted
    # Never fewer than a training batch: what fits with gradients fits without.
    assert validation_rows(16, window) == validated


def test_the_report_counts_what_was_done(toy_task: ToyTask, tmp_path: Path) -> None:
    report, _ = train(toy_task, tmp_path)
    assert report.epochs_run == 5
    assert report.curves["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert report.windows_per_second > 0
    assert report.peak_memory_bytes > 10**7
    assert (report.train_rows, report.val_rows, report.device, report.precision) == (90, 30, "cpu", "float32")
    # One warm-up step, then a cosine that ends near zero.
    assert report.curves["learning_rate"].is_monotonic_decreasing
    assert report.curves["learning_rate"].iloc[-1] < 0.01 * CONFIG.learning_rate


def test_settings_out_of_bounds_name_themselves() -> None:
    with pytest.raises(InputError, match=r"spec\.yaml: learning_rate = -1: .*greater than 0"):
        TrainingConfig.from_mapping({"learning_rate": -1}, "spec.yaml")
    with pytest.raises(InputError, match="no field 'lr'; fields: epochs, batch_size"):
        TrainingConfig.from_mapping({"lr": 1})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_asked_for_where_there_is_none_is_an_error(toy_task: ToyTask) -> None:
    with pytest.raises(RunError, match="no CUDA device"):
        predict(new_predictor(), toy_task.windows, "cuda")
    with pytest.raises(InputError, match="unknown device 'gpu'"):
        predict(new_predictor(), toy_task.windows, "gpu")


def test_balanced_classes_share_the_loss_and_lift_the_rare_one(toy_task: ToyTask, tmp_path: Path) -> None:
    rare = toy_task.targets.values.any(1)
    labels = torch.from_numpy(toy_task.targets.values)
    weights = class_weights(new_predictor(), labels, torch.from_numpy(toy_task.train))
    assert weights is not None
    of_train = weights[toy_task.train].numpy()
    assert of_train.mean() == pytest.approx(1)
    assert of_train[rare[toy_task.train]].sum() == pytest.approx(of_train[~rare[toy_task.train]].sum(), rel=1e-5)
    balanced = CONFIG.model_copy(update={"balance": "classes"})
    plain, other = train(toy_task, tmp_path / "a")[0], train(toy_task, tmp_path / "b", balanced)[0]
    assert not np.allclose(plain.curves["train_loss"], other.curves["train_loss"])


def test_every_epoch_sees_every_training_row_once_in_an_order_of_its_own(toy_task: ToyTask, tmp_path: Path) -> None:
    predictor = new_predictor()
    forward, seen = predictor.forward, []

    def recording(ref: torch.Tensor, alt: torch.Tensor) -> torch.Tensor:
        if predictor.training:
            seen.extend(pair.numpy().tobytes() for pair in torch.cat((ref, alt), dim=2))
        return forward(ref, alt)

    predictor.forward = recording  # type: ignore[method-assign]
    train(toy_task, tmp_path, CONFIG.model_copy(update={"epochs": 3}), predictor=predictor)
    epochs = [seen[:90], seen[90:180], seen[180:]]
    assert [len(set(epoch)) for epoch in epochs] == [90, 90, 90]
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a checkpoint ran",)


def test_a_checkpoint_cannot_run_code(toy_task: ToyTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"callbacks": _Evil()}, tmp_path / "last.ckpt")
    with pytest.raises(IntegrityError, match=r"last\.ckpt cannot be read"):
        train(toy_task, tmp_path, resume=True)
    assert "code from" not in capsys.readouterr().out


def test_bfloat16_trains_with_clipping_to_nearly_the_same_result(toy_task: ToyTask, tmp_path: Path) -> None:
    exact, _ = train(toy_task, tmp_path / "exact")
    mixed, predictions = train(toy_task, tmp_path / "mixed", CONFIG.model_copy(update={"precision": "bfloat16"}))
    assert mixed.precision == "bfloat16"
    assert mixed.curves["val_loss"].iloc[-1] == pytest.approx(exact.curves["val_loss"].iloc[-1], rel=0.25)
    assert not np.allclose(mixed.curves["train_loss"], exact.curves["train_loss"], rtol=1e-6)
    assert np.isfinite(predictions).all()


def test_large_gradients_are_clipped_to_the_norm_asked_for(toy_task: ToyTask, tmp_path: Path) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def watching(self: torch.optim.AdamW, *args: object, **options: object) -> object:
        done = step(self, *args, **options)
        grads = [p.grad.norm() for group in self.param_groups for p in group["params"]]
        norms.append(torch.stack(grads).norm().item())
        return done

    tight = CONFIG.model_copy(update={"epochs": 1, "gradient_clip": 1e-3})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", watching)
        train(toy_task, tmp_path, tight)
    assert norms
    assert max(norms) <= 1e-3 * 1.001


def test_it_does_not_matter_in_which_mode_the_predictor_comes_or_whether_its_features_were_kept(
    toy_task: ToyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"hidden_dim": 8, "weights": "scratch", "read_radius": 6}
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    losses = []
    for number, kept in enumerate(("computed", "found", "evaluation")):
        predictor = ComposedPredictor("hyenadna-tiny-1k", "delta", WINDOW, 0, settings, {"dropout": 0.5})
        predictor.train(kept != "evaluation")
        rows = (toy_task.train[:24], toy_task.validation[:8])
        config = CONFIG.model_copy(update={"epochs": 2})
        place = tmp_path / str(number)
        report = fit(predictor, toy_task.windows, toy_task.targets, *rows, config, place, "cpu")
        losses.append(report.curves["train_loss"].tolist())
    assert losses[0] == losses[1] == losses[2]


def test_predictions_that_are_no_numbers_are_an_error(toy_task: ToyTask) -> None:
    predictor = new_predictor()
    with torch.no_grad():
        next(predictor.head.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="of 120 predictions are no numbers"):
        predict(predictor, toy_task.windows, "cpu")
