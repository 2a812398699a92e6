"""The site: numbers on their pages, links that lead somewhere, hostile names that stay text."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.board.leaderboard import boards
from meta_spliceai.experiments.plan.choose import Offered, Plan, RowPlan
from meta_spliceai.experiments.report.figure import write_figure
from meta_spliceai.experiments.report.site import build_report
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.keep_runs import keep_runs
from meta_spliceai.experiments.store.run_record import read_runs
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.document import RowState

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
        {"stratification": "region", "stratum": "deep", "n": 2, "n_positive": 0, "reason": "2 rows: not evaluated"},
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


OFFER = Offered(
    "RTX 4090", True, 3 * 2**30, 1.5, 1.5, 0.66, 0.44, "2025-12", "RunPods", "a test", 32, 1, "calibrated",
    "calibrated", "training", {}, "learned from 2 runs",
)  # fmt: skip
PLAN = Plan((RowPlan(rows()[1].spec, "planned", (OFFER,), ()),), {"later": OFFER}, {}, ("prices are 90 days old",))


class Page(HTMLParser):
    """Links, identifiers and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.plots: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)
            if (name, value) == ("class", "plot"):
                self.plots.append(dict(attrs)["aria-label"])

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def pages_of(folder: Path) -> dict[str, Page]:
    return {path.name: Page(path.read_text(encoding="utf-8")) for path in folder.glob("*.html")}


@pytest.fixture(scope="module")
def site(finished_runs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    build_report(Workspace(finished_runs), out, rows=rows(), plan=PLAN)
    return out


@pytest.fixture
def built(workspace, tmp_path):
    """Builds the site of a folder that a test has changed; its pages."""

    def build(place: Workspace = workspace) -> dict[str, Page]:
        build_report(place, tmp_path / "site", rows=[])
        return pages_of(tmp_path / "site")

    return build


def board_of(pages: dict[str, Page]) -> Page:
    [page] = [page for name, page in pages.items() if name.startswith("board-")]
    return page


def test_every_link_leads_to_a_page_and_a_place_of_it(site):
    pages = pages_of(site)
    assert sum(name.startswith("run-") for name in pages) == 2
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), name
        assert page.tags.count("h1") == 1, name
        for link in page.links:
            target, _, place = unquote(link).partition("#")
            if link == "data:,":
                continue
            assert (site / (target or name)).is_file(), (name, link)
            if place and target != "compare.html":
                assert place in pages[target or name].ids, (name, link)


def test_the_overview_says_what_is_left_and_what_it_costs(site):
    page = pages_of(site)["index.html"]
    for words in (
        "1 of 3 experiments done; the rest takes about 1 h 30 min and $0.66",
        "RTX 4090",
        "3.00 GiB",
        "learned from 2 runs",
        "RTX 4090 $0.44/h (RunPods, 2025-12; a test).",
        "prices are 90 days old",
        "encoder 'x'",
        "wt1-exon5, position-blocks, 90 test variants",
    ):
        assert words in page.text, words


def test_a_leaderboard_shows_every_number_of_its_lines(site, finished_runs):
    page = board_of(pages_of(site))
    [board] = boards(Workspace(finished_runs))
    assert [line.kind for line in board.lines] == ["baseline", "base", "base", "learned", "learned"]
    for line in board.lines:
        value = line.values["auroc"]
        assert f"{value.estimate:.3f} [{value.low:.3f}, {value.high:.3f}]" in page.text
        for verdict in line.verdicts:
            assert verdict in page.text
    for words in (
        "spliceai ×5 Δ within 50 nt, window 101 nt, construct context",
        "1 min 23 s 679 MiB",
        "Splice-altering: relative inclusion below a half",
        "left out: straddles a block border (such as row 0; row 1; row 2) 12",
        "a subset: 1,000 of 5,560 variants, drawn with seed 7",
    ):
        assert words in page.text, words
    for plot in ("Scorers compared", "Precision by recall", "ROC curves"):
        assert plot in page.plots
    assert any(name.startswith("Saturation map, single") for name in page.plots)


