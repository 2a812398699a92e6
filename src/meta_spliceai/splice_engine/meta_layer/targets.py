"""What a model is taught: label rules, each one function of the variant table and the base scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.channels import ACCEPTOR, DONOR
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.table import CONFLICTING, LOW_FREQUENCY, NORMAL, SPLICE_ALTERING, describe


class Deltas(Protocol):
    """Base scores as a label rule sees them: Δ per position, transcript orientation, `pos` in the middle."""

    @property
    def delta(self) -> Float32[np.ndarray, "n positions 3"]: ...


@dataclass(frozen=True)
class Targets:
    """Labels aligned with a variant table.

    Attributes:
        values: one row a variant; NaN where there is no label.
        used: rows that have a label.
        coverage: rows read, left out for each reason, and used.
        task: the head these labels are for.
        rule: the label rule in words, for results.
    """

    values: Float32[np.ndarray, "n outputs"]
    used: Bool[np.ndarray, " n"]
    coverage: Coverage
    task: str = "delta"
    rule: str = ""


LEFT_OUT = {
    LOW_FREQUENCY: "Low-frequency: neither clearly altering nor clearly normal",
    CONFLICTING: "Conflicting: sources disagree",
}
NOT_MEASURED = "Unknown: nobody has measured it"


def validated_delta(table: pd.DataFrame, scores: Deltas) -> Targets:
    """The validated Δ: what the base network says, where an experiment agrees that something happens, else zero.

    Splice-altering rows get the base network's Δ (neither, acceptor, donor) at the position where |Δ acceptor| or
    |Δ donor| is largest; the first such position counts when several are equal. Normal rows get zero. All other
    classes are left out and counted.

    Args:
        table: a variant table of n rows.
        scores: base scores of the same rows, in the same order.

    Returns:
        Targets with values of shape (n, 3), unit: difference of probabilities, in [-1, 1].

    Raises:
        InputError: scores of another number of rows; a Δ that is not a number.
    """
    delta = np.asarray(scores.delta, dtype=np.float32)
    if delta.ndim != 3 or delta.shape[0] != len(table) or delta.shape[2] != 3:
        raise InputError(f"base scores of shape {delta.shape} do not fit a variant table of {len(table)} rows")
    classes = table["classification"].to_numpy(dtype=object)
    altering = classes == SPLICE_ALTERING
    broken = altering & ~np.isfinite(delta).all(axis=(1, 2))
    if broken.any():
        row = table.iloc[int(np.flatnonzero(broken)[0])]
        raise InputError(f"the base score of {describe(row)} is not a number; score it again")

    values = np.full((len(table), 3), np.nan, dtype=np.float32)
    values[classes == NORMAL] = 0.0
    strongest = np.abs(delta[:, :, [ACCEPTOR, DONOR]]).max(axis=2).argmax(axis=1)
    values[altering] = delta[np.arange(len(table)), strongest][altering]

    coverage = Coverage(read=len(table))
    for name in pd.unique(classes):
        if name not in (SPLICE_ALTERING, NORMAL):
            rows = table[classes == name]
            coverage.leave_out(LEFT_OUT.get(name, NOT_MEASURED), (describe(row) for _, row in rows.iterrows()))
    rule = "Splice-altering: base Δ at its strongest position; Normal: 0; other classes left out"
    used = np.asarray(np.isfinite(values).all(axis=1))
    return Targets(values, used, coverage, "delta", rule)
