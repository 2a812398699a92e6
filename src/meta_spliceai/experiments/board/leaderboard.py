"""Leaderboards: finished runs evaluated on the same test, baselines first, learned models below."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from meta_spliceai.experiments.board.shown import DASH, Table, dollars, duration, estimate, memory
from meta_spliceai.experiments.store.ledger import HEADLINES, KINDS, facts_of, finished_runs, tidy
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace

SHOWN = {
    "auprc": "AUPRC",
    "spearman_effect": "Spearman r, effect",
    "auroc": "AUROC",
    "pearson_effect": "Pearson r, effect",
}
"""The metrics for the terminal with their headings, the most telling first: a narrow one shows fewer."""

NEGATIVES = ("Normal",)
"""The negative side of runs that do not name theirs (`variants.table.NORMAL`, whose pandas takes half a second)."""

MOST_REASONS = 4
"""Reasons for rows left out that are told one by one."""


@dataclass(frozen=True)
class Value:
    """One metric of one scorer; None where it is undefined."""

    estimate: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return estimate(vars(self))


UNKNOWN = Value(None, None, None)


@dataclass(frozen=True)
class Line:
    """One scorer of a board.

    Attributes:
        kind: "baseline", "base", "external" (a tool that is not run here) or "learned".
        run: the run it comes from; baselines are computed anew by each run and stand here once.
        row: the row's id, for a learned model.
        values: metric name to value.
        rows: test rows of the two sides that it was evaluated on; None where a run did not record it.
        seconds, peak_memory_bytes, dollars: of the run of a learned model, as far as they are known.
        verdicts: how it compares with each baseline, in words.
    """

    scorer: str
    kind: str
    run: str
    row: str
    values: dict[str, Value]
    rows: int | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    dollars: float | None = None
    verdicts: tuple[str, ...] = ()


@dataclass
class Board:
    """All finished runs that were evaluated on the same rows, held out in the same way.

    Attributes:
        data: name of the data set.
        split: how the test was held out, as `gene` or `chromosome, 5 folds`.
        test_digest: identity of the test: which variants, with which classes, effects and negatives.
        rows, positives, groups: size of the test.
        negatives: classes of the negative side.
        ceiling: for a metric, how well one replicate of the measurement predicts the other; empty without replicates.
        lines: baselines first, then base networks, then learned models by AUPRC.
        notes: what a reader must know (a subset of the data, a branded result).
        base: the base network that `base …` stands for; empty where its run's folder is not at hand. A run on the board
            with another one has its lines by that one's name.
        coverage: the account of the data set's rows (read, left_out), from the first run; empty without its folder.
        scores: of each external tool, its file and how many of the tested variants have a score there; where there are
            any, the board rests on the variants that all of them score.
        strata: metrics of every scorer within strata, beside external scores.
    """

    data: str
    split: str
    test_digest: str
    rows: int
    positives: int
    groups: int
    negatives: tuple[str, ...] = NEGATIVES
    ceiling: dict[str, Value] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    base: str = ""
    coverage: dict[str, Any] = field(default_factory=dict)
    scores: list[dict[str, Any]] = field(default_factory=list)
    strata: list[dict[str, Any]] = field(default_factory=list)

    @property
    def prevalence(self) -> float | None:
        """Share of Splice-altering variants among the rows of binary metrics."""
        for line in self.lines:
            value = line.values.get("prevalence")
            if value is not None and value.estimate is not None:
                return value.estimate
        return None

    def to_json(self) -> dict[str, Any]:
        """The board as plain values; metrics of a line stand beside its other fields."""
        plain = asdict(self)
        for line in plain["lines"]:
            line |= line.pop("values")
        return {**plain, "prevalence": self.prevalence}


def boards(workspace: Workspace, metrics: Sequence[str] = HEADLINES, names: Sequence[str] | None = None) -> list[Board]:
    """One board for every test that a finished run of the ledger was evaluated on.

    Args:
        metrics: what its lines hold.
        names: of runs, where only these are wanted, smoke runs included; those stand on no other board.
    """
    known = facts_of(workspace)
    runs = finished_runs(workspace, known)
    runs = [run for run in runs if (not run.get("smoke") if names is None else run["run"] in names)]
    records: dict[str, list[dict[str, Any]]] = {}
    for record in tidy(workspace, "metrics", {*metrics, "auprc"}, known).to_pylist():
        records.setdefault(record["run"], []).append(record)
    found: dict[tuple[str, str], Board] = {}
    rivals: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for run in runs:
        (digest, split), test = test_of(run), run["test"]
        sizes = (test.get("rows", 0), test.get("positives", 0), test.get("groups", 0))
        negatives = tuple(test.get("negatives", NEGATIVES))
        empty = Board(run.get("data", {}).get("name", ""), split, digest, *sizes, negatives)
        board, shown = found.setdefault((digest, split), empty), rivals.setdefault((digest, split), set())
        board.base = board.base or run["base"]
        board.coverage = board.coverage or run["coverage"]
        board.ceiling = board.ceiling or _ceiling(run["ceiling"])
        stale = [f"{run['run']} is stale: {run['stale']}"] if run["stale"] else []
        board.notes += [note for note in (*run.get("notes", []), *stale) if note not in board.notes]
        lines = lines_of(run, records.get(run["run"], []))
        if run["base"] not in ("", board.base):
            lines = [_with_base_named(line, run["base"]) for line in lines]
        # Baselines and base networks are computed anew by each run, and stand here once.
        board.lines += [line for line in lines if (line.kind, line.scorer) not in shown]
        shown |= {(line.kind, line.scorer) for line in lines if line.kind != "learned"}
    for board in found.values():
        board.lines = by_kind_and_auprc(board.lines)
    return sorted(found.values(), key=lambda board: (board.data, board.split, board.test_digest))


def _with_base_named(line: Line, base: str) -> Line:
    """A line of a run whose base network is not the board's: what it calls `base` has its own name."""
    scorer = with_base_named(line.scorer, base) if line.kind == "base" else line.scorer
    return replace(line, scorer=scorer, verdicts=tuple(with_base_named(verdict, base) for verdict in line.verdicts))


