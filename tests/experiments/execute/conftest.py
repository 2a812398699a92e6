"""Rows for queues: the toy row with three window lengths."""

from __future__ import annotations

import pytest

from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import change

Rows = dict[str, ExperimentSpec]


@pytest.fixture
def three_rows(toy_row: ExperimentSpec) -> Rows:
    """The toy row with three window lengths, by id."""
    windows = {41: toy_row}
    for window in (43, 45):
        windows[window] = change(toy_row, [f"window={window}"]).model_copy(update={"id": f"toy-{window}"})
    return {row.id: row for row in windows.values()}


@pytest.fixture
def with_ensemble(three_rows: Rows) -> Rows:
    """The three rows, and `both`, the ensemble of the first two."""
    values = three_rows["toy-row"].model_dump(mode="json")
    both = parse_spec({**values, "id": "both", "ensemble": {"members": ["toy-row", "toy-43"]}}, "test")
    return {**three_rows, "both": both}
