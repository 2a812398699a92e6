"""`meta-spliceai score`: adds splice scores to a file of variants; `merge` joins pieces."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meta_spliceai.cli import options
from meta_spliceai.cli.options import VARIANTS, Reads, Writes
from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.files import TABLE_SUFFIXES, atomic_write

if TYPE_CHECKING:
    from meta_spliceai.splice_engine.base_layer.network import BaseModel


def score(
    context: typer.Context,
    annotation: options.Annotation,
    source: Annotated[
        str,
        typer.Argument(metavar="[IN]", help="VCF, gzipped VCF or BCF; - is standard input.", show_default=False),
        VARIANTS,
    ] = "-",
    out: Annotated[
        str,
        typer.Option("-o", "-O", "--output", metavar="OUT", help="Output; - is standard output."),
        Writes((".partial", ".partial.json", ".partial.lock", ".pieces")),
    ] = "-",
    reference: options.Reference = None,
    base: options.Base = "spliceai",
    distance: options.Distance = 50,
    mask: Annotated[
        bool, typer.Option("--mask", help="Ignore gains of annotated sites and losses of others (SpliceAI's -M 1).")
    ] = False,
    device: options.Device = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, or bf16 for GPUs, checked against fp32 (Δ within 0.001).")
    ] = "fp32",
    threads: options.Threads = None,
    stats: Annotated[
        Path | None, typer.Option("--stats", metavar="FILE", help="Write counts and reasons as JSON."), Writes()
    ] = None,
    kernel: options.Kernel = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run to the same output.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Score only what SpliceAI's own command scores; write no reasons.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite the input's entries under the same INFO key.")
    ] = False,
    precomputed: Annotated[
        list[Path] | None,
        typer.Option(
            "--precomputed",
            metavar="TABLE",
            help="Use published scores from a bgzipped VCF, and compute only the rest; may be repeated.",
        ),
        Reads((".tbi",), what="table of scores"),
    ] = None,
    output_type: Annotated[
        str | None, typer.Option("--output-type", metavar="v|z|b", help="VCF, bgzipped VCF or BCF (default: by name).")
    ] = None,
    regions: options.Regions = None,
    shard: options.Shard = None,
    executor: options.PlaceOfPieces = None,
    pieces: options.Pieces = None,
    ray_address: options.RayAddress = None,
    slurm: options.SlurmSettings = None,
) -> None:
    """Score the variants of a VCF or BCF with SpliceAI or one of its relatives.

    Records are written unchanged and in the same order, with one added INFO
    entry: SpliceAI=ALLELE|SYMBOL|DS_AG|DS_AL|DS_DG|DS_DL|DP_AG|DP_AL|DP_DG|DP_DL.
    For an allele without a score, SpliceAI_unscored gives the reason. If OUT
    ends in .tsv, .csv or .parquet, it is a table with one row per entry. OUT
    appears once it is complete; until then OUT.partial holds the finished
    blocks, and --resume continues after them.

    [bold]Examples[/bold]

      meta-spliceai score in.vcf.gz -o out.vcf.gz -R hg38.fa -A grch38
      meta-spliceai score in.vcf.gz -o out.vcf.gz -A grch38
      meta-spliceai score in.vcf.gz -o out.tsv -R hg38.fa -A grch38
      meta-spliceai score in.vcf -o out.vcf -R hg38.fa -A genes.gtf.gz \\
          --base cispliceai --stats stats.json
      meta-spliceai score in.vcf.gz -o out.vcf.gz -R hg38.fa -A grch38 --resume
      meta-spliceai score in.vcf.gz -o out.vcf.gz -R hg38.fa -A grch38 \\
          --device cuda --precision bf16
      meta-spliceai score in.vcf.gz -o out.vcf.gz -A grch38 \\
          --precomputed spliceai_scores.raw.snv.hg38.vcf.gz
      meta-spliceai score in.vcf.gz -o piece3.vcf.gz -A grch38 --shard 3/40
      meta-spliceai score in.vcf.gz -o out.vcf.gz -R hg38.fa -A grch38 \\
          --executor slurm --pieces 40 --slurm partition=cpu
      bcftools view -r chr17 in.bcf | meta-spliceai score -R hg38.fa -A grch38 \\
          -D 500 > out.vcf
    """
    from meta_spliceai.experiments.spec.parts import require_networks
    from meta_spliceai.splice_engine.base_layer.vcf.pieces import Cut

    if source == "-" and sys.stdin.isatty():
        raise InputError("no input: give a VCF or BCF, or pipe one in; meta-spliceai score --help shows how")
    cut = Cut.asked(regions, shard)
    special = Path(out).exists() and not Path(out).is_file()  # a pipe or a device, whose name says nothing
    if out != "-" and output_type is None and not special:
        known = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf", *TABLE_SUFFIXES)
        refuse_suffix(out, known, "or say the format with --output-type v|z|b")
    if output_type is not None and str(out).lower().endswith(TABLE_SUFFIXES):
        raise InputError(f"-o {out} names a table, and --output-type {output_type} a VCF's format; give one of them")
    if executor is not None and str(out).lower().endswith(TABLE_SUFFIXES):
        raise InputError(f"-o {out}: with --executor name a VCF or BCF; a table is made by one process")
    if run_by_executor(context, source, out):
        return
    reference = reference or genome_of(annotation)
    require_networks(base)

    import torch

    from meta_spliceai.cli.terminal import counting
    from meta_spliceai.splice_engine.base_layer.block_convolution import PRECISIONS
    from meta_spliceai.splice_engine.base_layer.vcf.score_file import Settings
    from meta_spliceai.splice_engine.base_layer.vcf.score_vcf import Options, score_vcf

    chosen = next((one for one in PRECISIONS if one == precision), None)
    if chosen is None:
        raise unknown_value("precision", precision, PRECISIONS, "--precision")
    if threads is not None:
        torch.set_num_threads(threads)
    model = announced_model(base, device)
    settings = Settings(distance=distance, mask=mask, strict=strict, replace=replace, precision=chosen)
    records_on_screen = out == "-" and sys.stdout.isatty()
    with counting("records", hidden=records_on_screen) as show:
        how = Options(output_type, resume, precomputed or (), cut)
        account = score_vcf(source, out, reference, annotation, model, settings, how, lambda now: show(now.records))
    if stats is not None:
        with atomic_write(stats) as handle:
            json.dump(account, handle, indent=2, allow_nan=False)
            handle.write("\n")
    conclude(account)


def refuse_suffix(out: str | Path, suffixes: tuple[str, ...], otherwise: str = "") -> None:
    """Refuse an output whose name promises a format that is not written."""
    if not str(out).lower().endswith(suffixes):
        raise InputError(f"-o {out}: end the name in {' or '.join(suffixes)}{', ' * bool(otherwise)}{otherwise}")


def genome_of(annotation: str) -> Path:
    """The whole genome at hand of a packaged annotation's build."""
    from meta_spliceai.splice_engine.genome.annotation import PACKAGED_TABLES
    from meta_spliceai.splice_engine.genome.human_genome import needed_genome

    if annotation.lower() not in PACKAGED_TABLES:
        raise InputError(f"-R is missing: the build of {annotation} is not known, so give its genome's FASTA file")
    return needed_genome(annotation)


