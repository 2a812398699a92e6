"""Apply a finished run to new variants: named predictions, a calibrated probability, and the model's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float32

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.predict.read_variants import NO_STRAND, OTHER_GENE
from meta_spliceai.experiments.run.fuse import SCORE, features_of, fusion_columns, predict_fusion
from meta_spliceai.experiments.store.workspace import FOLDS, MODEL, RunDirectory, Workspace
from meta_spliceai.files import cache_dir
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.scores import CHANNELS, ScoreCache, max_window, own_site
from meta_spliceai.splice_engine.base_layer.scoring import Computation, score_variants
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import SequenceSource
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import Calibration, fit_calibration
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import binary_labels
from meta_spliceai.splice_engine.meta_layer.features import choose_device
from meta_spliceai.splice_engine.meta_layer.fusion import Fusion
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.prediction import EMBEDDINGS, TrunkReader, TrunkWindows, predict
from meta_spliceai.splice_engine.meta_layer.settings import TrunkConfig
from meta_spliceai.splice_engine.meta_layer.targets import base_effect_type
from meta_spliceai.splice_engine.variants.alleles import compare_reference
from meta_spliceai.splice_engine.variants.external_scores import ScoreFile, ScoresInParts, require_scores
from meta_spliceai.splice_engine.variants.table import Coverage, Windows, build_windows

OWN_FOLDS = "the training rows, by models that had not seen their gene (the fusion's own folds)"
FEWEST_TO_CALIBRATE = 200
"""Labelled rows of either side on which a calibration is fitted at least; with fewer the raw score is all there is."""


@dataclass(frozen=True)
class NewVariants:
    """Variants to be predicted, and where their bases and genes are found.

    Attributes:
        alleles, variants: from `alleles_of`.
        annotation: genes, for the tested exon of variants that do not say acceptor_pos and donor_pos.
        cache: where base scores are looked for and kept; None: they are computed.
    """

    alleles: pd.DataFrame
    variants: pd.DataFrame
    genome: SequenceSource
    annotation: GeneAnnotation | None = None
    device: str = "auto"
    cache: ScoreCache | None = field(default_factory=ScoreCache.default)

    def checked(self) -> tuple[pd.DataFrame, Coverage, pd.DataFrame]:
        """All alleles with the reason why one cannot be predicted, the account of them, and the usable variants."""
        coverage = Coverage(len(self.alleles))
        for reason, rows in self.alleles[self.alleles["reason"] != ""].groupby("reason"):
            coverage.leave_out(str(reason), [_in_words(self.alleles, row) for row in rows.index])
        table = self.alleles.copy()
        reasons, account = compare_reference(self.variants, self.genome, [row + 1 for row in self.variants["row"]])
        table.loc[self.variants["row"], "reason"] = reasons
        return table, coverage.then(account), self.variants[reasons == ""].reset_index(drop=True)

    def windows(self, variants: pd.DataFrame, length: int, trunk: TrunkConfig | None) -> Windows:
        """Windows of some variants, with a base network's hidden channels for a model that reads those."""
        windows = build_windows(variants, self.genome, length)
        if trunk is None:
            return windows
        kept, on = cache_dir() / EMBEDDINGS, str(choose_device(self.device))
        reader = TrunkReader(trunk, variants, self.genome, self.annotation, kept, on)
        return TrunkWindows.joined(windows, reader.read())


@dataclass(frozen=True)
class Predicted:
    """A model's predictions for new variants.

    Attributes:
        table: every allele of the input in its order, and the model's columns, empty where it could not be predicted.
        coverage: alleles read, predicted, and each reason for the others.
        card: what the model is: row, training data, split, metrics, licences, calibration.
        scored: by other tools' names, predicted alleles that their files have a score for.
    """

    table: pd.DataFrame
    coverage: Coverage
    card: dict[str, Any]
    scored: dict[str, int]


class Model(Protocol):
    """What predicts: a finished run, or a predictor of the package, opened once for any number of blocks.

    Attributes:
        card: what it is.
        columns: what it says of a variant, by name: `str` or `float`.
        tools: other tools whose scores it reads; each has a column NAME.score.
    """

    card: dict[str, Any]
    columns: dict[str, type]
    tools: tuple[str, ...]

    def values(self, new: NewVariants, variants: pd.DataFrame) -> Mapping[str, Any]:
        """Its columns for usable variants."""


