"""How fast does the meta layer train, and what share of the machine's own speed is that?

    python benchmarks/training.py [--device auto|cpu|cuda] [--rows NAME…] [--windows N] [--compile MODE] [--out FOLDER]
    python benchmarks/training.py --long-context [PIECE…]

Each row trains one model with the package's own `fit` on random windows for two epochs; the second epoch's speed
counts. Reported: variants (pairs of windows) a second, floating-point operations of one variant forward and backward as
PyTorch counts them, the share of the machine's matrix-product rate measured beside the row (float32 on a CPU, bfloat16
on CUDA), and peak memory (the process on a CPU, the device on CUDA).

HyenaDNA rows use random weights: speed does not depend on them. Operations are counted as in a run's record (see
`experiments.run.utilisation`): products, convolutions and Fourier transforms, which PyTorch's own count leaves out. A
frozen encoder's features are computed before the clock starts; their time stands in a column of its own.

Writes training.json and training.md (on CUDA training-cuda.json and .md) into the folder and prints the table. On two
cores it takes about five minutes.

With --long-context it measures memory instead: what HyenaDNA holds at 32,769 and 160,001 bases beside what the planner
foresees (see long_context.py); long-context.json and .md. On two cores it takes about five minutes and up to 18 GB; a
piece that does not fit in what is free is left out and says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import long_context
from meta_spliceai.experiments.run.utilisation import product_rate, training_operations
from meta_spliceai.splice_engine.meta_layer.features import choose_device
from meta_spliceai.splice_engine.meta_layer.models import (
    HyenaDNADeltaPredictor,
    Predictor,
    SimpleCNNDeltaPredictor,
    ValidatedDeltaPredictor,
)
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.meta_layer.training import FitReport, fit
from meta_spliceai.splice_engine.variants.table import Coverage, Windows

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Row:
    """One model at one context.

    Attributes:
        kind: predictor class.
        settings: its arguments.
        batch_size: variants in a batch.
        cpu: whether it is worth the wait on a CPU.
    """

    kind: type[Predictor]
    settings: dict[str, Any]
    batch_size: int = 64
    cpu: bool = True


def _hyena(size: str, window: int, frozen: bool, **settings: Any) -> dict[str, Any]:
    return {"model_name": size, "window": window, "freeze_encoder": frozen, "weights": "scratch", **settings}


ROWS: dict[str, Row] = {
    "simple-cnn-101": Row(SimpleCNNDeltaPredictor, {"window": 101, "hidden_dim": 64}),
    "validated-delta-101": Row(ValidatedDeltaPredictor, {"window": 101, "hidden_dim": 64}),
    "simple-cnn-501": Row(SimpleCNNDeltaPredictor, {"window": 501, "hidden_dim": 64}),
    "validated-delta-501": Row(ValidatedDeltaPredictor, {"window": 501, "hidden_dim": 128}, 32),
    "simple-cnn-1001": Row(SimpleCNNDeltaPredictor, {"window": 1001, "hidden_dim": 64}, 32),
    "validated-delta-1001": Row(ValidatedDeltaPredictor, {"window": 1001, "hidden_dim": 128}, 16),
    "validated-delta-10001": Row(ValidatedDeltaPredictor, {"window": 10001, "hidden_dim": 128}, 4, cpu=False),
    "hyenadna-tiny-frozen-501": Row(HyenaDNADeltaPredictor, _hyena("hyenadna-tiny-1k", 501, True)),
    "hyenadna-tiny-tuned-501": Row(HyenaDNADeltaPredictor, _hyena("hyenadna-tiny-1k", 501, False), 16),
    "hyenadna-small-frozen-501": Row(HyenaDNADeltaPredictor, _hyena("hyenadna-small-32k", 501, True), cpu=False),
    "hyenadna-small-tuned-501": Row(HyenaDNADeltaPredictor, _hyena("hyenadna-small-32k", 501, False), 16, cpu=False),
    "hyenadna-small-tuned-32k": Row(
        HyenaDNADeltaPredictor, _hyena("hyenadna-small-32k", 32001, False, gradient_checkpointing=True), 1, cpu=False
    ),
}


def main() -> int:
    options = _options()
    device = choose_device(options.device)
    if options.long_context is not None:
        return _long_context(device, options.long_context, options.out)
    names = options.rows or [name for name, row in ROWS.items() if row.cpu or device.type == "cuda"]
    for name in names:
        if name not in ROWS:
            print(f"unknown row '{name}'; rows: {', '.join(ROWS)}", file=sys.stderr)
            return 2
    report: dict[str, Any] = {
        "date": _today(),
        "machine": _machine(device),
        "windows": options.windows,
        "compile": options.compile,
        "rows": {},
    }
    for name in names:
        # The peak is measured beside every row: on a shared machine it is not the same all the time.
        peak = matrix_rate(device)
        report["rows"][name] = measure(ROWS[name], options.windows, device, peak, options.compile)
        print(f"{name}: {report['rows'][name]['windows_per_second']:.1f} windows/s", file=sys.stderr)
    table = _table(report)
    _write(options.out, "training", device, report, table)
    return 0


def _long_context(device: torch.device, names: list[str], folder: Path) -> int:
    chosen = names or list(long_context.PIECES)
    for name in chosen:
        if name not in long_context.PIECES:
            print(f"unknown piece '{name}'; pieces: {', '.join(long_context.PIECES)}", file=sys.stderr)
            return 2
    report: dict[str, Any] = {"date": _today(), "machine": _machine(device)}
    report["pieces"] = long_context.measure_pieces(device, chosen, lambda line: print(line, file=sys.stderr))
    _write(folder, "long-context", device, report, long_context.table(**report))
    wrong = long_context.off(report["pieces"])
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _write(folder: Path, name: str, device: torch.device, report: dict[str, Any], table: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / (name if device.type == "cpu" else f"{name}-{device.type}")
    file.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    file.with_suffix(".md").write_text(table)
    print(table)


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--rows", nargs="*", help=f"which rows; choices: {', '.join(ROWS)}")
    parser.add_argument("--windows", type=int, default=256, help="variants in an epoch (default 256)")
    parser.add_argument(
        "--compile", choices=("none", "default", "reduce-overhead"), default="none", help="torch.compile's mode"
    )
    parser.add_argument(
        "--long-context",
        nargs="*",
        metavar="PIECE",
        help=f"measure memory at long contexts instead; pieces: {', '.join(long_context.PIECES)} (default: all)",
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder for the results")
    return parser.parse_args()


def _machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations a second in a large square matrix product: float32 on a CPU, bfloat16 on CUDA."""
    if device.type == "cuda":
        return product_rate("bfloat16", device, 8192)
    return product_rate("float32", device, 2048)


