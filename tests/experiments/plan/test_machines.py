"""The processor at hand scores at the rate that its convolutions were measured at."""

from __future__ import annotations

import pytest

from meta_spliceai.experiments.plan.run_work import CONVOLUTIONS_SHARE, processor


def test_scoring_follows_what_was_measured() -> None:
    assumed, measured = processor(2, 8_000_000_000), processor(2, 8_000_000_000, 250e9)
    assert assumed.scoring == assumed.whole
    assert measured.scoring == pytest.approx(2 * 250e9 * CONVOLUTIONS_SHARE)
    assert measured.whole == assumed.whole
    assert "measured at 250 GFLOP/s a thread" in measured.assumed
