from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from meta_spliceai.datasets.human import source_file
from meta_spliceai.datasets.splicevardb import DATASET, read_splicevardb
from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.packed import RegionFasta
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.variants.alleles import check_reference, merge_alleles
from meta_spliceai.splice_engine.variants.table import Coverage, as_variant_table

HEADER = "variant_id\thg19\thg38\tgene\thgvs\tmethod\tclassification\tlocation\tdoi\n"


def line(name: str, hg38: str, label: str = "Normal", hg19: str = "", gene: str = "", method: str = "RT-PCR") -> str:
    return f'{name}\t"{hg19}"\t"{hg38}"\t"{gene}"\t""\t"{method}"\t"{label}"\t"Exonic"\t"10.1/a,10.1/a,10.1/b"\n'


@pytest.fixture
def annotation() -> GeneAnnotation:
    return GeneAnnotation(
        [
            Gene("PLUS", "chr1", "+", 100, 500, ((100, 200), (300, 400), (450, 500))),
            Gene("MINUS", "chr1", "-", 390, 900, ((390, 420), (600, 700), (800, 900))),
            Gene("OTHER", "chr2", "-", 0, 1000, ((0, 1000),)),
        ],
        build="GRCh38",
        name="toy genes",
    )


def read(path: Path, build: str, annotation: GeneAnnotation) -> tuple[pd.DataFrame, Coverage]:
    """The table with alleles merged."""
    frame, coverage = read_splicevardb(source_file(DATASET, path), build, annotation)
    table, merging = merge_alleles(as_variant_table(frame, str(path)), str(path))
    return table, coverage.then(merging)


def put(tmp_path: Path, *lines: str, header: str = HEADER) -> Path:
    path = tmp_path / "svdb.tsv"
    path.write_text(header + "".join(lines))
    return path


def test_reads_alleles_strand_and_exon(tmp_path: Path, annotation: GeneAnnotation) -> None:
    path = put(
        tmp_path,
        line("1", "1-310-CTGT-C", "Splice-altering", method="Minigene Assay,RT-PCR,RT-PCR"),
        line("2", "chr1-650-a-ag"),
        line("3", "2-5-A-T"),
        line("4", "7-5-A-T"),
        line("5", ""),
    )
    table, coverage = read(path, "hg38", annotation)
    assert table["variant_id"].tolist() == ["1", "2", "3"]
    assert table[["chrom", "pos", "ref", "alt", "strand", "gene"]].to_numpy().tolist() == [
        ["1", 310, "CTGT", "C", "+", "PLUS"],
        ["chr1", 650, "A", "AG", "-", "MINUS"],
        ["2", 5, "A", "T", "-", "OTHER"],
    ]
    assert table["acceptor_pos"].astype(object).where(table["acceptor_pos"].notna(), None).tolist() == [301, 700, None]
    assert table["donor_pos"].astype(object).where(table["donor_pos"].notna(), None).tolist() == [400, 601, None]
    assert table["method"][0] == "Minigene Assay,RT-PCR"
    assert table["source"][0] == "10.1/a,10.1/b"
    assert coverage.left_out == {
        "no coordinate in this build": 1,
        "no gene at the variant (strand not known)": 1,
    }
    assert coverage.examples["no gene at the variant (strand not known)"] == ["line 5: 4"]


def test_gene_named_in_the_file_decides_where_genes_overlap(tmp_path: Path, annotation: GeneAnnotation) -> None:
    path = put(tmp_path, line("1", "1-398-A-T", gene="MINUS"), line("2", "1-399-A-T"), line("3", "1-421-A-T", gene="?"))
    table, _ = read(path, "hg38", annotation)
    assert table["gene"].tolist() == ["MINUS", "PLUS", "MINUS"]


def test_equally_near_genes_of_both_strands_are_left_out(tmp_path: Path) -> None:
    both = GeneAnnotation(
        [Gene("P", "1", "+", 0, 100, ((0, 50), (80, 100))), Gene("M", "1", "-", 0, 100, ((0, 50), (80, 100)))],
        build="GRCh38",
        name="toy",
    )
    table, coverage = read(put(tmp_path, line("1", "1-40-A-T")), "hg38", both)
    assert table.empty
    assert coverage.left_out == {"genes on both strands equally near (strand not known)": 1}


def test_both_builds(tmp_path: Path, annotation: GeneAnnotation) -> None:
    path = put(tmp_path, line("1", "1-310-C-T", hg19="1-650-C-T"))
    old = GeneAnnotation(annotation.genes, build="GRCh37", name="toy genes")
    assert read(path, "GRCh37", old)[0]["pos"].tolist() == [650]


