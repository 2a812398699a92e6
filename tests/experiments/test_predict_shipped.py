"""The predictor of the package: probabilities that are none too sure, and a VCF that keeps what it had."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import meta_spliceai
from meta_spliceai.cli import main
from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.experiments.predict import output_files, predict_shipped, read_variants
from meta_spliceai.experiments.predict.output_files import check_output
from meta_spliceai.experiments.predict.predict_new import NewVariants
from meta_spliceai.experiments.predict.predict_shipped import LoadedPredictor
from meta_spliceai.experiments.predict.read_variants import OTHER_GENE
from meta_spliceai.experiments.predict.write_predictions import Inputs, predict_file
from meta_spliceai.splice_engine.base_layer.vcf import pieces, text
from meta_spliceai.splice_engine.base_layer.vcf.info_field import Reason
from meta_spliceai.splice_engine.base_layer.vcf.pieces import Cut
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.meta_layer.shipped_predictor import (
    RISING,
    feature_names,
    load_shipped,
    names,
)

VCF = (
    '##fileformat=VCFv4.2\n##contig=<ID=chr2>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\n"
    "chr2\t25\trs1\tA\tC,<DEL>\t5\tPASS\tX=1\tGT\t1/2\nchr2\t30\t.\tA\t.\t.\t.\t.\tGT\t0/0\n"
)


class Toy:
    """A model whose probability is the position's last two digits."""

    tools: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.card: dict[str, Any] = {"title": "toy", "split": 'a "b"', "model": "toy", "notes": []}
        names = ("p_altering", "p_low", "p_high", "in_domain", "effect_type", "effect_pos")
        self.columns: dict[str, type] = {name: str if name in ("in_domain", "effect_type") else float for name in names}

    def values(self, new: NewVariants, variants: pd.DataFrame) -> dict[str, Any]:
        p = (variants["pos"] % 100).to_numpy() / 100
        kind = np.array(["donor loss"] * len(p), dtype=object)
        return {"p_altering": p, "p_low": p / 3, "p_high": p / 7 + 0.8, "in_domain": ["in"] * len(p),
                "effect_type": kind, "effect_pos": np.full(len(p), -3)}  # fmt: skip


class ToyWithTool(Toy):
    """The same, which reads a tool's scores of some positions."""

    tools = ("cadd",)

    def __init__(self, known: range) -> None:
        super().__init__()
        self.columns["cadd.score"] = float
        self._known = known

    def values(self, new: NewVariants, variants: pd.DataFrame) -> dict[str, Any]:
        return super().values(new, variants) | {
            "cadd.score": [1.5 if pos in self._known else np.nan for pos in variants["pos"]]
        }


def interrupted(model: Toy, blocks: int) -> Toy:
    """The model, interrupted at the block behind so many."""
    asked, real = [0], model.values

    def values(new: NewVariants, variants: pd.DataFrame) -> dict[str, Any]:
        asked[0] += 1
        if asked[0] > blocks:
            raise KeyboardInterrupt
        return real(new, variants)

    model.values = values  # type: ignore[method-assign]
    return model


@pytest.fixture
def inputs() -> Inputs:
    """A genome of A with a gene of an awkward name."""
    genome = MemoryGenome({"chr2": "A" * 90_000, "chr3": "A" * 1000}, "toy", "toy.fa")
    return Inputs(genome, GeneAnnotation([Gene("G;1", "2", "+", 5, 80_000, ((5, 80_000),))], "toy", "toy"))


@pytest.mark.parametrize("name", names())
def test_probabilities_have_bounds_and_lie_within_their_interval(name: str) -> None:
    shipped = load_shipped(name)
    columns = feature_names(list(shipped.networks))
    extreme = pd.DataFrame([[-1e3] * len(columns), [1e3] * len(columns), [0.0] * len(columns)], columns=columns)
    p, low, high = shipped.probability(extreme)
    assert ((p > 1e-4) & (p < 1 - 1e-4)).all()
    assert ((low <= p) & (p <= high)).all()
    assert high[2] > low[2]
    unknown = shipped.probability(extreme.iloc[2:].assign(in_exon=np.nan, nearest=np.nan))[0]
    assert np.isfinite(unknown).all()


