"""The site: every page whole and self-contained, links that lead somewhere, the same runs the same bytes."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from meta_spliceai.experiments.progress_of_rows import RowState
from meta_spliceai.experiments.report.left import Cost, Left
from meta_spliceai.experiments.report.planned_plot import PlannedPoint
from meta_spliceai.experiments.report.site import build_report, progress_words, render_site
from meta_spliceai.experiments.results import keep_runs
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.experiments.workspace import Workspace

from .conftest import STRATUM, write_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"

JUDGED = {
    **STRATUM,
    "scorer": "wt1-validated-delta",
    "kind": "learned",
    "estimate": 0.8,
    "low": 0.7,
    "high": 0.9,
    "reason": "",
}
EVIDENCE = {
    "format": 1,
    "negatives": ["Normal"],
    "rows": 90,
    "strata": [
        JUDGED,
        {**JUDGED, "metric": "auroc"},
        {"stratification": "region", "stratum": "deep", "n": 2, "n_positive": 0, "reason": "2 rows: not judged"},
    ],
    "within_position": [{"scorer": "wt1-validated-delta", "estimate": 0.61, "low": 0.55, "high": 0.67, "reason": ""}],
    "gain_over_position": [
        {"scorer": "base own_site", "kind": "base", "metric": "auprc", "estimate": 0.12, "low": 0.02, "high": 0.2}
    ],
    "calibration": [
        {
            "scorer": "wt1-validated-delta",
            "kind": "learned",
            "n": 90,
            "summary": [{"metric": "brier_skill", "estimate": 0.3, "low": 0.1, "high": 0.4}],
            "curve": [
                {"lowest": 0, "highest": 0.2, "n": 50, "predicted": 0.1, "observed": 0.2, "low": 0.1, "high": 0.3}
            ],
        }
    ],
    "ceiling": [{"metric": "auprc", "estimate": 0.93, "low": 0.9, "high": 0.95}],
    "peaks": [
        {"scorer": scorer, "metric": metric, **found, "n": 64, "out_of_reach": 3}
        for scorer in ("spliceai", "wt1-validated-delta")
        for metric, found in (
            ("peak_recall", {"estimate": 0.75, "low": 0.5, "high": 0.875, "hits": 30.0, "of": 40.0, "reason": ""}),
            ("gain_detection", {"estimate": None, "low": None, "high": None, "reason": "no gained site is known"}),
        )
    ],
    "localisation": [
        {
            "scorer": scorer,
            "tolerance": near,
            "estimate": found,
            "low": found - 0.1,
            "high": found + 0.05,
            "n": 41,
            "n_without_prediction": silent,
            "out_of_reach": 5,
            "reason": "",
        }
        for scorer, silent, at in (
            ("the variant itself", 0, (0.25, 0.5, 0.75)),
            ("spliceai", 0, (0.625, 0.75, 0.875)),
            ("wt1-validated-delta", 7, (0.5, 0.625, 0.75)),
        )
        for near, found in zip((0, 1, 5), at, strict=True)
    ],
    "effect_types": [
        {
            "scorer": scorer,
            "n": 64,
            "several_observed": 9,
            "metrics": [
                {"metric": "macro F1", "estimate": 0.625, "low": 0.5, "high": 0.75, "n": 64, "reason": ""},
                {"metric": "accuracy", "estimate": 0.8125, "low": 0.7, "high": 0.9, "n": 64, "reason": ""},
                {
                    "metric": "F1 of donor loss",
                    "estimate": 0.375,
                    "low": None,
                    "high": None,
                    "n": 10,
                    "reason": "undefined on 3 of 400 resamples",
                },
            ],
            "confusion": [
                {"observed": "donor loss", "donor loss": 8, "no effect": 2},
                {"observed": "no effect", "donor loss": 4, "no effect": 1050},
            ],
        }
        for scorer in ("spliceai", "wt1-validated-delta")
    ],
    "reasons": {"strata": "the data set knows no regions"},
}


def rows() -> list[RowState]:
    def spec(row: str) -> ExperimentSpec:
        return ExperimentSpec.model_validate(
            {"id": row, "title": row.title(), "section": "S", "wish": {"priority": "high"}}
        )

    return [
        RowState(spec("wt1-simple-cnn"), "completed", last_run="wt1-simple-cnn-0123456789ab"),
        RowState(spec("later"), "runnable"),
        RowState(spec("never"), "wished", missing=("encoder 'x'",)),
    ]


LEFT = Left(
    {"later": Cost("RTX 4090", 3 * 2**30, 1.5, 0.66, "calibrated", "learned from 2 runs")},
    1.5,
    0.66,
    ("RTX 4090: RunPods, 2025-12",),
    ("prices are 90 days old",),
    (PlannedPoint("one", 2.0, 3.0, 2.1), PlannedPoint("two", 4.0, 3.0, float("nan"))),
    (PlannedPoint("one", 200.0, 300.0, 210.0),),
)


class Page(HTMLParser):
    """Links, identifiers and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name != "src"
            if name == "href":
                self.links.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def site(finished_runs) -> dict[str, str]:
    return render_site(Workspace(finished_runs), rows=rows(), left=LEFT)


