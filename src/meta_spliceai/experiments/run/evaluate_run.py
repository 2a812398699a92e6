"""Evaluates a trained model's predictions together with the baselines on the test part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from meta_spliceai.errors import MissingPackageError
from meta_spliceai.experiments.run.evidence import evaluate_task, gather_evidence
from meta_spliceai.experiments.run.prepare import Clock, Prepared, Trained, digest_of_test
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.address import code_version
from meta_spliceai.experiments.store.ledger import HEADLINES
from meta_spliceai.files import cached_json
from meta_spliceai.splice_engine.base_layer.scores import max_window, own_site
from meta_spliceai.splice_engine.meta_layer.evaluation.baselines import (
    ASSAY_SOURCE,
    BASE_MAX_WINDOW,
    BASE_OWN_SITE,
    KMERS_AND_POSITION,
    POSITION,
    assay_source,
    kmers_and_position,
    position_only,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import (
    Evaluation,
    Scale,
    Scorer,
    Scores,
    predictions_frame,
    signed_scores,
    target_magnitude,
    unsigned,
)
from meta_spliceai.splice_engine.meta_layer.targets import validated_delta
from meta_spliceai.splice_engine.variants.table import SPLICE_ALTERING, Windows

SCALES: dict[str, Scale] = {
    "validated-delta": "delta",
    "altering": "probability",
    "multitask": "probability",
    "magnitude": "rank",
}
"""What the score of a model is that was trained on a target."""

Rows = Int[np.ndarray, " rows"]


@dataclass(frozen=True)
class RunEvaluation:
    """A run's evaluation of its model.

    Attributes:
        predictions: every row of the table with its part and each scorer's columns.
        test: the test in numbers: digest, rows, positives, groups.
        folds: for a cross-validation, how each headline metric spreads over the folds (see `spread`); else empty.
        task: the task's own metrics, for kinds of effect and positions; else empty.
        baselines_computed: names of the learning baselines that were computed now; the others were found in the cache.
        notes: what could not be evaluated here, and why.
    """

    predictions: pd.DataFrame
    evaluation: Evaluation
    test: dict[str, Any]
    folds: list[dict[str, Any]]
    task: dict[str, Any]
    evidence: dict[str, Any]
    baselines_computed: tuple[str, ...]
    notes: tuple[str, ...]


def evaluate_run(spec: ExperimentSpec, prepared: Prepared, trained: Trained, clock: Clock) -> RunEvaluation:
    """Evaluate a trained model on the test part, with the baselines on the same rows.

    A head that says where or which kind, but not whether, has no score; then only the baselines stand in the
    evaluation, and the task's own metrics in `task`.

    Args:
        clock: measures "baselines" and "evaluation" apart: the former may be found in the cache.
    """
    with clock("baselines"):
        scores, computed, notes = _baselines(spec, prepared)
    with clock("evaluation"):
        table, parts = prepared.table, prepared.parts
        columns = trained.columns(trained.predictions)
        if "score" in columns:
            scores[_learned_scorer(spec, trained.model)] = Scores(
                columns["score"].astype(np.float64),
                columns.get("signed", np.full(len(table), np.nan)).astype(np.float64),
            )
        delta = validated_delta(table, prepared.scores)
        frame = predictions_frame(table, target_magnitude(delta.values, delta.used), scores)
        frame = pd.concat([table, frame[[column for column in frame if column not in table]]], axis=1)
        frame.insert(len(table.columns), "part", parts)
        if len(prepared.splits) > 1:
            frame.insert(len(table.columns) + 1, "fold", prepared.tested_in + 1)
        named = {f"{spec.id}.{name}": values for name, values in columns.items() if name not in ("score", "signed")}
        frame = pd.concat([frame, pd.DataFrame(named, index=frame.index)], axis=1)
        tested = frame[parts == "test"]
        scorers = list(scores)

        def evaluated(rows: pd.DataFrame, resamples: int) -> Evaluation:
            return evaluate(
                rows, scorers, BASE_MAX_WINDOW.name, n_boot=resamples, seed=spec.seed, negatives=spec.negatives
            )

        evaluation = evaluated(tested, spec.bootstrap)
        summary = {
            "digest": digest_of_test(tested, prepared.loaded.dataset.name, spec.negatives),
            "negatives": list(spec.negatives),
            "rows": len(tested),
            "positives": int((tested["classification"] == SPLICE_ALTERING).sum()),
            "groups": int(tested["group"].nunique()),
        }
        by_fold = tested.groupby("fold") if "fold" in frame else ()
        folds = [evaluated(rows, 0).metrics.assign(fold=fold) for fold, rows in by_fold]
        evidence = gather_evidence(spec, prepared, tested, scorers, columns)
        task = evaluate_task(spec, prepared, columns)
        return RunEvaluation(frame, evaluation, summary, spread(folds), task, evidence, tuple(computed), tuple(notes))


def _baselines(spec: ExperimentSpec, prepared: Prepared) -> tuple[dict[Scorer, Scores], list[str], list[str]]:
    """The baselines, names of those that were computed now, and what had to be left out."""
    computed: list[str] = []
    notes: list[str] = []
    table, windows = prepared.table, prepared.windows
    settings: dict[str, Any] = {"annotation": prepared.loaded.annotation, "negatives": spec.negatives}

    def with_windows(rows: Rows) -> tuple[pd.DataFrame, Windows]:
        return table.iloc[rows].reset_index(drop=True), Windows(windows.ref[rows], windows.alt[rows])

    def position(train: Rows, rows: Rows) -> Scores:
        return position_only(table.iloc[train], table.iloc[rows], spec.seed, **settings)

    def kmers(train: Rows, rows: Rows) -> Scores:
        return kmers_and_position(with_windows(train), with_windows(rows), spec.seed, **settings)

    def source(train: Rows, rows: Rows) -> Scores:
        return assay_source(table.iloc[train], table.iloc[rows], negatives=spec.negatives)

    scores: dict[Scorer, Scores] = {}
    try:
        scores[POSITION] = _out_of_fold(spec, prepared, POSITION, computed, position)
    except MissingPackageError as error:
        notes.append(f"{POSITION.name} left out: {error}")
    scores[KMERS_AND_POSITION] = _out_of_fold(spec, prepared, KMERS_AND_POSITION, computed, kmers)
    scores |= _base_scorers(prepared)
    if len(table[["source", "method"]].drop_duplicates()) > 1:
        scores[ASSAY_SOURCE] = _out_of_fold(spec, prepared, ASSAY_SOURCE, computed, source)
    return scores, computed, notes


def _base_scorers(prepared: Prepared) -> dict[Scorer, Scores]:
    """Both readings of every base network; those of the row's own stand first, under the names all rows share."""
    found: dict[Scorer, Scores] = {}
    for place, (base, scores, _) in enumerate(prepared.networks):
        for scorer, values in (
            (BASE_MAX_WINDOW, signed_scores(max_window(scores))),
            (BASE_OWN_SITE, signed_scores(own_site(scores, prepared.table))),
        ):
            name = scorer.name if place == 0 else scorer.name.replace("base", base.name, 1)
            note = scorer.note.replace("the base network", f"{base.name} ({base.size} networks)")
            found[replace(scorer, name=name, note=note)] = values
    return found


