"""The static site made of the folder of runs: overview, a page a leaderboard, a page a run, and any two runs compared.

Every page stands alone (style, script and data inside), links are relative, nothing is fetched: the folder can be
opened from a disk, sent, or put on any web server.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.leaderboard import test_of
from meta_spliceai.experiments.progress_of_rows import STATES, RowState, state_of_rows
from meta_spliceai.experiments.report.collect import RunRecord, collect_runs
from meta_spliceai.experiments.report.compare_data import compare_data
from meta_spliceai.experiments.report.leaderboard import boards, verdict_summary, worse_than
from meta_spliceai.experiments.report.left import NOTHING_PLANNED, Left, what_is_left
from meta_spliceai.experiments.report.observed_view import observed_view
from meta_spliceai.experiments.report.page import (
    BoardView,
    by_section,
    curves_of,
    digest_of,
    json_for_html,
    licences_of,
    memory,
    newest_of,
    packaged,
    render_page,
    seconds,
    style_sheet,
    template_environment,
    view_of,
)
from meta_spliceai.experiments.report.planned_plot import planned_plot
from meta_spliceai.experiments.report.ranking import RunRanking, ranking_of_run
from meta_spliceai.experiments.report.reliability_plot import reliability_plot
from meta_spliceai.experiments.report.sections import forest_of, styles_of
from meta_spliceai.experiments.report.strata_plot import strata_plot
from meta_spliceai.experiments.report.timeline import Lane, timeline
from meta_spliceai.experiments.rows import load_rows
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.experiments.workspace import Workspace
from meta_spliceai.files import atomic_write

INDEX, COMPARE = "index.html", "compare.html"
STATE = "state.json"
"""What `serve` is asked for now and then: the site's version and the runs that are being worked on."""
STRATIFICATIONS = {
    "region": "Region",
    "type": "Kind of variant",
    "source": "Source",
    "position": "Distance to the site",
}
MEMORY_BAR, TIME_BAR = 0.15, 0.25
"""Shares within which the planner's memory and time count as right."""


@dataclass(frozen=True)
class Picture:
    """A plot with the name of its tab."""

    name: str
    drawn: Markup


def build_report(workspace: Workspace, out: Path, *, plan: bool = True) -> Path:
    """Write the site into a folder, or the one-file page where `out` ends in .html.

    Args:
        workspace: the folder of runs and its ledger; an empty or absent one gives a page that says so.
        out: the folder, made if need be; pages of runs that are gone are removed from it.
        plan: ask the planner what the rows that are left cost (seconds to half a minute).

    Returns:
        The file to open.

    Raises:
        InputError: `out` is a file that is no HTML page, or a folder that holds other things than a site.
    """
    if out.suffix.lower() in (".html", ".htm"):
        _write(out, render_page(workspace))
        return out
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder, or a file that ends in .html")
    pages = render_site(workspace, plan=plan)
    for name, text in pages.items():
        _write(out / name, text)
    for old in (*out.glob("run-*.html"), *out.glob("board-*.html")):
        if old.name not in pages:
            old.unlink()
    return out / INDEX


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as handle:
        handle.write(text)


def render_site(
    workspace: Workspace,
    *,
    rows: Sequence[RowState] | None = None,
    left: Left | None = None,
    plan: bool = True,
    live: bool = False,
) -> dict[str, str]:
    """Every page by its file name.

    Args:
        workspace: the folder of runs.
        rows: the wishlist's rows with their states; None for the catalogue's.
        left: what is left and what it costs; None to ask the planner.
        plan: False leaves the planner out; the wishlist's own guesses are shown then.
        live: pages look for a newer version of themselves, as `serve` wants it.
    """
    runs = collect_runs(workspace)
    catalogue = load_rows()
    rows = state_of_rows(catalogue, workspace) if rows is None else rows
    if left is None:
        left = what_is_left(rows, workspace, catalogue) if plan else NOTHING_PLANNED
    rankings = {run.name: ranking_of_run(run) for run in runs if run.evaluation is not None}
    views = [view_of(board, rankings) for board in boards(runs)]
    render = _Renderer(live)
    pages = {INDEX: render("overview.html.j2", "Overview", **_overview(workspace, runs, rows, left, views, catalogue))}
    for n, view in enumerate(views):
        maps = {f"map-{n}": view.map.data} if view.map else {}
        pages[board_page(n)] = render(
            "board_page.html.j2", board_name(view), maps, view=view, n=n, curves=curves_of(view.board.runs),
            summary=verdict_summary, worse=worse_than, runs=view.board.runs,
        )  # fmt: skip
    for run in runs:
        pages[run_page(run.name)] = _run_page(render, run, views, rankings)
    pages[COMPARE] = render("compare.html.j2", "Compare two runs", compared=compare_data(runs, rankings), runs=runs)
    return pages