def test_every_link_leads_to_a_page_and_a_place_of_it(site):
    pages = {name: Page(text) for name, text in site.items()}
    assert set(pages) == {
        "index.html",
        "compare.html",
        "board-1.html",
        "run-wt1-simple-cnn-0123456789ab.html",
        "run-wt1-validated-delta-0123456789ab.html",
    }
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), name
        assert page.tags.count("h1") == 1, name
        for link in page.links:
            if link.startswith("data:"):
                continue
            target, _, place = unquote(link).partition("#")
            assert target in ("", *pages), (name, link)
            if place and target != "compare.html":
                assert place in pages[target or name].ids, (name, link)


def test_the_overview_says_what_is_left_and_what_it_costs(site):
    text = Page(site["index.html"]).text
    for words in (
        "1 of 3 experiments done; the rest takes about 1.5 h and $0.66",
        "RTX 4090",
        "3.00 GiB",
        "learned from 2 runs",
        "RTX 4090: RunPods, 2025-12.",
        "prices are 90 days old",
        "encoder 'x'",
        "wt1-exon5, position-blocks,",
        "beats",
    ):
        assert words in text, words
    assert "1 of 1 calibrated predictions within 15%" in site["index.html"]
    assert "Timeline of runs" in site["index.html"]


def test_without_a_plan_the_wishlists_guesses_are_shown(finished_runs):
    page = render_site(Workspace(finished_runs), rows=rows(), plan=False)["index.html"]
    assert "the wishlist's own guesses" in Page(page).text
    assert "Peak memory" not in page


def test_a_run_s_page_shows_its_evidence(workspace):
    workspace.find("wt1-validated-delta").write_json("evidence.json", EVIDENCE)
    text = render_site(workspace, rows=[], plan=False)["run-wt1-validated-delta-0123456789ab.html"]
    page = Page(text)
    for words in (
        "Where it is good and where not",
        "region deep: 2 rows: not judged",
        "Beyond position",
        "brier skill",
        "How well the measurement predicts itself",
        "strata: the data set knows no regions",
        "learning_rate: 0.001",
        "python: 3.11.9",
        "679 MiB",
        "predictions.parquet",
    ):
        assert words in page.text, words
    for plot in (
        "AUPRC by region",
        "AUROC by region",
        "Reliability",
        "Precision by recall",
        "ROC curves",
        "Training curves",
    ):
        assert f'aria-label="{plot}' in text, plot
    assert "one replicate of the measurement predicts the other with AUPRC 0.93" in text