def with_base_named(words: str, base: str) -> str:
    """A scorer's name, or a sentence, with the base network's own name in the place of `base`."""
    return re.sub(r"\bbase (max_window|own_site)\b", rf"{base} \1", words)


def by_kind_and_auprc(lines: Sequence[Line]) -> list[Line]:
    """Baselines first, then base networks, then learned models; the best of each kind first."""
    return sorted(lines, key=lambda line: (KINDS.index(line.kind), -_auprc(line)))


def folder_of(workspace: Workspace, name: str) -> RunDirectory:
    """The run's folder, here or beside a further ledger; a folder that is gone has no evidence and no mark."""
    folders = [folder / name for folder in (workspace.root, *workspace.ledgers)]
    return RunDirectory(next((folder for folder in folders if folder.is_dir()), folders[0]))


def test_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """What a finished run was evaluated on, from its entry in the ledger: the test's digest, and how it was held out.

    Runs with the same one stand on one board.
    """
    name, folds = entry["split"]["name"], entry["split"].get("folds")
    if folds is not None:
        name += ", one chromosome a fold" if folds == "chromosome" else f", {folds} folds"
    return entry["test"]["digest"], name


def _ceiling(records: Iterable[Mapping[str, Any]]) -> dict[str, Value]:
    """The labels' own agreement as the run's evidence has it; empty for runs without."""
    named = {"pearson": "pearson_effect", "spearman": "spearman_effect"}
    return {
        named.get(record["metric"], record["metric"]): Value(record["estimate"], record["low"], record["high"])
        for record in records
    }


def lines_of(run: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> list[Line]:
    """The lines of a finished run.

    Args:
        run: what is known of it.
        records: its metrics, one a scorer and metric.
    """
    values: dict[tuple[str, str], dict[str, Value]] = {}
    rows: dict[tuple[str, str], int | None] = {}
    for record in records:
        scorer = record["scorer"], record["kind"]
        of_scorer = values.setdefault(scorer, {})
        of_scorer[record["metric"]] = Value(record["estimate"], record["low"], record["high"])
        if record["metric"] == "auprc":
            of_scorer["prevalence"] = Value(record["prevalence"], None, None)
            rows[scorer] = record["n"]
    cost = (run.get("seconds"), run.get("peak_memory_bytes"), run.get("dollars"), tuple(run.get("verdicts", ())))
    lines = []
    for (name, kind), of_scorer in values.items():
        row, own = (run["row"], cost) if kind == "learned" else ("", ())
        lines.append(Line(name, kind, run["run"], row, of_scorer, rows.get((name, kind)), *own))
    return lines


def board_table(board: Board) -> Table:
    """A board as texts: baselines first, the labels' ceiling last."""
    columns = ("scorer", "kind", *SHOWN.values(), "rows", "time", "peak memory", "cost")
    rows, kinds = [], []
    for line in board.lines:
        numbers = [str(line.values.get(metric, UNKNOWN)) for metric in SHOWN]
        evaluated = DASH if line.rows is None else f"{line.rows:,}"
        cost = (duration(line.seconds), memory(line.peak_memory_bytes), dollars(line.dollars))
        rows.append((line.scorer, line.kind, *numbers, evaluated, *cost))
        kinds.append(line.kind)
    if board.ceiling:
        found = [str(board.ceiling.get(metric, UNKNOWN)) for metric in SHOWN]
        rows.append(("one replicate predicting the other", "labels", *found, *[DASH] * 4))
        kinds.append("labels")
    verdicts = [f"{line.scorer} {verdict}" for line in board.lines for verdict in line.verdicts]
    account = [f"{board.data}: {coverage_in_words(board.coverage)}"] if board.coverage else []
    notes = [evaluated_on(board), *account, *filter(None, board.notes)]
    return Table(columns, rows, 2, kinds, f"{board.data}, {board.split}", (verdicts, notes))


def evaluated_on(board: Board) -> str:
    prevalence = "" if board.prevalence is None else f"; prevalence {board.prevalence:.3f}"
    return (
        f"{board.rows:,} test variants in {board.groups:,} groups, {board.positives:,} Splice-altering against "
        f"{' and '.join(board.negatives)}; held out: {board.split}{prevalence}"
        + (f"; base is {board.base}" if board.base else "")
    )


def coverage_in_words(account: Mapping[str, Any]) -> str:
    """An account of rows, largest reason first: "1,139 rows read, 991 used; left out: 148 no reference sequence"."""
    left = sorted(account["left_out"].items(), key=lambda pair: -pair[1])
    told = [f"{count:,} {reason}" for reason, count in left[:MOST_REASONS]]
    if len(left) > MOST_REASONS:
        told.append(f"{sum(count for _, count in left[MOST_REASONS:]):,} for {len(left) - MOST_REASONS} more reasons")
    used = account["read"] - sum(account["left_out"].values())
    return f"{account['read']:,} rows read, {used:,} used" + (f"; left out: {', '.join(told)}" if told else "")


def _auprc(line: Line) -> float:
    found = line.values.get("auprc", UNKNOWN).estimate
    return -1.0 if found is None else found
