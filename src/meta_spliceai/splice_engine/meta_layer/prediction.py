"""A predictor's inputs (windows on the device, their precomputed features, or a base network's last hidden channels
around variants, computed with the scorer and stored on disk), and its predictions.

Of the hidden channels are read the variant's surroundings and the tested exon's own two sites, of the reference and of
the alternative, of every network of the ensemble. Kept are the reference and, so that small changes survive float16,
alternative minus reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float16, Float32, Int
from torch import Tensor

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.files import cache_dir
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.network import trunk_of
from meta_spliceai.splice_engine.base_layer.scoring import score_keys, score_variants
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import SequenceSource
from meta_spliceai.splice_engine.meta_layer.features import (
    PREDICTED_AT_ONCE,
    FeatureData,
    FeatureStore,
    WindowData,
    batches,
    choose_device,
    frozen_features,
    near,
    rows_at_a_time,
)
from meta_spliceai.splice_engine.meta_layer.models.composition import BaseTrunk
from meta_spliceai.splice_engine.meta_layer.models.ensembles import WeightedEnsemble
from meta_spliceai.splice_engine.meta_layer.models.predictor import Features, Predictor, Shift
from meta_spliceai.splice_engine.meta_layer.settings import TrunkConfig
from meta_spliceai.splice_engine.variants.table import Windows

EMBEDDINGS = "embeddings"
"""Folder in the cache for the features of frozen encoders."""


def model_inputs(
    predictor: Predictor | WeightedEnsemble,
    windows: Windows,
    device: torch.device,
    write: bool,
    margin: int = 0,
) -> WindowData | FeatureData:
    """The windows on the device, or a frozen encoder's features of them; where some of these are not in the cache, they
    are computed if `write`, else it is the windows."""
    encoder = getattr(predictor, "encoder", None)  # an ensemble's members have one each
    if isinstance(encoder, BaseTrunk):
        return given_features(encoder, windows, device)
    data = WindowData.on_device(windows, device, margin)
    if not isinstance(predictor, Predictor) or not predictor.encoder_frozen:
        return data
    return frozen_features(predictor, data, cache_dir() / EMBEDDINGS, write) or data


def predict(
    predictor: Predictor | WeightedEnsemble,
    windows: Windows,
    device: str = "auto",
    batch_size: int = PREDICTED_AT_ONCE,
) -> Float32[np.ndarray, "n outputs"]:
    """The predictions for all windows, in float32; (n, 3) in the order neither, acceptor, donor for Δ.

    Args:
        predictor: moved to the device and set to evaluation. Members of an ensemble read no kept features.
        batch_size: variants at a time, fewer where windows are long; it does not change the predictions.
    """
    place = choose_device(device)
    if not len(windows.ref):
        raise InputError("there are no windows to predict on")
    data = model_inputs(predictor, windows, place, write=False)
    predictor.to(place).eval()
    forward = predictor.compare if isinstance(predictor, Predictor) and data.encoded else predictor
    parts = batches(np.arange(len(windows.ref)), rows_at_a_time(batch_size, predictor.window), place)
    with torch.inference_mode():
        predictions = torch.cat([forward(*data.pair(rows)).float().cpu() for rows in parts])
    if broken := int((~predictions.isfinite().all(dim=1)).sum()):
        raise RunError(
            f"{broken} of {len(predictions)} predictions are no numbers; the model's weights are spoiled: train it anew"
        )
    return predictions.numpy()


PLACES = ("acceptor", "variant", "donor")


@dataclass(frozen=True)
class TrunkData(FeatureData):
    """Hidden channels of all variants of a table.

    Attributes:
        store: a row per variant: places of the reference, then of alternative minus reference; the last channel of the
            reference is 1 where a place is known and 0 where it is not (all other channels are 0 there too).
        ref_slot, alt_slot: both the variant's row in the store.
        network: name, number of networks and licence of the base model, in words.
    """

    reading: TrunkConfig = field(kw_only=True)
    network: str = field(kw_only=True)

    def pair(self, rows: Int[Tensor, " batch"], shift: Shift = None) -> tuple[Features, Features]:
        both = self.store[self.ref_slot[rows].to(self.store.device)].to(self.device).float().mT
        ref, change = both.chunk(2, dim=2)
        return ref, ref + change

    def sites_known(self) -> tuple[int, int]:
        """Variants whose acceptor was read, and those whose donor was."""
        known = self.store[:, [0, self.reading.positions - 1], -1].float().sum(dim=0)
        return int(known[0]), int(known[1])


@dataclass(frozen=True)
class TrunkWindows(Windows):
    """Windows that bring a base network's hidden channels of the same variants along."""

    trunk: TrunkData

    @classmethod
    def joined(cls, windows: Windows, trunk: TrunkData) -> TrunkWindows:
        return cls(windows.ref, windows.alt, trunk)


