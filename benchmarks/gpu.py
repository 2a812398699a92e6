"""How fast does a device score variants and train models, and what share of its own speed is that?

    python benchmarks/gpu.py [--device auto|cpu|cuda] [--time-limit 9m] [--quick] [--into results]

One command, under ten minutes. Measured, each number beside the roofline it is judged against:

* the device's own rates: a large matrix product in float32, in TF32 and bfloat16 where the device has them, and bytes
  read and written a second in a copy;
* scoring, for every family of base networks whose weights are at hand: variants a second of the whole ensemble in
  float32, for SNVs side by side ("dense") and SNVs that share nothing ("isolated"), in the incremental form; and pairs
  of whole windows a second ("full");
* training, for the rows of benchmarks/training.py: variants a second, and peak memory.

On CUDA, dense SNVs are scored in bfloat16 too (each number in two parts, so with three times the operations).

Operations are counted by PyTorch, not estimated: of the full form on a whole window, of the incremental form on the
very variants of a small job, of training on one variant forward and backward. Scoring runs in float32 with TF32 off, so
its limit is the float32 rate; training runs in bfloat16 on CUDA.

What does not fit into the time limit is left out and listed. Writes a line and a file into the ledger (`results/`), a
table beside this script's other results, and prints the table.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

import training
from meta_spliceai.errors import MetaSpliceAIError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.address import code_version
from meta_spliceai.experiments.environment import describe_environment
from meta_spliceai.experiments.executors.durations import parse_duration
from meta_spliceai.experiments.results import keep_benchmark
from meta_spliceai.splice_engine.base_layer.compiled_convolution import CompiledConvolution
from meta_spliceai.splice_engine.base_layer.families import FAMILIES, load_base_model
from meta_spliceai.splice_engine.base_layer.model import BaseModel
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.base_layer.split_products import Precision
from meta_spliceai.splice_engine.genome.memory import MemoryGenome
from meta_spliceai.splice_engine.genome.sequence import decode
from meta_spliceai.splice_engine.meta_layer.peak_memory import peak_memory, reset_peak
from meta_spliceai.splice_engine.meta_layer.window_data import choose_device
from meta_spliceai.splice_engine.variants.table import as_variant_table

HERE = Path(__file__).resolve().parent

DISTANCE = 50
APART = 12_000
"""Bases between isolated SNVs: more than two networks' flanks, so that they share nothing."""

COUNTED = 16
"""Variants on which the incremental form's operations are counted."""

SECONDS_A_MEASUREMENT = 4.0

Progress = Callable[[str], None]


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    limit = time.monotonic() + parse_duration(options.time_limit, "--time-limit")
    device = choose_device(options.device)
    families = options.families or list(FAMILIES)
    rows = options.rows or (["simple-cnn-101"] if options.quick else _rows_for(device))
    report: dict[str, Any] = {
        "benchmark": "gpu",
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": training._machine(device)["device"],
        "machine": training._machine(device),
        "environment": describe_environment(),
        "code": code_version(),
        "quick": options.quick,
        "rates": device_rates(device, options.quick),
        "scoring": [],
        "training": [],
        "left_out": [],
    }
    for name in families:
        for what in ("dense", "isolated", "full", *(("dense bf16",) if device.type == "cuda" or options.bf16 else ())):
            if not _time_for(f"scoring {name} {what}", limit, report):
                continue
            found = measure_scoring(name, what, device, report["rates"], options.quick)
            report["left_out" if isinstance(found, str) else "scoring"].append(found)
    for row in rows:
        if _time_for(f"training {row}", limit, report):
            report["training"].append(measure_training(row, device, report["rates"], options.quick))
    table = as_table(report)
    name = f"gpu-{device.type}" + ("-quick" if options.quick else "")
    kept = keep_benchmark(name, report, options.into)
    kept.with_suffix(".md").write_text(table)
    print(table)
    print(f"kept in {kept}")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--time-limit", default="9m", help="nothing begins after this (default 9m)")
    parser.add_argument("--quick", action="store_true", help="a few variants and one small row, to see that it runs")
    parser.add_argument("--bf16", action="store_true", help="score in bfloat16 too (always on CUDA)")
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), help="base networks (default: all at hand)")
    parser.add_argument("--rows", nargs="*", choices=list(training.ROWS), help="rows of benchmarks/training.py")
    parser.add_argument("--into", type=Path, default=HERE.parent / "results", help="the ledger's folder")
    return parser.parse_args(arguments)


