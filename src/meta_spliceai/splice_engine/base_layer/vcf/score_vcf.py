"""All of `score`: open the input, score it, put the output in place, and account for every allele."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import pandas as pd

from meta_spliceai import __version__
from meta_spliceai.errors import InputError, RunError, unknown_value
from meta_spliceai.files import TABLE_SUFFIXES, place_of
from meta_spliceai.splice_engine.base_layer.block_convolution import Precision
from meta_spliceai.splice_engine.base_layer.changes import one_thread
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.base_layer.scoring import CHECKED, Computation, score_variants
from meta_spliceai.splice_engine.base_layer.vcf.info_field import field_of
from meta_spliceai.splice_engine.base_layer.vcf.pieces import WHOLE, Cut, seal, take
from meta_spliceai.splice_engine.base_layer.vcf.precomputed import ScoreTable
from meta_spliceai.splice_engine.base_layer.vcf.reader import check_convertible, open_variants, reopened, to_bcf
from meta_spliceai.splice_engine.base_layer.vcf.score_file import FileScorer, Settings, score_stream
from meta_spliceai.splice_engine.base_layer.vcf.tabulate import tabulate
from meta_spliceai.splice_engine.base_layer.vcf.text import TextVariants
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Report, Unfinished, fill
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.human_genome import check_annotation, whole_fasta

STREAM = "-"
"""Standard input or output."""

OUTPUT_TYPES = ("v", "z", "b")
"""VCF text, bgzipped VCF, BCF."""

TABLE = "t"
"""What an output is whose name ends in one of TABLE_SUFFIXES."""

MISMATCHES_TO_WARN = 0.05


@dataclass(frozen=True)
class Options:
    """How a file is read and written.

    Attributes:
        output_type: v, z or b; by default from the output's name.
        resume: continue an interrupted run to the same output.
        precomputed: tables of scores (see `ScoreTable`); only scores missing from them are computed.
        cut: which records are scored and written.
    """

    output_type: str | None = None
    resume: bool = False
    precomputed: Sequence[Path] = ()
    cut: Cut = WHOLE


@dataclass
class ModelScorer:
    """Scores tables with a base model on one genome.

    Attributes:
        check: what was measured of another precision than float32 on the first table; empty in float32.
    """

    model: BaseModel
    genome: IndexedFasta
    distance: int
    precision: Precision
    check: str = ""

    def __call__(self, table: pd.DataFrame, annotation: GeneAnnotation, alone: bool) -> BaseScores:
        """Scores of all rows; `alone`: by a full forward pass on one thread, which nothing around can influence."""
        if alone:
            with one_thread():
                how = Computation("full", batch_size=1)
                return score_variants(table, self.genome, self.model, self.distance, annotation=annotation, how=how)
        how = Computation(precision=self.precision, check_on=CHECKED // 8 if self.check else CHECKED)
        scores = score_variants(table, self.genome, self.model, self.distance, annotation=annotation, how=how)
        if scores.precision != self.precision:
            raise RunError(f"{self.model.name}: {scores.check}; score again with --precision fp32")
        self.check = self.check or scores.check
        return scores


def output_type_of(out: str, given: str | None) -> str:
    """v (VCF), z (bgzipped VCF) or b (BCF): as given, else by the file's name, which may also say TABLE, else v."""
    if given is not None:
        if given not in OUTPUT_TYPES:
            raise unknown_value("output type", given, OUTPUT_TYPES, "--output-type")
        return given
    name = Path(out).name.lower()
    if name.endswith(TABLE_SUFFIXES):
        return TABLE
    return "b" if name.endswith(".bcf") else "z" if name.endswith((".gz", ".bgz")) else "v"


