"""Turns a run or a board into the contents of its page."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from meta_spliceai.experiments.board.leaderboard import UNKNOWN, Board, Line
from meta_spliceai.experiments.board.shown import crossed, dollars, estimate, memory, number, records
from meta_spliceai.experiments.report import plots
from meta_spliceai.experiments.report.plots import Plot
from meta_spliceai.experiments.store.ledger import ITSELF, NEARER_SITE, NO_CHANGE
from meta_spliceai.experiments.store.run_record import RunRecord, rows_of_test
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints, plan_resamples, rank_scores
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import NEGATIVES, binary_labels

HEADLINE = "auprc"
TABLE_METRICS = (
    HEADLINE,
    "auroc",
    "spearman_effect",
    "pearson_effect",
    "precision_at_recall_50",
    "detection_rate_at_fpr_5",
    "pearson_validated_delta",
)
FOREST = {"auprc": "AUPRC", "auroc": "AUROC", "spearman_effect": "Spearman r, measured effect"}
STRATIFICATIONS = {
    "region": "region",
    "type": "kind of variant",
    "source": "source",
    "position": "distance to the site",
}
REFERENCE = "base max_window"
DRAWN = 6  # learned models of a board that are drawn, the best first; its table has them all

CURVES_NEED = {"variant_id": "names", "classification": "classes", "group": "groups"}
"""Columns that curves are made of, with the word for what they hold."""
MAP_NEEDS = {"variant_id", "background", "site", "ref", "alt", "part", "effect"}

COMPARED = {"is worse than": "bad", "is not shown to beat": "warn", "beats": "good"}
"""How a model compares with a rival, the worst first, and the level of a verdict in which that is the worst."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Standing:
    """One line of a leaderboard with what stands beside its numbers.

    Attributes:
        name: as shown; carries the run's hash where another line has the same scorer.
        line: scorer, kind, run, metrics and what it took.
        difference: to the reference in the headline metric.
        rests: base networks, context.
        rivals: baselines and base networks by how it compares with them, a word of `COMPARED`.
    """

    name: str
    line: Line
    difference: Record | None
    rests: tuple[str, str]
    rivals: Mapping[str, Sequence[str]]

    @property
    def level(self) -> str:
        """good: beats every rival; bad: worse than one; warn: neither; calm: nothing to compare with."""
        return next((level for words, level in COMPARED.items() if self.rivals[words]), "calm")

    @property
    def summary(self) -> str:
        said = [f"{words} {', '.join(self.rivals[words])}" for words in reversed(COMPARED) if self.rivals[words]]
        return "; ".join(said) or "was not compared with any baseline"


def standings(board: Board, differences: Sequence[Record], runs: Mapping[str, RunRecord]) -> list[Standing]:
    """A board's lines with their verdicts and what they rest on, from paired differences in the headline metric (run,
    scorer, reference, estimate, low, high) and those of their runs, by name, whose folders are at hand."""
    rivals = [line.scorer for line in board.lines if line.kind != "learned"]
    reference = REFERENCE if REFERENCE in rivals else next(iter(rivals), "")
    by_line: dict[tuple[str, str], dict[str, Record]] = {}
    for record in differences:
        by_line.setdefault((record["run"], record["scorer"]), {})[record["reference"]] = record
    counted = Counter(line.scorer for line in board.lines)
    found = []
    for line in board.lines:
        mine = by_line.get((line.run, line.scorer), {})
        compared: dict[str, list[str]] = {words: [] for words in COMPARED}
        for rival in rivals:
            if rival in mine and line.kind == "learned":
                low, high = mine[rival]["low"] or 0, mine[rival]["high"] or 0
                words = "beats" if low > 0 else "is worse than" if high < 0 else "is not shown to beat"
                compared[words].append(rival)
        name = line.scorer if counted[line.scorer] == 1 else f"{line.scorer} · {line.run.rpartition('-')[2]}"
        rests = rests_on(line, runs[line.run]) if line.run in runs else ("", "")
        found.append(Standing(name, line, mine.get(reference), rests, compared))
    return found


def rests_on(line: Line, run: RunRecord) -> tuple[str, str]:
    """The base networks a line uses, and how far it sees: reach of Δ, window, what the bases were cut from."""
    data, beside = run.data, run.data.get("beside")
    every = [one for one in (data.get("base"), *(beside if isinstance(beside, list) else ())) if isinstance(one, dict)]
    if line.kind == "baseline" or not every:
        return "", ""
    if line.kind == "base":
        every = [one for one in every if one.get("name") == line.scorer.partition(" ")[0]] or every[:1]
    many = [(str(one.get("name")), one.get("networks")) for one in every]
    named = [f"{name} ×{n}" if isinstance(n, int) and n > 1 else name for name, n in many]
    reach = sorted({one["distance"] for one in every if isinstance(one.get("distance"), int)})
    words = [f"Δ within {', '.join(map(str, reach))} nt"] if reach else []
    window, options = data.get("window"), data.get("options")
    if line.kind == "learned" and not run.spec.get("fusion") and isinstance(window, dict) and "length" in window:
        words.append(f"window {window['length']} nt")
    cut = options.get("context") if isinstance(options, dict) else None
    words += [f"{cut} context"] if cut else [str(data["build"])] if data.get("build") else []
    return ", ".join(named), ", ".join(words)