def _rows_for(device: torch.device) -> list[str]:
    return [name for name, row in training.ROWS.items() if row.cpu or device.type == "cuda"]


def _time_for(what: str, limit: float, report: dict[str, Any]) -> bool:
    if time.monotonic() < limit:
        print(what, file=sys.stderr)
        return True
    report["left_out"].append(f"{what}: the time was over")
    return False


def device_rates(device: torch.device, quick: bool) -> dict[str, float | None]:
    """Operations a second of a large square matrix product by precision, and bytes a second of a copy; None: not
    measured on such a device."""
    size = 512 if quick else 8192 if device.type == "cuda" else 2048
    cuda = device.type == "cuda"
    copied = torch.empty((1 << 22) if quick or not cuda else (1 << 30), device=device)
    target = torch.empty_like(copied)
    seconds = _best_of(lambda: target.copy_(copied), device)
    return {
        "float32": product_rate(size, torch.float32, device, tf32=False),
        "tf32": product_rate(size, torch.float32, device, tf32=True) if cuda else None,
        "bfloat16": product_rate(size, torch.bfloat16, device, tf32=False) if cuda else None,
        "copy_bytes": 2 * copied.nbytes / seconds,
    }


def product_rate(size: int, dtype: torch.dtype, device: torch.device, *, tf32: bool) -> float:
    """Operations a second of a size × size × size product of random numbers."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        return 2 * size**3 / _best_of(lambda: a @ b, device)
    finally:
        torch.set_float32_matmul_precision(before)


def _best_of(run: Callable[[], object], device: torch.device, times: int = 8) -> float:
    """The shortest of several runs, seconds; the first ones warm up."""
    best = math.inf
    for _ in range(times):
        training._wait(device)
        started = time.perf_counter()
        run()
        training._wait(device)
        best = min(best, time.perf_counter() - started)
    return best


def snvs(count: int, apart: int, flank: int) -> tuple[pd.DataFrame, MemoryGenome]:
    """SNVs at equal distances in random sequence, with room for a network's flank at both ends."""
    random = np.random.default_rng(11)
    start = flank + DISTANCE + 1_000
    codes = random.integers(0, 4, 2 * start + count * apart, dtype=np.uint8)
    positions = start + apart * np.arange(count)
    letters = decode(codes)
    rows = [
        {
            "variant_id": f"snv {number}",
            "chrom": "random",
            "pos": int(at) + 1,
            "ref": letters[at],
            "alt": "ACGT"[(int(codes[at]) + 1) % 4],
            "strand": "+",
            "gene": "",
            "classification": "Unknown",
            "effect": math.nan,
            "source": "random",
            "method": "",
            "group": "random",
        }
        for number, at in enumerate(positions)
    ]
    return as_variant_table(pd.DataFrame(rows), "random"), MemoryGenome({"random": codes}, "random", "random sequence")


def measure_scoring(
    name: str, what: str, device: torch.device, rates: dict[str, float | None], quick: bool
) -> dict[str, Any] | str:
    """Variants a second of one family in one form; or why it could not be measured."""
    try:
        model = load_base_model(name, device, members=(0,) if quick else None)
    except (MissingResourceError, MissingExtraError) as error:
        return f"scoring {name} {what}: {error}"
    method = "full" if what == "full" else "incremental"
    precision: Precision = "bf16" if what.endswith("bf16") else "fp32"
    apart = APART if what == "isolated" else 1
    count = 2 if quick else 256 if device.type == "cuda" else 8
    most = 2 if quick else 16_384 if what == "dense" else 2_048
    reset_peak(device)
    while True:
        table, genome = snvs(count, apart, model.flank)
        training._wait(device)
        started = time.perf_counter()
        scores = score_variants(
            table,
            genome,
            model,
            DISTANCE,
            method=method,  # type: ignore[arg-type]
            precision=precision,
            check_on=1,
        )
        training._wait(device)
        seconds = time.perf_counter() - started
        if seconds >= SECONDS_A_MEASUREMENT / 2 or count >= most:
            break
        count = min(most, max(2 * count, int(count * SECONDS_A_MEASUREMENT / max(seconds, 1e-3))))
    if scores.precision != precision:
        return f"scoring {name} {what}: {scores.check}"
    operations = count_scoring(model, method, apart, quick, precision)
    rate = count / seconds
    limit = (rates["bfloat16"] if precision == "bf16" else None) or rates["float32"]
    return {
        "family": name,
        "what": what,
        "networks": len(model.networks),
        "variants": count,
        "variants_per_second": rate,
        "gflop_per_variant": operations / 1e9,
        "limit_per_second": limit / operations if limit else None,
        "share_of_limit": rate * operations / limit if limit else None,
        "precision": "bfloat16 in parts" if precision == "bf16" else "float32",
        "peak_memory_bytes": peak_memory(device),
    }


