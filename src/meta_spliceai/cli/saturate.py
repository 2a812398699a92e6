"""`meta-spliceai saturate`: every single-base change of a region, an exon or a gene, as a table and a heat map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meta_spliceai.cli.options import Annotation, Base, Device, Distance, Kernel, Reference, Threads, Writes
from meta_spliceai.cli.score import announced_model, genome_of, refuse_suffix
from meta_spliceai.errors import InputError
from meta_spliceai.files import TABLE_SUFFIXES, separator_of


def saturate(
    out: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Table: .tsv, .csv or .parquet."), Writes()
    ],
    annotation: Annotation,
    reference: Reference = None,
    region: Annotated[
        str | None, typer.Option(metavar="CHR:START-END", help="A region, 1-based, both ends included.")
    ] = None,
    exon: Annotated[
        str | None, typer.Option(metavar="GENE:NUMBER", help="An exon; exons count from 1 along the transcript.")
    ] = None,
    gene: Annotated[
        str | None, typer.Option(metavar="NAME", help="A whole gene; with --region, the gene to use there.")
    ] = None,
    around: Annotated[int, typer.Option(min=0, max=1_000_000, help="With --exon: bases added on either side.")] = 50,
    indels: Annotated[bool, typer.Option("--indels", help="Also 1-base deletions and insertions.")] = False,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Heat map to draw (.png or .svg)."), Writes()
    ] = None,
    base: Base = "spliceai",
    distance: Distance = 50,
    device: Device = "auto",
    threads: Threads = None,
    kernel: Kernel = None,
) -> None:
    """Score every single-base change of a region, an exon or a gene.

    The table has one row per change: chrom, pos, ref, alt (as in a VCF),
    kind, site and base (which base becomes what), strand, gene, the scores and
    positions under SpliceAI's names (DS_AG … DP_DL) and delta, the largest
    change with its sign, which the heat map shows.

    [bold]Examples[/bold]

      meta-spliceai saturate --exon BRCA1:11 -R hg38.fa -A grch38 \\
          -o brca1.parquet --figure brca1.png
      meta-spliceai saturate --region chr17:43,045,600-43,045,900 --indels \\
          -R hg38.fa -A grch38 -o out.parquet
      meta-spliceai saturate --gene SMN1 --base cispliceai -R hg38.fa \\
          -A grch38 -o smn1.parquet
    """
    from meta_spliceai.experiments.spec.parts import require_networks
    from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation

    refuse_suffix(out, TABLE_SUFFIXES)
    if (region is not None) + (exon is not None) + (gene is not None and region is None) != 1:
        raise InputError("say what to saturate: one of --region CHR:START-END, --exon GENE:NUMBER, --gene NAME")
    reference = reference or genome_of(annotation)
    require_networks(base)
    genes = GeneAnnotation.named(annotation)
    import pandas as pd
    import torch

    from meta_spliceai.cli.terminal import counting
    from meta_spliceai.splice_engine.base_layer import saturation
    from meta_spliceai.splice_engine.base_layer.saturation import check_drawable, draw
    from meta_spliceai.splice_engine.genome.human_genome import check_annotation, whole_fasta

    if figure is not None:
        check_drawable(figure)  # before hours of scoring, not after
    if threads is not None:
        torch.set_num_threads(threads)
    if region is not None:
        stretch = saturation.stretch_of_region(region, genes, gene)
    elif exon is not None:
        stretch = saturation.stretch_of_exon(exon, genes, around)
    else:
        stretch = saturation.stretch_of_gene(str(gene), genes)
    genome = whole_fasta(reference, genes.build)
    check_annotation(genes, genome)
    model = announced_model(base, device)
    kinds = saturation.KINDS if indels else saturation.KINDS[:1]
    with counting("bases") as show:
        rows = saturation.saturate(stretch, genome, genes, model, out, distance=distance, kinds=kinds, progress=show)
    typer.echo(f"{stretch.title}: {rows:,} changes in {out}", err=True)
    if figure is not None:
        columns = ["site", "ref", "kind", "base", "delta"]
        if out.suffix.lower() == ".parquet":
            table = pd.read_parquet(out, columns=columns)
        else:
            table = pd.read_csv(out, sep=separator_of(out.name), usecols=columns)
        bases = draw(table, stretch, model.name, figure)
        note = f"; each column is the largest of {bases} bases" if bases > 1 else ""
        typer.echo(f"heat map in {figure}{note}", err=True)
