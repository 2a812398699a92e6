"""What is kept of a finished run: its facts in run.json, its line in the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from meta_spliceai.experiments.board.leaderboard import HEADLINES
from meta_spliceai.experiments.run.describe_data import digest_of_splits
from meta_spliceai.experiments.run.evaluate_run import RunEvaluation
from meta_spliceai.experiments.run.job import Trained, Work
from meta_spliceai.experiments.run.prepare import Prepared
from meta_spliceai.experiments.run.utilisation import scoring_utilisation
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import at_scale
from meta_spliceai.experiments.store.workspace import now


@dataclass(frozen=True)
class Peaks:
    """The most memory that was held at once.

    Attributes:
        peak_memory_bytes: of the process.
        peak_gpu_memory_bytes: of the card; None on a processor.
        rows_before: rows that the same process had run before, whose peak this one may be.
    """

    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None
    rows_before: int


def record_result(
    work: Work, prepared: Prepared, trained: Trained, evaluated: RunEvaluation, peaks: Peaks
) -> dict[str, Any]:
    """Write the run's facts and its line in the ledger; the state "finished" comes last.

    Args:
        work: the run, all of its steps timed.
        prepared, trained, evaluated: what its steps gave.
        peaks: taken before this is called, as measuring the device's rate takes memory of its own.

    Returns:
        the facts, as run.json has them.
    """
    environment = work.run.environment()
    facts = _facts(work, prepared, trained, evaluated, environment) | asdict(peaks)
    work.workspace.ledger.append(_ledger_line(work, prepared, evaluated, facts, environment["commit"]))
    # The state comes last: a run that says "finished" has everything, its line in the ledger included.
    work.run.mark("finished", "", **facts)
    return facts


def _facts(
    work: Work, prepared: Prepared, trained: Trained, evaluated: RunEvaluation, environment: dict[str, Any]
) -> dict[str, Any]:
    # A resumed run adds the time of its earlier parts, as far as they were written down.
    seconds, price = sum(work.clock.seconds.values()), work.price_per_hour
    on_card = environment["gpu"] is not None and work.device != "cpu"
    sources = [
        *((f"{base.name} weights", base.licence, base.citation) for base in prepared.networks_used),
        (prepared.loaded.dataset.title, prepared.loaded.dataset.licence, prepared.loaded.dataset.citation),
    ]
    return {
        "seconds": round(seconds, 3),
        "seconds_by_step": {step: round(spent, 3) for step, spent in work.clock.seconds.items()},
        "cpu_seconds_by_step": {step: round(spent, 3) for step, spent in work.clock.cpu_seconds.items()},
        "baselines_computed": list(evaluated.baselines_computed),
        "price_per_hour": price,
        "dollars": None if price is None else round(seconds / 3600 * price, 4),
        "device": environment["gpu"]["name"] if on_card else work.device,
        "versions": {"python": environment["python"], **environment["packages"]},
        "code": environment["code"],
        "weights_origin": trained.model["weights"],
        "parameters": trained.model["parameters"],
        "model": trained.model,
        "training": trained.training,
        "work": {"training": trained.work, "base scores": scoring_utilisation(prepared.all_scores, work.device)},
        "licences": [dict(zip(("name", "licence", "citation"), source, strict=True)) for source in sources],
        "verdicts": evaluated.verdicts,
        "folds": evaluated.folds,
        "task_metrics": evaluated.task,
        "notes": [*prepared.notes, *_encoder(trained.model["weights"]), *trained.notes, *evaluated.notes],
        "subset_note": next((note for note in prepared.notes if note.startswith("a subset")), ""),
        "finished": now(),
    }


def _encoder(weights: str) -> tuple[str, ...]:
    """What a reader must know of an encoder that was trained here and is not the published one."""
    return (f"not the published weights: {weights}",) if "folder " in weights else ()


FACTS_IN_LEDGER = (
    "code",
    "device",
    "seconds",
    "dollars",
    "work",
    "peak_memory_bytes",
    "peak_gpu_memory_bytes",
    "weights_origin",
    "parameters",
    "notes",
    "verdicts",
    "folds",
    "task_metrics",
)


def _ledger_line(
    work: Work, prepared: Prepared, evaluated: RunEvaluation, facts: dict[str, Any], commit: str | None
) -> dict[str, Any]:
    spec, loaded = work.spec, prepared.loaded
    metrics = evaluated.evaluation.to_json()["metrics"]
    return {
        "event": "finished",
        "run": work.run.name,
        "row": spec.id,
        "title": spec.title,
        "smoke": spec.smoke,
        "as_wished": spec.id in work.rows and _same_wish(spec, at_scale(work.rows[spec.id], spec.scale)),
        "scale": spec.scale,
        "seed": spec.seed,
        "commit": commit,
        "data": {"name": loaded.dataset.name, "digest": loaded.digest, "rows": len(prepared.table)},
        "split": {"name": spec.split.name, "folds": spec.split.folds, "digest": digest_of_splits(prepared)},
        "test": evaluated.test,
        **{name: facts[name] for name in FACTS_IN_LEDGER},
        "metrics": [record for record in metrics if record["metric"] in HEADLINES],
    }


def _same_wish(spec: ExperimentSpec, wished: ExperimentSpec) -> bool:
    """Whether a row was run as it stands in the catalogue, whatever its seed."""

    def settings(row: ExperimentSpec) -> dict[str, Any]:
        identity = row.identity()
        identity["training"].pop("seed")
        # Where a user's own file lies does not make it another row; nor does SpliceVarDB itself, or the open sources
        # in its form, in place of the variants that travel with the package.
        identity["data"].pop("options")
        if identity["data"]["name"] in ("splicevardb", "splicevardb-open", "packaged-human+mfass"):
            identity["data"]["name"] = "packaged-human"
        return identity

    return settings(spec) == settings(wished)
