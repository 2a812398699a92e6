"""A row in miniature, to see that it runs: a few variants, one base network, tiny sizes, one epoch. Never a result."""

from __future__ import annotations

from typing import Any

from meta_spliceai.experiments.run.packaged_network import travel_with_package
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.splice_engine.meta_layer.fusion_config import BoostingConfig
from meta_spliceai.splice_engine.meta_layer.settings import TRUNK

ROWS = 96
MOST_ROWS = 8 * ROWS
"""Variants that are drawn at first, from every chromosome in turn, and at most: a draw is doubled for as long as some
part of the split would lack a class (see `prepare.rows_and_splits`)."""

WINDOW = 101
HIDDEN = 8
SMALL_TREES = {"most_trees": 10, "learning_rate": 0.3, "leaves": 4, "fewest_in_leaf": 5, "folds": 2, "seeds": 1}

NOTE = (
    f"a smoke run: a few variants, one base network where scores must be computed, windows of at most {WINDOW} bases, "
    "tiny sizes, one epoch, random initial weights, where nothing else was asked for; it shows that the row runs and "
    "says nothing about its model"
)

SCRATCH_NOTE = "a smoke run: the encoder {encoder} has random weights (weights=scratch) in place of the published ones"


def smoke_notes(spec: ExperimentSpec) -> tuple[str, ...]:
    """What a reader of a smoke run's result must know."""
    random = spec.procedure in ("single", "cross-validation") and spec.encoder.settings.get("weights") == "scratch"
    return (NOTE, SCRATCH_NOTE.format(encoder=spec.encoder.name)) if random else (NOTE,)


def as_smoke(spec: ExperimentSpec) -> ExperimentSpec:
    """The row with everything small; encoder, head, target and split stay what they are.

    A pretrained encoder keeps its architecture and gets random weights, because a smoke run downloads nothing.
    """
    settings: dict[str, Any] = {**spec.encoder.settings, "hidden_dim": HIDDEN}
    if spec.encoder.name.startswith("hyenadna"):
        settings["weights"] = "scratch"
    elif spec.encoder.name.endswith(TRUNK):
        settings["members"] = 1
    else:
        settings.pop("layers", None)
    fusion = spec.fusion
    if fusion is not None:
        trees = BoostingConfig.from_mapping(SMALL_TREES)
        fusion = fusion.model_copy(
            update={
                "beside": tuple(network.model_copy(update={"members": (0,)}) for network in fusion.beside),
                "settings": fusion.settings.model_copy(update={"trees": trees}),
            }
        )
    small = {
        "smoke": True,
        "data": spec.data.model_copy(update={"rows": ROWS, "labelled_only": True, "balanced": True}),
        "base": spec.base if travel_with_package(spec) else spec.base.model_copy(update={"members": (0,)}),
        "window": min(spec.window, WINDOW),
        "encoder": spec.encoder.model_copy(update={"settings": settings}),
        "training": spec.training.model_copy(
            update={"epochs": 1, "batch_size": 16, "accumulate": 1, "patience": 0, "precision": "float32"}
        ),
        "bootstrap": 20,
        "evidence": "none",
        "fusion": fusion,
    }
    return spec.model_copy(update=small)
