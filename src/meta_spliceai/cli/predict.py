"""`meta-spliceai predict`: a finished run applied to new variants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from meta_spliceai.cli.folders import RunsDir
from meta_spliceai.cli.guard_paths import ANNOTATION, FASTA, VARIANTS, Writes
from meta_spliceai.cli.kernel import KernelOption
from meta_spliceai.cli.print_json import in_json


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("predict")(predict)


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run: its name, or the start of it.")],
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="VCF, BCF, or a table with chrom, pos, ref, alt."), VARIANTS
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="OUT", help="The table to write, tab-separated."),
        Writes((".card.json",)),
    ],
    annotation: Annotated[
        str | None,
        typer.Option(
            "-A", "--annotation", metavar="WHAT", help="Genes, for the strand: grch37, grch38, a table or a GTF."
        ),
        ANNOTATION,
    ] = None,
    build: Annotated[str, typer.Option("--build", help="The variants' build.")] = "GRCh38",
    reference: Annotated[
        str,
        typer.Option(
            "-R",
            "--reference",
            metavar="FASTA",
            help="Genome of that build: a FASTA file, whole or of regions (chr1:1000-2000), 'regions', or 'auto': "
            "META_SPLICEAI_GENOME_GRCH38 (or 37), then `data get grch38`.",
        ),
        FASTA,
    ] = "auto",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    runs_dir: RunsDir = None,
    kernel: KernelOption = None,
) -> None:
    """Predict new variants with a finished run.

    Writes one line an allele, in the input's order: the model's answers and a
    calibrated probability of being splice-altering, or the reason why there is
    none. A fusion also writes each base network's Δ (the largest, and at the
    nearest exon's own sites) and the kind of effect that it shows. Beside OUT,
    OUT.card.json says what the model is: training data, split, metrics,
    licences.

    [bold]Examples[/bold]

      meta-spliceai predict validated-delta-50k patients.vcf -o out.tsv \\
          -R hg38.fa -A grch38
      meta-spliceai predict validated-delta-50k variants.tsv -o out.tsv
    """
    from meta_spliceai.experiments.workspace import Workspace

    # Before the libraries that a prediction needs are loaded: a name that is none is said at once.
    workspace = Workspace.default(runs_dir)
    found = workspace.find(run)
    from meta_spliceai.cli.terminal import Terminal
    from meta_spliceai.datasets.human import human_annotation
    from meta_spliceai.experiments.predict_new import predict_new
    from meta_spliceai.experiments.read_variants import read_variants
    from meta_spliceai.files import atomic_write
    from meta_spliceai.splice_engine.genome.human_genome import AUTO, human_genome, needed_genome

    terminal = Terminal()
    genes = None if annotation is None else human_annotation(build, annotation)
    alleles, variants = read_variants(source, genes)
    genome = human_genome(build, needed_genome(build) if reference == AUTO else reference)
    answered = predict_new(found, workspace, alleles, variants, genome, device, genes)
    with atomic_write(out) as handle:
        answered.table.to_csv(handle, sep="\t", index=False, float_format="%.6g")
    with atomic_write(out.with_name(f"{out.name}.card.json")) as handle:
        json.dump(in_json(answered.card), handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")
    account = answered.coverage
    terminal.say(f"{account.read:,} alleles, {account.used:,} predicted by {found.name}: {out}")
    for reason, count in account.left_out.items():
        terminal.say(f"  {count:,} without a prediction: {reason}, e.g. {account.examples[reason][0]}")
    for note in answered.card["notes"]:
        terminal.say(f"  note: {note}")
    if found.stale():
        terminal.say(f"  note: {found.name} is stale: {found.stale()}")
