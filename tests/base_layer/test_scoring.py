"""Variant scoring: SpliceAI's windows, alignment and strands, on a toy genome and against the published command."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer import kernel_choice
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.network import BaseModel, one_hot
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, ScoreCache
from meta_spliceai.splice_engine.base_layer.scoring import Computation, align_alternative, score_variants
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import N_CODE, MemoryGenome, decode, encode, reverse_complement

DISTANCE = 12


def variant_table(rows: list[tuple[str, int, str, str, str]], gene: str = "") -> pd.DataFrame:
    """Rows (chrom, pos, ref, alt, strand) as far as scoring reads them."""
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "strand"])
    table["variant_id"] = [f"v{index}" for index in range(len(table))]
    table["gene"] = gene
    return table


@pytest.fixture(scope="module")
def bases() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 4, 900).astype(np.uint8)


@pytest.fixture(scope="module")
def genome(bases: np.ndarray) -> MemoryGenome:
    return MemoryGenome({"chrT": bases}, "toy", "toy genome")


def ref_at(bases: np.ndarray, pos: int, length: int) -> str:
    return decode(bases[pos - 1 : pos - 1 + length])


def kinds(bases: np.ndarray, pos: int, strand: str = "+") -> pd.DataFrame:
    """A substitution, an insertion, a deletion, a delins and an MNV at one place."""
    long, one = ref_at(bases, pos, 6), ref_at(bases, pos, 1)
    other = decode((encode(one) + 1) % 4)
    alleles = [(one, other), (one, one + "GATTACA"), (long, one), (long, other + "CC"), (long[:3], "TTT")]
    return variant_table([("chrT", pos, ref, alt, strand) for ref, alt in alleles])


def by_hand(model: BaseModel, codes: np.ndarray) -> np.ndarray:
    """Mean probabilities [outputs, 3] on one sequence."""
    with torch.inference_mode():
        x = one_hot(torch.from_numpy(codes)[None])
        return torch.stack([network(x)[0].T for network in model.networks]).mean(dim=0).numpy()


def test_every_kind_of_variant_equals_windows_cut_by_hand(
    bases: np.ndarray, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    pos, reach = 400, DISTANCE + toy_base_model.flank
    table = kinds(bases, pos)
    scores = score_variants(table, genome, toy_base_model, DISTANCE)
    expected_ref = by_hand(toy_base_model, bases[pos - 1 - reach : pos + reach])
    assert len(scores) == 5
    for row, (ref, alt) in enumerate(zip(table["ref"], table["alt"], strict=True)):
        np.testing.assert_allclose(scores.ref[row], expected_ref, atol=1e-6)
        changed = np.concatenate([bases[: pos - 1], encode(alt), bases[pos - 1 + len(ref) :]])
        shift = len(alt) - len(ref)
        raw = by_hand(toy_base_model, changed[pos - 1 - reach : pos + reach + shift])
        if shift < 0:
            assert np.all(scores.alt[row, DISTANCE + 1 : DISTANCE + 1 - shift] == 0)
            raw = np.insert(raw, [DISTANCE + 1] * -shift, 0, axis=0)
        elif shift > 0:
            folded = raw[DISTANCE : DISTANCE + shift + 1].max(axis=0)
            raw = np.vstack([raw[:DISTANCE], folded, raw[DISTANCE + shift + 1 :]])
        np.testing.assert_allclose(scores.alt[row], raw, atol=1e-6)
        assert np.abs(scores.delta[row]).max() > 1e-3


def test_reverse_complemented_genome_gives_the_same_delta(
    bases: np.ndarray, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    turned = MemoryGenome({"chrT": reverse_complement(bases)}, "toy", "turned genome")
    rows = [
        ("chrT", pos, ref_at(bases, pos, 1), decode((bases[pos - 1 : pos] + 1) % 4), "+") for pos in (200, 431, 700)
    ]
    mirrored = [
        ("chrT", len(bases) + 1 - pos, *(decode(reverse_complement(encode(a))) for a in (ref, alt)), "-")
        for _, pos, ref, alt, _ in rows
    ]
    forward = score_variants(variant_table(rows), genome, toy_base_model, DISTANCE)
    backward = score_variants(variant_table(mirrored), turned, toy_base_model, DISTANCE)
    np.testing.assert_allclose(backward.delta, forward.delta, atol=1e-6)
    assert np.abs(forward.delta).max() > 1e-3


def test_indels_on_the_minus_strand_are_aligned_on_the_plus_strand(
    bases: np.ndarray, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    table = kinds(bases, 400, "-")
    scores = score_variants(table, genome, toy_base_model, DISTANCE)
    deletion = scores.alt[2]
    assert np.all(deletion[DISTANCE - 5 : DISTANCE] == 0)  # behind `pos` on the plus strand = before it in transcript
    assert np.all(deletion[DISTANCE:].sum(axis=1) > 0.99)


def test_annotation_hides_the_bases_outside_the_gene(
    bases: np.ndarray, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    gene = Gene("G", "T", "+", 380, 520, ((380, 400), (500, 520)))
    annotation = GeneAnnotation([gene], "toy", "toy annotation")
    table = kinds(bases, 400)
    hidden = bases.copy()
    hidden[:380] = N_CODE
    hidden[520:] = N_CODE
    masked = score_variants(table, genome, toy_base_model, DISTANCE, annotation=annotation)
    by_sequence = score_variants(table, MemoryGenome({"chrT": hidden}, "toy", "masked"), toy_base_model, DISTANCE)
    np.testing.assert_array_equal(masked.ref, by_sequence.ref)
    np.testing.assert_array_equal(masked.alt, by_sequence.alt)
    plain = score_variants(table, genome, toy_base_model, DISTANCE)
    assert np.abs(masked.ref - plain.ref).max() > 1e-3


def test_variant_outside_its_gene_is_refused_by_name(
    bases: np.ndarray, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    annotation = GeneAnnotation([Gene("G", "chrT", "+", 380, 520, ((380, 520),))], "toy", "toy annotation")
    for pos, gene, strand in ((600, "G", "+"), (400, "H", "+"), (400, "G", "-")):
        table = variant_table([("chrT", pos, ref_at(bases, pos, 1), "AC", strand)], gene)
        with pytest.raises(InputError, match=rf"v0 \(chrT:{pos} .*not in gene {gene}"):
            score_variants(table, genome, toy_base_model, DISTANCE, annotation=annotation)


def test_row_without_a_gene_takes_the_only_one_on_its_strand(
    bases: np.ndarray, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    genes = [Gene("G", "chrT", "+", 380, 520, ((380, 520),)), Gene("H", "chrT", "-", 390, 520, ((390, 520),))]
    table = kinds(bases, 400)
    annotation = GeneAnnotation(genes, "toy", "two genes")
    named = score_variants(table.assign(gene="G"), genome, toy_base_model, DISTANCE, annotation=annotation)
    found = score_variants(table, genome, toy_base_model, DISTANCE, annotation=annotation)
    np.testing.assert_array_equal(named.alt, found.alt)
    twice = GeneAnnotation([*genes, Gene("I", "chrT", "+", 300, 520, ((300, 520),))], "toy", "three genes")
    with pytest.raises(InputError, match="there: G, I"):
        score_variants(table, genome, toy_base_model, DISTANCE, annotation=twice)


def test_wrong_reference_allele_is_refused(genome: MemoryGenome, bases: np.ndarray, toy_base_model: BaseModel) -> None:
    wrong = decode((bases[399:400] + 1) % 4)
    with pytest.raises(InputError, match=r"v0.*other bases there"):
        score_variants(variant_table([("chrT", 400, wrong, "ACC", "+")]), genome, toy_base_model, DISTANCE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": 0}, "distance 0"),
        ({"how": Computation("fast")}, "did you mean|Choices"),
        ({"how": Computation(batch_size=0)}, "batch size 0"),
    ],
)
def test_bad_options_name_themselves(
    options: dict[str, object], message: str, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    with pytest.raises(InputError, match=message):
        score_variants(variant_table([]), genome, toy_base_model, **options)


def test_variants_at_the_contig_ends_see_n_beyond(bases: np.ndarray, toy_base_model: BaseModel) -> None:
    genome = MemoryGenome({"chrT": bases[:300]}, "toy", "short")
    padded = MemoryGenome({"chrT": np.pad(bases[:300], 300, constant_values=N_CODE)}, "toy", "padded")
    for pos in (1, 5, 296, 300):
        ref = ref_at(bases, pos, 1)
        alt = decode((encode(ref) + 2) % 4)
        short = score_variants(variant_table([("chrT", pos, ref, alt, "+")]), genome, toy_base_model, DISTANCE)
        long = score_variants(variant_table([("chrT", pos + 300, ref, alt, "+")]), padded, toy_base_model, DISTANCE)
        np.testing.assert_allclose(short.alt, long.alt, atol=1e-5)


def test_empty_table_gives_empty_scores(genome: MemoryGenome, toy_base_model: BaseModel) -> None:
    scores = score_variants(variant_table([]), genome, toy_base_model, DISTANCE)
    assert scores.delta.shape == (0, 2 * DISTANCE + 1, 3)


def test_long_deletion_keeps_the_left_side_and_zeroes_the_rest(
    bases: np.ndarray, genome: MemoryGenome, toy_base_model: BaseModel
) -> None:
    ref = ref_at(bases, 400, 40)
    scores = score_variants(variant_table([("chrT", 400, ref, ref[0], "+")]), genome, toy_base_model, DISTANCE)
    assert np.all(scores.alt[0, DISTANCE + 1 :] == 0)
    np.testing.assert_allclose(scores.alt[0, : DISTANCE + 1].sum(axis=1), 1, atol=1e-5)


def test_alignment_of_indels() -> None:
    raw = np.arange(9, dtype=np.float32)[:, None]
    assert align_alternative(raw[:7], 0, 3)[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert align_alternative(raw[:5], -2, 3)[:, 0].tolist() == [0, 1, 2, 3, 0, 0, 4]
    assert align_alternative(raw, 2, 3)[:, 0].tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert align_alternative(raw[:4], -9, 3)[:, 0].tolist() == [0, 1, 2, 3, 0, 0, 0]


def shown(scores: BaseScores, row: int, strand: str) -> tuple[list[str], list[int]]:
    """SpliceAI's four scores as it prints them, and their positions relative to `pos` on the plus strand."""
    delta = scores.delta[row][:: -1 if strand == "-" else 1]
    gains = [delta[:, 1], -delta[:, 1], delta[:, 2], -delta[:, 2]]
    places = [int(gain.argmax()) for gain in gains]
    texts = [f"{gain[place]:.2f}" for gain, place in zip(gains, places, strict=True)]
    return texts, [place - scores.distance for place in places]


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.quickstart
@pytest.mark.skipif(importlib.util.find_spec("spliceai") is None, reason="needs the `quickstart` extra")
@pytest.mark.parametrize(("what", "distance"), [("D50_M0", 50), ("D200_M0", 200)])
def test_equal_to_what_spliceai_printed(mirror: Path, what: str, distance: int) -> None:
    folder = mirror / "vectors/spliceai"
    annotation = GeneAnnotation.from_spliceai_table(folder / "annotation.txt", "toy")
    genome = MemoryGenome(_read_fasta(folder / "genome.fa"), "toy", "genome.fa")
    expected = [
        (record, text.split("|"))
        for record in json.loads((folder / "expected_cli.json").read_text())[what]
        for text in record["SpliceAI"]
        if not text.endswith("|.")
    ]
    assert len(expected) > 15
    genes = {gene.name: gene for gene in annotation.genes}
    rows = [(r["chrom"], r["pos"], r["ref"], r["alt"], genes[t[1]].strand) for r, t in expected]
    table = variant_table(rows).assign(gene=[t[1] for _, t in expected])
    scores = score_variants(table, genome, load_base_model("spliceai"), distance, annotation=annotation)
    for row, (record, fields) in enumerate(expected):
        texts, places = shown(scores, row, table["strand"][row])
        for text, place, wanted, wanted_place in zip(texts, places, fields[2:6], fields[6:10], strict=True):
            assert float(text) == float(wanted), (record, texts)
            assert float(wanted) < 0.02 or place == int(wanted_place), (record, places)


