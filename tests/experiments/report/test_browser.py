"""The site in a real browser, from the disk: plots appear, nothing is fetched from elsewhere, the console is silent."""

from __future__ import annotations

import shutil

import pytest

from meta_spliceai.experiments.report.site import build_report
from meta_spliceai.experiments.store.workspace import Workspace

from .test_site import EVIDENCE, PLAN, rows

FIRST, SECOND = "wt1-simple-cnn-0123456789ab", "wt1-validated-delta-0123456789ab"
DRAWN = "document.querySelectorAll('.main-svg').length"


@pytest.mark.slow
def test_plots_appear_tables_are_sorted_and_runs_compared(browser, finished_runs, tmp_path):
    place = Workspace(tmp_path / "runs")
    shutil.copytree(finished_runs, place.root)
    place.run(SECOND).write_json("evidence.json", EVIDENCE)
    folder = tmp_path / "site"
    build_report(place, folder, rows=rows(), plan=PLAN)
    for page in sorted(folder.glob("*.html")):
        browser.open(page)
        # Plots are drawn when they come into view; those of a comparison at once.
        browser.run("document.querySelector('.plot')?.scrollIntoView()")
        browser.wait_for(f"{DRAWN} > 0")
        assert browser.complaints == [], page.name
        for width in (390, 1280):
            browser.resize(width, 800)
            assert browser.run("document.documentElement.scrollWidth") <= width, (page.name, width)
        asked = [url for url in browser.requests if not url.startswith(("data:", "blob:"))]
        assert all(url.startswith(folder.resolve().as_uri()) for url in asked)
    browser.open(folder / f"run-{SECOND}.html")
    top = "document.querySelector('table.board').tBodies[0].rows[0].textContent"
    assert "position only" in browser.run(top)
    browser.click("table.board th .sort", 1)
    browser.wait_for(f"!{top}.includes('position only')")
    browser.click("#theme")
    browser.click("#theme")
    browser.wait_for("document.documentElement.dataset.theme === 'dark'")
    browser.open(folder / "compare.html")
    browser.run(f"location.hash = '#{FIRST},{SECOND}'")
    browser.wait_for(
        "document.getElementById('verdict').textContent.includes('paired on the same resamples of groups')"
    )
    fields = "[...document.querySelectorAll('#fields tbody th')].map((cell) => cell.textContent)"
    assert "id" in browser.run(fields)
    assert "training.epochs" not in browser.run(fields)
    browser.click("#all")
    browser.wait_for(f"({fields}).includes('training.epochs')")
    assert browser.complaints == []
