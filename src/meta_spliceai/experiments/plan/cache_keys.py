"""Which intermediate results a row leaves in caches, and which of those other rows left it finds there."""

from __future__ import annotations

from typing import NamedTuple

from meta_spliceai.experiments.plan.demand import is_frozen
from meta_spliceai.experiments.spec import ExperimentSpec


class CacheKeys(NamedTuple):
    """What a row leaves in caches, as keys: rows with the same key find it there. Empty for nothing.

    Attributes:
        scores: base scores.
        baselines: baselines that learn (see `judge`); other code does not find them.
        features: a frozen encoder's features.
    """

    scores: str
    baselines: str
    features: str


def cache_keys(spec: ExperimentSpec, rows: int) -> CacheKeys:
    """Under what a row's intermediate results are found again.

    Args:
        spec: the row.
        rows: variants it draws; rows that ask for more than there are draw the same ones.
    """
    networks = getattr(spec, "networks", (spec.base,))
    data = spec.data.model_copy(update={"rows": None}).model_dump_json()
    scores = f"scores of {rows} {data} {' '.join(base.model_dump_json() for base in networks)}"
    zero = f"baselines of {rows} {data} {spec.split.model_dump_json()} {spec.negatives} {spec.window} {spec.seed}"
    if spec.trunk is not None:
        of = "" if spec.data.rows is None else spec.seed
        return CacheKeys(scores, zero, f"trunk of {rows} {data} {spec.trunk.model_dump_json()} {of}")
    if not is_frozen(spec):
        return CacheKeys(scores, zero, "")
    # The seed draws the variants, where not all are taken, and random weights.
    drawn = spec.data.rows is not None or spec.encoder.settings.get("weights") == "scratch"
    seed = spec.seed if drawn else ""
    return CacheKeys(scores, zero, f"features of {rows} {data} {spec.window} {spec.encoder.model_dump_json()} {seed}")
