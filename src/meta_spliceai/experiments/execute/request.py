"""One row to be run, as a value that travels between processes and machines, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meta_spliceai.errors import MetaSpliceAIError, RunError
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.run.runner import Outcome, prepare_for_parts, run_experiment, train_part
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.tracking import tracked


@dataclass(frozen=True)
class Request:
    """A row and everything that its run needs to know.

    Attributes:
        spec: the row as it is to be run.
        rows: the catalogue, for members of ensembles.
        runs_dir: folder of runs and ledger.
        device: "auto", "cpu" or "cuda".
        resume, fresh: see `run_experiment`.
        track, tracking_uri: loggers beside the ledger, and where they write to (see `tracking`).
        price_per_hour: dollars an hour of the machine, where it is rented.
        part: None for the whole run, 0 for what its folds share, n for its nth fold.
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


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes:
        run: name of the run's folder; None where it never began.
        reused: it was finished before.
        error: why it failed, for the user; None for a finished run or part.
        folds: for part 0: folds that can be trained as parts.
        lost: its process is gone and may have left the run without a state.
    """

    run: str | None = None
    reused: bool = False
    error: str | None = None
    folds: int = 0
    lost: bool = False

    def outcome(self, request: Request) -> Outcome:
        """As the runner itself would have returned it."""
        run = Workspace(request.runs_dir).run(self.run) if self.run is not None else None
        return Outcome(request.spec, run, self.reused, RunError(self.error) if self.error is not None else None)


def carry_out(request: Request, callback: Callback) -> Answer:
    """Do what the request asks for in this process; every executor ends up here.

    A failure that the user can act on is an answer; a defect keeps its traceback.

    Raises:
        KeyboardInterrupt: it was stopped; what is done is kept.
    """
    spec, workspace, device = request.spec, Workspace(request.runs_dir), request.device
    try:
        if request.part == 0:
            folds = prepare_for_parts(spec, workspace, device, request.resume, request.fresh, request.rows, callback)
            return Answer(folds=folds)
        if request.part is not None:
            train_part(spec, workspace, request.part, device, request.rows, callback)
            return Answer()
        with tracked(callback, request.track, workspace, request.tracking_uri) as watching:
            outcome = run_experiment(
                spec,
                workspace,
                device,
                request.resume,
                fresh=request.fresh,
                rows=request.rows,
                callback=watching,
                price_per_hour=request.price_per_hour,
            )
    except MetaSpliceAIError as error:
        return Answer(error=str(error))
    return Answer(outcome.run.name if outcome.run is not None else None, outcome.reused)
