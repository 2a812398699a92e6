"""Every reader of files that anybody may have made, called the same way: with a path."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from meta_spliceai.cli.console import as_json
from meta_spliceai.datasets import brca1_sge, cispliceai_validated, deep_intronic, mapsy, mfass
from meta_spliceai.datasets.human import source_file
from meta_spliceai.datasets.registry import Loaded
from meta_spliceai.datasets.splicevardb import DATASET, read_splicevardb
from meta_spliceai.experiments.board.leaderboard import board_table, boards
from meta_spliceai.experiments.board.shown import as_markdown
from meta_spliceai.experiments.plan.gpu_prices import load_market, read_history
from meta_spliceai.experiments.spec.rows import load_rows, read_rows, read_text
from meta_spliceai.experiments.store.ledger import LEDGER
from meta_spliceai.experiments.store.run_record import RunRecord
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.experiments.wishlist.document import read_wishlist
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, ScoreCache, read_scores
from meta_spliceai.splice_engine.base_layer.vcf.info_field import FIELDS
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants
from meta_spliceai.splice_engine.base_layer.vcf.score_file import FileScorer, Settings
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Unfinished
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.packed import PackedGenome, RegionFasta, holds_regions
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.meta_layer.models.predictor import read_config
from meta_spliceai.splice_engine.variants.external_scores import ScoreFile, join_scores
from meta_spliceai.splice_engine.variants.splits import read_split
from tests.experiments.new_variants import read_variants

GENES = GeneAnnotation([Gene("UP", "1", "+", 5000, 9000, ((5000, 5200), (8800, 9000)))], "GRCh37", "toy genes")

ROWS = load_rows(None)


def placed(path: Path, name: str) -> Path:
    """A copy of the file in a folder of its own, under the name that its reader looks for."""
    target = path.parent / f"as-{name}" / name
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, target)
    return target


def _regions(path: Path) -> None:
    holds_regions(path)
    RegionFasta(path, "GRCh38")


def _ledger(path: Path) -> None:
    root = placed(path, LEDGER).parent
    workspace = Workspace(root)
    for board in boards(workspace):
        as_markdown(board_table(board))
        as_json(board.to_json())
    assert all(damage.describe() for damage in workspace.ledger.damage())


def _account(path: Path) -> None:
    placed(path, "out.vcf.partial.json").with_name("out.vcf.partial").write_bytes(b"x" * 1000)
    account = Unfinished(path.parent / "as-out.vcf.partial.json" / "out.vcf").read_account({"version": "1", "x": "y"})
    assert account is not None


def _run(path: Path) -> None:
    record = RunRecord(RunDirectory(placed(path, "spec.yaml").parent))
    assert record.spec or record.problems


def _cached(path: Path) -> None:
    folder = placed(path, f"{'0' * 16}-50-x.npz").parent
    ScoreCache(folder).read([b"\0" * 32], "0" * 64, 50)


def _variants(path: Path) -> None:
    with path.open("rb") as stream:
        variants = open_variants(stream, str(path))
        for record in variants:
            record.with_info([("SCORES", "1")])


def _no_scores(table: pd.DataFrame, annotation: GeneAnnotation, alone: bool) -> BaseScores:
    zeros = np.zeros((len(table), 101, 3), np.float32)
    return BaseScores(zeros, zeros, 50, "none", "0" * 64)


def _scored(path: Path) -> None:
    genome = MemoryGenome({"chr1": "A" * 20_000}, "GRCh37", "toy.fa")
    info = next(iter(FIELDS.values())) if isinstance(FIELDS, dict) else FIELDS[0]
    scorer = FileScorer(genome, GENES, _no_scores, info, Settings(), 5000)
    with path.open("rb") as stream:
        for block in islice(open_variants(stream, str(path)).blocks(), 50):
            scorer.block(block)


TESTED = pd.DataFrame({"chrom": ["1"], "pos": [5100], "ref": ["A"], "alt": ["C"], "gene": ["UP"]})


def _external(path: Path) -> None:
    column = "AC" if "vcf" in path.name else "score"
    join_scores(ScoreFile("tool", path, column), TESTED, "toy")


TABLE_OF_GENES = (
    "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\nUP\t2\t+\t1\t3000\t1,1400,2500,\t300,1600,3000,\n"
)


def original(load: Callable[..., Loaded]) -> Callable[[Path], object]:
    """The loader of a data set, given its authors' file, genes and one contig of N."""

    def read(path: Path) -> Loaded:
        genes, genome = path.parent / "genes-of-toys.txt", path.parent / "toy.fa"
        genes.write_text(TABLE_OF_GENES)
        genome.write_text(f">chr2:1-4000\n{'ACGTA' * 800}\n")
        build = {} if load is cispliceai_validated.load else {"build": "GRCh37"}
        return load(path=str(path), genome=str(genome), annotation=str(genes), **build)

    return read


READERS: dict[str, Callable[[Path], object]] = {
    "regions": _regions,
    "variants": lambda path: read_variants(path, None),
    "ledger": _ledger,
    "packed scores": read_scores,
    "packed genome": lambda path: PackedGenome(path, "toy", "GRCh38", "0" * 64),
    "split": read_split,
    "annotation": lambda path: GeneAnnotation.named(str(path), "GRCh38"),
    "account": _account,
    "wishlist": lambda path: read_wishlist(read_text(path), ROWS),
    "run": _run,
    "rows": lambda path: read_rows(str(path), read_text(path)),
    "prices": lambda path: read_history(read_text(path), str(path)),
    "own prices": lambda path: load_market(path),
    "predictor": lambda path: read_config(placed(path, "config.json").parent, "predictor", "config"),
    "splicevardb": lambda path: read_splicevardb(source_file(DATASET, path), "GRCh37", GENES),
    "mfass": original(mfass.DATASET.loader),
    "mapsy": original(mapsy.DATASET.loader),
    "brca1": original(brca1_sge.load),
    "validated": original(cispliceai_validated.load),
    "deep intronic": original(deep_intronic.load),
    "vcf": _variants,
    "scored": _scored,
    "score cache": _cached,
    "external scores": _external,
}
