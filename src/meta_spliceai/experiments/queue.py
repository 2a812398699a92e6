"""Several rows, one after the other; a row that fails does not stop the next."""

from __future__ import annotations

from collections.abc import Sequence

from meta_spliceai.errors import MetaSpliceAIError
from meta_spliceai.experiments.runner import Outcome, run_experiment
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.experiments.watcher import Watcher
from meta_spliceai.experiments.workspace import Workspace


def run_all(
    specs: Sequence[ExperimentSpec],
    workspace: Workspace,
    *,
    rows: dict[str, ExperimentSpec],
    device: str,
    resume: bool,
    fresh: bool,
    watcher: Watcher,
) -> list[Outcome]:
    """Run rows in the order given.

    Args:
        specs: the rows as they are to be run.
        workspace: where runs and ledger are.
        rows: the catalogue.
        device, resume, fresh: see `run_experiment`.
        watcher: told what happens.

    Raises:
        KeyboardInterrupt: the user stopped the queue.
    """
    outcomes = []
    for number, spec in enumerate(specs, start=1):
        watcher.say(f"row {number} of {len(specs)}: {spec.id}" if len(specs) > 1 else f"row {spec.id}")
        try:
            outcome = run_experiment(spec, workspace, device, resume, fresh=fresh, rows=rows, watcher=watcher)
        except MetaSpliceAIError as error:
            watcher.say(f"error: {spec.id}: {error}")
            outcome = Outcome(spec, None, error=error)
        outcomes.append(outcome)
    return outcomes
