"""The page: complete, self-contained, honest about damage, and deaf to hostile text."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.report.collect import RunRecord, collect_runs
from meta_spliceai.experiments.report.figure import write_figure
from meta_spliceai.experiments.report.leaderboard import Standing, boards, verdict_level, verdict_summary
from meta_spliceai.experiments.report.page import memory, render_page, seconds
from meta_spliceai.experiments.workspace import Workspace
from meta_spliceai.splice_engine.meta_layer.evaluation.result import (
    DIFFERENCE_COLUMNS,
    METRIC_COLUMNS,
    Evaluation,
    Verdict,
    tidy,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer
from meta_spliceai.splice_engine.variants.coverage import Coverage

from .conftest import write_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._silent = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(workspace: Workspace) -> Elements:
    return Elements(render_page(workspace, rows=[]))


def test_rows_zero_stand_first_and_learned_models_last(workspace):
    [board] = boards(collect_runs(workspace))
    assert [standing.kind for standing in board.standings] == ["row zero", "base", "base", "learned", "learned"]
    best, second = board.learned
    assert best.number("auprc")[0] >= second.number("auprc")[0]


def test_the_page_shows_verdicts_intervals_and_every_part(workspace):
    page = page_of(workspace)
    [board] = boards(collect_runs(workspace))
    for standing in board.learned:
        assert f"{standing.name} {verdict_summary(standing)}." in page.text
        for verdict in standing.verdicts:
            assert verdict.text in page.text
        estimate, low, high = standing.number("auroc")
        assert f"{estimate:.3f} [{low:.2f}, {high:.2f}]" in page.text
    for words in (
        "Prevalence of Splice-altering",
        "Splice-altering: relative inclusion below a half",
        "Blocks of two neighbouring sites",
        "straddles a block border",
        "1 min 23 s",
        "679 MiB",
        "CC BY-NC 4.0",
        "none stated",
        "learning_rate: 0.001",
        "A subset: 1,000 of 5,560 variants, drawn with seed 7.",
        "Measured: log2 relative inclusion",
        "lowest validation loss",
    ):
        assert words in page.text, words


def test_nothing_is_fetched(workspace):
    page = page_of(workspace)
    for tag, attributes in page.found:
        for name in ("src", "href", "action", "data", "srcset"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, name, target)
    assert not re.search(r"url\(|@import", render_page(workspace, rows=[]))


def test_the_same_runs_give_the_same_bytes(workspace):
    assert render_page(workspace, rows=[]) == render_page(workspace, rows=[])


def test_plots_have_accessible_names(workspace):
    plots = [a for tag, a in page_of(workspace).found if tag == "svg"]
    assert len(plots) >= 8
    for attributes in plots:
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"] or "") > 20


def test_hostile_text_stays_text(tmp_path, small_screen):
    place = Workspace(tmp_path / "runs")
    frame = small_screen.assign(background=HOSTILE, variant_id=HOSTILE + small_screen["variant_id"])
    run = write_run(place, "wt1-validated-delta", HOSTILE, 0.8, frame=frame)
    run.mark("finished", reason=HOSTILE, notes=[HOSTILE], licences=[{"name": HOSTILE, "licence": HOSTILE}])
    judged = run.metrics()
    judged["scorers"][3]["note"] = HOSTILE
    run.write_json("metrics.json", judged)
    run.write_json("data.json", {**run.data(), "label_rule": HOSTILE, "effect_label": HOSTILE, "data_set": HOSTILE})
    page = page_of(place)
    assert [tag for tag, _ in page.found if tag == "script"] == ["script"] * 2
    assert "img" not in [tag for tag, _ in page.found]
    assert page.text.count(HOSTILE) >= 5
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    out = write_figure(place, tmp_path / "figure.svg")
    assert "<script" not in out.read_text()


def test_map_data_survive_the_way_into_the_page(workspace):
    text = render_page(workspace, rows=[])
    block = text.partition('id="maps">')[2].partition("</script>")[0]
    data = json.loads(block)["map-0"]
    assert list(data["backgrounds"]) == ["A", "B"]
    table = workspace.runs()[0].read_predictions().set_index("variant_id")
    row = table[(table["background"] == "B") & (table["sites_mutated"] == 1)].iloc[5]
    site = data["sites"].index(row["site"])
    word = "ACGT".index(row["alt"])
    assert data["backgrounds"]["B"]["values"][0][0][word][site] == pytest.approx(row["effect"], abs=6e-4)


DAMAGE = {
    "run.json": b'{"state": "finis',
    "metrics.json": b'{"scorers": [1], "metrics": 3}',
    "predictions.parquet": b"PAR1 and no more",
    "curves.parquet": b"",
    "spec.yaml": b"a: [1\nb",
    "data.json": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_shown_and_stops_nothing(workspace, name):
    run = workspace.find("wt1-simple-cnn")
    (run.path / name).write_bytes(DAMAGE[name])
    page = page_of(workspace)
    records = {record.row: record for record in collect_runs(workspace)}
    assert records["wt1-simple-cnn"].state == "damaged"
    assert name in page.text
    [board] = boards(list(records.values()))
    assert [standing.name for standing in board.learned] == ["wt1-validated-delta"]


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "predictions.parquet", "spec.yaml"])
def test_a_missing_file_is_shown(workspace, name):
    (workspace.find("wt1-simple-cnn").path / name).unlink()
    records = {record.row: record for record in collect_runs(workspace)}
    assert records["wt1-simple-cnn"].state == "damaged"
    assert name in records["wt1-simple-cnn"].reason
    assert f"{name} is missing" in page_of(workspace).text


def test_a_prediction_table_with_other_columns_loses_its_plots_only(workspace):
    for run in workspace.runs():
        table = run.read_predictions()
        run.write_frame("predictions.parquet", table.drop(columns=["variant_id", "effect", "group", "background"]))
    page = page_of(workspace)
    assert "kept without the data set's classes and measured effects" in page.text
    assert "No curve can be drawn: the predictions were kept without the names and groups" in page.text
    assert "wt1-validated-delta" in page.text


def test_failed_and_smoke_runs_are_listed_but_judge_nothing(workspace, small_screen):
    write_run(workspace, "smoked", "Smoke", 0.9, frame=small_screen).write_yaml(
        "spec.yaml", {"title": "Smoke", "smoke": True}
    )
    failed = workspace.run("late-0123456789ab")
    failed.mark("failed", "out of memory at batch 256; fits at 128")
    text = page_of(workspace).text
    assert "out of memory at batch 256; fits at 128" in text
    assert "smoke run, no result" in text
    [board] = boards(collect_runs(workspace))
    assert {standing.name for standing in board.learned} == {"wt1-validated-delta", "wt1-simple-cnn"}


def test_another_test_is_another_board(workspace, small_screen):
    fewer = small_screen.drop(index=small_screen.index[small_screen["part"] == "test"][:1])
    write_run(workspace, "other", "Other", 0.7, frame=fewer)
    assert sorted(len(board.runs) for board in boards(collect_runs(workspace))) == [1, 2]


@pytest.mark.parametrize(
    "other", [{"split": {"name": "another", "folds": None}}, {"split": {"folds": 5}}, {"test": {"digest": "another"}}]
)
def test_another_split_or_other_negatives_are_another_board(workspace, other):
    run = workspace.find("wt1-simple-cnn")
    [entry] = [entry for entry in workspace.finished() if entry["run"] == run.name]
    workspace.ledger.append({**entry, **{name: {**entry[name], **fields} for name, fields in other.items()}})
    assert len(boards(collect_runs(workspace))) == 2


def test_two_runs_of_one_row_are_told_apart(workspace, small_screen):
    run = write_run(Workspace(workspace.root / "again"), "wt1-simple-cnn", "SimpleCNN", 0.6, frame=small_screen)
    workspace.ledger.append({**workspace.finished()[-1], "run": "wt1-simple-cnn-ffffffffffff"})
    run.path.rename(workspace.root / "wt1-simple-cnn-ffffffffffff")
    shutil.rmtree(workspace.root / "again")
    [board] = boards(collect_runs(workspace))
    names = [standing.name for standing in board.learned]
    assert len(set(names)) == 3
    assert sum("wt1-simple-cnn-ffffffffffff" in name for name in names) == 1


def test_a_torn_ledger_line_is_named(workspace):
    (workspace.root / "ledger.jsonl").write_text('{"event": "finished"}\n{"event": "fin')
    assert "the last line was cut off while it was written" in page_of(workspace).text


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
    page = page_of(Workspace(tmp_path / "absent"))
    assert "No finished run yet" in page.text
    assert "The folder holds no run." in page.text


@pytest.mark.parametrize(
    ("differences", "level", "words"),
    [
        ({}, "calm", "was not compared with any simple rival"),
        ({"a": (0.1, 0.3), "b": (0.2, 0.4)}, "good", "beats every simple rival: a and b"),
        ({"a": (-0.1, 0.3), "b": (-0.2, 0.4)}, "warn", "is not shown to beat any simple rival: a and b"),
        ({"a": (-0.4, -0.3)}, "bad", "is worse than every simple rival: a"),
        (
            {"a": (0.1, 0.2), "b": (-0.1, 0.2), "c": (-0.3, -0.1)},
            "bad",
            "beats a; is not shown to beat b; is worse than c",
        ),
    ],
)
def test_verdicts_in_words(differences, level, words):
    scorer = Scorer("m", "learned")
    rows = [
        {"scorer": "m", "reference": name, "metric": "auprc", "estimate": (low + high) / 2, "low": low, "high": high}
        for name, (low, high) in differences.items()
    ]
    judged = Evaluation([scorer], tidy([], METRIC_COLUMNS), tidy(rows, DIFFERENCE_COLUMNS), Coverage(0))
    verdicts = tuple(Verdict("m", name, "auprc", low > 0, "") for name, (low, _) in differences.items())
    standing = Standing("m", scorer, RunRecord("r", "r"), judged, verdicts)
    assert (verdict_level(standing), verdict_summary(standing)) == (level, words)


def test_amounts_for_people():
    assert [seconds(value) for value in (3.14, 59.4, 83.4, 7265, None, "x")] == [
        "3.1 s", "59 s", "1 min 23 s", "2 h 01 min", "not recorded", "not recorded",
    ]  # fmt: skip
    assert [memory(value) for value in (5 * 2**20, 3 * 2**30, None)] == ["5 MiB", "3.00 GiB", "not recorded"]


def test_the_picture(workspace, tmp_path):
    out = write_figure(workspace, tmp_path / "a" / "quickstart.svg")
    text = out.read_text()
    assert "<style>" in text
    assert "prefers-color-scheme:dark" in text
    assert "wt1-validated-delta" in text
    with pytest.raises(InputError, match="no finished run"):
        write_figure(Workspace(tmp_path / "absent"), tmp_path / "x.svg")
    with pytest.raises(InputError, match=r"ends in \.svg"):
        write_figure(workspace, tmp_path / "x.png")


def test_the_page_has_one_first_heading_and_a_way_to_every_board(workspace, small_screen):
    fewer = small_screen.drop(index=small_screen.index[small_screen["part"] == "test"][:1])
    write_run(workspace, "other", "Other", 0.7, frame=fewer)
    found = page_of(workspace).found
    assert [tag for tag, _ in found].count("h1") == 1
    targets = {attributes.get("id") for _, attributes in found}
    links = [attributes["href"] for tag, attributes in found if tag == "a"]
    assert {"#leaderboard", "#leaderboard-1"} <= set(links)
    assert {link[1:] for link in links} <= targets
    identifiers = [attributes["id"] for _, attributes in found if attributes.get("id")]
    assert len(identifiers) == len(set(identifiers))


def test_a_run_whose_inputs_changed_is_called_stale(workspace):
    run = workspace.find("wt1-simple-cnn")
    run.mark("finished", stale="the data set's content changed")
    text = page_of(workspace).text
    assert f"Stale run {run.name}: the data set's content changed." in text
    assert "Stale: the data set's content changed" in text
