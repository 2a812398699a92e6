#!/usr/bin/env python3
"""What the wishlist's kept runs say, as Markdown tables and pictures.

    python tools/wishlist_results.py           draw docs/images/wishlist-*.svg
    python tools/wishlist_results.py --plans   first ask the planner again, and keep what it says

The tables are blocks of `tools/render_docs.py`; both read the ledger `results/` and what is kept
of the planner.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from meta_spliceai.experiments.board.shown import DASH, Table, as_markdown, duration, estimate, memory, number
from meta_spliceai.experiments.plan.choose import in_short
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.resources.resolve import shipped_encoders

ROOT = Path(__file__).resolve().parents[1]
LEDGER = "results"
IMAGES = Path("docs/images")
PLANS = Path("docs/results/wishlist-plans.json")
ENCODERS = (
    "validated-delta-50k",
    "hyenadna-small-validated-delta",
    "hyenadna-medium-validated-delta",
    "hyenadna-large-finetune",
)
"""Rows with the same data, split, window and target at laptop scale, which differ in the encoder."""
PACKAGED = "packaged-human"
"""The data set of most rows."""
CURVE = "curve-"
"""Beginning of the ids of the learning curve's rows."""


@dataclass(frozen=True)
class Result:
    """One kept run: its line in the ledger and the row as it was run."""

    entry: dict[str, Any]
    spec: ExperimentSpec

    @property
    def row(self) -> str:
        """The row's id."""
        return self.spec.id

    @property
    def learned(self) -> str:
        """The learned model's name among the scorers; empty where the row predicts no score of its own."""
        names = [str(one["scorer"]) for one in self.entry["metrics"] if one["kind"] == "learned"]
        return names[0] if names else ""

    @property
    def auprc(self) -> str:
        """The learned model's AUPRC with its interval, as a text."""
        return estimate(self.value(self.learned, "auprc"))

    def value(self, scorer: str, metric: str) -> dict[str, Any] | None:
        """One metric of one scorer with its interval; None where it was not computed."""
        for one in self.entry["metrics"]:
            if (one["scorer"], one["metric"]) == (scorer, metric) and one["estimate"] is not None:
                return dict(one)
        return None

    def best(self, kind: str) -> dict[str, Any] | None:
        """The AUPRC of the best base network (`base`) or baseline (`baseline`)."""
        found = [
            one
            for one in self.entry["metrics"]
            if (one["kind"], one["metric"]) == (kind, "auprc") and one["estimate"] is not None
        ]
        return max(found, key=lambda one: float(one["estimate"]), default=None)


@cache
def read_results(root: Path) -> tuple[Result, ...]:
    """The newest kept run of each row, data set, scale, window, weights and start, in the order in which they finished;
    read once."""
    workspace = Workspace(root / LEDGER)
    newest: dict[tuple[Any, ...], Result] = {}
    for entry in workspace.finished():
        run = workspace.run(str(entry["run"]))
        if entry.get("smoke") or not run.path.is_dir():
            continue
        spec = run.spec()
        weights = str(spec.encoder.settings.get("weights"))
        key = (spec.id, spec.data.name, spec.scale, spec.window, weights, spec.training.start)
        newest[key] = Result(entry, spec)
    return tuple(newest.values())


def on_the_wishlist(results: Iterable[Result]) -> list[Result]:
    """Runs of the wishlist's rows in the wishlist's order; those run as wished first, for each row."""
    order = {row.id: place for place, row in enumerate(load_rows(own=None).values()) if row.wish is not None}
    wished = [one for one in results if one.row in order]
    return sorted(wished, key=lambda one: (order[one.row], not one.entry.get("as_wished")))


# ------------------------------------------------------------------------------------------------------------ tables


