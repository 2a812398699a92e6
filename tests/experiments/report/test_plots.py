"""The plots: what is drawn is what is in the data, and text from disk stays text."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from meta_spliceai.experiments.report.forest_plot import CHARACTER, LABEL, ForestMetric, ForestRow, forest_plot
from meta_spliceai.experiments.report.palette import DIVERGING_DARK, DIVERGING_LIGHT, diverging
from meta_spliceai.experiments.report.planned_plot import PlannedPoint, planned_plot
from meta_spliceai.experiments.report.ranking_curves import GRID, precision_recall_plot, ranking_curves, roc_plot
from meta_spliceai.experiments.report.reliability_plot import reliability_plot
from meta_spliceai.experiments.report.saturation_map import MapPanel, panel_limit, saturation_map, shade
from meta_spliceai.experiments.report.scatter_plot import scatter_plot
from meta_spliceai.experiments.report.strata_plot import strata_plot
from meta_spliceai.experiments.report.svg import Scale, number, padded, tag
from meta_spliceai.experiments.report.timeline import Lane, timeline
from meta_spliceai.experiments.report.training_curves import training_curves
from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import plan_resamples

from .conftest import STRATUM

SPACE = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert('x')</script>\"&"


def parsed(drawn: object) -> ET.Element:
    return ET.fromstring(str(drawn))  # noqa: S314


def words(root: ET.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SPACE}text")]


def test_text_and_attributes_are_escaped():
    drawn = tag("g", HOSTILE, data_name=HOSTILE)
    root = ET.fromstring(str(drawn))  # noqa: S314
    assert root.text == HOSTILE
    assert root.attrib == {"data-name": HOSTILE}


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1234, "0.123"), (-0.5, "−0.500"), (-0.0001, "0.000"), (float("nan"), "–"), (None, "–")]
)
def test_numbers_for_people(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize("low", [-3.7, 0.0, 0.001])
@pytest.mark.parametrize("span", [0.004, 1.0, 870.0])
def test_ticks_lie_inside_and_are_evenly_spaced(low, span):
    ticks = Scale(low, low + span, 0, 100).ticks(5)
    assert 3 <= len(ticks) <= 12
    assert ticks[0] >= low - 1e-9
    assert ticks[-1] <= low + span + 1e-9
    assert np.ptp(np.diff(ticks)) < 1e-6 * span


def test_a_scale_without_span_does_not_divide_by_zero():
    assert Scale(2, 2, 10, 30)(2) == 20
    assert padded([math.nan, math.inf]) == (0.0, 1.0)


def judged(rows: int = 300) -> tuple[np.ndarray, np.ndarray, pd.Series]:
    """Scores with many ties, labels and groups."""
    rng = np.random.default_rng(4)
    positive = rng.random(rows) < 0.2
    score = np.round(rng.normal(size=rows) + positive, 1)
    return score, positive, pd.Series([f"gene {i % 40}" for i in range(rows)])


def test_ranking_curves_equal_scikit_learn():
    score, positive, groups = judged()
    curves = ranking_curves(score, positive, groups)
    assert curves is not None
    grid = np.linspace(0, 1, GRID)
    precision, recall, _ = precision_recall_curve(positive, score)
    # At each recall of the grid: the strictest threshold that reaches it.
    reached = [precision[:-1][recall[:-1] >= max(g, 1e-9) - 1e-9][-1] for g in grid]
    np.testing.assert_allclose(curves.precision.value, reached)
    false, true, _ = roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(curves.sensitivity.value, [true[false <= g + 1e-9].max() for g in grid])


def test_the_band_is_that_of_resampled_groups():
    score, positive, groups = judged()
    curves = ranking_curves(score, positive, groups, seed=3, resamples=40)
    assert curves is not None
    plan = plan_resamples(groups, 40, 3)
    members = [np.flatnonzero(plan.unit == unit) for unit in range(plan.n_groups)]
    again, areas = [], []
    for counts in plan.counts:
        rows = np.concatenate([np.tile(members[unit], count) for unit, count in enumerate(counts) if count])
        other = ranking_curves(score[rows], positive[rows], groups.iloc[rows], resamples=0)
        assert other is not None
        again.append(other.sensitivity.value)
        areas.append(average_precision_score(positive[rows], score[rows]))
    np.testing.assert_allclose(curves.sensitivity.low, np.percentile(again, 2.5, axis=0))
    np.testing.assert_allclose(curves.sensitivity.high, np.percentile(again, 97.5, axis=0))
    np.testing.assert_allclose(curves.areas["auprc"], areas)


def test_a_missing_score_does_not_change_who_is_resampled():
    score, positive, groups = judged()
    fewer = score.copy()
    fewer[:5] = np.nan
    whole, part = ranking_curves(score, positive, groups), ranking_curves(fewer, positive, groups)
    assert whole is not None
    assert part is not None
    assert np.corrcoef(whole.areas["auroc"], part.areas["auroc"])[0, 1] > 0.95
    assert ranking_curves(np.full(300, np.nan), positive, groups) is None


def test_ranking_plots_show_prevalence_bands_and_what_a_line_says():
    score, positive, groups = judged()
    curves = ranking_curves(score, positive, groups)
    assert curves is not None
    root = parsed(precision_recall_plot([(HOSTILE, "s-learned", curves), ("base", "s-base", curves)], 0.2, 0.9))
    assert "prevalence 0.20" in words(root)
    assert len(list(root.iter(f"{SPACE}polygon"))) == 1
    assert "one replicate of the measurement predicts the other with AUPRC 0.90" in root.get("aria-label", "")
    tips = [mark.get("data-tip") or "" for mark in root.iter(f"{SPACE}circle")]
    assert any(tip.startswith(f"{HOSTILE}: precision ") and "] at recall 0.5" in tip for tip in tips)
    assert len(list(parsed(roc_plot([("base", "s-base", curves)])).iter(f"{SPACE}polyline"))) == 1


def test_the_timeline_has_a_lane_a_row_and_bars_that_can_be_hit():
    lanes = [
        Lane("a", "a-1", "finished", "2026-01-05T10:00:00+00:00", "2026-01-05T11:00:00+00:00", "one", "run-a-1.html"),
        Lane("a", "a-2", "failed", "2026-01-05T12:00:00+00:00", "2026-01-05T12:00:01+00:00", HOSTILE),
        Lane("b", "b-1", "finished", "no date", "", "never"),
    ]
    root = parsed(timeline(lanes))
    bars = [rect for rect in root.iter(f"{SPACE}rect") if rect.get("class", "").startswith("bar")]
    assert [bar.get("class") for bar in bars] == ["bar finished", "bar failed"]
    assert float(bars[1].get("width", "0")) >= 7
    assert float(bars[0].get("width", "0")) > 10 * float(bars[1].get("width", "0"))
    assert [link.get("href") for link in root.iter(f"{SPACE}a")] == ["run-a-1.html"]
    assert words(root).count("a") == 1
    assert "b" not in words(root)
    assert timeline(lanes[2:]) is None


def test_the_planners_plot_counts_what_is_within_the_band():
    points = [
        PlannedPoint("one", 10.0, 30.0, 11.0),
        PlannedPoint("two", 100.0, math.nan, 140.0),
        PlannedPoint("three", math.nan, 1.0, 1.0),
    ]
    root = parsed(planned_plot(points, "Peak memory", "GiB", 0.15))
    marks = list(root.iter(f"{SPACE}circle"))
    assert [mark.get("class") for mark in marks] == ["guess estimate", "guess calibrated", "guess calibrated"]
    assert "3 runs; 1 of 2 calibrated predictions within 15%; outside: two +40%" in root.get("aria-label", "")
    assert words(root).count("two") == 1  # named on the plot as well; what is within the band is not
    assert "one" not in words(root)
    assert (marks[1].get("data-tip") or "").endswith("11 GiB predicted, 10 measured (+10%)")
    assert planned_plot([], "Time", "s", 0.25) is None


def test_strata_show_each_scorer_and_the_stratum_s_own_chance():
    records = [
        {**STRATUM, "scorer": HOSTILE, "kind": "learned", "estimate": 0.8, "low": 0.7, "high": 0.9},
        {**STRATUM, "scorer": "position", "kind": "row zero", "estimate": 0.6, "low": None, "high": None},
        {**STRATUM, "scorer": "none", "kind": "base", "estimate": None, "low": None, "high": None},
        {"stratification": "region", "stratum": "deep", "n": 3, "n_positive": 0, "reason": "too small"},
    ]
    root = parsed(strata_plot(records, "region", "auprc"))
    shown = words(root)
    assert shown.index("position") < shown.index(HOSTILE)
    assert "90 variants, 30 altering" in shown
    assert "none" not in shown
    assert len([e for e in root.iter(f"{SPACE}line") if "whisker" in e.get("class", "")]) == 1
    assert strata_plot(records, "source", "auprc") is None


def test_reliability_draws_every_bin_with_its_interval():
    curve = [{"predicted": 0.1, "observed": 0.2, "low": 0.1, "high": 0.3, "n": 50, "lowest": 0, "highest": 0.2}]
    root = parsed(reliability_plot([("model", "s-learned", curve), ("empty", "s-zero", [])]))
    [mark] = root.iter(f"{SPACE}circle")
    assert mark.get("data-tip") == "model: stated 0.10, observed 0.20 [0.10, 0.30], 50 variants"
    assert reliability_plot([("empty", "s-zero", [])]) is None


def test_names_of_a_forest_plot_do_not_run_into_its_panels():
    labels = [
        "base own_site",
        "mfass-fusion-words (mfass-fusion-words-9f7e7aa38578)",
        "k-mers + position (observed-sites-fusion-clean-0441fd2800f9)",
        "a-row-with-a-name-that-goes-on-and-on-and-on (a-row-0123456789ab)",
        "named (by its user)",
    ]
    root = parsed(forest_plot([ForestRow(label, "learned") for label in labels], [ForestMetric("auprc", "AUPRC")]))
    shown = [element.text for element in root.iter() if element.get("class") == "name"]
    assert shown == [
        "base own_site",
        "mfass-fusion-words · 9f7e",
        "k-mers + position · 0441",
        "a-row-with-a-name-that-goes-… · 0123",
        "named (by its user)",
    ]
    said = [element.text for element in root.iter() if element.tag.endswith("title")]
    assert said[1:] == labels  # in full, when pointed at
    (axis,) = [float(element.get("x1")) for element in root.iter() if element.get("class") == "axis"]
    assert LABEL + CHARACTER * max(map(len, shown)) <= axis + 1


def test_forest_has_a_line_a_scorer_and_a_dash_where_nothing_is_known():
    rows = [
        ForestRow("position only", "row zero", {"auprc": (0.5, 0.4, 0.6)}),
        ForestRow(HOSTILE, "learned", {"auprc": (math.nan,) * 3}),
        ForestRow("no interval", "base", {"auprc": (0.7, math.nan, math.nan)}),
    ]
    root = parsed(forest_plot(rows, [ForestMetric("auprc", "AUPRC", 0.3)]))
    shown = words(root)
    assert [shown.count(name) for name in ("position only", HOSTILE, "–", "0.700", "chance 0.30")] == [1] * 5
    whiskers = [e for e in root.iter(f"{SPACE}line") if "whisker" in e.get("class", "")]
    assert len(whiskers) == 1
    assert "position only: AUPRC 0.500 (0.400 to 0.600)" in root.get("aria-label", "")


def test_curves_mark_the_epoch_with_the_lowest_validation_loss():
    frame = pd.DataFrame({"epoch": [1, 2, 3, 4], "train_loss": [4.0, 3, 2, 1], "val_loss": [4.0, 2, 3, np.nan]})
    root = parsed(training_curves(frame, "a run"))
    assert "lowest validation loss: epoch 2" in words(root)
    assert len(list(root.iter(f"{SPACE}polyline"))) == 2


def test_curves_of_folds_are_separate_lines_with_one_label_a_kind():
    one = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [3.0, 2, 1], "val_loss": [3.0, 2, 2]})
    frame = pd.concat([one.assign(fold=1), one.assign(fold=2) * 1.1])
    root = parsed(training_curves(frame, "a run"))
    lines = [e.get("points", "") for e in root.iter(f"{SPACE}polyline")]
    assert [len(points.split()) for points in lines] == [3, 3, 3, 3]
    assert [words(root).count(label) for label in ("training", "validation")] == [1, 1]
    assert "in 2 folds" in root.findtext(f"{SPACE}desc", "")


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"epoch": [1]}),
        pd.DataFrame({"epoch": [1], "train_loss": [np.nan]}),
        pd.DataFrame({"train_loss": [1.0]}),
        pd.DataFrame({"epoch": ["x"], "train_loss": ["y"]}),
    ],
)
def test_curves_without_anything_to_draw(frame):
    assert training_curves(frame, "a run") is None


def test_scatter_draws_known_pairs_only_and_one_path_a_class():
    measured = np.array([-1.0, 0.5, np.nan, 0.1])
    predicted = np.array([-0.5, 0.2, 0.3, np.nan])
    drawn = scatter_plot(measured, predicted, ["Splice-altering", "odd"] * 2, "t", "m", "p", "ρ = 1")
    paths = {e.get("class"): e.get("d", "") for e in parsed(drawn).iter(f"{SPACE}path")}
    assert {name: d.count("M") for name, d in paths.items()} == {"dots c-altering": 1, "dots c-other": 1}
    assert scatter_plot(measured[2:3], predicted[2:3], ["odd"], "t", "m", "p", "") is None


def test_a_crowded_scatter_is_thinned_and_says_so():
    values = np.linspace(-1, 1, 5000)
    root = parsed(scatter_plot(values, values, ["Normal"] * 5000, "t", "m", "p", ""))
    assert "4,000 of 5,000 shown" in words(root)
    assert sum(e.get("d", "").count("M") for e in root.iter(f"{SPACE}path")) == 4000


def test_shades_are_symmetric_and_clipped():
    assert [shade(value, 2.0) for value in (-9, -2, 0, 2, 9)] == [0, 0, 10, 20, 20]
    assert shade(math.nan, 1.0) == -1
    assert shade(0.5, 1.0) - 10 == 10 - shade(-0.5, 1.0)


def test_the_limit_covers_nearly_all_values():
    values = pd.Series(np.linspace(-1.234, 1.234, 1001))
    assert 1.2 <= panel_limit(values) <= 1.3
    assert panel_limit(pd.Series([0.0, np.nan])) == 1.0


def test_the_diverging_scale_has_the_anchors_at_its_ends_and_middle():
    for anchors in (DIVERGING_LIGHT, DIVERGING_DARK):
        colours = diverging(anchors)
        assert (colours[0], colours[10], colours[20]) == (anchors[0], anchors[3], anchors[-1])


@pytest.fixture
def tiny() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "background": ["A", "A", "A", "B"],
            "site": [3, 4, 3, 3],
            "ref": ["G", "T", "GT", "G"],
            "alt": ["A", "C", "AC", "T"],
            "part": ["test", "train", "test", "test"],
            "effect": [-1.0, 0.5, 1.0, 0.2],
            "model": [0.3, 0.4, 0.5, np.nan],
        }
    )


def test_map_puts_every_value_at_its_site_and_base(tiny):
    drawn = saturation_map(tiny, [MapPanel("measured", "effect"), MapPanel("model", "model", learned=True)])
    table = drawn.data["backgrounds"]["A"]
    assert drawn.backgrounds == ("A", "B")
    assert drawn.data["sites"] == [3, 4]
    assert table["wild"] == ["G", "T"]
    assert table["parts"] == ["test", "train"]
    single, double = table["values"]
    assert single[0]["ACGT".index("A")] == [-1.0, None]
    assert single[0]["ACGT".index("C")] == [None, 0.5]
    assert double[1][1] == [0.5, None]  # AC is the second word
    cells = [
        [e.get("class") for e in group]
        for group in parsed(drawn.figures[0][1]).iter(f"{SPACE}g")
        if group.get("class") == "cells"
    ]
    # words A, C, G, T by sites 3, 4; the wild types are G at 3 and T at 4
    limit = panel_limit(tiny["effect"])
    assert cells[0] == [
        f"q{shade(-1.0, limit)}", "qn", "qn", f"q{shade(0.5, limit)}", "qw", "qn", "qn", "qw",
    ]  # fmt: skip
    assert [("faded" in name) for name in cells[1]] == [False, False, False, True] + [False] * 4


def test_a_double_that_straddles_two_parts_is_faded_though_its_first_site_is_tested(tiny):
    tiny.loc[2, "part"] = ""
    drawn = saturation_map(tiny, [MapPanel("model", "model", learned=True)])
    table = drawn.data["backgrounds"]["A"]
    assert table["parts"] == ["test", "train"]
    assert table["seen"][1][1] == "10"  # AC at the first site
    classes = [e.get("class") for group in parsed(drawn.figures[1][1]).iter(f"{SPACE}g") for e in group]
    assert sum(name is not None and "faded" in name for name in classes) == 1


def test_map_of_a_table_without_substitutions_is_none(tiny):
    assert saturation_map(tiny.assign(alt="GGGG"), [MapPanel("measured", "effect")]) is None
    assert saturation_map(tiny.assign(site=np.nan), [MapPanel("measured", "effect")]) is None
