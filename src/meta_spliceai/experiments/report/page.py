"""The page: one self-contained HTML file made of the folder of runs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from meta_spliceai.experiments.progress_of_rows import STATES, RowState, state_of_rows
from meta_spliceai.experiments.report.collect import RunRecord, collect_runs
from meta_spliceai.experiments.report.leaderboard import Board, boards, verdict_level, verdict_summary, worse_than
from meta_spliceai.experiments.report.palette import cell_rules, variables
from meta_spliceai.experiments.report.ranking import RankingView, RunRanking, ranking_of_run, ranking_view
from meta_spliceai.experiments.report.rests_on import RestsOn, rests_on
from meta_spliceai.experiments.report.saturation_map import SaturationMap
from meta_spliceai.experiments.report.sections import (
    forest_of,
    map_of,
    prevalence_of,
    scatters_of,
    why_no_scatters,
)
from meta_spliceai.experiments.report.svg import number
from meta_spliceai.experiments.report.training_curves import training_curves
from meta_spliceai.experiments.rows import load_rows
from meta_spliceai.experiments.workspace import Workspace
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING

TABLE_METRICS = (
    "auprc",
    "auroc",
    "spearman_effect",
    "pearson_effect",
    "precision_at_recall_50",
    "detection_rate_at_fpr_5",
    "pearson_validated_delta",
)
REFERENCE = "base max_window"
SCRIPTS = ("page.js", "tips.js", "map.js")
"""Scripts of the one-file page, in order; each is a function of its own."""


@dataclass(frozen=True)
class BoardView:
    """What the template shows of one board."""

    board: Board
    forest: Markup
    ranking: RankingView
    scatters: list[Markup]
    no_scatters: str
    map: SaturationMap | None
    prevalence: float | None
    metrics: list[tuple[str, str, str]]
    reference: str
    coverage: list[tuple[str, list[tuple[str, int, list[str]]]]]
    parts: list[dict[str, Any]]
    notes: list[str]
    rests: list[RestsOn]
    """What each of the board's standings rests on, in their order."""


def render_page(workspace: Workspace, rows: Sequence[RowState] | None = None) -> str:
    """The page's text.

    Args:
        workspace: the folder of runs.
        rows: the wishlist's rows with their states; None for the catalogue's.
    """
    runs = collect_runs(workspace)
    rows = state_of_rows(load_rows(), workspace) if rows is None else rows
    rankings = {run.name: ranking_of_run(run) for run in runs if run.is_result}
    views = [view_of(board, rankings) for board in boards(runs)]
    script = "\n".join(packaged(name) for name in SCRIPTS)
    maps = {f"map-{i}": view.map.data for i, view in enumerate(views) if view.map is not None}
    environment = template_environment()
    return environment.get_template("page.html.j2").render(
        style=style_sheet(),
        # The text comes from this package; a "</script" in it would be our own mistake.
        script=Markup(script),  # noqa: S704
        script_digest=digest_of(script),
        views=views,
        runs=runs,
        curves=curves_of(runs),
        maps=json_for_html(maps) if maps else None,
        ledger_damage=[damage.describe() for damage in workspace.ledger.damage()],
        rows=rows,
        row_counts={state: sum(row.state == state for row in rows) for state in STATES},
        sections=by_section(rows),
        licences=licences_of(runs),
        summary=verdict_summary,
        worse=worse_than,
        newest=newest_of(runs),
    )


def template_environment() -> jinja2.Environment:
    """The page's templates with their filters."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(packaged),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number, interval=interval, seconds=seconds, memory=memory, dollars=dollars, yaml=as_yaml,
        level=verdict_level,
    )  # fmt: skip
    return environment


def style_sheet() -> Markup:
    """All of the page's style; it comes from this package, so that a "</style" in it would be our own mistake."""
    return Markup(variables() + cell_rules() + packaged("plots.css") + packaged("page.css"))  # noqa: S704


def digest_of(script: str) -> str:
    """What the page's content security policy knows its script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def packaged(name: str) -> str:
    """A text file of this folder, as it lies in the wheel."""
    return files("meta_spliceai.experiments.report").joinpath(name).read_text(encoding="utf-8")


def json_for_html(value: object) -> Markup:
    """JSON that cannot end its script element or open a comment, whatever names it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def view_of(board: Board, rankings: dict[str, RunRanking]) -> BoardView:
    """Everything the templates show of a board; `rankings` as `ranking_of_run` gives them, by run name."""
    run = board.runs[0]
    label = effect_label(run)
    known = {metric.name: metric for metric in OperatingPoints().metrics()}
    metrics = [
        (name, known[name].label if name in known else name, known[name].pitfall if name in known else "")
        for name in [*TABLE_METRICS, *(name for name in board.metrics if name not in TABLE_METRICS)]
        if name in board.metrics
    ]
    references = [s.name for s in board.standings if s.kind != "learned"]
    reference = REFERENCE if REFERENCE in references else (references[0] if references else "")
    return BoardView(
        board,
        forest_of(board),
        ranking_view(board, rankings),
        scatters_of(board, label),
        why_no_scatters(board),
        map_of(board, label),
        prevalence_of(board),
        metrics,
        reference,
        _coverage(run),
        _parts(run),
        _notes(board.runs),
        [rests_on(standing, board.headline) for standing in board.standings],
    )