def rows_table(root: Path) -> str:
    """Every kept run of a wishlist's row: what came out, what it took; what was not run as wished is open."""
    columns = ("row", "data: variants, tested", "scale", "AUPRC", "base network", "best baseline", "r with validated Δ",
               "r with the measured effect", "time, memory")  # fmt: skip
    rows: list[tuple[str, ...]] = []
    results = on_the_wishlist(read_results(root))
    for one in results:
        entry, base, rival = one.entry, one.best("base"), one.best("baseline")
        rows.append(
            (
                _named(one),
                f"{entry['data']['name']}: {entry['data']['rows']:,}, {entry['test']['rows']:,}",
                one.spec.scale,
                one.auprc,
                f"{_alone(base)} ({base['scorer'].removeprefix('base ')})" if base else DASH,
                f"{_alone(rival)} ({rival['scorer']})" if rival else DASH,
                _alone(one.value(one.learned, "pearson_validated_delta")),
                _alone(one.value(one.learned, "pearson_effect")),
                f"{duration(entry['seconds'])}, {memory(entry['peak_memory_bytes'])}",
            )
        )
    completed = {one.row: packaged_encoder(one) for one in results if one.entry.get("as_wished")}
    for row in load_rows(own=None).values():
        if row.wish is not None and completed.get(row.id, True):
            state = "with the published weights" if row.id in completed else "not run as wished yet"
            rows.append((row.title, f"open: {state}", *[DASH] * (len(columns) - 2)))
    return as_markdown(Table(columns, rows, 3))


def packaged_encoder(one: Result) -> bool:
    """Whether a run's encoder is one of those in the package, which stand in for the published ones at laptop scale."""
    return "packaged encoder" in str(one.entry.get("weights_origin"))


def completed_table(root: Path) -> str:
    """The completed rows in short: the wishlist's answer for a first page."""
    rows = [
        (
            f"{one.spec.title}, {one.entry['data']['name']}"
            + (", encoder pre-trained by this project" if packaged_encoder(one) else ""),
            one.spec.scale,
            one.auprc,
            _alone(one.best("base")),
            _alone(one.value(one.learned, "pearson_validated_delta")),
            duration(one.entry["seconds"]),
        )
        for one in on_the_wishlist(read_results(root))
        if one.entry.get("as_wished") and one.value(one.learned, "auprc")
    ]
    return as_markdown(Table(("row", "scale", "AUPRC", "base network alone", "r with validated Δ", "time"), rows, 2))


def curve_table(root: Path) -> str:
    """The learning curve: training variants, AUPRC of the first start and over the starts, AUROC, and the base
    network's AUPRC."""
    columns = ("data", "trained on", "AUPRC, first start", "AUPRC of all starts: mean (smallest, largest)", "AUROC",
               "base network", "time")  # fmt: skip
    rows = []
    for trained_on, starts in learning_curve(root):
        one, values = starts[0], [_auprc(start) for start in starts]
        spread = f"{number(sum(values) / len(values))} ({number(min(values))}, {number(max(values))})"
        rows.append(
            (
                one.entry["data"]["name"],
                f"{trained_on:,}",
                one.auprc,
                f"{spread} of {len(values)}" if len(values) > 1 else DASH,
                estimate(one.value(one.learned, "auroc")),
                _alone(one.best("base")),
                duration(one.entry["seconds"]),
            )
        )
    return as_markdown(Table(columns, rows, 1))


def folds_table(root: Path) -> str:
    """Cross-validated rows: pooled out of fold, and how the folds spread."""
    columns = ("row", "folds", "AUPRC, pooled", "AUPRC of the folds: mean ± standard deviation", "smallest, largest",
               "base")  # fmt: skip
    rows = []
    for one in on_the_wishlist(read_results(root)):
        for fold in one.entry.get("folds") or ():
            if (fold["scorer"], fold["metric"]) == (one.learned, "auprc"):
                values = [float(value) for value in fold["values"].values() if value is not None]
                spread = f"{number(fold['mean'])} ± {number(fold['sd'])}"
                ends = f"{number(min(values))}, {number(max(values))}"
                rows.append((_named(one), str(fold["folds"]), one.auprc, spread, ends, _alone(one.best("base"))))
    return as_markdown(Table(columns, rows))


