"""Where runs are stored on disk: one folder per run, and the ledger next to them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow
import yaml
from filelock import FileLock, Timeout

from meta_spliceai.errors import InputError, IntegrityError, RunError, unknown_value
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import read_text, read_yaml
from meta_spliceai.experiments.store.ledger import KEPT, LEDGER, Ledger, kept_rows, merged
from meta_spliceai.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

State = Literal["new", "running", "finished", "failed", "interrupted", "damaged"]
STATES = ("running", "finished", "failed", "interrupted", "damaged")
"""States of runs that have begun; damaged: its run.json cannot be read."""

PROGRESS = "progress.json"
ALL_PREDICTIONS = "all_predictions.npy"
CHECKPOINTS, FOLDS, MODEL = "checkpoints", "folds", "model"
FOLD_RECORD = "fold.json"

RUNS_VARIABLE = "META_SPLICEAI_RUNS"
LEDGER_VARIABLE = "META_SPLICEAI_LEDGER"

SECONDS_OF_A_LOOK = 0.5
"""How long a run's lock is waited for: a list of runs or a page holds it for a moment to see whether it is free."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_GONE = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO})


@dataclass(frozen=True)
class RunDirectory:
    """One run's folder, `<row>-<hash>`; every file in it is written atomically.

    A file that is read and is not there raises a RunError, a damaged one an IntegrityError.
    """

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def row_id(self) -> str:
        return self.name.rpartition("-")[0]

    def size(self) -> int:
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def record(self) -> dict[str, Any]:
        """The content of run.json; empty before the run began.

        Of a damaged one, the state `damaged` with the reason: one bad file stops neither other runs nor a list of them.
        """
        file = self.path / "run.json"
        try:
            return _read_json(file) if file.exists() else {}
        except IntegrityError as error:
            return {"state": "damaged", "reason": str(error)}

    def state(self) -> State:
        """How far the run is. A run whose process is gone counts as interrupted, whatever it wrote last."""
        state = self.record().get("state", "new")
        return "interrupted" if state == "running" and not self.is_taken() else state

    def reason(self) -> str:
        """Why the run is in its state, in words; empty where there is nothing to say."""
        record = self.record()
        if record.get("state") == "running" and not self.is_taken():
            return "the process ended without a word (killed, or the machine went down)"
        return str(record.get("reason", ""))

    def stale(self) -> str:
        """Which inputs of the finished run have changed since, in words; empty if none is known to have."""
        return str(self.record().get("stale", ""))

    def spec(self) -> ExperimentSpec:
        file = self.path / "spec.yaml"
        if not file.exists():
            raise RunError(f"{file} is missing; the run did not begin")
        try:
            _, values = read_yaml(str(file), read_text(file))
        except (OSError, InputError) as error:
            raise _damaged(file, error) from error
        return parse_spec(values, str(file))

    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json (`Evaluation.to_json`)."""
        content = _read_json(self._existing("metrics.json"))
        for name in ("metrics", "differences"):
            if name not in content and "scorers" in content:
                content[name] = kept_rows(self.path, name)
        return content

    def data(self) -> dict[str, Any]:
        """The content of data.json: data set, content hash, coverage, base scores."""
        return _read_json(self._existing("data.json"))

    def evidence(self) -> dict[str, Any]:
        """The content of evidence.json (strata, calibration, ceiling, peaks); empty for runs that have none."""
        file = self.path / "evidence.json"
        content = _read_json(file) if file.exists() else {}
        if content.get("strata") == KEPT:
            content["strata"] = [
                {key: value for key, value in row.items() if row["scorer"] is not None or value is not None}
                for row in kept_rows(self.path, "strata")
            ]
        return content

    def progress(self) -> dict[str, Any]:
        """The content of progress.json: how far a run is that is being worked on."""
        return _read_json(self._existing(PROGRESS))

    def environment(self) -> dict[str, Any]:
        return _read_json(self._existing("environment.json"))

    def read_predictions(self) -> pd.DataFrame:
        """One row per variant, `<scorer>.score` and `<scorer>.signed` for each scorer."""
        return _read_frame(self._existing("predictions.parquet"))

    def read_test(self) -> pd.DataFrame:
        found = self.read_predictions()
        return found[found["part"] == "test"].reset_index(drop=True)

    def read_curves(self) -> pd.DataFrame:
        return _read_frame(self._existing("curves.parquet"))

    def read_split(self) -> pd.DataFrame:
        return _read_frame(self._existing("split.parquet"))

    def _existing(self, name: str) -> Path:
        file = self.path / name
        if not file.exists():
            reason = self.reason()
            raise RunError(f"run {self.name} has no {name}: it is {self.state()}{f' ({reason})' if reason else ''}")
        return file

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the run, so that no other process works on it; a RunError where another one does."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.path / "lock", timeout=SECONDS_OF_A_LOOK).acquire()
        except Timeout as error:
            holder = self.record().get("pid", "unknown")
            raise RunError(f"run {self.name} is being worked on by another process (id {holder})") from error
        with lock:
            yield

    def is_taken(self) -> bool:
        file = self.path / "lock"
        if not file.exists():
            return False
        try:
            with FileLock(file, timeout=0):
                return False
        except Timeout:
            return True
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
            # A colleague's run, or a disk mounted for reading: its lock can be looked at, not taken.
            return _held_by_another(file)

    def empty(self) -> None:
        """Delete all its files but the lock."""
        for entry in self.path.iterdir():
            if entry.name != "lock":
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def require_there(self) -> None:
        """Refuse to go on where the folder of a run that has begun was deleted, or its disk taken away: files written
        whole would make a lost folder anew."""
        if not (self.path / "run.json").is_file():
            raise RunError(
                f"run {self.name}: its folder {self.path} is gone; put the disk back and go on with --resume, or, if "
                "the folder was deleted, run the row anew"
            )

    def mark(self, state: State, reason: str = "", **more: Any) -> None:
        """Write the state into run.json beside what stands there already."""
        record = {**self.record(), "state": state, "reason": reason, "changed_at": now(), **more}
        self.write_json("run.json", record)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        with atomic_write(self.path / name) as handle:
            json.dump(content, handle, indent=2, ensure_ascii=False, allow_nan=False)
            handle.write("\n")

    def write_yaml(self, name: str, content: dict[str, Any]) -> None:
        with atomic_write(self.path / name) as handle:
            yaml.safe_dump(content, handle, sort_keys=False, allow_unicode=True)

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        with atomic_write(self.path / name, "wb") as handle:
            frame.to_parquet(handle, index=False)


@dataclass(frozen=True)
class Workspace:
    """A folder of runs and their ledger, and further ones that are only read.

    Attributes:
        root: the folder; `root/ledger.jsonl` and `root/<row>-<hash>/`.
        ledgers: folders of the same layout whose finished runs count too; a run of `root` goes before one of the same
            name there.
    """

    root: Path
    ledgers: tuple[Path, ...] = ()

    @classmethod
    def default(cls, root: Path | None = None, ledgers: Sequence[Path] | None = None) -> Workspace:
        """The folder given, else META_SPLICEAI_RUNS, else ./runs; the same for ledgers, META_SPLICEAI_LEDGER (several
        are separated as in PATH), else none. A folder named as a ledger that holds none is an InputError."""
        named = [Path(name) for name in os.environ.get(LEDGER_VARIABLE, "").split(os.pathsep) if name]
        for folder in named if ledgers is None else ledgers:
            if not (folder / LEDGER).is_file():
                where = LEDGER_VARIABLE if ledgers is None else "--ledger"
                raise InputError(f"{where} {folder}: holds no {LEDGER}; name a folder of runs, such as results")
        return cls(root or Path(os.environ.get(RUNS_VARIABLE) or "runs"), tuple(named if ledgers is None else ledgers))

    def require_writable(self) -> None:
        """Make the folder if need be, and try it: a run should not compute for hours what cannot be written down."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as handle:
                handle.write(bytes(4096))
        except OSError as error:
            file = error.errno in (errno.EEXIST, errno.ENOTDIR)
            why = "a file stands in its place" if file else error.strerror or str(error)
            raise InputError(
                f"folder of runs {self.root}: cannot be written to ({why}); give another one with --runs-dir or "
                f"{RUNS_VARIABLE}, or make this one writable"
            ) from error

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.root / LEDGER)

    def finished(self) -> list[dict[str, Any]]:
        """The latest `finished` entry of every run, those of the further ledgers included, oldest first."""
        return merged([Ledger(folder / LEDGER).finished() for folder in (self.root, *self.ledgers)])

    def run(self, name: str) -> RunDirectory:
        """The run's folder, whether it exists or not."""
        return RunDirectory(self.root / name)

    def own_runs(self) -> list[RunDirectory]:
        return _runs_in(self.root, ("run.json",))

    def runs(self, marks: Sequence[str] = ("run.json",)) -> list[RunDirectory]:
        """Every run of `root` and of the further ledgers' folders, by name."""
        found = {run.name: run for folder in (*reversed(self.ledgers), self.root) for run in _runs_in(folder, marks)}
        return [found[name] for name in sorted(found)]

    def find(self, name: str) -> RunDirectory:
        """A run by its full name, by its row, by the start of its name, or by the path of its folder."""
        runs = self.runs()
        if not runs:
            raise RunError(f"there is no run in {self.root}; give another folder with --runs-dir, or run a row first")
        wanted = Path(name).name
        exact = [run for run in runs if run.name == wanted]
        of_row = exact or [run for run in runs if run.row_id == wanted]
        begun = of_row or [run for run in runs if run.name.startswith(wanted)]
        if not begun:
            raise unknown_value("run", name, [run.name for run in runs], where=str(self.root))
        if len(begun) > 1:
            raise RunError(f"'{name}' could be {' or '.join(run.name for run in begun)}; give more of the name")
        return begun[0]


