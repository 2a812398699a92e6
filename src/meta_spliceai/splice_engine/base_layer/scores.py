"""What the base layer hands on: probabilities of reference and alternative around each variant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from meta_spliceai.errors import InputError
from meta_spliceai.files import atomic_write
from meta_spliceai.read_hostile import one_error
from meta_spliceai.splice_engine.base_layer.channels import CHANNELS
from meta_spliceai.splice_engine.genome.read_npz import read_npz


@dataclass(frozen=True)
class BaseScores:
    """Probabilities within ±distance of each variant, rows in the order of the table that was scored.

    Positions are reference positions in transcript orientation; index `distance` is `pos`. The alternative is laid on
    the reference's positions as SpliceAI does it, on the plus strand: deleted positions, which are those directly
    behind `pos`, are 0; inserted positions are folded into `pos` by their maximum.

    Attributes:
        ref, alt: probabilities [variants, 2·distance + 1, channels].
        distance: positions to either side of `pos`.
        model: name of the base model.
        digest: identity of its weights.
        channels: names of the channels; `CHANNELS` (neither, acceptor, donor) except for models that have others.
        digits: decimals to which the scores of some rows were rounded (those that a bundle brought); None: of none.
        brought_by: where rounded scores came from, in words.
        precision: of the products that alternatives took, fp32 or bf16.
        check: what was measured of another precision than fp32, in words; empty for fp32 that was asked for.
        operations, seconds: floating-point operations done to get them, and how long that took, of the whole table
            that was scored; 0 where all were found in a cache or read from a file.
    """

    ref: Float32[np.ndarray, "variants positions channels"]
    alt: Float32[np.ndarray, "variants positions channels"]
    distance: int
    model: str
    digest: str
    channels: tuple[str, ...] = CHANNELS
    digits: int | None = None
    brought_by: str = "a bundle"
    precision: str = "fp32"
    check: str = ""
    operations: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        expected = (len(self.ref), 2 * self.distance + 1, len(self.channels))
        if self.ref.shape != expected or self.alt.shape != expected:
            raise ValueError(f"scores of shape {self.ref.shape} and {self.alt.shape}, expected {expected}")
        # a sum is finite only if every value is, and takes no memory of its own
        if not np.isfinite(self.ref.sum(dtype=np.float64) + self.alt.sum(dtype=np.float64)):
            raise ValueError("scores that are no numbers")

    def __len__(self) -> int:
        return len(self.ref)

    @property
    def delta(self) -> Float32[np.ndarray, "variants positions channels"]:
        """Δ: alternative minus reference."""
        return self.alt - self.ref

    def channel(self, name: str) -> int:
        """Index of a channel.

        Raises:
            InputError: the model has no such channel (Pangolin, for one, does not tell acceptors from donors).
        """
        if name not in self.channels:
            raise InputError(f"base model {self.model} has no channel '{name}'; it has {', '.join(self.channels)}")
        return self.channels.index(name)

    def take(self, rows: Int[np.ndarray, " chosen"]) -> BaseScores:
        """The scores of some rows, in the order given."""
        return replace(self, ref=self.ref[rows], alt=self.alt[rows])

    def save(self, path: Path) -> None:
        """Write the scores to one file (.npz), whole or not at all."""
        with atomic_write(path, "wb") as handle:
            np.savez_compressed(
                handle,
                ref=self.ref,
                alt=self.alt,
                distance=np.array(self.distance),
                model=np.array(self.model),
                digest=np.array(self.digest),
                channels=np.array(self.channels),
                digits=np.array(-1 if self.digits is None else self.digits),
            )

    @classmethod
    def load(cls, path: Path) -> BaseScores:
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file.
            IntegrityError: the file is truncated, altered or of another kind.
        """
        if not path.is_file():
            raise InputError(f"no scores at {path}")
        names = ("ref", "alt", "distance", "model", "digest", "channels", "digits")
        stored = read_npz(path, names, "base scores")
        with one_error(path, "delete it and score again"):
            digits = int(stored["digits"])
            return cls(
                stored["ref"],
                stored["alt"],
                int(stored["distance"]),
                str(stored["model"]),
                str(stored["digest"]),
                tuple(str(name) for name in stored["channels"]),
                None if digits < 0 else digits,
            )