def predict_block(model: Model, new: NewVariants) -> Predicted:
    """A model's predictions for some variants; ends where the reference alleles say that the build is another."""
    table, coverage, checked = new.checked()
    values = model.values(new, checked) if len(checked) else {}
    table = table.assign(**{name: None if kind is str else np.nan for name, kind in model.columns.items()})
    for name, found in values.items():
        table.loc[checked["row"], name] = found
    scored = {name: int(table[f"{name}.score"].notna().sum()) for name in model.tools}
    return Predicted(table, coverage, model.card, scored)


def predict_all(model: Model, new: NewVariants) -> Predicted:
    """As `predict_block`, of all variants that there are."""
    predicted = predict_block(model, new)
    require_genes(predicted.coverage.read, predicted.coverage.left_out)
    require_scores(predicted.scored, predicted.coverage.used)
    return predicted


def require_free(columns: Sequence[str], model: Model, where: str) -> None:
    """Refuse a table that has a column of a name that is added to it."""
    if taken := [name for name in columns if name in ("reason", *model.columns)]:
        raise InputError(f"{where}: column {', '.join(taken)} has the name of one that is added; rename it")


def require_genes(alleles: int, left_out: Mapping[str, int]) -> None:
    """Refuse an input without a single usable variant where genes are not given, or are of other names: the user can
    mend that. Where there are other reasons alone, they are the result."""
    if alleles == sum(left_out.values()) and not left_out.keys().isdisjoint((NO_STRAND, OTHER_GENE)):
        hint = "; leave the column gene out, or give genes of these names" if OTHER_GENE in left_out else ""
        raise InputError(f"none of {alleles} alleles can be used: {', '.join(left_out)}{hint}")


class RunModel:
    """A finished run.

    The probability is the run's score, calibrated on rows the model was not trained on: the validation part, or, for a
    cross-validation, all out-of-fold rows. A run whose head gives no score gives no probability. A fusion states a
    calibrated probability itself; its base networks score the variants first, and their Δ stand beside it. A fusion,
    and a model that reads hidden channels, need genes, or the columns acceptor_pos and donor_pos, to know the tested
    exon.

    Args:
        workspace: where the members of an ensemble are.
        device: "auto", "cpu" or "cuda".
        scores: other tools' files in place of those of the same name that the run learned from.
    """

    def __init__(
        self, run: RunDirectory, workspace: Workspace, device: str = "auto", scores: Sequence[ScoreFile] = ()
    ) -> None:
        if run.state() != "finished":
            raise RunError(f"run {run.name} is {run.state()}; only a finished run can predict")
        if run.record().get("smoke"):
            raise RunError(f"run {run.name} is a smoke run and predicts nothing; run the row without --smoke")
        self._run, self._spec = run, run.spec()
        self._fusions: list[Fusion] = []
        self._calibration: Calibration | None = None
        self._scores = _scores_of(run, scores)
        self.tools = tuple(one.file.name for one in self._scores)
        if self._spec.fusion is not None:
            on = str(choose_device(device))
            self._bases = [load_base_model(one.name, device=on, members=one.members) for one in self._spec.networks]
            self._fusions = [Fusion.load(folder) for folder in _models_of(run)]
            calibrated_on = OWN_FOLDS
            self.columns: dict[str, type] = dict.fromkeys(
                ("p_altering", *fusion_columns(np.zeros((0, 2), np.float32))), float
            )
            self.columns |= {f"{name}.score": float for name in self.tools}
            for base in self._bases:
                self.columns |= {f"{base.name}.delta_max_window": float, f"{base.name}.delta_own_site": float}
                if base.channels == CHANNELS:  # networks that do not tell acceptors from donors name no kind of effect
                    self.columns[f"{base.name}.effect_type"] = str
        else:
            self._members = _members_of(run, workspace)
            nothing = np.zeros((0, self._members[0].predictors[0].head.outputs), np.float32)
            named = self._members[0].predictors[0].columns(nothing)
            self._calibration, calibrated_on = _calibration(run)
            p = ("p_altering",) if self._calibration is not None and "score" in named else ()
            self.columns = dict.fromkeys((*p, *named), float)
        self.card = model_card(run, calibrated_on)
        if self._scores:
            self.card["scores"] = {
                one.name: {"file": one.path.name, "column": one.column, "bytes": one.path.stat().st_size}
                for one in (each.file for each in self._scores)
            }

    def values(self, new: NewVariants, variants: pd.DataFrame) -> Mapping[str, Any]:
        """The run's columns; folds are averaged, members weighed as in the run."""
        if self._fusions:
            return self._fused(new, variants)
        weights = [member.weight for member in self._members]
        mean = np.tensordot(weights, np.stack([one.predict(new, variants) for one in self._members]), axes=1)
        found = dict(self._members[0].predictors[0].columns(mean.astype(np.float32)))
        if "p_altering" in self.columns and self._calibration is not None:
            found["p_altering"] = self._calibration.apply(found["score"].astype(np.float64))
        return found

    def _fused(self, new: NewVariants, variants: pd.DataFrame) -> dict[str, Any]:
        """Base scores, then the fusion (the mean over folds), then other tools' scores and each network's Δ and kind of
        effect by name."""
        spec = self._spec
        _require_exons(self._run, variants, new.annotation)
        how = Computation(precision=spec.base.precision)
        scores = tuple(
            score_variants(
                variants, new.genome, base, spec.base.distance, annotation=new.annotation, cache=new.cache, how=how
            )
            for base in self._bases
        )
        features = features_of(spec, variants, scores, new.windows(variants, spec.window, spec.trunk), new.annotation)
        tools = {one.file.name: one.join(variants, "the input").score for one in self._scores}
        features = features.assign(**{f"{name}{SCORE}": score for name, score in tools.items()})
        mean = np.mean([predict_fusion(fusion, features) for fusion in self._fusions], axis=0)
        found: dict[str, Any] = dict(fusion_columns(mean.astype(np.float32)))
        found |= {f"{name}.score": score for name, score in tools.items()}
        found["p_altering"] = found["score"].astype(np.float64)
        for one in scores:
            found[f"{one.model}.delta_max_window"] = max_window(one)
            found[f"{one.model}.delta_own_site"] = own_site(one, variants)
            if one.channels == CHANNELS:
                found[f"{one.model}.effect_type"] = np.array(base_effect_type(one.delta), dtype=object)
        return found


