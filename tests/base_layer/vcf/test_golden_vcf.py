"""One scored VCF, line by line: alleles of every kind, both masks, reasons, order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.base_layer.vcf.test_score_file import scored, snvs
from tests.golden import kept


@pytest.mark.parametrize("masked", [False, True])
def test_a_scored_file_is_the_kept_one(
    sequence: str, make_scorer: Callable[..., object], write_vcf: Callable[..., Path], masked: bool
) -> None:
    base = sequence[1499]
    other = "A" if base != "A" else "C"
    odd = [
        ("chr1", 1500, sequence[1499:1503], base, "AC=2;SpliceAI=old"),
        ("chr1", 1500, base, f"{base}GATTACA,{other}"),
        ("chr1", 1500, other, base),
        ("chr1", 1500, base, "<DEL>"),
        ("chr7", 1500, base, other),
    ]
    lines = scored(write_vcf(*snvs(sequence, 30), *odd), make_scorer(mask=masked, replace=True))  # type: ignore[arg-type]
    now = "\n".join(line for line in lines if not line.startswith("##")) + "\n"
    assert now == kept(f"scored_{'masked' if masked else 'raw'}.vcf", now)
