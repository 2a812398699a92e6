"""Which numbers a scorer is evaluated by: name, meaning, rows it is computed on, direction and pitfalls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from meta_spliceai.errors import unknown_value
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVE, POSITIVE

__all__ = ["CORRELATIONS", "NEGATIVE", "POSITIVE", "Metric", "OperatingPoints", "binary_metrics", "metric_named"]
Rows = Literal["binary", "target", "effect"]


@dataclass(frozen=True)
class Metric:
    """One number of the evaluation.

    Attributes:
        name: key in tables and JSON.
        label: heading for readers.
        rows: which rows it is computed on: "binary" (the two sides, see `sides`), "target" (rows with a validated Δ)
            or "effect" (rows with a measured effect, whatever their class).
        pitfall: what a reader must know before quoting it; empty if nothing.
        higher_is_better: direction.
        chance: value of a scorer that knows nothing; None where it depends on the data (AUPRC: the prevalence).
        for_delta_only: defined only for scores on the Δ scale.
        fewest_rows: rows without which it is undefined.
    """

    name: str
    label: str
    rows: Rows
    pitfall: str = ""
    higher_is_better: bool = True
    chance: float | None = None
    for_delta_only: bool = False
    fewest_rows: int = 1


_CIRCULAR = (
    "circular for altering variants: their target is the base network's own Δ, so the base network is compared with "
    "itself there; only the zeros of the Normal variants are measured"
)
_BY_PREVALENCE = "depends on the prevalence: compare only on the same rows"

CORRELATIONS: tuple[Metric, ...] = (
    Metric("pearson_validated_delta", "Pearson r, validated Δ (circular)", "target", _CIRCULAR, chance=0.0),
    Metric("spearman_validated_delta", "Spearman r, validated Δ (circular)", "target", _CIRCULAR, chance=0.0),
    Metric(
        "pearson_effect",
        "Pearson r, measured effect",
        "effect",
        "signed score against signed effect; undefined for a scorer without a sign",
        chance=0.0,
    ),
    Metric(
        "spearman_effect",
        "Spearman r, measured effect",
        "effect",
        "signed score against signed effect; undefined for a scorer without a sign",
        chance=0.0,
    ),
    Metric(
        "pearson_effect_magnitude",
        "Pearson r, measured |effect|",
        "effect",
        "magnitude against magnitude: says nothing about loss or gain",
        chance=0.0,
    ),
    Metric(
        "spearman_effect_magnitude",
        "Spearman r, measured |effect|",
        "effect",
        "magnitude against magnitude: says nothing about loss or gain",
        chance=0.0,
    ),
)


def binary_metrics(
    recalls: tuple[float, ...],
    tops: tuple[int, ...],
    thresholds: tuple[float, ...],
    false_positive_rates: tuple[float, ...],
) -> tuple[Metric, ...]:
    """The binary metrics for the operating points asked for (recalls and rates as fractions)."""
    return (
        Metric("auroc", "AUROC", "binary", "blind to how rare altering variants are", chance=0.5),
        Metric("auprc", "AUPRC", "binary", _BY_PREVALENCE),
        *(
            Metric(f"precision_at_recall_{100 * r:g}", f"precision at recall {100 * r:g} %", "binary", _BY_PREVALENCE)
            for r in recalls
        ),
        *(
            Metric(f"precision_top_{k}", f"precision at the top {k}", "binary", _BY_PREVALENCE, fewest_rows=k)
            for k in tops
        ),
        *(
            Metric(
                f"detection_rate_at_{t:g}",
                f"detection rate at Δ ≥ {t:g}",
                "binary",
                "says nothing about false alarms; only for scores on the Δ scale",
                for_delta_only=True,
            )
            for t in thresholds
        ),
        *(
            Metric(
                f"detection_rate_at_fpr_{100 * f:g}",
                f"detection rate at {100 * f:g} % false positives",
                "binary",
                "the threshold is chosen on the evaluated rows themselves",
                chance=f,
            )
            for f in false_positive_rates
        ),
    )


@dataclass(frozen=True)
class OperatingPoints:
    """Where the curves are read: recalls, list lengths, score thresholds (Δ scale) and false-positive rates."""

    recalls: tuple[float, ...] = (0.2, 0.5, 0.8)
    tops: tuple[int, ...] = (100,)
    thresholds: tuple[float, ...] = (0.2, 0.5)
    false_positive_rates: tuple[float, ...] = (0.01, 0.05)

    def metrics(self) -> tuple[Metric, ...]:
        """All metrics at these points, binary ones first."""
        return binary_metrics(self.recalls, self.tops, self.thresholds, self.false_positive_rates) + CORRELATIONS


def metric_named(name: str, points: OperatingPoints | None = None) -> Metric:
    """The metric with this name at these operating points (the usual ones if None); InputError names the choices."""
    known = {metric.name: metric for metric in (points or OperatingPoints()).metrics()}
    if name not in known:
        raise unknown_value("metric", name, known)
    return known[name]