@pytest.mark.parametrize("name", names())
def test_a_larger_change_never_lowers_the_probability(name: str) -> None:
    shipped = load_shipped(name)
    delta = np.linspace(0.001, 0.999, 50)
    odds = np.log(delta / (1 - delta))
    changed = {"log-odds of |Δ|": odds, "log-odds of |Δ| above 0.05": np.maximum(odds + 3, 0)}
    x = pd.DataFrame(
        np.zeros((50, len(feature_names(list(shipped.networks))))), columns=feature_names(list(shipped.networks))
    )
    for network in shipped.networks:
        for feature, sign in RISING.items():
            x[f"{network}: {feature}"] = changed.get(feature, sign * delta)
    p = shipped.probability(x)[0]
    assert (np.diff(p) >= 0).all()
    assert p[-1] > p[0] + 0.3


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(InputError, match="fusion-open"):
        meta_spliceai.load_predictor("fusion-opn")


def test_a_vcf_is_annotated_in_place(tmp_path: Path, inputs: Inputs) -> None:
    source, out = tmp_path / "in.vcf", tmp_path / "out.vcf"
    source.write_text(VCF)
    totals = predict_file(Toy(), source, out, inputs)
    lines = out.read_text().splitlines()
    assert sum(line.startswith("##INFO=<ID=MSAI,") for line in lines) == 1
    first, second = (line.split("\t") for line in lines[-2:])
    entry = "|G%3B1|0.2500|0.0833|0.8357|in|donor_loss|-3"
    assert first[7] == f"X=1;MSAI=C{entry},<DEL>|.|.|.|.|symbolic_allele|.|."
    assert first[9] == "1/2"
    assert second[7] == "MSAI=.|.|.|.|.|no_alternative_allele|.|."
    assert (totals.records, totals.alleles, totals.alleles_scored) == (2, 3, 1)
    assert json.loads((tmp_path / "out.vcf.card.json").read_text()) == Toy().card
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.vcf", "out.vcf", "out.vcf.card.json"]


def many(path: Path, count: int = 300) -> Path:
    """A file with records in and outside the gene, of which none at its beginning can be predicted."""
    head, _, _ = VCF.partition("chr2\t25")
    places = [("chr3", pos) for pos in range(10, 40)] + [("chr2", 10 + 90 * number) for number in range(count)]
    alts = ("C", "G,T", "<DEL>")
    lines = [f"{c}\t{pos}\t.\tA\t{alts[at % 3]}\t.\t.\t.\tGT\t0/1\n" for at, (c, pos) in enumerate(places)]
    path.write_text(head + "".join(lines))
    return path


