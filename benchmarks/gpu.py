"""How fast does a device score variants and train models, and what share of its own speed is that?

    python benchmarks/gpu.py [--device auto|cpu|cuda] [--time-limit 9m] [--quick] [--into results]

One command, under ten minutes. Measured, each number beside the roofline it is evaluated against:

* the device's own rates: a large matrix product in float32, in TF32 and bfloat16 where the device has them, and bytes
  read and written a second in a copy;
* scoring, for every family of base networks whose weights are at hand: variants a second of the whole ensemble in
  float32, for SNVs side by side ("dense") and SNVs that share nothing ("isolated"), in the incremental form; and pairs
  of whole windows a second ("full");
* several small models at once: variants a second of one small row alone, and of two and four processes that train it
  at the same time on the device (what `run --jobs` does);
* training, for the rows of benchmarks/training.py: variants a second, and peak memory.

On CUDA, dense SNVs are scored in bfloat16 too (each number in two parts, so with three times the operations).

Operations are counted, not estimated, as a run's record counts them: of scoring on the very variants that were scored,
of training on one variant forward and backward. Scoring runs in float32 with TF32 off, so its limit is the float32
rate; training runs in bfloat16 on CUDA.

What does not fit into the time limit is left out and listed. Writes a line and a file into the ledger (`results/`), a
table beside this script's other results, and prints the table.
"""

from __future__ import annotations

import argparse
import datetime
import math
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import training
from meta_spliceai.cli.options import parse_duration
from meta_spliceai.errors import MetaSpliceAIError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.run.utilisation import best_of, product_rate
from meta_spliceai.experiments.store.address import code_version, describe_environment
from meta_spliceai.experiments.store.ledger import LEDGER, Ledger
from meta_spliceai.experiments.store.workspace import RunDirectory
from meta_spliceai.splice_engine.base_layer.block_convolution import Precision
from meta_spliceai.splice_engine.base_layer.families import FAMILIES, load_base_model
from meta_spliceai.splice_engine.base_layer.scoring import Computation, score_variants
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, decode
from meta_spliceai.splice_engine.meta_layer.features import choose_device, peak_memory, reset_peak
from meta_spliceai.splice_engine.variants.table import as_variant_table

HERE = Path(__file__).resolve().parent

DISTANCE = 50
APART = 12_000
"""Bases between isolated SNVs: more than two networks' flanks, so that they share nothing."""

SECONDS_A_MEASUREMENT = 4.0

AT_ONCE_ROW = "simple-cnn-101"
"""The smallest row: if several at once pay for any, then for it."""

AT_ONCE_SECONDS = 10.0
"""How long the row trains alone; two and four at once take at most twice and four times as long, if nothing is won."""

AT_ONCE_LIMIT = 120.0
"""Seconds that all of the processes may take, their start included; then they are ended and it is said."""


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    limit = time.monotonic() + parse_duration(options.time_limit, "--time-limit")
    device = choose_device(options.device)
    families = list(FAMILIES) if options.families is None else options.families
    rows = options.rows
    if rows is None:
        rows = ["simple-cnn-101"] if options.quick else _rows_for(device)
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
        "at_once": [],
        "training": [],
        "left_out": [],
    }
    for name in families:
        for what in ("dense", "isolated", "full", *(("dense bf16",) if device.type == "cuda" or options.bf16 else ())):
            if not _time_for(f"scoring {name} {what}", limit, report):
                continue
            found = measure_scoring(name, what, device, report["rates"], options.quick)
            report["left_out" if isinstance(found, str) else "scoring"].append(found)
    if _time_for("several at once", limit, report):
        report["at_once"], left = measure_at_once(device, (1, 2) if options.quick else (1, 2, 4), options.quick)
        report["left_out"] += left
    for row in rows:
        if _time_for(f"training {row}", limit, report):
            report["training"].append(measure_training(row, device, report["rates"], options.quick))
    table = as_table(report)
    name = f"gpu-{device.type}" + ("-quick" if options.quick else "")
    kept = options.into / "benchmarks" / f"{name}.json"
    RunDirectory(kept.parent).write_json(kept.name, report)
    entry = {"event": "benchmark", "name": name, "file": f"benchmarks/{kept.name}", "device": report["device"]}
    Ledger(options.into / LEDGER).append(entry)
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
    parser.add_argument(
        "--families",
        nargs="*",
        choices=list(FAMILIES),
        help="base networks (default: all at hand; none named: no scoring)",
    )
    parser.add_argument(
        "--rows",
        nargs="*",
        choices=list(training.ROWS),
        help="rows of benchmarks/training.py (none named: no training)",
    )
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
    return {
        "float32": product_rate("float32", device, size),
        "tf32": product_rate("tf32", device, size) if cuda else None,
        "bfloat16": product_rate("bfloat16", device, size) if cuda else None,
        "copy_bytes": _copy_rate(device, (1 << 22) if quick or not cuda else (1 << 30)),
    }


