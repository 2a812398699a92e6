"""Gradient-boosted trees as plain arrays: applied, written and read without the library that trained them.

No pickle: loading a file can run no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
from jaxtyping import Bool, Float, Int

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
    def from_arrays(cls, stored: Mapping[str, np.ndarray]) -> Trees:
        """The trees that `arrays` gave; KeyError where one is missing, ValueError where they do not fit together."""
        parts: dict[str, Any] = {name: stored[name] for name in cls.__annotations__}
        trees = cls(**{name: part if part.ndim else part.item() for name, part in parts.items()})
        nodes = len(trees.left)
        if any(len(parts[name]) != nodes for name in OF_A_NODE):
            raise ValueError("some nodes of its trees are missing")
        inner = np.flatnonzero(trees.left >= 0)
        children = np.stack([trees.left[inner], trees.right[inner]])
        sound = [
            (trees.root >= 0) & (trees.root < nodes),
            (children > inner) & (children < nodes),  # children behind their parent: a walk down the tree always ends
            (trees.feature >= 0) & (trees.feature < trees.features),
            np.isfinite(np.append(trees.value, trees.baseline)) & (trees.models >= 1),
            ~np.isnan(trees.threshold),
        ]
        if not all(one.all() for one in sound):
            raise ValueError("the nodes of its trees do not fit together")
        return trees


def read_parts(handle: IO[bytes]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of an .npz file by the two halves of their names, "part.name"; no pickle is read."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    with np.load(handle, allow_pickle=False) as file:
        for name in file.files:
            part, _, of_it = name.partition(".")
            parts.setdefault(part, {})[of_it] = file[name]
    return parts
