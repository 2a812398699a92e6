"""The site: an overview, a page per leaderboard, a page per run, and any two runs compared; it works offline.

Pages are written one by one and only where what they are made of has changed, so that a folder of thousands of runs
needs the memory of one. Links are relative; scripts, style and Plotly stand once in `assets/`, and what two runs are
compared by in a file per run in `data/`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
import pandas as pd
import plotly
import yaml
from markupsafe import Markup
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from meta_spliceai import __version__
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.board import shown
from meta_spliceai.experiments.board.leaderboard import Board, boards, lines_of, test_of
from meta_spliceai.experiments.board.shown import MEANINGS, evidence_tables, records
from meta_spliceai.experiments.report import plots, views
from meta_spliceai.experiments.report.plots import Plot
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.address import source_state
from meta_spliceai.experiments.store.ledger import finished_runs, tidy
from meta_spliceai.experiments.store.run_record import RunRecord, facts_of, read_runs
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.document import STATES, RowState, state_of_rows
from meta_spliceai.files import atomic_write

if TYPE_CHECKING:
    from meta_spliceai.experiments.plan.choose import Plan  # brings PyTorch

INDEX, COMPARE, STATE = "index.html", "compare.html", "state.json"
MADE_FROM = ".made_from.json"  # what each page was made from, beside the pages
ASSETS = ("page.css", "page.js", "compare.js", "live.js")


def build_report(
    workspace: Workspace,
    out: Path,
    *,
    plan: Plan | None = None,
    rows: Sequence[RowState] | None = None,
    live: bool = False,
) -> Path:
    """Write the site into a folder; pages whose runs have not changed stay as they are.

    Args:
        workspace: the folder of runs and its ledgers; an empty or absent one gives a page that says so.
        out: the folder, made if need be; pages of runs that are gone are removed from it.
        plan: what the rows that are left cost (see `what_is_left`).
        rows: the wishlist's rows with their states; None for the catalogue's.
        live: pages look for a newer version of themselves, as `serve` wants it.

    Returns:
        The file to open.

    Raises:
        InputError: `out` is a file, or its name is that of one page.
    """
    if out.suffix.lower() in (".html", ".htm") or (out.exists() and not out.is_dir()):
        raise InputError(f"-o {out}: the site is a folder of pages; name a folder, whose {INDEX} is then opened")
    rows = state_of_rows(load_rows(), workspace) if rows is None else rows
    site = _Site(out, live)
    site.made("assets/plotly.min.js", plotly.__version__, lambda page: site.write(page, get_plotlyjs()))
    # A page has the same name as long as its test is the same.
    found = [
        (board, f"board-{_digest([board.test_digest, board.split])[:10]}.html")
        for board in boards(workspace, views.TABLE_METRICS)
    ]
    on_board = {line.run: (board, page) for board, page in found for line in board.lines if line.kind == "learned"}
    known = {run["run"]: run for run in finished_runs(workspace)}
    summaries = [_run_page(site, run, on_board.get(run.name), known.get(run.name, {})) for run in read_runs(workspace)]
    cards = [_board_page(site, workspace, board, page) for board, page in found]
    site.write(INDEX, _render_index(site, workspace, summaries, cards, rows, plan))
    listed = [(run["name"], run["title"], run["state"], run["smoke"], run["test"]) for run in summaries]
    site.write("data/runs.js", f"runs({as_json(listed)});\n")
    site.write(COMPARE, site.render("compare", "Compare two runs", enough=len(summaries) > 1))
    site.finish({f"data/{run['name']}.js" for run in summaries})
    return out / INDEX


def board_name(board: Board) -> str:
    """What a leaderboard is called: data set, split and size of the test."""
    return ", ".join(filter(None, (board.data, board.split, f"{board.rows:,} test variants" if board.rows else "")))


def as_json(value: object) -> str:
    """JSON that cannot end its script element or open a comment, whatever names it holds."""
    return _harmless(json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")))


def _harmless(text: str) -> str:
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value, default=str).encode(), digest_size=16).hexdigest()


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    files_of = sorted(path for path in folder.iterdir() if path.name != "lock") if folder.is_dir() else []
    return [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files_of]


class _Site:
    """The folder that is written: which pages are current, and what every page has in common."""

    def __init__(self, out: Path, live: bool) -> None:
        self.out, self.live = out, live
        package = files("meta_spliceai.experiments.report")
        self.environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(lambda name: package.joinpath(name).read_text(encoding="utf-8")),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters.update(
            number=shown.number, interval=shown.interval, estimate=shown.estimate, duration=shown.duration,
            memory=shown.memory, dollars=shown.dollars, yaml=_as_yaml, run_page=lambda name: quote(f"run-{name}.html"),
        )  # fmt: skip
        self.environment.globals.update(figure=_figure, called=plots.CALLED)
        self.before: dict[str, Any] = {}
        self.now: dict[str, Any] = {}
        templates = [stamp for stamp in _stamps(Path(str(package))) if "." in stamp[0]]
        self.code = [__version__, plotly.__version__, live, source_state(), templates]
        with suppress(OSError, ValueError):
            self.before = json.loads((out / MADE_FROM).read_text(encoding="utf-8"))
        for name in ASSETS:
            self.write(f"assets/{name}", package.joinpath(name).read_text(encoding="utf-8"))

    def render(self, template: str, title: str, **values: Any) -> str:
        return self.environment.get_template(f"{template}.html.j2").render(title=title, live=self.live, **values)

    def made(self, page: str, made_from: object, make: Callable[[str], Any]) -> Any:
        """What `make` returned when it wrote the page: now, or earlier where what the page is made of is the same."""
        digest = _digest([self.code, made_from])
        known = self.before.get(page, {})
        if known.get("from") != digest or not (self.out / page).is_file():
            known = {"from": digest, "keep": make(page)}
        self.now[page] = known
        return known["keep"]

    def write(self, name: str, text: str) -> None:
        path = self.out / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with atomic_write(path) as handle:
                handle.write(text)

    def finish(self, data: set[str]) -> None:
        """Remove pages and data of runs and boards that are gone, and remember what the others were made from."""
        for old in (*self.out.glob("run-*.html"), *self.out.glob("board-*.html"), *self.out.glob("data/*.js")):
            if old.relative_to(self.out).as_posix() not in {*self.now, *data, "data/runs.js"}:
                old.unlink()
        with atomic_write(self.out / MADE_FROM) as handle:
            json.dump(self.now, handle)


def _figure(plot: Plot) -> Markup:
    drawn = _harmless(to_json_plotly(plot.figure, engine="json"))
    box = Markup('<div class="plot" role="img" aria-label="{}" style="height:{}px"></div>')
    # The JSON cannot end its element.
    data = Markup(f'<script type="application/json">{drawn}</script>')  # noqa: S704
    return box.format(plot.name, plot.height) + data


def _as_yaml(value: object) -> str:
    """Plain values as a block of YAML, the form in which a spec is written."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    plain = json.loads(json.dumps(value, default=str))
    return yaml.dump(plain, Dumper=dumper, sort_keys=False, allow_unicode=True).rstrip()


