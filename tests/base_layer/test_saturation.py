"""Saturating a stretch: every change once, numbers as single scoring gives them, and a figure that shows them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from meta_spliceai.errors import InputError, brief
from meta_spliceai.splice_engine.base_layer import saturation
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.saturation import (
    KINDS,
    all_changes,
    saturate,
    stretch_of_exon,
    stretch_of_gene,
    stretch_of_region,
)
from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, DONOR
from meta_spliceai.splice_engine.base_layer.scoring import Computation, score_variants
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome

SEQUENCE = "".join(np.random.default_rng(3).choice(list("ACGT"), 1200))


@pytest.fixture(scope="module")
def genome() -> MemoryGenome:
    return MemoryGenome({"chr1": SEQUENCE[:600] + "N" + SEQUENCE[601:]}, "toy", "toy.fa")


@pytest.fixture(scope="module")
def annotation() -> GeneAnnotation:
    return GeneAnnotation(
        [
            Gene("UP", "1", "+", 100, 700, ((100, 150), (300, 340), (650, 700))),
            Gene("DOWN", "1", "-", 500, 1100, ((500, 620), (800, 850), (1000, 1100))),
        ],
        "toy",
        "toy genes",
    )


def test_every_change_of_every_known_base_stands_once(genome: MemoryGenome, annotation: GeneAnnotation) -> None:
    stretch = stretch_of_region("chr1:599-603", annotation, "UP")
    table = all_changes(stretch, genome, KINDS, stretch.start, stretch.end)
    assert sorted(set(table["site"])) == [599, 600, 602, 603]  # 601 is N
    sites = {kind: sorted(part["site"]) for kind, part in table.groupby("kind")}
    assert sites["substitution"] == sorted([599, 600, 602, 603] * 3)
    assert sites["insertion"] == sorted([599, 600, 602, 603] * 4)
    assert sites["deletion"] == [599, 600, 603]  # none behind the N
    for row in table.itertuples():
        original = SEQUENCE[: row.pos - 1] + row.ref + SEQUENCE[row.pos - 1 + len(row.ref) :]
        assert original == SEQUENCE, row
        changed = list(SEQUENCE)
        at = row.site - 1
        if row.kind == "substitution":
            changed[at] = row.base
        elif row.kind == "deletion":
            changed[at] = ""
        else:
            changed[at] += row.base[1]
        assert SEQUENCE[: row.pos - 1] + row.alt + SEQUENCE[row.pos - 1 + len(row.ref) :] == "".join(changed), row


@pytest.mark.parametrize("name", ["UP", "DOWN"])
def test_rows_equal_variants_scored_one_by_one(
    genome: MemoryGenome,
    annotation: GeneAnnotation,
    toy_base_model: BaseModel,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(saturation, "_SITES_AT_MOST_AT_ONCE", 7)
    stretch = stretch_of_region("1:560-579", annotation, name)
    out = tmp_path / "out.parquet"
    seen: list[tuple[int, int]] = []
    rows = saturate(
        stretch,
        genome,
        annotation,
        toy_base_model,
        out,
        distance=15,
        kinds=KINDS,
        progress=lambda *step: seen.append(step),
    )
    table = pd.read_parquet(out)
    assert rows == len(table) == 20 * 8
    assert seen == [(7, 20), (14, 20), (20, 20)]
    some = table.iloc[::23].assign(variant_id=lambda frame: frame.index.astype(str))
    scores = score_variants(some, genome, toy_base_model, 15, annotation=annotation, how=Computation("full"))
    turn = -1 if name == "DOWN" else 1
    for place, row in enumerate(some.itertuples()):
        delta = scores.delta[place][::turn]
        assert pytest.approx(delta[:, ACCEPTOR].max(), abs=1e-5) == row.DS_AG
        assert pytest.approx(-delta[:, DONOR].min(), abs=1e-5) == row.DS_DL
        assert delta[:, ACCEPTOR].argmax() - 15 == row.DP_AG
        assert delta[:, DONOR].argmin() - 15 == row.DP_DL
        strongest = delta[:, 1:].ravel()[np.abs(delta[:, 1:]).argmax()]
        assert row.delta == pytest.approx(strongest, abs=1e-5)
    note = pq.read_schema(out).metadata
    assert note[b"model"] == b"toy"
    assert note[b"weights"].decode() == toy_base_model.digest


def test_an_interrupted_table_leaves_no_file(
    genome: MemoryGenome, annotation: GeneAnnotation, toy_base_model: BaseModel, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        saturate(
            stretch_of_region("1:560-579", annotation, "UP"),
            genome,
            annotation,
            toy_base_model,
            tmp_path / "out.parquet",
            distance=5,
            progress=stop,
        )
    assert list(tmp_path.iterdir()) == []


def test_exons_count_along_the_transcript(annotation: GeneAnnotation) -> None:
    first_up = stretch_of_exon("UP:1", annotation, around=10)
    assert (first_up.start, first_up.end) == (100, 160)  # cut at the gene's end
    first_down = stretch_of_exon("DOWN:1", annotation, around=0)
    assert (first_down.start, first_down.end) == (1000, 1100)
    assert stretch_of_gene("DOWN", annotation).end == 1100
    assert "exon 2" in stretch_of_exon("DOWN:2", annotation, around=5).title


@pytest.mark.parametrize(
    ("region", "gene", "message"),
    [
        ("chr1", None, "not of the form"),
        ("chr1:9-5", None, "is empty"),
        ("chr1:0-5", None, "before base 1"),
        ("chr1:,-,", None, "before base 1"),
        ("chr1:10-20", None, "does not overlap one gene"),
        ("chr1:550-560", None, r"\(there: UP, DOWN\)"),
        ("chr1:550-560", "OTHER", "does not overlap gene 'OTHER'"),
        ("chr1:650-710", "UP", "reaches out of UP"),
    ],
)
def test_regions_that_cannot_be_saturated(
    annotation: GeneAnnotation, region: str, gene: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        stretch_of_region(region, annotation, gene)


@pytest.mark.parametrize(
    ("exon", "message"),
    [("UP", "form GENE:NUMBER"), ("UP:4", "exons 1 to 3"), ("UP:0", "no exon 0"), ("UPP:1", "did you mean UP")],
)
def test_exons_that_are_not_there(annotation: GeneAnnotation, exon: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stretch_of_exon(exon, annotation, 0)


def test_a_stretch_without_bases_is_said(
    annotation: GeneAnnotation, genome: MemoryGenome, toy_base_model: BaseModel, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no known base"):
        saturate(
            stretch_of_region("1:601-601", annotation, "UP"),
            genome,
            annotation,
            toy_base_model,
            tmp_path / "o",
            distance=5,
        )


@pytest.fixture
def drawn(annotation: GeneAnnotation, genome: MemoryGenome) -> tuple[pd.DataFrame, saturation.Stretch]:
    """A table with made-up Δ: -0.8 at the second base's change to its first letter, 0.01 elsewhere."""
    stretch = stretch_of_region("chr1:290-349", annotation, None)
    table = all_changes(stretch, genome, KINDS[:1], stretch.start, stretch.end)
    table["delta"] = 0.01
    table.loc[3, "delta"] = -0.8
    return table, stretch


