"""Every command shows examples that can be copied: whole in 80 columns, and understood by the command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from meta_spliceai.cli.app import app
from meta_spliceai.experiments.spec.rows import load_rows
from tests.conftest import RunCli

ROOT = typer.main.get_command(app)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Commands that do something, by the words that call them."""
    inner = getattr(command, "commands", {})
    if not inner or command.invoke_without_command:
        yield path
    for name, sub in inner.items():
        yield from leaves(sub, (*path, name))


def examples_in(shown: str) -> list[str]:
    """The examples of a help text as it stands in a terminal; a line that ends with a backslash goes on."""
    _, sign, rest = shown.partition("Examples\n")
    assert sign, "no examples"
    block = rest.partition("╭")[0]
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def understand(words: list[str]) -> list[str]:
    """Have the command line parse words without doing anything; the row ids among them."""
    command, context = ROOT, None
    name = "meta-spliceai"
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not getattr(command, "commands", None):
            return list(context.params.get("ids") or [])
        words = [*context._protected_args, *context.args]
        if not words:  # a group that does something itself
            return []
        name, command, words = command.resolve_command(context, words)


@pytest.mark.parametrize("path", [path for path in leaves(ROOT) if path], ids=" ".join)
def test_examples_are_there_whole_and_understood(
    path: tuple[str, ...], run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    code, shown, _ = run_cli([*path, "--help"])
    assert code == 0
    rows = load_rows()
    examples = examples_in(re.sub(r" +\n", "\n", shown))
    assert any(f"meta-spliceai {' '.join(path)}" in example for example in examples)
    for example in examples:
        # What stands before it (a variable, a pipe) and behind it (a redirection, a remark) is the shell's.
        words = shlex.split(example.partition("  #")[0].partition(" > ")[0])
        assert "meta-spliceai" in words, f"a broken line: {example}"
        assert set(understand(words[words.index("meta-spliceai") + 1 :])) <= rows.keys(), example