def _held_by_another(file: Path) -> bool:
    """Whether a process holds this lock, for a file that may only be read."""
    import fcntl  # not on Windows, where a file that is read-only is never locked by its writer

    with file.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _runs_in(folder: Path, marks: Sequence[str]) -> list[RunDirectory]:
    if not folder.is_dir():
        return []
    return [RunDirectory(path) for path in sorted(folder.iterdir()) if any((path / mark).is_file() for mark in marks)]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def disk_error(error: BaseException | None) -> OSError | None:
    """The failure of a disk (full, read-only, gone) that an exception is, or was raised from; None without one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in _FULL | _NOT_WRITABLE | _GONE:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def what_to_do(error: OSError) -> str:
    """What a user does about a disk that failed."""
    if error.errno in _FULL:
        return "free space there ('meta-spliceai runs prune' says which runs may go) and go on with --resume"
    return "put it right and go on with --resume"


def _damaged(file: Path, error: Exception) -> IntegrityError:
    why = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return IntegrityError(f"{file} is damaged ({why}); delete its folder {file.parent} and run its row again")


def _read_frame(file: Path) -> pd.DataFrame:
    import pandas as pd  # here, because a leaderboard needs no frame, and this takes half a second

    try:
        return pd.read_parquet(file)
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise _damaged(file, error) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file, error) from error
    if not isinstance(content, dict):
        raise _damaged(file, ValueError("no JSON object"))
    return content