def run_page(name: str) -> str:
    """File name of a run's page."""
    return f"run-{name}.html"


def board_page(number: int) -> str:
    """File name of a leaderboard's page, counted from 0."""
    return f"board-{number + 1}.html"


def board_name(view: BoardView) -> str:
    """What a leaderboard is called: data set, split and size of the test."""
    run = view.board.runs[0]
    words = [view.board.dataset, test_of(run.entry)[1] if run.entry else ""]
    tested = run.test_rows()
    if tested is not None:
        words.append(f"{len(tested):,} test variants")
    return ", ".join(word for word in words if word)


class _Renderer:
    """Templates with what every page needs: style, script, its digest, navigation."""

    def __init__(self, live: bool) -> None:
        self.live = live
        self.environment = template_environment()
        self.environment.filters.update(run_page=lambda name: quote(run_page(name)), hours=hours)
        self.style = style_sheet()

    def __call__(self, template: str, title: str, maps: dict[str, Any] | None = None, **values: Any) -> str:
        names = ["page.js", "tips.js"]
        names += ["map.js"] if maps else []
        names += ["compare.js"] if "compared" in values else []
        names += ["live.js"] if self.live else []
        script = "\n".join(packaged(name) for name in names)
        compared = values.pop("compared", None)
        return self.environment.get_template(template).render(
            title=title,
            style=self.style,
            # The text comes from this package; a "</script" in it would be our own mistake.
            script=Markup(script),  # noqa: S704
            script_digest=digest_of(script),
            live=self.live,
            maps=json_for_html(maps) if maps else None,
            compared=json_for_html(compared) if compared is not None else None,
            **values,
        )


def _overview(
    workspace: Workspace,
    runs: Sequence[RunRecord],
    rows: Sequence[RowState],
    left: Left,
    views: Sequence[BoardView],
    catalogue: dict[str, ExperimentSpec],
) -> dict[str, Any]:
    finished = {str(entry.get("run")): entry for entry in workspace.finished()}
    return {
        "runs": sorted(runs, key=lambda run: str(run.info.get("started") or ""), reverse=True),
        "running": running(runs),
        "run_counts": dict(Counter(run.state for run in runs).most_common()),
        "rows": rows,
        "sections": by_section(rows),
        "row_counts": {state: sum(row.state == state for row in rows) for state in STATES},
        "left": left,
        "finished": finished,
        "catalogue": catalogue,
        "cards": [
            {"name": board_name(view), "page": board_page(n), "view": view, "forest": forest_of(view.board, most=1),
             "best": view.board.learned[0] if view.board.learned else None, "learned": len(view.board.learned)}
            for n, view in enumerate(views)
        ],
        "summary": verdict_summary,
        "timeline": timeline([_lane(run) for run in runs]),
        "planned": [
            plot
            for plot in (
                planned_plot(left.memory, "Peak memory", "GiB", MEMORY_BAR),
                planned_plot(left.seconds, "Time", "seconds", TIME_BAR),
            )
            if plot is not None
        ],
        "licences": licences_of(runs),
        "ledger_damage": [damage.describe() for damage in workspace.ledger.damage()],
        "newest": newest_of(runs),
    }  # fmt: skip


