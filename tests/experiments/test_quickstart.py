"""The quickstart command: two runs, a leaderboard, a page; the second time it finds what the first one left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meta_spliceai.cli import run as cli_run
from meta_spliceai.experiments.spec import rows as rows_module
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from tests.conftest import RunCli


@pytest.mark.slow
def test_quickstart_ends_with_a_leaderboard_and_a_page_and_uses_what_is_there(
    tmp_path: Path,
    catalogue: dict[str, ExperimentSpec],
    monkeypatch: pytest.MonkeyPatch,
    run_cli: RunCli,
) -> None:
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cli_run, "QUICKSTART_ROWS", ("toy-row",))
    monkeypatch.setattr(rows_module, "load_rows", lambda *_: catalogue)
    arguments = ["quickstart", "--mutants", "220", "--device", "cpu", "--runs-dir", str(tmp_path / "runs")]
    code, out, err = run_cli(arguments)
    assert code == 0, err
    assert "a subset: 220 of 240 variants, drawn with seed 0" in err
    for words in ("position", "base max_window", "toy-row"):
        assert words in out
    page = Path(re.search(r"page: (.*report/index\.html)", out).group(1))  # type: ignore[union-attr]
    assert "toy-row" in page.read_text(encoding="utf-8")

    code, out, err = run_cli(arguments)
    assert code == 0
    assert "is finished already; nothing is computed again" in err
    assert "1 of 1 runs were finished before" in out

    code, out, err = run_cli([*arguments, "--seed", "1"])
    assert code == 0
    assert "base scores: " in err


def test_too_few_mutants_are_refused(run_cli: RunCli) -> None:
    code, _, err = run_cli(["quickstart", "--mutants", "5"])
    assert code == 2
    assert "200" in err
