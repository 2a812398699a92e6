"""The results as tidy tables: one row a run, scorer and metric; what leaderboards, pages and documents are drawn from.

Each folder of runs has four tables in `tables/`. Three are tidy: `metrics`, `differences` (scorer minus reference,
paired) and `strata`. The fourth, `runs`, holds what a leaderboard says of each finished run. They are brought up to
date when they are asked for: only runs whose files have changed are read again. In a ledger such as `results/`, whose
runs are kept without these rows, the three tidy tables are the only place where they stand.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, TypeAdapter, ValidationError

from meta_spliceai.errors import IntegrityError
from meta_spliceai.experiments.store.ledger import LEDGER, Damage, Ledger, merged
from meta_spliceai.files import atomic_write

if TYPE_CHECKING:
    from meta_spliceai.experiments.store.workspace import Workspace

FOLDER = "tables"
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
KEPT = "kept"
"""Signature of a run whose rows stand in the table alone."""

_NUMBERS = [(name, pa.float64()) for name in ("estimate", "low", "high")]
_COUNTS = [(name, pa.int64()) for name in ("n", "n_positive", "n_groups")]


def _schema(names: Sequence[str], *more: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([*((name, pa.string()) for name in ("run", *names)), *more, ("reason", pa.string())])


SCHEMAS = {
    "metrics": _schema(
        ("scorer", "kind", "metric"),
        *_NUMBERS,
        *_COUNTS,
        ("prevalence", pa.float64()),
        ("undefined_resamples", pa.int64()),
        ("n_seeds", pa.int64()),
        ("seed_sd", pa.float64()),
    ),
    "differences": _schema(("scorer", "reference", "metric"), *_NUMBERS, ("undefined_resamples", pa.int64())),
    "strata": _schema(
        ("stratification", "stratum", "scorer", "kind", "metric"), *_NUMBERS, *_COUNTS, ("prevalence", pa.float64())
    ),
}
SOURCES = {"metrics": "metrics.json", "differences": "metrics.json", "strata": "evidence.json"}
_RUNS = pa.schema([("run", pa.string()), ("signature", pa.string()), ("facts", pa.string())])
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
    return merged(list((known or facts_of(workspace)).values()))


def tidy(
    workspace: Workspace,
    name: str,
    metrics: Iterable[str] = (),
    known: Facts | None = None,
    columns: Sequence[str] = (),
) -> pa.Table:
    """A tidy table of all finished runs; a run of the folder itself goes before one of the same name in a ledger.

    Args:
        workspace: the folder of runs and its ledgers.
        name: metrics, differences or strata.
        metrics: only these; all where empty.
        known: see `facts_of`; looked up where absent.
        columns: only these, `run` and `metric` among them; all where empty.
    """
    parts: list[pa.Table] = []
    seen: set[str] = set()
    for folder, runs in (known or facts_of(workspace)).items():
        table = _tidy(folder, name, runs, folder == workspace.root, columns or SCHEMAS[name].names)
        if seen:
            table = table.filter(pc.invert(among(table["run"], seen)))
        seen |= set(pc.unique(table["run"]).to_pylist())
        parts.append(table)
    whole = pa.concat_tables(parts)
    wanted = list(metrics)
    return whole.filter(among(whole["metric"], wanted)) if wanted else whole


def among(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    """Whether each text is one of the values.

    They are taken from the column: arrow looks for pandas, which takes half a second to load, when it is given others.
    """
    distinct = pc.unique(column)
    found = [distinct.slice(place, 1) for place, value in enumerate(distinct.to_pylist()) if value in values]
    return pc.is_in(column, pa.concat_arrays([distinct.slice(0, 0), *found]))


def kept_rows(run: Path, name: str) -> list[dict[str, Any]]:
    """The rows of one run in its folder's table, without fields that are absent from a row.

    Raises:
        IntegrityError: the table is missing or does not hold the run.
    """
    path = run.parent / FOLDER / f"{name}.parquet"
    table, signatures = _read(path, SCHEMAS[name])
    if run.name not in signatures:
        raise IntegrityError(f"{path} has no rows of run {run.name}, whose {SOURCES[name]} was kept without them")
    return [_without_run(row) for row in table.filter(pc.equal(table["run"], run.name)).to_pylist()]


def add_kept_rows(folder: Path, name: str, run: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the rows of a run that is kept without them into its folder's table, in place of earlier ones of the run."""
    path = folder / FOLDER / f"{name}.parquet"
    table, signatures = _read(path, SCHEMAS[name])
    _write(path, _replaced(table, {run: rows}, SCHEMAS[name]), {**signatures, run: KEPT})