def drawn_lines(found: Sequence[Standing]) -> list[Standing]:
    learned = [standing for standing in found if standing.line.kind == "learned"][:DRAWN]
    return [standing for standing in found if standing.line.kind != "learned" or standing in learned]


def forest_of(found: Sequence[Standing], prevalence: float | None, most: int = len(FOREST)) -> Plot | None:
    """The forest plot of a board over its headline metrics, `most` of them at most."""
    chance = {"AUPRC": prevalence, "AUROC": 0.5, FOREST["spearman_effect"]: 0.0}
    rows = {
        heading: [
            {"scorer": one.name, "kind": one.line.kind, **vars(one.line.values.get(metric, UNKNOWN))}
            for one in drawn_lines(found)
        ]
        for metric, heading in list(FOREST.items())[:most]
    }
    return plots.forest("Scorers compared", rows, chance)


def metric_labels() -> dict[str, tuple[str, str]]:
    """Heading of each metric of the tables, and what to mind of it."""
    known = {metric.name: metric for metric in OperatingPoints().metrics()}
    return {name: (known[name].label, known[name].pitfall) if name in known else (name, "") for name in TABLE_METRICS}


# ------------------------------------------------------------------------------------------------------- ranking curves

GRID = 51  # points of a curve: recall, or false-positive rate, from 0 to 1
ON_GRID = OperatingPoints(tuple(np.linspace(0, 1, GRID)), (), (), tuple(np.linspace(0, 1, GRID)))
RESAMPLES = 200  # resamples behind a band; the intervals of the metrics come from the run's own, more numerous ones


def ranking_curves(
    score: Float[np.ndarray, " rows"],
    positive: Bool[np.ndarray, " rows"],
    groups: pd.Series,
    resamples: int = RESAMPLES,
) -> dict[str, Any] | None:
    """What one scorer does on the test, as plain values; None where a score is missing for every row of a class.

    Args:
        score: higher = more likely positive; rows with NaN are left aside.
        resamples: the same rows and groups give the same ones for every scorer.

    Returns:
        `precision` by recall and `sensitivity` by false-positive rate, each with `value`, `low` and `high` of its 95 %
        band on the grid; `areas`: AUPRC and AUROC on every resample, None where one lacks a class.
    """
    known = np.isfinite(score)
    if not positive[known].any() or positive[known].all():
        return None
    # Rows left aside count nothing; the plan stays that of all rows, so that scorers stay paired.
    plan = plan_resamples(groups, resamples, 0)
    counts = np.vstack([np.ones((1, plan.n_groups), dtype=plan.counts.dtype), plan.counts])
    read = rank_scores(positive[known], score[known], plan.unit[known]).at(counts, ON_GRID)
    found: dict[str, Any] = {"areas": {name: rounded(read.pop(name)[1:]) for name in ("auprc", "auroc")}}
    curves = np.stack(list(read.values()), axis=1)  # by recall, then by false-positive rate
    for name, values in (("precision", curves[:, :GRID]), ("sensitivity", curves[:, GRID:])):
        drawn = values[1:][np.isfinite(values[1:]).all(axis=1)]
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0) if len(drawn) > 1 else np.full((2, GRID), np.nan)
        found[name] = {"value": rounded(values[0]), "low": rounded(low), "high": rounded(high)}
    return found


def rounded(values: Iterable[float]) -> list[float | None]:
    """Numbers to four decimals, None for NaN."""
    return [None if value != value else round(float(value), 4) for value in values]


@dataclass
class Ranking:
    """A run's precision-recall and ROC curves on its own test.

    Attributes:
        curves: by scorer: `kind`, and what `ranking_curves` gives.
        plan: identity of rows, labels and groups; two runs with the same one share their resamples.
        reason: why there are no curves; empty where there are.
    """

    curves: dict[str, Record] = field(default_factory=dict)
    plan: str = ""
    reason: str = ""


