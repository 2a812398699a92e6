"""Data sets read from made-up originals: places and alleles are those of the genome they were cut from, and neither
line ends nor compression nor blank lines change a row or the line that a message names."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.datasets import mapsy, mfass
from meta_spliceai.datasets.human import numbers, read_rows, source_file, whole_numbers
from meta_spliceai.datasets.splicevardb import COLUMNS, DATASET, read_splicevardb
from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import decode, encode, reverse_complement
from tests.properties import quick

QUICK = quick(15)
BASES = "".join(np.random.default_rng(6).choice(list("ACGT"), 1200))
OTHER = dict(zip("ACGT", "CGTA", strict=True))
ADAPTERS = "AATTGGCCAATTGGC", "GGCCTTAAGGCCTTA"


def turned(bases: str) -> str:
    return decode(reverse_complement(encode(bases)))


def along(start: int, end: int, strand: str) -> str:
    """The contig's bases from one 1-based place to another, in transcript orientation."""
    cut = BASES[start - 1 : end]
    return cut if strand == "+" else turned(cut)


def written(folder: Path, text: str, name: str = "in.tsv", **form: bool) -> Path:
    """A file as different programs would have saved it."""
    raw = text.replace("\n", "\r\n") if form.get("crlf") else text
    coded = (b"\xef\xbb\xbf" if form.get("mark") else b"") + raw.encode()
    path = folder / name
    path.write_bytes(gzip.compress(coded) if form.get("packed") else coded)
    return path


# -------------------------------------------------------------------------------------------------------- reporters

EXONS = st.tuples(
    st.integers(160, 900),  # first base on the plus strand
    st.integers(30, 90),  # bases of the exon
    st.integers(16, 40),  # bases before it, in transcript orientation
    st.sampled_from("+-"),
    st.floats(0, 0.999),  # where in the construct the changed base lies
)

FORMS = st.fixed_dictionaries({"crlf": st.booleans(), "mark": st.booleans(), "packed": st.booleans()})


def mapsy_line(number: int, exon: tuple[int, int, int, str, float]) -> tuple[list[str], tuple[int, str, str, str]]:
    """A line of the original, and the place and plus-strand alleles that it means."""
    first, length, before, strand, share = exon
    last, behind = first + length - 1, 170 - before - length
    start, end = (first - before, last + behind) if strand == "+" else (first - behind, last + before)
    wild = along(start, end, strand)
    at = int(share * 170)
    mutant = wild[:at] + OTHER[wild[at]] + wild[at + 1 :]
    acceptor, donor = wild[before - 15 : before], wild[before + length : before + length + 15]
    counts = ["100"] * 8
    fields = [f"v{number}", ADAPTERS[0] + wild + ADAPTERS[1], ADAPTERS[0] + mutant + ADAPTERS[1], "chr1", strand]
    fields += [str(first), str(last), acceptor, donor, "1", "-1.5", "-1.0", *counts]
    pos = start + at if strand == "+" else end - at
    ref, alt = (BASES[pos - 1], OTHER[wild[at]] if strand == "+" else turned(OTHER[wild[at]]))
    return fields, (pos, ref, alt, strand)


@QUICK
@given(st.lists(EXONS, min_size=1, max_size=5), FORMS, st.sampled_from("\t,"))
def test_mapsy_places_a_change_where_the_genome_has_its_base(
    tmp_path_factory: pytest.TempPathFactory, exons: list[tuple], form: dict[str, bool], separator: str
) -> None:
    made = [mapsy_line(number, exon) for number, exon in enumerate(exons)]
    text = "\n".join(separator.join(line) for line in [list(mapsy.COLUMNS), *(fields for fields, _ in made)]) + "\n"
    if form["packed"]:
        form = {**form, "packed": False}  # the separator is looked for in the plain file
    path = written(tmp_path_factory.mktemp("mapsy"), text, **form)
    table, coverage = mapsy.read_variants(source_file(mapsy.DATASET, path))
    assert coverage.used == len(made)
    for (_, row), (_, (pos, ref, alt, strand)), exon in zip(table.iterrows(), made, exons, strict=True):
        first, length, before, _, share = exon
        assert (row["pos"], row["ref"], row["alt"], row["strand"]) == (pos, ref, alt, strand)
        assert row["classification"] == "Splice-altering"
        low, high = first, first + length - 1
        assert (row["exon_acceptor"], row["exon_donor"]) == ((low, high) if strand == "+" else (high, low))
        assert (row["exon_first"], row["construct_pos"]) == (before, int(share * 170))
        exon_bases = row["construct_sequence"][before : before + length]
        assert exon_bases == along(low, high, strand)


