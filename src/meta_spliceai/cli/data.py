"""`meta-spliceai data`, `example` and `audit`: named data sets, checks of their files, some of their variants with a
genome to try the commands on, and what the parts of a split share."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from meta_spliceai.cli.console import PlainConsole, print_json
from meta_spliceai.cli.options import AsJson, Reads, Writes
from meta_spliceai.errors import InputError, IntegrityError, MetaSpliceAIError, MissingResourceError

if TYPE_CHECKING:
    from meta_spliceai.splice_engine.variants.audit import Audit

Options = Annotated[
    list[str] | None, typer.Option("--set", help="An option of the loader, key=value; may be repeated.")
]

group = typer.Typer(help="Data sets by name: list, show, get, check.", no_args_is_help=True)


@group.command("list")
def list_data_sets(as_json: AsJson = False) -> None:
    """List the data sets: rows, build, what is on this machine, licence, title.

    [bold]Examples[/bold]

      meta-spliceai data list
      meta-spliceai data list --json
    """
    from meta_spliceai import datasets
    from meta_spliceai.datasets.load import state_of

    found = [datasets.get(name) for name in datasets.names()]
    if as_json:
        keys = ("name", "title", "rows", "build", "licence", "source", "citation")
        print_json([{key: getattr(one, key) for key in keys} | state_of(one)._asdict() for one in found])
        return
    shown = Table("name", "rows", "build", "here", "licence", "title", box=None)
    shown.columns[0].no_wrap, shown.columns[0].min_width = True, max(len(one.name) for one in found)
    for one in found:
        shown.add_row(one.name, f"{one.rows:,}", one.build, state_of(one).here or "no", one.licence, one.title)
    PlainConsole().print(shown)


@group.command()
def show(
    name: Annotated[str, typer.Argument(help="A data set's name, as `data list` prints it.")],
    option: Options = None,
    load: Annotated[bool, typer.Option(help="Read the data for coverage and class counts.")] = True,
) -> None:
    """Show source, licence, citation, checksums and label rule of a data set; its coverage and class counts; and the
    numbers that support its label rule.

    [bold]Examples[/bold]

      meta-spliceai data show wt1-exon5
      meta-spliceai data show mfass --no-load
      meta-spliceai data show splicevardb --set path=my-download.tsv
    """
    from meta_spliceai import datasets
    from meta_spliceai.datasets.load import files_in_words, state_of

    dataset = datasets.get(name)
    state = state_of(dataset)
    lines = [("name", dataset.name), ("what", dataset.title), ("source", dataset.source), ("licence", dataset.licence)]
    lines += [("cite", dataset.citation), ("build", dataset.build), ("rows", f"{dataset.rows:,}")]
    lines += [("effect", dataset.effect), *(("file", words) for words in files_in_words(dataset))]
    lines += [("here", state.here)] if state.here else [("here", "no"), ("get", state.get)]
    lines += [("note", dataset.notes)] if dataset.notes else []
    for key, value in lines:
        typer.echo(f"{key:8} {value}")
    typer.echo(f"\nlabel rule ({dataset.label_rule.__name__})\n\n{dataset.rule_in_words}")
    if not load:
        return
    loaded = datasets.load_dataset(name, **_options(option))
    typer.echo(f"\ncoverage\n\n{loaded.coverage.to_frame().to_string(index=False)}")
    counts = loaded.variants["classification"].value_counts()
    typer.echo(f"\nclasses\n\n{counts.to_string()}")
    if dataset.evidence is not None:
        evidence = dataset.evidence(loaded)
        typer.echo(f"\nwhat the label rule rests on\n\n{evidence.to_string(index=False, float_format='{:.3f}'.format)}")
    typer.echo(f"\nread     {loaded.origin}\ndigest   {loaded.digest}")


@group.command()
def get(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Data sets, networks' weights, grch38 or grch37.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every data set (not the genomes).")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be downloaded; download nothing.")] = False,
) -> None:
    """Fetch files to this machine, verify them, and print where they are.

    A file is taken from a mirror or the cache if available, otherwise downloaded from its source: the authors' own
    file at a pinned commit, or UCSC's genome. The same command resumes an interrupted download. splicevardb-open is
    built from the four open sources. A genome takes about 1 GB to download and as much to store; its chromosomes'
    lengths and its genes' splice sites are checked.

    [bold]Examples[/bold]

      meta-spliceai data get mfass
      meta-spliceai data get mapsy cispliceai-validated
      meta-spliceai data get splicevardb-open
      meta-spliceai data get grch38
      meta-spliceai data get --all --dry-run
    """
    from meta_spliceai import datasets
    from meta_spliceai.datasets.load import get_named, plan_of

    if bool(names) == everything:
        raise InputError("name what to get, or give --all for every data set; meta-spliceai data list shows them")
    wanted = [part.strip() for name in names or datasets.names() for part in name.split("+")]
    if dry_run:
        for name in wanted:
            for line in plan_of(name):
                typer.echo(line)
        return
    failed = []
    for name in wanted:
        try:
            for path in get_named(name):
                typer.echo(path)
        except MetaSpliceAIError as error:
            if len(wanted) == 1:
                raise
            failed.append(name)
            typer.echo(f"{name}: {error}", err=True)
    if failed:
        raise MissingResourceError(f"not here: {', '.join(failed)}; the lines above say why; all others are")


@group.command()
def check(
    name: Annotated[str, typer.Argument(help="A data set's name, as `data list` prints it.")],
    option: Options = None,
) -> None:
    """Find every file of a data set, compare its checksum, then read it whole and check every reference allele.

    [bold]Examples[/bold]

      meta-spliceai data check wt1-exon5
    """
    from meta_spliceai import datasets

    files = datasets.check_files(name)
    for row in files.itertuples():
        edition = f" ({row.edition})" if row.edition else ""
        typer.echo(f"ok  {row.file}{edition}  {row.bytes:,} bytes  {row.path}")
    loaded = datasets.load_dataset(name, **_options(option))
    typer.echo(f"ok  {loaded.coverage.read:,} rows read, {loaded.coverage.used:,} used, every reference allele checked")
    for reason, count in loaded.coverage.left_out.items():
        typer.echo(f"    {count:,} left out: {reason}")


def _options(given: list[str] | None) -> dict[str, object]:
    options: dict[str, object] = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--set {text} is not of the form key=value")
        options[key] = value
    return options


def example(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to."), Writes(folder="*")] = Path(
        "example"
    ),
) -> None:
    """Write a small VCF and its genome, to try predict, score and saturate offline.

    The variants are measured ones that are included in the package. The genome
    is chromosome 17 of GRCh38: real bases around measured variants, N
    elsewhere. Files that are there already are not overwritten.

    [bold]Examples[/bold]

      meta-spliceai example
      meta-spliceai example try-it
    """
    from meta_spliceai.datasets.packaged_human import AROUND, write_example
    from meta_spliceai.splice_engine.variants.table import SPLICE_ALTERING

    made = write_example(folder)
    altering = int((made.variants["classification"] == SPLICE_ALTERING).sum())
    vcf, genome = shlex.quote(str(made.vcf)), shlex.quote(str(made.genome))
    typer.echo(
        f"{made.vcf}: {len(made.variants)} measured variants of {made.variants['gene'].nunique()} genes, {altering} of "
        f"them {SPLICE_ALTERING}\n"
        f"{made.genome}: their chromosome of GRCh38, {made.bases:,} of its bases known, N elsewhere\n\n"
        f"The {AROUND:,} bases on either side of each variant, which decide its scores with\n"
        "-D 50, are all known. Your own variants need a whole genome: meta-spliceai data\n"
        "get grch38. The predictors were trained on the data sets that these are from, so\n"
        "that they show how the commands work, not how good they are. To try, without a network:\n"
    )
    for command, name in (
        (f"predict {vcf}", "predicted.vcf"),
        (f"score {vcf}", "scored.vcf"),
        ("saturate --exon BRCA1:11", "brca1.tsv"),
    ):
        typer.echo(f"meta-spliceai {command} -o {shlex.quote(str(folder / name))} -R {genome} -A grch38")


def audit(
    split: Annotated[
        Path,
        typer.Argument(help="A split's .parquet file, or the folder of a run that holds one."),
        Reads(what="split"),
    ],
    window: Annotated[int, typer.Option(min=3, max=1_000_001, help="Bases of the windows compared, odd.")] = 201,
    sequence: Annotated[
        bool, typer.Option(help="Compare sequence too (loads the data set the split was made for).")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Look for what the parts of a split share.

    Variants, overlapping windows, near-identical windows on either strand, exons, genes, paralogs; and classes and
    sources that are spread unevenly. Exit code 2 if the split breaks its promise.

    [bold]Examples[/bold]

      meta-spliceai audit runs/wt1-simple-cnn-0123456789ab
      meta-spliceai audit my-split.parquet --window 501 --no-sequence --json
    """
    from meta_spliceai import datasets
    from meta_spliceai.splice_engine.variants.audit import audit_split
    from meta_spliceai.splice_engine.variants.splits import read_split

    path = split / "split.parquet" if split.is_dir() else split
    stored = read_split(path)
    genome = None
    if sequence:
        name = stored.data.get("name")
        if not isinstance(name, str):
            raise InputError(f"{path} does not say which data set it is of; use --no-sequence for the other checks")
        options = stored.data.get("options")
        loaded = datasets.load_dataset(name, **(options if isinstance(options, dict) else {}))
        if stored.data.get("digest") not in (None, loaded.digest):
            raise IntegrityError(f"{path} was made of another state of data set {name} than the one at hand")
        genome = loaded.genome
    found = audit_split(stored.table, stored.split, genome, window)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found, stored.split.description)
    found.require_clean()


def _print(found: Audit, description: str) -> None:
    typer.echo(f"split {found.split} ({found.unit}): {description}")
    typer.echo(f"hash  {found.digest}\n")
    for finding in found.findings:
        typer.echo(f"{finding.severity:5} {finding.count:7,}  {finding.check}: {finding.meaning}")
        for example in finding.examples:
            typer.echo(f"                 {example}")
    for line in found.not_done:
        typer.echo(f"not done       {line}")
    typer.echo("" if found.leaks else "no leak: the split keeps its promise")
