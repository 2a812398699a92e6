"""The base layer's output: probabilities of reference and alternative around each variant; their reductions to one
number per variant; and their on-disk cache, addressed by content. A bundle and the package carry such blocks too,
compressed, and exact or rounded to some decimals, as stated in the block.

The key of a variant's scores is a hash of everything they depend on: the bases of both sequences, the weights and the
distance. What is found can therefore not be out of date. Scores are kept in blocks, files written whole and never
changed, so two processes that score at once cannot disturb each other: each adds blocks of its own, and reads those of
both.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int

from meta_spliceai.errors import IntegrityError
from meta_spliceai.files import atomic_write, cache_dir
from meta_spliceai.read_hostile import one_error
from meta_spliceai.resources.resolve import mirror_folders
from meta_spliceai.splice_engine.genome.packed import read_npz

_LOG = logging.getLogger(__name__)

BUNDLED = "bundle/scores"
"""Where an opened bundle keeps its scores, under the folder that it is opened in."""

CHANNELS = ("neither", "acceptor", "donor")
"""The order of a base network's output channels, the same everywhere in the package."""
NEITHER, ACCEPTOR, DONOR = range(3)


@dataclass(frozen=True)
class BaseScores:
    """Probabilities within ±distance of each variant, rows in the order of the table that was scored.

    Positions are reference positions in transcript orientation; index `distance` is `pos`. The alternative is aligned
    to the reference's positions as in SpliceAI, on the plus strand: deleted positions, which directly follow `pos`, are
    0; inserted positions are folded into `pos` by their maximum.

    Attributes:
        distance: positions to either side of `pos`.
        channels: names of the channels; `CHANNELS` (neither, acceptor, donor) except for models that have others.
        digits: decimals to which the scores of some rows were rounded (those that a bundle brought); None: of none.
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
        return self.alt - self.ref

    def take(self, rows: Int[np.ndarray, " chosen"]) -> BaseScores:
        return replace(self, ref=self.ref[rows], alt=self.alt[rows])


def max_window(scores: BaseScores) -> Float32[np.ndarray, " variants"]:
    """The signed Δ of largest |Δ| over all positions and all channels that mean a splice site."""
    sites = [index for index, name in enumerate(scores.channels) if name != CHANNELS[NEITHER]]
    delta = (scores.alt[:, :, sites] - scores.ref[:, :, sites]).reshape(len(scores), -1)
    return _strongest(delta)


def own_site(scores: BaseScores, table: pd.DataFrame) -> Float32[np.ndarray, " variants"]:
    """The signed Δ of largest |Δ| among Δacceptor at `acceptor_pos` and Δdonor at `donor_pos`.

    A site that is unknown, or farther than the scores reach, is left aside; with neither left the value is NaN. What a
    network without acceptor and donor channels says of either is told by `site_probabilities`. The table's rows are the
    scores', in their order."""
    rows = np.arange(len(scores))
    delta = np.full((len(scores), 2), np.nan, dtype=np.float32)
    for place, site in enumerate(("acceptor", "donor")):
        index, reached = _index_of_site(table, f"{site}_pos", scores.distance)
        ref, alt = site_probabilities(scores, site)
        delta[reached, place] = (alt[rows, index] - ref[rows, index])[reached]
    known = ~np.isnan(delta)
    value = _strongest(np.where(known, delta, np.float32(0)))
    return np.where(known.any(axis=1), value, np.float32(np.nan))


def site_probabilities(
    scores: BaseScores, site: str
) -> tuple[Float32[np.ndarray, "variants positions"], Float32[np.ndarray, "variants positions"]]:
    """Reference and alternative probability of one kind of site, "acceptor" or "donor".

    A network that does not tell them apart (Pangolin: one probability of any site for each tissue) gives the mean of
    its channels for both.
    """
    if site in scores.channels:
        channel = scores.channels.index(site)
        return scores.ref[:, :, channel], scores.alt[:, :, channel]
    channels = [number for number, name in enumerate(scores.channels) if name != CHANNELS[NEITHER]]
    return scores.ref[:, :, channels].mean(axis=2), scores.alt[:, :, channels].mean(axis=2)


