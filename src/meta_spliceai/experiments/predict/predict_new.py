"""A finished run applied to new variants: predictions by name, a calibrated probability, and the model's card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.run.prepare import trunk_reader
from meta_spliceai.experiments.run.procedures import features_of, fusion_columns, predict_fusion
from meta_spliceai.experiments.store.workspace import FOLDS, MODEL, RunDirectory, Workspace
from meta_spliceai.splice_engine.base_layer.cache import ScoreCache
from meta_spliceai.splice_engine.base_layer.channels import CHANNELS
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.reductions import max_window, own_site
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.source import SequenceSource
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import Calibration, fit_calibration
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import binary_labels
from meta_spliceai.splice_engine.meta_layer.fusion import Fusion
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.targets import base_effect_type
from meta_spliceai.splice_engine.meta_layer.trunk_config import TrunkConfig
from meta_spliceai.splice_engine.meta_layer.trunk_features import TrunkWindows
from meta_spliceai.splice_engine.meta_layer.window_data import choose_device
from meta_spliceai.splice_engine.variants.allele_check import compare_reference
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.tested_exon import find_tested_exon
from meta_spliceai.splice_engine.variants.windows import Windows, build_windows

OWN_FOLDS = "the training rows, by models that had not seen their gene (the fusion's own folds)"
FEWEST_TO_CALIBRATE = 200
"""Labelled rows of either side on which a calibration is fitted at least; with fewer the raw score is all there is."""


@dataclass(frozen=True)
class NewVariants:
    """Variants to be predicted, and where their bases and genes are found.

    Attributes:
        alleles, variants: from `read_variants`.
        genome: of the variants' build.
        annotation: genes, for the tested exon of variants that do not say acceptor_pos and donor_pos.
        device: "auto", "cpu" or "cuda".
    """

    alleles: pd.DataFrame
    variants: pd.DataFrame
    genome: SequenceSource
    annotation: GeneAnnotation | None = None
    device: str = "auto"

    def checked(self) -> tuple[pd.DataFrame, Coverage, pd.DataFrame]:
        """All alleles with the reason why one cannot be predicted, the account of them, and the usable variants.

        Raises:
            InputError: no variant is usable, or the reference alleles say that the build is another.
        """
        coverage = Coverage(len(self.alleles))
        for reason, rows in self.alleles[self.alleles["reason"] != ""].groupby("reason"):
            coverage.leave_out(str(reason), [_in_words(self.alleles, row) for row in rows.index])
        if self.variants.empty:
            raise InputError(f"none of {len(self.alleles)} alleles can be used: {', '.join(coverage.left_out)}")
        reasons, account = compare_reference(self.variants, self.genome, [row + 1 for row in self.variants["row"]])
        table = self.alleles.copy()
        table.loc[self.variants["row"], "reason"] = reasons
        return table, coverage.then(account), self.variants[reasons == ""].reset_index(drop=True)

    def windows(self, variants: pd.DataFrame, length: int, trunk: TrunkConfig | None) -> Windows:
        """Windows of some variants, with a base network's hidden channels for a model that reads those."""
        windows = build_windows(variants, self.genome, length)
        if trunk is None:
            return windows
        reader = trunk_reader(trunk, variants, self.genome, self.annotation, str(choose_device(self.device)))
        return TrunkWindows.joined(windows, reader.read())


@dataclass(frozen=True)
class Predicted:
    """What a run says of new variants.

    Attributes:
        table: every allele of the input in its order; for those that could be predicted the run's columns.
        coverage: alleles read, predicted, and each reason for the others.
        card: what the model is: row, training data, split, metrics, licences, calibration.
    """

    table: pd.DataFrame
    coverage: Coverage
    card: dict[str, Any]