def test_a_run_s_page_shows_observed_sites_with_intervals(workspace):
    run = workspace.find("wt1-validated-delta")
    run.write_json("evidence.json", EVIDENCE)
    text = render_site(workspace, rows=[], plan=False)[f"run-{run.name}.html"]
    page = Page(text)
    for words in (
        "Against observed splice sites",
        "Strongest change at an observed site, within so many bases (41 variants with one in reach, 5 others",
        "row zero the variant itself 0.250 [0.15, 0.30] 0.500 [0.40, 0.55] 0.750 [0.65, 0.80]",
        "0 nt ±1 nt ±5 nt",
        "Splice sites after adding Δ, against observed ones (64 variants; 3 observed sites lie farther away",
        "peak recall gain detection base spliceai 0.750 [0.50, 0.88] – no gained site is known",
        "of the gained sites observed that the reference lacks, those predicted",
        "macro F1 accuracy donor loss",
        "0.375 undefined on 3 of 400 resamples",
        "Macro F1 0.625 [0.500, 0.750]; 64 variants (9 with several observed kinds, any of which is right).",
        "no effect 4 1,050",
    ):
        assert words in page.text, words
    for mark in (
        "±5 nt, wt1-validated-delta: hit rate 0.750 [0.65, 0.80], 7 without an answer",
        "peak recall, spliceai: share 0.750 [0.50, 0.88], 30 of 40",
        "donor loss, spliceai: F1 0.375, 10 observed",
        "no effect predicted as donor loss: 4 of 1,054",
    ):
        assert f'data-tip="{mark}"' in text, mark
    assert "accuracy, spliceai" not in text  # no F1, so that it stands in the table only
    assert text.index("Kinds of effect of wt1-validated-delta") < text.index("Kinds of effect of spliceai")


def test_peaks_of_early_runs_do_not_say_on_how_many_variants(workspace):
    run = workspace.find("wt1-validated-delta")
    early = [{key: value for key, value in record.items() if key != "n"} for record in EVIDENCE["peaks"]]
    run.write_json("evidence.json", {**EVIDENCE, "peaks": early, "localisation": [], "effect_types": []})
    page = Page(render_site(workspace, rows=[], plan=False)[f"run-{run.name}.html"])
    assert "Splice sites after adding Δ, against observed ones." in page.text
    assert "Which kinds are taken for which" not in page.text


def test_a_board_says_what_each_scorer_rests_on_and_what_it_took(site):
    text = Page(site["board-1.html"]).text
    table = text.partition("What each rests on, and what it took.")[2]
    judged = int(table.partition("Cost row zero position only")[2].partition("– – ")[2].split()[0])
    of = table.partition(" % of ")[2].split()[0]
    assert 0 < judged <= int(of)
    coverage = f"{judged} {100 * judged / int(of):.1f} % of {of}"
    context = "spliceai ×5 Δ within 50 nt"
    for words in (
        f"– – {coverage} – – –",
        f"{context}, construct context {coverage} – – –",
        f"{context}, window 101 nt, construct context {coverage} 1 min 23 s 679 MiB $0.25",
        f"{context}, window 101 nt, construct context {coverage} 7.0 s 679 MiB –",
    ):
        assert words in table, words


def test_compared_runs_carry_what_the_page_needs(site):
    data = json.loads(site["compare.html"].partition('id="compared">')[2].partition("</script>")[0])
    first, second = data["runs"]
    assert first["test"] == second["test"]
    assert first["plan"] == second["plan"] != ""
    assert len(first["areas"]["auprc"]) == len(second["areas"]["auprc"]) == 200
    assert first["facts"]["training.epochs"] == "30"
    assert first["facts"]["id"] != second["facts"]["id"]
    assert first["losses"]["epoch"] == list(range(1, 25))
    assert first["metrics"]["auprc"][1] < first["metrics"]["auprc"][0] < first["metrics"]["auprc"][2]


def test_the_same_runs_give_the_same_bytes(site, finished_runs):
    assert render_site(Workspace(finished_runs), rows=rows(), left=LEFT) == site


def test_hostile_names_stay_text_on_every_page(tmp_path, small_screen):
    place = Workspace(tmp_path / "runs")
    run = write_run(place, "wt1-validated-delta", HOSTILE, 0.8, frame=small_screen.assign(background=HOSTILE))
    write_run(place, "other", "Other", 0.5, frame=small_screen)
    run.mark("finished", reason=HOSTILE, stale=HOSTILE, device=HOSTILE)
    run.write_json(
        "evidence.json", {**EVIDENCE, "reasons": {HOSTILE: HOSTILE}, "strata": [{**JUDGED, "stratum": HOSTILE}]}
    )
    for name, text in render_site(place, rows=[], plan=False).items():
        page = Page(text)
        assert "img" not in page.tags, name
        assert page.tags.count("script") <= 2, name


