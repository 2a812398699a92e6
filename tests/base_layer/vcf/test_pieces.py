"""Pieces of an input: together they are the whole of it, cut where neighbourhoods end, and merged to the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.base_layer.vcf import bgzf, pieces, text
from meta_spliceai.splice_engine.base_layer.vcf.pieces import Cut, Stretches, merge_vcfs, seal, take
from meta_spliceai.splice_engine.base_layer.vcf.reader import reopened
from meta_spliceai.splice_engine.base_layer.vcf.score_file import FileScorer
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Unfinished, fill
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome

Make = Callable[..., FileScorer]
Write = Callable[..., Path]
HEAD = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbourhoods and blocks that fit into the toy genome."""
    monkeypatch.setattr(pieces, "NEIGHBOURS", 40)
    monkeypatch.setattr(pieces, "WINDOW", 160)
    monkeypatch.setattr(text, "BLOCK_RECORDS", 20)


@pytest.fixture
def variants(sequence: str, write_vcf: Write) -> Path:
    """400 records on two contigs in order, many of them side by side; on one of the contigs there is no gene."""
    random = np.random.default_rng(7)
    places = [("chr1", pos) for pos in np.sort(random.integers(200, 5900, 300)).tolist()]
    places += [("chr2", pos) for pos in np.sort(random.integers(200, 5900, 100)).tolist()]
    header = '##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">'
    return write_vcf(*[(contig, pos, sequence[pos - 1], "N", "DP=3") for contig, pos in places], header=header)


def records(path: Path) -> list[bytes]:
    return [line for _, line in reopened(str(path)).rows]


def taken(path: Path, cut: Cut, genes: GeneAnnotation | None, genome: MemoryGenome) -> tuple[list[bytes], list[str]]:
    """The lines of a piece, and what its header says."""
    source = reopened(str(path))
    lines = take(source, lambda: reopened(str(path)), str(path), cut, genes, genome)
    return [line for _, line in source.rows], lines


def scored(path: Path, out: Path, cut: Cut, scorer: FileScorer) -> Path:
    """A piece scored, as the command does."""
    source = reopened(str(path))
    said = take(source, lambda: reopened(str(path)), str(path), cut, scorer.annotation, scorer.genome)
    with Unfinished(out) as unfinished:
        packed = out.suffix == ".gz"
        fill(source, scorer, unfinished, packed, ["##made=so", *said], {}, False, None)
        unfinished.put_in_place(partial(seal, packed=packed) if cut.shard is not None else None)
    return out


@pytest.mark.parametrize("of", [1, 2, 5, 13, 1000])
def test_shards_are_the_whole_file_in_its_order(
    variants: Path, annotation: GeneAnnotation, genome: MemoryGenome, of: int
) -> None:
    all_pieces = [taken(variants, Cut(shard=(number, of)), annotation, genome)[0] for number in range(1, of + 1)]
    assert [line for piece in all_pieces for line in piece] == records(variants)


def test_neighbours_stay_together_and_work_is_shared_out(
    variants: Path, annotation: GeneAnnotation, genome: MemoryGenome
) -> None:
    shards = [taken(variants, Cut(shard=(number, 6)), annotation, genome)[0] for number in range(1, 7)]
    places = [[(line.split(b"\t")[0], int(line.split(b"\t")[1])) for line in shard] for shard in shards]
    window, begins, last = 0, (b"", 0), 0
    shard_of: dict[int, set[int]] = {}
    for number, (contig, pos) in ((number, place) for number, shard in enumerate(places) for place in shard):
        if contig != begins[0] or pos - last > 40 or pos - begins[1] > 160:
            window, begins = window + 1, (contig, pos)
        last = pos
        shard_of.setdefault(window, set()).add(number)
    assert window > 30
    assert all(len(numbers) == 1 for numbers in shard_of.values())
    in_genes = [sum(bool(annotation.overlapping("1", p)) for c, p in shard if c == b"chr1") for shard in places]
    # chr2 and what else lies in no gene is next to no work: the last shard takes all of it beside its share.
    assert max(in_genes) < 2 * min(in_genes)
    assert len(shards[-1]) > 100


def test_shards_of_no_records_are_empty(write_vcf: Write, genome: MemoryGenome) -> None:
    assert [taken(write_vcf(), Cut(shard=(number, 2)), None, genome)[0] for number in (1, 2)] == [[], []]