def mfass_line(number: int, exon: tuple[int, int, int, str, float]) -> tuple[list[str], tuple[int, int, int]]:
    """A line of the original, and the place and the exon's sites that it means."""
    first, length, before, strand, share = exon
    last, behind = first + length - 1, 170 - before - length
    start, end = (first - before, last + behind) if strand == "+" else (first - behind, last + before)
    pos = start + int(share * 170)
    lengths = (before, behind) if strand == "+" else (behind, before)
    fields = dict.fromkeys(mfass.COLUMNS, "") | {
        "id": f"v{number}",
        "ensembl_id": f"e{number}",
        "category": "mutant",
        "chr": "chr1",
        "start": str(start),
        "end": str(end),
        "strand": strand,
        "intron1_len": str(lengths[0]),
        "exon_len": str(length),
        "intron2_len": str(lengths[1]),
        "ref_allele": BASES[pos - 1],
        "alt_allele": OTHER[BASES[pos - 1]],
        "snp_position": str(pos),
        "natural_seq": along(start, end, strand),
        "label": "exon",
        "v2_dpsi": "-0.7",
        "v2_dpsi_R1": "-0.6",
        "v2_dpsi_R2": "NA",
        "v2_index": "0.2",
        "nat_v2_index": "0.9",
    }
    sites = (first, last) if strand == "+" else (last, first)
    return [fields[name] for name in mfass.COLUMNS], (pos, *sites)


@QUICK
@given(st.lists(EXONS, min_size=1, max_size=5), FORMS, st.integers(0, 5))
def test_mfass_shows_the_same_base_in_its_construct_and_on_the_genome(
    tmp_path_factory: pytest.TempPathFactory, exons: list[tuple], form: dict[str, bool], others: int
) -> None:
    """Also where controls and unmeasured rows stand between."""
    made = [mfass_line(number, exon) for number, exon in enumerate(exons)]
    lines = [fields for fields, _ in made]
    for number in range(others):
        fields, _ = mfass_line(100 + number, exons[0])
        changed = {"category": "control"} if number % 2 else {"v2_dpsi": "NA"}
        values = dict(zip(mfass.COLUMNS, fields, strict=True)) | changed
        lines.insert(number, list(values.values()))
    text = "\n".join("\t".join(line) for line in [list(mfass.COLUMNS), *lines]) + "\n"
    path = written(tmp_path_factory.mktemp("mfass"), text, **form)
    table, coverage = mfass.read_mutants(source_file(mfass.DATASET, path))
    assert (coverage.read, coverage.used) == (len(lines), len(made))
    assert sum(coverage.left_out.values()) == others
    for (_, row), (_, (pos, acceptor, donor)) in zip(table.iterrows(), made, strict=True):
        assert (row["pos"], row["exon_acceptor"], row["exon_donor"]) == (pos, acceptor, donor)
        there = row["construct_sequence"][row["construct_pos"]]
        assert (there if row["strand"] == "+" else turned(there)) == row["ref"] == BASES[pos - 1]
        exon = row["construct_sequence"][row["exon_first"] :][: abs(donor - acceptor) + 1]
        assert exon == along(min(acceptor, donor), max(acceptor, donor), row["strand"])


# ------------------------------------------------------------------------------------------------------ tables as text

GENES = GeneAnnotation(
    [
        Gene("UP", "1", "+", 20, 400, ((20, 60), (150, 220), (350, 400))),
        Gene("DOWN", "1", "-", 300, 900, ((300, 420), (600, 700), (800, 900))),
    ],
    "GRCh38",
    "toy genes",
)
ALLELES = st.text("ACGTacgt", min_size=1, max_size=3)
SVDB = st.tuples(
    st.sampled_from(["1", "chr1", "2"]),
    st.integers(1, 1000),
    ALLELES,
    ALLELES,
    st.sampled_from(["Normal", "Splice-altering", "Low-frequency", "Conflicting"]),
    st.sampled_from(["", "UP", "DOWN", "ELSE"]),
)


def svdb_text(rows: list[tuple], columns: tuple[str, ...], quoted: bool) -> str:
    mark = '"' if quoted else ""
    lines = ["\t".join(columns)]
    for number, (chrom, pos, ref, alt, label, gene) in enumerate(rows):
        fields = dict.fromkeys(COLUMNS, "") | {
            "variant_id": str(number),
            "hg38": f"{chrom}-{pos}-{ref}-{alt}",
            "gene": gene,
            "classification": label,
            "method": "MFASS, RT-PCR,MFASS",
            "doi": "10.1/a",
            "location": "Exonic",
        }
        lines.append("\t".join(f"{mark}{fields[name]}{mark}" for name in columns))
    return "\n".join([*lines, ""])


