"""The plots: figures that Plotly accepts, with the numbers they were made from."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from meta_spliceai.colours import LOSS_TO_GAIN
from meta_spliceai.experiments.report import plots
from meta_spliceai.experiments.report.views import GRID, ranking_curves

from .conftest import screen

RECORDS = [
    {"scorer": "a<b", "kind": "baseline", "estimate": 0.5, "low": 0.4, "high": 0.7, "part": "exon", "chance": 0.3},
    {"scorer": "m", "kind": "learned", "estimate": 0.8, "low": None, "high": None, "part": "exon", "more": "8 of 10"},
]


def checked(plot: plots.Plot | None) -> go.Figure:
    """The figure as Plotly's own classes have it, which refuse what Plotly does not know."""
    assert plot is not None
    return go.Figure(plot.figure)


def test_a_forest_has_a_panel_a_metric_and_the_ends_of_intervals():
    figure = checked(plots.forest("F", {"AUPRC": RECORDS, "AUROC": RECORDS}, {"AUPRC": 0.2, "AUROC": None}))
    assert {trace.xaxis for trace in figure.data} == {"x", "x2"}
    first = figure.data[0]
    assert (first.x[0], first.error_x.array[0], first.error_x.arrayminus[0]) == pytest.approx((0.5, 0.2, 0.1))
    assert list(figure.layout.yaxis.categoryarray) == ["m", "a&lt;b"]
    assert figure.layout.shapes[0].x0 == 0.2
    assert plots.forest("F", {"AUPRC": [{**RECORDS[0], "estimate": None}]}, {}) is None


def test_blocks_say_what_each_number_is_made_of():
    figure = checked(plots.blocks("B", RECORDS, "part", "share"))
    assert figure.data[1].customdata[0] == "m: share 0.800, 8 of 10"
    assert figure.data[2].x == (0.3,)
    assert plots.blocks("B", [], "part", "share") is None


def test_curves_of_a_perfect_and_a_useless_score():
    positive = np.arange(60) < 20
    groups = pd.Series([f"g{i % 12}" for i in range(60)])
    perfect = ranking_curves(positive.astype(float), positive, groups, resamples=40)
    useless = ranking_curves(np.zeros(60), positive, groups, resamples=40)
    assert perfect is not None
    assert useless is not None
    assert perfect["precision"]["value"] == pytest.approx(np.ones(GRID))
    assert useless["precision"]["value"] == pytest.approx(np.full(GRID, 1 / 3), abs=1e-4)
    assert perfect["areas"]["auprc"] == pytest.approx(np.ones(40))
    scorers = {"m": {"kind": "learned", **perfect}}
    figure = checked(plots.curves("P", scorers, "precision", ("recall", "precision"), (0.3, 0.3)))
    assert len(figure.data) == 3
    assert ranking_curves(np.full(60, np.nan), positive, groups) is None


def test_reliability_and_training():
    bins = [{"predicted": 0.1, "observed": 0.2, "low": 0.1, "high": 0.4, "n": 50}]
    stated = {"scorer": "m", "kind": "learned", "curve": bins}
    assert checked(plots.reliability([stated])).data[1].error_y.array[0] == pytest.approx(0.2)
    assert plots.reliability([{**stated, "curve": []}]) is None
    losses = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [3.0, 2.0, 1.0], "val_loss": [2.0, 0.5, 0.7]})
    drawn = plots.training(losses)
    assert drawn is not None
    assert drawn.name == "Training curves; lowest validation loss 0.5000 at epoch 2"
    folds = checked(plots.training(pd.concat([losses.assign(fold=1), losses.assign(fold=2)])))
    assert len(folds.data) == 4
    assert plots.training(losses.assign(train_loss=math.nan, val_loss=math.nan)) is None


def test_a_scatter_draws_a_part_of_many_points_and_says_so():
    values = np.linspace(-1, 1, plots.POINTS + 500)
    drawn = plots.scatter("m", values, values, ["Normal"] * len(values), ("measured", "predicted"))
    assert drawn is not None
    assert drawn.name == "m (2,000 of 2,500 shown)"
    assert len(checked(drawn).data[0].x) == plots.POINTS
    assert plots.scatter("m", values, values * np.nan, ["Normal"] * len(values), ("", "")) is None


def test_the_saturation_map_holds_each_value_at_its_site_and_base():
    frame = screen("AB", 24)
    single, double = plots.saturation(frame, {"Measured": "effect"})
    assert (single.name.partition(":")[0], double.name.partition(":")[0]) == (
        "Saturation map, single substitutions",
        "Saturation map, double substitutions",
    )
    figure = checked(single)
    [row] = frame[(frame["background"] == "B") & (frame["sites_mutated"] == 1) & (frame["site"] == 7)][:1].to_dict(
        "records"
    )
    strip = figure.data[3]  # the parts and the strip of background A stand before those of B
    place = list(strip.x).index(7)
    assert strip.z[plots.BASES.index(row["alt"])][place] == pytest.approx(row["effect"], abs=1e-6)
    assert strip.colorscale[0][1] == LOSS_TO_GAIN[0]
    assert strip.zmin == -strip.zmax
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["A", "B"]