# ------------------------------------------------------------------------------------------------------------ a run


def _run_page(site: _Site, run: RunRecord, on_board: tuple[Board, str] | None, known: dict[str, Any]) -> dict[str, Any]:
    """Write a run's page and its data for comparisons; what the overview says of it."""
    test = "\t".join(test_of(known)) if known else ""
    tables = run.path.parent / "tables"
    # Beside the user's own runs the tables are only made of them; elsewhere they are all there is.
    rows = [] if (tables / "runs.parquet").exists() else _stamps(tables)
    made_from = [_stamps(run.path), rows, str(run.directory.state()), on_board and board_name(on_board[0]), test]

    def make(page: str) -> dict[str, Any]:
        predictions = run.predictions()
        ranking = views.ranking_of(run, predictions)
        summary = _summary(run, test)
        site.write(page, _render_run(site, run, predictions, ranking, on_board, known.get("verdicts")))
        site.write(f"data/{run.name}.js", f"compared({as_json(_compared(run, ranking, test))});\n")
        return summary

    summary: dict[str, Any] = site.made(f"run-{run.name}.html", made_from, make)
    return summary


def _summary(run: RunRecord, test: str) -> dict[str, Any]:
    info = run.info
    listed = info.get("licences")
    used = [entry for entry in (listed if isinstance(listed, list) else ()) if isinstance(entry, dict)]
    if run.data.get("licence"):
        used.append({**run.data, "name": run.data.get("title") or run.data.get("data_set") or "data set"})
    licences = [{key: str(one.get(key) or "") for key in ("name", "licence", "citation")} for one in used]
    smoke = bool(run.spec.get("smoke") or info.get("smoke"))
    given = ("started", "seconds", "peak_memory_bytes", "peak_gpu_memory_bytes", "device", "stale")
    return {
        **{name: info.get(name) for name in given},
        "ended": info.get("finished") or info.get("changed_at"),
        "name": run.name, "row": run.row, "title": run.title, "state": run.state, "reason": run.reason, "smoke": smoke,
        "test": test, "licences": licences, **views.progress_of(run.progress),
    }  # fmt: skip


