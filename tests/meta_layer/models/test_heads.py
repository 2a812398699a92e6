"""Heads: what their losses reward, that they can be learned, and what their predictions mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models import SpliceInducingClassifier
from meta_spliceai.splice_engine.meta_layer.models.heads import (
    BinaryHead,
    DeltaHead,
    EffectTypeHead,
    Head,
    MagnitudeHead,
    MultitaskHead,
    PositionHead,
    QuantileHead,
)
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training import class_weights

CHANNELS, POSITIONS, INPUTS, ROWS = 6, 11, 20, 5
CONFIG = TrainingConfig()
KINDS = [DeltaHead, QuantileHead, BinaryHead, EffectTypeHead, PositionHead, MagnitudeHead, MultitaskHead]

LABELS = {
    DeltaHead: torch.tensor([[0.0, 0, 0], [-0.5, 0.5, 0], [0, 0, 0], [0.9, 0, -0.9], [0, 0, 0]]),
    BinaryHead: torch.tensor([[0.0], [1], [0], [1], [0]]),
    EffectTypeHead: torch.tensor([[0.0], [1], [2], [3], [1]]),
    PositionHead: torch.tensor([[0.0], [-4], [3], [5], [1]]),
    MagnitudeHead: torch.tensor([[0.0, 0], [-3, 0.5], [1, 0.1], [-6, 0.9], [2, 0.3]]),
}
LABELS[QuantileHead] = LABELS[DeltaHead]
LABELS[MultitaskHead] = torch.cat(
    [LABELS[kind] for kind in (DeltaHead, BinaryHead, EffectTypeHead, PositionHead, MagnitudeHead)], dim=1
)


def new(kind: type[Head], **options: object) -> Head:
    torch.manual_seed(4)
    return kind(INPUTS, CHANNELS, POSITIONS, dropout=0.0, **options)  # type: ignore[call-arg]


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((ROWS, INPUTS), (ROWS, CHANNELS, POSITIONS), (ROWS, CHANNELS, POSITIONS))
    a, b, c = (torch.randn(shape, generator=generator) for shape in shapes)
    return a, b, c


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_rows_are_learned_by_heart(kind: type[Head]) -> None:
    head, labels = new(kind), LABELS[kind]
    head.learn_scale(labels)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    first = None
    for _ in range(250):
        optimizer.zero_grad()
        loss = head.loss(head(*inputs()), labels, CONFIG)
        first = first if first is not None else loss.item()
        loss.backward()
        optimizer.step()
    final = head.eval().loss(head(*inputs()), labels, CONFIG).item()
    assert final < 0.1 * first
    prediction = head(*inputs()).detach().numpy()
    assert prediction.shape == (ROWS, head.outputs)
    columns = head.columns(prediction)
    if kind is BinaryHead:
        assert ((columns["score"] > 0.5) == (labels[:, 0] == 1).numpy()).all()
    if kind is EffectTypeHead:
        assert columns["effect_type"].tolist() == labels[:, 0].tolist()
    if kind is PositionHead:
        assert columns["offset"].tolist() == labels[:, 0].tolist()
    if kind in (DeltaHead, QuantileHead):
        assert columns["signed"] == pytest.approx([0, 0.5, 0, -0.9, 0], abs=0.15)
    if kind is MagnitudeHead:
        assert columns["effect"] == pytest.approx(labels[:, 0].numpy(), abs=0.6)
    if kind is MultitaskHead:
        assert columns["position.offset"].tolist() == LABELS[PositionHead][:, 0].tolist()
        assert columns["effect-type.effect_type"].tolist() == LABELS[EffectTypeHead][:, 0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_parameter_from_bad_answers(kind: type[Head]) -> None:
    head = new(kind)
    head.loss(head(*inputs()), LABELS[kind], CONFIG).backward()
    silent = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A shift of all positions' scores is taken out by the softmax over positions.
    assert [name for name in silent if not (name.endswith("layers.4.bias") and "osition" in kind.__name__ + name)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_labels_cost_nothing_and_known_ones_cost_the_same_beside_them(kind: type[Head]) -> None:
    head = new(kind).eval()
    labels = LABELS[kind].clone()
    kept = [0, 1, 3]
    labels[[2, 4]] = float("nan")
    prediction = head(*inputs())
    loss = head.loss(prediction, labels, CONFIG)
    assert loss.item() == pytest.approx(head.loss(prediction[kept], LABELS[kind][kept], CONFIG).item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in head.parameters())
    nothing = head.loss(prediction, torch.full_like(labels, float("nan")), CONFIG)
    assert nothing.item() == 0


@pytest.mark.parametrize("kind", [DeltaHead, BinaryHead, EffectTypeHead, MagnitudeHead])
def test_a_row_of_weight_w_counts_w_times_in_the_mean_over_rows(kind: type[Head]) -> None:
    head = new(kind)
    prediction, labels = head(*inputs()), LABELS[kind]
    each = [head.loss(prediction[i : i + 1], labels[i : i + 1], CONFIG).item() for i in range(5)]
    weights = torch.tensor([0.0, 2, 0.5, 1, 0])
    expected = (2 * each[1] + 0.5 * each[2] + each[3]) / 5
    assert head.loss(prediction, labels, CONFIG, weights).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 8, 100])
def test_balanced_classes_have_the_same_share_of_an_epoch_whatever_the_batches(batch: int) -> None:
    # Four rows in a hundred are altering, and only they cost something: most small batches hold none of them.
    labels = torch.zeros(100, 1)
    labels[[3, 4, 50, 90]] = 1
    predictor = SpliceInducingClassifier(window=21, hidden_dim=4, layers=2)
    weights = class_weights(predictor, labels, torch.arange(100))
    assert weights is not None
    prediction = torch.full((100, 1), -20.0)
    total = 0.0
    for rows in torch.arange(100).split(batch):
        total += len(rows) / 100 * predictor.head.loss(prediction[rows], labels[rows], CONFIG, weights[rows]).item()
    assert total == pytest.approx(20 / 2, rel=1e-4)


def test_tasks_that_know_altering_rows_only_are_not_weighed_by_altering_or_not() -> None:
    head = new(MultitaskHead).eval()
    prediction = head(*inputs())
    labels = torch.full_like(LABELS[MultitaskHead], float("nan"))
    labels[:, 4:6] = LABELS[MultitaskHead][:, 4:6]  # kind of effect and position
    heavy = torch.full((5,), 7.0)
    assert head.loss(prediction, labels, CONFIG, heavy).item() == pytest.approx(
        head.loss(prediction, labels, CONFIG).item()
    )
    labels = LABELS[MultitaskHead]
    assert head.loss(prediction, labels, CONFIG, heavy).item() > head.loss(prediction, labels, CONFIG).item()


def test_quantiles_never_cross_whatever_the_weights() -> None:
    head = new(QuantileHead)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=3)
    sizes = head(*inputs()).unflatten(1, (-1, 3))[:, :-1]
    assert (sizes >= 0).all()
    assert (sizes.diff(dim=1) >= 0).all()


def test_pinball_is_least_at_the_quantile() -> None:
    torch.manual_seed(0)
    head = new(QuantileHead, quantiles=(0.5, 0.9))
    labels = torch.rand(4001, 1).expand(-1, 3)
    free = torch.full((1, 2, 3), 0.3, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.02)
    direction = torch.ones(4001, 1, 3)
    for _ in range(200):
        optimizer.zero_grad()
        prediction = torch.cat((free.expand(4001, -1, -1), direction), dim=1).flatten(1)
        head.loss(prediction, labels, CONFIG).backward()
        optimizer.step()
    assert free[0, 0, 0].item() == pytest.approx(0.5, abs=0.03)
    assert free[0, 1, 0].item() == pytest.approx(0.9, abs=0.03)


def test_the_mean_of_quantiles_tells_variants_apart_whose_median_is_zero() -> None:
    small, large = np.zeros(12, np.float32), np.zeros(12, np.float32)
    small[7], large[7], large[10] = 0.1, 0.5, -1.0  # q90 of the acceptor, and the direction of `large`
    predictions = np.stack([small, large])
    middle, mean = (QuantileHead(4, 4, 5, score=score) for score in ("middle", "mean"))
    assert middle.columns(predictions)["score"].tolist() == [0, 0]
    np.testing.assert_allclose(mean.columns(predictions)["score"], [0, 0.5 / 3])
    np.testing.assert_allclose(mean.columns(predictions)["signed"], [0, -0.5 / 3])
    compared, _ = mean.comparable(torch.from_numpy(predictions), torch.zeros(2, 3))
    np.testing.assert_allclose(compared.numpy()[:, 1], [0, -0.5 / 3])
    with pytest.raises(InputError, match="unknown score of quantiles 'median'"):
        QuantileHead(4, 4, 5, score="median")


def test_bad_quantiles_are_refused() -> None:
    for bad in ((), (0.5, 0.5), (0.9, 0.5), (0.0,), (1.2,)):
        with pytest.raises(InputError, match="increasing numbers between 0 and 1"):
            new(QuantileHead, quantiles=bad)


def test_a_near_miss_of_the_position_costs_less_than_a_far_one() -> None:
    head = new(PositionHead)
    at = lambda offset: 8.0 * torch.nn.functional.one_hot(torch.tensor([5 + offset]), POSITIONS)  # noqa: E731
    label = torch.tensor([[0.0]])
    losses = [head.loss(at(offset), label, CONFIG).item() for offset in (0, 1, 4)]
    assert losses[0] < losses[1] < losses[2]
    best = (-0.5 * (torch.arange(POSITIONS) - 5.0).square())[None]
    assert head.loss(best, label, CONFIG).item() == pytest.approx(0, abs=1e-5)
    # An affected site beyond the window cannot be predicted, so it is not asked for.
    assert head.loss(at(0), torch.tensor([[6.0]]), CONFIG).item() == 0


def test_the_magnitudes_scale_comes_from_the_labels_and_zero_stays_zero() -> None:
    head = new(MagnitudeHead)
    labels = torch.tensor([[4.0, float("nan")], [-3, float("nan")], [0, float("nan")]])
    head.learn_scale(labels)
    assert head.scale.tolist() == pytest.approx([(25 / 3) ** 0.5, 1.0])
    big, small = (head.loss(torch.tensor([[x, 0.0]]), torch.tensor([[0.0, 0.0]]), CONFIG).item() for x in (4, 1))
    assert big > small > 0


def test_uncertain_tasks_weigh_less_in_training_and_alike_in_validation() -> None:
    head = new(MultitaskHead)
    prediction, labels = head(*inputs()), LABELS[MultitaskHead]
    before, plain = (
        head.train().loss(prediction, labels, CONFIG).item(),
        head.eval().loss(prediction, labels, CONFIG).item(),
    )
    assert before == pytest.approx(plain, rel=1e-5)  # all log variances start at zero
    with torch.no_grad():
        head.log_variance[3] = 2.0
    after, same = (
        head.train().loss(prediction, labels, CONFIG).item(),
        head.eval().loss(prediction, labels, CONFIG).item(),
    )
    cost = PositionHead.loss(head.heads["position"], prediction[:, 8:-2], LABELS[PositionHead], CONFIG).item()
    assert after == pytest.approx(before - cost + np.exp(-2.0) * cost + 2.0, rel=1e-4)
    assert same == pytest.approx(plain, rel=1e-6)


def test_only_tasks_that_say_whether_give_a_score() -> None:
    for kind in KINDS:
        columns = new(kind).columns(np.zeros((2, new(kind).outputs), np.float32))
        assert ("score" in columns) is (kind not in (EffectTypeHead, PositionHead))
        assert all(len(values) == 2 for values in columns.values())