def ranking_of(run: RunRecord, predictions: pd.DataFrame | None) -> Ranking:
    """Curves of every scorer of a run, or why there are none: a ledger may keep a run without predictions or labels."""
    rows = rows_of_test(predictions)
    if rows is None or run.evaluation is None:
        return Ranking(reason="the predictions were not kept")
    missing = [word for column, word in CURVES_NEED.items() if column not in rows]
    if missing:
        return Ranking(reason=f"the predictions were kept without the {' and '.join(missing)} of the test variants")
    labels = binary_labels(rows, run.evaluation.settings.get("negatives") or NEGATIVES)
    rows = rows.assign(label=labels, variant_id=rows["variant_id"].astype(str))[np.isfinite(labels)]
    rows = rows.sort_values("variant_id", kind="stable", ignore_index=True)
    positive = rows["label"].to_numpy() == 1
    groups = rows["group"].astype(object)
    if groups.isna().any() or (groups.astype(str) == "").any():
        return Ranking(reason="a test variant has no group")
    if not positive.any() or positive.all():
        return Ranking(reason="the test has variants of one class only")
    known = pd.DataFrame({"id": rows["variant_id"], "group": groups.astype(str), "positive": positive})
    digest = hashlib.sha256(pd.util.hash_pandas_object(known, index=False).to_numpy().tobytes()).hexdigest()[:16]
    found: dict[str, Record] = {}
    for scorer in run.evaluation.scorers:
        if scorer.score_column in rows:
            curves = ranking_curves(_numbers(rows, scorer.score_column), positive, groups)
            if curves is not None:
                found[scorer.name] = {"kind": scorer.kind, **curves}
    return Ranking(found, digest, "" if found else "no scorer says how likely a variant is altering")


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    return pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)


def ranking_plots(curves: Mapping[str, Record], prevalence: float | None) -> list[Plot]:
    """Precision by recall, and ROC, of scorers by name."""
    height, axes = prevalence or 0.0, (("recall", "precision"), ("false-positive rate", "true-positive rate"))
    return drawn_of(
        plots.curves("Precision by recall", curves, "precision", axes[0], (height, height)),
        plots.curves("ROC curves", curves, "sensitivity", axes[1], (0.0, 1.0)),
    )


def drawn_of(*found: Plot | None) -> list[Plot]:
    return [one for one in found if one is not None]


def scatter_plots(run: RunRecord, predictions: pd.DataFrame | None, lines: Sequence[Line]) -> list[Plot]:
    rows = rows_of_test(predictions)
    if rows is None or not {"classification", "effect"} <= set(rows):
        return []
    measured, axes = _numbers(rows, "effect"), (_effect_label(run), "predicted Δ, signed")
    found = []
    for line in lines:
        column = f"{line.scorer}.signed"
        if line.kind != "baseline" and column in rows:
            rho = line.values.get("spearman_effect")
            words = line.scorer if rho is None else f"{line.scorer}: ρ = {estimate(vars(rho), 2)}"
            found.append(plots.scatter(words, measured, _numbers(rows, column), list(rows["classification"]), axes))
    return drawn_of(*found)


def _effect_label(run: RunRecord) -> str:
    """What the measured effect is, for axes: the first clause of the data set's own words."""
    return str(run.data.get("effect_label") or "measured effect").partition(";")[0].strip()


