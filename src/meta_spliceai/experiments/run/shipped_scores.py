"""Base scores that travel with the package: found by content as in the cache, without the networks that gave them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets import Loaded
from meta_spliceai.errors import IntegrityError
from meta_spliceai.experiments.bundle.packed_scores import PackedScores, read_packed_scores
from meta_spliceai.experiments.run.packaged_network import is_packaged, packaged_network
from meta_spliceai.experiments.spec.experiment import BaseSpec
from meta_spliceai.resources.packaged import DESCRIPTION, SCORES
from meta_spliceai.splice_engine.base_layer.model import BaseIdentity
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.base_layer.scoring import score_keys

BROUGHT_BY = "the package itself"


def shipped_scores(wanted: BaseSpec, table: pd.DataFrame, loaded: Loaded) -> tuple[BaseIdentity, BaseScores] | None:
    """The packaged scores of these variants, and what the network is; None where those of some variant did not travel.

    They are found by the same key as in the cache: bases of both alleles, networks and distance. Another network,
    distance or context is therefore not found, and is computed.

    Raises:
        IntegrityError: the packaged file is damaged.
    """
    if not is_packaged(wanted):
        return None
    about = packaged_network()
    identity = BaseIdentity(
        about["network"],
        about["licence"],
        about["citation"],
        tuple(about["channels"]),
        about["digest"],
        about["flank"],
        about["networks"],
    )
    keys = score_keys(table, loaded.genome, identity, wanted.distance, loaded.annotation)
    packed = _packed()
    if packed.digest != identity.digest or packed.distance != wanted.distance:
        raise IntegrityError(f"{SCORES} holds scores of another network than {DESCRIPTION} says; install again")
    if not packed.entries.keys() >= set(keys):
        return None
    found = [packed.entries[key] for key in keys]
    scores = BaseScores(
        np.stack([entry.ref for entry in found]),
        np.stack([entry.alt for entry in found]),
        wanted.distance,
        identity.name,
        identity.digest,
        identity.channels,
        digits=packed.digits,
        brought_by=BROUGHT_BY,
    )
    return identity, scores


@lru_cache(maxsize=1)
def _packed() -> PackedScores:
    return read_packed_scores(resources.resolve_file("packaged-human", SCORES))