def score_vcf(
    source: str,
    out: str,
    reference: Path,
    annotation: str,
    model: BaseModel,
    settings: Settings,
    options: Options = Options(),
    report: Report | None = None,
) -> dict[str, Any]:
    """Score a file of variants.

    Args:
        source: path of a VCF, gzipped or bgzipped VCF or BCF; "-" for standard input.
        out: path of the output; "-" for standard output. A file appears only once complete; one of TABLE_SUFFIXES makes
            it a table (see `tabulate`).
        reference: FASTA of the variants' build; its index is created if missing.
        annotation: "grch37", "grch38", or path of a table or GTF.
        model: the networks.
        settings: distance, mask, strictness.
        options: kind of output, resuming, tables, pieces.
        report: called with the totals after each block.

    Returns:
        The account: counts, reasons, settings, time.

    Raises:
        InputError, IntegrityError, MissingExtraError, RunError: one line each; see the modules called.
    """
    started = time.monotonic()
    kind = output_type_of(out, options.output_type)
    to_stream = out == STREAM or (Path(out).exists() and not Path(out).is_file() and not Path(out).is_dir())
    if to_stream and options.resume:
        raise InputError("--resume needs a file to go on with; name it with -o FILE")
    if options.cut.shard is not None and kind in ("b", TABLE):
        raise InputError(f"-o {out}: a shard is written as a VCF: name it NAME.vcf.gz; merge can write a BCF")
    if to_stream and kind == TABLE:
        raise InputError(f"-o {out}: a table is written into a file, not into a pipe or device")
    if not 1 <= settings.distance <= 4999:
        raise InputError(f"--distance {settings.distance} is outside 1 to 4999")
    for read in (source, str(reference), f"{reference}.fai", annotation, *map(str, options.precomputed)):
        if not to_stream and read != STREAM and place_of(Path(out)) == place_of(Path(read)):
            raise InputError(f"{out} is the same file as {read}, which is read; name another output")
    genes = GeneAnnotation.named(annotation)
    genome = whole_fasta(reference, genes.build)
    check_annotation(genes, genome)
    field = field_of(model)
    networks = ModelScorer(model, genome, settings.distance, settings.precision)
    asked = _asked(model, settings, genes)
    tables = [ScoreTable(path, field, model, asked) for path in options.precomputed]
    scorer = FileScorer(genome, genes, networks, field, settings, model.flank, tables)
    provenance = [_provenance(scorer, model, asked)]
    taken_over = 0
    with _opened(source) as stream:
        variants = open_variants(stream, "standard input" if source == STREAM else source)
        if source != STREAM and kind == "b" and not variants.binary:
            check_convertible(Path(source))
        piece = take(variants, lambda: reopened(source), source, options.cut, genes, genome)
        provenance += piece
        if to_stream:
            _to_stream(variants, scorer, out, kind, provenance, report)
        else:
            identity = _identity(variants, scorer, model, kind) | {"piece": " ".join(piece)}
            with Unfinished(Path(out)) as unfinished:
                packed, resume = kind in ("z", "b"), options.resume
                taken_over = fill(variants, scorer, unfinished, packed, provenance, identity, resume, report)
                finish: dict[str, Callable[[Path, Path], None]] = {"b": to_bcf, TABLE: partial(tabulate, info=field)}
                if options.cut.shard is not None:
                    finish = dict.fromkeys(OUTPUT_TYPES, partial(seal, packed=packed))
                unfinished.put_in_place(finish.get(kind))
    account = _account(scorer, model, taken_over, time.monotonic() - started)
    return {"input": source, "output": out, **account, "piece": piece, "precision_check": networks.check}


def _to_stream(
    variants: TextVariants,
    scorer: FileScorer,
    out: str,
    kind: str,
    provenance: list[str],
    report: Report | None,
) -> None:
    with nullcontext(sys.stdout.buffer) if out == STREAM else open(out, "wb") as sink:
        if kind != "b":
            score_stream(variants, scorer, sink, kind != "v", provenance, report)
            return
        with tempfile.TemporaryDirectory() as folder:
            scored, converted = Path(folder) / "scored", Path(folder) / "converted"
            with scored.open("wb") as handle:
                score_stream(variants, scorer, handle, True, provenance, report)
            to_bcf(scored, converted)
            with converted.open("rb") as handle:
                shutil.copyfileobj(handle, sink)
            sink.flush()