def _copy_rate(device: torch.device, numbers: int) -> float:
    """Bytes read and written a second in a copy of so many float32 numbers."""
    source = torch.empty(numbers, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / best_of("target.copy_(source)", {"source": source, "target": target}, device)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
        _wait_for(device)
        started = time.perf_counter()
        scores = score_variants(
            table,
            genome,
            model,
            DISTANCE,
            how=Computation(method, precision=precision, check_on=1),  # type: ignore[arg-type]
        )
        _wait_for(device)
        seconds = time.perf_counter() - started
        if seconds >= SECONDS_A_MEASUREMENT / 2 or count >= most:
            break
        count = min(most, max(2 * count, int(count * SECONDS_A_MEASUREMENT / max(seconds, 1e-3))))
    if scores.precision != precision:
        return f"scoring {name} {what}: {scores.check}"
    operations = scores.operations / count
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


def measure_at_once(
    device: torch.device, counts: tuple[int, ...], quick: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Variants a second of all processes together that train a small row at the same time, for each number of them;
    and what was left out.

    Every process is warm before the clock starts, which runs until the last one is done. On a CPU the processes share
    its threads, as `run --jobs` has it.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    windows = 32 if quick else 8_192 if device.type == "cuda" else 512
    until = time.monotonic() + AT_ONCE_LIMIT
    pairs = [context.Pipe() for _ in range(max(counts))]
    pipes = [ours for ours, _ in pairs]
    processes = [context.Process(target=_train_when_told, args=(theirs, str(device), windows)) for _, theirs in pairs]
    found: list[dict[str, Any]] = []
    try:
        for process, (_, theirs) in zip(processes, pairs, strict=True):
            process.start()
            theirs.close()  # only its own end is open now, so that its death is noticed
        warm = [_answer(pipe, until) for pipe in pipes]
        speed = warm[0]["windows_per_second"]
        epochs = 2 if quick else max(2, round(AT_ONCE_SECONDS * speed / windows))
        for count in counts:
            started = time.perf_counter()
            for pipe in pipes[:count]:
                pipe.send({"epochs": epochs, "threads": max(1, torch.get_num_threads() // count)})
            answers = [_answer(pipe, until) for pipe in pipes[:count]]
            rate = count * windows * epochs / (time.perf_counter() - started)
            alone = found[0]["windows_per_second"] if found else rate
            found.append(
                {
                    "row": AT_ONCE_ROW,
                    "processes": count,
                    "windows_per_second": rate,
                    "times_one_alone": rate / alone,
                    "peak_memory_bytes": sum(answer["peak_memory_bytes"] for answer in answers),
                }
            )
    except (TimeoutError, EOFError) as error:
        why = f"the {AT_ONCE_LIMIT:.0f} s for it were over" if isinstance(error, TimeoutError) else "a process died"
        return found, [f"{AT_ONCE_ROW}, {count} at once: {why}" for count in counts[len(found) :]]
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()
    return found, []


def _train_when_told(pipe: Connection, device: str, windows: int) -> None:
    """A process of `measure_at_once`: trains for as many epochs as it is told, whenever it is told."""
    row, place = training.ROWS[AT_ONCE_ROW], torch.device(device)
    order = {"epochs": 2, "threads": 1 if place.type == "cpu" else torch.get_num_threads()}
    while True:
        torch.set_num_threads(order["threads"])
        report, _ = training.train(row.kind(**row.settings), windows, place, training.config_of(row, order["epochs"]))
        pipe.send({"windows_per_second": report.windows_per_second, "peak_memory_bytes": report.peak_memory_bytes})
        order = pipe.recv()


def _answer(pipe: Connection, until: float) -> dict[str, Any]:
    """What a process says next.

    Raises:
        TimeoutError: it does not in time.
        EOFError: it has ended.
    """
    if not pipe.poll(max(0.0, until - time.monotonic())):
        raise TimeoutError
    answer: dict[str, Any] = pipe.recv()
    return answer


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
    if report["at_once"]:
        lines += [
            "",
            "| trained at once | processes | windows/s of all | times one alone | peak memory of all, MB |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
    lines += [
        f"| {one['row']} | {one['processes']} | {one['windows_per_second']:,.1f} | {one['times_one_alone']:.2f} | "
        f"{one['peak_memory_bytes'] / 1e6:,.0f} |"
        for one in report["at_once"]
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
