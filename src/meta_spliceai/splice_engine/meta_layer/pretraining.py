"""Next-base pre-training of HyenaDNA, for use where no model hub is reachable, on locally available sequence: stretches
of known bases, some of them held out by chromosome."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.genome.packed import RegionFasta, packaged_transcripts
from meta_spliceai.splice_engine.genome.sequence import N_CODE, SequenceSource
from meta_spliceai.splice_engine.meta_layer.features import choose_device
from meta_spliceai.splice_engine.meta_layer.models.hyenadna import BASE_TOKENS, HyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.hyenadna_weights import (
    WEIGHTS,
    model_config,
    write_hub_format,
)
from meta_spliceai.splice_engine.meta_layer.settings import Settings, TrainingPrecision
from meta_spliceai.splice_engine.meta_layer.training import (
    LAST,
    epoch_seed,
    precision_of,
    read_checkpoint,
    share_of_rate,
    write_checkpoint,
)

Codes = UInt8[np.ndarray, " length"]

_COUNTED_AT_ONCE = 2**20
"""K-mers that are counted together: counting takes eight bytes for each base of each."""


@dataclass(frozen=True)
class Corpus:
    """Stretches of bases (codes 0 to 4), to train on and held out for validation.

    Attributes:
        held_out_names: chromosomes of the latter, as they were asked for.
        digest: SHA-256 of all but the name.
    """

    name: str
    training: list[Codes]
    held_out: list[Codes]
    held_out_names: tuple[str, ...]
    digest: str

    def kmers(self, k: int) -> Int[np.ndarray, "*bases"]:
        """How often each k-mer occurs in the stretches to train on, on both strands: k axes of four bases."""
        counts = np.zeros(4**k, np.int64)
        for codes in self.training:
            for start in range(0, len(codes) - k + 1, _COUNTED_AT_ONCE):
                each = sliding_window_view(codes[start : start + _COUNTED_AT_ONCE + k - 1].astype(np.int64), k)
                known = each[(each != N_CODE).all(axis=1)]
                counts += np.bincount(known @ 4 ** np.arange(k)[::-1], minlength=4**k)
        forward = counts.reshape((4,) * k)
        return forward + np.flip(forward.T)


def known_bases(stretches: Iterable[Codes]) -> int:
    """Bases that are not N."""
    return sum(int(np.count_nonzero(codes != N_CODE)) for codes in stretches)


class MarkovModel:
    """The chance of each base after the `order` bases before it, or after as many as are known (add-one smoothing).

    Args:
        kmers: counts of longer k-mers than the order, as `Corpus.kmers` gives them.
        order: how many bases it looks back.
    """

    def __init__(self, kmers: Int[np.ndarray, "*bases"], order: int) -> None:
        counts = kmers.sum(axis=tuple(range(kmers.ndim - order - 1))) + 1
        self._chances = []  # after `order` bases, one fewer …, none
        for _ in range(order + 1):
            self._chances.append(counts / counts.sum(axis=-1, keepdims=True))
            counts = counts.sum(axis=0)

    def bits(self, codes: UInt8[np.ndarray, "batch length"]) -> float:
        """Mean bits a base of sequences whose first base and whose N are not asked for."""
        order, asked = len(self._chances) - 1, codes != N_CODE
        known = np.zeros(codes.shape, np.int64)  # bases before each one without an N or the sequence's beginning
        for at in range(1, codes.shape[1]):
            known[:, at] = np.where(asked[:, at - 1], np.minimum(known[:, at - 1] + 1, order), 0)
        asked[:, 0] = False
        total = 0.0
        for back in range(order + 1):
            rows, places = np.nonzero(asked & (known == back))
            kmers = tuple(codes[rows, places - one] for one in range(back, -1, -1))
            total -= float(np.log2(self._chances[order - back][kmers]).sum())
        return total / max(1, int(asked.sum()))


def corpus_of(source: SequenceSource, hold_out: Sequence[str]) -> Corpus:
    """A genome's contigs, or a sparse genome's regions; the chromosomes named are held out."""
    stretches: list[tuple[str, Codes]] = []
    for contig, length in source.contigs().items():
        parts = source.regions(contig) if isinstance(source, RegionFasta) else [(0, length)]
        stretches += [(contig, source.fetch(contig, start, end)) for start, end in parts]
    return _divided(source.name, stretches, hold_out)


def packaged_genes(hold_out: Sequence[str]) -> Corpus:
    """The whole human genes (exons and introns, transcript orientation) of PyPI's frame-alignment-checks.

    Genes without coordinates are left out: it is not known which side of the hold-out they belong to.
    """
    genes = sorted(packaged_transcripts(), key=lambda gene: gene[0])
    stretches = [(str(place["chrom"]), codes) for _, place, codes in genes]
    return _divided("genes of frame-alignment-checks", stretches, hold_out)


def _divided(name: str, stretches: Iterable[tuple[str, Codes]], hold_out: Sequence[str]) -> Corpus:
    bare, digest = {bare_contig(chrom) for chrom in hold_out}, hashlib.sha256()
    parts: dict[bool, list[Codes]] = {False: [], True: []}
    there = set()
    for chrom, codes in stretches:
        held = bare_contig(chrom) in bare
        there.add(bare_contig(chrom))
        parts[held].append(codes)
        digest.update(f"{len(codes)} {held} ".encode())
        digest.update(np.ascontiguousarray(codes).data)
    if unknown := sorted(bare - there):
        raise InputError(
            f"chromosome '{unknown[0]}' to hold out is not in {name}; it has {', '.join(sorted(there)[:30])}"
        )
    for held, words in ((False, "to train on"), (True, "held out")):
        if not known_bases(parts[held]):
            raise InputError(f"{name}: what is {words} has no known base; hold out other chromosomes, but not all")
    return Corpus(name, parts[False], parts[True], tuple(hold_out), digest.hexdigest())


CURVES = "curves.parquet"

Progress = Callable[[int, float, float], None]
"""Called with the step, the training bits a base and the tokens a second."""

ORDERS = (0, 5, 8)
"""Of the Markov models that an encoder is compared with; 0 knows only how often each base occurs."""

LAST_LOOK = 16
"""How many times as much held-out sequence as at a checkpoint is read at the end."""


class PretrainingConfig(Settings):
    """Settings of a pre-training run."""

    words: ClassVar[str] = "pre-training settings"

    size: str = Field("hyenadna-tiny-1k", description="Which HyenaDNA (the published sizes' names).")
    length: int = Field(1024, ge=16, le=1_000_002, description="Bases in a training sequence.")
    batch_size: int = Field(8, ge=1, le=1_000_000, description="Sequences in a step.")
    steps: int = Field(1000, ge=1, description="Steps of the optimiser.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: for the layers' matrices, AdamW for the rest."
    )
    learning_rate: float = Field(6e-4, gt=0, le=1000, description="Highest rate of AdamW; Muon's is 10 times.")
    weight_decay: float = Field(0.1, ge=0, description="Weight decay of matrices; the filters have none.")
    warmup_fraction: float = Field(0.02, ge=0, lt=1, description="Share of the steps in which the rate climbs.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    check_every: int = Field(200, ge=1, description="Steps between checkpoints with a look at the held-out sequence.")
    check_batches: int = Field(16, ge=1, description="Batches of held-out sequence in each look.")
    precision: TrainingPrecision = Field("auto", description="auto: bfloat16 mixed on CUDA, float32 on a CPU.")
    gradient_checkpointing: bool = Field(False, description="Less memory in the backward pass, a third more time.")
    seed: int = Field(0, ge=0, description="Of weights, sequences and dropout.")


@dataclass(frozen=True)
class PretrainingReport:
    """What pre-training did.

    Attributes:
        curves: one row per check on the held-out sequence: step, train_bits, held_out_bits (cross entropy in bits per
            base; 2 means no information), tokens_per_second, learning_rate.
        held_out_bits, markov_bits: of the finished encoder on `LAST_LOOK` times as much sequence, and of Markov models
            (by order) counted on the training sequence.
        resumed_from: step this process went on from; None if it started from the beginning.
        origin: what the encoder saw, in words, as stored beside the weights.
    """

    curves: pd.DataFrame
    held_out_bits: float
    markov_bits: dict[int, float]
    resumed_from: int | None
    origin: str


class _Sequences:
    """A part of the corpus on the device; batches are cut there, half of them from the other strand."""

    def __init__(self, stretches: list[Codes], length: int, device: torch.device) -> None:
        longest = max(map(len, stretches))
        if longest < length:
            raise InputError(f"no stretch that is held out, or to train on, has {length} bases; the longest: {longest}")
        kept = [codes for codes in stretches if len(codes) >= length]
        self.codes = torch.from_numpy(np.concatenate(kept)).to(device)
        lengths = torch.tensor([len(codes) for codes in kept])
        self.first = lengths.cumsum(0) - lengths
        # Every start is equally likely: a stretch is drawn as often as it has places.
        self.until = (lengths - length + 1).cumsum(0)
        self.span = torch.arange(length, device=device)
        self.complement = torch.tensor([3, 2, 1, 0, N_CODE], dtype=torch.uint8, device=device)

    def batch(self, size: int, seed: int) -> UInt8[Tensor, "batch length"]:
        """Sequences drawn at random, the same for the same seed on every device."""
        generator = torch.Generator().manual_seed(seed)
        ticket = torch.randint(int(self.until[-1]), (size,), generator=generator)
        turned = torch.rand(size, generator=generator) < 0.5
        stretch = torch.searchsorted(self.until, ticket, right=True)
        before = torch.where(stretch > 0, self.until[stretch - 1], 0)
        start = (self.first[stretch] + ticket - before).to(self.codes.device)
        codes = self.codes[start[:, None] + self.span]
        other = self.complement[codes.flip(1).long()]
        return torch.where(turned.to(codes.device)[:, None], other, codes)


class _LanguageModel(nn.Module):
    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        self.encoder = HyenaDNA(model_config(config.size), config.gradient_checkpointing)
        self.encoder.start_for(config.length)
        self.head = nn.Linear(self.encoder.config.d_model, self.encoder.config.vocabulary, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, codes: UInt8[Tensor, "batch length"]) -> Float[Tensor, ""]:
        """Mean cross entropy of each base given those before it, in nats; unknown bases are not asked for."""
        tokens: Int[Tensor, "batch length"] = codes.long() + BASE_TOKENS[0]
        logits = self.head(self.encoder(self.encoder.embed(tokens[:, :-1]))).float()
        wanted = tokens[:, 1:].masked_fill(codes[:, 1:] == N_CODE, -100)
        # A batch of nothing but N has no loss; the sum keeps it at zero instead of 0/0.
        total = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum")
        return total / (wanted != -100).sum().clamp_min(1)


class _Pretrainer:
    """The model, its optimisers and its sequences; `step` steps are done, and `curves` has a line for each look at the
    held-out sequence."""

    def __init__(self, corpus: Corpus, config: PretrainingConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.training = _Sequences(corpus.training, config.length, device)
        self.held_out = _Sequences(corpus.held_out, config.length, device)
        torch.manual_seed(config.seed)
        self.model = _LanguageModel(config).to(device)
        self.optimizers = _optimizers(self.model, config)
        self.groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        self.step, self.curves = 0, list[dict[str, float]]()

    def mixed(self) -> torch.autocast:
        half = precision_of(self.config.precision, self.device) == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def train_step(self) -> Tensor:
        """One step of the optimisers: its loss, in nats."""
        config, seed = self.config, epoch_seed(self.config.seed, self.step)
        torch.manual_seed(seed)
        for group in self.groups:
            group["lr"] = self.share_of_rate() * group["highest_rate"]
        self.model.train()
        self.model.zero_grad()
        with self.mixed():
            loss: Tensor = self.model(self.training.batch(config.batch_size, seed ^ 1))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return loss.detach()

    def share_of_rate(self) -> float:
        return share_of_rate(self.step, self.config.steps, self.config.warmup_fraction)

    def run(self, save: Callable[[], None], progress: Progress | None) -> None:
        """All steps that are left; `save` is called after each look at the held-out sequence."""
        config = self.config
        started, since, total = time.perf_counter(), 0, torch.zeros((), device=self.device)
        while self.step < config.steps:
            rate = self.share_of_rate() * config.learning_rate
            loss = self.train_step()
            total += loss
            since += 1
            speed = since * config.batch_size * config.length / (time.perf_counter() - started)
            if progress is not None:
                progress(self.step, float(loss) / math.log(2), speed)
            if self.step % config.check_every and self.step < config.steps:
                continue
            mean = float(total) / since / math.log(2)
            if not math.isfinite(mean):
                raise RunError(
                    f"the loss became {mean} before step {self.step}; lower learning_rate ({config.learning_rate:g})"
                )
            self.curves.append(
                {
                    "step": self.step,
                    "train_bits": mean,
                    "held_out_bits": self.held_out_bits(config.check_batches),
                    "tokens_per_second": speed,
                    "learning_rate": rate,
                }
            )
            save()
            started, since, total = time.perf_counter(), 0, torch.zeros((), device=self.device)

    def held_out_bits(self, batches: int) -> float:
        """Bits a base on the first of the held-out batches, the same ones at every look."""
        self.model.eval()
        with torch.inference_mode(), self.mixed():
            size = self.config.batch_size
            losses = [float(self.model(self.held_out.batch(size, seed))) for seed in range(batches)]
        return sum(losses) / len(losses) / math.log(2)

    def state(self) -> dict[str, Any]:
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        return {"step": self.step, "curves": self.curves, "model": self.model.state_dict(), "optimizers": optimizers}

    def resume(self, state: dict[str, Any]) -> int:
        """Go on from what `state` gave: the number of steps that are done."""
        self.step, self.curves = state["step"], state["curves"]
        self.model.load_state_dict(state["model"])
        for optimizer, its_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        self.groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return self.step


def _optimizers(model: _LanguageModel, config: PretrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters, or Muon for the layers' matrices and AdamW for the others. Muon: Jordan et al. 2024,
    "Muon: An optimizer for hidden layers in neural networks"."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        # The filters' networks are small and shape long convolutions: decay would flatten them (as published).
        if parameter.ndim < 2 or ".filter_fn." in name:
            free.append(parameter)
        elif config.optimizer == "muon" and ".layers." in name and parameter.ndim == 2:
            matrices.append(parameter)
        else:
            decayed.append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=10 * config.learning_rate, weight_decay=config.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["highest_rate"] = group["lr"]
    return optimizers


def pretrain(
    corpus: Corpus,
    config: PretrainingConfig,
    directory: Path | str,
    device: str = "auto",
    resume: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
) -> PretrainingReport:
    """Train HyenaDNA to predict the next base, and write it in the model hub's own format.

    Step n draws the same sequences whatever came before, so that an interrupted and resumed run ends as an unbroken
    one does on the same device.

    Args:
        directory: gets config.json and model.safetensors (usable as `weights` of a predictor), curves.parquet, and
            last.ckpt while it runs.
        device: "auto", "cpu" or "cuda".
        resume: go on from last.ckpt; without one, start from the beginning.
        fresh: start from the beginning in a folder that holds an encoder or a checkpoint, and replace them.
        progress: called after each step with the step, the training bits a base and the tokens a second.

    Raises:
        InputError: an unknown size, a length the size cannot read, no stretch of that length.
        RunError: the loss is no longer a number; a checkpoint of another run; a folder that cannot be made, or that
            holds what would be lost; out of memory; no CUDA device.
        KeyboardInterrupt: stopped by the user; last.ckpt holds the last look, or the interrupted step.
    """
    folder, place = Path(directory), choose_device(device)
    last, longest = folder / LAST, model_config(config.size).max_seq_len
    if config.length - 1 > longest:
        raise InputError(f"length {config.length} is more than {config.size} reads ({longest})")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made a folder ({error.strerror}); choose another place") from error
    if not fresh and last.exists() and not resume:
        raise RunError(f"{folder} holds an unfinished encoder: go on with --resume, or start over with --fresh")
    if not fresh and not last.exists() and (folder / WEIGHTS).exists():
        raise RunError(f"{folder} holds a finished encoder: choose another folder, or replace it with --fresh")
    identity = {**config.model_dump(), "corpus": corpus.digest}
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        work = _Pretrainer(corpus, config, place)
        stored = read_checkpoint(last, identity) if resume else None
        resumed_from = None if stored is None else work.resume(stored)
        try:
            work.run(lambda: write_checkpoint(last, identity, work.state()), progress)
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"out of memory on {place} at batch_size {config.batch_size} and length {config.length}; halve either"
            ) from error
        except KeyboardInterrupt:
            write_checkpoint(last, identity, work.state())
            raise
    facts = _compared(work, corpus)
    origin = _in_words(facts, corpus)
    write_hub_format(work.model.encoder, work.model.head, folder, origin, facts)
    curves = pd.DataFrame(work.curves)
    with atomic_write(folder / CURVES, "wb") as handle:
        curves.to_parquet(handle)
    last.unlink(missing_ok=True)
    markov = {int(order): value for order, value in facts["markov_bits"].items()}
    return PretrainingReport(curves, facts["held_out_bits"], markov, resumed_from, origin)


def _compared(work: _Pretrainer, corpus: Corpus) -> dict[str, Any]:
    """What an encoder's config.json says of its training: bits a base of the encoder and of each Markov model on the
    same bases; one that no Markov model is worse than is not called pre-trained."""
    config = work.config
    batches, kmers, markov = LAST_LOOK * config.check_batches, corpus.kmers(max(ORDERS) + 1), {}
    for order in ORDERS:
        counted = MarkovModel(kmers, order)
        each = [counted.bits(work.held_out.batch(config.batch_size, seed).cpu().numpy()) for seed in range(batches)]
        markov[str(order)] = sum(each) / batches
    bits = work.held_out_bits(batches)
    return {
        "sequence": Path(corpus.name).name,
        "held_out": list(corpus.held_out_names),
        "settings": config.model_dump(),
        "held_out_bits": bits,
        "markov_bits": markov,
        "pretrained": bits < min(markov.values()),
    }


def _in_words(facts: dict[str, Any], corpus: Corpus) -> str:
    what = "pre-trained" if facts["pretrained"] else "trained, not better than a Markov model"
    beside = ", ".join(f"order {order}: {value:.4f}" for order, value in facts["markov_bits"].items() if order != "0")
    return (
        f"{what}: {known_bases(corpus.training) / 1e6:.1f} Mb of {facts['sequence']} without "
        f"{', '.join(facts['held_out'])}, {facts['settings']['steps']:,} steps, {facts['held_out_bits']:.4f} bits "
        f"a base (Markov models, {beside})"
    )
