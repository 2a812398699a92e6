"""Records a run: its inputs (data.json, split.parquet), its facts in run.json, and its line in the ledger."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from meta_spliceai.experiments.run.evaluate_run import RunEvaluation
from meta_spliceai.experiments.run.prepare import Prepared, Trained, Work
from meta_spliceai.experiments.run.utilisation import scoring_utilisation
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import at_scale
from meta_spliceai.experiments.store.ledger import HEADLINES
from meta_spliceai.experiments.store.workspace import ALL_PREDICTIONS, FOLDS, RunDirectory, now
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.meta_layer.prediction import TrunkWindows
from meta_spliceai.splice_engine.variants.splits import PARTS, write_split
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING

SPLIT = "split.parquet"

_ABSOLUTE = re.compile(r"(?<![\w:/.~])(?:~|[A-Za-z]:)?[\\/](?:[^\s\\/'\",;()]+[\\/])+(?=[^\s\\/'\",;()])")
"""Folders of an absolute path, up to the last part; not those of a URL or of a path within a repository."""


def write_splits(run: RunDirectory, spec: ExperimentSpec, prepared: Prepared) -> None:
    """Write split.parquet; in a cross-validation each fold has its own, and the pooled parts stand in the run's."""
    data = {"name": spec.data.name, "options": dict(spec.data.options), "digest": prepared.loaded.digest}
    if len(prepared.splits) == 1:
        write_split(run.path / SPLIT, prepared.splits[0], prepared.table, data)
        return
    for number, split in enumerate(prepared.splits, start=1):
        write_split(run.path / FOLDS / str(number) / SPLIT, split, prepared.table, data)
    frame = prepared.table[["variant_id", "group"]]
    run.write_frame(SPLIT, frame.assign(part=prepared.parts, fold=prepared.tested_in + 1))


def write_all_predictions(run: RunDirectory, trained: Trained) -> None:
    """Write the model's own predictions of every row of the table, as they are read again for ensembles and folds."""
    with atomic_write(run.path / ALL_PREDICTIONS, "wb") as handle:
        np.save(handle, trained.predictions, allow_pickle=False)


def describe_data(spec: ExperimentSpec, prepared: Prepared) -> dict[str, Any]:
    """What went in, as plain values: data set, account of rows, base scores, labels, split; no folders."""
    dataset, targets, first = prepared.loaded.dataset, prepared.targets, prepared.splits[0]
    folds = [
        {
            "name": split.name,
            "digest": split.digest,
            "parts": _parts_in_numbers(prepared, split.parts),
            "audit": audit.to_json(),
        }
        for split, audit in zip(prepared.splits, prepared.audits, strict=True)
    ]
    pooled = f"{len(folds)} folds, pooled; " if len(folds) > 1 else ""
    described: dict[str, Any] = {
        "name": spec.split.name,
        "digest": prepared.split_digest,
        "description": f"{pooled}{first.description}",
        "coverage": first.coverage.to_json(),
        "parts": _parts_in_numbers(prepared, prepared.parts),
        "audit": prepared.audits[0].to_json(),
        **({"folds": folds} if pooled else {}),
    }
    networks = [
        {
            "name": base.name,
            "digest": base.digest,
            "networks": base.size,
            "distance": scores.distance,
            "licence": base.licence,
            "scored": computed,
            "rounded_to_decimals": scores.digits,
            "precision": scores.precision,
            "precision_check": scores.check,
        }
        for base, scores, computed in prepared.networks
    ]
    told = {
        "data_set": dataset.name,
        **{name: getattr(dataset, name) for name in ("title", "build", "source", "licence", "citation", "checksums")},
        "digest": prepared.loaded.digest,
        "label_rule": dataset.rule_in_words,
        "effect_label": dataset.effect,
        "options": dict(prepared.loaded.options),
        "origin": prepared.loaded.origin,
        "about": dataset.notes,
        "coverage": prepared.coverage.to_json(),
        "n_variants": len(prepared.table),
        "notes": list(prepared.notes),
        "window": {"length": spec.window, "real_bases_least": int(prepared.windows.real_bases.min())},
        "base": networks[0],
        "beside": networks[1:],
        "trunk": _trunk(prepared),
        "negatives": list(spec.negatives),
        "target": {"name": targets.task, "rule": targets.rule, "coverage": targets.coverage.to_json()},
        "split": described,
    }
    return dict(without_folders(told))


