"""Which numbers a scorer is evaluated by: name, meaning, rows it is computed on, and pitfalls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One number of the evaluation.

    Attributes:
        name: key in tables and JSON.
        label: heading for readers.
        rows: which rows it is computed on: "binary" (the two sides, see `sides`), "target" (rows with a validated Δ)
            or "effect" (rows with a measured effect, whatever their class).
        pitfall: what a reader must know before quoting it; empty if nothing.
        for_delta_only: defined only for scores on the Δ scale.
        fewest_rows: rows without which it is undefined.
    """

    name: str
    label: str
    rows: Literal["binary", "target", "effect"]
    pitfall: str = ""
    for_delta_only: bool = False
    fewest_rows: int = 1


_BY_PREVALENCE = "depends on the prevalence: compare only on the same rows"
_NO_ALARMS = "says nothing about false alarms; only for scores on the Δ scale"
_CHOSEN_HERE = "the threshold is chosen on the evaluated rows themselves"
_CIRCULAR = (
    "circular for altering variants: their target is the base network's own Δ, so the base network is compared with "
    "itself there; only the zeros of the Normal variants are measured"
)
_SIGNED = "signed score against signed effect; undefined for a scorer without a sign"
_MAGNITUDE = "magnitude against magnitude: says nothing about loss or gain"

CORRELATIONS = tuple(
    Metric(f"{kind.lower()}_{name}", f"{kind} r, {label}", "effect" if "effect" in name else "target", pitfall)
    for name, label, pitfall in (
        ("validated_delta", "validated Δ (circular)", _CIRCULAR),
        ("effect", "measured effect", _SIGNED),
        ("effect_magnitude", "measured |effect|", _MAGNITUDE),
    )
    for kind in ("Pearson", "Spearman")
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
        precision, found = "precision at", "detection rate at"
        recalls = [(f"{100 * recall:g}", _BY_PREVALENCE) for recall in self.recalls]
        rates = [(f"{100 * rate:g}", _CHOSEN_HERE) for rate in self.false_positive_rates]
        return (
            Metric("auroc", "AUROC", "binary", "blind to how rare altering variants are"),
            Metric("auprc", "AUPRC", "binary", _BY_PREVALENCE),
            *(Metric(f"precision_at_recall_{r}", f"{precision} recall {r} %", "binary", why) for r, why in recalls),
            *(
                Metric(f"precision_top_{k}", f"{precision} the top {k}", "binary", _BY_PREVALENCE, fewest_rows=k)
                for k in self.tops
            ),
            *(
                Metric(f"detection_rate_at_{t:g}", f"{found} Δ ≥ {t:g}", "binary", _NO_ALARMS, for_delta_only=True)
                for t in self.thresholds
            ),
            *(
                Metric(f"detection_rate_at_fpr_{f}", f"{found} {f} % false positives", "binary", why)
                for f, why in rates
            ),
            *CORRELATIONS,
        )


NO_POINTS = OperatingPoints((), (), (), ())
"""For AUROC and AUPRC alone."""
