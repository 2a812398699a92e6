"""`meta-spliceai predict`: applies a predictor of the package, or a finished run, to new variants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meta_spliceai.cli import options
from meta_spliceai.cli.options import ANNOTATION, GENOME, SCORES, VARIANTS, Writes
from meta_spliceai.cli.score import run_by_executor

if TYPE_CHECKING:
    from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace


def predict(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="VCF, BCF, or a table with chrom, pos, ref, alt."), VARIANTS
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="Output; the suffix sets the format: .vcf, .vcf.gz, .tsv, .csv or .parquet.",
        ),
        Writes((".card.json", ".partial", ".partial.json", ".partial.lock", ".pieces")),
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|RUN", help="A predictor of the package, or a finished run.")
    ] = "fusion-cispliceai",
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
            help="Genome of that build: a FASTA file, whole or of regions (chr1:1000-2000), 'regions', or 'auto' "
            "(META_SPLICEAI_GENOME_GRCH38 or 37, then that of `data get grch38`).",
        ),
        GENOME,
    ] = "auto",
    device: options.Device = "auto",
    runs_dir: options.RunsDir = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            "--scores",
            metavar="NAME=FILE[:WHICH]",
            help="For a fusion that uses another tool's scores: the tool's file for these variants.",
        ),
        SCORES,
    ] = None,
    kernel: options.Kernel = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run to the same output.")] = False,
    regions: options.Regions = None,
    shard: options.Shard = None,
    executor: options.PlaceOfPieces = None,
    pieces: options.Pieces = None,
    ray_address: options.RayAddress = None,
    slurm: options.SlurmSettings = None,
) -> None:
    """Predict whether new variants alter splicing.

    The package includes four predictors: fusion-cispliceai (the default), which
    runs CI-SpliceAI's networks (the extra `cispliceai`), fusion-spliceai
    (SpliceAI's, the extra `quickstart`), and the same two with Pangolin's
    networks added, which are downloaded once: fusion-open and fusion. VCF
    output gains the INFO entry MSAI=ALLELE|SYMBOL|P|LOW|HIGH|DOMAIN|TYPE|POS.
    A table has one line per allele, in the input's order: the probability, or
    the reason why there is none. A finished run writes tables only.
    OUT.card.json describes the model: training data, split, metrics, licences.

    [bold]Examples[/bold]

      meta-spliceai predict in.vcf -o out.vcf -R hg38.fa -A grch38
      meta-spliceai predict in.vcf.gz -o out.parquet -R hg38.fa -A grch38
      meta-spliceai predict in.vcf -o out.vcf -R hg38.fa -A grch38 --model fusion
      meta-spliceai predict patients.vcf -o out.tsv -R hg38.fa -A grch38 \\
          --model validated-delta-50k
    """
    from meta_spliceai.errors import InputError
    from meta_spliceai.experiments.predict.output_files import check_output
    from meta_spliceai.experiments.store.workspace import Workspace
    from meta_spliceai.splice_engine.base_layer.vcf.pieces import Cut
    from meta_spliceai.splice_engine.meta_layer.shipped_predictor import ShippedPredictor, load_shipped, names
    from meta_spliceai.splice_engine.variants.external_scores import ScoreFile

    cut = Cut.asked(regions, shard)
    # Before the libraries that a prediction needs are loaded: a name that is none is said at once.
    workspace = Workspace.default(runs_dir)
    found = load_shipped(model) if model in names() else _run_named(workspace, model, names())
    check_output(out, source, isinstance(found, ShippedPredictor))
    if model in names() and scores:
        raise InputError(f"--scores {scores[0]}: {model} reads no other tool's scores; --model RUN of a fusion may")
    files = [ScoreFile.parse(text) for text in scores or ()]
    if run_by_executor(context, source, out):
        return

    from meta_spliceai.datasets.human import human_annotation
    from meta_spliceai.splice_engine.genome.human_genome import AUTO, check_annotation, human_genome, needed_genome

    genes = None if annotation is None else human_annotation(build, annotation)
    genome = human_genome(build, needed_genome(build) if reference == AUTO else reference)
    if genes is not None:
        check_annotation(genes, genome)

    from meta_spliceai.cli.terminal import Terminal, counting
    from meta_spliceai.experiments.predict.predict_new import Model, RunModel
    from meta_spliceai.experiments.predict.predict_shipped import ShippedModel
    from meta_spliceai.experiments.predict.write_predictions import Inputs, predict_file

    terminal = Terminal()
    applied: Model
    if isinstance(found, ShippedPredictor):
        applied = ShippedModel(found, device)
        terminal.say(f"model {applied.card['title']}")
    else:
        applied = RunModel(found, workspace, device, files)
    with counting("records") as show:
        inputs = Inputs(genome, genes, device, cut)
        totals = predict_file(applied, source, out, inputs, resume, lambda totals: show(totals.records))
    terminal.say(f"{totals.alleles:,} alleles, {totals.alleles_scored:,} predicted by {found.name}: {out}")
    for reason, count in totals.unscored.items():
        terminal.say(f"  {count:,} without a prediction: {reason}, e.g. {totals.examples[reason][0]}")
    if totals.alleles and not totals.alleles_scored:
        terminal.say("  warning: no allele was predicted")
    for name, count in totals.from_tools.items():
        terminal.say(f"  {count:,} of them with a score of {name}")
    for note in applied.card["notes"]:
        terminal.say(f"  note: {note}")
    if not isinstance(found, ShippedPredictor) and found.stale():
        terminal.say(f"  note: {found.name} is stale: {found.stale()}")


def _run_named(workspace: Workspace, name: str, shipped: list[str]) -> RunDirectory:
    """A finished run; the error of an unknown name says which predictors the package has."""
    from meta_spliceai.errors import InputError, RunError

    try:
        return workspace.find(name)
    except (InputError, RunError) as error:
        raise InputError(f"--model {name}: no predictor of the package ({', '.join(shipped)}), and {error}") from error
