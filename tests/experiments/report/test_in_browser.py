"""The page in a real browser: it opens, every control does what it says, and the console stays silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from meta_spliceai.experiments.report.collect import collect_runs
from meta_spliceai.experiments.report.leaderboard import boards
from meta_spliceai.experiments.report.page import render_page
from meta_spliceai.experiments.report.saturation_map import MapPanel, saturation_map
from meta_spliceai.experiments.report.sections import aligned
from meta_spliceai.experiments.workspace import Workspace

from .conftest import write_run

CELLS = """[...document.querySelectorAll('.layout')].map((layout) =>
  [...layout.querySelectorAll('.cells rect')].map((cell) => cell.getAttribute('class')))"""


@pytest.fixture(scope="module")
def file(finished_runs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    out.write_text(render_page(Workspace(finished_runs), rows=[]), encoding="utf-8")
    return out


@pytest.fixture
def page(browser, file):
    """The page freshly opened; afterwards the console must have been silent and nothing else been asked for."""
    browser.open(file)
    yield browser
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [file.resolve().as_uri()]


def test_a_complaint_would_be_heard(browser, tmp_path):
    file = tmp_path / "bad.html"
    file.write_text("<script>console.error('one'); missing.function()</script><img src='absent.png'>")
    browser.open(file)
    browser.run("1")
    assert len(browser.complaints) == 3
    assert any("one" in complaint for complaint in browser.complaints)


def test_another_background_is_painted_as_python_would_draw_it(page, finished_runs):
    [board] = boards(collect_runs(Workspace(finished_runs)))
    frame = board.runs[0].predictions.copy()
    shown = [s for s in board.standings if s.scorer.name == "base own_site"] + board.learned
    for i, standing in enumerate(shown):
        frame[f"strip {i}"] = aligned(standing, frame["variant_id"], "signed", whole=True)
    panels = [MapPanel("", "effect"), *(MapPanel("", f"strip {i}", i > 0) for i in range(len(shown)))]

    def expected(background: str) -> list[list[str]]:
        other = "B" if background == "A" else "A"
        drawn = saturation_map(frame, panels, (background, other))
        return [
            [piece.partition('"')[0] for piece in str(svg).split('class="')[1:] if piece[:2] in CELL_NAMES]
            for _, svg in ((name, cells_only(str(svg))) for name, svg in drawn.figures)
        ]

    first = page.run(CELLS)
    assert first == expected("A")
    page.run(
        "(() => { const s = document.querySelector('select.background'); s.value = 'B';"
        "s.dispatchEvent(new Event('change')); })()"
    )
    second = page.run(CELLS)
    assert second == expected("B")
    assert second != first


CELL_NAMES = {"qw", "qn", *(f"q{i}" for i in range(10))}


def cells_only(svg: str) -> str:
    """The strips' cells, without ruler, split bars and colour keys."""
    return "".join(piece.partition("</g>")[0] for piece in svg.split('class="cells"')[1:])


def test_single_and_double_substitutions_take_turns(page):
    shown = "[...document.querySelectorAll('.layout')].map((layout) => layout.checkVisibility())"
    assert page.run(shown) == [True, False]
    page.click(".controls input[type=radio]", 1)
    page.wait_for(f"({shown}).join() === 'false,true'")


def test_cells_are_read_by_keyboard_and_by_pointer(page):
    page.run("document.querySelector('.layout svg').focus()")
    page.press("ArrowRight")
    page.press("ArrowDown")
    said = page.run("document.querySelector('.readout').textContent")
    assert said.startswith("Background A, site 2, ")
    assert " to C" in said
    assert page.run("document.querySelectorAll('.layout svg .cursor rect').length") == 4
    page.wait_for(
        "document.querySelector('.readout').textContent.startsWith('Background A, site 8, ')",
        meanwhile=lambda: page.point_at(".layout .cells rect", 7),
    )


def test_tables_sort_by_value_and_keep_what_has_none_last(page):
    column = "[...document.querySelectorAll('table.board tbody tr')].map((row) => row.cells[3].dataset.value)"
    page.click("table.board thead button", 3)
    page.wait_for("document.querySelectorAll('table.board thead th')[3].getAttribute('aria-sort') === 'descending'")
    down = page.run(column)
    known = [float(value) for value in down if value != "nan"]
    assert known == sorted(known, reverse=True)
    assert down[-1] == "nan"
    page.run("document.querySelectorAll('table.board thead button')[3].focus()")
    page.press("Enter")
    up = page.run(column)
    assert [float(value) for value in up[:-1]] == sorted(known)
    assert up[-1] == "nan"


def test_the_theme_button_goes_round(page):
    surface = "getComputedStyle(document.body).backgroundColor"
    colours = [page.run(surface)]
    for name in ("light", "dark", "system"):
        page.click("#theme")
        page.wait_for(f"document.querySelector('#theme').textContent === 'Theme: {name}'")
        colours.append(page.run(surface))
    assert colours[1] != colours[2]
    assert colours[3] == colours[0]


@pytest.mark.parametrize("width", [340, 390, 768, 1440])
def test_nothing_sticks_out_sideways(page, width):
    page.resize(width, 800)
    assert page.run("document.documentElement.scrollWidth") <= width
    too_small = page.run(
        "[...document.querySelectorAll('.plot text')].filter((t) => t.checkVisibility() && "
        "t.getBoundingClientRect().height < 8).length"
    )
    assert too_small == 0


def test_everything_that_can_be_clicked_can_be_reached_by_keyboard(page):
    reached = set()
    for _ in range(80):
        page.press("Tab")
        reached.add(page.run("document.activeElement.outerHTML.slice(0, 60)"))
    assert any('id="theme"' in element for element in reached)
    assert any("<select" in element for element in reached)
    assert any("<svg" in element for element in reached)
    assert any("<summary" in element for element in reached)


def test_a_page_without_runs_is_silent_too(browser, tmp_path):
    file = tmp_path / "empty.html"
    file.write_text(render_page(Workspace(tmp_path / "none"), rows=[]), encoding="utf-8")
    browser.open(file)
    assert browser.complaints == []
    assert "No finished run yet" in browser.run("document.body.textContent")


def test_hostile_names_run_nothing(browser, tmp_path, small_screen):
    hostile = "</script><script>console.error('ran')</script><img src=x onerror=console.error('loaded')>"
    place = Workspace(tmp_path / "runs")
    write_run(place, "wt1-validated-delta", hostile, 0.8, frame=small_screen.assign(background=hostile))
    file = tmp_path / "hostile.html"
    file.write_text(render_page(place, rows=[]), encoding="utf-8")
    browser.open(file)
    browser.run("document.querySelector('.layout svg').focus()")
    assert hostile in browser.run("document.querySelector('.readout').textContent")
    assert browser.complaints == []