def _out_of_fold(
    spec: ExperimentSpec,
    prepared: Prepared,
    scorer: Scorer,
    computed: list[str],
    learn: Callable[[Rows, Rows], Scores],
) -> Scores:
    """A baseline that learns: every row is scored by what was learned on the other parts of the split that tests it;
    rows that no split tests by the first one. Computed once for all rows that share a test, and its name then added to
    `computed`."""

    def compute() -> dict[str, list[float]]:
        computed.append(scorer.name)
        score = np.full(len(prepared.table), np.nan)
        tested_in = prepared.tested_in
        for number, split in enumerate(prepared.splits):
            rows = np.flatnonzero((tested_in == number) | ((tested_in < 0) & (number == 0)))
            if len(rows):
                seen = np.union1d(split.indices("train"), split.indices("validation"))
                score[rows] = learn(seen, rows).score
        return {"score": score.tolist()}

    variants, data = prepared.table["variant_id"].tolist(), (prepared.loaded.digest, prepared.split_digest)
    depends_on = (scorer.name, code_version(), *data, variants, spec.negatives, spec.window, spec.seed)
    return unsigned(np.array(cached_json("baselines", depends_on, compute)["score"], dtype=np.float64))


def spread(folds: list[pd.DataFrame]) -> list[dict[str, Any]]:
    """Each headline metric of each scorer over the folds: values, weighted mean, standard deviation.

    Args:
        folds: the tidy metrics of each fold's own test part. A fold counts as many times as it has rows for the
            metric; a fold in which the metric is undefined (one class only) is left out and not counted in `folds`.
    """
    if not folds:
        return []
    metrics = pd.concat(folds)
    metrics = metrics[metrics["metric"].isin(HEADLINES)]
    found = []
    for (scorer, metric), rows in metrics.groupby(["scorer", "metric"], sort=False):
        known = rows[rows["estimate"].notna()]
        about = {"scorer": scorer, "metric": metric, "folds": len(known)}
        mean = float(np.average(known["estimate"], weights=known["n"].astype(float))) if len(known) else None
        sd = float(known["estimate"].std(ddof=1)) if len(known) > 1 else None
        values = {str(int(fold)): value for fold, value in zip(known["fold"], known["estimate"], strict=True)}
        found.append({**about, "mean": mean, "sd": sd, "values": values})
    return found


def _learned_scorer(spec: ExperimentSpec, model: dict[str, Any]) -> Scorer:
    if spec.fusion is not None:
        words = " and k-mers" if spec.fusion.words else ""
        fused = ", ".join([*model["networks"], *model["scores"]])
        return Scorer(spec.id, "learned", f"fusion of {fused} with position{words}", "probability")
    what = model["predictor"] if spec.ensemble else f"{spec.encoder.name} with {spec.head.name}, {spec.window} nt"
    note = f"{what}, {model['parameters']:,} parameters, weights {model['weights']}"
    return Scorer(spec.id, "learned", note, SCALES[spec.target])