@QUICK
@given(st.lists(SVDB, min_size=1, max_size=8), FORMS, st.permutations(list(COLUMNS)), st.booleans())
def test_splicevardb_is_read_alike_however_it_was_saved(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple],
    form: dict[str, bool],
    order: list[str],
    quoted: bool,
) -> None:
    folder = tmp_path_factory.mktemp("svdb")
    plain = written(folder, svdb_text(rows, COLUMNS, False), "plain.tsv")
    other = written(folder, svdb_text(rows, tuple(order), quoted), "other.tsv", **form)
    table, coverage = read_splicevardb(source_file(DATASET, plain), "GRCh38", GENES)
    again, account = read_splicevardb(source_file(DATASET, other), "GRCh38", GENES)
    pd.testing.assert_frame_equal(table, again)
    assert coverage.to_json() == account.to_json()
    assert coverage.used == len(table)
    for _, row in table.iterrows():
        chrom, pos, ref, alt, label, gene = rows[int(row["variant_id"])]
        assert (row["chrom"], row["pos"], row["ref"], row["alt"]) == (chrom, pos, ref.upper(), alt.upper())
        over = GENES.overlapping(chrom, pos)
        assert row["gene"] in {one.name for one in over}
        assert row["gene"] == gene or gene not in {one.name for one in over}
        assert row["strand"] == GENES.gene(row["gene"]).strand
        assert (row["classification"], row["method"]) == (label, "MFASS,RT-PCR")
    left = [at for at, row in enumerate(rows) if str(at) not in set(table["variant_id"])]
    assert sum(coverage.left_out.values()) == len(left)


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("blank", ["", "  "])
def test_a_message_names_the_line_that_an_editor_shows(tmp_path: Path, before: int, blank: str) -> None:
    """Blank lines count as an editor counts them."""
    text = svdb_text([("1", 30, "A", "C", "Normal", "")] * 2, COLUMNS, False)
    head, first, second, _ = text.split("\n")
    lines = [head, first, *[blank] * before, second.replace("1-30-A-C", "1-thirty-A-C"), ""]
    path = written(tmp_path, "\n".join(lines))
    with pytest.raises(InputError, match=rf"line {3 + before}: hg38 is '1-thirty-A-C'"):
        read_splicevardb(source_file(DATASET, path), "GRCh38", GENES)


@QUICK
@given(
    st.lists(
        st.integers(-5, 10**13)
        | st.floats(allow_nan=False)
        | st.sampled_from(["", "NA", "x", "1e3", "٣", "0x1F", "1_000"]),
        min_size=1,
        max_size=5,
    )
)
def test_a_column_of_numbers_is_read_whole_or_its_first_bad_value_is_named(values: list[object]) -> None:
    texts = [str(value) for value in values]
    rows = pd.DataFrame({"n": texts}, index=range(2, len(texts) + 2))

    def number(text: str) -> float | None:
        try:
            return float(text) if text.isascii() and "_" not in text else None
        except ValueError:
            return None

    missing = [text in ("", "NA", "nan") for text in texts]
    bad = [place for place, text in enumerate(texts) if not missing[place] and number(text) is None]
    if bad:
        with pytest.raises(InputError, match=rf"in.tsv, line {bad[0] + 2}: n is"):
            numbers(rows, "n", "in.tsv")
    else:
        found = numbers(rows, "n", "in.tsv")
        assert found.isna().tolist() == missing
        assert [float(one) for one in found.dropna()] == pytest.approx(
            [number(text) for text, none in zip(texts, missing, strict=True) if not none]
        )
    whole = [place for place, text in enumerate(texts) if not _is_place(number(text))]
    if whole:
        with pytest.raises(InputError, match=r"in.tsv, line \d+: n is .*expected a 1-based coordinate"):
            whole_numbers(rows, "n", "in.tsv")
    else:
        assert whole_numbers(rows, "n", "in.tsv").tolist() == [int(float(text)) for text in texts]


def _is_place(value: float | None) -> bool:
    return value is not None and 1 <= value < 10**12 and value % 1 == 0


@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        (b"", InputError, "no table"),
        (b"a\tb\n1\t2\n", InputError, "column c missing; found a, b"),
        (b"a\tb\tc\ta\n1\t2\t3\t4\n", InputError, "column a stands more than once"),
        (b"a\tb\tc\n\xff\xfe\t2\t3\n", IntegrityError, "line 2"),
        (gzip.compress(b"a\tb\tc\n1\t2\t3\n")[:-6], IntegrityError, "truncated"),
        (b'a\tb\tc\n1\t2\t"3\n4\t5\t6\n', InputError, "EOF inside string"),
    ],
)
def test_a_file_that_is_no_such_table_is_one_error(
    tmp_path: Path, raw: bytes, kind: type[Exception], said: str
) -> None:
    path = tmp_path / "in.tsv"
    path.write_bytes(raw)
    with pytest.raises(kind, match=said):
        numbers(read_rows(source_file(DATASET, path), "\t", ("a", "b", "c")), "a", str(path))