def _without_run(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "run"}


def _tidy(folder: Path, name: str, runs: Sequence[Mapping[str, Any]], write: bool, columns: Sequence[str]) -> pa.Table:
    path = folder / FOLDER / f"{name}.parquet"
    table, known = _read(path, SCHEMAS[name], columns)
    stamps = {facts["run"]: _stamp(f"{folder}/{facts['run']}/{SOURCES[name]}") for facts in runs}
    wanted = {facts["run"]: f"{facts['at']} {stamps[facts['run']]}" for facts in runs}
    for run in wanted:
        if known.get(run) == KEPT:
            wanted[run] = KEPT
    if wanted == known:
        return table
    table, known = _read(path, SCHEMAS[name])
    changed = [run for run, signature in wanted.items() if known.get(run) != signature]
    fresh = {run: _rows_of(folder / run / SOURCES[name], name) for run in changed}
    without = [run for run, rows in fresh.items() if rows is None]
    if without and name == "metrics":
        entries = {str(entry["run"]): entry for entry in Ledger(folder / LEDGER).finished()}
        fresh |= {run: _well_formed(entries[run].get("metrics"), name) for run in without if run in entries}
    gone: dict[str, list[dict[str, Any]]] = {run: [] for run in known if run not in wanted}
    table = _replaced(table, {**gone, **{run: rows or [] for run, rows in fresh.items()}}, SCHEMAS[name])
    if write:
        _write(path, table, wanted)
    return table.select(columns)


def _rows_of(file: Path, name: str) -> list[dict[str, Any]] | None:
    """The rows that a run's own file holds; None where it holds none, or cannot be read (the run's page says so)."""
    try:
        return _well_formed(json.loads(file.read_text(encoding="utf-8")).get(name), name)
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


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
    table, read = _read(path, _RUNS)
    known: dict[str, dict[str, Any]] = {str(row["run"]): row for row in table.to_pylist()}
    entries, place = _new_entries(folder / LEDGER, read)
    if place["start"] == 0:
        known = {}
    order = dict.fromkeys(run for run in known if run not in entries) | dict.fromkeys(entries)
    rows = []
    changed = bool(entries)
    for run in order:
        stamp = " ".join(_stamp(f"{folder}/{run}/{file}") for file in ("run.json", "data.json"))
        if run in entries:
            entry = {key: value for key, value in entries[run].items() if key not in _LONG}
            rows.append({"run": run, "signature": stamp, "facts": json.dumps(entry | _of_folder(folder / run))})
        elif known[run]["signature"] != stamp:
            entry = json.loads(known[run]["facts"])
            rows.append({"run": run, "signature": stamp, "facts": json.dumps(entry | _of_folder(folder / run))})
            changed = True
        else:
            rows.append(known[run])
    if changed and write:
        _write(path, pa.Table.from_pylist(rows, _RUNS), place)
    return [json.loads(row["facts"]) for row in rows]


def ledger_damage(folder: Path) -> list[Damage]:
    """Lines of a folder's ledger that are no event; only what is new since it was last read is read."""
    read = _read(folder / FOLDER / "runs.parquet", _RUNS)[1]
    place = _new_entries(folder / LEDGER, read)[1]
    return [Damage(*one) for one in place["damage"]]


def _new_entries(ledger: Path, read: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The latest finished entry of each run that the ledger got since it was last read, and how far it is read now.

    A ledger is only appended to; one that was changed otherwise is read from its start.
    """
    stamp = _stamp(ledger)
    if read.get("stamp") == stamp:
        return {}, {**read, "start": read["end"]}
    content = ledger.read_bytes() if ledger.is_file() else b""
    known = {"end": 0, "lines": 0, "damage": [], **read}
    start = int(known["end"])
    if start > len(content) or (start and _digest(content[:start]) != read.get("digest")):
        start, known = 0, {"lines": 0, "damage": []}
    entries, damage = Ledger.parse(content[start:])
    finished: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry["event"] == "finished":
            finished.pop(entry["run"], None)
            finished[entry["run"]] = entry
    # A last line that is still being written, or was cut off, is read again.
    end = content.rfind(b"\n") + 1
    told = [
        *(one for one in known["damage"] if not one[2]),
        *([one.line + known["lines"], one.text, one.torn] for one in damage),
    ]
    lines = known["lines"] + content.count(b"\n", start, end)
    digest = _digest(content[:end]) if end != start else read.get("digest", "")
    return finished, {"start": start, "end": end, "digest": digest, "lines": lines, "damage": told, "stamp": stamp}


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


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
    """The table with all rows of these runs replaced."""
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
