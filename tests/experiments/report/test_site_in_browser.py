"""The site in a real browser: opened, clicked, typed at, on a desk and on a phone, with a silent console."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.experiments.report.serve import HOST, LiveSite, make_server
from meta_spliceai.experiments.report.site import render_site
from meta_spliceai.experiments.workspace import Workspace

from .conftest import write_run
from .test_site import EVIDENCE, LEFT, rows

FIRST, SECOND = "wt1-simple-cnn-0123456789ab", "wt1-validated-delta-0123456789ab"
WAIT_FOR_PAGE = "document.readyState === 'complete' && location.pathname.endsWith({})"


@pytest.fixture(scope="module")
def folder(finished_runs, small_screen, tmp_path_factory) -> Path:
    """The site of two runs on one test, one on another, and one that failed."""
    place = Workspace(tmp_path_factory.mktemp("more") / "runs")
    shutil.copytree(finished_runs, place.root)
    place.run(SECOND).write_json("evidence.json", EVIDENCE)
    fewer = small_screen.drop(index=small_screen.index[small_screen["part"] == "test"][:1])
    write_run(place, "other", "Other", 0.7, frame=fewer)
    place.run("late-0123456789ab").mark(
        "failed", "out of memory at batch 256; fits at 128", started="2026-01-05T11:00:00+00:00"
    )
    out = tmp_path_factory.mktemp("site")
    for name, text in render_site(place, rows=rows(), left=LEFT).items():
        (out / name).write_text(text, encoding="utf-8")
    return out


@pytest.fixture
def site(browser, folder):
    """The browser; afterwards the console must have been silent and nothing but pages been asked for."""
    yield browser
    assert browser.complaints == []
    asked = [url for url in browser.requests if not url.startswith("data:")]
    assert all(url.startswith(folder.resolve().as_uri()) and url.partition("#")[0].endswith(".html") for url in asked)


def test_every_page_opens_silently_and_fits_every_screen(site, folder):
    pages = sorted(folder.glob("*.html"))
    assert len(pages) == 8
    for page in pages:
        site.open(page)
        for width in (340, 390, 1280):
            site.resize(width, 800)
            assert site.run("document.documentElement.scrollWidth") <= width, (page.name, width)
        assert site.run("document.querySelectorAll('h1').length") == 1
        assert site.run("getComputedStyle(document.querySelector('#theme')).display") != "none"
        assert site.complaints == [], page.name


def test_from_the_overview_to_a_run_and_on_to_a_comparison(site, folder):
    site.open(folder / "index.html")
    site.click(f"#runs tbody a[href='run-{SECOND}.html']")
    site.wait_for(WAIT_FOR_PAGE.format(json.dumps(f"run-{SECOND}.html")))
    assert site.run("document.querySelector('h1').textContent") == "ValidatedDelta"
    site.click(f"a[href='compare.html#{SECOND}']")
    site.wait_for(WAIT_FOR_PAGE.format("'compare.html'"))
    assert site.run("document.querySelector('#first').value") == SECOND
    assert site.run("document.querySelector('#second').value") == FIRST  # the one judged on the same test


def test_two_runs_are_compared_without_a_server(site, folder):
    site.open(folder / "compare.html")
    choose = (
        "((id, name) => { const s = document.getElementById(id); s.value = name;"
        "s.dispatchEvent(new Event('change')); })({}, {})"
    )
    site.run(choose.replace("{}", "'first'", 1).replace("{}", f"'{FIRST}'", 1))
    site.run(choose.replace("{}", "'second'", 1).replace("{}", f"'{SECOND}'", 1))
    said = site.run("document.getElementById('verdict').textContent")
    assert "AUPRC of A minus B" in said
    assert "paired on the same resamples of groups" in said
    text = (folder / "compare.html").read_text(encoding="utf-8")
    data = json.loads(text.partition('id="compared">')[2].partition("</script>")[0])
    areas = {run["name"]: run["areas"]["auprc"] for run in data["runs"] if "areas" in run}
    low, high = np.percentile(np.subtract(areas[FIRST], areas[SECOND]), [2.5, 97.5])
    assert f"[{low:.3f}, {high:.3f}]".replace("-", "−") in said
    fields = "[...document.querySelectorAll('#fields tbody th')].map((cell) => cell.textContent)"
    assert site.run(fields) == ["id", "run.seconds"]
    shown = site.run("document.querySelector('#numbers tbody tr').textContent")
    assert shown.startswith("AUPRC")
    assert shown.count("[") == 3
    assert site.run("document.querySelectorAll('#drawn svg').length") == 4
    site.click("#all")
    site.wait_for(f"({fields}).includes('training.epochs')")
    before = site.run("document.getElementById('verdict').textContent")
    site.click("#swap")
    site.wait_for(f"document.getElementById('first').value === '{SECOND}'")
    after = site.run("document.getElementById('verdict').textContent")
    assert (("+" in before.partition("[")[0]) and ("−" in after.partition("[")[0])) or "−" in before.partition("[")[0]
    assert site.run("decodeURIComponent(location.hash)") == f"#{SECOND},{FIRST}"


def test_runs_on_different_tests_are_not_ranked(site, folder):
    site.open(folder / "compare.html")
    site.run(f"location.hash = '#{FIRST},other-0123456789ab'")
    site.wait_for("document.getElementById('verdict').textContent.includes('different test variants')")
    assert site.run("document.querySelector('#numbers tbody td:last-child').textContent") == "–"
    site.run(f"location.hash = '#{FIRST},late-0123456789ab'")
    site.wait_for("document.getElementById('verdict').textContent.includes('no result to compare')")
    assert site.run("document.getElementById('numbers-section').hidden") is False
    assert "run.device" in site.run("document.getElementById('fields').textContent")


def test_marks_say_what_they_are_to_pointer_and_keyboard(site, folder):
    site.open(folder / "index.html")
    tip = "document.querySelector('.tip')"
    site.wait_for(f"!{tip}.hidden && {tip}.textContent.includes('GiB predicted')", lambda: site.point_at(".guess", 1))
    site.run("document.querySelector('.planned').focus()")
    site.press("ArrowRight")
    site.press("ArrowRight")
    first = site.run(f"{tip}.textContent")
    assert site.run("document.querySelectorAll('.planned .lit').length") == 1
    site.press("ArrowLeft")
    assert site.run(f"{tip}.textContent") != first
    site.press("Tab")
    assert site.run("document.querySelectorAll('.lit').length") == 0


def test_observed_sites_are_read_by_pointer_keyboard_and_as_numbers(site, folder):
    site.open(folder / f"run-{SECOND}.html")
    tip = "document.querySelector('.tip')"
    hits = "section[aria-labelledby=observed] .blocks"
    assert site.run(f"document.querySelectorAll('{hits}').length") == 3
    site.wait_for(
        f"!{tip}.hidden && {tip}.textContent === 'donor loss predicted as no effect: 2 of 10'",
        lambda: site.point_at(".confusion .cell", 1),
    )
    shades = "[...document.querySelectorAll('.confusion .cell')].map((cell) => getComputedStyle(cell).backgroundColor)"
    light = site.run(shades)
    assert light[0] != light[1]  # eight of ten on the diagonal, two beside it
    site.run(f"document.querySelector('{hits}').focus()")
    site.press("ArrowRight")
    assert site.run(f"{tip}.textContent") == "0 nt, the variant itself: hit rate 0.250 [0.15, 0.30]"
    site.press("ArrowLeft")
    assert site.run(f"{tip}.textContent").endswith("hit rate 0.750 [0.65, 0.80], 7 without an answer")
    table = "document.querySelector('section[aria-labelledby=observed] table')"
    assert site.run(f"{table}.checkVisibility()") is False
    site.run("document.querySelector('section[aria-labelledby=observed] summary').focus()")
    site.press("Enter")
    site.wait_for(f"{table}.checkVisibility()")
    site.click("section[aria-labelledby=observed] th .sort", 1)
    site.wait_for(f"{table}.tBodies[0].rows[0].textContent.includes('spliceai')")
    site.click("#theme")
    site.click("#theme")
    site.wait_for("document.documentElement.dataset.theme === 'dark'")
    assert site.run(shades) != light
    site.resize(390, 800)
    assert site.run(f"document.querySelector('{hits}').parentElement.scrollWidth") > 390  # scrolls in its own frame
    assert site.run("document.documentElement.scrollWidth") <= 390
    site.click("#theme")


def test_a_board_is_sorted_by_what_its_runs_took(site, folder):
    site.open(folder / "index.html")
    board = site.run("document.querySelector('.board-card h3 a').getAttribute('href')")
    site.open(folder / board)
    first = "document.querySelector('table.rests').tBodies[0].rows[0].textContent"
    assert "position only" in site.run(first)
    site.click("table.rests th .sort", 5)
    site.wait_for(f"{first}.includes('1 min 23 s')")
    site.click("table.rests th .sort", 5)
    site.wait_for(f"{first}.includes('7.0 s')")


def test_a_word_keeps_the_rows_that_hold_it(site, folder):
    site.open(folder / "index.html")
    left = "[...document.querySelectorAll('#left-table tbody tr')].filter((row) => !row.hidden).length"
    assert site.run(left) == 3
    site.run("document.querySelector('.filter').focus()")
    site.call("Input.insertText", text="wished encoder")
    site.wait_for(f"{left} === 1")


def test_a_theme_goes_along_to_the_next_page(site, folder):
    site.open(folder / "index.html")
    site.click("#theme")
    site.click("#theme")
    site.wait_for("document.documentElement.dataset.theme === 'dark'")
    site.call("Page.navigate", url=(folder / "compare.html").resolve().as_uri())
    site.wait_for(WAIT_FOR_PAGE.format("'compare.html'"))
    assert site.run("document.documentElement.dataset.theme") == "dark"
    site.click("#theme")
    site.wait_for("document.documentElement.dataset.theme === undefined")


def test_a_served_page_follows_its_runs(browser, finished_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Workspace(tmp_path / "runs", (finished_runs,))
    live = LiveSite(place, plan=False)
    live.refresh()
    server = make_server(live, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        browser.complaints.clear()
        browser.call("Page.navigate", url=f"http://{HOST}:{server.server_address[1]}/")
        browser.wait_for("document.readyState === 'complete' && location.port !== ''")
        run = place.run("now-0123456789ab")
        with run.taken():
            run.mark("running", title="Now", started="2026-01-05T10:00:00+00:00")
            live.refresh()
            browser.wait_for("document.querySelector('[data-run=\"now-0123456789ab\"]') !== null")
            run.write_json("progress.json", {"stage": "training", "epoch": 2, "epochs": 4, "share": 0.5})
            live.refresh()
            browser.wait_for("(document.querySelector('[data-run] progress') || {}).value === 0.5")
            assert "epoch 2 of 4" in browser.run("document.querySelector('[data-run] .said').textContent")
            run.mark("failed", "stopped")
        live.refresh()
        browser.wait_for("document.querySelector('[data-run]') === null")
        assert browser.complaints == []
    finally:
        browser.call("Page.navigate", url="about:blank")
        server.shutdown()
        server.server_close()
        thread.join(5)
