"""Apply a predictor of the package to new variants: a probability, its interval, and whether it is in-domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.datasets.human import human_annotation
from meta_spliceai.experiments.predict.predict_new import NewVariants, predict_all, require_free
from meta_spliceai.experiments.predict.read_variants import usable_alleles
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, max_window
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.human_genome import AUTO, check_annotation, human_genome, needed_genome
from meta_spliceai.splice_engine.genome.sequence import N_CODE, SequenceSource
from meta_spliceai.splice_engine.meta_layer.evaluation.position import position_features
from meta_spliceai.splice_engine.meta_layer.features import choose_device
from meta_spliceai.splice_engine.meta_layer.fusion_features import fusion_features
from meta_spliceai.splice_engine.meta_layer.shipped_predictor import (
    DEFAULT,
    LEAST_DELTA,
    LINEAR,
    OF_NETWORK,
    POSITION,
    ShippedPredictor,
    load_shipped,
)
from meta_spliceai.splice_engine.meta_layer.targets import base_effect_type

IN_DOMAIN = "in"


def predictor_features(
    table: pd.DataFrame, base: Sequence[BaseScores], annotation: GeneAnnotation | None = None
) -> pd.DataFrame:
    """What a predictor of the package reads: POSITION, and OF_NETWORK of each network, as `feature_names` calls
    them; NaN where an own site or an exon is not known."""
    found = fusion_features(table, base, annotation=annotation)
    features = {name: found[name] for name in POSITION}
    for scores in base:
        name = scores.model
        kept = np.clip(np.abs(max_window(scores)).astype(np.float64), LEAST_DELTA, 1 - LEAST_DELTA)
        odds = np.log(kept) - np.log1p(-kept)
        spread = sum(found[f"{name}: spread of log-odds {site}"] for site in ("acceptor", "donor"))
        made = {LINEAR[0]: odds, LINEAR[1]: np.maximum(odds + 3, 0), LINEAR[2]: np.log(spread + LEAST_DELTA)}
        for feature in OF_NETWORK:
            one = f"{name}: {feature}"
            features[one] = made[feature] if feature in made else found[one]
    return pd.DataFrame(features)


class ShippedModel:
    """A predictor of the package with its networks, to be applied.

    Columns: p_altering, p_low, p_high, in_domain ("in", or reasons joined by "&"), effect_type, effect_pos (bases from
    `pos` along the chromosome), both of the first network, and each network's delta_max_window.
    """

    tools: tuple[str, ...] = ()

    def __init__(self, predictor: ShippedPredictor, device: str = "auto") -> None:
        self._predictor = predictor
        on = str(choose_device(device))
        self._networks = [load_base_model(name, device=on, members=of) for name, of in predictor.networks.items()]
        self.card: dict[str, Any] = {"model": predictor.name, **predictor.card}
        deltas = [f"{network.name}.delta_max_window" for network in self._networks]
        numbers = ("p_altering", "p_low", "p_high", "effect_pos", *deltas)
        texts = {"in_domain": str, "effect_type": str}
        order = (*numbers[:3], *texts, *numbers[3:])
        self.columns: dict[str, type] = {name: texts.get(name, float) for name in order}

    def values(self, new: NewVariants, variants: pd.DataFrame) -> Mapping[str, Any]:
        """Its columns."""
        genes, predictor = new.annotation, self._predictor
        scores = [
            score_variants(variants, new.genome, network, predictor.distance, annotation=genes, cache=new.cache)
            for network in self._networks
        ]
        p, low, high = predictor.probability(predictor_features(variants, scores, genes))
        peak = np.abs(scores[0].delta[:, :, 1:]).max(axis=2).argmax(axis=1) - scores[0].distance
        return {
            "p_altering": p,
            "p_low": low,
            "p_high": high,
            "in_domain": _domain(predictor, variants, new.genome, genes),
            "effect_type": np.array(base_effect_type(scores[0].delta), dtype=object),
            "effect_pos": np.where(variants["strand"] == "-", -peak, peak),
            **{f"{one.model}.delta_max_window": max_window(one) for one in scores},
        }


class LoadedPredictor:
    """A predictor of the package with what it needs to be called on a table."""

    def __init__(self, shipped: ShippedPredictor) -> None:
        self.shipped = shipped

    def predict(
        self,
        table: pd.DataFrame,
        genome: SequenceSource | str | Path = "auto",
        annotation: GeneAnnotation | str | None = None,
        build: str = "GRCh38",
        device: str = "auto",
    ) -> pd.DataFrame:
        """One row per allele, in the table's order: its own columns, `reason` (why there is no prediction; else empty),
        p_altering, p_low, p_high, in_domain ("in", or how it differs from the training data), effect_type,
        effect_pos, and each network's delta_max_window.

        Args:
            table: chrom, pos (1-based), ref, alt on the plus strand; strand, gene, acceptor_pos, donor_pos if known.
            genome: of the build: a source, a FASTA file, "regions" or "auto".
            annotation: genes: "grch37", "grch38", a table or a GTF; by default the packaged table of the build.

        Raises:
            InputError: a column is missing or has the name of one that is added, an invalid position, or no variant
                is usable because no gene has the name given; genes and genome are of different builds.
        """
        genes = annotation if isinstance(annotation, GeneAnnotation) else human_annotation(build, annotation)
        if isinstance(genome, str | Path):
            genome = human_genome(build, needed_genome(build) if str(genome) == AUTO else genome)
        model = ShippedModel(self.shipped, device)
        require_free(list(table), model, "table")
        check_annotation(genes, genome)
        alleles, variants = usable_alleles(table, genes, "table")
        found = predict_all(model, NewVariants(alleles, variants, genome, genes, device)).table
        return found.set_axis(table.index)


def load_predictor(name: str = DEFAULT) -> LoadedPredictor:
    """Load a predictor included in the package.

    Raises:
        InputError: no such predictor; the message lists the names.
    """
    return LoadedPredictor(load_shipped(name))


def _domain(
    predictor: ShippedPredictor, variants: pd.DataFrame, genome: SequenceSource, annotation: GeneAnnotation | None
) -> list[str]:
    """IN_DOMAIN, or what of each variant is unlike the training data."""
    nearest = position_features(variants, annotation)["nearest"].abs().to_numpy()
    length = (variants["alt"].str.len() - variants["ref"].str.len()).abs().to_numpy()
    found = []
    for place, (chrom, pos) in enumerate(zip(variants["chrom"], variants["pos"], strict=True)):
        why = []
        if length[place] > predictor.domain["length_change"]:
            why.append("long_indel")
        if np.isnan(nearest[place]):
            why.append("no_exon_known")
        elif nearest[place] > predictor.domain["from_exon"]:
            why.append("far_from_exon")
        if _is_cut(genome, str(chrom), int(pos), predictor.distance):
            why.append("context_missing")
        found.append("&".join(why) or IN_DOMAIN)
    return found


def _is_cut(genome: SequenceSource, chrom: str, pos: int, distance: int) -> bool:
    """Whether bases within the distance are not known, as in a reporter construct or at a region's end."""
    name = genome.resolve(chrom)
    start, end = pos - 1 - distance, pos + distance
    if start < 0 or end > genome.contigs()[name]:
        return True
    return bool((genome.fetch(name, start, end) == N_CODE).any())
