"""`meta-spliceai predict`: a predictor of the package, or a finished run, applied to new variants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meta_spliceai.cli.console import as_json
from meta_spliceai.cli.guard_paths import ANNOTATION, FASTA, VARIANTS, Writes
from meta_spliceai.cli.options import Device, Kernel, RunsDir

if TYPE_CHECKING:
    from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace


def predict(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="VCF, BCF, or a table with chrom, pos, ref, alt."), VARIANTS
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--output", "--out", metavar="OUT", help="By suffix: .vcf, .vcf.gz, .tsv, .csv or .parquet."
        ),
        Writes((".card.json",)),
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|RUN", help="A predictor of the package, or a finished run.")
    ] = "fusion-open",
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
    device: Device = "auto",
    runs_dir: RunsDir = None,
    kernel: Kernel = None,
) -> None:
    """Predict whether new variants alter splicing.

    Three predictors travel with the package: fusion-open (CI-SpliceAI's
    networks, the extra `cispliceai`; used without --model), fusion-spliceai
    (SpliceAI's, the extra `quickstart`) and fusion (SpliceAI's and Pangolin's,
    which are downloaded once). A VCF is annotated in place: INFO
    MSAI=ALLELE|SYMBOL|P|LOW|HIGH|DOMAIN|TYPE|POS. A table has one line an
    allele, in the input's order: the probability, or the reason why there is
    none. A finished run writes tables only. Beside OUT, OUT.card.json says what
    the model is: training data, split, metrics, licences.

    [bold]Examples[/bold]

      meta-spliceai predict in.vcf -o out.vcf -R hg38.fa -A grch38
      meta-spliceai predict in.vcf.gz -o out.parquet -R hg38.fa -A grch38
      meta-spliceai predict patients.vcf -o out.tsv -R hg38.fa -A grch38 \\
          --model validated-delta-50k
    """
    from meta_spliceai.experiments.predict.write_predictions import check_output, write_predictions
    from meta_spliceai.experiments.store.workspace import Workspace
    from meta_spliceai.splice_engine.meta_layer.shipped_predictor import load_shipped, names

    # Before the libraries that a prediction needs are loaded: a name that is none is said at once.
    workspace = Workspace.default(runs_dir)
    shipped = load_shipped(model) if model in names() else None
    check_output(out, source, shipped is not None)
    found = None if shipped is not None else _run_named(workspace, model, names())

    from meta_spliceai.datasets.human import human_annotation
    from meta_spliceai.experiments.predict.read_variants import read_variants
    from meta_spliceai.files import atomic_write
    from meta_spliceai.splice_engine.genome.human_genome import AUTO, human_genome, needed_genome

    genes = None if annotation is None else human_annotation(build, annotation)
    genome = human_genome(build, needed_genome(build) if reference == AUTO else reference)
    alleles, variants = read_variants(source, genes)

    from meta_spliceai.cli.terminal import Terminal
    from meta_spliceai.experiments.predict.predict_new import NewVariants, predict_new
    from meta_spliceai.experiments.predict.predict_shipped import predict_shipped

    terminal = Terminal()
    new = NewVariants(alleles, variants, genome, genes, device)
    if shipped is not None:
        terminal.say(f"model {shipped.title}")
        predicted = predict_shipped(shipped, new)
    elif found is not None:
        predicted = predict_new(found, workspace, new)
    write_predictions(predicted.table, predicted.card, source, out)
    with atomic_write(out.with_name(f"{out.name}.card.json")) as handle:
        handle.write(as_json(predicted.card, indent=2) + "\n")
        handle.write("\n")
    account = predicted.coverage
    used = model if found is None else found.name
    terminal.say(f"{account.read:,} alleles, {account.used:,} predicted by {used}: {out}")
    for reason, count in account.left_out.items():
        terminal.say(f"  {count:,} without a prediction: {reason}, e.g. {account.examples[reason][0]}")
    for note in predicted.card["notes"]:
        terminal.say(f"  note: {note}")
    if found is not None and found.stale():
        terminal.say(f"  note: {found.name} is stale: {found.stale()}")


def _run_named(workspace: Workspace, name: str, shipped: list[str]) -> RunDirectory:
    """A finished run; the error of an unknown name says which predictors the package has."""
    from meta_spliceai.errors import InputError, RunError

    try:
        return workspace.find(name)
    except (InputError, RunError) as error:
        raise InputError(f"--model {name}: no predictor of the package ({', '.join(shipped)}), and {error}") from error