def count_scoring(model: BaseModel, method: str, apart: int, quick: bool, precision: Precision = "fp32") -> float:
    """Operations a variant, as PyTorch counts its products and convolutions on a small job of the same kind. In
    bfloat16 those of the one variant that is compared with float32 are counted too.

    A compiled convolution does the same products out of PyTorch's sight, so the job is run without it.
    """
    count = 1 if method == "full" else 2 if quick else COUNTED
    table, genome = snvs(count, apart, model.flank)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # PyTorch counts what this thread does
    try:
        with _without_compiled(), FlopCounterMode(display=False) as counter:
            score_variants(table, genome, model, DISTANCE, method=method, precision=precision, check_on=1)  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(threads)
    return counter.get_total_flops() / count


@contextlib.contextmanager
def _without_compiled() -> Iterator[None]:
    available = CompiledConvolution.available
    CompiledConvolution.available = staticmethod(lambda channels, taps, device: False)  # type: ignore[method-assign]
    try:
        yield
    finally:
        CompiledConvolution.available = available  # type: ignore[method-assign]


def measure_training(row: str, device: torch.device, rates: dict[str, float | None], quick: bool) -> dict[str, Any]:
    """Variants a second of a row of benchmarks/training.py, and the limit by its counted work."""
    limit = rates["bfloat16"] or rates["float32"] or math.nan
    windows = 32 if quick else 4_096 if device.type == "cuda" and training.ROWS[row].batch_size > 1 else 256
    try:
        found = training.measure(training.ROWS[row], windows, device, limit, "none")
    except MetaSpliceAIError as error:  # a row that runs out of memory stays in the table
        return {"row": row, "failed": str(error)}
    operations = found["gflop_per_window"] * 1e9
    return {"row": row, **found, "limit_per_second": limit / operations}


def as_table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    rates = report["rates"]
    told = [f"{name} {rate / 1e12:,.2f} TFLOP/s" for name, rate in rates.items() if rate and name != "copy_bytes"]
    lines = [
        f"{report['device']}, PyTorch {report['machine']['torch']}, {report['at'][:10]}"
        + (" (quick: a few variants, to see that it runs; no result)" if report["quick"] else ""),
        "",
        f"Measured rates: {', '.join(told)}; copy {rates['copy_bytes'] / 1e9:,.0f} GB/s.",
        "",
        "| scoring | networks | variants/s | GFLOP a variant | limit, variants/s | share | peak memory, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one['family']}, {one['what']} | {one['networks']} | {one['variants_per_second']:,.1f} | "
        f"{one['gflop_per_variant']:,.2f} | {one['limit_per_second']:,.1f} | {one['share_of_limit']:.0%} | "
        f"{one['peak_memory_bytes'] / 1e6:,.0f} |"
        for one in report["scoring"]
    ]
    lines += [
        "",
        "| training | precision | windows/s | GFLOP a window | limit, windows/s | share | peak memory, MB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in report["training"]:
        if "failed" in one:
            lines.append(f"| {one['row']} | | {one['failed']} | | | | |")
            continue
        lines.append(
            f"| {one['row']} | {one['precision']} | {one['windows_per_second']:,.1f} | "
            f"{one['gflop_per_window']:,.3g} | {one['limit_per_second']:,.1f} | "
            f"{one['share_of_peak']:.0%} | {one['peak_memory_bytes'] / 1e6:,.0f} |"
        )
    lines += ["", *(f"Not measured: {line}" for line in report["left_out"])]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