def test_a_cut_lies_between_neighbourhoods(write_vcf: Write, genome: MemoryGenome) -> None:
    """Three clusters, of which the middle one has most records: no cut goes through it."""
    places = [*range(1000, 1010), *range(2000, 2150, 3), *range(3000, 3010)]
    path = write_vcf(*[("chr1", pos, "A", "C") for pos in places])
    found = [[int(line.split(b"\t")[1]) for line in taken(path, Cut(shard=(n, 3)), None, genome)[0]] for n in (1, 2, 3)]
    assert [pos for shard in found for pos in shard] == places
    clusters = [{pos // 1000 for pos in shard} for shard in found]
    assert sum(map(len, clusters)) == 3


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz", ".bcf"])
@pytest.mark.parametrize("regions", [(), ("chr1:1,500-4000", "chr2")])
def test_merged_pieces_are_the_unsharded_output_to_the_byte(
    variants: Path, make_scorer: Make, tmp_path: Path, suffix: str, regions: tuple[str, ...]
) -> None:
    from meta_spliceai.splice_engine.base_layer.vcf.reader import to_bcf

    kind = ".vcf.gz" if suffix == ".bcf" else suffix
    whole = scored(variants, tmp_path / f"whole{kind}", Cut(regions), make_scorer())
    if suffix == ".bcf":
        to_bcf(whole, tmp_path / "whole.bcf")
        whole = tmp_path / "whole.bcf"
    made = [
        scored(variants, tmp_path / f"p{number}{kind}", Cut(regions, (number, 7)), make_scorer())
        for number in range(1, 8)
    ]
    out = tmp_path / f"merged{suffix}"
    assert merge_vcfs(out, made[::-1]) == len(records(whole))
    assert out.read_bytes() == whole.read_bytes()
    assert len(records(whole)) == (400 if not regions else len([*records(out)]))
    assert "Shard" not in str(reopened(str(out)).header)


def test_a_piece_that_is_missing_doubled_or_foreign_is_named(
    variants: Path, make_scorer: Make, tmp_path: Path, write_vcf: Write, sequence: str
) -> None:
    made = [scored(variants, tmp_path / f"p{n}.vcf", Cut(shard=(n, 4)), make_scorer()) for n in (1, 2, 3, 4)]
    out = tmp_path / "out.vcf"
    with pytest.raises(InputError, match=r"2 of 4 pieces are missing: shard 2/4, 4/4"):
        merge_vcfs(out, [made[0], made[2]])
    again = tmp_path / "again.vcf"
    again.write_bytes(made[1].read_bytes())
    with pytest.raises(InputError, match=r"again\.vcf and .*p2\.vcf are both shard 2"):
        merge_vcfs(out, [*made, again])
    with pytest.raises(InputError, match=r"in\.vcf has 0 header lines"):
        merge_vcfs(out, [*made[:3], variants])
    other = write_vcf(("chr1", 1500, sequence[1499], "N"), name="other.vcf")
    foreign = scored(other, tmp_path / "foreign.vcf", Cut(shard=(4, 4)), make_scorer())
    with pytest.raises(InputError, match=r"foreign\.vcf is a piece of another input than"):
        merge_vcfs(out, [*made[:3], foreign])
    otherwise = scored(variants, tmp_path / "otherwise.vcf", Cut(shard=(4, 4)), make_scorer(strict=True))
    with pytest.raises(InputError, match=r"otherwise\.vcf is a piece of another run .*it says"):
        merge_vcfs(out, [*made[:3], otherwise])
    lines = made[2].read_text().splitlines(keepends=True)
    made[2].write_text("".join(lines[:-1]))
    with pytest.raises(IntegrityError, match=r"p3\.vcf has \d+ records and should have \d+"):
        merge_vcfs(out, made)
    made[2].write_text("".join(lines).replace('"before"', '"behind"'))
    with pytest.raises(IntegrityError, match=r"p3\.vcf: its line .* damaged"):
        merge_vcfs(out, made)
    assert not out.exists()


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz"])
def test_a_piece_with_other_content_than_it_was_made_with_is_named(
    variants: Path, make_scorer: Make, tmp_path: Path, suffix: str
) -> None:
    made = [scored(variants, tmp_path / f"p{n}{suffix}", Cut(shard=(n, 3)), make_scorer()) for n in (1, 2, 3)]
    out, pack = tmp_path / "out.vcf", bgzf.compress if suffix == ".vcf.gz" else bytes
    piece = reopened(str(made[1]))
    text = b"".join([*piece.header, *records(made[1])])
    end = bgzf.END_BLOCK if suffix == ".vcf.gz" else b""
    made[1].write_bytes(pack(text.replace(b"DP=3;", b"DP=4;", 1)) + end)
    with pytest.raises(IntegrityError, match=r"p2\.vcf.* was changed or damaged after it was made"):
        merge_vcfs(out, made)
    assert not out.exists()
    # A piece written to a pipe knows its count alone.
    made[1].write_bytes(pack(re.sub(rb'"content": "\w+"', b'"content": ""', text)) + end)
    assert merge_vcfs(out, made) == 400


def test_regions_are_one_based_and_bed_files_zero_based(variants: Path, tmp_path: Path, genome: MemoryGenome) -> None:
    bed = tmp_path / "some.bed"
    bed.write_text("# targets\ntrack name=x\nchr1\t999\t1500\tname\n1\t3000\t3001\n")
    found, lines = taken(variants, Cut((str(bed), "2:500-600")), None, genome)
    places = [(line.split(b"\t")[0].decode(), int(line.split(b"\t")[1])) for line in records(variants)]
    wanted = [1000 <= pos <= 1500 or pos == 3001 if contig == "chr1" else 500 <= pos <= 600 for contig, pos in places]
    assert found == [line for line, one in zip(records(variants), wanted, strict=True) if one]
    assert len(found) > 20
    (line,) = lines
    assert line.startswith('##meta_spliceai_regions=<Regions="some.bed ')
    assert line.endswith(' 2:500-600">')


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("chrX:1-5", "neither a file nor a region .* no contig 'chrX'"),
        ("targets.bed", "--regions targets.bed is neither a file nor a region"),
        ("chr1:500-400", "is empty or begins before base 1"),
        ("chr1:0-400", "is empty or begins before base 1"),
    ],
)
def test_a_region_that_is_none_is_said(variants: Path, genome: MemoryGenome, asked: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        taken(variants, Cut((asked,)), None, genome)


@pytest.mark.parametrize("line", ["chr1\t5\t5", "chr1\t5", "chr1\tfive\t9", "chr1\t-5\t9"])
def test_a_bed_file_that_is_none_is_said_with_its_line(
    variants: Path, genome: MemoryGenome, tmp_path: Path, line: str
) -> None:
    bed = tmp_path / "bad.bed"
    bed.write_text(f"chr1\t1\t2\n{line}\n")
    with pytest.raises(InputError, match=r"bad\.bed, line 2"):
        taken(variants, Cut((str(bed),)), None, genome)


@pytest.mark.parametrize("asked", ["0/4", "5/4", "3", "1/0", "a/b", "-1/4", "1/99999999", "1/9999999"])
def test_a_shard_that_is_none_is_said(asked: str) -> None:
    with pytest.raises(InputError, match="--shard"):
        Cut.asked(None, asked)


def test_lines_of_a_piece_keep_their_numbers(variants: Path, genome: MemoryGenome) -> None:
    """What a message calls a line is its number in the file."""
    source = reopened(str(variants))
    take(source, lambda: reopened(str(variants)), str(variants), Cut(("chr2",)), None, genome)
    (block, *_) = source.blocks()
    assert block.record(0).number == len(source.header) + 301


def test_a_line_that_is_no_record_ends_the_counting(tmp_path: Path, genome: MemoryGenome) -> None:
    path = tmp_path / "bad.vcf"
    path.write_text(HEAD + "chr1\t5\t.\tA\tC\t.\t.\t.\nchr1\tx\t.\tA\tC\t.\t.\t.\n")
    with pytest.raises(InputError, match=r"bad\.vcf, line 4: position 'x'"):
        taken(path, Cut(shard=(1, 2)), None, genome)


def test_standard_input_has_no_shards(variants: Path, genome: MemoryGenome) -> None:
    with pytest.raises(InputError, match="--shard needs a file"):
        take(reopened(str(variants)), lambda: reopened(str(variants)), "-", Cut(shard=(1, 2)), None, genome)


def test_stretches_hold_what_each_of_them_holds() -> None:
    random = np.random.default_rng(2)
    found = [("chr1", int(start), int(start + size)) for start, size in random.integers(1, 60, (40, 2)) * (20, 1)]
    stretches = Stretches(found)
    for pos in range(1300):
        assert stretches.hold("1", pos) == any(start <= pos <= end for _, start, end in found)
    assert not stretches.hold("2", 30)


def test_a_killed_piece_goes_on(
    variants: Path, make_scorer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, out = Cut(shard=(2, 3)), tmp_path / "out.vcf"
    whole = scored(variants, tmp_path / "whole.vcf", cut, make_scorer())
    scorer = make_scorer()
    blocks = iter([scorer.block, scorer.block])
    monkeypatch.setattr(scorer, "block", lambda block: next(blocks)(block))
    with pytest.raises(StopIteration):
        scored(variants, out, cut, scorer)
    source, again = reopened(str(variants)), make_scorer()
    said = take(source, lambda: reopened(str(variants)), str(variants), cut, again.annotation, again.genome)
    with Unfinished(out) as unfinished:
        assert fill(source, again, unfinished, False, ["##made=so", *said], {}, True, None) == 40
        unfinished.put_in_place(partial(seal, packed=False))
    assert out.read_bytes() == whole.read_bytes()


def test_genes_that_touch_are_one_stretch_of_work() -> None:
    genes = [Gene("A", "1", "+", 0, 10, ((0, 10),)), Gene("B", "chr1", "-", 10, 20, ((10, 20),))]
    stretches = Stretches((gene.chrom, gene.start + 1, gene.end) for gene in genes)
    assert [stretches.hold("chr1", pos) for pos in (0, 1, 20, 21)] == [False, True, True, False]
