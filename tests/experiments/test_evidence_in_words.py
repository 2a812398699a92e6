"""A run's evidence in sentences, and results without the folders of the machine they were made on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from meta_spliceai.cli.leaderboard import print_board
from meta_spliceai.experiments.board.leaderboard import board_table, boards, coverage_in_words, evaluated_on
from meta_spliceai.experiments.board.shown import as_markdown, evidence_in_short, evidence_tables
from meta_spliceai.experiments.run.record import without_folders
from meta_spliceai.experiments.store.workspace import Workspace


def audit(*findings: tuple[str, str, int]) -> dict[str, Any]:
    told = [{"severity": severity, "check": check, "count": count} for severity, check, count in findings]
    return {"findings": told, "not_done": []}


DATA = {
    "base": {"name": "spliceai", "networks": 5, "distance": 50},
    "coverage": {"read": 1139, "left_out": {"no reference sequence": 148}},
    "split": {"audit": audit(("note", "shared chromosomes", 9))},
}

PEAKS = [
    {"scorer": "net", "metric": metric, "estimate": 0.5, "low": 0.25, "high": 0.75, "n": 4, "out_of_reach": 2}
    for metric in ("peak_precision", "gain_detection", "false_gain_rate")
]
HITS = [
    {"scorer": "net", "tolerance": near, "estimate": 0.9, "low": None, "high": None, "n": 3, "out_of_reach": 1}
    for near in (0, 5)
]
KINDS = [
    {
        "scorer": "net",
        "n": 4,
        "several_observed": 1,
        "metrics": [{"metric": "macro F1", "estimate": 0.625, "low": 0.5, "high": 0.7}],
        "confusion": [
            {"observed": "donor loss", "donor loss": 3, "no effect": 1},
            {"observed": "no effect", "donor loss": 0, "no effect": 1204},
        ],
    }
]


def in_words(evidence: dict[str, Any]) -> str:
    return "\n".join(f"{table.title}\n{as_markdown(table)}" for table in evidence_tables(evidence))


def a_run(data: dict[str, Any], evidence: dict[str, Any]) -> Any:
    return SimpleNamespace(row_id="row", data=lambda: data, evidence=lambda: evidence)


def test_a_clean_split_and_a_leaky_one_are_told_apart() -> None:
    clean = evidence_in_short(a_run(DATA, {}))
    assert clean == [
        "base network: spliceai (5 networks), Δ within 50 bases",
        "leaks: none, the split audited",
    ]
    folds = [{"audit": audit(("leak", "shared exons", 3))}, {"audit": audit(("leak", "shared exons", 4))}]
    (*_, brand) = evidence_in_short(a_run({**DATA, "split": {"folds": folds}}, {}))
    assert brand == "leaks: LEAKY SPLIT, allowed by split.allow_leaks: up to 4 shared exons"
    undone = {**audit(), "not_done": ["paralogs: no sequence at hand"]}
    (*_, partial) = evidence_in_short(a_run({**DATA, "split": {"audit": undone}}, {}))
    assert partial == "leaks: none, the split audited; not checked: paralogs: no sequence at hand"


def test_many_reasons_are_cut_short_with_their_sum() -> None:
    account = {"read": 100, "left_out": {"a": 1, "b": 20, "c": 3, "d": 4, "e": 5, "f": 2}}
    assert coverage_in_words(account) == ("100 rows read, 65 used; left out: 20 b, 5 e, 4 d, 3 c, 3 for 2 more reasons")


def test_observed_sites_in_a_line_and_in_tables() -> None:
    evidence = {"peaks": PEAKS, "localisation": HITS, "effect_types": KINDS}
    (*_, line) = evidence_in_short(a_run(DATA, evidence))
    assert line == (
        "observed sites, net: gains found 0.500 [0.250, 0.750], false gains 0.500 [0.250, 0.750], strongest change at "
        "an observed site 0.900, kind of effect, macro F1 0.625 [0.500, 0.700]"
    )
    words = in_words(evidence)
    assert "(4 variants; 2 observed sites lie beyond the range" in words
    assert "| scorer | peak precision | gain detection | false gain rate |" in words
    assert "| net | 0.900 | 0.900 |" in words
    assert "| no effect | 0 | 1,204 |" in words
    assert evidence_tables({}) == []
    assert "rests on" not in words  # early records do not say in how many groups
    few = [{**record, "of": 7.0, "groups": 3 if record["metric"] == "gain_detection" else 10} for record in PEAKS]
    assert "Gain detection rests on 7 cases in 3 groups: too few to generalise" in in_words({"peaks": few})


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("row 1: v (2:35 A>G) has N in /home/me/genomes/hg38.fa.gz", "row 1: v (2:35 A>G) has N in hg38.fa.gz"),
        ("'/tmp/x/y.tsv', ~/data/z.fa and C:\\Users\\me\\w.fa", "'y.tsv', z.fa and w.fa"),
        ("path=/home/me/x.tsv", "path=x.tsv"),
        ("https://example.org/a/b.tsv, 10.1016/j.cell.2018/12", "https://example.org/a/b.tsv, 10.1016/j.cell.2018/12"),
        ("KosuriLab/MFASS snv/x.RData and/or 3/4", "KosuriLab/MFASS snv/x.RData and/or 3/4"),
    ],
)  # fmt: skip
def test_results_hold_no_folders(written: str, told: str) -> None:
    assert without_folders({"/a/key": [written, 3, None, {"x": (written,)}]}) == {
        "/a/key": [told, 3, None, {"x": [told]}]
    }


def test_a_board_names_its_base_network_and_tells_others_apart(tmp_path: Path) -> None:
    def entry(run: str, scorers: dict[str, str]) -> dict[str, Any]:
        metrics = [
            {
                "scorer": scorer, "kind": kind, "metric": "auprc", "estimate": 0.5, "low": 0.4, "high": 0.6,
                "prevalence": 0.2, "n": 9,
            }
            for scorer, kind in scorers.items()
        ]  # fmt: skip
        return {
            "run": run, "row": run, "metrics": metrics, "seconds": 1.0, "peak_memory_bytes": 1, "dollars": 2.5,
            "data": {"name": "toys"}, "split": {"name": "gene"},
            "test": {"digest": "d", "rows": 9, "positives": 2, "groups": 3},
            "verdicts": ["beats base own_site: AUPRC difference +0.1"],
        }  # fmt: skip

    for run, base in (("one", "spliceai"), ("two", "cispliceai")):
        (tmp_path / run).mkdir()
        data = {**DATA, "base": {**DATA["base"], "name": base}}
        (tmp_path / run / "data.json").write_text(json.dumps(data))
    entries = [
        entry("one", {"base own_site": "base", "cispliceai own_site": "base", "one": "learned"}),
        entry("two", {"base own_site": "base", "two": "learned"}),
    ]
    for one in entries:
        Workspace(tmp_path).ledger.append({"event": "finished", **one})
    (board,) = boards(Workspace(tmp_path))
    assert board.base == "spliceai"
    assert [line.scorer for line in board.lines] == ["base own_site", "cispliceai own_site", "one", "two"]
    assert board.lines[2].verdicts == ("beats base own_site: AUPRC difference +0.1",)
    assert board.lines[3].verdicts == ("beats cispliceai own_site: AUPRC difference +0.1",)
    assert evaluated_on(board).endswith("held out: gene; prevalence 0.200; base is spliceai")
    assert board.to_json()["coverage"] == DATA["coverage"]
    assert "toys: 1,139 rows read, 991 used; left out: 148 no reference sequence" in board_table(board).remarks[1]
    screen = Console(width=100, record=True, file=io.StringIO())
    print_board(board, screen)
    words = screen.export_text()
    assert "$2.50" in words
    assert "data: 1,139 rows read, 991 used" in words
