"""Scores of baselines that learn, kept on disk by everything they depend on, so that rows sharing a test share them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from meta_spliceai.files import atomic_write, cache_dir

_LOG = logging.getLogger(__name__)


def kept_or_computed(
    depends_on: Sequence[object], rows: int, compute: Callable[[], Float[np.ndarray, " rows"]]
) -> Float[np.ndarray, " rows"]:
    """The scores kept for these inputs, or computed now and kept.

    Args:
        depends_on: plain values that decide the scores: what is scored, data, split, settings, code version.
        rows: how many scores there are; a file that holds another number is computed anew.
        compute: makes them.

    Raises:
        RunError: the cache cannot be written to.
    """
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
    path = cache_dir() / "baselines" / f"{key[:32]}.npy"
    if path.is_file():
        try:
            kept = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            _LOG.warning("kept baseline %s cannot be read (%s); it is computed again", path, error)
        else:
            if kept.shape == (rows,) and kept.dtype == np.float64:
                return kept
            _LOG.warning("kept baseline %s holds %s %s; it is computed again", path, kept.dtype, kept.shape)
    scores = np.asarray(compute(), dtype=np.float64)
    with atomic_write(path, "wb") as handle:
        np.save(handle, scores, allow_pickle=False)
    return scores
