"""One row to be run, as plain values that any process on any machine understands, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meta_spliceai.errors import MetaSpliceAIError, RunError
from meta_spliceai.experiments.runner import Outcome, prepare_for_parts, run_experiment, train_part
from meta_spliceai.experiments.spec import ExperimentSpec, parse_spec
from meta_spliceai.experiments.tracking import tracked
from meta_spliceai.experiments.watcher import Watcher
from meta_spliceai.experiments.workspace import Workspace


@dataclass(frozen=True)
class Request:
    """A row and everything that its run needs to know.

    Attributes:
        spec: the row as it is to be run.
        rows: the row as it stands in the catalogue and, for an ensemble, its members'.
        runs_dir: folder of runs and ledger.
        device: "auto", "cpu" or "cuda".
        resume, fresh: see `run_experiment`.
        track: loggers beside the ledger (see `tracking`).
        tracking_uri: where they write to; None for a place in the folder of runs.
        price_per_hour: dollars an hour of the machine, where it is rented.
        part: None for the whole run, 0 for what its parts share, n for its nth fold.
    """

    spec: ExperimentSpec
    rows: dict[str, ExperimentSpec]
    runs_dir: Path
    device: str = "auto"
    resume: bool = False
    fresh: bool = False
    track: tuple[str, ...] = ()
    tracking_uri: str | None = None
    price_per_hour: float | None = None
    part: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        needed = {self.spec.id, *_members(self.spec, self.rows)} & self.rows.keys()
        return {
            "spec": self.spec.model_dump(mode="json"),
            "rows": [self.rows[row_id].model_dump(mode="json") for row_id in sorted(needed)],
            "runs_dir": str(self.runs_dir.absolute()),
            "device": self.device,
            "resume": self.resume,
            "fresh": self.fresh,
            "track": list(self.track),
            "tracking_uri": self.tracking_uri,
            "price_per_hour": self.price_per_hour,
            "part": self.part,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Request:
        """The request that `to_json` wrote."""
        rows = [parse_spec(row, "request") for row in values["rows"]]
        return cls(
            **{
                **values,
                "spec": parse_spec(values["spec"], "request"),
                "rows": {row.id: row for row in rows},
                "runs_dir": Path(values["runs_dir"]),
                "track": tuple(values["track"]),
            }
        )

    def for_part(self, part: int) -> Request:
        """The same for one part of the run."""
        return replace(self, part=part)


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes:
        run: name of the run's folder; None where it never began.
        reused: it was finished before.
        error: why it failed, for the user; None for a finished run or part.
        folds: for part 0: folds that can be trained as parts.
    """

    run: str | None = None
    reused: bool = False
    error: str | None = None
    folds: int = 0

    def outcome(self, request: Request) -> Outcome:
        """As the runner itself would have returned it."""
        run = Workspace(request.runs_dir).run(self.run) if self.run is not None else None
        return Outcome(request.spec, run, self.reused, RunError(self.error) if self.error is not None else None)


def carry_out(request: Request, watcher: Watcher) -> Answer:
    """Do what the request asks for in this process; every executor ends up here.

    A failure that the user can act on is an answer; a defect keeps its traceback.

    Raises:
        KeyboardInterrupt: it was stopped; what is done is kept.
    """
    workspace = Workspace(request.runs_dir)
    where = (request.spec, workspace)
    try:
        if request.part == 0:
            return Answer(
                folds=prepare_for_parts(*where, request.device, request.resume, request.fresh, request.rows, watcher)
            )
        if request.part is not None:
            train_part(*where, request.part, request.device, request.rows, watcher)
            return Answer()
        with tracked(watcher, request.track, workspace, request.tracking_uri) as watching:
            outcome = run_experiment(
                *where,
                request.device,
                request.resume,
                fresh=request.fresh,
                rows=request.rows,
                watcher=watching,
                price_per_hour=request.price_per_hour,
            )
    except MetaSpliceAIError as error:
        return Answer(error=str(error))
    return Answer(outcome.run.name if outcome.run is not None else None, outcome.reused)


def _members(spec: ExperimentSpec, rows: dict[str, ExperimentSpec]) -> list[str]:
    found = []
    for member in spec.ensemble.members if spec.ensemble is not None else ():
        found += [member, *_members(rows[member], rows)]
    return found