def effect_label(run: RunRecord) -> str:
    """What the measured effect is, for axes: the first clause of the data set's own words."""
    return str(run.data.get("effect_label") or "measured effect").partition(";")[0].strip()


def _notes(runs: Sequence[RunRecord]) -> list[str]:
    """What a reader must know of the runs (a subset, inputs that changed since), each line once, as sentences."""
    lines: dict[str, None] = {}
    for run in runs:
        listed = run.info.get("notes")
        stale = f"stale run {run.name}: {run.info['stale']}" if run.info.get("stale") else ""
        for line in [run.info.get("subset_note"), *(listed if isinstance(listed, list) else ()), stale]:
            if line:
                words = str(line).strip().rstrip(".")
                lines[f"{words[:1].upper()}{words[1:]}."] = None
    return list(lines)


def _coverage(run: RunRecord) -> list[tuple[str, list[tuple[str, int, list[str]]]]]:
    """What became of the rows, step by step: (step, [(line, count, examples)])."""
    steps = []
    target, split = run.data.get("target"), run.data.get("split")
    for title, account in (
        ("The data set", run.data.get("coverage")),
        ("Targets to learn from", target.get("coverage") if isinstance(target, dict) else None),
        ("The split", split.get("coverage") if isinstance(split, dict) else None),
        ("The judgement on the test part", run.evaluation.coverage.to_json() if run.evaluation else None),
    ):
        left = account.get("left_out") if isinstance(account, dict) else None
        if isinstance(account, dict) and isinstance(left, dict):
            kept = account.get("examples")
            examples: dict[str, Any] = kept if isinstance(kept, dict) else {}
            lines: list[tuple[str, int, list[str]]] = [("read", _count(account.get("read")), [])]
            for reason, count in left.items():
                lines.append((f"left out: {reason}", _count(count), _lines(examples.get(reason))))
            lines.append(("used", _count(account.get("used")), []))
            steps.append((title, lines))
    return steps


def _lines(value: object) -> list[str]:
    return [str(line) for line in value[:5]] if isinstance(value, list) else []


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _parts(run: RunRecord) -> list[dict[str, Any]]:
    """Variants, groups and classes of every part: counted from the predictions, or as the run recorded them where its
    predictions were kept without classes; empty where neither names parts."""
    table = run.predictions
    if table is None or not {"part", "group", "classification"} <= set(table):
        split = run.data.get("split")
        recorded = split.get("parts") if isinstance(split, dict) else None
        return [
            {"part": part, "variants": found.get("variants", 0), "groups": found.get("groups", 0),
             "classes": {SPLICE_ALTERING: found.get("altering", 0), NORMAL: found.get("normal", 0)}}
            for part, found in (recorded.items() if isinstance(recorded, dict) else ())
        ]  # fmt: skip
    order = {"train": 0, "validation": 1, "test": 2}
    counted = []
    for part, rows in sorted(table.groupby("part"), key=lambda item: order.get(str(item[0]), 3)):
        classes = rows["classification"].value_counts().to_dict()
        counted.append({"part": part, "variants": len(rows), "groups": rows["group"].nunique(), "classes": classes})
    return counted


def curves_of(runs: Sequence[RunRecord]) -> list[tuple[RunRecord, Markup]]:
    drawn = ((run, training_curves(run.curves, run.title)) for run in runs if run.curves is not None)
    return [(run, plot) for run, plot in drawn if plot is not None]


def by_section(rows: Sequence[RowState]) -> list[tuple[str, list[RowState]]]:
    sections: dict[str, list[RowState]] = {}
    for row in rows:
        sections.setdefault(row.spec.section, []).append(row)
    return list(sections.items())


def licences_of(runs: Sequence[RunRecord]) -> list[dict[str, str]]:
    """Licences the runs recorded: of the data set, and of base networks; each once."""
    found: dict[str, dict[str, str]] = {}
    for run in runs:
        if run.data.get("licence"):
            name = str(run.data.get("title") or run.data.get("data_set") or "data set")
            citation = str(run.data.get("citation") or "")
            found[name] = {"name": name, "licence": str(run.data["licence"]), "citation": citation}
        listed = run.info.get("licences")
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict) and entry.get("name"):
                found[str(entry["name"])] = {key: str(entry.get(key) or "") for key in ("name", "licence", "citation")}
    return list(found.values())


def newest_of(runs: Sequence[RunRecord]) -> str:
    """When the newest run changed last; the page's own date, so that the same runs give the same page."""
    times = [str(run.info.get("finished") or run.info.get("changed_at") or "") for run in runs]
    return max(times, default="")


def interval(value: tuple[float, float, float], decimals: int = 2) -> str:
    """The interval in brackets; empty where there is none."""
    low, high = number(value[1], decimals), number(value[2], decimals)
    return "" if "–" in (low, high) else f"[{low}, {high}]"


def seconds(value: object) -> str:
    """A duration for people."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "not recorded"
    whole = round(value)
    if whole < 60:
        return f"{value:.1f} s" if value < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory(value: object) -> str:
    """Bytes for people, in units of 1024."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "not recorded"
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def dollars(value: object) -> str:
    """An amount of US dollars for people."""
    if not isinstance(value, int | float):
        return "–"
    return f"${value:,.2f}" if value >= 0.005 or value == 0 else "< $0.01"


def as_yaml(value: object) -> str:
    """Plain values as a block of YAML, the form in which a spec is written."""
    return yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True).rstrip()
