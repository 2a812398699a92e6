"""The predictor of the package: probabilities that are none too sure, and a VCF that keeps what it had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import meta_spliceai
from meta_spliceai.cli import main
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.predict.write_predictions import check_output, write_predictions
from meta_spliceai.splice_engine.meta_layer.shipped_predictor import (
    RISING,
    feature_names,
    load_shipped,
    names,
)

VCF = (
    '##fileformat=VCFv4.2\n##contig=<ID=chr2>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\n"
    "chr2\t10\trs1\tA\tC,G\t5\tPASS\tX=1\tGT\t1/2\nchr2\t20\t.\tT\t.\t.\t.\t.\tGT\t0/0\n"
)


@pytest.fixture
def predictions() -> pd.DataFrame:
    both = {"chrom": "chr2", "gene": "G;1", "p_altering": 0.25, "p_low": 0.2, "p_high": 0.3, "in_domain": "in"}
    rows = [
        {**both, "alt": "C", "reason": "", "effect_type": "donor loss", "effect_pos": -3.0},
        {**both, "alt": "G", "reason": "reference mismatch"},
        {**both, "alt": ".", "gene": "", "reason": "alleles are not made of bases"},
    ]
    return pd.DataFrame(rows)


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


def test_a_vcf_is_annotated_in_place(tmp_path: Path, predictions: pd.DataFrame) -> None:
    source, out = tmp_path / "in.vcf", tmp_path / "out.vcf"
    source.write_text(VCF)
    write_predictions(predictions, {"title": "toy", "split": 'a "b"', "model": "toy"}, source, out)
    lines = out.read_text().splitlines()
    assert sum(line.startswith("##INFO=<ID=MSAI,") for line in lines) == 1
    first, second = (line.split("\t") for line in lines[-2:])
    assert first[7] == "X=1;MSAI=C|G%3B1|0.2500|0.2000|0.3000|in|donor_loss|-3,G|G%3B1|.|.|.|reference_mismatch|.|."
    assert first[9] == "1/2"
    assert second[7] == "MSAI=.|.|.|.|.|alleles_are_not_made_of_bases|.|."


@pytest.mark.parametrize(("suffix", "reader"), [(".csv", pd.read_csv), (".parquet", pd.read_parquet)])
def test_a_table_is_written_by_its_suffix(
    tmp_path: Path, predictions: pd.DataFrame, suffix: str, reader: object
) -> None:
    out = tmp_path / f"out{suffix}"
    write_predictions(predictions, {}, tmp_path / "in.vcf", out)
    assert list(reader(out)["alt"]) == ["C", "G", "."]  # type: ignore[operator]


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
    with pytest.raises(InputError, match="no VCF"):
        check_output(tmp_path / "out.vcf", tmp_path / "in.tsv", True)
