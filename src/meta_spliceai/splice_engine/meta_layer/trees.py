"""Gradient-boosted trees as plain arrays: applied, written and read without the library that trained them.

No pickle: loading a file can run no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from meta_spliceai.errors import IntegrityError

Table = Float[np.ndarray, "rows features"]
Rows = Float[np.ndarray, " rows"]

OF_A_NODE = ("feature", "threshold", "nan_left", "left", "right", "value")


@dataclass(frozen=True)
class Trees:
    """An average of additive tree models, as arrays.

    A node with `left` −1 is a leaf. A row goes left where its feature is at or below the threshold, or where it is
    NaN and `nan_left` says so. The raw value is the baseline plus the leaves' values, summed over the trees and
    averaged over the seeds.

    Attributes:
        root: index of each tree's first node.
        baseline: of each seed's model, averaged.
        models: number of seeds averaged.
    """

    feature: Int[np.ndarray, " nodes"]
    threshold: Float[np.ndarray, " nodes"]
    nan_left: Bool[np.ndarray, " nodes"]
    left: Int[np.ndarray, " nodes"]
    right: Int[np.ndarray, " nodes"]
    value: Float[np.ndarray, " nodes"]
    root: Int[np.ndarray, " trees"]
    baseline: float
    models: int
    features: int

    def raw(self, x: Table) -> Rows:
        """The model's raw value: log-odds of a classifier, the prediction itself of a regressor."""
        total = np.zeros(len(x))
        rows = np.arange(len(x))
        for root in self.root:
            node = np.full(len(x), root)
            active = rows
            while len(active):
                here = node[active]
                inner = self.left[here] >= 0
                active, here = active[inner], here[inner]
                seen = x[active, self.feature[here]]
                goes_left = np.where(np.isnan(seen), self.nan_left[here], seen <= self.threshold[here])
                node[active] = np.where(goes_left, self.left[here], self.right[here])
            total += self.value[node]
        return self.baseline + total / self.models

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, as arrays to be written."""
        return {name: np.asarray(value) for name, value in asdict(self).items()}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, np.ndarray], where: str) -> Trees:
        """The trees that `arrays` gave.

        Raises:
            IntegrityError: an array is missing, a node points outside the model or back to itself, or a value is
                not finite.
        """
        missing = [name for name in cls.__annotations__ if name not in stored]
        if missing:
            raise IntegrityError(f"{where}: {', '.join(missing)} missing; the file does not hold a whole tree model")
        parts = {name: np.asarray(stored[name]) for name in (*OF_A_NODE, "root")}
        nodes, features = len(parts["feature"]), int(stored["features"])
        if any(len(parts[name]) != nodes for name in OF_A_NODE):
            raise IntegrityError(f"{where}: the trees' nodes are not all there; the file is damaged")
        inner = np.flatnonzero(parts["left"] >= 0)
        children = np.stack([parts["left"][inner], parts["right"][inner]])
        sound = (
            bool(np.all((parts["root"] >= 0) & (parts["root"] < nodes)))
            # Children behind their parent: a walk down the tree always ends.
            and bool(np.all((children > inner) & (children < nodes)))
            and bool(np.all((parts["feature"] >= 0) & (parts["feature"] < features)))
            and int(stored["models"]) >= 1
            and bool(np.isfinite(parts["value"]).all() and np.isfinite(stored["baseline"]))
            and not np.isnan(parts["threshold"]).any()
        )
        if not sound:
            raise IntegrityError(f"{where}: the trees' nodes do not fit together; the file is damaged")
        return cls(**parts, baseline=float(stored["baseline"]), models=int(stored["models"]), features=features)