def train(predictor: Predictor, windows: int, device: torch.device, config: TrainingConfig) -> tuple[FitReport, float]:
    """Train a model on random windows: the report, and the seconds that all of it took."""
    window = int(predictor.window)
    held_out = 8
    rng = np.random.default_rng(0)
    ref = rng.integers(0, 4, (windows + held_out, window), dtype=np.uint8)
    alt = ref.copy()
    alt[:, window // 2] = (alt[:, window // 2] + 1) % 4
    labels = rng.normal(scale=0.2, size=(len(ref), 3)).astype(np.float32)
    targets = Targets(labels, np.ones(len(ref), bool), Coverage(len(ref)))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["META_SPLICEAI_CACHE"] = str(Path(folder) / "cache")  # features are computed each time
        started = time.perf_counter()
        report = fit(
            predictor,
            Windows(ref, alt),
            targets,
            np.arange(windows),
            np.arange(windows, len(ref)),
            config,
            Path(folder) / "run",
            str(device),
        )
        return report, time.perf_counter() - started


def config_of(row: Row, epochs: int, mode: str = "none") -> TrainingConfig:
    """How the row is trained for so many epochs, compiled in this mode."""
    return TrainingConfig(epochs=epochs, batch_size=row.batch_size, patience=0, compile=mode)


def measure(row: Row, windows: int, device: torch.device, peak: float, mode: str) -> dict[str, Any]:
    """Train the row's model for two epochs, compiled in this mode, and count its work."""
    predictor, config = row.kind(**row.settings), config_of(row, 2, mode)
    operations = training_operations(predictor, config, windows, 1) / windows
    report, elapsed = train(predictor, windows, device, config)
    speed = float(report.curves["windows_per_second"].iloc[-1])
    return {
        "windows_per_second": speed,
        "gflop_per_window": operations / 1e9,
        "gflop_per_second": speed * operations / 1e9,
        "peak_gflop_per_second": peak / 1e9,
        "share_of_peak": speed * operations / peak,
        "peak_memory_bytes": report.peak_memory_bytes,
        "features_seconds": elapsed - report.seconds if predictor.encoder_frozen else 0.0,
        "parameters": predictor.parameter_count(),
        "batch_size": row.batch_size,
        "precision": report.precision,
    }


def _table(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        f"{machine['device']}, {machine['cores']} cores, {machine['threads']} threads, PyTorch {machine['torch']}, "
        f"{report['date'][:10]}, compile {report['compile']}. A window is a variant: reference and alternative, "
        "forward and backward.",
        "",
        "| model and context | windows/s | GFLOP a window | share of matrix rate | peak memory, MB | features, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in report["rows"].items():
        share = f"{row['share_of_peak']:.0%} of {row['peak_gflop_per_second']:,.0f} GFLOP/s"
        features = f"{row['features_seconds']:.1f}" if row["features_seconds"] else ""
        lines.append(
            f"| {name} | {row['windows_per_second']:,.1f} | {row['gflop_per_window']:.3g} | {share} "
            f"| {row['peak_memory_bytes'] / 1e6:,.0f} | {features} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