def test_same_allele_twice_is_one_row(tmp_path: Path, annotation: GeneAnnotation) -> None:
    path = put(
        tmp_path,
        line("1", "1-310-C-T", "Normal", method="MFASS"),
        line("2", "chr1-310-C-T", "Normal", method="MaPSy"),
        line("3", "1-311-C-T", "Normal"),
        line("4", "1-310-CC-CT", "Splice-altering"),
    )
    table, coverage = read(path, "hg38", annotation)
    assert table["variant_id"].tolist() == ["1", "3"]
    assert table["classification"].tolist() == ["Normal", "Conflicting"]
    assert table["method"].tolist() == ["MFASS,MaPSy", "RT-PCR"]
    assert table["measurements"].tolist() == [2, 2]
    assert coverage.left_out == {"same allele as another row (merged with it)": 2}
    assert coverage.used == 2


@pytest.mark.parametrize(
    "coordinate", ["1-310-C", "1:310-C-T", "1-x-C-T", "1-0-C-T", "1-310-C-N", "1-310-C-<DEL>", "1--5-C-T", "1-310--T"]
)
def test_malformed_coordinates_name_their_line(tmp_path: Path, annotation: GeneAnnotation, coordinate: str) -> None:
    path = put(tmp_path, line("1", "1-310-C-T"), line("2", coordinate))
    with pytest.raises(InputError, match=r"svdb\.tsv, line 3: hg38 is .*, expected chrom-pos-ref-alt"):
        read(path, "hg38", annotation)


def test_unknown_class_names_line_and_choices(tmp_path: Path, annotation: GeneAnnotation) -> None:
    path = put(tmp_path, line("1", "1-310-C-T"), line("2", "1-311-C-T", "Splice altering"))
    with pytest.raises(InputError, match=r"'Splice altering' in .*line 3; did you mean Splice-altering"):
        read(path, "hg38", annotation)


def test_missing_column_missing_file_and_no_table(tmp_path: Path, annotation: GeneAnnotation) -> None:
    with pytest.raises(InputError, match="column hg38 missing; found variant_id, hg19"):
        read(put(tmp_path, header=HEADER.replace("hg38", "GRCh38")), "hg38", annotation)
    with pytest.raises(InputError, match="data set splicevardb: no file at"):
        read(tmp_path / "absent.tsv", "hg38", annotation)
    with pytest.raises(InputError, match="is no table of the expected format"):
        read(put(tmp_path, header=""), "hg38", annotation)


def test_duplicated_names(tmp_path: Path, annotation: GeneAnnotation) -> None:
    path = put(tmp_path, line("1", "1-310-C-T"), line("1", "1-311-C-T"))
    with pytest.raises(InputError, match=r"bad variant_id, first at row 2 .*names must be unique"):
        read(path, "hg38", annotation)


def test_empty_table_is_no_error(tmp_path: Path, annotation: GeneAnnotation) -> None:
    table, coverage = read(put(tmp_path), "hg38", annotation)
    assert len(table) == coverage.read == 0
    assert check_reference(table, MemoryGenome({"1": "A"}, "GRCh38", "toy"))[0].empty


@pytest.mark.quickstart
@pytest.mark.parametrize(("build", "genes", "fasta"), [("hg19", "grch37", "hg19"), ("hg38", "grch38", "hg38")])
def test_real_rows_of_the_download_in_both_builds(mirror: Path, build: str, genes: str, fasta: str) -> None:
    path = mirror / "data" / "splicevardb_format" / "sample_real_rows.tsv"
    table, coverage = read(path, build, GeneAnnotation.named(genes))
    assert coverage.used == coverage.read == 10
    assert set(table["gene"]) == {"BRCA2"}
    assert (table["ref"].str.len() > 1).sum() == 3
    genome = RegionFasta(mirror / "data" / "genome" / f"{fasta}_regions.fa.gz", genes.replace("grch", "GRCh"))
    kept, checked = check_reference(table, genome)
    assert (len(kept), checked.left_out) == (10, {})


@pytest.mark.quickstart
def test_the_wrong_build_is_noticed_on_real_rows(mirror: Path) -> None:
    path = mirror / "data" / "splicevardb_format" / "open_sources.tsv"
    table, _ = read(path, "hg38", GeneAnnotation.named("grch38"))
    genome = RegionFasta(mirror / "data" / "genome" / "hg19_regions.fa.gz", "GRCh37")
    with pytest.raises(InputError, match="looks like another build than GRCh37"):
        check_reference(table, genome)
