"""`meta-spliceai pretrain`: a HyenaDNA encoder from the sequence at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meta_spliceai.cli.console import PlainConsole
from meta_spliceai.cli.options import LARGEST_SEED, SEQUENCE, Writes
from meta_spliceai.errors import InputError

PACKAGED = "packaged"
REGIONS = "regions"


def pretrain(
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Folder for the encoder (usable as --set encoder.settings.weights=FOLDER)."
        ),
        Writes(folder="*"),
    ],
    sequence: Annotated[
        str,
        typer.Option(help="packaged (whole genes of the quickstart's package), regions, or a FASTA file."),
        SEQUENCE,
    ] = PACKAGED,
    build: Annotated[str, typer.Option(help="Build of the regions.")] = "GRCh38",
    hold_out: Annotated[list[str] | None, typer.Option(help="A chromosome to hold out; may be repeated.")] = None,
    size: Annotated[str, typer.Option(help="Which HyenaDNA, by its published name.")] = "hyenadna-tiny-1k",
    steps: Annotated[int, typer.Option(min=1, max=LARGEST_SEED, help="Steps of the optimiser.")] = 1000,
    length: Annotated[int, typer.Option(min=16, max=1_000_002, help="Bases in a training sequence.")] = 1024,
    batch_size: Annotated[int, typer.Option(min=1, max=1_000_000, help="Sequences in a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=0, max=1000, help="Highest learning rate.")] = 6e-4,
    optimizer: Annotated[str, typer.Option(help="adamw, or muon for the layers' matrices.")] = "adamw",
    precision: Annotated[str, typer.Option(help="auto (bfloat16 on CUDA), float32 or bfloat16.")] = "auto",
    check_every: Annotated[int, typer.Option(min=1, max=LARGEST_SEED, help="Steps between checkpoints.")] = 200,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="For long sequences: less memory, a third more time.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of weights, sequences and dropout.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the folder's last checkpoint.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace what the folder holds and start over.")] = False,
) -> None:
    """Pre-train an encoder to predict the next base, on both strands, with chromosomes held out.

    The encoder is saved in the model hub's own format, and results that use it say what it was trained on. The loss is
    in bits per base on the held-out chromosomes; 2 means no information. The last lines give the bits per base of
    Markov models of order 5 and 8 fitted on the same sequence; an encoder that does not beat them is not called
    pre-trained.

    [bold]Examples[/bold]

      meta-spliceai pretrain -o encoders/tiny --steps 1000 --length 512
      meta-spliceai pretrain -o encoders/tiny --steps 1000 --length 512 --resume
      meta-spliceai run frozen-tiny-pretrained   # reads encoders/tiny
    """
    from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
    from meta_spliceai.splice_engine.genome.human_genome import human_genome
    from meta_spliceai.splice_engine.genome.packed import RegionFasta, holds_regions
    from meta_spliceai.splice_engine.genome.sequence import SequenceSource

    if resume and fresh:
        raise InputError("--resume goes on and --fresh starts over; give one of them")
    kept_back = hold_out or ["chr3"]
    genome: SequenceSource | None = None
    if sequence == REGIONS:
        genome = human_genome(build, REGIONS)
    elif sequence != PACKAGED:
        fasta = Path(sequence)
        # Any species may be read: no build's chromosome lengths are asked for.
        genome = (RegionFasta if holds_regions(fasta) else IndexedFasta)(fasta, "any")

    from meta_spliceai.cli.terminal import counting
    from meta_spliceai.splice_engine.meta_layer.pretraining import (
        PretrainingConfig,
        corpus_of,
        known_bases,
        packaged_genes,
    )
    from meta_spliceai.splice_engine.meta_layer.pretraining import pretrain as train

    corpus = packaged_genes(kept_back) if genome is None else corpus_of(genome, kept_back)
    asked = {"size": size, "steps": steps, "length": length, "batch_size": batch_size, "seed": seed}
    asked |= {"learning_rate": learning_rate, "optimizer": optimizer, "precision": precision}
    asked |= {"check_every": check_every, "gradient_checkpointing": gradient_checkpointing}
    config = PretrainingConfig.from_mapping(asked, "pretrain")
    console = PlainConsole(stderr=True, highlight=False, soft_wrap=True)
    known = f"{known_bases(corpus.training):,} bases to train on, {known_bases(corpus.held_out):,} held out"
    console.print(f"{corpus.name}: {known} ({', '.join(kept_back)})")

    def tell(step: int, bits: float, speed: float) -> None:
        show(step, steps, f"{bits:.3f} bits/base  {speed:,.0f} tokens/s")
        if not console.is_terminal and (step % check_every == 0 or step == steps):
            console.print(f"step {step:,} of {steps:,}: {bits:.3f} bits a base in training, {speed:,.0f} tokens/s")

    with counting(size) as show:
        report = train(corpus, config, out, device, resume, fresh, tell)
    went_on = f" (resumed after step {report.resumed_from:,})" if report.resumed_from is not None else ""
    typer.echo(f"{out}: {report.origin}{went_on}")
    speed = report.curves["tokens_per_second"].iloc[-1]
    typer.echo(f"base composition alone: {report.markov_bits[0]:.4f} bits a base; {speed:,.0f} tokens/s")
