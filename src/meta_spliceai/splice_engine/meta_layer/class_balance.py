"""Classes of a task that are not equally frequent: their counts, and weights that make up for it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.targets import Targets


def class_weights(
    predictor: Predictor, labels: Float[Tensor, "n labels"], rows: Int[Tensor, " t"]
) -> Float[Tensor, " n"] | None:
    """A weight for each row, so that every class has the same share of the training loss and the mean weight is 1.
    A row whose class is not known weighs 1."""
    classes = predictor.head.classes(labels)
    if classes is None:
        return None
    seen = classes[rows]
    counts = torch.bincount(seen[seen >= 0], minlength=max(1, int(classes.max()) + 1)).float()
    present = (counts > 0).sum()
    shares = torch.where(counts > 0, counts.sum() / (present * counts.clamp_min(1)), counts)
    return torch.where(classes >= 0, shares[classes.clamp_min(0)], torch.ones_like(shares[:1]))


def count_classes(predictor: Predictor, targets: Targets, rows: Int[np.ndarray, " t"]) -> dict[str, int]:
    """Training rows of each of the task's classes, by name; empty for a task without classes."""
    classes = predictor.head.classes(torch.from_numpy(np.asarray(targets.values[rows], np.float32)))
    if classes is None:
        return {}
    names = predictor.head.class_names
    counts = torch.bincount(classes[classes >= 0], minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))
