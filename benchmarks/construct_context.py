"""What do networks make of a reporter's construct, 170 bases with N around them, beside the same bases in the genome?

MFASS's exons are put into three surroundings, all of the same length: N (how a construct is scored), random bases
(each exon its own, drawn once), and the bases of the chromosome. Variants, networks and positions are the same.
Told are, for each network and surrounding, how likely the tested exon's own two sites are without a variant (median
over exons), and how well the change at them ranks the measured losses of an exon, as Δ and as change in log-odds.

Evaluated are the variants whose chromosome is known for 5,000 bases on either side of everything that is scored; with a
sparse genome these are few.

    python benchmarks/construct_context.py [--networks spliceai openspliceai ...] [--openspliceai-python PYTHON]

With the interpreter of an environment that has the package `openspliceai`, its own network class is run on the same
constructs, and the largest difference of a probability from ours is told.

Writes benchmarks/results/construct_context.json and construct_context.md (a table of docs/results/evidence.md), and
prints the table. Scores are kept in the cache, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.datasets import load_dataset
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, ScoreCache, own_site, site_probabilities
from meta_spliceai.splice_engine.base_layer.scoring import predict_sequences, score_variants
from meta_spliceai.splice_engine.genome.sequence import N_CODE, MemoryGenome, SequenceSource, reverse_complement
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer
from meta_spliceai.splice_engine.variants.table import LOW_FREQUENCY, NORMAL

HERE = Path(__file__).resolve().parent
DISTANCE = 150
"""As the rows of the wishlist score constructs: an exon's own sites are within reach of every variant."""
FLANK = 5000
SURROUNDINGS = {"N": "N", "random": "random bases", "genome": "the chromosome"}
MEMBERS = {"pangolin": (0, 3, 6, 9)}
"""As the rows of the wishlist have it: one replicate for each tissue. Of other networks all members."""
SMALLEST = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken."""
COMPARED = 40
"""Constructs on which the peer's own class is run."""

PEER = """
import glob, sys
import numpy as np
import torch
from openspliceai.train_base.openspliceai import SpliceAI
codes, weights, out = sys.argv[1:]
bases = np.vstack([np.eye(4, dtype=np.float32), np.zeros((1, 4), np.float32)])
x = torch.from_numpy(bases[np.load(codes)].transpose(0, 2, 1).copy())
kernels, dilations = np.array([11] * 8 + [21] * 4 + [41] * 4), np.array([1] * 4 + [4] * 4 + [10] * 4 + [25] * 4)
outputs = []
for file in weights.split(":"):
    network = SpliceAI(32, kernels, dilations)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    network.eval()
    with torch.no_grad():
        outputs.append(torch.cat([network(one[None]) for one in x]).numpy())
np.save(out, np.mean(outputs, axis=0).transpose(0, 2, 1))
"""


def main() -> int:
    """Score, evaluate, write."""
    options = _options()
    constructs = load_dataset("mfass", context="construct")
    table, chromosome = _in_reach(constructs.variants, constructs.genome, load_dataset("mfass"))
    genomes = _surroundings(constructs.genome, chromosome, options.seed)
    exons = len(chromosome)
    print(f"{len(table):,} variants of {exons:,} exons", file=sys.stderr)
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "variants": len(table),
        "altering": int((table["classification"] == "Splice-altering").sum()),
        "exons": exons,
        "groups": table["group"].nunique(),
        "distance": DISTANCE,
        "seed": options.seed,
        "resamples": options.resamples,
        "networks": {},
    }
    for name in options.networks:
        model = load_base_model(name, options.device, MEMBERS.get(name))
        report["networks"][name] = {
            "members": len(model.networks),
            "surroundings": _network(model, table, genomes, options),
        }
        if name == "openspliceai" and options.openspliceai_python:
            report["peer"] = _beside_peer(model, constructs.genome, list(chromosome), options.openspliceai_python)
    text = _table(report)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "construct_context.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "construct_context.md").write_text(text)
    print(text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ("spliceai", "pangolin", "cispliceai", "openspliceai")
    parser.add_argument("--networks", nargs="+", default=list(everything), choices=everything)
    parser.add_argument("--openspliceai-python", metavar="PYTHON", help="an interpreter with the package openspliceai")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the random bases and of the resamples")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the report is written")
    return parser.parse_args()


