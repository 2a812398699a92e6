"""How fast a machine does counted work: a card from its data sheet, this computer's processor, and openly stated
assumptions where nothing was measured."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch

from meta_spliceai.experiments.plan.dry_trace import Traced
from meta_spliceai.experiments.plan.gpu_prices import Gpu
from meta_spliceai.splice_engine.base_layer.kernel_choice import measured_rate

# Assumptions, openly stated where they enter a plan.
MATRIX_SHARE = 0.30  # of a card's matrix rate that training reaches
BANDWIDTH_SHARE = 0.60  # of a memory's bandwidth that elementwise work reaches
LAUNCH_SECONDS = 8e-6  # in which PyTorch issues one operation: no operation is shorter
STEP_SECONDS = 1.5e-3  # of the training loop around each step
CORE_FLOPS = 40e9  # float32 operations a second of one processor core
CORE_BANDWIDTH = 6e9  # bytes a second of one processor core
CONVOLUTIONS_SHARE = 0.75  # of base scoring's time on a processor in its convolutions, whose rate is measured
SCORING_SHARE = 0.10  # of a card's float32 rate that base scoring reaches; of its bfloat16 rate with precision bf16
USABLE = 0.93  # of advertised memory that a training may fill: the context and fragmentation take the rest

CUBLAS_BYTES = 8_519_680
CUBLAS_BYTES_HOPPER = 33_554_432
"""Workspace PyTorch gives cuBLAS once (CUBLAS_WORKSPACE_CONFIG's default: 8 MiB and a bit, 32 MiB on Hopper)."""

CPU = "cpu"


@dataclass(frozen=True)
class Machine:
    """A card, or this computer's processor.

    Rates are floating-point operations a second: `half` of matrix units on 16-bit numbers, `whole` of everything else,
    `scoring` and `scoring_half` of incremental base scoring in float32 and in parts of bfloat16. `memory_bytes` is
    usable: what the driver takes is left out; `held_bytes` is what libraries hold whatever runs; `assumed` says what
    was assumed.
    """

    name: str
    cuda: bool
    memory_bytes: int
    half: float
    whole: float
    bandwidth: float
    scoring: float
    scoring_half: float
    held_bytes: int
    assumed: str

    def seconds(self, traced: Traced) -> float:
        """What one traced pass takes: each operation as long as its arithmetic, its memory traffic or its launch,
        whichever is longest (the roofline, Williams, Waterman and Patterson 2009, 10.1145/1498765.1498785)."""
        rate = np.where(traced.matrix & traced.half, self.half, self.whole)
        each = np.maximum(traced.flops / rate, traced.moved / self.bandwidth)
        return float(np.maximum(each, LAUNCH_SECONDS).sum())


def card(gpu: Gpu) -> Machine:
    """A card by its data sheet. PyTorch's convolutions use TF32 by default, its matrix products do not; training runs
    in bfloat16 anyway."""
    return Machine(
        name=gpu.name,
        cuda=True,
        memory_bytes=int(gpu.vram_gb * 1e9 * USABLE),
        half=gpu.bf16_tflops * 1e12 * MATRIX_SHARE,
        whole=gpu.fp32_tflops * 1e12 * MATRIX_SHARE,
        bandwidth=gpu.bandwidth_gb_s * 1e9 * BANDWIDTH_SHARE,
        scoring=gpu.fp32_tflops * 1e12 * SCORING_SHARE,
        scoring_half=gpu.bf16_tflops * 1e12 * SCORING_SHARE,
        held_bytes=CUBLAS_BYTES_HOPPER if gpu.name.startswith("H") else CUBLAS_BYTES,
        assumed=(
            f"data sheet × assumed {MATRIX_SHARE:.0%} of arithmetic and {BANDWIDTH_SHARE:.0%} of bandwidth, "
            f"{SCORING_SHARE:.0%} of arithmetic in base scoring"
        ),
    )


def processor(threads: int, memory_bytes: int, convolutions: float | None = None) -> Machine:
    """A processor with so many threads at work.

    Args:
        threads: PyTorch's.
        memory_bytes: of the computer.
        convolutions: operations a second and thread that base networks' convolutions came to there.
    """
    rate = threads * CORE_FLOPS
    measured = "" if convolutions is None else f"; convolutions measured at {convolutions / 1e9:.0f} GFLOP/s a thread"
    return Machine(
        name=CPU,
        cuda=False,
        memory_bytes=int(memory_bytes * USABLE),
        half=rate,
        whole=rate,
        bandwidth=threads * CORE_BANDWIDTH,
        scoring=rate if convolutions is None else threads * convolutions * CONVOLUTIONS_SHARE,
        scoring_half=rate,  # a processor multiplies the parts in float32
        held_bytes=0,
        assumed=(
            f"assumed {CORE_FLOPS / 1e9:.0f} GFLOP/s and {CORE_BANDWIDTH / 1e9:.0f} GB/s a thread, {threads} threads"
            f"{measured}"
        ),
    )


def this_processor() -> Machine:
    """The computer at hand, with PyTorch's present number of threads."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in os.sysconf_names else 8e9
    return processor(torch.get_num_threads(), int(memory), measured_rate())
