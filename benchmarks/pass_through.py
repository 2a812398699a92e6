"""How many records a second pass through `score` where no gene is: read, looked up, compared with the genome, written.

    python benchmarks/pass_through.py [--records 200000] [--spacing 500] [--repeats 3]

The genome is one contig of random bases with one gene at its start; the variants are single substitutions at random
places behind it, in ascending order, with an INFO column of 30 bytes. No network runs. The seconds are processor time
of one process in user mode, from the opened file to the finished one; the best of the repeats counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.base_layer.vcf.info_field import FIELDS
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants
from meta_spliceai.splice_engine.base_layer.vcf.score_file import FileScorer, Settings
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Unfinished, fill
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta

GENE_END = 10_000
LINE = 100


def write_inputs(folder: Path, records: int, spacing: int) -> tuple[Path, Path]:
    """A FASTA and a VCF."""
    random = np.random.default_rng(0)
    length = (GENE_END + (records + 1) * spacing) // LINE * LINE
    bases = random.choice(np.frombuffer(b"ACGT", np.uint8), length)
    fasta, vcf = folder / "genome.fa", folder / "in.vcf"
    rows = np.hstack([bases.reshape(-1, LINE), np.full((length // LINE, 1), ord("\n"), np.uint8)])
    fasta.write_bytes(b">chr1\n" + rows.tobytes())
    places = np.sort(random.choice(np.arange(GENE_END, length), records, replace=False)).tolist()
    text = bases.tobytes().decode()
    after = dict(zip("ACGT", "CGTA", strict=True))
    with vcf.open("w", encoding="ascii") as stream:
        stream.write(f"##fileformat=VCFv4.2\n##contig=<ID=chr1,length={length}>\n")
        stream.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for number, at in enumerate(places):
            ref = text[at]
            stream.write(
                f"chr1\t{at + 1}\trs{number}\t{ref}\t{after[ref]}\t50\tPASS\tAC=1;AF=0.0001;AN=10000;DP=40000\n"
            )
    return fasta, vcf


def no_network(table: pd.DataFrame, annotation: GeneAnnotation, alone: bool) -> BaseScores:
    """Stands for the networks, which nothing here may ask for."""
    raise AssertionError(f"{len(table)} variants were to be scored")


def measure(fasta: Path, vcf: Path, out: Path) -> float:
    """Seconds of processor time in user mode."""
    genes = GeneAnnotation([Gene("G", "1", "+", 0, GENE_END, ((0, 100), (GENE_END - 100, GENE_END)))], "toy", "toy")
    info = FIELDS["spliceai"]
    scorer = FileScorer(IndexedFasta(fasta, "toy"), genes, no_network, info, Settings(), flank=5000)
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with vcf.open("rb") as stream, Unfinished(out) as unfinished:
        variants = open_variants(stream, vcf.name)
        fill(variants, scorer, unfinished, False, [], {}, False, None)
        unfinished.put_in_place(None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime - begin


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--spacing", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fasta, vcf = write_inputs(Path(folder), given.records, given.spacing)
        seconds = [round(measure(fasta, vcf, Path(folder) / f"out{one}.vcf"), 3) for one in range(given.repeats)]
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    rate = round(given.records / min(seconds))
    print(json.dumps({**vars(given), "user_cpu_seconds": seconds, "records_per_second": rate, **machine}))


if __name__ == "__main__":
    main()
