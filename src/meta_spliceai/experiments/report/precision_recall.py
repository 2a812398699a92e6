"""Precision-recall curves with the prevalence as the line that no information reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from markupsafe import Markup

from meta_spliceai.experiments.report.svg import Scale, axis_x, axis_y, line, number, picture, polyline, text

WIDTH, HEIGHT = 520, 400
DRAWN_AT_MOST = 400


def precision_recall_points(
    score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Recall and precision at every distinct threshold, from the strictest down; tied scores count as one threshold.

    Args:
        score: higher = more likely positive; no NaN.
        positive: the labels.
    """
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    found = hits[last_of_tie]
    called = np.flatnonzero(last_of_tie) + 1
    return found / max(int(positive.sum()), 1), found / called


def precision_recall(
    series: Sequence[tuple[str, str, Float[np.ndarray, " n"]]], positive: Bool[np.ndarray, " n"], title: str
) -> Markup:
    """Curves of several scorers on the same variants.

    Args:
        series: (name, style class, score); a variant whose score is NaN is left out of that curve alone, and said so.
        positive: labels, aligned with each score.
        title: accessible name.
    """
    x, y = Scale(0, 1, 74, WIDTH - 16), Scale(0, 1, HEIGHT - 50, 16)
    prevalence = float(positive.mean()) if len(positive) else 0.0
    parts = [axis_y(y, 74, WIDTH - 16, "precision"), axis_x(x, HEIGHT - 50, 16, "recall")]
    parts.append(line(x(0), y(prevalence), x(1), y(prevalence), "chance"))
    said = [f"prevalence {number(prevalence, 2)}"]
    for name, shade, score in series:
        known = np.isfinite(score)
        if not known.any() or not positive[known].any():
            said.append(f"{name}: no score")
            continue
        recall, precision = precision_recall_points(score[known], positive[known])
        keep = np.unique(np.linspace(0, len(recall) - 1, DRAWN_AT_MOST).astype(int))
        points = [(x(float(r)), y(float(p))) for r, p in zip(recall[keep], precision[keep], strict=True)]
        # Before the first threshold precision is not defined; the curve starts at the first one's precision.
        points.insert(0, (x(0), points[0][1]))
        parts.append(polyline(points, f"curve {shade}"))
        half = float(precision[recall >= 0.5].max())
        said.append(f"{name}: best precision {number(half, 2)} at recall of a half or more")
    parts.append(text(x(1) - 4, y(prevalence) + 15, f"prevalence {number(prevalence, 2)}", "tick halo", "end"))
    return picture(WIDTH, HEIGHT, title, "; ".join(said), *parts, class_="plot")
