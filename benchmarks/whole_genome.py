"""What a genome's worth of variants costs on many cores: from one piece, scored by the command and measured.

    python benchmarks/whole_genome.py [--records 1500] [--base spliceai] [--into benchmarks/results]
    python benchmarks/whole_genome.py --render     write the table anew from the kept measurement

The piece is a contig of random bases with substitutions on average 620 bases apart, as many as a person's genome has,
in order; a gene covers as large a part of it as genes cover of the human genome in the table that --annotation grch38
reads. Two calls of `meta-spliceai score --shard 1/1` on one thread are measured in processor seconds: one of the piece,
and one of a file without a record, which is what every piece pays to begin. How long it takes to read through a file in
order to cut it is measured on 200,000 records. Scores depend on the variants, and so does nothing of the time but how
many share a reference.

The table then says what 5,000,000 such variants take, cut into as many pieces as there are cores; for a GPU there is
only the planner's estimate, from its count of operations and the card's data sheet.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from meta_spliceai.experiments.plan.gpu_prices import load_market
from meta_spliceai.experiments.plan.run_work import card, scoring_work
from meta_spliceai.experiments.spec.experiment import BaseSpec
from meta_spliceai.splice_engine.base_layer.vcf.bgzf import END_BLOCK, compress
from meta_spliceai.splice_engine.base_layer.vcf.pieces import WINDOW, Cut, take
from meta_spliceai.splice_engine.base_layer.vcf.reader import reopened
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta

RESULTS = Path(__file__).resolve().parent / "results"
VARIANTS, SPACING, LINE = 5_000_000, 620, 100
CORES = (2, 64, 1000)
HUMAN_BASES = 3_088_269_832
"""Of the chromosomes 1 to 22, X and Y of GRCh38."""
HEAD = "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def share_in_genes() -> float:
    """The part of the genome that lies in a gene of SpliceAI's table."""
    covered, genes = 0, GeneAnnotation.named("grch38")
    for contig in (*map(str, range(1, 23)), "X", "Y"):
        end = 0
        for start, stop in sorted((gene.start, gene.end) for gene in genes.within(contig, 0, 10**9)):
            covered += max(0, stop - max(start, end))
            end = max(end, stop)
    return covered / HUMAN_BASES