def encoders_table(root: Path) -> str:
    """The encoders in the package: what they were trained on, and bits a base on what they have not seen, beside Markov
    models'."""
    columns = ("encoder", "trained on", "left out", "bits a base", "Markov model of order 5", "of order 8")
    rows = []
    for name, folder in shipped_encoders().items():
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))["pretraining"]
        settings, markov = facts["settings"], facts["markov_bits"]
        read = settings["steps"] * settings["batch_size"] * settings["length"]
        seen, left_out = f"{read / 1e6:.1f} million bases of GRCh38", ", ".join(facts["held_out"])
        rows.append((name, seen, left_out, *map(number, (facts["held_out_bits"], markov["5"], markov["8"]))))
    return as_markdown(Table(columns, rows, 3))


def ensembles_table(root: Path) -> str:
    """Ensembles of rows beside their members on the same test, and whether the members' disagreement tells where the
    ensemble errs."""
    results = [one for one in on_the_wishlist(read_results(root)) if one.entry.get("as_wished")]
    rows = []
    for one in results:
        if one.spec.ensemble is None:
            continue
        names, scale = one.spec.ensemble.members, one.spec.scale
        members = [member for member in results if member.row in names and member.spec.scale == scale]
        rows.append((_named(one), one.auprc, _alone(one.best("base"))))
        rows += [(f"its member {member.spec.title}", member.auprc, "") for member in members]
        told = Workspace(root / LEDGER).run(str(one.entry["run"])).record()["training"]["disagreement"]
        r = f"{number(told['spearman_with_error'])} on {told['rows']:,} tested variants"
        rows.append(("rank correlation of the members' disagreement with the ensemble's error", r, ""))
    return as_markdown(Table(("model", "AUPRC", "base network"), rows, 1))


def folds_run(one: Result) -> str:
    """How many folds a row has that was wished with another number: one for each chromosome; else empty."""
    folds = [str(fold["folds"]) for fold in one.entry.get("folds") or ()]
    if one.spec.split.folds != "chromosome" or not folds or one.spec.wish is None or one.spec.wish.what == folds[0]:
        return ""
    return f", here {folds[0]}, one for each chromosome that {one.entry['data']['name']} has variants on"


def tasks_table(root: Path) -> str:
    """What the multi-step rows reach in their own tasks, against observed labels and against the base network's; where
    sites were observed, the base network's own strongest peak stands beside the row."""
    rows = []
    for one in on_the_wishlist(read_results(root)):
        for task, parts in (one.entry.get("task_metrics") or {}).items():
            for labels, found in _parts(parts):
                for metric in found.get("metrics", ()):
                    of = f" of {metric['of']} variants" if "of" in metric else ""
                    rows.append(
                        (_named(one), task, labels, f"{metric['metric']}{of}", str(metric["n"]), estimate(metric))
                    )
                for rate in found.get("hit_rates", ()):
                    within = "at the base" if rate["tolerance"] == 0 else f"within {rate['tolerance']} nt"
                    model = _named(one) if rate["scorer"] == one.row else f"base network, same test as {_named(one)}"
                    rows.append((model, task, labels, f"hit rate {within}", str(rate["n"]), estimate(rate)))
        effect = one.value(one.learned, "pearson_effect") if one.spec.target == "magnitude" else None
        if effect is not None:
            rows.append(
                (_named(one), "magnitude", "measured", "Pearson r with ΔPSI", str(effect["n"]), estimate(effect))
            )
    return as_markdown(Table(("row", "task", "labels", "metric", "tested", "value"), rows, 4))