def _scores_of(run: RunDirectory, given: Sequence[ScoreFile]) -> list[ScoresInParts]:
    """The files of the other tools that a run reads: those given, and for the other tools its own."""
    fusion, by_name = run.spec().fusion, {file.name: file for file in given}
    texts = {text.partition("=")[0].strip(): text for text in (fusion.scores if fusion is not None else ())}
    if unknown := [name for name in by_name if name not in texts]:
        reads = f"reads those of {', '.join(texts)}" if texts else "reads no other tool's scores"
        raise InputError(f"--scores {unknown[0]}: run {run.name} {reads}")
    return [ScoresInParts(by_name.get(name) or ScoreFile.parse(text)) for name, text in texts.items()]


@dataclass(frozen=True)
class _Member:
    """A run with its predictors (one a fold, whose mean counts), and its weight in an ensemble."""

    run: RunDirectory
    predictors: list[Predictor]
    weight: float

    def predict(self, new: NewVariants, variants: pd.DataFrame) -> Float32[np.ndarray, "n outputs"]:
        spec = self.run.spec()
        if spec.trunk is not None:
            _require_exons(self.run, variants, new.annotation)
        windows = new.windows(variants, spec.window, spec.trunk)
        return np.mean([predict(one, windows, new.device) for one in self.predictors], axis=0)


def _members_of(run: RunDirectory, workspace: Workspace) -> list[_Member]:
    if run.spec().ensemble is None:
        return [_Member(run, [Predictor.from_pretrained(folder) for folder in _models_of(run)], 1.0)]
    model = run.record()["model"]
    found = [workspace.find(name) for name in model["members"]]
    return [
        _Member(one, [Predictor.from_pretrained(one.path / MODEL)], model["member_weights"][one.row_id])
        for one in found
    ]


def _models_of(run: RunDirectory) -> list[Path]:
    """The folders of a run's models, one a fold."""
    if run.spec().split.folds is None:
        return [run.path / MODEL]
    return sorted(folder / MODEL for folder in (run.path / FOLDS).iterdir())


def _require_exons(run: RunDirectory, variants: pd.DataFrame, annotation: GeneAnnotation | None) -> None:
    """Refuse variants that do not say where in their exon they are, for a run that reads that."""
    known = variants[["acceptor_pos", "donor_pos"]].notna().any(axis=1)
    if annotation is None and not known.all():
        raise InputError(
            f"run {run.name} reads where in its exon a variant stands, which {int((~known).sum())} of {len(variants)} "
            "variants do not say: give genes with --annotation, or columns acceptor_pos and donor_pos"
        )


def model_card(run: RunDirectory, calibrated_on: str) -> dict[str, Any]:
    """What a user of the predictions must know about the run they come from."""
    record, data = run.record(), run.data()
    notes = list(record["notes"])
    if "context" in data["options"] and data["options"]["context"] != "genome":
        notes.append(
            f"trained on {data['data_set']} with context={data['options']['context']}: networks saw nothing around "
            "constructs; on the genome they see what stands there, so that a variant's Δ may differ from training"
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
