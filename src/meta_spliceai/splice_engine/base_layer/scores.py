"""The base layer's output: probabilities of reference and alternative around each variant; their reductions to one
number per variant; their on-disk cache, addressed by content; and compact files of them for bundles and the package,
exact or rounded to some decimals, as stated in the file.

The key of a variant's scores is a hash of everything they depend on: the bases of both sequences, the weights and the
distance. What is found can therefore not be out of date. Scores are kept in blocks, files written whole and never
changed, so two processes that score at once cannot disturb each other: each adds blocks of its own, and reads those of
both.
"""

from __future__ import annotations

import hashlib
import logging
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int, UInt8

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
            if len(found) < len(wanted) and path.name.startswith(f"{digest[:16]}-{distance}-"):
                found.update(self._read_block(path, wanted - found.keys(), 2 * distance + 1))
        return found

    def write(
        self,
        keys: Sequence[bytes],
        ref: Float32[np.ndarray, "entries positions channels"],
        alt: Float32[np.ndarray, "entries positions channels"],
        digest: str,
        distance: int,
        digits: int | None = None,
    ) -> None:
        """Add one block with these entries, rounded to so many decimals (`digits`; None: not at all); RunError where
        the disk is full or the folder cannot be written to."""
        if not keys:
            return
        joined, decimals = b"".join(keys), np.array([-1 if digits is None else digits])
        name = f"{digest[:16]}-{distance}-{hashlib.sha256(joined).hexdigest()[:24]}.npz"
        with atomic_write(self.folder / name, "wb") as handle:
            rows = np.frombuffer(joined, np.uint8).reshape(len(keys), -1)
            np.savez(handle, keys=rows, ref=ref, alt=alt, digits=decimals)

    def _read_block(self, path: Path, wanted: set[bytes], positions: int) -> dict[bytes, Entry]:
        """The wanted entries of one block; one that is not whole is removed, so that it can be written anew."""
        try:
            with one_error(path), np.load(path, allow_pickle=False) as block:
                keys, ref, alt, (decimals,) = (block[name] for name in ("keys", "ref", "alt", "digits"))
                if ref.shape != alt.shape or ref.shape[:2] != (len(keys), positions):
                    raise ValueError("its arrays do not fit together")
                if not (np.isfinite(ref).all() and np.isfinite(alt).all()):
                    raise ValueError("a score is no number")
                digits = None if decimals < 0 else int(decimals)
        except IntegrityError as error:
            self.damaged += 1
            own = path.parent == self.folder
            _LOG.warning("score cache: %s%s; its scores are computed again", error, " (removed)" if own else "")
            if own:
                path.unlink(missing_ok=True)
            return {}
        rows = ((row, key.tobytes()) for row, key in enumerate(keys))
        return {key: Entry(ref[row], alt[row], digits) for row, key in rows if key in wanted}


DIGITS = range(3, 8)
"""Decimals to which scores may be rounded: below, a Δ is no longer what it was; above, float32 has no more."""

_AT_ONCE = 1024  # entries turned into planes at a time: bounds the memory


def write_packed_scores(
    entries: Mapping[bytes, Entry], digest: str, distance: int, path: Path, digits: int | None = None
) -> None:
    """Write entries of the score cache into one file of plain arrays (`.npz`, no pickle).

    An alternative mostly equals its reference, and neighbouring variants have the same reference, shifted. What is
    written is therefore the reference and what the alternative differs from it by (exclusive or of the bits, or a
    difference of whole numbers where scores are rounded); bytes of one rank stand side by side for the zip to shorten.
    Rounded scores repeat so much that the slower LZMA pays; exact ones are half noise.

    Args:
        entries: at least one, none of them rounded; all of one distance and one model, neighbours side by side.
        digest: of the base model.
        distance: positions to either side.
        path: the file.
        digits: decimals to round to; a score changes by at most half a step, a Δ by at most one. None: bit for bit.
    """
    keys = list(entries)
    blocks = [keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE)]
    arrays = {
        "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1),
        "planes": np.concatenate([_pack([entries[key] for key in block], digits) for block in blocks], axis=3),
        "digest": np.array(digest),
        "distance": np.array(distance, np.int64),
        "digits": np.array(-1 if digits is None else digits, np.int64),
    }
    with atomic_write(path, "wb") as handle, zipfile.ZipFile(handle, "w") as pack:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # its fixed date makes the same content the same file
            entry.compress_type = zipfile.ZIP_DEFLATED if digits is None else zipfile.ZIP_LZMA
            with pack.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class PackedScores(NamedTuple):
    """The entries of a file, and what they are of."""

    entries: dict[bytes, Entry]
    digest: str
    distance: int
    digits: int | None


