"""How fast is the base layer, beside SpliceAI's and OpenSpliceAI's own packages, on the same variants in the same run?

Four sets of variants, the first two from real genes:

* dense: all SNVs around one exon (900 by default), which share one reference;
* isolated: SNVs on sequences of their own (200 by default), which share nothing;
* constructs: SNVs in reporter constructs of 170 random bases, D = 150 (600 by default); ours alone;
* long-gene: SNVs along one gene of two million random bases (100 by default); ours alone, for its peak memory.

Each peer runs in an interpreter of its own, on an even sample of each set (it needs over a second for a variant; its
time does not depend on the neighbours). Its scores are compared with ours from the same networks: the four scores as
it prints them, and their positions where the score is at least 0.02.

    python -m venv peer
    peer/bin/pip install spliceai tensorflow-cpu pysam 'numpy<2.3' 'setuptools<81'
    python -m venv open-peer
    open-peer/bin/pip install openspliceai
    python benchmarks/base_layer.py --spliceai-python peer/bin/python --openspliceai-python open-peer/bin/python

Ours runs twice with SpliceAI's networks: in PyTorch only, and with the kernel that it chooses here. With --device cuda
ours runs there; SpliceAI's package runs where its TensorFlow runs.

Writes benchmarks/results/base_layer-SET.json, SET being the processor's instruction set, and from the results of all
sets base_layer.md and base_layer_short.md (the README's table); prints the table. What other processes used of the
processor meanwhile stands in it: a ratio is worth something on a quiet machine only. Results kept from another state
of the kernel's source are called so. Without a peer only ours is timed, and the table says so. Ends with 1 if outputs
disagree.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared/vectors/spliceai"
SETS = ("dense", "isolated", "constructs", "long-gene")
ALONE = ("constructs", "long-gene")
"""Sets that ours scores alone: what is asked is its rate, or its peak memory."""
DISTANCES = {"constructs": 150}
"""Of sets with one of their own."""
INSTRUCTION_SETS = ("AVX2", "AVX-512")
"""In the table, measured or not."""
KERNEL = HERE.parent / "src/meta_spliceai/splice_engine/base_layer/compiled_convolution.cpp"
SIDES = {
    "spliceai": "SpliceAI's own package",
    "pytorch": "meta-spliceai, PyTorch only",
    "ours": "meta-spliceai",
    "openspliceai": "OpenSpliceAI's own package",
    "ours-openspliceai": "meta-spliceai, OpenSpliceAI's networks",
}
PEER_OF = {"pytorch": "spliceai", "ours": "spliceai", "ours-openspliceai": "openspliceai"}
"""Who runs the same networks, and is compared with."""


def main() -> int:
    options = _options()
    if options.worker:
        _worker(*options.worker)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        results = {name: _measure(name, options, work) for name in SETS}
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": _machine(options.threads),
        "instruction_set": _instruction_set(),
        "code": _code(),
        "distance": options.distance,
        "device": options.device,
        "threads": options.threads,
        "genome": options.genome.name,
        "sets": results,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    name = report["instruction_set"].lower()
    (options.out / f"base_layer-{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    table = document(options.out)
    (options.out / "base_layer.md").write_text(table)
    (options.out / "base_layer_short.md").write_text(in_short(options.out))
    print(table)
    different = [
        (name, who, *side["agreement"]["different"][:1])
        for name, sides in results.items()
        for who, side in sides.items()
        if side.get("agreement", {}).get("different")
    ]
    for what in different:
        print("outputs differ:", *what)
    return 1 if different else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spliceai-python", type=Path, help="interpreter with spliceai and tensorflow installed")
    parser.add_argument("--openspliceai-python", type=Path, help="interpreter with openspliceai installed")
    parser.add_argument("--peer-variants", type=int, default=30, help="variants of each set that a peer scores")
    parser.add_argument("--dense", type=int, default=900, help="SNVs around one exon")
    parser.add_argument("--isolated", type=int, default=200, help="SNVs that share no sequence")
    parser.add_argument("--constructs", type=int, default=600, help="SNVs in reporter constructs")
    parser.add_argument("--long-gene", type=int, default=100, help="SNVs along a gene of two million bases")
    parser.add_argument("--distance", type=int, default=50)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--genome", type=Path, default=SHARED / "genome.fa", help="FASTA with index")
    parser.add_argument("--annotation", type=Path, default=SHARED / "annotation.txt", help="table in SpliceAI's format")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--worker", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.worker:
        for path in (options.genome, options.annotation):
            if not path.is_file():
                parser.error(f"no {path}; give --genome and --annotation")
        for interpreter in (options.spliceai_python, options.openspliceai_python):
            if interpreter and not interpreter.is_file():
                parser.error(f"no interpreter at {interpreter}")
    return options


def _measure(name: str, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Ours and the peers' time and scores on one set."""
    make = {"dense": _dense, "isolated": _isolated, "constructs": _constructs, "long-gene": _long_gene}[name]
    records, fasta, annotation = make(options, work)
    vcf = work / f"{name}.vcf"
    _write_vcf(vcf, records)
    step = max(1, len(records) // options.peer_variants)
    sample = records[step // 2 :: step][: options.peer_variants]
    peer_vcf = work / f"{name}-peer.vcf"
    _write_vcf(peer_vcf, sample)
    inputs = [str(fasta), str(annotation), str(DISTANCES.get(name, options.distance))]
    sides: dict[str, dict[str, Any]] = {}
    for who, kernel in (("pytorch", "pytorch"), ("ours", "auto"), ("ours-openspliceai", "auto")):
        if who == "pytorch" and options.device != "cpu":
            continue
        if who == "ours-openspliceai" and (name in ALONE or not options.openspliceai_python):
            continue
        sides[who] = _run(
            [sys.executable, str(Path(__file__).resolve()), "--worker", str(vcf)],
            [*inputs, PEER_OF[who], f"{options.device}:{options.threads}"],
            work / f"{name}-{who}.json",
            META_SPLICEAI_KERNEL=kernel,
        )
    for peer, interpreter, more in (
        ("spliceai", options.spliceai_python, []),
        ("openspliceai", options.openspliceai_python, [_openspliceai_weights]),
    ):
        if interpreter and name not in ALONE:
            sides[peer] = _run(
                [str(interpreter), str(HERE / f"peer_{peer}.py"), str(peer_vcf)],
                [*inputs, *(str(find()) for find in more)],
                work / f"{name}-{peer}.json",
            )
    for who, peer in PEER_OF.items():
        if who in sides and peer in sides:
            sides[who]["agreement"] = _compare(sides[who]["scores"], sides[peer]["scores"])
            sides[who]["ratio"] = _rate(sides[who]) / _rate(sides[peer])
    return {who: _without_scores(side) for who, side in sides.items()}


def _openspliceai_weights() -> Path:
    """The folder of the five networks, checked, as the peer wants it."""
    from meta_spliceai.resources import get, resolve_file

    resource = get("openspliceai-mane-10000nt")
    files = [resolve_file(resource.name, file.path) for file in resource.files]
    return files[0].parent


def _without_scores(side: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in side.items() if key != "scores"}


def _rate(side: dict[str, Any]) -> float:
    """Variants a second."""
    return side["variants"] / side["seconds"]


def _run(command: list[str], more: list[str], out: Path, **variables: str) -> dict[str, Any]:
    print("running", " ".join([*command[:2], "…", *more]), *variables.items(), file=sys.stderr)
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    before = _busy_seconds()
    done = subprocess.run([*command, *more, str(out)], env=quiet, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    machine, own, there = (now - then for now, then in zip(_busy_seconds(), before, strict=True))
    others = max(0.0, machine - own) / there
    print(f"  other processes used {others:.1%} of the processor meanwhile", file=sys.stderr)
    return {**json.loads(out.read_text()), "others_share": others}


def _busy_seconds() -> tuple[float, float, float]:
    """Processor seconds: in which the machine was busy, of this process and its ended children, and all there were."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(one.ru_utime + one.ru_stime for one in used)
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = [int(number) / os.sysconf("SC_CLK_TCK") for number in first]
    return sum(ticks) - ticks[3] - ticks[4], own, sum(ticks)


Record = tuple[str, int, str, str, str]
"""Contig, 1-based position, name, reference and alternative base."""


def _genes(annotation: Path) -> list[dict[str, str]]:
    lines = annotation.read_text().splitlines()
    header = lines[0].lstrip("#").split("\t")
    return [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:] if line]


def _contig(gene: dict[str, str], there: Sequence[str]) -> str:
    """The gene's contig as the FASTA names it, with or without "chr"."""
    return next(name for name in there if name.removeprefix("chr") == gene["CHROM"].removeprefix("chr"))


def _dense(options: argparse.Namespace, _: Path) -> tuple[list[Record], Path, Path]:
    """All three SNVs at consecutive positions around the middle exon of the first gene."""
    import pysam

    gene = _genes(options.annotation)[0]
    starts = [int(start) for start in gene["EXON_START"].split(",") if start]
    first = starts[len(starts) // 2] - options.dense // 9
    with pysam.FastaFile(str(options.genome)) as fasta:
        contig = _contig(gene, fasta.references)
        bases = fasta.fetch(contig, first, first + -(-options.dense // 3)).upper()
    records = [
        (contig, first + offset + 1, f"dense{offset}{alt}", base, alt)
        for offset, base in enumerate(bases)
        for alt in "ACGT"
        if alt != base
    ]
    return records[: options.dense], options.genome, options.annotation


def _isolated(options: argparse.Namespace, work: Path) -> tuple[list[Record], Path, Path]:
    """SNVs in the middle of sequences of their own, cut at even distances from all genes, each annotated as a gene."""
    import pysam

    genes = _genes(options.annotation)
    length = 2 * (5000 + options.distance) + 1001
    each = -(-options.isolated // len(genes))
    records: list[Record] = []
    fasta, annotation = work / "isolated.fa", work / "isolated.txt"
    header = ["#NAME", "CHROM", "STRAND", "TX_START", "TX_END", "EXON_START", "EXON_END"]
    table = ["\t".join(header)]
    with pysam.FastaFile(str(options.genome)) as source, fasta.open("w") as out:
        for gene in genes:
            start, end = int(gene["TX_START"]), int(gene["TX_END"])
            for index in range(each):
                cut = start + (end - start - length) * index // max(1, each - 1)
                bases = source.fetch(_contig(gene, source.references), cut, cut + length).upper()
                name, middle = f"{gene['NAME']}.{index}", length // 2
                alt = "ACGT"[("ACGT".index(bases[middle]) + 1 + index % 3) % 4]
                records.append((name, middle + 1, f"isolated{len(records)}", bases[middle], alt))
                out.write(f">{name}\n{bases}\n")
                table.append("\t".join([name, name, gene["STRAND"], "0", str(length), "0,", f"{length},"]))
    annotation.write_text("\n".join(table) + "\n")
    pysam.faidx(str(fasta))
    return records[: options.isolated], fasta, annotation


def _constructs(options: argparse.Namespace, work: Path) -> tuple[list[Record], Path, Path]:
    """A dozen SNVs in each of a library of constructs; they are in no gene, and have no bases beside their own."""
    import numpy as np
    import pysam

    rng, length, each = np.random.default_rng(0), 170, 12
    fasta, annotation = work / "constructs.fa", work / "constructs.txt"
    records: list[Record] = []
    with fasta.open("w") as out:
        for number in range(-(-options.constructs // each)):
            bases = "".join(rng.choice(list("ACGT"), length))
            out.write(f">construct{number}\n{bases}\n")
            for at in range(7, length, length // each)[:each]:
                alt = "ACGT"["ACGT".index(bases[at]) - 1]
                records.append((f"construct{number}", at + 1, f"construct{number}.{at}", bases[at], alt))
    pysam.faidx(str(fasta))
    annotation.write_text("")
    return records[: options.constructs], fasta, annotation


def _long_gene(options: argparse.Namespace, work: Path) -> tuple[list[Record], Path, Path]:
    """SNVs at even distances along one gene of two million random bases."""
    import numpy as np
    import pysam

    length = 2_000_000
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), length))
    fasta, annotation = work / "long.fa", work / "long.txt"
    fasta.write_text(f">long\n{bases}\n")
    pysam.faidx(str(fasta))
    header = ["#NAME", "CHROM", "STRAND", "TX_START", "TX_END", "EXON_START", "EXON_END"]
    gene = ["LONG", "long", "+", "0", str(length), "0,", f"{length},"]
    annotation.write_text("\t".join(header) + "\n" + "\t".join(gene) + "\n")
    records = []
    for number in range(options.long_gene):
        at = length * (2 * number + 1) // (2 * options.long_gene)
        records.append(("long", at + 1, f"long{number}", bases[at], "ACGT"["ACGT".index(bases[at]) - 1]))
    return records, fasta, annotation


def _write_vcf(path: Path, records: list[Record]) -> None:
    contigs = dict.fromkeys(record[0] for record in records)
    lines = ["##fileformat=VCFv4.2", *(f"##contig=<ID={contig}>" for contig in contigs)]
    lines.append("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]))
    lines += ["\t".join([c, str(pos), name, ref, alt, ".", ".", "."]) for c, pos, name, ref, alt in records]
    path.write_text("\n".join(lines) + "\n")


def _worker(vcf: str, fasta: str, annotation: str, distance: str, networks: str, where: str, out: str) -> None:
    """Ours, in a process of its own so that its peak memory is its own."""
    import pandas as pd
    import pysam
    import torch

    from meta_spliceai.splice_engine.base_layer.families import load_base_model
    from meta_spliceai.splice_engine.base_layer.kernel_choice import chosen
    from meta_spliceai.splice_engine.base_layer.scoring import score_variants
    from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
    from meta_spliceai.splice_engine.genome.fasta import IndexedFasta

    device, threads = where.split(":")
    torch.set_num_threads(int(threads))
    genes = GeneAnnotation.from_spliceai_table(Path(annotation), "as given") if Path(annotation).read_text() else None
    with pysam.VariantFile(vcf) as handle:
        rows = [(record.chrom, record.pos, record.id, *(record.alleles or ())[:2]) for record in handle]
    table = pd.DataFrame(rows, columns=["chrom", "pos", "variant_id", "ref", "alt"])
    table["gene"], table["strand"] = "", "+"
    if genes is not None:
        found = [genes.overlapping(chrom, pos)[0] for chrom, pos in zip(table["chrom"], table["pos"], strict=True)]
        table["gene"] = [gene.name for gene in found]
        table["strand"] = [gene.strand for gene in found]
    genome = IndexedFasta(Path(fasta), "as given")
    model = load_base_model(networks, device)
    score_variants(table[:2], genome, model, int(distance), annotation=genes)  # warm up, as the peer does
    before = time.perf_counter()
    scores = score_variants(table, genome, model, int(distance), annotation=genes)
    seconds = time.perf_counter() - before
    texts = {}
    for row in range(len(table)):
        delta = scores.delta[row][:: -1 if table["strand"][row] == "-" else 1]
        gains = (delta[:, 1], -delta[:, 1], delta[:, 2], -delta[:, 2])
        places = [int(gain.argmax()) for gain in gains]
        fields = [f"{gain[place]:.2f}" for gain, place in zip(gains, places, strict=True)]
        fields += [str(place - scores.distance) for place in places]
        texts[table["variant_id"][row]] = "|".join([table["alt"][row], table["gene"][row], *fields])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device != "cpu":
        memory = torch.cuda.max_memory_allocated()
    result = {
        "variants": len(table),
        "seconds": seconds,
        "peak_memory_bytes": memory,
        "versions": {name: importlib.metadata.version(name) for name in ("meta-spliceai", "torch", "numpy")},
        "kernel": str(chosen()) if device == "cpu" else "pytorch",
        "scores": texts,
    }
    Path(out).write_text(json.dumps(result))


def _compare(ours: dict[str, str], peer: dict[str, list[str]]) -> dict[str, Any]:
    """Equal scores, and equal positions where the score is at least 0.02; what differs is listed."""
    different = []
    identical = 0
    for name, (text,) in peer.items():
        mine, theirs = ours[name].split("|"), text.split("|")
        identical += mine == theirs
        same_scores = [float(a) == float(b) for a, b in zip(mine[2:6], theirs[2:6], strict=True)]
        same_places = [
            float(score) < 0.02 or a == b for score, a, b in zip(theirs[2:6], mine[6:], theirs[6:], strict=True)
        ]
        if mine[:2] != theirs[:2] or not all(same_scores + same_places):
            different.append({"variant": name, "ours": ours[name], "peer": text})
    return {"compared": len(peer), "identical_texts": identical, "different": different}


def _code() -> str:
    """Identity of the kernel's source."""
    return hashlib.sha256(KERNEL.read_bytes()).hexdigest()[:12]


def _instruction_set() -> str:
    from meta_spliceai.splice_engine.base_layer.compiled_convolution import NoCompiledCodeError, library

    try:
        return library().instruction_set
    except NoCompiledCodeError:
        return "no compiler"


def _matrix_rate(threads: int) -> float:
    """GFLOP/s of a large float32 matrix product, the best of five."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(2, 2048, 2048)
    taken = []
    for _ in range(5):
        before = time.perf_counter()
        a @ b
        taken.append(time.perf_counter() - before)
    return 2 * 2048**3 / min(taken) / 1e9


def _machine(threads: int) -> dict[str, Any]:
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "matrix_gflop_per_second": _matrix_rate(threads),
    }


def _kept(folder: Path) -> Iterator[tuple[str, dict[str, Any] | None, bool]]:
    """Each instruction set, what was measured on it, and whether it was on this state of the kernel."""
    for name in INSTRUCTION_SETS:
        path = folder / f"base_layer-{name.lower()}.json"
        report = json.loads(path.read_text()) if path.is_file() else None
        yield name, report, report is not None and report["code"] == _code()


def document(folder: Path) -> str:
    """One table for all instruction sets, measured or not, and a paragraph on each machine."""
    lines = [
        "| instruction set | variants | who | scored | variants/s | ratio | matrix rate | peak memory | outputs |",
        "|---|---|---|---:|---:|---:|---:|---:|---|",
    ]
    notes = []
    for name, report, current in _kept(folder):
        if report is None:
            lines.append(f"| {name} | | not measured on this code | | | | | | |")
            continue
        lines += _lines(report, name if current else f"{name} (earlier code; not measured on this code)")
        notes += ["", _note(report)]
    return "\n".join(lines + notes) + "\n"


def in_short(folder: Path) -> str:
    """Ours with SpliceAI's networks beside SpliceAI's own package, a line a set and instruction set."""
    lines = [
        "| processor | variants | SpliceAI's package | meta-spliceai | ratio | peak memory |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, report, current in _kept(folder):
        if report is None:
            lines.append(f"| {name} | not measured | | | | |")
            continue
        earlier = "" if current else "; earlier code"
        for what, sides in report["sets"].items():
            peer, ours = sides.get("spliceai"), sides["ours"]
            machine = f"{report['machine']['processor']}, {report['threads']} threads ({name}{earlier})"
            theirs = "–" if peer is None else f"{_rate(peer):.2f}/s"
            ratio = f"**{ours['ratio']:.0f}×**" if "ratio" in ours else "–"
            memory = f"{ours['peak_memory_bytes'] / 1e9:.2f} GB"
            lines.append(f"| {machine} | {WHAT[what]} | {theirs} | {_rate(ours):.1f}/s | {ratio} | {memory} |")
    return "\n".join(lines) + "\n"


WHAT = {
    "dense": "SNVs around one exon",
    "isolated": "isolated SNVs",
    "constructs": "SNVs in constructs of 170 bases, D = 150",
    "long-gene": "SNVs along a 2 Mb gene",
}


def _lines(report: dict[str, Any], instruction_set: str) -> list[str]:
    lines = []
    matrix = report["machine"].get("matrix_gflop_per_second")
    rate = "not measured" if matrix is None else f"{matrix:.0f} GFLOP/s"
    for name, result in report["sets"].items():
        for who, label in SIDES.items():
            if who not in result:
                continue
            side = result[who]
            if "ratio" in side:
                ratio = f"**{side['ratio']:.0f}×**"
            elif who in PEER_OF:
                ratio = "" if name in ALONE else "not measured"
            else:
                ratio = "1"
            outputs = ""
            if "agreement" in side:
                agreement = side["agreement"]
                equal = agreement["compared"] - len(agreement["different"])
                outputs = f"equal on {equal} of {agreement['compared']}"
            lines.append(
                f"| {instruction_set} | {WHAT[name]} | {label} | {side['variants']} | {_rate(side):.2f} | {ratio} | "
                f"{rate} | {side['peak_memory_bytes'] / 1e9:.2f} GB | {outputs} |"
            )
    return lines


def _note(report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = {}
    for result in report["sets"].values():
        for who in SIDES:
            versions.update(result.get(who, {}).get("versions", {}))
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return (
        f"{report['instruction_set']}: ensemble of five, D = {report['distance']}, {report['device']}, "
        f"{report['threads']} threads; {machine['processor']}, {machine['cores']} cores, load before "
        f"{machine['load_before']:.1f}, {machine['system']}, Python {machine['python']}; {named}; "
        f"convolutions: {report['sets']['dense']['ours']['kernel']}; {report['date'][:10]}. {_company(report)}All "
        "sides warmed up, model loading left out. Outputs are equal when the four scores are the same as printed, and "
        "their positions wherever the score is at least 0.02."
    )


def _company(report: dict[str, Any]) -> str:
    """How much of the machine other processes used while it was measured."""
    shares = [
        side["others_share"] for sides in report["sets"].values() for side in sides.values() if "others_share" in side
    ]
    return f"Other processes used at most {max(shares):.0%} of the processor meanwhile. " if shares else ""


if __name__ == "__main__":
    sys.exit(main())
