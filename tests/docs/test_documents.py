"""The documents: current, without dead links, with commands and code that work."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType

import click
import pytest
import typer

from meta_spliceai.cli.app import app
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.splice_engine.meta_layer.models import ValidatedDeltaPredictor

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_docs", ROOT / "tools" / "render_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_document_says_what_its_sources_say(tool):
    stale = [name_of(path) for path in tool.stale(ROOT)]
    assert stale == [], "run: python tools/render_docs.py"


KEPT = {
    "board": {
        "rows": 1234,
        "positives": 321,
        "groups": 12,
        "prevalence": 0.4567,
        "notes": ["a subset: 400 of 5,524 variants"],
        "lines": [
            {"scorer": "position alone", "kind": "baseline", "verdicts": [], "auprc": {"estimate": 0.5, "low": 0.4,
             "high": 0.6}, "auroc": {"estimate": None, "low": None, "high": None}},
            {"scorer": "m", "kind": "learned", "verdicts": ["beats position alone: by much"],
             "auprc": {"estimate": -0.0001, "low": None, "high": None}},
        ],
    },
    "parts": {"train": {"variants": 10, "groups": 3, "classes": {"Splice-altering": 4, "Normal": 5, "Conflicting": 1}}},
    "split": "blocks",
    "install_seconds": 90,
    "test_seconds": 300,
    "coverage": {step: {"read": 9, "left_out": {"why": 2}, "used": 5524} for step in ("data", "target", "split")},
    "environment": {"cpu": "a", "cores": 2, "memory_bytes": 8 * 2**30, "python": "3.11",
                    "packages": {"torch": "2", "meta-spliceai": "0"}},
    "runs": {"m": {"seconds": 65.2, "seconds_by_step": {"training": 20.1}, "peak_memory_bytes": 700 * 2**20}},
}  # fmt: skip


def test_blocks_hold_the_kept_numbers(tool):
    page = "a\n" + "".join(f"<!-- rendered:{name} -->\nold\n<!-- /rendered -->\n" for name in tool.BLOCKS)
    filled = tool.fill(page, KEPT, "page")
    assert "old" not in filled
    for words in (
        "| baseline | position alone | 0.500 [0.400, 0.600] | – | – |",
        "| learned | m | 0.000 | – | – |",
        "  - beats position alone: by much",
        "Evaluated on 1,234 test variants at 12 mutated positions, 321 of them Splice-altering",
        "(prevalence) is 0.457. A subset: 400 of 5,524 variants.",
        "| train | 10 | 3 | 4 | 5 | 1 |",
        "|  | left out: why | 2 |",
        "| m | 65 | 0 | 20 | 700 MiB |",
        "asks this of 5,524 measured mutants",
        "takes 1.1 minutes and 0.7 GiB of memory on 2 cores (a), after 1.5 minutes of installing.",
        "`make test` takes 5 minutes there, once it is installed.",
    ):
        assert words in filled, words
    assert tool.fill(filled, KEPT, "page") == filled


def test_a_block_of_a_file_holds_the_file(tool, tmp_path):
    page = "<!-- rendered:benchmark-base-layer -->\nold\n<!-- /rendered -->\n"
    assert tool.fill(page, KEPT, "page", tmp_path) == page
    source = tmp_path / tool.FILES["benchmark-base-layer"]
    source.parent.mkdir(parents=True)
    source.write_text("fast\n")
    assert "\nfast\n<!--" in tool.fill(page, None, "page", tmp_path)


def test_a_wrong_block_is_refused(tool):
    with pytest.raises(SystemExit, match="no block is named 'nonsense'"):
        tool.fill("<!-- rendered:nonsense -->\n<!-- /rendered -->", KEPT, "page")
    with pytest.raises(SystemExit, match="not closed"):
        tool.fill("<!-- rendered:quickstart-parts -->\n", KEPT, "page")


def test_checking_writes_nothing(tool, tmp_path, capsys):
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / tool.RESULTS).write_text(json.dumps(KEPT))
    text = "<!-- rendered:quickstart-parts -->\n<!-- /rendered -->\n"
    (tmp_path / "README.md").write_text(text)
    assert tool.main(["--check"], tmp_path) == 1
    assert (tmp_path / "README.md").read_text() == text
    assert tool.main([], tmp_path) == 0
    assert "| train | 10 |" in (tmp_path / "README.md").read_text()
    assert (tmp_path / tool.CLI).exists()
    assert tool.main(["--check"], tmp_path) == 0
    assert "not current: README.md" in capsys.readouterr().out


def heading_anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+\s+(.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path, tool):
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = target.partition("#")
        file = (path.parent / place).resolve() if place else path
        if file == ROOT / tool.PICTURE and not (ROOT / tool.RESULTS).exists():
            continue  # picture and kept results are made together, by --take
        assert file.exists(), f"{target}: no such file"
        if anchor:
            assert anchor in heading_anchors(file), f"{target}: no such heading"


def commands_in(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    found = []
    for language, block in FENCE.findall(text):
        if language in ("sh", "bash", "console"):
            found += block.replace("\\\n", " ").splitlines()
    found += re.findall(r"`(meta-spliceai [^`]+)`", FENCE.sub("", text))
    return [line.strip() for line in found if line.strip().startswith("meta-spliceai ")]


@pytest.fixture(scope="module")
def whole() -> click.Command:
    """`meta-spliceai` with all its commands, which takes a while to put together."""
    return typer.main.get_command(app)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_commands_exist_with_their_options(path, whole):
    for line in commands_in(path):
        words, command = shlex.split(line, comments=True)[1:], whole
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        named = words and not words[0].startswith("-") and not any(letter.isupper() for letter in words[0])
        if getattr(command, "commands", None) and named:
            pytest.fail(f"{line}: no command '{words[0]}'")
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"--help", "-h"}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{line}: no option {word}"


def test_the_yaml_of_the_how_to_is_a_row(tmp_path):
    text = (ROOT / "docs" / "how-to" / "add-a-row.md").read_text(encoding="utf-8")
    [block] = [code for language, code in FENCE.findall(text) if language == "yaml"]
    (tmp_path / "mine.yaml").write_text(block)
    row = load_rows(own=tmp_path)["wt1-window-51"]
    assert (row.window, row.data.name) == (51, "wt1-exon5")


def python_blocks() -> list[str]:
    text = (ROOT / "docs" / "how-to" / "use-a-trained-predictor.md").read_text(encoding="utf-8")
    return [code for language, code in FENCE.findall(text) if language == "python"]


def test_python_of_the_how_to_reads_as_python():
    blocks = python_blocks()
    assert len(blocks) == 3
    for block in blocks:
        compile(block, "how-to", "exec")


def test_making_a_predictor_by_hand_works(capsys):
    names: dict[str, object] = {}
    exec(python_blocks()[1], names)  # noqa: S102
    assert tuple(names["delta"].shape) == (8, 3)
    assert "ValidatedDeltaPredictor" in capsys.readouterr().out


@pytest.mark.quickstart
def test_loading_and_predicting_works(tmp_path):
    try:
        distribution("frame-alignment-checks")
    except PackageNotFoundError:
        pytest.skip("the extra 'quickstart' is not installed")
    ValidatedDeltaPredictor(window=51, hidden_dim=8, layers=3).save_pretrained(tmp_path / "model")
    block = python_blocks()[0]
    folder = '"runs/wt1-validated-delta-0123456789ab/model"'
    assert folder in block
    names: dict[str, object] = {}
    exec(block.replace(folder, repr(str(tmp_path / "model"))), names)  # noqa: S102
    assert names["delta"].shape == (100, 3)
    assert {"score", "signed"} <= set(names["columns"])