def _opened(source: str) -> AbstractContextManager[IO[bytes]]:
    if source == STREAM:
        return nullcontext(sys.stdin.buffer)
    if Path(source).is_dir() or not Path(source).exists():
        raise InputError(f"no file {source}; give a VCF, a bgzipped VCF or a BCF, or - for standard input")
    return open(source, "rb")


def _asked(model: BaseModel, settings: Settings, genes: GeneAnnotation) -> dict[str, str]:
    """What the scores depend on besides variant and genome, as a header says it."""
    return {
        "Base": model.name,
        "Weights": model.digest[:12],
        "Distance": str(settings.distance),
        "Mask": str(int(settings.mask)),
        "Strict": str(int(settings.strict)),
        "Genes": genes.digest[:12],
    }


def _provenance(scorer: FileScorer, model: BaseModel, asked: dict[str, str]) -> str:
    """A header line that says how the scores were made."""
    names = " ".join(table.path.name for table in scorer.precomputed)
    tables = f',Precomputed="{_quoted(names)}"' if names else ""
    return (
        f"##meta_spliceai_score=<Version={__version__},Base={asked['Base']},Weights={asked['Weights']},"
        f"Distance={asked['Distance']},Precision={scorer.settings.precision},Mask={asked['Mask']},"
        f'Strict={asked["Strict"]},Annotation="{_quoted(Path(scorer.annotation.name).name)}",Genes={asked["Genes"]},'
        f'Reference="{_quoted(Path(scorer.genome.name).name)}",Licence="{_quoted(model.licence)}"{tables}>'
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _identity(variants: TextVariants, scorer: FileScorer, model: BaseModel, kind: str) -> dict[str, Any]:
    """All that the output's text depends on, besides the records."""
    return {
        "version": __version__,
        "header": hashlib.sha256(b"".join(variants.header)).hexdigest(),
        "base": model.name,
        "weights": model.digest,
        "annotation": scorer.annotation.digest,
        "reference": _state(Path(scorer.genome.name)),
        "output type": kind,
        **asdict(scorer.settings),
        **{f"table {table.path.name}": _state(table.path) for table in scorer.precomputed},
    }


def _state(path: Path) -> str:
    state = path.stat()
    return f"{path.resolve()} ({state.st_size} bytes, changed {state.st_mtime_ns})"


def _account(scorer: FileScorer, model: BaseModel, taken_over: int, seconds: float) -> dict[str, Any]:
    totals, genes, reference = scorer.totals, scorer.annotation, scorer.genome.name
    warnings = []
    if totals.reference_mismatches > MISMATCHES_TO_WARN * max(totals.reference_checked, 1):
        warnings.append(
            f"{totals.reference_mismatches} of {totals.reference_checked} records have another reference base than "
            f"{reference}; are variants and FASTA of one build?"
        )
    if totals.records and not totals.alleles_scored:
        warnings.append("no allele was scored; the reasons are listed under 'unscored'")
    counts = asdict(totals)
    del counts["from_tools"]
    return {
        **counts,
        "tables": [str(table.path) for table in scorer.precomputed],
        "resumed_from_record": taken_over,
        "warnings": warnings,
        "base_model": {
            "name": model.name,
            "weights": model.digest,
            "licence": model.licence,
            "citation": model.citation,
        },
        "settings": asdict(scorer.settings),
        "annotation": {"name": genes.name, "build": genes.build, "digest": genes.digest, "genes": len(genes)},
        "reference": reference,
        "seconds": round(seconds, 3),
        "alleles_per_second": None if taken_over else round(totals.alleles / max(seconds, 1e-9), 3),
        "version": __version__,
    }
