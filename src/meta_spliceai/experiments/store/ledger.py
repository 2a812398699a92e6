"""The ledger of runs and results, one JSON line per event, appended and never rewritten; and the results as tidy
tables, from which leaderboards, pages and documents are made.

Each folder of runs has four tables in `tables/`: `metrics`, `differences` (scorer minus reference, paired) and
`strata`, one row per run, scorer and metric; and `runs`, what a leaderboard says of each finished run. They are brought
up to date when they are asked for: only runs whose files have changed are read again. In a ledger such as `results/`,
whose runs are kept without these rows, the three tidy tables are the only place where they stand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from meta_spliceai.errors import IntegrityError
from meta_spliceai.files import atomic_write

if TYPE_CHECKING:
    from meta_spliceai.experiments.store.workspace import Workspace

LEDGER = "ledger.jsonl"
LOCK_SECONDS = 60
KINDS = ("baseline", "base", "external", "learned")
"""Of scorers, in the order in which a leaderboard lists them."""
HEADLINES = (
    "auprc",
    "auroc",
    "spearman_effect",
    "pearson_effect",
    "pearson_validated_delta",
    "detection_rate_at_fpr_5",
)
"""The metrics that a ledger line carries; all others are in the run's metrics.json."""
ITSELF, NEARER_SITE = "the variant itself", "the exon's nearer site"
"""Answers to "where?" that know nothing of the variant's effect: baselines of the hit rates."""
NO_CHANGE = "no change"
"""The reference's sites, as the row's base network sees them, left as they are: baseline of the peaks."""


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True)


class _Data(_Fields):
    name: str = ""


class _Split(_Fields):
    name: str
    folds: int | str | None = None


class _Test(_Fields):
    digest: str
    rows: int = 0
    positives: int = 0
    groups: int = 0
    negatives: list[str] = []


class _Metric(_Fields):
    scorer: str
    kind: Literal["baseline", "base", "external", "learned"]
    metric: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None


class _Event(_Fields):
    """What the fields of an event hold, where they are there; all others are free."""

    run: str = ""
    at: str = ""


class _Finished(_Event):
    run: str
    row: str
    at: str
    smoke: bool = False
    as_wished: bool | None = None
    data: _Data = _Data()
    split: _Split
    test: _Test
    seconds: float | None = None
    dollars: float | None = None
    peak_memory_bytes: float | None = None
    notes: list[str] = []
    verdicts: list[str] = []
    metrics: list[_Metric] = []


@dataclass(frozen=True)
class Damage:
    """A line of the ledger that cannot be read.

    Attributes:
        line: 1-based number of the line.
        text: the first bytes of it.
        torn: true for a last line without its end, as a killed process or a full disk leaves it.
    """

    line: int
    text: str
    torn: bool

    def describe(self) -> str:
        what = "the last line was cut off while it was written" if self.torn else "this line is no event"
        return f"line {self.line}: {what} ({self.text!r})"


class Ledger:
    """An append-only file of JSON lines that several processes may write to.

    A line is written under a lock and flushed to the disk before the lock is let go. A line that was cut off is
    reported by `damage()`, left where it is, and ended by a line break before the next one is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: dict[str, Any]) -> None:
        """Add one event; `at` (UTC, ISO 8601) is filled in. Returns the entry as written.

        Raises:
            OSError: the disk is full or the folder cannot be written to.
        """
        entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **entry}
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock"), timeout=LOCK_SECONDS), self.path.open("ab+") as handle:
            if handle.tell() > 0:
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    line = b"\n" + line
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())

    def read(self) -> tuple[list[dict[str, Any]], list[Damage]]:
        """All readable entries, oldest first, and the lines that could not be read."""
        entries: list[dict[str, Any]] = []
        damage: list[Damage] = []
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        for number, raw in enumerate(lines, start=1):
            if not raw.strip():
                continue
            try:
                entry = json.loads(raw)
                (_Finished if entry["event"] == "finished" else _Event).model_validate(entry)
            # ValueError: also a number of thousands of digits.
            except (ValueError, KeyError, TypeError, RecursionError):
                damage.append(Damage(number, raw[:60].decode("utf-8", "replace"), torn=number == len(lines)))
            else:
                entries.append(entry)
        return entries, damage

    def entries(self) -> list[dict[str, Any]]:
        return self.read()[0]

    def damage(self) -> list[Damage]:
        return self.read()[1]

    def finished(self) -> list[dict[str, Any]]:
        """The latest `finished` entry of every run, oldest first."""
        return latest_finished(self.entries())


def latest_finished(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latest `finished` entry of every run, in the order of the entries."""
    latest: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry["event"] == "finished":
            latest.pop(entry["run"], None)
            latest[entry["run"]] = entry
    return list(latest.values())