@pytest.mark.parametrize(
    "suffix", [".vcf.gz", ".tsv", ".parquet", *(pytest.param(one, marks=pytest.mark.slow) for one in (".vcf", ".csv"))]
)
@pytest.mark.parametrize("from_table", [False, True])
def test_merged_pieces_are_the_whole_output_to_the_byte(
    tmp_path: Path, inputs: Inputs, suffix: str, from_table: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (text, read_variants):
        monkeypatch.setattr(module, "BLOCK_RECORDS", 20)
    monkeypatch.setattr(output_files, "ROWS_A_GROUP", 64)
    monkeypatch.setattr(pieces, "NEIGHBOURS", 80)
    source = many(tmp_path / "in.vcf")
    if from_table:
        if "vcf" in suffix:
            return
        table = tmp_path / "in.csv"
        rows = [line.split("\t") for line in source.read_text().splitlines() if line[0] != "#"]
        table.write_text("chrom,pos,ref,alt\n" + "".join(f"{r[0]},{r[1]},{r[3]},C\n" for r in rows))
        source = table
    whole = tmp_path / f"whole{suffix}"
    predict_file(Toy(), source, whole, inputs)
    made = []
    for number in (3, 1, 4, 2):
        made.append(tmp_path / f"p{number}{suffix}")
        predict_file(Toy(), source, made[-1], replace(inputs, cut=Cut(shard=(number, 4))))
    assert all(len(one.read_bytes()) > 100 for one in made)
    merged = tmp_path / f"merged{suffix}"
    output_files.merge_pieces(merged, made)
    assert merged.read_bytes() == whole.read_bytes()
    assert output_files.card_of(merged).read_bytes() == output_files.card_of(whole).read_bytes()
    if suffix in (".tsv", ".csv", ".vcf"):
        *kept, last_but_one, last = made[1].read_text().splitlines(keepends=True)
        made[1].write_text("".join([*kept, last, last_but_one]))
        with pytest.raises(IntegrityError, match=r"p1\..* was changed or damaged"):
            output_files.merge_pieces(merged, made)
    made[1].write_bytes(whole.read_bytes())
    with pytest.raises((InputError, IntegrityError), match=r"p1\."):
        output_files.merge_pieces(merged, made)
    if "vcf" not in suffix:
        output_files.card_of(made[2]).unlink()
        with pytest.raises(InputError, match=r"p4.* has no p4.*card\.json beside it"):
            output_files.merge_pieces(merged, made)


def test_a_killed_prediction_goes_on_to_the_same_bytes(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_RECORDS", 20)
    source, out = many(tmp_path / "in.vcf"), tmp_path / "out.parquet"
    predict_file(Toy(), source, tmp_path / "whole.parquet", inputs)
    with pytest.raises(KeyboardInterrupt):
        predict_file(interrupted(Toy(), 5), source, out, inputs)
    assert not out.exists()
    again, seen = Toy(), [0]
    ask = again.values

    def counting(new: NewVariants, variants: pd.DataFrame) -> dict[str, Any]:
        seen[0] += 1
        return ask(new, variants)

    monkeypatch.setattr(again, "values", counting)
    totals = predict_file(again, source, out, inputs, resume=True)
    assert seen[0] < 13
    assert totals.records == 330
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_alleles_with_a_tools_score_are_counted_over_blocks_and_an_interruption(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_RECORDS", 20)
    source, out, known = many(tmp_path / "in.vcf"), tmp_path / "out.csv", range(5000, 15000)
    whole = predict_file(ToyWithTool(known), source, tmp_path / "whole.csv", inputs)
    expected = int(pd.read_csv(tmp_path / "whole.csv")["cadd.score"].notna().sum())
    assert whole.from_tools == {"cadd": expected}
    assert 50 < expected < whole.alleles_scored
    with pytest.raises(KeyboardInterrupt):
        predict_file(interrupted(ToyWithTool(known), 7), source, out, inputs)
    assert predict_file(ToyWithTool(known), source, out, inputs, resume=True).from_tools == {"cadd": expected}


def test_a_tool_that_scored_nothing_at_all_is_an_error_of_the_whole_and_of_no_piece(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "NEIGHBOURS", 80)
    source = many(tmp_path / "in.vcf")
    with pytest.raises(InputError, match=r"of cadd, whose file has none for any of 300 alleles: .*--scores cadd"):
        predict_file(ToyWithTool(range(0)), source, tmp_path / "out.csv", inputs)
    assert list(tmp_path.iterdir()) == [source]
    for known, fails in ((range(5000), False), (range(0), True)):
        made = [tmp_path / f"{len(known)}-{number}.csv" for number in (1, 2)]
        counts = [
            predict_file(ToyWithTool(known), source, path, replace(inputs, cut=Cut(shard=(number, 2)))).from_tools
            for number, path in enumerate(made, start=1)
        ]
        assert counts[1] == {"cadd": 0}
        assert (counts[0]["cadd"] == 0) == fails
        if fails:
            with pytest.raises(InputError, match="scores of cadd, whose file has none"):
                output_files.merge_pieces(tmp_path / "merged.csv", made)
        else:
            output_files.merge_pieces(tmp_path / "merged.csv", made)
            (tmp_path / "merged.csv").unlink()


@pytest.mark.parametrize("name", ["out.vcf", "out.csv", "out.parquet"])
def test_where_nothing_can_be_predicted_the_reasons_are_the_result(tmp_path: Path, inputs: Inputs, name: str) -> None:
    source, out = tmp_path / "in.vcf", tmp_path / name
    records = (("chr3", "C"), ("chr2", "<DEL>"), ("chr8", "C"))
    head = VCF[: VCF.index("\tFORMAT\tS1")].replace("contig=<ID=chr2>", "contig=<ID=chr8>")
    source.write_text(head + "".join(f"\n{chrom}\t50\t.\tA\t{alt}\t.\t.\t." for chrom, alt in records) + "\n")
    genes = GeneAnnotation([Gene("H", "8", "+", 5, 800, ((5, 800),))], "toy", "toy")
    totals = predict_file(ToyWithTool(range(0)), source, out, replace(inputs, annotation=genes))
    reasons = [Reason.NOT_IN_GENE, Reason.SYMBOLIC, "contig not in genome"]
    assert (totals.alleles, totals.alleles_scored, list(totals.unscored)) == (3, 0, reasons)
    if name == "out.vcf":
        found = [line.split("|")[5] for line in out.read_text().splitlines() if "MSAI=" in line]
        assert found == [reason.replace(" ", "_") for reason in reasons]
    else:
        table = pd.read_csv(out) if name == "out.csv" else pd.read_parquet(out)
        assert list(table["reason"]) == reasons
        assert table["p_altering"].isna().all()


@pytest.mark.parametrize(("gene", "with_genes"), [("ENSG1", True), ("", False)])
def test_an_input_without_any_known_gene_is_an_error_that_leaves_nothing(
    tmp_path: Path, inputs: Inputs, gene: str, with_genes: bool
) -> None:
    source = tmp_path / "in.csv"
    source.write_text(f"chrom,pos,ref,alt,gene\nchr2,50,A,C,{gene}\nchr2,60,A,<DEL>,{gene}\n")
    with pytest.raises(InputError, match=r"none of 2 alleles can be used: .*gene"):
        predict_file(Toy(), source, tmp_path / "out.csv", inputs if with_genes else replace(inputs, annotation=None))
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("name", ["out.vcf", "out.csv", "out.parquet"])
def test_an_input_without_records_gives_an_output_without_records(tmp_path: Path, inputs: Inputs, name: str) -> None:
    source, out = tmp_path / "in.vcf", tmp_path / name
    source.write_text(VCF[: VCF.index("chr2\t25")])
    assert predict_file(Toy(), source, out, inputs).alleles == 0
    if name == "out.vcf":
        assert out.read_text().splitlines()[-1] == VCF.splitlines()[3]
    else:
        table = pd.read_csv(out) if name == "out.csv" else pd.read_parquet(out)
        assert len(table) == 0
        assert {"chrom", "pos", "p_altering", "reason"} <= set(table)


def test_what_the_table_says_of_gene_and_strand_is_kept_or_is_the_reason(tmp_path: Path, inputs: Inputs) -> None:
    genes = [
        Gene("UP", "2", "+", 0, 900, ((100, 200), (700, 900))),
        Gene("DOWN", "2", "-", 0, 900, ((400, 500), (700, 900))),
    ]
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = ["450,A,c,+,", "450,A,c,-,", "450,A,c,,", "450,A,c,,UP", "450,A,c,,OTHER", "450,A,c,-,UP", "5000,A,c,-,"]
    source.write_text("chrom,pos,ref,alt,strand,gene\n" + "".join(f"2,{row}\n" for row in rows))
    predict_file(Toy(), source, out, replace(inputs, annotation=GeneAnnotation(genes, "toy", "toy")))
    table = pd.read_csv(out, keep_default_na=False)
    assert list(table["alt"]) == ["c"] * 7  # as they stand in the file
    assert list(zip(table["gene"], table["strand"], table["reason"], strict=True)) == [
        ("UP", "+", ""),
        ("DOWN", "-", ""),
        ("DOWN", "-", ""),
        ("UP", "+", ""),
        ("OTHER", "", OTHER_GENE),
        ("UP", "-", OTHER_GENE),
        ("", "-", Reason.NOT_IN_GENE),
    ]
    assert (table["p_altering"] != "").tolist() == [True] * 4 + [False] * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chrom,pos,ref,alt,reason\n2,25,A,C,x\n", "column reason has the name of one that is added"),
        ("chrom,pos,ref,alt,p_low\n2,25,A,C,x\n", "column p_low has the name of one that is added"),
        ("chrom,pos,ref,alt,note,note\n2,25,A,C,x,y\n", "column note stands more than once"),
        ("chrom,pos,ref,alt\n2,25,A\n", "line 2: 3 fields where the header has 4 columns"),
        ("chrom,pos,ref,alt\n2,25,A,C,more\n", "line 2: 5 fields where the header has 4 columns"),
    ],
)
def test_a_table_of_which_something_would_be_lost_is_refused(
    tmp_path: Path, inputs: Inputs, text: str, words: str
) -> None:
    source = tmp_path / "in.csv"
    source.write_text(text)
    with pytest.raises(InputError, match=words):
        predict_file(Toy(), source, tmp_path / "out.csv", inputs)


def test_a_spreadsheets_byte_order_mark_and_names_in_utf8_are_read(tmp_path: Path, inputs: Inputs) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("\ufeffchrom,pos,ref,alt\n2,25,A,C\n", encoding="utf-8")
    assert predict_file(Toy(), source, out, inputs).alleles_scored == 1
    vcf = tmp_path / "in.vcf"
    vcf.write_text(VCF.replace("rs1", "idä"), encoding="utf-8")
    predict_file(Toy(), vcf, out, inputs)
    assert pd.read_csv(out)["variant_id"][0] == "idä"


def test_a_record_that_has_msai_without_a_declaration_is_named(tmp_path: Path, inputs: Inputs) -> None:
    source = tmp_path / "in.vcf"
    source.write_text(VCF.replace("X=1", "MSAI=old"))
    with pytest.raises(InputError, match="line 5 has INFO MSAI already"):
        predict_file(Toy(), source, tmp_path / "out.vcf", inputs)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> LoadedPredictor:
    """`load_predictor`'s, with a toy's numbers."""
    monkeypatch.setattr(predict_shipped, "ShippedModel", lambda shipped, device: Toy())
    return meta_spliceai.load_predictor()


def test_a_table_in_memory_keeps_its_columns_and_index(loaded: LoadedPredictor, inputs: Inputs) -> None:
    table = pd.DataFrame(
        {"chrom": "2", "pos": [25.0, 26.0], "ref": "A", "alt": ["C", "a"], "patient": ["x", "y"]}, index=["p", "q"]
    )
    found = loaded.predict(table, inputs.genome, inputs.annotation)
    assert list(found.index) == ["p", "q"]
    assert list(found["patient"]) == ["x", "y"]
    assert list(found["reason"]) == ["", "ref equals alt"]
    for bad, shown in ((25.5, "25.5"), (np.nan, ""), ("a", "a")):
        wrong = table.assign(pos=pd.Series([25, bad], index=["p", "q"], dtype=object))
        with pytest.raises(InputError, match=f"row 2: pos '{shown}' is no position"):
            loaded.predict(wrong, inputs.genome, inputs.annotation)
    with pytest.raises(InputError, match="column p_low has the name"):
        loaded.predict(table.assign(p_low=1), inputs.genome, inputs.annotation)


def test_genes_of_another_build_are_refused(loaded: LoadedPredictor) -> None:
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 60_000))
    genes = [
        Gene(f"G{at}", "2", "+", at, at + 400, ((at, at + 100), (at + 300, at + 400))) for at in range(0, 50_000, 500)
    ]
    table = pd.DataFrame({"chrom": ["2"], "pos": [25], "ref": [bases[24]], "alt": ["C" if bases[24] != "C" else "G"]})
    with pytest.raises(InputError, match="does not fit"):
        loaded.predict(table, MemoryGenome({"chr2": bases}, "toy", "toy.fa"), GeneAnnotation(genes, "toy", "toy"))


def test_a_suffix_that_says_no_format_is_refused_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.vcf"
    source.write_text(VCF)
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(source), "-o", str(tmp_path / "out.xlsx"), "-R", "regions"])
    assert ended.value.code == 2
    assert "out.xlsx" in capsys.readouterr().err.replace("\n", "")
    assert list(tmp_path.iterdir()) == [source]
    with pytest.raises(InputError, match=r"in\.tsv is read as a table"):
        check_output(tmp_path / "out.vcf", tmp_path / "in.tsv", True)


def test_a_model_that_is_none_is_said_before_its_output_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.vcf").write_text(VCF)
    given = ["predict", str(tmp_path / "in.vcf"), "-o", str(tmp_path / "out.vcf"), "--runs-dir", str(tmp_path / "runs")]
    with pytest.raises(SystemExit) as ended:
        main([*given, "--model", "fusoin"])
    assert ended.value.code == 2
    assert "--model fusoin: no predictor of the package" in capsys.readouterr().err.replace("\n", " ")