def predict_new(run: RunDirectory, workspace: Workspace, new: NewVariants) -> Predicted:
    """Apply a finished run.

    The probability is the run's score, calibrated on rows the model was not trained on: the validation part, or, for a
    cross-validation, all out-of-fold rows. A run whose head gives no score gives no probability. A fusion states a
    calibrated probability itself; its base networks score the variants first, and their Δ stand beside it. What a run
    reads of a base network's hidden channels is computed for the variants in the same way as for its own.

    Args:
        run: a finished run.
        workspace: where the members of an ensemble are.
        new: the variants; a fusion, and a model that reads hidden channels, need genes, or the columns acceptor_pos
            and donor_pos, to know the tested exon.

    Raises:
        RunError: the run is not finished, or is a smoke run.
        InputError: no variant is usable, or the reference alleles say that the build is another; a fusion without
            genes.
    """
    if run.state() != "finished":
        raise RunError(f"run {run.name} is {run.state()}; only a finished run can predict")
    if run.record().get("smoke"):
        raise RunError(f"run {run.name} is a smoke run and predicts nothing; run the row without --smoke")
    table, coverage, checked = new.checked()
    if len(checked):
        if run.spec().fusion is not None:
            predictions = _fused(run, new, checked)
            table.loc[checked["row"], "p_altering"] = predictions["score"].astype(np.float64)
            calibrated_on = OWN_FOLDS
        else:
            predictions = _predictions(run, workspace, new, checked)
            calibration, calibrated_on = _calibration(run)
            if calibration is not None and "score" in predictions:
                table.loc[checked["row"], "p_altering"] = calibration.apply(predictions["score"].astype(np.float64))
        for name, values in predictions.items():
            table.loc[checked["row"], name] = values
    else:
        calibrated_on = "nothing: no allele was predicted"
    return Predicted(table, coverage, model_card(run, calibrated_on))


def _fused(run: RunDirectory, new: NewVariants, variants: pd.DataFrame) -> dict[str, np.ndarray]:
    """Base scores, then the fusion (the mean over folds), then each network's Δ and kind of effect by name."""
    spec = run.spec()
    with_exon = _with_known_exon(run, variants, new.annotation)
    device = str(choose_device(new.device))
    bases = [load_base_model(one.name, device=device, members=one.members) for one in spec.networks]
    scores = tuple(
        score_variants(
            with_exon,
            new.genome,
            base,
            spec.base.distance,
            annotation=new.annotation,
            cache=ScoreCache.default(),
            precision=spec.base.precision,
        )
        for base in bases
    )
    windows = new.windows(with_exon, spec.window, spec.trunk)
    features = features_of(spec, with_exon, scores, windows, new.annotation)
    folders = [run.path / MODEL]
    if spec.split.folds is not None:
        folders = sorted(folder / MODEL for folder in (run.path / FOLDS).iterdir())
    each = [predict_fusion(Fusion.load(folder), features) for folder in folders]
    found: dict[str, np.ndarray] = dict(fusion_columns(np.mean(each, axis=0).astype(np.float32)))
    for one in scores:
        found[f"{one.model}.delta_max_window"] = max_window(one)
        found[f"{one.model}.delta_own_site"] = own_site(one, with_exon)
        if one.channels == CHANNELS:  # networks that do not tell acceptors from donors name no kind of effect
            found[f"{one.model}.effect_type"] = np.array(base_effect_type(one.delta), dtype=object)
    return found


def _with_known_exon(run: RunDirectory, variants: pd.DataFrame, annotation: GeneAnnotation | None) -> pd.DataFrame:
    """The variants with their exon's sites, for a run that reads those.

    Raises:
        InputError: some variants do not say where they are, and there are no genes.
    """
    known = variants[["acceptor_pos", "donor_pos"]].notna().any(axis=1)
    if annotation is None and not known.all():
        raise InputError(
            f"run {run.name} reads where in its exon a variant stands, which {int((~known).sum())} of {len(variants)} "
            "variants do not say: give genes with --annotation, or columns acceptor_pos and donor_pos"
        )
    return with_tested_exon(variants, annotation)


def with_tested_exon(variants: pd.DataFrame, annotation: GeneAnnotation | None) -> pd.DataFrame:
    """The variants with their exon's sites and gene, as far as the genes tell them and the table does not."""
    table = variants.reset_index(drop=True)
    if annotation is None:
        return table
    table = table.copy()
    for place, row in table.iterrows():
        exon = find_tested_exon(annotation, row["chrom"], int(row["pos"]), row["gene"])
        if isinstance(exon, str):
            continue
        if pd.isna(row["acceptor_pos"]) and pd.isna(row["donor_pos"]):
            table.loc[place, "acceptor_pos"] = pd.NA if exon.acceptor is None else exon.acceptor
            table.loc[place, "donor_pos"] = pd.NA if exon.donor is None else exon.donor
        if not row["gene"]:
            table.loc[place, "gene"] = exon.gene.name
    return table