def test_a_run_s_page_shows_its_evidence(workspace, built):
    run = workspace.find("wt1-validated-delta")
    run.write_json("evidence.json", EVIDENCE)
    page = built()[f"run-{run.name}.html"]
    for words in (
        "region deep: 2 rows: not evaluated",
        "wt1-validated-delta 0.610 [0.550, 0.670]",
        "auprc 0.930 [0.900, 0.950]",
        "strata: the data set knows no regions",
        "learning_rate: 0.001",
        "python: 3.11.9",
        "679 MiB",
        "predictions.parquet",
        "41 variants with a site in range, 5 more with sites out of range",
        "the variant itself 0.250 [0.150, 0.300] 0.500 [0.400, 0.550] 0.750 [0.650, 0.800]",
        "spliceai, gain detection: no gained site is known",
        "of the gained sites observed that the reference lacks, those predicted",
        "no effect 4 1,050",
    ):
        assert words in page.text, words
    for plot in ("AUPRC by region", "AUROC by region", "Reliability", "Precision by recall", "ROC curves",
                 "Is the strongest change at the right place?", "Is the kind of effect right?"):  # fmt: skip
        assert plot in page.plots, plot
    assert any(name.startswith("Training curves; lowest validation loss") for name in page.plots)
    assert any(name.startswith("base own_site: ρ = ") for name in page.plots)


def test_what_two_runs_are_compared_by(site):
    first, second = (
        json.loads(path.read_text().removeprefix("compared(").removesuffix(");\n"))
        for path in sorted(site.glob("data/wt1*"))
    )
    assert first["test"] == second["test"] != ""
    assert first["plan"] == second["plan"] != ""
    assert len(first["areas"]["auprc"]) == 200
    assert first["facts"]["training.epochs"] == "30"
    assert first["losses"]["epoch"] == list(range(1, 25))
    metric, estimate, low, high = first["metrics"]["AUPRC"]
    assert metric == "auprc"
    assert low < estimate < high


@pytest.mark.slow
def test_hostile_names_stay_text_on_every_page(tmp_path, small_screen, built):
    place = Workspace(tmp_path / "hostile")
    frame = small_screen.assign(background=HOSTILE, variant_id=HOSTILE + small_screen["variant_id"])
    run = write_run(place, "wt1-validated-delta", HOSTILE, 0.8, frame=frame)
    write_run(place, "other", "Other", 0.5, frame=small_screen)
    run.mark("finished", reason=HOSTILE, stale=HOSTILE, device=HOSTILE, notes=[HOSTILE],
             licences=[{"name": HOSTILE, "licence": HOSTILE}])  # fmt: skip
    evaluated = run.metrics()
    evaluated["scorers"][3]["note"] = HOSTILE
    run.write_json("metrics.json", evaluated)
    run.write_json("data.json", {**run.data(), "label_rule": HOSTILE, "effect_label": HOSTILE, "data_set": HOSTILE})
    run.write_json(
        "evidence.json", {**EVIDENCE, "reasons": {HOSTILE: HOSTILE}, "strata": [{**JUDGED, "stratum": HOSTILE}]}
    )
    pages = built(place)
    for name, page in pages.items():
        assert "img" not in page.tags, name
    assert HOSTILE in pages["index.html"].text
    assert pages[f"run-{run.name}.html"].text.count(HOSTILE) >= 5
    for path in (tmp_path / "site").rglob("data/*.js"):
        assert "<" not in path.read_text(), path.name
    assert "<script" not in write_figure(place, tmp_path / "figure.svg").read_text()


def test_only_pages_whose_runs_have_changed_are_written_again(workspace, tmp_path, built, monkeypatch):
    built()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*.*") if path.name[0] != "."}
    run = workspace.find("wt1-simple-cnn")
    drawn = []
    from meta_spliceai.experiments.report import site

    real = site._render_run
    monkeypatch.setattr(site, "_render_run", lambda *given: drawn.append(given[1].name) or real(*given))
    built()
    assert drawn == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    run.mark("finished", reason="said later")
    assert "said later" in built()[f"run-{run.name}.html"].text
    assert drawn == [run.name]
    shutil.rmtree(run.path)
    (tmp_path / "site" / "mine.txt").write_text("kept")
    assert f"run-{run.name}.html" not in built()
    assert (tmp_path / "site" / "mine.txt").read_text() == "kept"
    assert not (tmp_path / "site" / "data" / f"{run.name}.js").exists()


def test_the_same_runs_give_the_same_bytes(site, finished_runs, tmp_path):
    build_report(Workspace(finished_runs), tmp_path, rows=rows(), plan=PLAN)
    for path in site.rglob("*.html"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


DAMAGE = {
    "run.json": b'{"state": "finis',
    "metrics.json": b'{"scorers": [1], "metrics": 3}',
    "predictions.parquet": b"PAR1 and no more",
    "curves.parquet": b"",
    "spec.yaml": b"a: [1\nb",
    "data.json": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named_and_stops_nothing(workspace, built, name):
    run = workspace.find("wt1-simple-cnn")
    (run.path / name).write_bytes(DAMAGE[name])
    pages = built()
    assert name in pages[f"run-{run.name}.html"].text
    if name != "predictions.parquet":
        [record] = [record for record in read_runs(workspace) if record.name == run.name]
        assert record.state == "damaged"
        assert "damaged" in pages["index.html"].text
    assert "wt1-validated-delta" in board_of(pages).text


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "spec.yaml"])
def test_a_missing_file_is_named(workspace, built, name):
    run = workspace.find("wt1-simple-cnn")
    (run.path / name).unlink()
    assert f"{name} is missing" in built()[f"run-{run.name}.html"].text