def running(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Runs that are being worked on, with what they last said of themselves."""
    return [
        {"name": run.name, "title": run.title, "since": run.info.get("started", ""), "share": _share(run.progress),
         "words": progress_words(run.progress)}
        for run in runs
        if run.state == "running"
    ]  # fmt: skip


def _share(progress: dict[str, Any]) -> float | None:
    share = progress.get("share")
    if not isinstance(share, int | float):
        done, total = progress.get("done"), progress.get("total")
        share = done / total if isinstance(done, int | float) and isinstance(total, int | float) and total else None
    return None if share is None else max(0.0, min(1.0, float(share)))


def progress_words(progress: dict[str, Any]) -> str:
    """What a run's progress says, as far as it says anything."""
    words = [str(progress["stage"])] if progress.get("stage") else []
    for name, of in (("fold", "folds"), ("epoch", "epochs")):
        if isinstance(progress.get(name), int):
            words.append(
                f"{name} {progress[name]}" + (f" of {progress[of]}" if isinstance(progress.get(of), int) else "")
            )
    if isinstance(progress.get("done"), int) and isinstance(progress.get("total"), int):
        words.append(f"{progress['done']:,} of {progress['total']:,}")
    for name, unit, form in (("loss", "", ".4f"), ("windows_per_second", " windows/s", ",.0f")):
        if isinstance(progress.get(name), int | float):
            words.append(f"{'loss ' if name == 'loss' else ''}{progress[name]:{form}}{unit}")
    if isinstance(progress.get("memory_bytes"), int | float):
        words.append(memory(progress["memory_bytes"]))
    if isinstance(progress.get("dollars"), int | float):
        words.append(f"${progress['dollars']:.2f}")
    return ", ".join(words)


def _lane(run: RunRecord) -> Lane:
    info = run.info
    words = f"{run.title}: {run.state}"
    if isinstance(info.get("seconds"), int | float):
        words += f" in {seconds(info['seconds'])}"
    if info.get("started"):
        words += f", begun {str(info['started'])[:16].replace('T', ' ')}"
    if run.state != "finished" and run.reason:
        words += f" ({run.reason})"
    end = info.get("finished") or info.get("changed_at") or ""
    return Lane(
        run.row, run.name, run.state, str(info.get("started") or ""), str(end), words, quote(run_page(run.name))
    )


def _run_page(render: _Renderer, run: RunRecord, views: Sequence[BoardView], rankings: dict[str, RunRanking]) -> str:
    own = boards([run])
    view = view_of(own[0], rankings) if own else None
    maps = {"map-0": view.map.data} if view and view.map else {}
    on_board = next(
        ((board_name(v), board_page(n)) for n, v in enumerate(views) if run.name in [r.name for r in v.board.runs]),
        None,
    )
    evidence = run.evidence
    return render(
        "run.html.j2", run.title, maps,
        run=run, runs=[run], view=view, n=0, on_board=on_board,
        curves=curves_of([run]),
        reliability=_reliability(run, view),
        calibration=_list(evidence, "calibration"),
        strata=_strata(run),
        not_judged=[record for record in _list(evidence, "strata") if "scorer" not in record],
        within=_list(evidence, "within_position"),
        gains=_list(evidence, "gain_over_position"),
        ceiling=_list(evidence, "ceiling"),
        observed=observed_view(evidence, run.row),
        reasons=evidence.get("reasons") or {},
        task=json.dumps(run.info["task_metrics"], indent=1) if run.info.get("task_metrics") else "",
        folds=run.info.get("folds") or [],
        progress=progress_words(run.progress), share=_share(run.progress),
        files=sorted(path.name for path in run.path.iterdir()) if run.path else [],
        summary=verdict_summary, worse=worse_than,
    )  # fmt: skip


def _list(evidence: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = evidence.get(name)
    return [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []


def _reliability(run: RunRecord, view: BoardView | None) -> Markup | None:
    if view is None:
        return None
    styles = {standing.scorer.name: style for standing, style in zip(
        view.board.standings, styles_of(view.board).values(), strict=True)}  # fmt: skip
    curves = [
        (str(record.get("scorer")), styles.get(str(record.get("scorer")), "s-zero"), record.get("curve") or [])
        for record in _list(run.evidence, "calibration")
    ]
    return reliability_plot(curves)


def _strata(run: RunRecord) -> list[tuple[str, list[Picture]]]:
    """By stratification: the plots of its metrics."""
    records = _list(run.evidence, "strata")
    found = []
    for key, title in STRATIFICATIONS.items():
        plots = [Picture(name, plot) for name, metric in (("AUPRC", "auprc"), ("AUROC", "auroc"))
                 if (plot := strata_plot(records, key, metric)) is not None]  # fmt: skip
        if plots:
            found.append((title, plots))
    return found


def hours(value: object) -> str:
    """Hours for people."""
    if not isinstance(value, int | float):
        return "–"
    if value < 1:
        return f"{value * 60:.0f} min" if value * 60 >= 1 else f"{value * 3600:.0f} s"
    return f"{value:.1f} h" if value < 100 else f"{value:,.0f} h"