def _parts(parts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(labels, result) of a task: observed labels and the base network's stand apart; others are one."""
    if "metrics" in parts:
        return [("validated Δ", parts)]
    names = {"gold": "observed", "base": "base network's"}
    return [(names.get(name, name), found) for name, found in parts.items() if isinstance(found, dict)]


# ----------------------------------------------------------------------------------- planned, in tables and words


def take_plans(root: Path) -> None:
    """Keep what the planner says of every kept run, as if that run had not been, and of every row at full scale."""
    from meta_spliceai.experiments.plan.planner import Planner, scatter

    rows = load_rows(own=None)
    planner = Planner(Workspace(root / LEDGER), rows)
    columns = ["memory_calibrated", "seconds_measured", "seconds_calibrated", "seconds_rest_on"]
    foreseen = scatter(planner).set_index("run")[columns]
    foreseen = foreseen.loc[[one.entry["run"] for one in on_the_wishlist(read_results(root))]]
    offers = {row.id: planner.row(row).best for row in rows.values() if row.wish is not None}
    kept = {
        "runs": json.loads(foreseen.to_json(orient="index", double_precision=1)),
        "rows": {
            row_id: {name: offer.to_json()[name] for name in ("gpu", "hours", "dollars", "time_basis")}
            for row_id, offer in offers.items()
            if offer is not None
        },
    }
    (root / PLANS).write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def planned_table(root: Path) -> str:
    """What the planner foresees of each kept run from the other runs alone, beside what it took."""
    columns = ("row", "scale", "time: planned", "took", "memory: planned", "took", "time based on", "cores kept busy")
    kept = json.loads((root / PLANS).read_text(encoding="utf-8"))["runs"]
    workspace, rows = Workspace(root / LEDGER), []
    for one in on_the_wishlist(read_results(root)):
        foreseen = kept.get(one.entry["run"])
        if foreseen is None:
            continue
        record = workspace.run(str(one.entry["run"])).record()
        seconds, busy = (record[name].get("training", 0.0) for name in ("seconds_by_step", "cpu_seconds_by_step"))
        rows.append(
            (
                _named(one),
                one.spec.scale,
                duration(foreseen["seconds_calibrated"]),
                duration(foreseen["seconds_measured"]),
                memory(foreseen["memory_calibrated"]) if foreseen["memory_calibrated"] else DASH,
                memory(record["peak_memory_bytes"]),
                foreseen["seconds_rest_on"] or "data sheets alone",
                f"{busy / seconds:.1f} of {record['threads']}" if seconds else DASH,
            )
        )
    return as_markdown(Table(columns, rows, 2))


def rows_in_words(root: Path) -> str:
    """A sentence for each row of the wishlist: what it asks, what came out, whether a GPU would pay, what it costs."""
    offers = json.loads((root / PLANS).read_text(encoding="utf-8"))["rows"]
    completed = {one.row: one for one in on_the_wishlist(read_results(root)) if one.entry.get("as_wished")}
    lines = []
    for row in load_rows(own=None).values():
        if row.wish is None:
            continue
        one = completed.get(row.id)
        came_out = "not run as wished yet" if one is None else _outcome(one)
        offer = offers.get(row.id)
        price = "" if offer is None or offer["dollars"] is None else f" and ${in_short(offer['dollars'])}"
        cost = (
            "fits on no GPU known to the planner"
            if offer is None
            else f"at full scale {duration(offer['hours'] * 3600)}{price} on one {offer['gpu']} ({offer['time_basis']})"
        )
        wished = f"{row.wish.column.lower()}: {row.wish.what}{folds_run(one) if one is not None else ''}"
        lines.append(f"- **{row.title}** ({wished}): {came_out}. Planner: {cost}.")
    return "\n".join(lines)


def _outcome(one: Result) -> str:
    """What a completed row reached, and what that says about running it again on a GPU."""
    value, base = one.value(one.learned, "auprc"), one.best("base")
    tested = f"{one.entry['test']['rows']:,} tested variants"
    if value is None or base is None:
        return f"for its task's metrics on {tested}, see *Which task can be learned?*"
    said = f"AUPRC {estimate(value)} on {tested} at {one.spec.scale} scale, the base network alone {_alone(base)}; "
    if value["high"] < base["estimate"]:
        return said + "a GPU is not worth it on these data, as even the interval's upper end is below the base network"
    if value["low"] > base["estimate"]:
        return said + "worth running on a GPU"
    return said + "the test is too small to tell them apart: more variants first, then a GPU"


BLOCKS = {
    "wishlist-rows": rows_table,
    "wishlist-completed": completed_table,
    "wishlist-curve": curve_table,
    "wishlist-encoders": encoders_table,
    "wishlist-ensembles": ensembles_table,
    "wishlist-folds": folds_table,
    "wishlist-tasks": tasks_table,
    "wishlist-planned": planned_table,
    "wishlist-words": rows_in_words,
}


def learning_curve(root: Path) -> list[tuple[int, list[Result]]]:
    """(training variants, runs from their different starts, the first one first) of the learning curve's rows; the data
    set with the most points first."""
    workspace = Workspace(root / LEDGER)
    points: dict[tuple[str, int], list[Result]] = {}
    for one in sorted(read_results(root), key=lambda one: one.spec.training.start):
        if one.row.startswith(CURVE):
            training = workspace.run(str(one.entry["run"])).record()["training"]
            points.setdefault((one.entry["data"]["name"], int(training["train_rows"])), []).append(one)
    data = [name for name, _ in points]
    in_order = sorted(points, key=lambda point: (-data.count(point[0]), point[1]))
    return [(trained_on, points[name, trained_on]) for name, trained_on in in_order]


def _auprc(one: Result) -> float:
    found = one.value(one.learned, "auprc")
    if found is None:
        raise SystemExit(f"{one.entry['run']}: no AUPRC of the learned model")
    return float(found["estimate"])


def _alone(value: dict[str, Any] | None) -> str:
    return number(value["estimate"] if value else None)


def _named(one: Result) -> str:
    about = [] if one.entry.get("as_wished") else ["not as wished"]
    if "weights" in one.spec.encoder.settings:
        origin = str(one.entry["weights_origin"])  # what a packaged encoder has seen stands in a table of its own
        about.append(f"weights {origin.split(' (')[0] if packaged_encoder(one) else origin}")
    return f"{one.spec.title} ({', '.join(about)}, {one.spec.window} nt)" if about else one.spec.title


# ---------------------------------------------------------------------------------------------------------- pictures


def draw(root: Path) -> list[Path]:
    """The pictures of docs/results/wishlist.md."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    results = on_the_wishlist(read_results(root))
    context = [one for one in results if one.row in ("simple-cnn-501", "simple-cnn-1001")]
    curve = learning_curve(root)
    curve = [
        (trained_on, starts)
        for trained_on, starts in curve
        if starts[0].entry["data"]["name"] == curve[0][1][0].entry["data"]["name"]
    ]
    pictures: dict[str, Any] = {
        "context": lambda axis: _curve(axis, sorted((one.spec.window, [one]) for one in context), "window, nt"),
        "encoders": lambda axis: _forest(axis, [one for one in results if one.row in ENCODERS], _encoder_of),
        "data": lambda axis: _curve(axis, curve, "labelled variants trained on"),
        "folds": lambda axis: _folds(axis, [one for one in results if one.entry.get("folds")]),
        "rows": lambda axis: _forest(axis, [one for one in results if one.value(one.learned, "auprc")], _label),
    }
    written = []
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "meta-spliceai", "svg.fonttype": "none"}):
        for name, plot in pictures.items():
            figure = Figure(figsize=(8, {"rows": 6, "encoders": 2.2}.get(name, 3)), layout="constrained")
            FigureCanvasAgg(figure)
            plot(figure.add_subplot())
            path = root / IMAGES / f"wishlist-{name}.svg"
            figure.savefig(path, format="svg", metadata={"Date": None})
            written.append(path)
    return written


def _curve(axis: Any, points: Sequence[tuple[int, list[Result]]], label: str) -> None:
    """AUPRC of the learned model's first start with its interval along x, its other starts as single points, beside the
    base network and the best baseline."""
    from meta_spliceai.colours import KINDS

    places = [place for place, _ in points]
    for kind, name in (("learned", "learned model"), ("base", "base network"), ("baseline", "best baseline")):
        first = [starts[0] for _, starts in points]
        found = [one.value(one.learned, "auprc") if kind == "learned" else one.best(kind) for one in first]
        known = [(place, value) for place, value in zip(places, found, strict=True) if value]
        middle = [value["estimate"] for _, value in known]
        around = [
            [value["estimate"] - value["low"] for _, value in known],
            [value["high"] - value["estimate"] for _, value in known],
        ]
        axis.errorbar([place for place, _ in known], middle, yerr=around if kind == "learned" else None,
                      fmt="o-" if kind == "learned" else "--", color=KINDS[kind], label=name)  # fmt: skip
    others = [(place, _auprc(one)) for place, starts in points for one in starts[1:]]
    axis.plot([place for place, _ in others], [value for _, value in others], "x", color=KINDS["learned"], ms=4)
    axis.set_xscale("log")
    axis.set_xticks(places, [f"{place:,}" for place in places], minor=False)
    axis.set_xticks([], minor=True)
    axis.set(xlabel=label, ylabel="AUPRC (test)")
    axis.legend(loc="lower right")


def _folds(axis: Any, results: Sequence[Result]) -> None:
    """AUPRC of each fold: learned model above, base network below."""
    from meta_spliceai.colours import KINDS

    names = []
    for row, one in enumerate(results):
        by_scorer = {fold["scorer"]: fold["values"] for fold in one.entry["folds"] if fold["metric"] == "auprc"}
        base = one.best("base")
        names.append(one.spec.title)
        for kind, scorer, shift in (("learned", one.learned, -0.15), ("base", base["scorer"] if base else "", 0.15)):
            values = [value for value in by_scorer.get(scorer, {}).values() if value is not None]
            label = {"learned": "learned model", "base": "base network"}[kind] if row == 0 else None
            axis.plot(values, [row + shift] * len(values), "o", color=KINDS[kind], alpha=0.6, ms=4, label=label)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("AUPRC of each fold")
    axis.legend(loc="lower left")


def _label(one: Result) -> str:
    """A row in short: tables have the rest."""
    parts = [one.spec.title, *([] if one.entry.get("as_wished") else [f"{one.spec.window} nt"])]
    parts += (
        [f"{str(one.entry['weights_origin']).split()[0]} encoder"] if "weights" in one.spec.encoder.settings else []
    )
    return ", ".join([*parts, *([] if one.entry["data"]["name"] == PACKAGED else [one.entry["data"]["name"]])])


def _encoder_of(one: Result) -> str:
    frozen = "frozen" if one.spec.encoder.settings.get("freeze_encoder") else "trained"
    return f"{one.spec.encoder.name}, {str(one.entry['weights_origin']).split()[0]}, {frozen}"


def _forest(axis: Any, results: Sequence[Result], label: Callable[[Result], str]) -> None:
    """AUPRC of every row with its interval, beside the base network's on the same test."""
    from meta_spliceai.colours import KINDS

    for row, one in enumerate(results):
        value, base = one.value(one.learned, "auprc"), one.best("base")
        if value is None:
            continue
        around = [[value["estimate"] - value["low"]], [value["high"] - value["estimate"]]]
        axis.errorbar(value["estimate"], row, xerr=around, fmt="o", color=KINDS["learned"], ms=4)
        if base is not None:
            axis.plot(base["estimate"], row, "D", color=KINDS["base"], ms=4, mfc="white")
    axis.set_yticks(range(len(results)), [label(one) for one in results])
    axis.invert_yaxis()
    axis.set_xlabel("AUPRC: model with its 95 % interval, base network (diamond)")
    axis.grid(axis="x", alpha=0.3)


if __name__ == "__main__":
    if "--plans" in sys.argv[1:]:
        take_plans(ROOT)
    for path in draw(ROOT):
        print(f"written: {path.relative_to(ROOT)}")
