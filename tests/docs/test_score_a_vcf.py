"""Scoring a VCF from Python: the page's example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meta_spliceai.splice_engine.base_layer import families
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from tests.base_layer.conftest import toy_base_model  # noqa: F401
from tests.docs.test_troubleshooting import folder  # noqa: F401

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "score-a-vcf.md"


def test_the_example_scores_a_file(
    folder: Path,  # noqa: F811
    toy_base_model: BaseModel,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = BaseModel("spliceai", toy_base_model.networks, licence="none needed", citation="built in code")
    monkeypatch.setattr(families, "load_base_model", lambda name: small)
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    exec(example, {})  # noqa: S102
    assert capsys.readouterr().out == "4 {}\n"
    records = [line for line in (folder / "out.vcf").read_text().splitlines() if not line.startswith("#")]
    assert len(records) == 4
    assert all("SpliceAI=N|UP|" in line for line in records)
