"""Do the wishlist's networks learn, beside the plainest residual CNN there is?

    META_SPLICEAI_MIRROR=FOLDERS python benchmarks/learning.py [--models NAME…] [--starts N] [--epochs N] [--out FOLDER]

Data: the labelled variants of the open sources (data set splicevardb-open) in 101 bases of the genome. Chromosomes 2,
3, 4, 5 and 7 are the test, all others are trained on. Every model is trained from several starts; after each epoch the
training loss, the AUROC on the training rows and AUROC and AUPRC on the test rows are taken. The loss to beat is the
entropy of the class frequencies: a network that stays there has learned nothing but how frequent the classes are.

`plain` is a residual CNN of 25 lines in bare PyTorch: what anybody would write first. The others are the package's own,
trained by its own `fit` with the settings of the rows (32 channels and batches of 128 as in the rows on open sources).
They learn the classes (head `binary`), so no base scores are needed.

No epoch is chosen: the tables show all of them, and validation is the test here, so that nothing is held back from
training. Writes learning.json and learning.md into the folder and prints the table.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn
from torch.nn import functional as F

from meta_spliceai.datasets import load_dataset
from meta_spliceai.splice_engine.base_layer.network import one_hot
from meta_spliceai.splice_engine.meta_layer.models import ComposedPredictor
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.meta_layer.training import fit
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING, Coverage, Windows, build_windows

HERE = Path(__file__).resolve().parent
TEST_CHROMOSOMES = ("2", "3", "4", "5", "7")
WINDOW, CHANNELS, BATCH = 101, 32, 128
ENCODERS = ("simple-cnn", "gated-cnn")
"""SimpleCNN's and ValidatedDelta's."""
PLAIN = "plain"


@dataclass(frozen=True)
class Data:
    """Windows of all labelled variants, whether each alters splicing, and which are tested."""

    windows: Windows
    altering: np.ndarray
    test: np.ndarray


class PlainCNN(nn.Module):
    """Four convolutions, three of them residual; reads the middle and how the two alleles differ."""

    def __init__(self) -> None:
        super().__init__()
        dilations = (1, 1, 2, 4)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(CHANNELS if layer else 4, CHANNELS, 11, padding=5 * dilation, dilation=dilation)
            for layer, dilation in enumerate(dilations)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(CHANNELS) for _ in dilations)
        self.head = nn.Sequential(nn.Linear(4 * CHANNELS, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, ref: torch.Tensor, alt: torch.Tensor) -> torch.Tensor:
        x = torch.cat((ref, alt))
        for layer, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            found = F.relu(norm(convolution(x)))
            x = x + found if layer else found
        of_ref, of_alt = x.split(len(ref))
        difference, middle = of_alt - of_ref, x.shape[-1] // 2
        read = of_ref[..., middle], difference[..., middle], difference.mean(-1), difference.amax(-1)
        answer: torch.Tensor = self.head(torch.cat(read, dim=1))
        return answer


def load() -> Data:
    """The labelled variants that stand in the genome."""
    loaded = load_dataset("splicevardb-open")
    labelled = loaded.variants["classification"].isin([SPLICE_ALTERING, NORMAL])
    table = loaded.variants[labelled].reset_index(drop=True)
    return Data(
        build_windows(table, loaded.genome, WINDOW),
        (table["classification"] == SPLICE_ALTERING).to_numpy(),
        table["chrom"].isin(TEST_CHROMOSOMES).to_numpy(),
    )


def measured(data: Data, scores: np.ndarray, loss: float, epoch: int) -> dict[str, float]:
    """One line of a table."""
    held_out, seen = data.test, ~data.test
    return {
        "epoch": epoch,
        "train_loss": loss,
        "train_auroc": float(roc_auc_score(data.altering[seen], scores[seen])),
        "test_auroc": float(roc_auc_score(data.altering[held_out], scores[held_out])),
        "test_auprc": float(average_precision_score(data.altering[held_out], scores[held_out])),
    }


def train_plain(data: Data, start: int, epochs: int) -> Iterator[dict[str, float]]:
    """AdamW at 1e-3, batches of 128, no schedule."""
    torch.manual_seed(start)
    model = PlainCNN()
    ref, alt = torch.from_numpy(data.windows.ref), torch.from_numpy(data.windows.alt)
    labels = torch.from_numpy(data.altering).float()
    rows = torch.from_numpy(np.flatnonzero(~data.test))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        total = 0.0
        model.train()
        for batch in rows[torch.randperm(len(rows))].split(BATCH):
            answer = model(one_hot(ref[batch]), one_hot(alt[batch]))[:, 0]
            loss = F.binary_cross_entropy_with_logits(answer, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        model.eval()
        with torch.inference_mode():
            pieces = zip(ref.split(256), alt.split(256), strict=True)
            scores = torch.cat([model(one_hot(r), one_hot(a))[:, 0] for r, a in pieces]).numpy()
        yield measured(data, scores, total / len(rows), epoch)


def train_ours(data: Data, encoder: str, start: int, epochs: int) -> list[dict[str, float]]:
    """The package's own training, its schedule over these epochs."""
    config = TrainingConfig(epochs=epochs, batch_size=BATCH, start=start, patience=0)
    predictor = ComposedPredictor(encoder, "binary", WINDOW, config.own_seed, encoder_settings={"hidden_dim": CHANNELS})
    targets = Targets(
        data.altering[:, None].astype(np.float32), np.ones(len(data.altering), bool), Coverage(len(data.altering))
    )
    lines: list[dict[str, float]] = []

    def look(kind: str, facts: dict[str, float]) -> None:
        if kind != "epoch":
            return
        scores = predict(predictor, data.windows, "cpu")[:, 0]
        predictor.train()
        lines.append(measured(data, scores, facts["train_loss"], int(facts["epoch"])))

    seen, held_out = np.flatnonzero(~data.test), np.flatnonzero(data.test)
    with tempfile.TemporaryDirectory() as folder:
        fit(predictor, data.windows, targets, seen, held_out, config, folder, "cpu", progress=look)
    return lines


