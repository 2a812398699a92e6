"""Training curves: loss over epochs on training and validation parts, the chosen epoch marked."""

from __future__ import annotations

import math

import pandas as pd
from markupsafe import Markup

from meta_spliceai.experiments.report.svg import (
    Scale,
    axis_x,
    axis_y,
    line,
    number,
    padded,
    picture,
    polyline,
    tag,
    text,
)

WIDTH, HEIGHT = 520, 320
SERIES = (("train_loss", "training", "s-train"), ("val_loss", "validation", "s-val"))


def training_curves(curves: pd.DataFrame, title: str) -> Markup | None:
    """Loss by epoch; None when the frame has no loss to draw.

    Args:
        curves: one row an epoch: `epoch` and `train_loss` and/or `val_loss`; NaN where not measured. With a column
            `fold`, each fold has lines of its own.
        title: the run, for the accessible name.
    """
    if "epoch" not in curves:
        return None
    curves = curves.reset_index(drop=True)
    epochs = pd.to_numeric(curves["epoch"], errors="coerce")
    drawn: list[tuple[str, str, list[tuple[float, float]]]] = []
    folds = [part for _, part in curves.groupby("fold")] if "fold" in curves else [curves]
    for column, label, shade in SERIES:
        for part in folds if column in curves else ():
            values = pd.to_numeric(part[column], errors="coerce")
            points = [(float(e), float(v)) for e, v in zip(epochs[part.index], values, strict=True) if _finite(e, v)]
            if points:
                drawn.append((label, shade, points))
    if not drawn:
        return None
    low, high = padded((v for _, _, points in drawn for _, v in points), 0.06)
    last = max(e for _, _, points in drawn for e, _ in points)
    first = min(e for _, _, points in drawn for e, _ in points)
    x = Scale(first, max(last, first + 1), 78, WIDTH - 92)
    y = Scale(low, high, HEIGHT - 50, 22)
    parts = [axis_y(y, 78, WIDTH - 92, "loss"), axis_x(x, HEIGHT - 50, 22, "epoch", 6)]
    labels: list[tuple[float, str, str]] = []
    for label, shade, points in drawn:
        parts.append(polyline([(x(e), y(v)) for e, v in points], f"curve {shade}"))
        parts.extend(
            tag(
                "circle",
                tag("title", f"{label}, epoch {e:g}: {number(v, 4)}"),
                cx=x(e),
                cy=y(v),
                r=2.6 if len(points) < 60 else 1.2,
                class_=f"point {shade}",
            )
            for e, v in points
        )
        labels.append((y(points[-1][1]) + 4, label, shade))
    # Several folds share one label, at the first one's end.
    labels = sorted({(label, shade): (height, label, shade) for height, label, shade in reversed(labels)}.values())
    for i, (height, label, shade) in enumerate(labels):
        lifted = height if i == 0 else max(height, labels[i - 1][0] + 15)
        labels[i] = (lifted, label, shade)
        parts.append(text(x.end + 10, lifted, label, f"series-label {shade}"))
    said = f"{len(epochs)} epochs" + (f" in {len(folds)} folds" if len(folds) > 1 else "")
    validation = next((points for label, _, points in drawn if label == "validation"), None)
    if validation and len(folds) == 1:
        best = min(validation, key=lambda point: point[1])
        parts.append(line(x(best[0]), 22, x(best[0]), HEIGHT - 50, "best"))
        near_end = x(best[0]) > (x.start + x.end) / 2
        anchor, shift = ("end", -6) if near_end else ("start", 6)
        parts.append(text(x(best[0]) + shift, 18, f"lowest validation loss: epoch {best[0]:g}", "tick", anchor))
        said += f"; lowest validation loss {number(best[1], 4)} at epoch {best[0]:g}"
    return picture(WIDTH, HEIGHT, f"Training curves of {title}", said, *parts, class_="plot")


def _finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)