def merged(ledgers: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Finished runs of several ledgers, oldest first; a run that is in several is taken from the first of them.

    Between ledgers times decide, and so they do for lines that were kept from another ledger, in whatever order.
    Otherwise it is the order in which lines were written: where the clock was set back, a later line has an earlier
    time.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for entries in reversed(list(ledgers)):
        latest = ""
        for entry in entries:
            at = str(entry["at"])
            if "kept" not in entry:
                latest = at = max(latest, at)
            found[entry["run"]] = (at, entry)
    return [entry for _, entry in sorted(found.values(), key=lambda pair: pair[0])]


# ------------------------------------------------------------------------------------------------------------- tables

FOLDER = "tables"
KEPT = "kept"
"""Signature of a run whose rows stand in the table alone."""

_NUMBERS = [(name, pa.float64()) for name in ("estimate", "low", "high")]
_COUNTS = [(name, pa.int64()) for name in ("n", "n_positive", "n_groups")]
_UNDEFINED = ("undefined_resamples", pa.int64())
_PREVALENCE = ("prevalence", pa.float64())


def _schema(names: Sequence[str], *more: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([*((name, pa.string()) for name in ("run", *names)), *more, ("reason", pa.string())])


SCHEMAS = {
    "metrics": _schema(
        ("scorer", "kind", "metric"),
        *(*_NUMBERS, *_COUNTS, _PREVALENCE, _UNDEFINED),
        *(("n_seeds", pa.int64()), ("seed_sd", pa.float64())),
    ),
    "differences": _schema(("scorer", "reference", "metric"), *_NUMBERS, _UNDEFINED),
    "strata": _schema(("stratification", "stratum", "scorer", "kind", "metric"), *_NUMBERS, *_COUNTS, _PREVALENCE),
}
SOURCES = {"metrics": "metrics.json", "differences": "metrics.json", "strata": "evidence.json"}
_RUNS = pa.schema([(name, pa.string()) for name in ("run", "signature", "entry", "folder")])
_LONG = ("metrics", "folds", "work")
"""Fields of a ledger's line that no leaderboard shows, or that stand in a table of their own."""

Facts = Mapping[Path, list[dict[str, Any]]]
"""What is known of the finished runs of each folder."""


def facts_of(workspace: Workspace) -> Facts:
    """What is known of the finished runs of a folder of runs and of its ledgers, each read once."""
    folders = (workspace.root, *workspace.ledgers)
    return {folder: _facts(folder, write=folder == workspace.root) for folder in folders}


def finished_runs(workspace: Workspace, known: Facts | None = None) -> list[dict[str, Any]]:
    """What is known of every finished run, oldest first: its line in the ledger without the metrics, and `base` (its
    base network), `coverage`, `ceiling` and `stale` from its folder as far as it is there."""
    return merged((known or facts_of(workspace)).values())


def tidy(
    workspace: Workspace,
    name: str,
    metrics: Iterable[str] = (),
    known: Facts | None = None,
) -> pa.Table:
    """A tidy table of all finished runs; a run of the folder itself goes before one of the same name in a ledger.

    Args:
        workspace: the folder of runs and its ledgers.
        name: metrics, differences or strata.
        metrics: only these; all where empty.
        known: see `facts_of`; looked up where absent.
    """
    parts: list[pa.Table] = []
    seen: set[str] = set()
    for folder, runs in (known or facts_of(workspace)).items():
        table = _tidy(folder, name, runs, folder == workspace.root)
        parts.append(table.filter(pc.invert(among(table["run"], seen))) if seen else table)
        seen |= set(pc.unique(table["run"]).to_pylist())
    whole, wanted = pa.concat_tables(parts), list(metrics)
    return whole.filter(among(whole["metric"], wanted)) if wanted else whole


def among(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    """Whether each text is one of the values.

    They are taken from the column: arrow looks for pandas, which takes half a second to load, when it is given others.
    """
    distinct = pc.unique(column)
    found = [distinct.slice(place, 1) for place, value in enumerate(distinct.to_pylist()) if value in values]
    return pc.is_in(column, pa.concat_arrays([distinct.slice(0, 0), *found]))


def kept_rows(run: Path, name: str) -> list[dict[str, Any]]:
    """The rows of one run in its folder's table.

    Raises:
        IntegrityError: the table is missing or does not hold the run.
    """
    path = run.parent / FOLDER / f"{name}.parquet"
    table, signatures = _read(path, SCHEMAS[name])
    if run.name not in signatures:
        raise IntegrityError(f"{path} has no rows of run {run.name}, whose {SOURCES[name]} was kept without them")
    return table.filter(pc.equal(table["run"], run.name)).drop_columns("run").to_pylist()


def add_kept_rows(folder: Path, name: str, run: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the rows of a run that is kept without them into its folder's table, in place of earlier ones of the run."""
    path = folder / FOLDER / f"{name}.parquet"
    table, signatures = _read(path, SCHEMAS[name])
    _write(path, _replaced(table, {run: rows}, SCHEMAS[name]), {**signatures, run: KEPT})


def ledger_damage(folder: Path) -> list[Damage]:
    """Lines of a folder's ledger that are no event; it is read where it has changed since its table was made."""
    made_from = _read(folder / FOLDER / "runs.parquet", _RUNS, ())[1]
    if made_from.get("ledger") == _stamp(folder / LEDGER):
        return [Damage(*one) for one in made_from["damage"]]
    return Ledger(folder / LEDGER).damage()


def _tidy(folder: Path, name: str, runs: Sequence[Mapping[str, Any]], write: bool) -> pa.Table:
    path = folder / FOLDER / f"{name}.parquet"
    table, known = _read(path, SCHEMAS[name])
    stamps = ((run, _stamp(f"{folder}/{run['run']}/{SOURCES[name]}")) for run in runs)
    wanted = {run["run"]: f"{run['at']} {stamp}" for run, stamp in stamps}
    wanted |= {run: KEPT for run in wanted if known.get(run) == KEPT}
    if wanted == known:
        return table
    changed = [run for run, signature in wanted.items() if known.get(run) != signature]
    fresh = {run: _rows_of(folder / run / SOURCES[name], name) for run in changed}
    if name == "metrics" and None in fresh.values():
        # Of a folder that is gone the ledger still knows the headline numbers.
        entries = {entry["run"]: entry["metrics"] for entry in Ledger(folder / LEDGER).finished() if "metrics" in entry}
        fresh |= {run: _well_formed(entries.get(run), name) for run, rows in fresh.items() if rows is None}
    gone = [run for run in known if run not in wanted]
    table = _replaced(table, {run: fresh.get(run) or [] for run in (*gone, *fresh)}, SCHEMAS[name])
    if write:
        _write(path, table, wanted)
    return table


def _rows_of(file: Path, name: str) -> list[dict[str, Any]] | None:
    """The rows that a run's own file holds; None where it holds none, or cannot be read (the run's page says so)."""
    return _well_formed(_object(file).get(name), name)


def _well_formed(rows: object, name: str) -> list[dict[str, Any]] | None:
    """Rows of a table as a file of a run or a ledger has them; None where they are none."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    try:
        pa.Table.from_pylist(rows, SCHEMAS[name])
    except (pa.ArrowException, OverflowError):
        return None
    return rows if all(row.get("kind", KINDS[0]) in KINDS for row in rows) else None


def _facts(folder: Path, write: bool) -> list[dict[str, Any]]:
    path = folder / FOLDER / "runs.parquet"
    table, made_from = _read(path, _RUNS)
    known = {row["run"]: row for row in table.to_pylist()}
    entries = {run: row["entry"] for run, row in known.items()}
    stamp = _stamp(folder / LEDGER)
    changed = made_from.get("ledger") != stamp
    if changed:
        read, damage = Ledger(folder / LEDGER).read()
        made_from = {"ledger": stamp, "damage": [[one.line, one.text, one.torn] for one in damage]}
        entries = {}
        for entry in latest_finished(read):
            entries[entry["run"]] = json.dumps({key: value for key, value in entry.items() if key not in _LONG})
    rows = []
    for run, line in entries.items():
        signature = " ".join(_stamp(f"{folder}/{run}/{file}") for file in ("run.json", "data.json"))
        row = known.get(run, {})
        if row.get("signature") != signature:
            row = {"run": run, "signature": signature, "folder": json.dumps(_of_folder(folder / run))}
            changed = True
        rows.append({**row, "entry": line})
    if write and rows and changed:
        _write(path, pa.Table.from_pylist(rows, _RUNS), made_from)
    return [json.loads(row["entry"]) | json.loads(row["folder"]) for row in rows]


def _of_folder(run: Path) -> dict[str, Any]:
    """What a leaderboard says of a run beside its line in the ledger; files that cannot be read say nothing here."""
    data, record, evidence = (_object(run / name) for name in ("data.json", "run.json", "evidence.json"))
    base = data.get("base")
    return {
        "base": str(base.get("name", "")) if isinstance(base, dict) else "",
        "coverage": _valid(_COVERAGE, data.get("coverage"), {}),
        "ceiling": _valid(_CEILING, evidence.get("ceiling"), []),
        "stale": str(record.get("stale", "")),
    }


class _Coverage(BaseModel):
    read: int
    left_out: dict[str, int]


class _Agreement(BaseModel):
    metric: str
    estimate: float | None
    low: float | None
    high: float | None


_COVERAGE: TypeAdapter[Any] = TypeAdapter(_Coverage)
_CEILING: TypeAdapter[Any] = TypeAdapter(list[_Agreement])


def _valid(kind: TypeAdapter[Any], found: object, otherwise: Any) -> Any:
    """What a file says, as plain values, where it is of the right kind."""
    try:
        return kind.dump_python(kind.validate_python(found))
    except ValidationError:
        return otherwise


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _stamp(file: Path | str) -> str:
    try:
        status = os.stat(file)
    except OSError:
        return "absent"
    return f"{status.st_mtime_ns}-{status.st_size}"


def _replaced(table: pa.Table, rows: Mapping[str, Sequence[Mapping[str, Any]]], schema: pa.Schema) -> pa.Table:
    rest = table.filter(pc.invert(pc.is_in(table["run"], pa.array(list(rows), pa.string()))))
    new = [{"run": run, **row} for run, mine in rows.items() for row in mine]
    return pa.concat_tables([rest, pa.Table.from_pylist(new, schema)])


def _read(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """A table (or some columns) and what it was made from; an empty one where there is none, or of another layout."""
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
            if file.schema_arrow.names == schema.names and b"made_from" in metadata:
                table = file.read(columns=wanted.names).select(wanted.names).replace_schema_metadata(None)
                return table.cast(wanted), dict(json.loads(metadata[b"made_from"]))
    except (OSError, ValueError, TypeError, RecursionError, pa.ArrowException):
        pass
    return wanted.empty_table(), {}


def _write(path: Path, table: pa.Table, made_from: Mapping[str, Any]) -> None:
    if not os.access(path.parent if path.parent.is_dir() else path.parent.parent, os.W_OK):
        return
    marked = table.replace_schema_metadata({b"made_from": json.dumps(dict(made_from)).encode()})
    with atomic_write(path, "wb") as handle:
        pq.write_table(marked, handle, compression="zstd", compression_level=9)
