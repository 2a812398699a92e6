"""The readers of the original files, on toy files made in the same format."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.datasets import (
    brca1_sge,
    cispliceai_validated,
    deep_intronic,
    load_dataset,
    mapsy,
    mfass,
    splicevardb,
)
from meta_spliceai.datasets.human import NOT_IN_ONE_GENE, in_one_gene, read_r_object
from meta_spliceai.errors import InputError, IntegrityError, MissingResourceError
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import decode
from meta_spliceai.splice_engine.variants.table import Coverage, build_windows

RNG = np.random.default_rng(0)
COMPLEMENT = str.maketrans("ACGT", "TGCA")
TABLE = "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\n"


def turned(bases: str) -> str:
    return bases.translate(COMPLEMENT)[::-1]


@pytest.fixture(scope="module")
def sequence() -> str:
    """4,000 bases of chromosome 2, with no run that reads like its own other strand."""
    return "".join("ACGT"[base] for base in RNG.integers(0, 4, 4000))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, sequence: str) -> dict[str, str]:
    """A genome (chr2:1-4000) and an annotation with one gene a strand."""
    folder = tmp_path_factory.mktemp("toys")
    fasta = folder / "genome.fa"
    fasta.write_text(f">chr2:1-4000\n{sequence}\n")
    genes = folder / "genes.txt"
    genes.write_text(
        TABLE
        + "PLUS\t2\t+\t100\t1800\t100,500,1500,\t300,600,1800,\n"
        + "MINUS\t2\t-\t2000\t3900\t2000,3000,3700,\t2200,3100,3900,\n"
    )
    return {"genome": str(fasta), "annotation": str(genes)}


def construct(sequence: str, start: int, strand: str) -> str:
    """170 bases from a 1-based position, in transcript orientation."""
    cut = sequence[start - 1 : start + 169]
    return cut if strand == "+" else turned(cut)


def test_lifted_rows_outside_their_gene_are_left_out_and_counted(files: dict[str, str]) -> None:
    genes = GeneAnnotation.named(files["annotation"], "GRCh38")
    frame = pd.DataFrame(
        {
            "variant_id": list("abcde"),
            "chrom": ["2", "2", "2", "2", "2"],
            "pos": [550, 550, 3950, 550, 550],
            "ref": "A",
            "alt": "C",
            "strand": ["+", "-", "-", "+", "+"],
            "gene": ["PLUS", "PLUS", "MINUS", "", "OLDNAME"],
        }
    )
    kept, coverage = in_one_gene(frame, Coverage(5), genes)
    assert kept["variant_id"].tolist() == ["a", "d"]
    assert coverage.left_out == {NOT_IN_ONE_GENE: 3}


class TestMfass:
    """PLUS: exon 501-600 in chr2:471-640 (30 + 100 + 40). MINUS: exon 3001-3100 in chr2:2961-3130 (40 + 100 + 30)."""

    @pytest.fixture
    def rows(self, sequence: str) -> pd.DataFrame:
        lines = []
        for name, exon, strand, start, pos, dpsi in (
            ("P_000", "EXON1", "+", 471, None, 0.0),
            ("P_001", "EXON1", "+", 471, 500, -0.8),
            ("P_002", "EXON1", "+", 471, 550, 0.01),
            ("P_003", "EXON1", "+", 471, 560, -0.2),
            ("M_001", "EXON2", "-", 2961, 3101, -0.6),
            ("M_002", "EXON2", "-", 2961, 3050, None),
        ):
            natural = construct(sequence, start, strand)
            ref = "" if pos is None else sequence[pos - 1]
            alt = "" if pos is None else "ACGT"[("ACGT".index(ref) + 1) % 4]
            lines.append(
                {
                    "id": name, "ensembl_id": exon, "category": "natural" if pos is None else "mutant", "chr": "chr2",
                    "start": start, "end": start + 169, "strand": strand, "intron1_len": 30 if strand == "+" else 40,
                    "exon_len": 100, "intron2_len": 40 if strand == "+" else 30, "ref_allele": ref, "alt_allele": alt,
                    "snp_position": "" if pos is None else pos, "natural_seq": natural, "original_seq": natural,
                    "label": "exon", "v2_dpsi": "NA" if dpsi is None else dpsi, "v2_dpsi_R1": dpsi, "v2_dpsi_R2": dpsi,
                    "v2_index": 0.9, "nat_v2_index": 0.95,
                }
            )  # fmt: skip
        return pd.DataFrame(lines)

    @pytest.fixture
    def load(self, rows: pd.DataFrame, files: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
        def call(context: str = "genome", change: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows) -> Any:
            path = tmp_path / "mfass.tsv.gz"
            change(rows).to_csv(path, sep="\t", index=False)
            return mfass.DATASET.loader(context=context, build="GRCh37", path=str(path), **files)

        return call

    def test_genome_context(self, load: Callable[..., Any]) -> None:
        loaded = load()
        table = loaded.variants
        assert table["variant_id"].tolist() == ["P_001", "P_002", "P_003", "M_001"]
        assert table["classification"].tolist() == ["Splice-altering", "Normal", "Low-frequency", "Splice-altering"]
        assert table["acceptor_pos"].tolist() == [501, 501, 501, 3100]
        assert table["donor_pos"].tolist() == [600, 600, 600, 3001]
        assert table["gene"].tolist() == ["PLUS"] * 3 + ["MINUS"]
        assert loaded.coverage.left_out == {mfass.NOT_A_MUTANT: 1, mfass.NOT_MEASURED: 1}
        assert dict(loaded.options) == {"context": "genome", "build": "GRCh37"}

    def test_both_contexts_show_the_same_bases(self, load: Callable[..., Any]) -> None:
        chromosome, reporter = load(), load("construct")
        assert reporter.variants["acceptor_pos"].tolist() == [31] * 4
        assert reporter.variants["donor_pos"].tolist() == [130] * 4
        assert reporter.variants["genome_pos"].tolist() == chromosome.variants["pos"].tolist()
        one = build_windows(chromosome.variants, chromosome.genome, 41)
        two = build_windows(reporter.variants, reporter.genome, 41)
        assert (one.real_bases == two.real_bases).all()
        np.testing.assert_array_equal(one.ref, two.ref)
        np.testing.assert_array_equal(one.alt, two.alt)
        wide = build_windows(reporter.variants, reporter.genome, 401)
        assert (wide.real_bases == 170).all()
        assert chromosome.digest != reporter.digest

    @pytest.mark.parametrize(
        ("column", "value", "message"),
        [
            ("snp_position", "5x", r"line 3: snp_position is '5x', expected a 1-based coordinate"),
            ("snp_position", "9000", "line 3: P_001: strand, lengths and position do not fit"),
            ("strand", "*", "line 3: P_001: strand"),
            ("v2_dpsi", "low", "line 3: v2_dpsi is 'low', expected a number"),
        ],
    )
    def test_malformed_values_name_their_line(
        self, load: Callable[..., Any], column: str, value: str, message: str
    ) -> None:
        def change(rows: pd.DataFrame) -> pd.DataFrame:
            rows = rows.astype(object)
            rows.loc[1, column] = value
            return rows

        with pytest.raises(InputError, match=message):
            load(change=change)

    def test_missing_column_and_unknown_context(self, load: Callable[..., Any]) -> None:
        with pytest.raises(InputError, match="column v2_dpsi missing"):
            load(change=lambda rows: rows.drop(columns="v2_dpsi"))
        with pytest.raises(InputError, match="unknown context 'reporter' in data set mfass"):
            load("reporter")

    def test_the_authors_r_object(self, load: Callable[..., Any], rows: pd.DataFrame, tmp_path: Path) -> None:
        pyreadr = pytest.importorskip("pyreadr")
        path = tmp_path / "mfass.RData"
        frame = rows.astype({"snp_position": str, "v2_dpsi": str})
        pyreadr.write_rdata(str(path), frame, df_name="data")
        again = read_r_object(path)
        assert again["id"].tolist() == rows["id"].tolist()
        broken = tmp_path / "broken.RData"
        broken.write_bytes(b"no R object")
        with pytest.raises(IntegrityError, match=r"broken\.RData is truncated or damaged, or of another kind"):
            read_r_object(broken)

    def test_label_rule_at_its_borders(self) -> None:
        assert mfass.label_by_dpsi(np.array([-0.5, -0.49, 0.0299, -0.03, 0.6])) == [
            "Splice-altering",
            "Low-frequency",
            "Normal",
            "Low-frequency",
            "Low-frequency",
        ]


class TestMapsy:
    @pytest.fixture
    def rows(self, sequence: str) -> pd.DataFrame:
        lines = []
        for name, strand, start, exon, offset in (("P", "+", 471, (501, 600), 50), ("M", "-", 2961, (3001, 3100), 29)):
            natural = construct(sequence, start, strand)
            wild = "C" * 15 + natural + "G" * 15
            first = 30  # of the exon in the construct
            at = 15 + offset
            mutant = wild[:at] + "ACGT"[("ACGT".index(wild[at]) + 1) % 4] + wild[at + 1 :]
            counts = {
                f"{assay}_{allele}_{state}": 500
                for assay in ("Vivo", "Vitro")
                for allele in ("WT", "MUT")
                for state in ("Spliced", "Input")
            }
            lines.append(
                {
                    "ID": name, "WT_SEQ": wild, "MUT_SEQ": mutant, "chr": "chr2", "strand": strand,
                    "Exon_Start": exon[0], "Exon_End": exon[1], "acceptor": natural[first - 15 : first],
                    "donor": natural[first + 100 : first + 115], "ESM": int(name == "M"), "log2_vivo_ratio": -0.1,
                    "log2_vitro_ratio": 0.1, **counts,
                }
            )  # fmt: skip
        return pd.DataFrame(lines)

    def load(self, rows: pd.DataFrame, files: dict[str, str], tmp_path: Path, context: str) -> Any:
        path = tmp_path / "mapsy.csv"
        rows.to_csv(path, index=False)
        return mapsy.DATASET.loader(context=context, build="hg19", path=str(path), **files)

    def test_both_contexts(self, rows: pd.DataFrame, files: dict[str, str], tmp_path: Path) -> None:
        chromosome = self.load(rows, files, tmp_path, "genome")
        reporter = self.load(rows, files, tmp_path, "construct")
        assert chromosome.coverage.used == reporter.coverage.used == 2
        assert chromosome.variants["pos"].tolist() == [521, 3101]  # second: last intron base, the G of AG
        assert chromosome.variants["acceptor_pos"].tolist() == [501, 3100]
        assert reporter.variants["acceptor_pos"].tolist() == [31, 31]
        assert chromosome.variants["classification"].tolist() == ["Normal", "Splice-altering"]
        one = build_windows(chromosome.variants, chromosome.genome, 31)
        two = build_windows(reporter.variants, reporter.genome, 31)
        np.testing.assert_array_equal(one.alt, two.alt)

    def test_a_sequence_that_does_not_fit_is_named(
        self, rows: pd.DataFrame, files: dict[str, str], tmp_path: Path
    ) -> None:
        rows.loc[1, "MUT_SEQ"] = rows.loc[1, "WT_SEQ"]
        with pytest.raises(InputError, match=r"line 3: M: expected two sequences of 200 bases .* found 0 changes"):
            self.load(rows, files, tmp_path, "genome")

    def test_thin_counts_are_never_normal(self) -> None:
        calm, thin = np.zeros(3), np.array([0.1, 0.5, 0.1])
        labels = mapsy.label_by_both_assays(np.array([0, 0, 1]), calm, calm, thin, np.full(3, 0.1))
        assert labels == ["Normal", "Low-frequency", "Splice-altering"]
        undefined = np.array([np.nan])
        assert mapsy.label_by_both_assays(np.zeros(1), undefined, undefined, undefined, undefined) == ["Low-frequency"]


class TestCispliceaiValidated:
    HEADER = "ID,#CHROM,POS,REF,ALT,strand,SpliceAffecting,Origin,Observation,Comments,AL,DL,AG,DG,effect_type\n"

    def load(self, files: dict[str, str], tmp_path: Path, lines: str) -> Any:
        path = tmp_path / "variants.csv"
        path.write_text(self.HEADER + lines)
        return cispliceai_validated.load(path=str(path), **files)

    def line(self, sequence: str, pos: int, **values: str) -> str:
        ref = sequence[pos - 1]
        given = {
            "ID": f"v{pos}", "#CHROM": "2", "POS": str(pos), "REF": ref, "ALT": "A" if ref != "A" else "C",
            "strand": "+", "SpliceAffecting": "1", "Origin": "x", "Observation": "", "Comments": "", "AL": "", "DL": "",
            "AG": "", "DG": "", "effect_type": "skip", **values,
        }  # fmt: skip
        return ",".join(given.values()) + "\n"

    def test_gold_positions(self, files: dict[str, str], tmp_path: Path, sequence: str) -> None:
        lines = self.line(sequence, 602, AL="501.0", DL="600;620") + self.line(
            sequence, 700, SpliceAffecting="0", effect_type="normal"
        )
        table = self.load(files, tmp_path, lines).variants
        assert table["acceptors_lost"].tolist() == ["501", ""]
        assert table["donors_lost"].tolist() == ["600;620", ""]
        assert table["classification"].tolist() == ["Splice-altering", "Normal"]
        assert table["donor_pos"].tolist() == [600, 600]

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"SpliceAffecting": "yes"}, "unknown SpliceAffecting 'yes' in .*line 2"),
            ({"effect_type": "skipp"}, "unknown effect_type 'skipp' in .*line 2; did you mean skip"),
            ({"AL": "a;5"}, "line 2: AL is 'a;5', expected 1-based positions"),
            ({"POS": "1.5"}, "line 2: POS is '1.5', expected a 1-based coordinate"),
            ({"REF": "N"}, "bad ref, first at row 1 .*alleles are made of A, C, G, T"),
        ],
    )
    def test_bad_values(
        self, files: dict[str, str], tmp_path: Path, sequence: str, values: dict[str, str], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            self.load(files, tmp_path, self.line(sequence, 602, **values))

    def test_a_reference_mismatch_is_counted_with_row_and_bases(
        self, files: dict[str, str], tmp_path: Path, sequence: str
    ) -> None:
        wrong = "A" if sequence[699] != "A" else "C"
        other = "G" if wrong != "G" else "T"
        lines = self.line(sequence, 602) + self.line(sequence, 700, REF=wrong, ALT=other)
        loaded = self.load(files, tmp_path, lines)
        assert loaded.coverage.left_out == {"reference mismatch": 1}
        assert f"expects {wrong}" in loaded.coverage.examples["reference mismatch"][0]
        assert f"has {sequence[699]}" in loaded.coverage.examples["reference mismatch"][0]


class TestDeepIntronic:
    def load(self, files: dict[str, str], tmp_path: Path, sequence: str, **changes: Any) -> Any:
        rows = pd.DataFrame(
            {
                "Chromosome": "2", "Position_hg19": [800, 810, 820, 3950], "Position_hg38": ["", "9", "9", "9"],
                "Ref": [sequence[pos - 1] for pos in (800, 810, 820, 3950)], "Alt": "?", "Gene_name": "PLUS",
                "HGVSc": list("abcd"), "Affects_splicing": ["TRUE", "FALSE", "False", "TRUE"],
                "Functional_consequence": "-", "Major_group": "-",
                "Data_Source": ["jung_2021", "gnomAD_v2.1", "adamson_2018_Vex_seq", "jung_2021"],
            }
        )  # fmt: skip
        rows["Alt"] = ["A" if ref != "A" else "C" for ref in rows["Ref"]]
        path = tmp_path / "deep.tsv"
        rows.assign(**changes).to_csv(path, sep="\t", index=False)
        return deep_intronic.load(build="GRCh37", path=str(path), **files)

    def test_population_variants_are_not_called_normal(
        self, files: dict[str, str], tmp_path: Path, sequence: str
    ) -> None:
        loaded = self.load(files, tmp_path, sequence)
        assert loaded.variants["classification"].tolist() == ["Splice-altering", "Unknown", "Normal"]
        assert loaded.variants["strand"].tolist() == ["+"] * 3
        assert loaded.coverage.left_out == {"no gene at the variant (strand not known)": 1}
        counts = deep_intronic.classes_by_source(loaded)
        assert counts.shape == (3, 4)

    def test_bad_outcome(self, files: dict[str, str], tmp_path: Path, sequence: str) -> None:
        with pytest.raises(InputError, match=r"unknown Affects_splicing 'MAYBE' in .*line 2"):
            self.load(files, tmp_path, sequence, Affects_splicing=["maybe", "TRUE", "TRUE", "TRUE"])


class TestBrca1:
    def load(self, files: dict[str, str], tmp_path: Path, sequence: str, **changes: Any) -> Any:
        places = [3010, 3020, 3030, 3040]
        rows = pd.DataFrame(
            {
                "gene": "BRCA1", "chromosome": "2", "position (hg19)": places,
                "reference": [sequence[pos - 1] for pos in places],
                "alt": ["A" if sequence[pos - 1] != "A" else "C" for pos in places],
                "transcript_variant": list("abcd"), "consequence": ["Missense", "Nonsense", "Synonymous", "Intronic"],
                "func.class": "FUNC", "experiment": "X2", "rna.score.1": [-2.5, -3.0, 0.1, ""],
                "rna.score.2": [-2.3, -3.0, 0.1, ""], "mean.rna.score": [-2.4, -3.0, 0.1, ""],
            }
        ).assign(**changes)  # fmt: skip
        path = tmp_path / "brca1.xlsx"
        with pd.ExcelWriter(path) as writer:
            rows.to_excel(writer, index=False, startrow=2)
        return brca1_sge.load(build="GRCh37", path=str(path), **files)

    def test_nonsense_variants_get_no_class(self, files: dict[str, str], tmp_path: Path, sequence: str) -> None:
        loaded = self.load(files, tmp_path, sequence)
        assert loaded.variants["classification"].tolist() == ["Splice-altering", "Low-frequency", "Normal"]
        assert loaded.variants["strand"].tolist() == ["-"] * 3
        assert loaded.coverage.left_out == {brca1_sge.NO_SCORE: 1}
        assert loaded.variants["acceptor_pos"].tolist() == [3100] * 3

    def test_malformed_score_names_its_row(self, files: dict[str, str], tmp_path: Path, sequence: str) -> None:
        with pytest.raises(InputError, match=r"line 5: mean\.rna\.score is 'high'"):
            self.load(files, tmp_path, sequence, **{"mean.rna.score": [0, "high", 0, 0]})

    def test_no_excel_file(self, files: dict[str, str], tmp_path: Path) -> None:
        path = tmp_path / "brca1.xlsx"
        path.write_text("hello")
        with pytest.raises(IntegrityError, match=r"brca1\.xlsx is .*of another kind .*; give the authors' Excel file"):
            brca1_sge.load(path=str(path), **files)


class TestSplicevardb:
    def test_nothing_stands_in_for_the_users_download(self) -> None:
        with pytest.raises(MissingResourceError, match=r"data\.options\.path .*; or use .* splicevardb-open"):
            load_dataset("splicevardb")
        with pytest.raises(InputError, match="data set splicevardb: no file at nowhere"):
            load_dataset("splicevardb", path="nowhere")

    def test_the_users_download(self, files: dict[str, str], tmp_path: Path, sequence: str) -> None:
        ref = sequence[549]
        alt = "A" if ref != "A" else "C"
        path = tmp_path / "svdb.tsv"
        path.write_text(
            "variant_id\thg19\thg38\tgene\thgvs\tmethod\tclassification\tlocation\tdoi\n"
            f'1\t"2-550-{ref}-{alt}"\t"2-9-A-C"\t"PLUS"\t""\t"RT-PCR"\t"Splice-altering"\t"Exonic"\t"10.1/x"\n'
        )
        loaded = load_dataset("splicevardb", path=str(path), build="hg19", **files)
        assert loaded.coverage.used == 1
        assert loaded.variants["genome_pos"].tolist() == [550]
        assert dict(loaded.options) == {"build": "GRCh37"}
        assert splicevardb.label_as_downloaded("Normal") == "Normal"


def test_wrong_genome_build_is_refused(files: dict[str, str], tmp_path: Path, sequence: str) -> None:
    far = tmp_path / "far.fa.gz"
    far.write_bytes(gzip.compress(b">chr21:48000001-48000004\nACGT\n"))
    path = tmp_path / "variants.csv"
    path.write_text(TestCispliceaiValidated.HEADER)
    with pytest.raises(InputError, match="is not GRCh38: its chr21"):
        cispliceai_validated.load(path=str(path), genome=str(far), annotation=files["annotation"])


REAL = [
    ("mfass", {"context": "construct"}, 23_966, {"Splice-altering": 940, "Normal": 8_661, "Low-frequency": 14_365}),
    ("mapsy", {"context": "construct"}, 4_465, {"Splice-altering": 403, "Normal": 962, "Low-frequency": 3_100}),
    ("brca1-sge", {}, 2_743, {"Splice-altering": 65, "Normal": 2_163, "Low-frequency": 515}),
    ("cispliceai-validated", {}, 991, {"Splice-altering": 471, "Normal": 520}),
    ("deep-intronic", {}, 485, {"Splice-altering": 274, "Normal": 189, "Unknown": 22}),
    (
        "splicevardb-open",
        {},
        9_435,
        {"Splice-altering": 1_228, "Normal": 3_754, "Low-frequency": 4_440, "Conflicting": 13},
    ),
]


@pytest.mark.slow
@pytest.mark.quickstart
@pytest.mark.parametrize(("name", "options", "used", "classes"), REAL, ids=[case[0] for case in REAL])
def test_the_registered_copies(
    mirror: Path, name: str, options: dict[str, str], used: int, classes: dict[str, int]
) -> None:
    loaded = load_dataset(name, **options)
    assert loaded.coverage.read == loaded.dataset.rows
    assert loaded.coverage.used == len(loaded.variants) == used
    assert loaded.variants["classification"].value_counts().to_dict() == classes
    assert loaded.coverage.left_out.get("reference mismatch", 0) <= 1
    if name == "mfass":
        windows = build_windows(loaded.variants.iloc[:500], loaded.genome, 171)
        assert (windows.real_bases <= 170).all()
        row = loaded.variants.iloc[0]
        assert decode(loaded.genome.fetch(row["chrom"], row["acceptor_pos"] - 3, row["acceptor_pos"] - 1)) == "AG"
