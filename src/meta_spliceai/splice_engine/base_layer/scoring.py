"""Scores variants: probabilities of reference and alternative around each variant.

The windows are those of SpliceAI's own command (1.3.1): the reference window holds `pos` ± (distance + flank); the
alternative is the same with the allele put in, and with bases drawn in from the right where it is shorter. With an
annotation, bases outside the gene are N. For genes on the minus strand both are reverse-complemented.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, UInt8

from meta_spliceai.errors import InputError, RunError, unknown_value
from meta_spliceai.splice_engine.base_layer.block_convolution import PRECISIONS, Precision
from meta_spliceai.splice_engine.base_layer.changes import Change
from meta_spliceai.splice_engine.base_layer.incremental import IncrementalScorer, Result, Tally
from meta_spliceai.splice_engine.base_layer.network import BaseIdentity, BaseModel, one_hot
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, ScoreCache
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import N_CODE, SequenceSource, encode, reverse_complement
from meta_spliceai.splice_engine.variants.table import describe

Progress = Callable[[int, int], None]
"""Called with (variants done, variants in all) while scoring."""

Outputs = Float32[np.ndarray, "variants positions channels"]

_FULL_BATCH = 8
_INCREMENTAL_BATCH = {"cpu": 8, "cuda": 64}
"""By kind of device. On a CPU, what its caches hold; a GPU is told of each of some 300 products a network and batch,
which takes longer than the products of a few variants (counted, not measured)."""

LARGEST_CHANGE = 1e-3
"""By how much a Δ may differ from that in float32 for another precision to be used."""

CHECKED = 64
"""Variants on which another precision is compared with float32 before it is used."""

_LONGEST_CONSTRUCT = 512
"""Bases. A library of constructs has thousands of short contigs with a dozen variants each, and a reference costs as
much as about eight alternatives. But all share one reference: the contig of N alone. Put into it, a construct's wild
type is one change and each of its mutants another. Above this length a wild type of its own is the cheaper
reference."""

_SAVE_EVERY = 384
"""Variants a thread between two writes to the cache: what an interrupted run loses at most."""


@dataclass(frozen=True)
class Locus:
    """One variant, ready to be scored. All positions are 0-based, on the plus strand.

    Attributes:
        start: the base at `pos`.
        ref, alt: alleles as codes.
        limits: of the gene, [start, end), outside of which bases are N to the networks; None for no limits.
    """

    contig: str
    start: int
    ref: UInt8[np.ndarray, " bases"]
    alt: UInt8[np.ndarray, " bases"]
    strand: str
    limits: tuple[int, int] | None

    @property
    def shift(self) -> int:
        """How much longer the alternative allele is (negative for a deletion)."""
        return len(self.alt) - len(self.ref)

    @property
    def neighbourhood(self) -> tuple[str, str, int, int, int]:
        """Sorts variants that can share a reference next to each other."""
        return self.contig, self.strand, *(self.limits or (-1, -1)), self.start

    @property
    def turn(self) -> slice:
        """Turns positions of the plus strand into those along the transcript, and back."""
        return slice(None, None, -1 if self.strand == "-" else 1)

    def alt_outputs(self, distance: int) -> int:
        """Positions of the alternative sequence, from `pos` - distance on, that have a place in the aligned scores."""
        return max(distance + 1, 2 * distance + 1 + self.shift)


@dataclass(frozen=True)
class Computation:
    """How scores are computed: "incremental" computes only what a variant changes, "full" runs the networks on both
    whole windows; both give the same numbers up to float noise. `batch_size`: windows (full) or alternatives
    (incremental) run at once; chosen for the machine by default.

    `precision`: "fp32", or "bf16" for the alternatives' products (see `block_convolution`; references stay in float32).
    It is first compared with float32 on `check_on` of the variants; where a Δ differs by more than `LARGEST_CHANGE` all
    are scored in float32. `check` and `precision` of the scores say what was done. Scores of one precision are not
    found in the cache for another.
    """

    method: Literal["incremental", "full"] = "incremental"
    batch_size: int | None = None
    precision: Precision = "fp32"
    check_on: int = CHECKED


def score_variants(
    table: pd.DataFrame,
    genome: SequenceSource,
    model: BaseModel,
    distance: int = 50,
    *,
    annotation: GeneAnnotation | None = None,
    cache: ScoreCache | None = None,
    how: Computation = Computation(),
    progress: Progress | None = None,
) -> BaseScores:
    """Probabilities of reference and alternative at every position within ±distance of each variant.

    Args:
        table: a variant table (chrom, pos, ref, alt on the plus strand, strand and gene); alleles may hold N.
        distance: positions to either side of `pos` (SpliceAI's -D).
        annotation: with it, bases outside the row's gene are N, as in SpliceAI's command; without it, all bases are
            used. A row without a gene's name takes the only gene there on its strand.
        cache: scores found there are used, and new ones added.
        progress: called with (variants done, variants in all): first with those found in the cache, then as others are
            scored; not called if all were found.

    Raises:
        InputError: a reference allele that is not the genome's, a gene that is not in the annotation or does not hold
            the variant, a contig the genome lacks, a bad distance, method or precision.
        RunError: the cache cannot be written to; a score is not a number.
    """
    _check_asked(model, distance, how)
    loci = list(_loci(table, genome, annotation))
    shape = (len(loci), 2 * distance + 1, len(model.channels))
    empty = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    scores = BaseScores(*empty, distance, model.name, model.digest, model.channels, precision=how.precision)
    digest = digest_in(model, how.precision)
    keys, todo = [], list(range(len(loci)))
    if cache is not None:
        keys = [_key(locus, genome, digest, model.flank, distance) for locus in loci]
        todo, digits = _fill_from_cache(scores, keys, digest, cache)
        scores = replace(scores, digits=digits)
    tally = Tally()
    if how.precision != "fp32":
        check, used = _compared([loci[row] for row in todo], genome, model, distance, how, tally)
        if not used:
            same = {"annotation": annotation, "cache": cache, "how": replace(how, precision="fp32")}
            exact = score_variants(table, genome, model, distance, **same, progress=progress)  # type: ignore[arg-type]
            operations, seconds = exact.operations + tally.operations, exact.seconds + tally.seconds
            return replace(exact, check=check, operations=operations, seconds=seconds)
        scores = replace(scores, check=check)
    done = count(len(loci) - len(todo))

    def told(results: Iterable[Result]) -> Iterator[Result]:
        for result in results:
            yield result
            if progress is not None:
                progress(next(done), len(loci))

    if todo and progress is not None:
        progress(next(done), len(loci))
    if how.method == "incremental":
        scorer = IncrementalScorer(model, distance, how.batch_size or _batch_for(model), how.precision, tally)
        todo.sort(key=lambda row: loci[row].neighbourhood)
    for chunk in _chunks(todo, _SAVE_EVERY * torch.get_num_threads()):
        some = [loci[row] for row in chunk]
        with _whole_precision(), tally.timed():
            if how.method == "full":
                results = _full(genome, some, model, distance, how.batch_size or _FULL_BATCH, tally)
            else:
                results = _incremental(genome, some, distance, scorer)
            ref, alt = _laid_out(some, distance, len(model.channels), told(results))
        broken = np.flatnonzero(~(np.isfinite(ref).all(axis=(1, 2)) & np.isfinite(alt).all(axis=(1, 2))))
        if broken.size:
            first = describe(table.iloc[chunk[int(broken[0])]])
            raise RunError(
                f"{model.name}: the scores of {first} are no numbers; its weights are spoiled: fetch them again"
            )
        scores.ref[chunk], scores.alt[chunk] = ref, alt
        if cache is not None:
            cache.write([keys[row] for row in chunk], ref, alt, digest, distance)
    return replace(scores, operations=tally.operations, seconds=tally.seconds)


def _check_asked(model: BaseModel, distance: int, how: Computation) -> None:
    if how.method not in ("incremental", "full"):
        raise unknown_value("scoring method", how.method, ("incremental", "full"))
    if distance < 1:
        raise InputError(f"distance {distance} is not a number of positions of at least 1")
    if how.batch_size is not None and how.batch_size < 1:
        raise InputError(f"batch size {how.batch_size} is not at least 1")
    if how.precision not in PRECISIONS:
        raise unknown_value("precision", how.precision, PRECISIONS)
    if how.precision != "fp32" and how.method != "incremental":
        raise InputError(f"precision {how.precision} is for method incremental; method {how.method} has fp32 only")


def _compared(
    loci: Sequence[Locus], genome: SequenceSource, model: BaseModel, distance: int, how: Computation, tally: Tally
) -> tuple[str, bool]:
    """What is said of another precision than float32, and whether it may be used: on some variants, spread evenly, it
    is compared."""
    if not loci:
        return f"{how.precision}: compared with float32 when they were scored", True
    ordered = sorted(loci, key=lambda locus: locus.neighbourhood)
    places = np.unique(np.linspace(0, len(ordered) - 1, how.check_on).round().astype(int))
    some = [ordered[place] for place in places]
    with tally.timed():
        change = largest_change(genome, some, model, distance, how.precision, tally)
    told = f"on {len(some):,} of {len(loci):,} variants Δ differs from float32's by at most {change:.1g}"
    if change <= LARGEST_CHANGE:
        return f"{how.precision}: {told}", True
    return f"{how.precision} was asked for and not used: {told}, more than {LARGEST_CHANGE:g}", False


def largest_change(
    genome: SequenceSource,
    loci: Sequence[Locus],
    model: BaseModel,
    distance: int,
    precision: Precision,
    tally: Tally,
) -> float:
    """By how much Δ differs between a precision and float32, at most."""
    deltas = []
    pair: tuple[Precision, Precision] = ("fp32", precision)
    for one in pair:
        scorer = IncrementalScorer(model, distance, _batch_for(model), one, tally)
        with _whole_precision():
            ref, alt = _laid_out(loci, distance, len(model.channels), _incremental(genome, loci, distance, scorer))
        deltas.append(alt - ref)
    return float(np.abs(deltas[1] - deltas[0]).max())


def _batch_for(model: BaseModel) -> int:
    return _INCREMENTAL_BATCH.get(model.device.type, _INCREMENTAL_BATCH["cuda"])


@contextmanager
def _whole_precision() -> Iterator[None]:
    """No TF32: by default PyTorch's convolutions on NVIDIA GPUs keep ten bits of a number, an error of about 1e-3."""
    products = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(products)


def align_alternative(
    raw: Float32[np.ndarray, "outputs channels"], shift: int, distance: int
) -> Float32[np.ndarray, "positions channels"]:
    """Lay the alternative's outputs (`Locus.alt_outputs` of them) on the reference's positions, both from `pos` -
    distance on, plus strand.

    Deleted positions, which follow `pos`, become 0. Inserted positions are folded into `pos` by the maximum of each
    channel. This is what SpliceAI does for insertions and deletions; a delins follows the difference in length
    (`shift`, alternative minus reference).
    """
    if shift > 0:
        folded = raw[distance : distance + shift + 1].max(axis=0, keepdims=True)
        return np.concatenate([raw[:distance], folded, raw[distance + shift + 1 :]])
    gap = np.zeros((-shift, raw.shape[1]), dtype=raw.dtype)
    return np.concatenate([raw[: distance + 1], gap, raw[distance + 1 :]])[: 2 * distance + 1]


def _loci(table: pd.DataFrame, genome: SequenceSource, annotation: GeneAnnotation | None) -> Iterator[Locus]:
    contigs = {chrom: genome.resolve(chrom) for chrom in table["chrom"].unique()}
    for _, row in table.iterrows():
        start = int(row["pos"]) - 1
        ref = encode(row["ref"])
        found = genome.fetch(contigs[row["chrom"]], start, start + len(ref))
        if not np.array_equal(found, ref):
            raise InputError(
                f"{describe(row)}: {genome.name} has other bases there; leave such rows out with check_reference"
            )
        limits = None if annotation is None else _gene_of(row, annotation)
        yield Locus(contigs[row["chrom"]], start, ref, encode(row["alt"]), row["strand"], limits)


def _gene_of(row: pd.Series, annotation: GeneAnnotation) -> tuple[int, int]:
    """First base and one past the last base of the row's gene."""
    here = [gene for gene in annotation.overlapping(row["chrom"], int(row["pos"])) if gene.strand == row["strand"]]
    if row["gene"]:
        here = [gene for gene in here if gene.name == row["gene"]]
    if len(here) != 1:
        named = f"gene {row['gene']}" if row["gene"] else "one gene"
        names = ", ".join(gene.name for gene in here) or "none"
        raise InputError(
            f"{describe(row)}: not in {named} on strand {row['strand']} of {annotation.name} (there: {names}); "
            "name the gene in the column 'gene', or score without an annotation"
        )
    return here[0].start, here[0].end


def _plus_bases(genome: SequenceSource, locus: Locus, start: int, end: int) -> UInt8[np.ndarray, " length"]:
    """Bases [start, end) of the plus strand, N outside the gene's limits."""
    codes = genome.fetch(locus.contig, start, end)
    if locus.limits is not None:
        codes[: max(0, locus.limits[0] - start)] = N_CODE
        codes[max(0, locus.limits[1] - start) :] = N_CODE
    return codes


def _plus_windows(
    genome: SequenceSource, locus: Locus, distance: int, flank: int
) -> tuple[UInt8[np.ndarray, " ref_length"], UInt8[np.ndarray, " alt_length"]]:
    """Both sequences that the scores depend on, plus strand.

    The first output position of either is `pos` - distance; the reference has 2·distance + 1 of them, the alternative
    `Locus.alt_outputs`.
    """
    left = locus.start - distance - flank
    ref_length = 2 * (distance + flank) + 1
    alt_length = locus.alt_outputs(distance) + 2 * flank
    codes = _plus_bases(genome, locus, left, left + max(ref_length, alt_length - locus.shift))
    before = distance + flank
    alt = np.concatenate([codes[:before], locus.alt, codes[before + len(locus.ref) :]])
    return codes[:ref_length], alt[:alt_length]


def digest_in(model: BaseModel | BaseIdentity, precision: Precision) -> str:
    """Identity of networks and precision, by which the cache keeps scores apart."""
    return model.digest if precision == "fp32" else f"{model.digest} {precision}"


def score_keys(
    table: pd.DataFrame,
    genome: SequenceSource,
    model: BaseModel | BaseIdentity,
    distance: int,
    annotation: GeneAnnotation | None = None,
    precision: Precision = "fp32",
) -> list[bytes]:
    """Under which key the cache holds each variant's scores; arguments and errors as `score_variants` has them."""
    digest = digest_in(model, precision)
    return [_key(locus, genome, digest, model.flank, distance) for locus in _loci(table, genome, annotation)]


def _key(locus: Locus, genome: SequenceSource, digest: str, flank: int, distance: int) -> bytes:
    """A hash of all that a variant's scores depend on."""
    ref, alt = _plus_windows(genome, locus, distance, flank)
    alleles = f"{locus.strand}{len(locus.ref)}>{len(locus.alt)}"
    hashed = hashlib.sha256(f"{digest} {distance} {alleles} {len(ref)} {len(alt)}\n".encode())
    hashed.update(ref.tobytes())
    hashed.update(alt.tobytes())
    return hashed.digest()


def _fill_from_cache(
    scores: BaseScores, keys: list[bytes], digest: str, cache: ScoreCache
) -> tuple[list[int], int | None]:
    """Fill in what the cache holds; the rows that remain to be scored, and the fewest decimals of any rounded entry."""
    found = cache.read(keys, digest, scores.distance)
    todo = []
    for row, key in enumerate(keys):
        if key in found:
            scores.ref[row], scores.alt[row], _ = found[key]
        else:
            todo.append(row)
    return todo, min((entry.digits for entry in found.values() if entry.digits is not None), default=None)


def _chunks(rows: list[int], size: int) -> Iterator[list[int]]:
    for at in range(0, len(rows), size):
        yield rows[at : at + size]


def _laid_out(
    loci: Sequence[Locus], distance: int, channels: int, results: Iterable[Result]
) -> tuple[Outputs, Outputs]:
    """Reference and alternative of all variants, the alternative on the reference's positions."""
    ref = np.empty((len(loci), 2 * distance + 1, channels), np.float32)
    alt = np.empty_like(ref)
    for row, ref_outputs, alt_outputs in results:
        turn = loci[row].turn
        ref[row] = ref_outputs
        alt[row] = align_alternative(alt_outputs[turn], loci[row].shift, distance)[turn]
    return ref, alt


def _full(
    genome: SequenceSource,
    loci: Sequence[Locus],
    model: BaseModel,
    distance: int,
    batch_size: int,
    tally: Tally,
) -> Iterator[Result]:
    for some in _chunks(list(range(len(loci))), 4 * batch_size):
        sequences: list[np.ndarray] = []
        for row in some:
            both = _plus_windows(genome, loci[row], distance, model.flank)
            sequences += both if loci[row].strand == "+" else [reverse_complement(codes) for codes in both]
        outputs = predict_sequences(sequences, model, batch_size)
        distinct = {codes.tobytes() for codes in sequences}
        tally.operations += sum(network.operations(len(codes)) for codes in distinct for network in model.networks)
        yield from zip(some, outputs[::2], outputs[1::2], strict=True)


def predict_sequences(
    sequences: Sequence[UInt8[np.ndarray, " _"]], model: BaseModel, batch_size: int
) -> list[Float32[np.ndarray, "_ channels"]]:
    """The model's probabilities at the inner length - 2·flank positions of each sequence (transcript orientation).

    Equal sequences are run once; sequences of one length share batches; one network is run at a time.
    """
    by_length: dict[int, list[bytes]] = {}
    for codes in dict.fromkeys(codes.tobytes() for codes in sequences):
        by_length.setdefault(len(codes), []).append(codes)
    outputs: dict[bytes, np.ndarray] = {}
    for length, group in by_length.items():
        for at in range(0, len(group), batch_size):
            batch = group[at : at + batch_size]
            stacked = torch.from_numpy(np.frombuffer(b"".join(batch), np.uint8).reshape(-1, length).copy())
            x = one_hot(stacked.to(model.device))
            with torch.inference_mode():
                each = [network(x) for network in model.networks]
                of_slot = [
                    torch.stack([output for output, of in zip(each, model.slots, strict=True) if of == slot]).mean(
                        dim=0
                    )
                    for slot in range(max(model.slots) + 1)
                ]
            outputs.update(zip(batch, torch.cat(of_slot, dim=1).movedim(1, 2).cpu().numpy(), strict=True))
    return [outputs[codes.tobytes()] for codes in sequences]


def _incremental(
    genome: SequenceSource, loci: Sequence[Locus], distance: int, scorer: IncrementalScorer
) -> Iterator[Result]:
    """Variants that share contig, strand and limits share references; wild types and mutants of short contigs are
    changes of one contig of N (see `_LONGEST_CONSTRUCT`), wild types with numbers below 0."""
    lengths = genome.contigs()
    groups: dict[tuple[str, str, int, int], int] = {}
    wildtypes: dict[tuple[str, str], int] = {}
    in_constructs, changes, members = set[int](), list[Change](), list[Locus]()
    for row, locus in enumerate(loci):
        length = lengths[locus.contig]
        if locus.limits is None and length <= _LONGEST_CONSTRUCT:
            in_constructs.add(row)
            codes = genome.fetch(locus.contig, 0, length)
            if (locus.contig, locus.strand) not in wildtypes:
                number = wildtypes[locus.contig, locus.strand] = -1 - len(wildtypes)
                whole = Change(number, -1, 0, length, codes, (0, 1), (-distance, length + distance))
                changes.append(whole.along(locus.strand))
            mutant = np.concatenate([codes[: locus.start], locus.alt, codes[locus.start + len(locus.ref) :]])
            first = locus.start - distance
            asked = (first, first + locus.alt_outputs(distance))
            changes.append(Change(row, -1, 0, length, mutant, (0, 1), asked).along(locus.strand))
            continue
        group = groups.setdefault(locus.neighbourhood[:4], len(groups))
        if group == len(members):
            members.append(locus)
        changes.append(_change(genome, locus, distance, row, group))

    def fetch(group: int, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        if group == -1:
            return np.full(end - start, N_CODE, dtype=np.uint8)
        if members[group].strand == "+":
            return _plus_bases(genome, members[group], start, end)
        return reverse_complement(_plus_bases(genome, members[group], 1 - end, 1 - start))

    found: dict[int, np.ndarray] = {}
    for results in scorer.score(changes, fetch):
        found |= {row: alt for row, _, alt in results if row < 0 or row in in_constructs}
        yield from (result for result in results if result[0] not in found)
    for row in in_constructs:
        locus = loci[row]
        wildtype = found[wildtypes[locus.contig, locus.strand]][locus.turn]
        yield row, wildtype[locus.start : locus.start + 2 * distance + 1][locus.turn], found[row]


def _change(genome: SequenceSource, locus: Locus, distance: int, row: int, group: int) -> Change:
    """A variant in transcript coordinates (see `changes`), without the bases its two alleles share at the ends."""
    ref, alt = _plus_bases(genome, locus, locus.start, locus.start + len(locus.ref)), locus.alt
    front = _shared(ref, alt)
    back = _shared(ref[front:][::-1], alt[front:][::-1])
    start, end = locus.start + front, locus.start + len(ref) - back
    first = locus.start - distance
    outputs, alt_outputs = (first, first + 2 * distance + 1), (first, first + locus.alt_outputs(distance))
    change = Change(row, group, start, end - start, alt[front : len(alt) - back], outputs, alt_outputs)
    return change.along(locus.strand)


def _shared(one: UInt8[np.ndarray, " bases"], other: UInt8[np.ndarray, " more"]) -> int:
    """How many bases two alleles begin with in common."""
    shortest = min(len(one), len(other))
    differing = np.flatnonzero(one[:shortest] != other[:shortest])
    return int(differing[0]) if differing.size else shortest
