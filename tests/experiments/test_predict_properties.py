"""Files of new variants as people and programs write them: read alike, predicted alike, in one piece or in several."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.experiments.predict import read_variants
from meta_spliceai.experiments.predict.output_files import card_of, merge_pieces
from meta_spliceai.experiments.predict.predict_new import NewVariants
from meta_spliceai.experiments.predict.read_variants import alleles_of, open_file, usable_alleles
from meta_spliceai.experiments.predict.write_predictions import Inputs, predict_file
from meta_spliceai.splice_engine.base_layer.vcf import text
from meta_spliceai.splice_engine.base_layer.vcf.pieces import Cut
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from tests.properties import quick

QUICK = quick(6)
BASES = "".join(np.random.default_rng(4).choice(list("ACGT"), 400))
GENOME = MemoryGenome({"chr1": BASES, "chr2": BASES}, "toy", "toy.fa")
GENES = GeneAnnotation(
    [
        Gene("UP", "1", "+", 20, 200, ((20, 60), (90, 120), (150, 200))),
        Gene("DO;WN", "1", "-", 150, 380, ((150, 210), (260, 300), (350, 380))),
    ],
    "toy",
    "toy genes",
)
COLUMNS = ("chrom", "pos", "ref", "alt", "strand", "gene", "variant_id")
# What a spreadsheet's cell may hold, line breaks apart.
CELL = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=8) | st.sampled_from(
    ["NA", "nan", '"', "a,b", 'say "x"', " lead", "0012", "1e5", "=1+1", "True", "é\u2003"]
)


class Toy:
    """Probabilities that depend on the variant alone."""

    tools: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.card: dict[str, Any] = {"title": "toy", "split": "none", "model": "toy", "notes": []}
        texts = ("in_domain", "effect_type")
        names = ("p_altering", "p_low", "p_high", *texts, "effect_pos")
        self.columns: dict[str, type] = {name: str if name in texts else float for name in names}

    def values(self, new: NewVariants, variants: pd.DataFrame) -> dict[str, Any]:
        odd = variants["pos"].to_numpy() * 7 + variants["alt"].map(lambda alt: sum(map(ord, alt))).to_numpy()
        p = (odd % 97 + 1) / 99
        kinds = np.where(odd % 2 == 0, "donor loss", "")
        return {
            "p_altering": p,
            "p_low": p / 3,
            "p_high": (1 + p) / 2,
            "in_domain": ["in"] * len(p),
            "effect_type": kinds,
            "effect_pos": odd % 21 - 10,
        }


@st.composite
def rows(draw: st.DrawFn, most: int = 9) -> list[tuple[str, int, str, str, str, str, str]]:
    """Variants with the genome's bases, mostly, and every other kind of allele that files have."""
    found = []
    for at in range(draw(st.integers(1, most))):
        pos = draw(st.integers(1, 399))
        ref = BASES[pos - 1 : pos - 1 + draw(st.integers(1, 2))]
        ref = draw(st.sampled_from([ref, ref, ref, ref.lower(), "N", "é"]))
        alt = draw(st.text("ACGT", min_size=1, max_size=3) | st.sampled_from(["acg", "N", "<DEL>", "*", ".", "", ref]))
        strand, gene = (
            draw(st.sampled_from(["", "", "+", "-", "."])),
            draw(st.sampled_from(["", "", "UP", "DO;WN", "Z"])),
        )
        chrom = draw(st.sampled_from(["chr1", "1", "chr2", "7"]))
        found.append((chrom, pos, ref, alt, strand, gene, f"v{at}"))
    # One that can always be predicted: without any there is no output.
    return [*found, ("1", 50, BASES[49], "A" if BASES[49] != "A" else "C", "", "", "last")]


def as_table(made: Sequence[tuple], columns: Sequence[str] = COLUMNS, separator: str = "\t", end: str = "\n") -> str:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=separator, lineterminator=end)
    writer.writerows([columns, *made])
    return sink.getvalue()


def read(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All alleles of a file, and the usable ones."""
    parts: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for block in open_file(path).blocks():
        parts.append(alleles_of(block, GENES, sum(len(one) for one, _ in parts)))
    return pd.concat([one for one, _ in parts]), pd.concat([one for _, one in parts], ignore_index=True)


def predicted(source: Path, out: Path, cut: Cut | None = None, resume: bool = False) -> Path:
    inputs = Inputs(GENOME, GENES, device="cpu") if cut is None else Inputs(GENOME, GENES, device="cpu", cut=cut)
    predict_file(Toy(), source, out, inputs, resume=resume)
    return out


def cells(path: Path) -> list[list[str]]:
    """A table's cells as texts, whatever its format; what is empty is ""."""
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        return [list(frame), *([shown(value) for value in row] for row in frame.itertuples(index=False))]
    with path.open(encoding="utf-8", newline="") as stream:
        found = list(csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))
    return [found[0], *([shown(value) for value in row] for row in found[1:])]