def test_the_matrix_has_a_cell_for_each_change(drawn: tuple[pd.DataFrame, saturation.Stretch]) -> None:
    table, stretch = drawn
    values, names = saturation.matrix(table, stretch)
    assert names == ["A", "C", "G", "T"]
    assert values.shape == (4, 60)
    assert (np.isnan(values).sum(axis=0) == 1).all()  # the base itself
    (row,), (column,) = np.nonzero(values == -0.8)
    assert (names[row], column) == (table.loc[3, "base"], 1)


def test_pooling_keeps_the_largest_with_its_sign() -> None:
    values = np.array([[0.1, -0.5, np.nan, 0.2, np.nan], [np.nan, np.nan, 0.3, 0.1, -0.9]])
    pooled = saturation.pooled(values, 2)
    np.testing.assert_array_equal(pooled, [[-0.5, 0.2, np.nan], [np.nan, 0.3, -0.9]])


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_figure_is_drawn_and_the_same_each_time(
    drawn: tuple[pd.DataFrame, saturation.Stretch], tmp_path: Path, suffix: str, magic: bytes
) -> None:
    table, stretch = drawn
    out = tmp_path / f"map{suffix}"
    assert saturation.draw(table, stretch, "toy", out) == 1
    first = out.read_bytes()
    assert first.startswith(magic)
    saturation.draw(table, stretch, "toy", out)
    assert out.read_bytes() == first
    if suffix == ".svg":
        text = first.decode()
        assert "UP chr1:290-349 (+): toy" in text
        assert re.search(r">\s*300\s*<", text)


@pytest.mark.parametrize(("gene", "ends"), [("UP", "5′3′"), ("DOWN", "3′5′")])
def test_a_figure_has_reference_letters_and_the_transcripts_ends(
    genome: MemoryGenome, annotation: GeneAnnotation, tmp_path: Path, gene: str, ends: str
) -> None:
    stretch = stretch_of_region("chr1:590-610", annotation, gene)
    table = all_changes(stretch, genome, KINDS, stretch.start, stretch.end).assign(delta=0.1)
    out = tmp_path / "map.svg"
    saturation.draw(table, stretch, "toy", out)
    drawn = ElementTree.parse(out).getroot().iter()  # noqa: S314 (our own file)
    texts = ["".join(one.itertext()).strip() for one in drawn if one.tag.endswith("text")]
    letters = [one for one in texts if one in set("ACGT")]
    known = SEQUENCE[589:600] + SEQUENCE[601:610]  # 601 is N
    assert letters[-len(known) :] == list(known)
    assert "".join(one for one in texts if "′" in one) == ends


def test_long_stretches_say_how_many_bases_a_column_is(
    drawn: tuple[pd.DataFrame, saturation.Stretch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saturation, "_COLUMNS_AT_MOST", 20)
    out = tmp_path / "map.svg"
    assert saturation.draw(*drawn, "toy", out) == 3
    assert "largest |Δ| of 3 bases" in out.read_text()


@pytest.mark.parametrize(
    "name",
    ["$x^", r"$\frac{1}{2}$", "<script>&amp;", "a\x00b\x1b[31m", "]]>--", "G" * 100_000, "Gène Δ", "a\nb"],
    ids=["open formula", "formula", "markup", "control", "end of data", "long", "letters", "lines"],
)
def test_hostile_names_are_drawn_as_text(
    drawn: tuple[pd.DataFrame, saturation.Stretch], tmp_path: Path, name: str
) -> None:
    table, stretch = drawn
    named = replace(stretch, chrom=name, title=f"{name} of {name}")
    out = tmp_path / "map.svg"
    saturation.draw(table, named, name, out)
    words = "".join(ElementTree.parse(out).getroot().itertext())  # noqa: S314 (our own file)
    assert brief(name) in words
    saturation.draw(table, named, name, tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_another_kind_of_figure_is_refused(drawn: tuple[pd.DataFrame, saturation.Stretch], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither \.png nor \.svg"):
        saturation.draw(*drawn, "toy", tmp_path / "map.pdf")
