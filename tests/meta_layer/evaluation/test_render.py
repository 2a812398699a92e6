"""The leaderboard on paper: order, intervals, dashes with reasons, nothing that breaks a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser

import pandas as pd
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.evaluation import Evaluation, Scorer, evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.render import (
    Cost,
    as_html,
    as_markdown,
    as_values,
    leaderboard_table,
)


@pytest.fixture
def judged(make_predictions: Callable[..., pd.DataFrame], scorers: list[Scorer]) -> Evaluation:
    frame = make_predictions()
    evil = Scorer("a|b <script>", "learned", "made to break a page")
    frame[evil.score_column] = frame["weak.score"]
    return evaluate(frame, [*scorers, evil], n_boot=50)


def test_markdown(judged: Evaluation) -> None:
    text = as_markdown(leaderboard_table(judged, costs={"strong": Cost(12.3, 2**31, 0.5)}, ceiling={"auprc": 0.97}))
    lines = text.splitlines()
    rows = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert [row.split(" | ")[0].strip("|* ") for row in rows[1:4]] == ["position alone", "base max_window", "strong"]
    assert rows[-1].startswith("| label ceiling | labels | 0.970 | – |")
    # every row has as many cells as the heading, whatever the names hold
    cells = [row.replace("\\|", "").count("|") for row in rows]
    assert len(set(cells)) == 1
    strong = next(row for row in rows if "strong" in row)
    assert "| 12 s | 2.0 GB | $0.50 |" in strong
    value = judged.value("strong", "auprc")
    assert f"{value['estimate']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" in strong
    position = next(row for row in rows if "position alone" in row)
    assert " – " in position
    assert "position alone, Spearman r, measured effect: the scorer has no sign" in text
    assert "circular for altering variants" in text
    assert any(line.startswith("- strong beats base max_window: AUPRC difference +0.") for line in lines)
    assert f"prevalence {value['prevalence']:.3f}, which is the AUPRC of knowing nothing" in text


def test_html_is_well_formed_and_escaped(judged: Evaluation) -> None:
    html = as_html(leaderboard_table(judged))

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.rows = 0

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.open.append(tag)
            self.rows += tag == "tr"

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert reader.rows == 1 + 5
    assert "<script>" not in html
    assert "a|b &lt;script&gt;" in html
    assert '<tr class="row-zero">' in html


def test_values_are_json_and_say_why(judged: Evaluation) -> None:
    values = json.loads(json.dumps(as_values(judged), allow_nan=False))
    assert [row["scorer"] for row in values["rows"]][:2] == ["position alone", "base max_window"]
    effect = values["rows"][0]["metrics"]["pearson_effect"]
    assert effect["estimate"] is None
    assert effect["reason"] == "the scorer has no sign"
    assert values["rows"][0]["metrics"]["auprc"]["prevalence"] > 0
    assert any(verdict["beats"] for verdict in values["verdicts"])


def test_unknown_columns_are_refused(judged: Evaluation) -> None:
    with pytest.raises(InputError, match="unknown metric 'auprcs'; did you mean auprc"):
        leaderboard_table(judged, metrics=("auprcs",))
    with pytest.raises(InputError, match="unknown scorer 'stron' in costs; did you mean strong"):
        leaderboard_table(judged, costs={"stron": Cost(1)})