def summary(lines: pd.DataFrame) -> pd.DataFrame:
    """Means over the starts, one row a model and epoch."""
    return lines.groupby(["model", "epoch"], sort=False).mean(numeric_only=True).drop(columns="start").reset_index()


def table(report: dict[str, Any]) -> str:
    """The means as Markdown."""
    machine = report["machine"]
    text = [
        f"{report['train_rows']:,} variants trained on, {report['test_rows']:,} tested (prevalence "
        f"{report['prevalence']:.3f}); entropy of the class frequencies {report['entropy']:.3f}. Mean of "
        f"{report['starts']} starts. PyTorch {machine['torch']}, {machine['processor']}.",
        "",
        "| model | epoch | training loss | training AUROC | test AUROC | test AUPRC |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    text += [
        f"| {line.model} | {line.epoch} | {line.train_loss:.3f} | {line.train_auroc:.3f} "
        f"| {line.test_auroc:.3f} | {line.test_auprc:.3f} |"
        for line in summary(pd.DataFrame(report["lines"])).itertuples()
    ]
    return "\n".join(text) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=[PLAIN, *ENCODERS], default=[PLAIN, *ENCODERS])
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    options = parser.parse_args()
    data = load()
    share = float(data.altering[~data.test].mean())
    lines = []
    for model in options.models:
        for start in range(options.starts):
            train = train_plain if model == PLAIN else partial(train_ours, encoder=model)
            for line in train(data, start=start, epochs=options.epochs):
                lines.append({"model": model, "start": start, **line})
                print(*(f"{value:.3f}" if isinstance(value, float) else value for value in lines[-1].values()))
    report = {
        "train_rows": int((~data.test).sum()),
        "test_rows": int(data.test.sum()),
        "prevalence": float(data.altering[data.test].mean()),
        "entropy": -share * math.log(share) - (1 - share) * math.log(1 - share),
        "starts": options.starts,
        "machine": {"processor": platform.machine(), "torch": torch.__version__, "python": platform.python_version()},
        "lines": lines,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "learning.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "learning.md").write_text(table(report))
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