def _render_run(
    site: _Site,
    run: RunRecord,
    predictions: pd.DataFrame | None,
    ranking: views.Ranking,
    on_board: tuple[Board, str] | None,
    verdicts: Sequence[str] | None,
) -> str:
    evidence = run.evidence
    board, found = _own_board(run, verdicts)
    learned = {line.scorer: predictions for line in board.lines if line.kind == "learned" and predictions is not None}
    stated = plots.reliability(records(evidence, "calibration"))
    plotted = {
        "Predicted against measured": views.scatter_plots(run, predictions, board.lines),
        "The saturation map": views.saturation_plots(run, predictions, learned),
        "Precision, recall and ROC": views.ranking_plots(ranking.curves, board.prevalence),
        "Training": views.drawn_of(plots.training(run.curves)),
        "Does it mean the probabilities it states?": views.drawn_of(stated),
    }
    return site.render(
        "run", run.title,
        run=run, on_board=on_board and (board_name(on_board[0]), on_board[1]), standings=found, board=board,
        forest=views.forest_of(found, board.prevalence), labels=views.metric_labels(), sections=plotted,
        no_curves=ranking.reason if found else "", notes=_notes(run), account=views.account_of(run.data),
        strata=views.strata_plots(evidence),
        too_small=[record for record in records(evidence, "strata") if not record.get("scorer")],
        observed=views.observed_plots(evidence, run.row), tables=evidence_tables(evidence),
        missing=views.without_number(evidence), meanings=MEANINGS,
        ceiling=records(evidence, "ceiling"), reasons=evidence.get("reasons") or {}, folds=run.info.get("folds") or [],
        task=json.dumps(run.info["task_metrics"], indent=1) if run.info.get("task_metrics") else "",
        **views.progress_of(run.progress),
        files=sorted(path.name for path in run.path.iterdir()),
    )  # fmt: skip


def _own_board(run: RunRecord, verdicts: Sequence[str] | None) -> tuple[Board, list[views.Standing]]:
    """The run alone as a leaderboard; without lines where it was not evaluated."""
    board = Board(str(run.data.get("data_set") or ""), "", "", 0, 0, 0)
    if run.evaluation is None:
        return board, []
    evaluated = run.evaluation.to_json()
    cost = {name: run.info.get(name) for name in ("seconds", "peak_memory_bytes", "dollars")}
    if verdicts is None:
        verdicts = [verdict.text for verdict in run.evaluation.verdicts()] if evaluated["differences"] else []
    board.lines = lines_of({"run": run.name, "row": run.row, "verdicts": verdicts, **cost}, evaluated["metrics"])
    board.lines.sort(key=lambda line: ("baseline", "base", "learned").index(line.kind))
    differences = [{"run": run.name, **one} for one in evaluated["differences"] if one["metric"] == views.HEADLINE]
    return board, views.standings(board, differences, {run.name: run})


def _notes(run: RunRecord) -> list[str]:
    listed = run.info.get("notes")
    lines = [run.info.get("subset_note"), *(listed if isinstance(listed, list) else ())]
    words = [str(line).strip().rstrip(".") for line in lines if line]
    return list(dict.fromkeys(f"{line[:1].upper()}{line[1:]}." for line in words))