def _in_reach(
    table: pd.DataFrame, constructs: SequenceSource, inside: Any
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The variants whose chromosome is known all around, and their exons' stretch of it in transcript orientation."""
    found: dict[str, np.ndarray] = {}
    there = inside.variants.drop_duplicates("exon_id").set_index("exon_id")
    own = table.drop_duplicates("exon_id").set_index("exon_id")
    around = FLANK + DISTANCE
    for exon, row in there.iterrows():
        length = constructs.contigs()[exon]
        before = int(own.loc[exon, "acceptor_pos"]) - 1  # bases of the construct upstream of the exon
        contig = inside.genome.resolve(row["chrom"])
        if row["strand"] == "+":
            start = int(row["acceptor_pos"]) - 1 - before
            codes = inside.genome.fetch(contig, start - around, start + length + around)
        else:
            end = int(row["acceptor_pos"]) + before
            codes = reverse_complement(inside.genome.fetch(contig, end - length - around, end + around))
        same = np.array_equal(codes[around : around + length], constructs.fetch(exon, 0, length))
        if same and not (codes == N_CODE).any():
            found[str(exon)] = codes
    return table[table["exon_id"].isin(found)].reset_index(drop=True), found


def _surroundings(
    constructs: SequenceSource, chromosome: dict[str, np.ndarray], seed: int
) -> dict[str, tuple[SequenceSource, int]]:
    """For each surrounding a genome of constructs, and by how much positions lie further on in it."""
    around, draw = FLANK + DISTANCE, np.random.default_rng(seed)
    invented = {}
    for exon, codes in chromosome.items():
        drawn = draw.integers(0, 4, len(codes)).astype(np.uint8)
        drawn[around:-around] = codes[around:-around]
        invented[exon] = drawn
    return {
        "N": (constructs, 0),
        "random": (MemoryGenome(invented, "constructs in random bases", "random"), around),
        "genome": (MemoryGenome(chromosome, "constructs in their chromosome", "genome"), around),
    }


def _network(
    model: BaseModel, table: pd.DataFrame, genomes: dict[str, tuple[SequenceSource, int]], options: argparse.Namespace
) -> dict[str, Any]:
    """One network in all surroundings, evaluated together, so that their differences are paired."""
    columns: dict[str, np.ndarray] = {}
    found: dict[str, dict[str, Any]] = {}
    for name, (genome, shift) in genomes.items():
        moved = table.assign(**{place: table[place] + shift for place in ("pos", "acceptor_pos", "donor_pos")})
        scores = score_variants(moved, genome, model, DISTANCE, cache=ScoreCache.default(), progress=_told(model, name))
        own = own_site(scores, moved)
        odds = _log_odds_change(scores, moved)
        columns[f"{name}.score"], columns[f"{name}.signed"] = np.abs(own), own
        columns[f"{name}, log-odds.score"], columns[f"{name}, log-odds.signed"] = np.abs(odds), odds
        found[name] = {f"median_{site}": value for site, value in _medians(scores, moved).items()}
    base = table[["variant_id", "classification", "group", "effect"]].assign(target=np.nan, **columns)
    scorers = [Scorer(name.removesuffix(".score"), "base") for name in columns if name.endswith(".score")]
    evaluated = evaluate(
        base,
        scorers,
        "N",
        n_boot=options.resamples,
        seed=options.seed,
        points=OperatingPoints((), (), (), ()),
        negatives=(NORMAL, LOW_FREQUENCY),
    )
    metrics = evaluated.metrics.set_index(["scorer", "metric"])
    for name, mine in found.items():
        for key, scorer, metric in (
            ("auprc", name, "auprc"),
            ("auroc", name, "auroc"),
            ("auprc_log_odds", f"{name}, log-odds", "auprc"),
        ):
            row = metrics.loc[(scorer, metric)]
            mine[key] = {place: float(row[place]) for place in ("estimate", "low", "high")}
    return found


def _told(model: BaseModel, name: str) -> Any:
    def tell(done: int, of: int) -> None:
        if done % 100 < 8 or done == of:
            print(f"{model.name} in {SURROUNDINGS[name]}: {done:,} of {of:,}", file=sys.stderr, flush=True)

    return tell


def _own_places(table: pd.DataFrame, column: str) -> np.ndarray:
    """Index of the exon's own site on the scores' axis; constructs run along the transcript."""
    return (table[column] - table["pos"]).to_numpy(dtype=np.int64) + DISTANCE


def _log_odds_change(scores: BaseScores, table: pd.DataFrame) -> np.ndarray:
    """The larger of the two own sites' changes in log-odds, signed."""
    changes = []
    rows = np.arange(len(table))
    for column, site in (("acceptor_pos", "acceptor"), ("donor_pos", "donor")):
        places = _own_places(table, column)
        ref, alt = (np.clip(of[rows, places], SMALLEST, 1 - SMALLEST) for of in site_probabilities(scores, site))
        changes.append(np.log(alt / (1 - alt)) - np.log(ref / (1 - ref)))
    both = np.stack(changes, axis=1)
    return both[rows, np.abs(both).argmax(axis=1)]


def _medians(scores: BaseScores, table: pd.DataFrame) -> dict[str, float]:
    """The wild type's probability of the own acceptor and donor, median over exons."""
    rows = np.arange(len(table))
    found = {}
    for column, site in (("acceptor_pos", "acceptor"), ("donor_pos", "donor")):
        ref, _ = site_probabilities(scores, site)
        of_exon = pd.Series(ref[rows, _own_places(table, column)]).groupby(table["exon_id"].to_numpy()).first()
        found[site] = float(of_exon.median())
    return found


def _beside_peer(model: BaseModel, constructs: SequenceSource, exons: list[str], python: str) -> dict[str, Any]:
    """The largest difference of any probability from the peer's own class, on some constructs."""
    from meta_spliceai.resources import get, resolve_file

    resource = get("openspliceai-mane-10000nt")
    files = [str(resolve_file(resource.name, entry.path)) for entry in resource.files]
    around = np.full(FLANK, N_CODE, dtype=np.uint8)
    chosen = [np.concatenate([around, constructs.fetch(exon, 0, constructs.contigs()[exon]), around]) for exon in exons]
    chosen = [codes for codes in chosen if len(codes) == len(chosen[0])][:COMPARED]
    ours = np.stack(predict_sequences(chosen, model, 8))
    with tempfile.TemporaryDirectory() as folder:
        codes, out = Path(folder) / "codes.npy", Path(folder) / "out.npy"
        np.save(codes, np.stack(chosen))
        subprocess.run([python, "-c", PEER, str(codes), ":".join(files), str(out)], check=True)
        theirs = np.load(out)
    return {"constructs": len(chosen), "largest_difference": float(np.abs(ours - theirs).max())}


def _table(report: dict[str, Any]) -> str:
    lines = [
        "| network | around the construct | acceptor | donor | AUPRC, Δ | AUROC, Δ | AUPRC, log-odds |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, network in report["networks"].items():
        for surrounding, mine in network["surroundings"].items():
            values = " | ".join(_value(mine[key]) for key in ("auprc", "auroc", "auprc_log_odds"))
            sites = f"{mine['median_acceptor']:.3f} | {mine['median_donor']:.3f}"
            lines.append(f"| {name} | {SURROUNDINGS[surrounding]} | {sites} | {values} |")
    prevalence = report["altering"] / report["variants"]
    words = (
        f"{report['variants']:,} variants of {report['exons']:,} exons in {report['groups']:,} groups, "
        f"{report['altering']:,} Splice-altering against Normal and Low-frequency (prevalence {prevalence:.3f}). "
        "Acceptor and donor: probability of the exon's own sites without a variant, median over exons. Δ and log-odds: "
        "the larger change at these two sites."
    )
    if "peer" in report:
        peer = report["peer"]
        words += (
            f" On {peer['constructs']} of these constructs with N around them, no probability of OpenSpliceAI's own "
            f"network class differs from ours by more than {_above(peer['largest_difference']):.0e}."
        )
    return "\n".join([*lines, "", words, ""])


def _above(size: float) -> float:
    """The power of ten that is not below a size."""
    return 10.0 ** math.ceil(math.log10(size)) if size else 0.0


def _value(found: dict[str, float]) -> str:
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
