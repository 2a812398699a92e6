"""Long sequences: the memory that was held, beside the memory that the planner foresees.

Part of `python benchmarks/training.py --long-context`. Each piece of work runs in a process of its own, on random bases
and random weights: neither decides about memory. What is measured is how far the process (on CUDA: the allocator) grew
beyond what it held before the model was built. What is foreseen is the planner's dry trace of the same model on the
same kind of device. A piece that is foreseen to need more than is free is left out and says so.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meta_spliceai.experiments.plan.dry_trace import DryRun, dry_run
from meta_spliceai.experiments.plan.gpu_prices import load_market
from meta_spliceai.experiments.plan.run_work import card
from meta_spliceai.splice_engine.meta_layer.features import (
    WindowData,
    choose_device,
    frozen_features,
    peak_memory,
    reset_peak,
)
from meta_spliceai.splice_engine.meta_layer.models import HyenaDNADeltaPredictor, Predictor
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.meta_layer.training import try_step
from meta_spliceai.splice_engine.variants.table import Coverage, Windows

SPARE = 2.5e9
"""Bytes left to everything else on the machine."""

ALLOWED = 0.15
"""How far the measured memory may be from the foreseen."""

EMBEDDING, STEP = "one sequence's features, both strands", "a training step of one variant"


@dataclass(frozen=True)
class Piece:
    """One model at one length.

    Attributes:
        size: a published HyenaDNA.
        window: bases of a window.
        work: EMBEDDING, through the frozen encoder, or STEP, forward, backward and optimiser, all layers trained.
        checkpointing: recompute activations in the backward pass.
    """

    size: str
    window: int
    work: str
    checkpointing: bool = False

    def build(self) -> Predictor:
        """The model, with random weights."""
        return HyenaDNADeltaPredictor(
            self.size,
            window=self.window,
            freeze_encoder=self.work == EMBEDDING,
            weights="scratch",
            gradient_checkpointing=self.checkpointing,
        )

    def foreseen(self, cuda: bool) -> int:
        """Bytes that the planner's dry trace finds."""
        dry: DryRun = dry_run(self.build, TrainingConfig(), mixed=cuda, cuda=cuda)
        work = dry.embedding if self.work == EMBEDDING else dry.training
        if work is None:
            raise ValueError("an embedding is of a frozen encoder")
        return work.at(1).peak_bytes


PIECES: dict[str, Piece] = {
    "small-32k-step-checkpointed": Piece("hyenadna-small-32k", 32769, STEP, checkpointing=True),
    "medium-160k-forward": Piece("hyenadna-medium-160k", 160001, EMBEDDING),
    "small-32k-step": Piece("hyenadna-small-32k", 32769, STEP),
}


def measure_pieces(device: torch.device, names: list[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Foreseen and measured bytes of each piece, and the smallest card that the planner says it fits.

    Args:
        device: where they run.
        names: which of PIECES.
        say: told each one's result.
    """
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, Any] = {}
    for name in names:
        piece = PIECES[name]
        # Processes of their own: what one piece leaves behind must not count for the next.
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            foreseen, on_a_card = pool.submit(_foresee, name, device.type == "cuda").result()
        row: dict[str, Any] = {
            "model": piece.size,
            "window": piece.window,
            "work": piece.work + (", checkpointed" if piece.checkpointing else ""),
            "foreseen_bytes": foreseen,
            "on_a_card_bytes": on_a_card,
            "smallest_card": _smallest_card(on_a_card),
        }
        free = _free(device)
        if foreseen + SPARE > free:
            row["left_out"] = f"{free / 1e9:.1f} GB are free"
            say(f"{name}: foreseen {foreseen / 1e9:.2f} GB, not run: {row['left_out']}")
        else:
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                row["measured_bytes"] = pool.submit(_measure, name, str(device)).result()
            row["ratio"] = row["measured_bytes"] / foreseen
            say(f"{name}: measured {row['measured_bytes'] / 1e9:.2f} GB, {row['ratio']:.2f} of the foreseen")
        found[name] = row
    return found


def _foresee(name: str, cuda: bool) -> tuple[int, int]:
    on_a_card = PIECES[name].foreseen(cuda=True)
    return on_a_card if cuda else PIECES[name].foreseen(cuda=False), on_a_card


def _smallest_card(needed: int) -> str:
    cards = [(gpu.vram_gb, gpu.name, card(gpu)) for gpu in load_market(None).gpus.values()]
    fitting = [(gb, name) for gb, name, machine in cards if needed + machine.held_bytes <= machine.memory_bytes]
    return "{1} ({0:g} GB)".format(*min(fitting)) if fitting else "none"


def _free(device: torch.device) -> float:
    """Bytes a process may take now without making others wait for the disk."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not say what is available")


def _measure(name: str, device_name: str) -> int:
    """Bytes by which this fresh process grew at most."""
    piece, device = PIECES[name], choose_device(device_name)
    before = 0 if device.type == "cuda" else _resident()
    reset_peak(device)
    rng = np.random.default_rng(0)
    ref = rng.integers(0, 4, (2, piece.window), dtype=np.uint8)
    predictor = piece.build()
    with tempfile.TemporaryDirectory() as folder:
        if piece.work == EMBEDDING:
            one = WindowData.on_device(Windows(ref[:1], ref[:1]), device)
            frozen_features(predictor, one, Path(folder), batch_size=1)
        else:
            alt = ref.copy()
            alt[:, piece.window // 2] = (alt[:, piece.window // 2] + 1) % 4
            labels = Targets(np.zeros((2, 3), np.float32), np.ones(2, bool), Coverage(2))
            try_step(predictor, Windows(ref, alt), labels, np.arange(2), TrainingConfig(batch_size=1), str(device))
    return peak_memory(device) - before


def _resident() -> int:
    """Bytes of this process in memory now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS")


def off(pieces: dict[str, Any]) -> list[str]:
    """Pieces whose measured memory is too far from the foreseen, in words."""
    return [
        f"{name}: measured {row['ratio']:.2f} of the foreseen; at most {ALLOWED:.0%} off is allowed"
        for name, row in pieces.items()
        if "ratio" in row and abs(row["ratio"] - 1) > ALLOWED
    ]


def table(machine: dict[str, Any], date: str, pieces: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    lines = [
        f"{machine['device']}, {machine['threads']} threads, PyTorch {machine['torch']}, {date[:10]}. Random weights "
        "and bases. Foreseen: the planner's dry trace on this kind of device; on a card: the same in bfloat16 with "
        "CUDA's workspaces, and the smallest card of the planner's list that holds it.",
        "",
        "| model | window | work | measured, GB | foreseen, GB | measured / foreseen | on a card, GB | fits |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in pieces.values():
        measured, ratio = "not run", row.get("left_out", "")
        if "measured_bytes" in row:
            measured, ratio = f"{row['measured_bytes'] / 1e9:.2f}", f"{row['ratio']:.2f}"
        lines.append(
            f"| {row['model']} | {row['window']:,} | {row['work']} | {measured} | {row['foreseen_bytes'] / 1e9:.2f} "
            f"| {ratio} | {row['on_a_card_bytes'] / 1e9:.2f} | {row['smallest_card']} |"
        )
    return "\n".join(lines) + "\n"
