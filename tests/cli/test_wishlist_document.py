"""`meta-spliceai wishlist render` and `wishlist import`: files, messages, refusals."""

from __future__ import annotations

from typer.testing import CliRunner

from meta_spliceai.cli import wishlist
from meta_spliceai.errors import InputError

NEW = """## Mine

| Experiment | Context | VRAM | Time Est. | Priority |
|---|---|---|---|---|
| SimpleCNN 77nt | 77nt | 2GB | 1h | ‚≠ê HIGH |
| Nothing known | 5nt | 2GB | 1h | LOW |
"""


def invoke(*arguments: str):
    return CliRunner().invoke(wishlist.group, list(arguments))


def test_rendered_and_imported_again(tmp_path):
    document = tmp_path / "WISHLIST.md"
    runs = tmp_path / "runs"
    assert invoke("render", "--output", str(document), "--runs-dir", str(runs)).exit_code == 0
    first = document.read_bytes()
    assert invoke("render", "--output", str(document), "--runs-dir", str(runs)).exit_code == 0
    assert document.read_bytes() == first
    result = invoke("import", str(document), "--output", str(tmp_path / "own"))
    assert result.exit_code == 0, result.output
    assert "0 new, 0 changed" in result.output
    assert not (tmp_path / "own").exists()


def test_a_new_row_is_written_and_a_strange_one_named(tmp_path):
    document = tmp_path / "mine.md"
    document.write_text(NEW, encoding="utf-8")
    result = invoke("import", str(document), "--output", str(tmp_path / "own"))
    assert result.exit_code == 0, result.output
    assert "line 5: new: simplecnn-77nt" in result.output
    assert "line 6: not understood: names no model" in result.output
    assert "1 mangled letters put right" in result.output
    text = (tmp_path / "own" / "mine.yaml").read_text(encoding="utf-8")
    assert "window: 77" in text
    assert "starred: true" in text
    again = invoke("import", str(document), "--output", str(tmp_path / "own"))
    assert isinstance(again.exception, InputError)
    assert "--force" in str(again.exception)


def test_what_is_no_wishlist_is_refused(tmp_path):
    (tmp_path / "empty.md").write_text("# nothing\n")
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe\x00")
    for name, said in (("absent.md", "no wishlist at"), ("empty.md", "no table"), ("bytes.md", "not UTF-8")):
        result = invoke("import", str(tmp_path / name))
        assert isinstance(result.exception, InputError)
        assert said in str(result.exception)