class TrunkReader:
    """Computes the features of a table's variants, or finds them in the folder where they are kept; the table's
    `acceptor_pos` and `donor_pos` say where the tested exon's sites are. Errors as `score_variants` and
    `load_base_model` have them."""

    def __init__(
        self,
        reading: TrunkConfig,
        table: pd.DataFrame,
        genome: SequenceSource,
        annotation: GeneAnnotation | None,
        folder: Path,
        device: str = "cpu",
    ) -> None:
        self.base = base = load_base_model(reading.family, device, reading.members)
        self.reading, self.genome, self.annotation = reading, genome, annotation
        self.network = f"{base.name} ({len(base.networks)} networks), {base.licence}"
        self.model = trunk_of(base)
        # Neighbours share a reference, so they stand next to each other in a block.
        order = np.lexsort((table["pos"], table["strand"], table["chrom"]))
        self.table = table.iloc[order].reset_index(drop=True)
        self.slots = np.empty(len(order), dtype=np.int64)
        self.slots[order] = np.arange(len(order))
        self.places = places_read(self.table, reading)
        content = hashlib.sha256(b"trunk: reference and change, float16\n")
        for key in score_keys(self.table, genome, self.model, reading.distance, annotation):
            content.update(key)
        content.update(self.places.tobytes())
        self.name = content.hexdigest()
        self.store = FeatureStore(folder / self.name, len(table), 2 * reading.positions, len(self.model.channels) + 1)

    def found(self) -> TrunkData | None:
        return None if self.store.fill(self._compute, write=False) is None else self._data(0)

    def read(self, progress: Callable[[int, int], None] | None = None) -> TrunkData:
        """The features; those that are missing are computed and kept. `progress` is called with variants done and
        variants in all. RunError where the disk is full or the folder cannot be written to."""
        return self._data(self.store.fill(self._compute, progress=progress) or 0)

    def _data(self, computed: int) -> TrunkData:
        slots, cpu = torch.from_numpy(self.slots), torch.device("cpu")
        return TrunkData(
            self.store.read(), slots, slots, cpu, self.name, computed, reading=self.reading, network=self.network
        )

    def _compute(self, rows: slice) -> Float16[np.ndarray, "n places channels"]:
        table, distance = self.table.iloc[rows].reset_index(drop=True), self.reading.distance
        scores = score_variants(table, self.genome, self.model, distance, annotation=self.annotation)
        places = self.places[rows]
        known = places >= 0
        variants = np.arange(len(places))[:, None]
        ref, alt = (np.where(known[..., None], of[variants, places], 0) for of in (scores.ref, scores.alt))
        marked = (np.dstack([ref, known]), np.dstack([alt - ref, np.zeros_like(known)]))
        return np.concatenate(marked, axis=1).astype(np.float16)


def places_read(table: pd.DataFrame, reading: TrunkConfig) -> Int[np.ndarray, "variants positions"]:
    """Which scored positions are read of each variant, in transcript orientation (index `distance` is `pos`): the
    acceptor, the variant's surroundings, the donor; -1 for a site that is not known or out of reach."""
    forward = np.where(table["strand"].to_numpy() == "-", -1, 1)
    around = np.arange(-reading.read_radius, reading.read_radius + 1) + reading.distance
    places = np.empty((len(table), reading.positions), dtype=np.int64)
    places[:, 1:-1] = around
    for place, column in ((0, "acceptor_pos"), (-1, "donor_pos")):
        site = table[column].astype("Int64").to_numpy(dtype=np.float64, na_value=np.nan)
        ahead = (site - table["pos"].to_numpy()) * forward
        reached = np.abs(ahead) <= reading.site_reach
        places[:, place] = np.where(reached, np.where(reached, ahead, 0) + reading.distance, -1)
    return places


def given_features(encoder: BaseTrunk, windows: Windows, device: torch.device) -> TrunkData:
    """The features that windows bring along for an encoder that reads them; InputError where they bring none, or others
    than it was made for."""
    if not isinstance(windows, TrunkWindows):
        raise InputError(
            f"the encoder reads the trunk of {encoder.reading.family}, which these windows do not bring along; make "
            "them with `TrunkWindows.joined`"
        )
    trunk = windows.trunk
    if trunk.reading != encoder.reading or trunk.store.shape[2] != encoder.channels:
        raise InputError(
            f"the windows bring {trunk.store.shape[2]} channels ({trunk.reading!r}), the encoder reads "
            f"{encoder.channels} ({encoder.reading!r})"
        )
    slots = trunk.ref_slot.to(device)
    return replace(trunk, store=near(trunk.store, device), ref_slot=slots, alt_slot=slots, device=device)


def trunk_columns(trunk: TrunkData) -> pd.DataFrame:
    """Hidden channels at the exon's two sites and at the variant, for trees: reference, and alternative minus
    reference; NaN where a site is not known or out of reach."""
    values = trunk.store[trunk.ref_slot].float().numpy()
    ref, change = np.split(values, 2, axis=1)
    columns = {}
    for place, at in zip(PLACES, (0, trunk.reading.positions // 2, -1), strict=True):
        known = ref[:, at, -1] > 0
        for what, of in (("ref", ref), ("Δ", change)):
            for channel in range(values.shape[2] - 1):
                columns[f"{trunk.reading.family} trunk {place} {channel} {what}"] = np.where(
                    known, of[:, at, channel], np.nan
                )
    return pd.DataFrame(columns)
