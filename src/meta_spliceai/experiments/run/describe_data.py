"""What went into a run, in plain values: data set, account of rows, base scores, labels, split."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from meta_spliceai.experiments.run.job import FOLDS
from meta_spliceai.experiments.run.prepare import Prepared
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.plain_values import without_folders
from meta_spliceai.experiments.store.workspace import RunDirectory
from meta_spliceai.splice_engine.base_layer.model import BaseIdentity
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.meta_layer.trunk_features import TrunkWindows
from meta_spliceai.splice_engine.variants.split_file import write_split
from meta_spliceai.splice_engine.variants.splits import PARTS
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING

SPLIT = "split.parquet"


def write_splits(run: RunDirectory, spec: ExperimentSpec, prepared: Prepared) -> None:
    """Write split.parquet; in a cross-validation each fold has its own, and the pooled parts stand in the run's."""
    data = {
        "name": spec.data.name,
        "options": dict(spec.data.options),
        "digest": prepared.loaded.digest,
    }
    if len(prepared.splits) == 1:
        write_split(run.path / SPLIT, prepared.splits[0], prepared.table, data)
        return
    for number, split in enumerate(prepared.splits, start=1):
        write_split(run.path / FOLDS / str(number) / SPLIT, split, prepared.table, data)
    frame = prepared.table[["variant_id", "group"]]
    run.write_frame(SPLIT, frame.assign(part=prepared.parts, fold=prepared.tested_in + 1))


def digest_of_splits(prepared: Prepared) -> str:
    """The split's digest; for several folds, one over all of them."""
    digests = [split.digest for split in prepared.splits]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _parts_in_numbers(prepared: Prepared, parts: np.ndarray) -> dict[str, dict[str, Any]]:
    """Variants, groups, altering and Normal of every part; for labels with two sources how many are from which."""
    found: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        inside = np.flatnonzero(parts == part)
        if not len(inside):
            continue
        rows = prepared.table.iloc[inside]
        found[part] = {
            "variants": len(rows),
            "groups": int(rows["group"].nunique()),
            "altering": int((rows["classification"] == SPLICE_ALTERING).sum()),
            "normal": int((rows["classification"] == NORMAL).sum()),
        }
        sources = prepared.targets.counts_by_mark(inside)
        if sources:
            found[part]["labels"] = sources
    return found


def _network(base: BaseIdentity, scores: BaseScores, scored: int) -> dict[str, Any]:
    return {
        "name": base.name,
        "digest": base.digest,
        "networks": base.size,
        "distance": scores.distance,
        "licence": base.licence,
        "scored": scored,
        "rounded_to_decimals": scores.digits,
        "precision": scores.precision,
        "precision_check": scores.check,
    }


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


def describe_data(spec: ExperimentSpec, prepared: Prepared) -> dict[str, Any]:
    """What went in, as plain values: data set, account of rows, base scores, labels, split; no folders."""
    dataset = prepared.loaded.dataset
    table = prepared.table
    first = prepared.splits[0]
    described: dict[str, Any] = {
        "name": spec.split.name,
        "digest": digest_of_splits(prepared),
        "description": first.description,
        "coverage": first.coverage.to_json(),
        "parts": _parts_in_numbers(prepared, prepared.parts),
        "audit": prepared.audits[0].to_json(),
    }
    if len(prepared.splits) > 1:
        described["description"] = f"{len(prepared.splits)} folds, pooled; {first.description}"
        described["folds"] = [
            {
                "name": split.name,
                "digest": split.digest,
                "parts": _parts_in_numbers(prepared, split.parts),
                "audit": audit.to_json(),
            }
            for split, audit in zip(prepared.splits, prepared.audits, strict=True)
        ]
    networks = [_network(*one) for one in zip(prepared.networks, prepared.all_scores, prepared.scored, strict=True)]
    told = {
        "data_set": dataset.name,
        "title": dataset.title,
        "digest": prepared.loaded.digest,
        "build": dataset.build,
        "source": dataset.source,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "label_rule": dataset.rule_in_words,
        "effect_label": dataset.effect,
        "options": dict(prepared.loaded.options),
        "origin": prepared.loaded.origin,
        "checksums": dataset.checksums,
        "about": dataset.notes,
        "coverage": prepared.coverage.to_json(),
        "n_variants": len(table),
        "notes": list(prepared.notes),
        "window": {"length": spec.window, "real_bases_least": int(prepared.windows.real_bases.min())},
        "base": networks[0],
        "beside": networks[1:],
        "trunk": _trunk(prepared),
        "negatives": list(spec.negatives),
        "target": {
            "name": prepared.targets.task,
            "rule": prepared.targets.rule,
            "coverage": prepared.targets.coverage.to_json(),
        },
        "split": described,
    }
    return dict(without_folders(told))
