"""A finished run applied to new variants: answers by name, a calibrated probability, and the model's card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.procedures import FOLDS, MODEL
from meta_spliceai.experiments.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.genome.source import SequenceSource
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import Calibration, fit_calibration
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import binary_labels
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.training import predict
from meta_spliceai.splice_engine.variants.allele_check import MISMATCH, NO_CONTIG, NO_SEQUENCE, check_reference
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.windows import build_windows

FEWEST_TO_CALIBRATE = 20
"""Labelled rows on which a calibration is fitted at least."""


@dataclass(frozen=True)
class Answered:
    """What a run says of new variants.

    Attributes:
        table: every allele of the input in its order; for those that could be predicted the run's columns.
        coverage: alleles read, predicted, and each reason for the others.
        card: what the model is: row, training data, split, metrics, licences, calibration.
    """

    table: pd.DataFrame
    coverage: Coverage
    card: dict[str, Any]


def predict_new(
    run: RunDirectory,
    workspace: Workspace,
    alleles: pd.DataFrame,
    variants: pd.DataFrame,
    genome: SequenceSource,
    device: str = "auto",
) -> Answered:
    """Apply a finished run.

    The probability is the run's score, calibrated on rows the model was not trained on: the validation part, or, for a
    cross-validation, all out-of-fold rows. A run whose head gives no score gives no probability.

    Args:
        run: a finished run.
        workspace: where the members of an ensemble are.
        alleles, variants: from `read_variants`.
        genome: of the variants' build.
        device: "auto", "cpu" or "cuda".

    Raises:
        RunError: the run is not finished, or is a smoke run.
        InputError: no variant is usable, or the reference alleles say that the build is another.
    """
    if run.state() != "finished":
        raise RunError(f"run {run.name} is {run.state()}; only a finished run can predict")
    if run.record().get("smoke"):
        raise RunError(f"run {run.name} is a smoke run and predicts nothing; run the row without --smoke")
    coverage = Coverage(len(alleles))
    for reason, rows in alleles[alleles["reason"] != ""].groupby("reason"):
        coverage.leave_out(str(reason), [_words(alleles, row) for row in rows.index])
    table = alleles.copy()
    if variants.empty:
        raise InputError(f"none of {len(alleles)} alleles can be used: {', '.join(coverage.left_out)}")
    checked, account = check_reference(variants, genome)
    coverage = coverage.then(account)
    lost = sorted(set(variants["row"]) - set(checked["row"]))
    table.loc[lost, "reason"] = f"{MISMATCH}, {NO_CONTIG} or {NO_SEQUENCE}"
    if len(checked):
        columns = _answers(run, workspace, checked, genome, device)
        calibration, calibrated_on = _calibration(run)
        if calibration is not None and "score" in columns:
            table.loc[checked["row"], "p_altering"] = calibration.apply(columns["score"].astype(np.float64))
        for name, values in columns.items():
            table.loc[checked["row"], name] = values
    else:
        calibrated_on = "nothing: no allele was predicted"
    return Answered(table, coverage, model_card(run, calibrated_on))


def model_card(run: RunDirectory, calibrated_on: str) -> dict[str, Any]:
    """What a user of the predictions must know about the run they come from."""
    record, data = run.record(), run.data()
    return {
        "run": run.name,
        "title": record["title"],
        "model": record["model"],
        "training_data": {name: data[name] for name in ("data_set", "title", "digest", "licence", "citation")},
        "split": {name: data["split"][name] for name in ("name", "digest", "description")},
        "probability_calibrated_on": calibrated_on,
        "verdicts": record["verdicts"],
        "metrics": [metric for metric in run.metrics()["metrics"] if metric["kind"] == "learned"],
        "notes": record["notes"],
        "licences": record["licences"],
        "code": record["code"],
        "stale": run.stale(),
    }


def _words(alleles: pd.DataFrame, row: int) -> str:
    allele = alleles.loc[row]
    return f"row {row + 1}: {allele['chrom']}:{allele['pos']} {allele['ref']}>{allele['alt']}"


def _answers(
    run: RunDirectory, workspace: Workspace, variants: pd.DataFrame, genome: SequenceSource, device: str
) -> dict[str, Float32[np.ndarray, " n"]]:
    """The run's columns for new variants; folds are averaged, members weighed as in the run."""
    spec = run.spec()
    if spec.ensemble is not None:
        model = run.record()["model"]
        members = [workspace.find(name) for name in model["members"]]
        weights = [model["member_weights"][member.row_id] for member in members]
        each = [_raw(member.path / MODEL, member.spec().window, variants, genome, device) for member in members]
        predictor = Predictor.from_pretrained(members[0].path / MODEL)
        return predictor.columns(np.tensordot(weights, np.stack(each), axes=1).astype(np.float32))
    folders = [run.path / MODEL]
    if spec.split.folds is not None:
        folders = sorted(folder / MODEL for folder in (run.path / FOLDS).iterdir())
    each = [_raw(folder, spec.window, variants, genome, device) for folder in folders]
    return Predictor.from_pretrained(folders[0]).columns(np.mean(each, axis=0).astype(np.float32))


def _raw(
    folder: Any, window: int, variants: pd.DataFrame, genome: SequenceSource, device: str
) -> Float32[np.ndarray, "n outputs"]:
    return predict(Predictor.from_pretrained(folder), build_windows(variants, genome, window), device)


def _calibration(run: RunDirectory) -> tuple[Calibration | None, str]:
    """The calibration of the run's own score, and on what it was fitted, in words."""
    frame = run.read_predictions()
    column = f"{run.row_id}.score"
    if column not in frame:
        return None, "nothing: this head gives no score"
    held = frame[frame["part"] == ("test" if "fold" in frame else "validation")]
    labels = binary_labels(held)
    known = np.isfinite(labels)
    if known.sum() < FEWEST_TO_CALIBRATE or len(set(labels[known])) < 2:
        return None, f"nothing: only {int(known.sum())} labelled rows outside training"
    what = "out-of-fold rows" if "fold" in frame else "the validation part"
    found = fit_calibration(held[column].to_numpy(dtype=np.float64)[known], labels[known], "isotonic")
    return found, f"{int(known.sum())} labelled variants of {what}, isotonic"
