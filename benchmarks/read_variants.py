"""How long it takes to read, check and window 30,000 variants, and how much memory.

    python benchmarks/read_variants.py [--fasta FILE --build GRCh38] [--window 501] [--rows 30000]

The variants are single substitutions at random known bases within genes, written in SpliceVarDB's download format; the
genome is the sparse regions of the resource human-regions, or the FASTA file given. Times are of one process, with a
warm file cache and the genome's index made beforehand; imports count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORK = """
import json, resource, sys, time
begin = time.perf_counter()
from pathlib import Path
from meta_spliceai.datasets.human import human_annotation, source_file
from meta_spliceai.datasets.splicevardb import DATASET, read_splicevardb
from meta_spliceai.splice_engine.genome.human_genome import human_genome
from meta_spliceai.splice_engine.variants.alleles import check_reference
from meta_spliceai.splice_engine.variants.alleles import merge_alleles
from meta_spliceai.splice_engine.variants.table import as_variant_table
from meta_spliceai.splice_engine.variants.table import build_windows
path, fasta, build, window = sys.argv[1:]
steps = {}
def step(name, last):
    now = time.perf_counter()
    steps[name] = round(now - last, 2)
    return now
last = step("import", begin)
genome, genes = human_genome(build, fasta), human_annotation(build)
last = step("open genome and genes", last)
table, coverage = read_splicevardb(source_file(DATASET, path), build, genes)
table, merging = merge_alleles(as_variant_table(table, path), path)
last = step("read", last)
table, checked = check_reference(table, genome)
last = step("check", last)
windows = build_windows(table, genome, int(window))
last = step("window", last)
steps["all"] = round(last - begin, 2)
used = resource.getrusage(resource.RUSAGE_SELF)
counts = {"read": coverage.read, "windowed": len(windows)}
cpu = round(used.ru_utime + used.ru_stime, 2)
print(json.dumps({**counts, "seconds": steps, "cpu_seconds": cpu, "peak_gb": round(used.ru_maxrss / 1e6, 2)}))
"""


def write_table(path: Path, fasta: str, build: str, rows: int) -> None:
    """Random substitutions of known bases within genes, in SpliceVarDB's format."""
    import numpy as np

    from meta_spliceai.datasets.human import human_annotation
    from meta_spliceai.splice_engine.genome.human_genome import human_genome

    genome, genes = human_genome(build, fasta), human_annotation(build)
    random = np.random.default_rng(0)
    lines: list[str] = []
    seen: set[tuple[str, int]] = set()
    while len(lines) < rows:
        gene = genes.genes[random.integers(len(genes.genes))]
        if gene.chrom not in genome.contigs() and f"chr{gene.chrom}" not in genome.contigs():
            continue
        known = np.flatnonzero(genome.fetch(gene.chrom, gene.start, gene.end) < 4)
        for at in random.choice(known, min(5, len(known)), replace=False) if len(known) else ():
            pos = gene.start + int(at) + 1
            if (gene.chrom, pos) in seen:
                continue
            seen.add((gene.chrom, pos))
            base = int(genome.fetch(gene.chrom, pos - 1, pos)[0])
            place = f"{gene.chrom}-{pos}-{'ACGT'[base]}-{'ACGT'[(base + 1) % 4]}"
            lines.append(f'{len(lines)}\t"{place}"\t"{place}"\t"{gene.name}"\t""\t"none"\t"Normal"\t""\t""')
    header = "variant_id\thg19\thg38\tgene\thgvs\tmethod\tclassification\tlocation\tdoi"
    path.write_text("\n".join([header, *lines[:rows]]) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fasta", default="regions")
    parser.add_argument("--build", default="GRCh38")
    parser.add_argument("--window", type=int, default=501)
    parser.add_argument("--rows", type=int, default=30_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "variants.tsv"
        write_table(table, given.fasta, given.build, given.rows)
        arguments = [str(table), given.fasta, given.build, str(given.window)]
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", WORK, *arguments], check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    print(json.dumps({**json.loads(done.stdout), "wall_seconds": round(seconds, 2), "window": given.window, **machine}))


if __name__ == "__main__":
    main()