def _read_fasta(path: Path) -> dict[str, str]:
    contigs: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith(">"):
            name = line[1:].split()[0]
            contigs[name] = []
        else:
            contigs[name].append(line)
    return {name: "".join(lines) for name, lines in contigs.items()}


@pytest.mark.parametrize(("method", "precision"), [("full", "fp32"), ("incremental", "fp32"), ("incremental", "bf16")])
def test_operations_are_those_that_pytorch_counts(
    toy_base_model: BaseModel, monkeypatch: pytest.MonkeyPatch, method: str, precision: str
) -> None:
    monkeypatch.setenv(kernel_choice.VARIABLE, "pytorch")
    random = np.random.default_rng(5)
    genome = MemoryGenome({"c": random.integers(0, 4, 4000, dtype=np.uint8)}, "toy", "toy")
    rows = []
    for pos in (600, 604, 610, 640, 1500, 2600):
        ref, after = decode(genome.fetch("c", pos - 1, pos)), decode(genome.fetch("c", pos, pos + 1))
        rows += [("c", pos, ref, other, "+") for other in "ACGT" if other != ref]
        rows += [("c", pos, ref, ref + "GTA", "-"), ("c", pos, ref + after, ref, "+")]
    table = variant_table(rows)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # PyTorch counts what this thread does
    try:
        with FlopCounterMode(display=False) as counter:
            scores = score_variants(
                table,
                genome,
                toy_base_model,
                12,
                how=Computation(method, precision=precision, check_on=3),  # type: ignore[arg-type]
            )
    finally:
        torch.set_num_threads(threads)
    # A product of one row is done on two of them, which is no work of the method's.
    assert scores.operations == pytest.approx(counter.get_total_flops(), rel=0.01 if method == "incremental" else 0)
    assert scores.seconds > 0


def test_what_is_found_in_the_cache_is_no_work(toy_base_model: BaseModel, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    genome = MemoryGenome({"c": random.integers(0, 4, 2000, dtype=np.uint8)}, "toy", "toy")
    bases = {pos: decode(genome.fetch("c", pos - 1, pos)) for pos in (700, 900, 1100)}
    table = variant_table([("c", pos, ref, "A" if ref != "A" else "C", "+") for pos, ref in bases.items()])
    cache = ScoreCache(tmp_path)
    first = score_variants(table.iloc[:2], genome, toy_base_model, 12, cache=cache)
    more = score_variants(table, genome, toy_base_model, 12, cache=cache)
    again = score_variants(table, genome, toy_base_model, 12, cache=cache)
    assert 0 < more.operations < first.operations
    assert (again.operations, again.seconds) == (0, 0)