def model_card(run: RunDirectory, calibrated_on: str) -> dict[str, Any]:
    """What a user of the predictions must know about the run they come from."""
    record, data = run.record(), run.data()
    notes = list(record["notes"])
    if "context" in data["options"] and data["options"]["context"] != "genome":
        notes.append(
            f"trained on {data['data_set']} in its {data['options']['context']}s, where networks saw nothing around "
            "those; on the genome they see what stands there, so that a variant's Δ may be another than in training"
        )
    return {
        "run": run.name,
        "title": record["title"],
        "model": record["model"],
        "training_data": {name: data[name] for name in ("data_set", "title", "digest", "licence", "citation")},
        "context": dict(data["options"]),
        "negatives": data.get("negatives"),
        "base_networks": [data["base"], *data.get("beside", [])],
        "split": {name: data["split"][name] for name in ("name", "digest", "description")},
        "probability_calibrated_on": calibrated_on,
        "verdicts": record["verdicts"],
        "metrics": [metric for metric in run.metrics()["metrics"] if metric["kind"] == "learned"],
        "notes": notes,
        "licences": record["licences"],
        "code": record["code"],
        "stale": run.stale(),
    }


def _in_words(alleles: pd.DataFrame, row: int) -> str:
    allele = alleles.loc[row]
    return f"row {row + 1}: {allele['chrom']}:{allele['pos']} {allele['ref']}>{allele['alt']}"


def _predictions(
    run: RunDirectory, workspace: Workspace, new: NewVariants, variants: pd.DataFrame
) -> dict[str, Float32[np.ndarray, " n"]]:
    """The run's columns for new variants; folds are averaged, members weighed as in the run."""
    spec = run.spec()
    if spec.ensemble is not None:
        model = run.record()["model"]
        members = [workspace.find(name) for name in model["members"]]
        weights = [model["member_weights"][member.row_id] for member in members]
        each = [_raw(one, [one.path / MODEL], new, variants)[0] for one in members]
        predictor = Predictor.from_pretrained(members[0].path / MODEL)
        return predictor.columns(np.tensordot(weights, np.stack(each), axes=1).astype(np.float32))
    folders = [run.path / MODEL]
    if spec.split.folds is not None:
        folders = sorted(folder / MODEL for folder in (run.path / FOLDS).iterdir())
    each = _raw(run, folders, new, variants)
    return Predictor.from_pretrained(folders[0]).columns(np.mean(each, axis=0).astype(np.float32))


def _raw(
    run: RunDirectory, folders: Sequence[Path], new: NewVariants, variants: pd.DataFrame
) -> list[Float32[np.ndarray, "n outputs"]]:
    """What each of a run's models says of new variants."""
    spec = run.spec()
    if spec.trunk is not None:
        variants = _with_known_exon(run, variants, new.annotation)
    windows = new.windows(variants, spec.window, spec.trunk)
    return [predict(Predictor.from_pretrained(folder), windows, new.device) for folder in folders]


def _calibration(run: RunDirectory) -> tuple[Calibration | None, str]:
    """The calibration of the run's own score, and on what it was fitted, in words."""
    frame = run.read_predictions()
    column = f"{run.row_id}.score"
    if column not in frame:
        return None, "nothing: this head gives no score"
    held = frame[frame["part"] == ("test" if "fold" in frame else "validation")]
    labels = binary_labels(held, run.spec().negatives)
    known = np.isfinite(labels)
    fewest = min(int((labels == side).sum()) for side in (0, 1))
    if fewest < FEWEST_TO_CALIBRATE:
        return None, (
            f"nothing: {fewest} labelled rows of one side outside training, fewer than {FEWEST_TO_CALIBRATE}; the "
            "score is raw and no probability"
        )
    what = "out-of-fold rows" if "fold" in frame else "the validation part"
    found = fit_calibration(held[column].to_numpy(dtype=np.float64)[known], labels[known], "isotonic")
    least = 1 / (int(known.sum()) + 2)  # as many rows cannot tell a smaller probability from 0
    bounded = Calibration(found.method, found.x, np.clip(found.y, least, 1 - least))
    return bounded, f"{int(known.sum())} labelled variants of {what}, isotonic"