def _parts_in_numbers(prepared: Prepared, parts: np.ndarray) -> dict[str, dict[str, Any]]:
    """Variants, groups, altering and Normal of every part; for labels with two sources how many are from which."""
    found: dict[str, dict[str, Any]] = {}
    for part in (part for part in PARTS if part in parts):
        inside = np.flatnonzero(parts == part)
        rows, sources = prepared.table.iloc[inside], prepared.targets.counts_by_mark(inside)
        found[part] = {
            "variants": len(rows),
            "groups": int(rows["group"].nunique()),
            "altering": int((rows["classification"] == SPLICE_ALTERING).sum()),
            "normal": int((rows["classification"] == NORMAL).sum()),
            **({"labels": sources} if sources else {}),
        }
    return found


def _trunk(prepared: Prepared) -> dict[str, Any] | None:
    """The base network whose hidden channels are read, and where."""
    if prepared.trunk is None or not isinstance(prepared.windows, TrunkWindows):
        return None
    base, read = prepared.trunk, prepared.windows.trunk
    known = read.sites_known()
    return {
        "name": base.name,
        "digest": base.digest,
        "networks": len(base.networks),
        "licence": base.licence,
        "read_radius": read.reading.read_radius,
        "site_reach": read.reading.site_reach,
        "acceptors_read": known[0],
        "donors_read": known[1],
    }


def without_folders(value: Any) -> Any:
    """Plain values (dictionaries, whose keys stay as they are, lists, texts, numbers) with every absolute path in their
    texts cut to its last part."""
    if isinstance(value, str):
        return _ABSOLUTE.sub("", value)
    if isinstance(value, dict):
        return {key: without_folders(one) for key, one in value.items()}
    return [without_folders(one) for one in value] if isinstance(value, list | tuple) else value


def record_result(
    work: Work, prepared: Prepared, trained: Trained, evaluated: RunEvaluation, peaks: dict[str, int | None]
) -> dict[str, Any]:
    """Write the run's facts and its line in the ledger; the state "finished" comes last.

    Args:
        peaks: the most memory that was held at once, taken before this is called, as measuring the device's rate takes
            memory of its own: `peak_memory_bytes` of the process, `peak_gpu_memory_bytes` of the card (None on a
            processor), `rows_before` that the same process had run before, whose peak this one may be.

    Returns:
        the facts, as run.json has them.
    """
    environment = work.run.environment()
    # A resumed run adds the time of its earlier parts, as far as they were written down.
    seconds, price = sum(work.clock.seconds.values()), work.price_per_hour
    on_card = environment["gpu"] is not None and work.device != "cpu"
    sources = [
        *((f"{base.name} weights", base.licence, base.citation) for base in prepared.networks_used),
        (prepared.loaded.dataset.title, prepared.loaded.dataset.licence, prepared.loaded.dataset.citation),
    ]
    weights = trained.model["weights"]
    own_encoder = [f"not the published weights: {weights}"] if re.search("folder |packaged ", weights) else []
    facts = {
        "seconds": round(seconds, 3),
        **work.clock.in_record(),
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
        "verdicts": [verdict.text for verdict in evaluated.evaluation.verdicts()],
        "folds": evaluated.folds,
        "task_metrics": evaluated.task,
        "notes": [*prepared.notes, *own_encoder, *trained.notes, *evaluated.notes],
        "subset_note": next((note for note in prepared.notes if note.startswith("a subset")), ""),
        "finished": now(),
        **peaks,
    }
    work.workspace.ledger.append(_ledger_line(work, prepared, evaluated, facts, environment["commit"]))
    # The state comes last: a run that says "finished" has everything, its line in the ledger included.
    work.run.mark("finished", "", **facts)
    return facts


FACTS_IN_LEDGER = (
    *("code", "device", "seconds", "dollars", "work", "peak_memory_bytes", "peak_gpu_memory_bytes", "weights_origin"),
    *("parameters", "notes", "verdicts", "folds", "task_metrics"),
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
        "split": {"name": spec.split.name, "folds": spec.split.folds, "digest": prepared.split_digest},
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
