"""The whole of `score` with SpliceAI's networks: what SpliceAI's own command printed, and every kind of file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.base_layer.vcf import score_vcf as module
from meta_spliceai.splice_engine.base_layer.vcf.score_file import Settings
from meta_spliceai.splice_engine.base_layer.vcf.score_vcf import score_vcf
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta

pytestmark = [
    pytest.mark.mirror,
    pytest.mark.quickstart,
    pytest.mark.skipif(
        importlib.util.find_spec("spliceai") is None, reason="SpliceAI's weights come with the `quickstart` extra"
    ),
]

MEANT = 0.02
"""From this score on a position is more than the place of the largest noise."""


def entries(path: Path) -> dict[tuple[str, int, str, str], str]:
    """(CHROM, POS, REF, ALT): the SpliceAI entry."""
    found = {}
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            chrom, pos, _, ref, alt, _, _, info = line.split("\t")
            found[chrom, int(pos), ref, alt] = info.partition("SpliceAI=")[2]
    return found


def compare(found: dict, expected: list[dict]) -> int:
    """Compare with what SpliceAI's command printed; the number of variants compared in full."""
    compared = 0
    for variant in expected:
        ours = found[variant["chrom"], variant["pos"], variant["ref"], variant["alt"]]
        (theirs,) = variant["SpliceAI"]
        if "." in theirs.split("|")[2:3]:
            assert ours == theirs
            continue
        compared += 1
        here, there = ours.split("|"), theirs.split("|")
        assert here[:6] == there[:6], variant
        for score, position, reference in zip(there[2:6], here[6:], there[6:], strict=True):
            if float(score) >= MEANT:
                assert position == reference, variant
    return compared


@pytest.fixture(scope="module")
def toy_files(mirror: Path) -> dict[str, Path]:
    """The reference run's files."""
    folder = mirror / "vectors/spliceai"
    return {
        name: folder / file
        for name, file in (("fasta", "genome.fa"), ("genes", "annotation.txt"), ("vcf", "input.vcf"))
    }


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "compared"), [("D50", 66), ("D200", 23)])
def test_scores_and_positions_are_those_of_spliceais_command(
    toy_files: dict[str, Path],
    mirror: Path,
    tmp_path: Path,
    setting: str,
    compared: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = json.loads((mirror / "vectors/spliceai/expected_cli.json").read_text())
    wanted = {(v["chrom"], v["pos"], v["ref"], v["alt"]) for v in expected[f"{setting}_M0"]}
    chosen = tmp_path / "in.vcf"
    lines = toy_files["vcf"].read_text().splitlines(keepends=True)
    kept = [
        line
        for line in lines
        if line.startswith("#") or (lambda f: (f[0], int(f[1]), f[3], f[4]))(line.split("\t")) in wanted
    ]
    chosen.write_text("".join(kept))
    model = load_base_model("spliceai")
    kept_scores: dict[str, BaseScores] = {}

    def once(table: pd.DataFrame, *rest: object, **options: object) -> BaseScores:
        # Mask or no mask, the networks say the same: they are asked once.
        key = "".join(table["variant_id"])
        if key not in kept_scores:
            kept_scores[key] = score_variants(table, *rest, **options)  # type: ignore[arg-type]
        return kept_scores[key]

    monkeypatch.setattr(module, "score_variants", once)
    for mask in (False, True):
        if f"{setting}_M{int(mask)}" not in expected:
            continue
        settings = Settings(distance=int(setting[1:]), mask=mask, strict=True)
        out = tmp_path / f"{mask}.vcf"
        score_vcf(str(chosen), str(out), toy_files["fasta"], str(toy_files["genes"]), model, settings)
        assert compare(entries(out), expected[f"{setting}_M{int(mask)}"]) == compared


@pytest.mark.slow
def test_a_few_variants_of_either_strand_are_those_of_spliceais_command(
    toy_files: dict[str, Path], mirror: Path, tmp_path: Path
) -> None:
    names = {"ins9", "snv_site24", "delins28", "snv_site42", "del58"}
    lines = toy_files["vcf"].read_text().splitlines(keepends=True)
    chosen = tmp_path / "in.vcf"
    chosen.write_text("".join(line for line in lines if line.startswith("#") or line.split("\t")[2] in names))
    out = tmp_path / "out.vcf"
    account = score_vcf(
        str(chosen), str(out), toy_files["fasta"], str(toy_files["genes"]), load_base_model("spliceai"), Settings()
    )
    found = entries(out)
    expected = json.loads((mirror / "vectors/spliceai/expected_cli.json").read_text())["D50_M0"]
    by_strict = [v for v in expected if (v["chrom"], v["pos"], v["ref"], v["alt"]) in found and v["kind"] != "delins"]
    assert compare(found, by_strict) == 4
    # What SpliceAI's command declines is scored here.
    assert "." not in found["chr1", 31317, "GTC", "TG"].split("|")
    assert account["alleles_scored"] == account["alleles"] == 5
    assert account["base_model"]["licence"].startswith("CC BY-NC")


@pytest.mark.slow
def test_pangolin_gives_what_pangolins_command_printed(toy_files: dict[str, Path], mirror: Path) -> None:
    from meta_spliceai.splice_engine.base_layer.families import gain_and_loss

    expected = json.loads((mirror / "vectors/pangolin/expected_unmasked_D50.json").read_text())
    table = pd.DataFrame(expected)[["chrom", "pos", "ref", "alt", "strand"]]
    table["gene"] = ""
    table["variant_id"] = [f"v{number}" for number in range(len(table))]
    genes = GeneAnnotation.from_spliceai_table(toy_files["genes"], "toy")
    genome = IndexedFasta(toy_files["fasta"], "toy")
    scores = score_variants(table, genome, load_base_model("pangolin"), 50, annotation=genes)
    gains, losses = gain_and_loss(scores.delta)
    for row, variant in enumerate(expected):
        turn = -1 if variant["strand"] == "-" else 1
        loss, gain = losses[row][::turn], gains[row][::turn]
        assert loss.min() == pytest.approx(variant["loss"], abs=1.5e-4), variant
        assert gain.max() == pytest.approx(variant["gain"], abs=1.5e-4), variant
        if abs(variant["loss"]) >= MEANT:
            assert loss.argmin() - 50 == variant["loss_offset"], variant
        if variant["gain"] >= MEANT:
            assert gain.argmax() - 50 == variant["gain_offset"], variant
