"""Write predictions in the format given by the output's name: as the annotated input VCF, or as a table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
from pydantic_core import to_json

from meta_spliceai import __version__
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.predict.output_files import VCF_SUFFIXES, PieceOfTable, as_parquet, write_card
from meta_spliceai.experiments.predict.predict_new import (
    Model,
    NewVariants,
    Predicted,
    predict_block,
    require_free,
    require_genes,
)
from meta_spliceai.experiments.predict.read_variants import TableBlock, TableVariants, Variants, alleles_of, open_file
from meta_spliceai.files import separator_of, sha256_file
from meta_spliceai.splice_engine.base_layer.scores import ScoreCache
from meta_spliceai.splice_engine.base_layer.vcf.pieces import WHOLE, Cut, Piece, seal, take
from meta_spliceai.splice_engine.base_layer.vcf.text import Block, TextVariants, declared, info_safe
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Report, Totals, Unfinished, fill
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import SequenceSource
from meta_spliceai.splice_engine.variants.external_scores import require_scores

KEY = "MSAI"
COLUMNS = "ALLELE|SYMBOL|P|LOW|HIGH|DOMAIN|TYPE|POS"
CACHED = 100_000
"""Alleles of an input whose base scores are looked for, and kept, in the cache: each look reads all of it."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of a file's prediction, besides the model.

    Attributes:
        genome, annotation, device: as `NewVariants`.
        cut: which of the records are predicted and written.
    """

    genome: SequenceSource
    annotation: GeneAnnotation | None = None
    device: str = "auto"
    cut: Cut = WHOLE


def predict_file(
    model: Model, source: Path, out: Path, inputs: Inputs, resume: bool = False, report: Report | None = None
) -> Totals:
    """Predict a file of variants, block by block; beside OUT, OUT.card.json says what the model is.

    Args:
        source: see `open_file`.
        out: see `check_output`; it appears when it is whole.
        resume: go on with what an interrupted run to the same output left.
        report: told of the totals after each block.
    """
    variants, cut, name = open_file(source), inputs.cut, out.name.lower()
    piece = take(variants, lambda: open_file(source), str(source), cut, inputs.annotation, inputs.genome)
    writer = PredictionWriter(model, inputs, out)
    with Unfinished(out) as unfinished:
        header = writer.header(variants, piece)
        said = (__version__, model.card, piece, header.decode("latin-1"), inputs.genome.digest, name.rpartition(".")[2])
        genes = "none" if inputs.annotation is None else inputs.annotation.digest
        identity = {"model and input": hashlib.sha256(to_json(said)).hexdigest(), "annotation": genes}
        fill(variants, writer, unfinished, name.endswith(".vcf.gz"), piece, identity, resume, report)
        totals = writer.totals
        if cut == WHOLE:
            try:
                require_genes(totals.alleles, totals.unscored)
                require_scores(totals.from_tools, totals.alleles_scored)
            except InputError:
                unfinished.discard()
                raise
        convert: Callable[[Path, Path], None] | None = None
        if name.endswith(".parquet"):
            convert = partial(as_parquet, columns=model.columns)
        elif cut.shard is not None and name.endswith(VCF_SUFFIXES):
            convert = partial(seal, packed=name.endswith(".gz"))
        unfinished.put_in_place(convert)
    card = model.card | ({"regions": piece[0]} if cut.regions else {})
    if cut.shard is not None:
        made = replace(Piece.read(piece[-1], out), content=sha256_file(out))
        card |= {"piece": PieceOfTable(made, totals.alleles, totals.alleles_scored, totals.from_tools)}
    write_card(out, card)
    return totals


class PredictionWriter:
    """Makes an output's text of an input's records, block by block (see `fill`).

    Base scores of a whole input are looked for in the cache, and kept there, as long as that is quick. The text of a
    .parquet is that of a .csv with every digit, from which `as_parquet` makes it.
    """

    def __init__(self, model: Model, inputs: Inputs, out: Path) -> None:
        self.totals = Totals(from_tools=dict.fromkeys(model.tools, 0))
        self._model, self._inputs, self._name = model, inputs, out.name.lower()

    def header(self, source: Variants, provenance: Sequence[str]) -> bytes:
        """What stands before the first record; refused if the input has what is to be added."""
        if isinstance(source, TableVariants):
            require_free(source.columns, self._model, source.name)
        if not self._name.endswith(VCF_SUFFIXES):
            nothing = Block(source, [], []) if isinstance(source, TextVariants) else TableBlock(source, [])
            return self._as_text(self._predicted(nothing).table, header=True)
        if not isinstance(source, TextVariants):
            raise InputError(f"{source.name} is no VCF that could be annotated; name a table, as out.tsv")
        if KEY in declared(source.header):
            raise InputError(
                f"{source.name} already declares INFO {KEY}; take it out first (bcftools annotate -x INFO/{KEY})"
            )
        definition = (
            f'##INFO=<ID={KEY},Number=.,Type=String,Description="meta-spliceai: probability of altered splicing with '
            f'its interval, or in DOMAIN the reason for none. Format: {COLUMNS}">'
        )
        card = self._model.card
        said = re.sub(r'["\\]', "'", f"{card['title']}. {card['split']}")
        line = f'##meta_spliceai_predict=<Version={__version__},Model={card["model"]},Card="{said}">'
        return source.header_with({KEY: definition}, [line, *provenance])

    def block(self, block: Block | TableBlock) -> bytes:
        """The text of a block's records; ends the run where they are of another build."""
        predicted = self._predicted(block)
        self._count(predicted, len(block))
        if isinstance(block, TableBlock) or not self._name.endswith(VCF_SUFFIXES):
            return self._as_text(predicted.table)
        entries, lines = _entries(predicted.table), []
        for record in block:
            if record.has_info((KEY,)):
                raise InputError(f"{block.variants.name}, line {record.number} has INFO {KEY} already; take it out")
            lines.append(record.with_info([(KEY, ",".join(next(entries) for _ in record.alts or (".",)))]))
        return b"".join(lines)

    def _predicted(self, block: Block | TableBlock) -> Predicted:
        given, first = self._inputs, self.totals.alleles
        alleles, variants = alleles_of(block, given.annotation, first)
        cache = ScoreCache.default() if given.cut == WHOLE and first < CACHED else None
        new = NewVariants(alleles, variants, given.genome, given.annotation, given.device, cache)
        return predict_block(self._model, new)

    def _count(self, predicted: Predicted, records: int) -> None:
        totals, account = self.totals, predicted.coverage
        totals.records += records
        totals.alleles += account.read
        totals.alleles_scored += account.used
        totals.scores += account.used
        for name, count in predicted.scored.items():
            totals.from_tools[name] += count
        for reason, count in account.left_out.items():
            for example in account.examples[reason]:
                totals.leave_out(example, reason)
            totals.unscored[reason] += count - len(account.examples[reason])

    def _as_text(self, table: pd.DataFrame, header: bool = False) -> bytes:
        exact = self._name.endswith(".parquet")
        text = table.to_csv(
            sep=separator_of(self._name),
            index=False,
            header=header,
            float_format=None if exact else "%.6g",
            lineterminator="\n",
        )
        return str(text).encode()


def _entries(table: pd.DataFrame) -> Iterator[str]:
    for row in table.to_dict("records"):
        allele, symbol = info_safe(str(row["alt"])), info_safe(str(row["gene"] or "."))
        if row["reason"]:
            yield f"{allele}|{symbol}|.|.|.|{info_safe(str(row['reason']).replace(' ', '_'))}|.|."
            continue
        numbers = "|".join(f"{row[name]:.4f}" for name in ("p_altering", "p_low", "p_high"))
        kind = info_safe(str(row["effect_type"] or ".").replace(" ", "_"))
        yield f"{allele}|{symbol}|{numbers}|{row['in_domain']}|{kind}|{int(row['effect_pos'])}"