def announced_model(base: str, device: str) -> BaseModel:
    """The base model on its device, its licence said on standard error."""
    from meta_spliceai.splice_engine.base_layer.families import load_base_model
    from meta_spliceai.splice_engine.meta_layer.features import choose_device

    model = load_base_model(base, choose_device(device))
    _say(f"base model {model.name}: weights under {model.licence}; please cite {model.citation}")
    return model


def conclude(account: dict[str, Any]) -> None:
    """Print in a few lines what was scored and what was not."""
    left_out = sum(account["unscored"].values())
    resumed, scored, seconds = account["resumed_from_record"], account["alleles_scored"], account["seconds"]
    # what an interrupted run took is not known, so that a resumed one has no rate
    rate = f", {scored / seconds:,.1f} alleles/s" if scored and seconds and not resumed else ""
    _say(
        f"{account['records']:,} records, {account['alleles']:,} alleles: {scored:,} scored, "
        f"{left_out:,} without a score, in {seconds:,.1f} s{rate}"
        + (f" (went on from record {resumed:,})" if resumed else "")
        + (f"; {account['looked_up']:,} of {account['scores']:,} entries from tables" if account["tables"] else "")
    )
    for reason, count in sorted(account["unscored"].items(), key=lambda item: -item[1]):
        _say(f"  {count:,} {reason}, e.g. {account['examples'][reason][0]}")
    if account["precision_check"]:
        _say(account["precision_check"])
    for warning in account["warnings"]:
        _say(f"warning: {warning}")


def _say(line: str) -> None:
    typer.echo(line, err=True)


PLACE = ("executor", "ray_address", "pieces", "slurm")


def run_by_executor(context: typer.Context, source: str | Path, out: str | Path) -> bool:
    """If the running command was given --executor, compute its pieces there and merge them; True if so."""
    executor, ray_address, pieces, slurm = (context.params.pop(name) for name in PLACE)
    given = [
        (str(one.name), one)
        for one in context.command.params
        if getattr(context.get_parameter_source(str(one.name)), "name", "") == "COMMANDLINE"
    ]
    if executor is None or pieces is None:
        if needless := [name for name, _ in given if name in PLACE]:
            raise InputError(f"--{needless[0].replace('_', '-')}: give --executor and --pieces together")
        return False
    if "-" in (str(source), str(out)) or {"shard", "stats"} & {name for name, _ in given}:
        raise InputError("--executor needs a file as input and output, and does without --shard and --stats")

    from meta_spliceai.experiments.execute.all_rows import Place
    from meta_spliceai.experiments.predict.in_pieces import run_in_pieces

    arguments = [str(context.info_name)]
    for name, one in given:
        value = context.params.get(name)
        if name in ("out", "resume") or value is None:
            continue
        for text in value if isinstance(value, list | tuple) else [value]:
            arguments += [] if one.param_type_name == "argument" else [one.opts[-1]]
            arguments += [] if getattr(one, "is_flag", False) else [str(text)]
    place = Place(executor, ray_address=ray_address, slurm=tuple(slurm or ()))
    count, what = run_in_pieces(arguments, Path(source), Path(out), pieces, place, _say)
    _say(f"{pieces:,} pieces, {count:,} {what}: {out}")
    return True


def merge(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Same suffix as the pieces; for VCFs also .bcf."),
        Writes((".card.json",)),
    ],
    pieces: Annotated[
        list[Path], typer.Argument(metavar="PIECES...", help="Every piece, in any order."), Reads(what="piece")
    ],
) -> None:
    """Merge the pieces of `score --shard` or `predict --shard`.

    The result is what one run without --shard would have written, byte for
    byte. Each piece says in its header (for a table: in its card) which shard
    of which input it is, with a checksum. A piece that is missing, given twice,
    from another run, or has other records than when it was made is an error
    that names it.

    [bold]Examples[/bold]

      meta-spliceai merge out.vcf.gz pieces/*.vcf.gz
      meta-spliceai merge out.parquet p1.parquet p2.parquet p3.parquet
    """
    from meta_spliceai.experiments.predict.output_files import merge_pieces

    records, what = merge_pieces(out, pieces)
    _say(f"{len(pieces):,} pieces, {records:,} {what}: {out}")
