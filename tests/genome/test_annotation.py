"""Genes from tables and GTF, and the exon a variant tests."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from meta_spliceai.errors import InputError, IntegrityError, MissingExtraError
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation, nearest_exon

HEADER = "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END"
PLUS = "UP\t1\t+\t100\t400\t100,200,300,\t150,250,400,"
MINUS = "DOWN\t1\t-\t350\t900\t350,500,800,\t420,600,900,"


def table(folder: Path, *lines: str) -> Path:
    path = folder / "annotation.txt"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def read(folder: Path, *lines: str) -> GeneAnnotation:
    return GeneAnnotation.from_spliceai_table(table(folder, *lines), "GRCh38")


def test_a_table_row_becomes_half_open_coordinates(tmp_path: Path) -> None:
    gene = read(tmp_path, PLUS).gene("UP")
    assert gene == Gene("UP", "1", "+", 100, 400, ((100, 150), (200, 250), (300, 400)))


def test_splice_sites_follow_the_strand_and_leave_transcription_ends_out(tmp_path: Path) -> None:
    annotation = read(tmp_path, PLUS, MINUS)
    assert annotation.gene("UP").acceptors() == (201, 301)
    assert annotation.gene("UP").donors() == (150, 250)
    # On the minus strand an exon's first base in transcript order is its last one on the plus strand.
    assert annotation.gene("DOWN").acceptors() == (600, 420)
    assert annotation.gene("DOWN").donors() == (801, 501)
    assert annotation.gene("DOWN").boundaries().tolist() == [351, 420, 501, 600, 801, 900]


@pytest.mark.parametrize(
    ("pos", "names"),
    [
        (100, []),
        (101, ["UP"]),
        (351, ["UP", "DOWN"]),
        (400, ["UP", "DOWN"]),
        (401, ["DOWN"]),
        (900, ["DOWN"]),
        (901, []),
    ],
)
def test_overlap_is_one_based_and_inclusive_at_both_ends(tmp_path: Path, pos: int, names: list[str]) -> None:
    annotation = read(tmp_path, PLUS, MINUS)
    for chrom in ("1", "chr1"):
        assert [gene.name for gene in annotation.overlapping(chrom, pos)] == names
    assert annotation.overlapping("chr2", pos) == []


def test_mitochondrion_is_found_under_either_name(tmp_path: Path) -> None:
    annotation = read(tmp_path, "MT-X\tMT\t+\t10\t20\t10,\t20,")
    assert [gene.name for gene in annotation.overlapping("chrM", 11)] == ["MT-X"]


def test_within_finds_genes_that_share_a_base(tmp_path: Path) -> None:
    annotation = read(tmp_path, PLUS, MINUS)
    assert [gene.name for gene in annotation.within("1", 0, 100)] == []
    assert [gene.name for gene in annotation.within("1", 0, 101)] == ["UP"]
    assert [gene.name for gene in annotation.within("1", 399, 400)] == ["UP", "DOWN"]


def test_an_unknown_gene_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'DONW'.*DOWN"):
        read(tmp_path, PLUS, MINUS).gene("DONW")


def test_a_name_that_stands_twice_asks_for_the_region(tmp_path: Path) -> None:
    annotation = read(tmp_path, PLUS, PLUS.replace("\t1\t", "\tX\t"))
    with pytest.raises(InputError, match="2 times"):
        annotation.gene("UP")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (PLUS.replace("+", "?"), r"line 2 \(UP\).*strand '\?'"),
        (PLUS.replace("150,250,400,", "150,250,"), "3 exon starts but 2 exon ends"),
        (PLUS.replace("150,250,400,", "150,250,401,"), "exon 300-401"),
        (PLUS.replace("\t400\t", "\t4e2\t"), "TX_END '4e2'"),
        (PLUS.replace("\t100\t400\t", "\t400\t100\t"), "not after its start"),
        ("UP\t1\t+", "3 fields"),
    ],
)
def test_a_line_that_cannot_be_right_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, line)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("#NAME\tCHROM\nA\t1\n")
    with pytest.raises(InputError, match="STRAND, TX_START"):
        GeneAnnotation.from_spliceai_table(path, "GRCh38")


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no gene"):
        read(tmp_path)


def gtf_exon(gene: str, transcript: str, start: int, end: int, strand: str = "+", extra: str = "") -> str:
    names = f'gene_id "{gene}"; transcript_id "{transcript}"; gene_name "N{gene}";{extra}'
    return f"chr1\thavana\texon\t{start}\t{end}\t.\t{strand}\t.\t{names}"


def test_gtf_prefers_the_marked_transcript_and_shifts_starts(tmp_path: Path) -> None:
    path = tmp_path / "a.gtf"
    path.write_text(
        "\n".join(
            [
                "#!genome-build GRCh38",
                'chr1\thavana\tgene\t1\t9000\t.\t+\t.\tgene_id "G";',
                gtf_exon("G", "long", 1, 5000),
                gtf_exon("G", "mane", 301, 400, extra=' tag "basic"; tag "MANE_Select";'),
                gtf_exon("G", "mane", 101, 200, extra=' tag "basic"; tag "MANE_Select";'),
                gtf_exon("H", "short", 1001, 1010, "-"),
                gtf_exon("H", "longer", 1001, 1100, "-"),
            ]
        )
    )
    annotation = GeneAnnotation.from_gtf(path, "GRCh38")
    assert annotation.gene("NG") == Gene("NG", "chr1", "+", 100, 400, ((100, 200), (300, 400)))
    assert annotation.gene("NH").exons == ((1000, 1100),)


def test_gzipped_files_are_read_and_truncated_ones_refused(tmp_path: Path) -> None:
    whole = gzip.compress(
        ("\n".join([HEADER, PLUS, MINUS] + [MINUS.replace("DOWN", f"D{i}") for i in range(500)]) + "\n").encode()
    )
    path = tmp_path / "a.txt.gz"
    path.write_bytes(whole)
    assert len(GeneAnnotation.named(str(path))) == 502
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="truncated"):
        GeneAnnotation.named(str(path))


def test_kind_of_a_file_is_seen_from_its_first_line(tmp_path: Path) -> None:
    assert GeneAnnotation.named(str(table(tmp_path, PLUS))).gene("UP").start == 100
    gtf = tmp_path / "x.txt"
    gtf.write_text(gtf_exon("G", "t", 11, 20) + "\n")
    assert GeneAnnotation.named(str(gtf)).gene("NG").start == 10
    binary = tmp_path / "x.bin"
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(IntegrityError, match=r"x\.bin, line 1, is .* of another kind"):
        GeneAnnotation.named(str(binary))


def test_an_unknown_annotation_lists_the_choices() -> None:
    with pytest.raises(InputError, match=r"'grch39'.*grch38.*GTF"):
        GeneAnnotation.named("grch39")


def test_equal_content_has_an_equal_digest_and_other_content_another(tmp_path: Path) -> None:
    one = read(tmp_path, PLUS).digest
    assert one == read(tmp_path, PLUS.replace("\t1\t", "\tchr1\t")).digest
    assert one != read(tmp_path, PLUS.replace("\t100\t", "\t99\t")).digest


@pytest.mark.quickstart
@pytest.mark.parametrize(("name", "count"), [("grch37", 20274), ("grch38", 19305)])
def test_packaged_tables_are_read_whole(name: str, count: int) -> None:
    try:
        annotation = GeneAnnotation.named(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert len(annotation) == count
    assert annotation.build == {"grch37": "GRCh37", "grch38": "GRCh38"}[name]
    gene = annotation.gene("OR4F5")
    assert (gene.start, gene.end, gene.strand) == (69090, 70008, "+")


@pytest.mark.parametrize(
    "text",
    [
        "##gff-version 3\n",
        "##gff-version   3.1.26\n",
        "#!genome-build GRCh38\nchr1\tHAVANA\tgene\t5\t9\t.\t+\t.\tID=ENSG1;gene_name=X\n",
        "1\thavana\texon\t5\t9\t.\t+\t.\tParent=transcript:ENST1;exon_id=ENSE1\n",
    ],
)
def test_gff3_is_named_as_such(tmp_path: Path, text: str) -> None:
    path = tmp_path / "genes.gff3"
    path.write_text(text)
    with pytest.raises(InputError, match=r"line [12]: this is GFF3, .*gffread genes\.gff3 -T -o genes\.gtf"):
        GeneAnnotation.named(str(path))


EXONS = ((100, 200), (300, 310), (900, 1000))


@pytest.mark.parametrize(
    ("pos", "acceptor", "donor", "distance"),
    [
        (150, None, 200, 49),  # within an exon
        (201, None, 200, 1),
        (251, 301, 310, 50),
        (305, 301, 310, 4),
        (600, 301, 310, 290),
        (610, 901, None, 291),
        (50, None, 200, 51),
    ],
)
def test_plus_strand(pos: int, acceptor: int | None, donor: int | None, distance: int) -> None:
    exon, found = nearest_exon(Gene("g", "1", "+", 100, 1000, EXONS), pos)
    assert (exon.acceptor, exon.donor, found) == (acceptor, donor, distance)


@pytest.mark.parametrize(("pos", "acceptor", "donor"), [(150, 200, None), (305, 310, 301), (950, None, 901)])
def test_minus_strand(pos: int, acceptor: int | None, donor: int | None) -> None:
    exon, _ = nearest_exon(Gene("g", "1", "-", 100, 1000, EXONS), pos)
    assert (exon.acceptor, exon.donor) == (acceptor, donor)


def test_within_a_long_exon_no_near_neighbour_is_preferred() -> None:
    gene = Gene("g", "1", "+", 0, 2000, ((0, 100), (110, 2000)))
    assert nearest_exon(gene, 1000)[0].acceptor == 111
