from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from meta_spliceai.splice_engine.variants.table import as_variant_table


@pytest.fixture
def variants() -> Callable[..., pd.DataFrame]:
    """A variant table from (chrom, pos, ref, alt, strand) rows; further columns by keyword."""

    def make(rows: list[tuple[str, int, str, str, str]], **columns: object) -> pd.DataFrame:
        frame = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "strand"])
        frame["variant_id"] = [f"v{at}" for at in range(len(frame))]
        for column, value in {
            "gene": "toy",
            "classification": "Normal",
            "source": "toy",
            "method": "toy",
            "group": "g",
            **columns,
        }.items():
            frame[column] = value
        return as_variant_table(frame, "toy")

    return make