def unpack_scores(path: Path, cache: ScoreCache) -> int:
    """Put a file's entries into a score cache; how many they are."""
    found = read_packed_scores(path)
    entries = list(found.entries.items())
    for at in range(0, len(entries), _AT_ONCE):
        some = entries[at : at + _AT_ONCE]
        ref, alt = np.stack([entry.ref for _, entry in some]), np.stack([entry.alt for _, entry in some])
        cache.write([key for key, _ in some], ref, alt, found.digest, found.distance, found.digits)
    return len(entries)


def read_packed_scores(path: Path) -> PackedScores:
    """What `write_packed_scores` wrote; IntegrityError: the file is damaged, or its arrays do not fit each other."""
    arrays = read_npz(path, ("keys", "planes", "digest", "distance", "digits"), "base scores")
    keys, planes = arrays["keys"], arrays["planes"]
    if any(arrays[name].shape or arrays[name].dtype != np.int64 for name in ("distance", "digits")):
        raise IntegrityError(f"{path}: its distance and digits are no whole numbers; open its bundle again")
    digest, distance = str(arrays["digest"]), int(arrays["distance"])
    digits = None if int(arrays["digits"]) < 0 else int(arrays["digits"])
    if (
        {keys.dtype, planes.dtype} != {np.dtype(np.uint8)}
        or keys.shape[1:] != (32,)
        or planes.ndim != 5
        or planes.shape[:1] + planes.shape[2:] != (4, 2, len(keys), 2 * distance + 1)
        or (digits is not None and digits not in DIGITS)
        or not re.fullmatch("[0-9a-f]{64}", digest)  # it becomes part of a file's name
    ):
        raise IntegrityError(f"{path}: its arrays do not fit each other; open its bundle again")
    entries: dict[bytes, Entry] = {}
    for at in range(0, len(keys), _AT_ONCE):
        scores = _unpack(planes[:, :, :, at : at + _AT_ONCE], digits)
        for key, (ref, alt) in zip(keys[at : at + _AT_ONCE], scores, strict=True):
            entries[key.tobytes()] = Entry(ref, alt, digits)
    return PackedScores(entries, digest, distance, digits)


def _pack(entries: list[Entry], digits: int | None) -> UInt8[np.ndarray, "4 channels 2 entries positions"]:
    """References, and what alternatives differ from them by, as numbers with few high bits, byte by byte."""
    scores = np.stack([np.stack([entry.ref, entry.alt]) for entry in entries]).astype("<f4")
    if digits is None:
        bits = scores.view("<u4")
        words = np.stack([bits[:, 0], bits[:, 0] ^ bits[:, 1]], axis=1)
    else:
        whole = np.rint(scores.astype(np.float64) * 10**digits).astype("<i4")
        change = np.stack([whole[:, 0], whole[:, 1] - whole[:, 0]], axis=1)
        # 0, -1, 1, -2 … as 0, 1, 2, 3 …: small numbers of either sign have no high bits.
        words = ((change << 1) ^ (change >> 31)).view("<u4")
    ordered = np.ascontiguousarray(words.transpose(3, 1, 0, 2))
    return np.ascontiguousarray(np.moveaxis(ordered.view(np.uint8).reshape(*ordered.shape, 4), -1, 0))


def _unpack(
    planes: UInt8[np.ndarray, "4 channels 2 entries positions"], digits: int | None
) -> Float32[np.ndarray, "entries 2 positions channels"]:
    ordered = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<u4")[..., 0]
    words = np.ascontiguousarray(ordered.transpose(2, 1, 3, 0))
    if digits is None:
        return np.stack([words[:, 0], words[:, 0] ^ words[:, 1]], axis=1).view("<f4")
    whole = (words >> 1).view("<i4") ^ -(words & 1).view("<i4")
    both = np.stack([whole[:, 0], whole[:, 0] + whole[:, 1]], axis=1)
    return (both / 10.0**digits).astype(np.float32)