def shown(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@QUICK
@given(
    made=rows(),
    separator=st.sampled_from("\t,"),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    packed=st.booleans(),
    order=st.permutations(COLUMNS),
    block=st.integers(1, 5),
)
def test_a_table_is_read_alike_whatever_wrote_it(
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple],
    separator: str,
    end: str,
    mark: bool,
    packed: bool,
    order: list[str],
    block: int,
) -> None:
    """Separator, line ends, byte order mark, compression, order of columns and blocks are no part of a variant."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "plain.tsv").write_text(as_table(made))
    turned = [tuple(row[COLUMNS.index(name)] for name in order) for row in made]
    raw = ("\ufeff" * mark + as_table(turned, order, separator, end)).encode()
    (folder / "other.txt").write_bytes(gzip.compress(raw) if packed else raw)
    alleles, usable = read(folder / "plain.tsv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_variants, "BLOCK_RECORDS", block)
        other, other_usable = read(folder / "other.txt")
    pd.testing.assert_frame_equal(alleles[list(other)].reset_index(drop=True), other.reset_index(drop=True))
    pd.testing.assert_frame_equal(usable.drop(columns="source"), other_usable.drop(columns="source"))


@QUICK
@given(made=rows())
def test_a_table_in_memory_is_read_as_its_file(tmp_path_factory: pytest.TempPathFactory, made: list[tuple]) -> None:
    path = tmp_path_factory.mktemp("tables") / "in.csv"
    path.write_text(as_table(made, separator=","))
    alleles, usable = read(path)
    frame = pd.DataFrame(made, columns=list(COLUMNS))
    for held in (frame, frame.astype({"pos": float}), frame.replace("", None), frame.astype(str)):
        there, usable_there = usable_alleles(held, GENES, str(path))
        pd.testing.assert_frame_equal(alleles.reset_index(drop=True), there, check_dtype=False)
        pd.testing.assert_frame_equal(usable, usable_there)


@QUICK
@given(made=rows())
def test_every_allele_has_a_reason_or_a_strand_a_gene_and_bases(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple]
) -> None:
    path = tmp_path_factory.mktemp("tables") / "in.tsv"
    path.write_text(as_table(made))
    alleles, usable = read(path)
    assert list(alleles["variant_id"]) == [row[-1] for row in made]
    good = alleles[alleles["reason"] == ""]
    assert usable["row"].tolist() == good.index.tolist()
    assert (usable["ref"] != usable["alt"]).all()
    for (row, allele), (_, variant) in zip(good.iterrows(), usable.iterrows(), strict=True):
        asked = made[int(str(row))]
        there = [gene for gene in GENES.overlapping(asked[0], asked[1]) if asked[4] in ("", ".", gene.strand)]
        assert allele["gene"] in [gene.name for gene in there]
        assert allele["strand"] == GENES.gene(allele["gene"]).strand
        assert asked[5] in ("", allele["gene"])
        assert (variant["ref"], variant["alt"]) == (asked[2].upper(), asked[3].upper())
        assert set(variant["ref"] + variant["alt"]) <= set("ACGT")
    for (row, allele), asked in zip(alleles.iterrows(), made, strict=True):
        over = GENES.overlapping(asked[0], asked[1])
        if not over:
            assert allele["reason"], row


@quick(4)
@given(made=rows())
def test_a_vcf_and_a_table_of_the_same_alleles_get_the_same_predictions(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple]
) -> None:
    folder = tmp_path_factory.mktemp("both")
    plain = [(*row[:4], "", "", row[6]) for row in made if row[3]]
    lines = [f"{chrom}\t{pos}\t{name}\t{ref}\t{alt}\t.\t.\t." for chrom, pos, ref, alt, _, _, name in plain]
    head = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    (folder / "in.vcf").write_text("\n".join([*head, *lines, ""]))
    (folder / "in.csv").write_text(as_table(plain, separator=","))
    of_vcf, of_table = (cells(predicted(folder / f"in.{kind}", folder / f"out.{kind}.tsv")) for kind in ("vcf", "csv"))
    assert of_vcf == of_table
    annotated = predicted(folder / "in.vcf", folder / "out.vcf").read_text().splitlines()
    entries = [line.split("\t")[7].removeprefix("MSAI=") for line in annotated if not line.startswith("#")]
    names = of_vcf[0]
    for entry, row in zip(entries, of_vcf[1:], strict=True):
        told, found = dict(zip(names, row, strict=True)), entry.split("|")
        assert len(found) == 8
        assert (found[2] == ".") == (told["reason"] != "")
        if not told["reason"]:
            assert float(found[2]) == pytest.approx(float(told["p_altering"]), abs=1e-4)
            assert float(found[3]) <= float(found[2]) <= float(found[4])


@quick(4)
@given(
    made=rows(),
    notes=st.lists(CELL, min_size=10, max_size=10),
    of=st.integers(1, 4),
    suffix=st.sampled_from([".tsv", ".csv", ".parquet"]),
    block=st.integers(1, 4),
)
def test_pieces_of_a_table_with_any_cells_are_merged_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple],
    notes: list[str],
    of: int,
    suffix: str,
    block: int,
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    noted = [(*row, note) for row, note in zip(made, notes, strict=False)]
    source = folder / "in.csv"
    source.write_text(as_table(noted, (*COLUMNS, "my note"), ","), encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_variants, "BLOCK_RECORDS", block)
        patch.setattr(text, "BLOCK_RECORDS", block)
        whole = predicted(source, folder / f"whole{suffix}")
        pieces = [predicted(source, folder / f"{at}{suffix}", Cut((), (at, of))) for at in range(1, of + 1)]
    count = merge_pieces(folder / f"merged{suffix}", pieces[::-1])
    assert count == (len(noted), "rows")
    assert (folder / f"merged{suffix}").read_bytes() == whole.read_bytes()
    assert json.loads(card_of(folder / f"merged{suffix}").read_text()) == json.loads(card_of(whole).read_text())
    found = cells(whole)
    assert [row[found[0].index("my note")] for row in found[1:]] == [row[-1] for row in noted]


@quick(4)
@given(made=rows(), notes=st.lists(CELL, min_size=10, max_size=10))
def test_every_format_holds_the_same_cells(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple], notes: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    source = folder / "in.tsv"
    noted = [(*row, note) for row, note in zip(made, notes, strict=False)]
    source.write_text(as_table(noted, (*COLUMNS, "note")), encoding="utf-8", newline="")
    tsv, other, parquet = (cells(predicted(source, folder / f"out{suffix}")) for suffix in (".tsv", ".csv", ".parquet"))
    assert tsv == other == parquet


@pytest.mark.parametrize(
    ("lines", "kind", "said"),
    [
        (["1,5,A,C,ok", '1,6,A,C,"open', "1,7,A,C,ok"], IntegrityError, "unexpected end of data"),
        (["1,5,A,C,ok", '1,6,A,C,"open', '1,7,A,C,"ok'], IntegrityError, "expected after"),
        (["1,5,A,C,ok", "1,6,A,C,a,b"], InputError, "line 3: 6 fields where the header has 5"),
        (["1,5,A,C,ok", "1,6,A,C"], InputError, "line 3: 4 fields"),
        (["", "1,5,A,C,ok", "", "1,0,A,C,ok"], InputError, "line 5: pos '0'"),
        (["1,5,A,C,ok", "1,5.5,A,C,ok"], InputError, "line 3: pos '5.5'"),
        (["1,5,A,C,ok", '1,7,A,C,"two\nlines"', "1, 6,A,C,ok"], InputError, "line 5: pos ' 6'"),
        (["1," + "9" * 13 + ",A,C,ok"], InputError, "line 2: pos '9999999999999'"),
        (["1,-3,A,C,ok"], InputError, "line 2: pos '-3'"),
        (["1,٥,A,C,ok"], InputError, "line 2: pos"),
    ],
)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_row_that_cannot_be_read_ends_the_run_with_its_line(
    tmp_path: Path, lines: list[str], kind: type[Exception], said: str, separator: str
) -> None:
    """No variant is lost to a quote that is never closed, or to a field too many."""
    path, out = tmp_path / "in.txt", tmp_path / "out.tsv"
    path.write_text("\n".join(["chrom,pos,ref,alt,note", *lines, ""]).replace(",", separator), encoding="utf-8")
    with pytest.raises(kind, match=said):
        predicted(path, out)
    assert not out.exists()


def test_a_line_break_within_a_cell_is_a_space(tmp_path: Path) -> None:
    made = [
        ("1", 50, BASES[49], "A" if BASES[49] != "A" else "C", 'two\nlines, "quoted"'),
        ("1", 51, BASES[50], ".", "\n"),
    ]
    path = tmp_path / "in.csv"
    path.write_text(as_table(made, ("chrom", "pos", "ref", "alt", "note"), ","), newline="")
    found = cells(predicted(path, tmp_path / "out.tsv"))
    assert [row[found[0].index("note")] for row in found[1:]] == ['two lines, "quoted"', " "]


def test_the_same_allele_twice_is_predicted_twice(tmp_path: Path) -> None:
    row = ("1", 50, BASES[49], "A" if BASES[49] != "A" else "C", "", "", "v")
    path = tmp_path / "in.tsv"
    path.write_text(as_table([row, row, row]))
    found = cells(predicted(path, tmp_path / "out.tsv"))
    assert len(found) == 4
    assert found[1] == found[2] == found[3]