def test_pages_of_runs_that_are_gone_go_too(workspace, tmp_path):
    out = tmp_path / "site"
    assert build_report(workspace, out, plan=False) == out / "index.html"
    (out / "mine.txt").write_text("kept")
    run = workspace.find("wt1-simple-cnn")
    for file in run.path.iterdir():
        file.unlink()
    run.path.rmdir()
    build_report(workspace, out, plan=False)
    assert not (out / "run-wt1-simple-cnn-0123456789ab.html").exists()
    assert (out / "mine.txt").read_text() == "kept"


def test_runs_that_failed_or_are_damaged_have_pages(workspace):
    workspace.run("late-0123456789ab").mark("failed", "out of memory at batch 256; fits at 128")
    (workspace.find("wt1-simple-cnn").path / "metrics.json").write_text("{")
    site = render_site(workspace, rows=[], plan=False)
    assert "out of memory at batch 256; fits at 128" in Page(site["run-late-0123456789ab.html"]).text
    assert "metrics.json cannot be read" in Page(site["run-wt1-simple-cnn-0123456789ab.html"]).text
    assert "out of memory at batch 256; fits at 128" in Page(site["index.html"]).text


def test_a_run_that_is_worked_on_says_how_far_it_is(workspace):
    run = workspace.run("now-0123456789ab")
    with run.taken():
        run.mark("running", title="Now", started="2026-01-05T10:00:00+00:00")
        run.write_json("progress.json", {"stage": "training", "epoch": 3, "epochs": 30, "share": 0.1, "loss": 0.25})
        site = render_site(workspace, rows=[], plan=False)
    assert "training, epoch 3 of 30, loss 0.2500" in Page(site["index.html"]).text
    assert 'value="0.1"' in site["run-now-0123456789ab.html"]
    assert progress_words({"stage": "base scores", "done": 5, "total": 2000, "loss": None}) == "base scores, 5 of 2,000"


def test_ledgers_that_are_only_read_are_shown(workspace, tmp_path):
    over = Workspace(tmp_path / "mine", (workspace.root,))
    assert len(render_site(over, rows=[], plan=False)) == 5
    assert not Path(tmp_path / "mine").exists()


def test_runs_kept_without_labels_share_a_board_and_say_why_curves_are_missing(finished_runs, tmp_path):
    kept = tmp_path / "kept"
    keep_runs(Workspace(finished_runs), ["wt1-simple-cnn", "wt1-validated-delta"], kept, labels=False)
    site = render_site(Workspace(tmp_path / "none", (kept,)), rows=rows(), left=LEFT)
    assert [name for name in site if name.startswith("board-")] == ["board-1.html"]
    board = Page(site["board-1.html"])
    assert {"wt1-simple-cnn", "wt1-validated-delta"} <= set(board.text.split())
    assert "No curve can be drawn: the predictions were kept without the classes of the test variants" in board.text
    assert "Precision by recall" not in site["board-1.html"]
    compared = json.loads(site["compare.html"].partition('id="compared">')[2].partition("</script>")[0])["runs"]
    assert len({run["test"] for run in compared}) == 1
    assert all("without the classes" in run["no_curves"] for run in compared)


def test_a_run_with_labels_gives_its_board_the_curves_and_names_the_others(finished_runs, tmp_path):
    kept, own = tmp_path / "kept", Workspace(tmp_path / "runs", (tmp_path / "kept",))
    keep_runs(Workspace(finished_runs), ["wt1-validated-delta"], kept, labels=False)
    keep_runs(Workspace(finished_runs), ["wt1-simple-cnn"], own.root)
    board = Page(render_site(own, rows=rows(), left=LEFT)["board-1.html"])
    assert "Without curves: wt1-validated-delta-0123456789ab" in board.text


def test_a_run_without_a_line_in_the_ledger_stands_alone(workspace):
    lines = workspace.ledger.path.read_text(encoding="utf-8").splitlines(keepends=True)
    workspace.ledger.path.write_text(lines[0], encoding="utf-8")
    site = render_site(workspace, rows=rows(), left=LEFT)
    assert [name for name in site if name.startswith("board-")] == ["board-1.html", "board-2.html"]