def write_inputs(folder: Path, records: int, share: float) -> dict[str, Path]:
    """A FASTA, a table with one gene, a piece, and a file without records."""
    random = np.random.default_rng(0)
    length = (records + 40) * SPACING // LINE * LINE
    bases = random.choice(np.frombuffer(b"ACGT", np.uint8), length)
    files = {name: folder / name for name in ("genome.fa", "genes.txt", "piece.vcf", "none.vcf", "long.vcf.gz")}
    rows = np.hstack([bases.reshape(-1, LINE), np.full((length // LINE, 1), ord("\n"), np.uint8)])
    files["genome.fa"].write_bytes(b">chr1\n" + rows.tobytes())
    end = int(share * length)
    files["genes.txt"].write_text(
        f"#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\nG\t1\t+\t0\t{end}\t0,{end - 500},\t300,{end},\n"
    )
    after = dict(zip("ACGT", "CGTA", strict=True))
    text = bases.tobytes().decode()
    places = np.sort(random.choice(np.arange(10_000, length - 10_000), records, replace=False)).tolist()
    lines = [f"chr1\t{at + 1}\t.\t{text[at]}\t{after[text[at]]}\t50\tPASS\tAC=1;AN=2;DP=40\n" for at in places]
    files["piece.vcf"].write_text(HEAD + "".join(lines))
    files["none.vcf"].write_text(HEAD)
    long = (HEAD + "".join(lines * (200_000 // records + 1))).encode()
    files["long.vcf.gz"].write_bytes(compress(long) + END_BLOCK)
    return files


def seconds_of(files: dict[str, Path], vcf: str, base: str) -> tuple[float, dict[str, Any]]:
    """Processor seconds of a call of `score`, and its account."""
    out, stats = files[vcf].with_suffix(".out.vcf"), files[vcf].with_suffix(".json")
    command = [sys.executable, "-m", "meta_spliceai", "score", files[vcf], "-o", out, "-R", files["genome.fa"]]
    command += ["-A", files["genes.txt"], "--base", base, "--threads", "1", "--shard", "1/1", "--stats", stats]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*map(str, command)], check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, json.loads(stats.read_text(encoding="utf-8"))


def counting_seconds(files: dict[str, Path]) -> float:
    """Processor seconds a record to read through a file once and weigh it."""
    path = str(files["long.vcf.gz"])
    genes = GeneAnnotation.named(str(files["genes.txt"]))
    source, began = reopened(path), time.process_time()
    # The last of very many pieces: all of the file is read twice.
    take(source, lambda: reopened(path), path, Cut(shard=(10**6, 10**6)), genes, IndexedFasta(files["genome.fa"], ""))
    sum(1 for _ in source.rows)
    return (time.process_time() - began) / 2 / 200_000


def measure(records: int, base: str) -> dict[str, Any]:
    """One piece."""
    share = share_in_genes()
    with tempfile.TemporaryDirectory() as folder:
        files = write_inputs(Path(folder), records, share)
        seconds_of(files, "none.vcf", base)  # what is made once for a machine: compiled kernels, an index
        begins, _ = seconds_of(files, "none.vcf", base)
        spent, account = seconds_of(files, "piece.vcf", base)
        return {
            "base": base,
            "records": records,
            "spacing": SPACING,
            "share_of_genome_in_genes": share,
            "alleles_scored": account["alleles_scored"],
            "core_seconds": spent,
            "core_seconds_to_begin": begins,
            "core_seconds_a_record_to_cut": counting_seconds(files),
            "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        }


def rendered(kept: dict[str, Any]) -> str:
    """The measurement as a table."""
    each = (kept["core_seconds"] - kept["core_seconds_to_begin"]) / kept["records"]
    lines = ["| on | pieces | core-hours | time | of which start-up and cutting |", "|---|---:|---:|---:|---:|"]
    for cores in CORES:
        overhead = cores * (kept["core_seconds_to_begin"] + 2 * VARIANTS * kept["core_seconds_a_record_to_cut"])
        spent = VARIANTS * each + overhead
        lines.append(
            f"| {cores:,} cores | {cores:,} | {spent / 3600:,.0f} | {_time(spent / cores)} | {overhead / spent:.0%} |"
        )
    alleles = round(VARIANTS * kept["alleles_scored"] / kept["records"])
    windows = round(alleles * SPACING / WINDOW)
    gpu = card(load_market(refreshed=False).find("H200"))
    for precision in ("fp32", "bf16"):
        work = scoring_work(BaseSpec(name="spliceai", precision=precision), alleles, windows, alleles * SPACING)
        lines.append(
            f"| one H200, {precision}: the planner's *estimate*, unmeasured | 1 | – | {_time(work.seconds(gpu))} | – |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"From a piece of {kept['records']:,} substitutions about {SPACING} bases apart, of which "
            f"{kept['alleles_scored']:,} lie in genes (genes cover {kept['share_of_genome_in_genes']:.0%} of the "
            f"genome), which took {kept['core_seconds']:.0f} processor seconds on one thread with {kept['base']}'s "
            f"networks at D = 50, "
            f"{kept['core_seconds_to_begin']:.0f} of them for start-up ({kept['machine']['processor']}, a machine "
            f"shared with other work); reading a record to cut the file takes "
            f"{1e6 * kept['core_seconds_a_record_to_cut']:.1f} µs. All cores are assumed to be as fast as "
            f"these. The H200 is {gpu.assumed}.",
        ]
    )


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def main() -> None:
    """Measure, keep and render."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1500)
    parser.add_argument("--base", default="spliceai")
    parser.add_argument("--into", type=Path, default=RESULTS)
    parser.add_argument("--render", action="store_true")
    given = parser.parse_args()
    file = given.into / "whole_genome.json"
    if not given.render:
        file.write_text(json.dumps(measure(given.records, given.base), indent=1) + "\n", encoding="utf-8")
    text = rendered(json.loads(file.read_text(encoding="utf-8")))
    file.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
