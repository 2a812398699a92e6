"""How many entries a second `score --precomputed` takes from a table, at several distances between variants.

    python benchmarks/precomputed.py [--bases 3000000] [--repeats 3] [--note TEXT] [--keep]

The table is like Illumina's: three substitutions a base, one gene, bgzipped, with an index. `look_up` counts the
table's part alone, `whole` all of `score` on a VCF of substitutions, from the opened file to the finished one; no
network runs. `unpack` is how many of the table's blocks are unpacked and compared with their checksums: variants of
which each needs a block of its own cannot be looked up faster. The seconds are processor time of one process in user
mode; the best of the repeats counts. --keep writes benchmarks/results/precomputed.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pysam

from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel, SpliceAINetwork, Stage
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.base_layer.vcf import bgzf
from meta_spliceai.splice_engine.base_layer.vcf.info_field import FIELDS
from meta_spliceai.splice_engine.base_layer.vcf.precomputed import ScoreTable
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants
from meta_spliceai.splice_engine.base_layer.vcf.score_file import FileScorer, Settings
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Unfinished, fill
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome

INFO = FIELDS["spliceai"]
ASKED = {"Base": "spliceai", "Weights": "", "Distance": "50", "Mask": "0", "Strict": "0", "Genes": ""}
SPACINGS = (1, 10, 100, 1000)
RESULTS = Path(__file__).parent / "results" / "precomputed.json"
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def write_table(path: Path, bases: str) -> None:
    """Every substitution with random scores, most of them 0.00."""
    random = np.random.default_rng(0)
    scores = np.where(random.random((len(bases), 4)) < 0.8, 0, random.integers(0, 100, (len(bases), 4))).tolist()
    places = random.integers(-50, 51, (len(bases), 4)).tolist()
    plain = path.with_suffix("")
    with plain.open("w", encoding="ascii") as stream:
        stream.write(f"##fileformat=VCFv4.2\n##contig=<ID=1>\n{INFO.definitions()['SpliceAI']}\n{COLUMNS}")
        for at, (ref, ds, dp) in enumerate(zip(bases, scores, places, strict=True), start=1):
            text = "|".join([*(f"0.{one:02d}" for one in ds), *map(str, dp)])
            for alt in "ACGT".replace(ref, ""):
                stream.write(f"1\t{at}\t.\t{ref}\t{alt}\t.\t.\tSpliceAI={alt}|GENE|{text}\n")
    pysam.tabix_compress(str(plain), str(path), force=True)
    pysam.tabix_index(str(path), preset="vcf", force=True)


def no_network(table: pd.DataFrame, annotation: GeneAnnotation, alone: bool) -> BaseScores:
    """Stands for the networks, which nothing here may ask for."""
    raise AssertionError(f"{len(table)} variants were to be scored")


def user_seconds(work: Callable[[], object], repeats: int) -> float:
    """Least processor time of the repeats, in user mode."""
    seconds = []
    for _ in range(repeats):
        begin = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        work()
        seconds.append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - begin)
    return min(seconds)


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bases", type=int, default=3_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", default="")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    bases = "".join(np.random.default_rng(1).choice(list("ACGT"), given.bases))
    genome = MemoryGenome({"chr1": bases}, "toy", "toy.fa")
    genes = GeneAnnotation([Gene("GENE", "1", "+", 0, given.bases, ((0, given.bases),))], "toy", "toy")
    model = BaseModel("spliceai", (SpliceAINetwork(Architecture((Stage(1, 5, 1),), channels=4)),), "none", "nobody")
    after = dict(zip("ACGT", "CGTA", strict=True))
    rates: dict[int, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "scores.raw.vcf.gz", bases)
        blocks = blocks_of(folder / "scores.raw.vcf.gz")
        unpacked = user_seconds(lambda: [bgzf.inflate(block, "table") for block in blocks] and None, given.repeats)
        for spacing in SPACINGS:
            count = min(30_000, given.bases // spacing)
            random = np.random.default_rng(2)
            places = np.sort(random.choice(count * spacing, count, replace=False) + 1).tolist()
            vcf = folder / "in.vcf"
            lines = (f"chr1\t{pos}\t.\t{bases[pos - 1]}\t{after[bases[pos - 1]]}\t.\t.\t.\n" for pos in places)
            vcf.write_text("##fileformat=VCFv4.2\n##contig=<ID=chr1>\n" + COLUMNS + "".join(lines))

            def look_up(places: list[int] = places) -> None:
                table = ScoreTable(folder / "scores.raw.vcf.gz", INFO, model, ASKED)
                found = [table.find("chr1", pos, bases[pos - 1], after[bases[pos - 1]], "GENE") for pos in places]
                if None in found:
                    raise AssertionError("the table holds every variant")

            def whole(vcf: Path = vcf) -> None:
                table = ScoreTable(folder / "scores.raw.vcf.gz", INFO, model, ASKED)
                scorer = FileScorer(genome, genes, no_network, INFO, Settings(), 5000, [table])
                with vcf.open("rb") as stream, Unfinished(folder / "out.vcf") as unfinished:
                    variants = open_variants(stream, vcf.name)
                    fill(variants, scorer, unfinished, False, [], {}, False, None)
                    unfinished.put_in_place(None)

            seconds = {work.__name__: user_seconds(work, given.repeats) for work in (look_up, whole)}
            rates[spacing] = {name: round(count / took) for name, took in seconds.items()}
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    measured = {"unpack": round(len(blocks) / unpacked), "entries_per_second_by_mean_spacing": rates}
    settings = {"bases": given.bases, "repeats": given.repeats, "note": given.note}
    text = json.dumps({**settings, **measured, **machine}, indent=1)
    print(text)
    if given.keep:
        RESULTS.write_text(text + "\n", encoding="utf-8")
        RESULTS.with_suffix(".md").write_text(as_markdown(json.loads(text)), encoding="utf-8")


def blocks_of(path: Path) -> list[bytes]:
    """The compressed blocks of a file."""
    found, data, start = [], path.read_bytes(), 0
    while start < len(data):
        end = start + int.from_bytes(data[start + 16 : start + 18], "little") + 1
        found.append(data[start:end])
        start = end
    return found


def as_markdown(measured: dict[str, Any]) -> str:
    """A table of the rates, and what bounds them."""
    lines = ["| bases between variants, on average | look-ups per second | records per second, all of `score` |"]
    lines += ["| ---: | ---: | ---: |"]
    for spacing, rates in measured["entries_per_second_by_mean_spacing"].items():
        lines += [f"| {int(spacing):,} | {rates['look_up']:,} | {rates['whole']:,} |"]
    note = f"; {measured['note']}" if measured["note"] else ""
    lines += [
        "",
        f"Processor time of one core ({measured['machine']}{note}). {measured['unpack']:,} blocks per second are "
        "unpacked and checked against their checksums; this limits the rate when every variant needs its own block.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