def test_predictions_without_labels_lose_their_plots_only(workspace, built):
    for run in workspace.runs():
        table = run.read_predictions()
        run.write_frame("predictions.parquet", table.drop(columns=["classification", "effect"]))
    page = built()["run-wt1-simple-cnn-0123456789ab.html"]
    assert "No curve can be drawn: the predictions were kept without the classes of the test variants" in page.text
    assert "Scorers compared" in page.plots


def test_runs_that_failed_smoke_runs_and_a_torn_ledger_are_shown(workspace, built, small_screen):
    smoke = write_run(workspace, "smoked", "Smoke", 0.9, frame=small_screen)
    smoke.write_yaml("spec.yaml", {"title": "Smoke", "smoke": True})
    workspace.ledger.append({**workspace.finished()[-1], "run": smoke.name, "smoke": True})
    workspace.run("late-0123456789ab").mark("failed", "out of memory at batch 256; fits at 128")
    with (workspace.root / "ledger.jsonl").open("a") as handle:
        handle.write('{"event": "fin')
    pages = built()
    for words in ("out of memory at batch 256; fits at 128", "smoke run, no result", "the last line was cut off"):
        assert words in pages["index.html"].text, words
    assert "smoked" not in board_of(pages).text


def test_a_run_that_is_worked_on_says_how_far_it_is(workspace, built):
    run = workspace.run("now-0123456789ab")
    with run.taken():
        run.mark("running", title="Now", started="2026-01-05T10:00:00+00:00")
        run.write_json("progress.json", {"stage": "training", "epoch": 3, "epochs": 30, "share": 0.1, "loss": 0.25})
        pages = built()
    assert "training, epoch 3 of 30, loss 0.2500" in pages["index.html"].text
    assert "training, epoch 3 of 30" in pages[f"run-{run.name}.html"].text


def test_another_test_is_another_board_and_runs_of_one_row_are_told_apart(workspace, built, small_screen):
    fewer = small_screen.drop(index=small_screen.index[small_screen["part"] == "test"][:1])
    write_run(workspace, "other", "Other", 0.7, frame=fewer)
    again = workspace.root / "wt1-simple-cnn-ffffffffffff"
    shutil.copytree(workspace.find("wt1-simple-cnn").path, again)
    [entry] = [entry for entry in workspace.finished() if entry["row"] == "wt1-simple-cnn"]
    workspace.ledger.append({**entry, "run": again.name})
    found = [page for name, page in built().items() if name.startswith("board-")]
    assert len(found) == 2
    [three] = [page for page in found if "wt1-simple-cnn · ffffffffffff" in page.text]
    assert "wt1-simple-cnn · 0123456789ab" in three.text


def test_a_ledger_that_is_only_read_is_shown_and_left_as_it_is(workspace, tmp_path, built):
    keep_runs(workspace, [], tmp_path / "results")
    before = sorted(path.as_posix() for path in (tmp_path / "results").rglob("*"))
    pages = built(Workspace(tmp_path / "empty", ledgers=(tmp_path / "results",)))
    assert "No curve can be drawn: the predictions were not kept" in pages["run-wt1-simple-cnn-0123456789ab.html"].text
    assert len(boards(Workspace(tmp_path / "empty", ledgers=(tmp_path / "results",)))) == 1
    assert sorted(path.as_posix() for path in (tmp_path / "results").rglob("*")) == before


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path, built):
    page = built(Workspace(tmp_path / "absent"))["index.html"]
    assert "No finished run yet" in page.text
    assert "The folder holds no run." in page.text


def test_one_page_is_no_site(tmp_path, workspace):
    with pytest.raises(InputError, match="the site is a folder of pages"):
        build_report(workspace, tmp_path / "lab.html")


def test_the_picture(workspace, tmp_path):
    text = write_figure(workspace, tmp_path / "a" / "quickstart.svg").read_text()
    assert "wt1-validated-delta" in text
    assert "orange is loss" in text
    with pytest.raises(InputError, match="no finished run"):
        write_figure(Workspace(tmp_path / "absent"), tmp_path / "x.svg")
    with pytest.raises(InputError, match=r"ends in \.svg or \.png"):
        write_figure(workspace, tmp_path / "x.pdf")
