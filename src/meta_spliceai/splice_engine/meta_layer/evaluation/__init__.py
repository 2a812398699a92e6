"""Evaluation: metrics with intervals, baselines, paired differences, and what they mean in words."""

from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import Metric, OperatingPoints
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import (
    Evaluation,
    Scorer,
    Scores,
    Verdict,
    predictions_frame,
    scores_from_delta,
    signed_scores,
    target_magnitude,
    unsigned,
)

__all__ = [
    "Evaluation",
    "Metric",
    "OperatingPoints",
    "Scorer",
    "Scores",
    "Verdict",
    "evaluate",
    "predictions_frame",
    "scores_from_delta",
    "signed_scores",
    "target_magnitude",
    "unsigned",
]
