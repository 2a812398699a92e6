"""Reliability: what share of variants is altering where a model says so and so probable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from meta_spliceai.experiments.report.svg import Scale, axis_x, axis_y, line, number, picture, polyline, tag

WIDTH, HEIGHT = 520, 400


def reliability_plot(series: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]]) -> Markup | None:
    """Observed share by stated probability, with Wilson intervals; None without a curve.

    Args:
        series: name, style class, and the bins as `evaluation.calibration.reliability` gives them.
    """
    if not any(curve for _, _, curve in series):
        return None
    x, y = Scale(0, 1, 74, WIDTH - 16), Scale(0, 1, HEIGHT - 50, 16)
    parts = [
        axis_y(y, 74, WIDTH - 16, "share that is Splice-altering"),
        axis_x(x, HEIGHT - 50, 16, "stated probability"),
    ]
    parts.append(line(x(0), y(0), x(1), y(1), "chance"))
    said = []
    for name, shade, curve in series:
        points = [(x(float(bin["predicted"])), y(float(bin["observed"]))) for bin in curve]
        parts.append(polyline(points, f"curve {shade}"))
        for (across, up), bin in zip(points, curve, strict=True):
            parts.append(line(across, y(bin["low"]), across, y(bin["high"]), f"whisker-thin {shade}"))
            words = (
                f"{name}: stated {number(bin['predicted'], 2)}, observed {number(bin['observed'], 2)} "
                f"[{number(bin['low'], 2)}, {number(bin['high'], 2)}], {bin['n']:,} variants"
            )
            parts.append(tag("circle", cx=across, cy=up, r=4.0, class_=f"point {shade}", data_tip=words))
        said.append(f"{name}: {len(curve)} bins")
    return picture(WIDTH, HEIGHT, "Reliability", "; ".join(said), *parts, class_="plot", tabindex=0)