def _compared(run: RunRecord, ranking: views.Ranking, test: str) -> dict[str, Any]:
    scorers = run.evaluation.scorers if run.evaluation else []
    learned = next((scorer.name for scorer in scorers if scorer.kind == "learned"), "")
    rows = run.evaluation.to_json()["metrics"] if run.evaluation else []
    labels = views.metric_labels()
    drawn = {
        name: {part: curves[part] for part in ("kind", "precision", "sensitivity")}
        for name, curves in ranking.curves.items()
    }
    losses = {}
    if run.curves is not None and "epoch" in run.curves:
        # Folds are averaged: two runs are compared by one line each.
        table = run.curves.apply(pd.to_numeric, errors="coerce").groupby("epoch").mean(numeric_only=True)
        losses = {name: views.rounded(table[name]) for name in ("train_loss", "val_loss") if name in table}
        losses["epoch"] = views.rounded(table.index)
    facts = facts_of(run.spec, run.data, run.info)
    facts |= {f"machine.{name}": run.environment[name] for name in ("python", "cpu", "gpu") if name in run.environment}
    return {
        "name": run.name, "test": test, "plan": ranking.plan, "no_curves": ranking.reason, "curves": drawn,
        "learned": learned, "losses": losses,
        "areas": ranking.curves[learned]["areas"] if learned in ranking.curves else {},
        "facts": {name: "" if value is None else str(value) for name, value in facts.items()},
        "metrics": {
            labels[row["metric"]][0]: [row["metric"], row["estimate"], row["low"], row["high"]]
            for row in rows
            if row["scorer"] == learned and row["metric"] in labels
        },
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------- boards and overview


def _board_page(site: _Site, workspace: Workspace, board: Board, page: str) -> dict[str, Any]:
    """Write a leaderboard's page; what the overview says of it."""
    folders = {run.name: run for run in workspace.runs()}
    runs = {line.run: RunRecord(folders[line.run]) for line in board.lines if line.run in folders}

    def make(page: str) -> dict[str, Any]:
        differences = tidy(workspace, "differences", (views.HEADLINE,)).to_pylist()
        found = views.standings(board, differences, runs)
        learned = [one for one in found if one.line.kind == "learned"]
        forest = views.forest_of(found, board.prevalence, 1)
        site.write(page, _render_board(site, board, found, runs))
        return {
            "page": page,
            "name": board_name(board),
            "learned": len(learned),
            "best": [learned[0].name, learned[0].summary] if learned else None,
            "figure": str(_figure(forest)) if forest else "",
        }

    card: dict[str, Any] = site.made(page, [board.to_json(), [_stamps(run.path) for run in runs.values()]], make)
    return card


def _render_board(site: _Site, board: Board, found: Sequence[views.Standing], runs: Mapping[str, RunRecord]) -> str:
    curves, learned = {}, {}
    for one in views.drawn_lines(found):
        known = _curves_of(site.out, one.line.run).get(one.line.scorer)
        if known:
            curves[one.name] = known
        if one.line.kind == "learned" and one.line.run in runs:
            table = runs[one.line.run].predictions()
            if table is not None and set(table) >= views.MAP_NEEDS:
                learned[one.line.scorer] = table
    first = next(iter(runs.values()), None)
    return site.render(
        "board", board_name(board),
        board=board, standings=found, labels=views.metric_labels(), forest=views.forest_of(found, board.prevalence),
        curves=views.ranking_plots(curves, board.prevalence), first=first, data=first.data if first else {},
        maps=views.saturation_plots(first, first.predictions(), learned) if first and learned else [],
        account=views.account_of(first.data) if first else [], most=views.DRAWN,
    )  # fmt: skip


def _curves_of(out: Path, run: str) -> dict[str, Any]:
    """The curves that the run's page was drawn with."""
    path = out / "data" / f"{run}.js"
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8").removeprefix("compared(").removesuffix(");\n"))
    return found["curves"]


def _render_index(
    site: _Site,
    workspace: Workspace,
    summaries: Sequence[dict[str, Any]],
    cards: Sequence[dict[str, Any]],
    rows: Sequence[RowState],
    plan: Plan | None,
) -> str:
    licences = {str(entry["name"]): entry for run in summaries for entry in run["licences"]}
    return site.render(
        "index", "Overview",
        runs=sorted(summaries, key=lambda run: str(run["started"] or ""), reverse=True),
        run_counts=Counter(run["state"] for run in summaries).most_common(),
        newest=max((str(run["ended"] or "") for run in summaries), default=""),
        rows=rows, row_counts={state: sum(row.state == state for row in rows) for state in STATES}, plan=plan,
        cards=cards, planned={row.spec.id: row for row in plan.rows} if plan else {}, licences=list(licences.values()),
        damage=[damage.describe() for damage in workspace.ledger.damage()],
    )  # fmt: skip


def running(workspace: Workspace) -> Iterator[dict[str, Any]]:
    for run in workspace.runs():
        if run.state() == "running":
            record = RunRecord(run)
            said = views.progress_of(record.progress)
            yield {"name": run.name, "title": record.title, "share": said["share"], "words": said["progress"]}