def _index_of_site(table: pd.DataFrame, column: str, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of a site on the scores' position axis (0 where it is not in reach), and whether it is in reach."""
    site = table[column].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    ahead = (site - table["pos"].to_numpy()) * np.where(table["strand"].to_numpy() == "-", -1, 1)
    reached = np.abs(ahead) <= distance  # False for NaN
    return np.where(reached, ahead + distance, 0).astype(np.int64), reached


def _strongest(delta: Float32[np.ndarray, "variants places"]) -> Float32[np.ndarray, " variants"]:
    return delta[np.arange(len(delta)), np.abs(delta).argmax(axis=1)]


class Entry(NamedTuple):
    """One variant's probabilities in the cache; `digits`: decimals to which they were rounded (for a bundle), None
    where they are as they were computed."""

    ref: Float32[np.ndarray, "positions channels"]
    alt: Float32[np.ndarray, "positions channels"]
    digits: int | None = None


class ScoreCache:
    """A folder of score blocks, made when the first one is written, and folders `beside` it that are read as well and
    never written to. `damaged` counts blocks found damaged so far (a zip archive's checksums say so); each was left
    out, and its scores are computed again."""

    def __init__(self, folder: Path, beside: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.beside = tuple(beside)
        self.damaged = 0

    @classmethod
    def default(cls) -> ScoreCache:
        """The user's own cache, and the scores that opened bundles among the mirror folders bring."""
        return cls(cache_dir() / "scores", [folder / BUNDLED for folder in mirror_folders()])

    def read(self, keys: Sequence[bytes], digest: str, distance: int) -> dict[bytes, Entry]:
        wanted = set(keys)
        found: dict[bytes, Entry] = {}
        for path in [one for folder in (self.folder, *self.beside) for one in sorted(folder.glob("*.npz"))]:
            if len(found) == len(wanted) or not path.name.startswith(f"{digest[:16]}-{distance}-"):
                continue
            try:
                block = read_scores(path)
            except IntegrityError as error:  # an own one is removed, so that it can be written anew
                self.damaged += 1
                own = path.parent == self.folder
                _LOG.warning("score cache: %s%s; its scores are computed again", error, " (removed)" if own else "")
                if own:
                    path.unlink(missing_ok=True)
                continue
            found |= {key: block[key] for key in wanted & block.keys() if len(block[key].ref) == 2 * distance + 1}
        return found

    def write(
        self,
        keys: Sequence[bytes],
        ref: Float32[np.ndarray, "entries positions channels"],
        alt: Float32[np.ndarray, "entries positions channels"],
        digest: str,
        distance: int,
    ) -> None:
        """Add one block with these entries; RunError where the disk is full or the folder cannot be written to."""
        if keys:
            name = f"{digest[:16]}-{distance}-{hashlib.sha256(b''.join(keys)).hexdigest()[:24]}.npz"
            _write(self.folder / name, keys, ref, alt, None, zipfile.ZIP_STORED)


DIGITS = range(3, 8)
"""Decimals to which scores may be rounded: below, a Δ is no longer what it was; above, float32 has no more."""


def write_scores(path: Path, entries: Mapping[bytes, Entry], digits: int | None = None) -> None:
    """Write entries of the score cache, at least one and none of them rounded, as one compressed block, which a cache
    reads under a block's name (`<digest's first 16>-<distance>-….npz`).

    Rounded, they are whole numbers, and alternatives what they differ from their references by: mostly nothing.

    Args:
        digits: decimals to round to; a score changes by at most half a step, a Δ by at most one. None: bit for bit.
    """
    ref, alt = (np.stack(one) for one in zip(*((entry.ref, entry.alt) for entry in entries.values()), strict=True))
    if digits is not None:
        ref, alt = (np.rint(one.astype(np.float64) * 10**digits).astype(np.int32) for one in (ref, alt))
        alt -= ref
    _write(path, list(entries), ref, alt, digits, zipfile.ZIP_LZMA)


def read_scores(path: Path) -> dict[bytes, Entry]:
    """The entries of a block; IntegrityError: it is damaged, or its arrays do not fit each other."""
    arrays = read_npz(path, ("keys", "ref", "alt", "digits"), "base scores")
    keys, ref, alt = arrays["keys"], arrays["ref"], arrays["alt"]
    with one_error(f"{path} holds no base scores: it"):
        (decimals,) = arrays["digits"].tolist()
        digits = None if decimals == -1 else decimals
        if (
            (digits is not None and digits not in DIGITS)
            or keys.dtype != np.uint8
            or not ref.dtype == alt.dtype == (np.float32 if digits is None else np.int32)
            or (ref.ndim, ref.shape, keys.shape) != (3, alt.shape, (len(ref), 32))
            or not (np.isfinite(ref).all() and np.isfinite(alt).all())
        ):
            raise ValueError("its arrays do not fit each other, or hold what is no score")
        if digits is not None:
            ref, alt = ((one / 10.0**digits).astype(np.float32) for one in (ref, ref + alt))
    return {key.tobytes(): Entry(ref[row], alt[row], digits) for row, key in enumerate(keys)}


def _write(
    path: Path, keys: Sequence[bytes], ref: np.ndarray, alt: np.ndarray, digits: int | None, compression: int
) -> None:
    rows = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
    arrays = {"keys": rows, "ref": ref, "alt": alt, "digits": np.array([-1 if digits is None else digits])}
    with atomic_write(path, "wb") as handle, zipfile.ZipFile(handle, "w") as block:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # its fixed date makes the same content the same file
            member.compress_type = compression
            with block.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