def saturation_plots(
    run: RunRecord, predictions: pd.DataFrame | None, learned: Mapping[str, pd.DataFrame]
) -> list[Plot]:
    """The saturation map where the data set is one: measured, the run's base network, and learned models, each from the
    predictions of its own run."""
    if predictions is None or not set(predictions) >= MAP_NEEDS:
        return []
    frame = predictions.reset_index(drop=True).copy()
    panels = {f"Measured: {_effect_label(run)}": "effect"}
    bases = [name for name in ("base own_site", REFERENCE) if f"{name}.signed" in frame][:1]
    sources = [(f"Base network: {name}", frame, name) for name in bases]
    sources += [(f"Learned model: {name}", table, name) for name, table in learned.items()]
    for n, (heading, table, name) in enumerate(sources):
        if {f"{name}.signed", "variant_id"} <= set(table):
            values = pd.to_numeric(table.set_index("variant_id")[f"{name}.signed"], errors="coerce")
            frame[f"strip {n}"] = values[~values.index.duplicated()].reindex(frame["variant_id"]).to_numpy(np.float64)
            if frame[f"strip {n}"].notna().any():
                panels[heading] = f"strip {n}"
    for column in ("effect", "site"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    return plots.saturation(frame, panels)


def strata_plots(evidence: Record) -> list[tuple[str, list[Plot]]]:
    """By stratification: its plots in AUPRC and AUROC, the chance of each part marked."""
    found = []
    for key, title in STRATIFICATIONS.items():
        each = []
        for metric in ("auprc", "auroc"):
            mine = []
            for record in records(evidence, "strata"):
                if record["stratification"] == key and record.get("metric") == metric:
                    aside = f"{record['n']:,} variants, {record['n_positive']:,} altering"
                    chance = record.get("prevalence") if metric == "auprc" else 0.5
                    mine.append({**record, "aside": aside, "chance": chance})
            each.append(plots.blocks(f"{metric.upper()} by {title}", mine, "stratum", metric.upper()))
        if drawn := drawn_of(*each):
            found.append((title, drawn))
    return found


def observed_plots(evidence: Record, learned: str) -> list[Plot]:
    """A run against observed splice sites: position of the strongest change, peaks, kinds of effect."""

    def kind(scorer: str) -> str:
        return "baseline" if scorer in (ITSELF, NEARER_SITE, NO_CHANGE) else "learned" if scorer == learned else "base"

    def counted(record: Record) -> str:
        if isinstance(record.get("hits"), int | float) and isinstance(record.get("of"), int | float):
            return f"{record['hits']:,.0f} of {record['of']:,.0f}"
        silent = record.get("n_without_prediction")
        return f"{silent:,} without a prediction" if silent else ""

    def block(found: Sequence[Record], name: str, key: str, measure: str, heading: Callable[[Any], str]) -> Plot | None:
        values, by_scorer = crossed(found, key)
        rows = []
        for value in values:
            for scorer, mine in by_scorer.items():
                if value in mine:
                    said = {"scorer": scorer, "kind": kind(scorer), "block": heading(value)}
                    rows.append({**mine[value], **said, "more": counted(mine[value])})
        return plots.blocks(name, rows, "block", measure)

    hits, peaks = records(evidence, "localisation"), records(evidence, "peaks")
    kinds = [one for one in _scores_of_kinds(evidence) if one["metric"] != "accuracy"]
    where, appear = "Is the strongest change at the right place?", "Do sites appear and vanish where they were seen to?"
    return drawn_of(
        block(hits, where, "tolerance", "hit rate", lambda near: f"±{near} nt"),
        block(peaks, appear, "metric", "share", lambda metric: str(metric).replace("_", " ")),
        block(kinds, "Is the kind of effect right?", "metric", "F1", lambda one: str(one).removeprefix("F1 of ")),
    )


def _scores_of_kinds(evidence: Record) -> list[dict[str, Any]]:
    return [
        {**one, "scorer": record["scorer"]} for record in records(evidence, "effect_types") for one in record["metrics"]
    ]


def without_number(evidence: Record) -> list[str]:
    """What of the evidence is undefined, and why."""
    named = ("within_position", "gain_over_position", "peaks", "localisation")
    found = [record for name in named for record in records(evidence, name)] + _scores_of_kinds(evidence)
    lines = []
    for record in (one for one in found if one.get("reason")):
        metric = str(record.get("metric", record.get("tolerance", ""))).replace("_", " ")
        lines.append(f"{record.get('scorer', '')}, {metric}: {record['reason']}")
    return list(dict.fromkeys(lines))


def account_of(data: Record) -> list[tuple[str, str]]:
    lines = []
    for title, holder in (("the data set", data), ("targets", data.get("target")), ("the split", data.get("split"))):
        account = holder.get("coverage") if isinstance(holder, dict) else None
        if isinstance(account, dict) and isinstance(account.get("left_out"), dict):
            lines.append((f"{title}: read", number(account.get("read"), 0)))
            for reason, count in account["left_out"].items():
                examples = account.get("examples", {}).get(reason, [])[:3]
                told = f" (such as {'; '.join(map(str, examples))})" if examples else ""
                lines.append((f"left out: {reason}{told}", number(count, 0)))
            lines.append(("used", number(account.get("used"), 0)))
    return lines


def progress_of(progress: Record) -> dict[str, Any]:
    """How far a run is that is being worked on, as far as it says anything: share (0 to 1, or None) and progress, in
    words."""
    numbers = {name: value for name, value in progress.items() if isinstance(value, int | float)}
    share = numbers.get("share")
    words = [str(progress["stage"])] if progress.get("stage") else []
    for name, of in (("fold", "folds"), ("epoch", "epochs")):
        if name in numbers:
            words.append(f"{name} {numbers[name]}" + (f" of {numbers[of]}" if of in numbers else ""))
    if numbers.get("total") and "done" in numbers:
        words.append(f"{numbers['done']:,} of {numbers['total']:,}")
        share = numbers["done"] / numbers["total"] if share is None else share
    for name, said in (
        ("loss", "loss {:.4f}".format),
        ("windows_per_second", "{:,.0f} windows/s".format),
        ("memory_bytes", memory),
        ("dollars", dollars),
    ):
        if name in numbers:
            words.append(said(numbers[name]))
    return {"share": None if share is None else max(0.0, min(1.0, float(share))), "progress": ", ".join(words)}
