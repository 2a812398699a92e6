"""Imports go down the house and never up."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "meta_spliceai"

FLOORS = [
    {"colours", "errors", "files", "read_hostile"},
    {"resources"},
    {"splice_engine.genome"},
    {"splice_engine.variants"},
    {"splice_engine.base_layer", "datasets"},
    {"splice_engine.meta_layer"},
    {"experiments"},
    {"cli"},
    {"__main__"},
]
"""Ground floor first. Rooms on one floor do not import each other either."""


def room(module: str) -> str:
    """The room a module of the package lies in; empty for the package itself."""
    parts = module.split(".")[1:]
    if not parts:
        return ""
    return ".".join(parts[:2]) if parts[0] == "splice_engine" else parts[0]


def floor(name: str) -> int:
    for level, rooms in enumerate(FLOORS):
        if name in rooms:
            return level
    raise AssertionError(f"'{name}' is a room that the house does not know; give it a floor in FLOORS")


def imports_of(path: Path, module: str) -> list[str]:
    """Modules of this package that a file imports, wherever in the file the import stands."""
    found: list[str] = []
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{origin}.{alias.name}" for alias in node.names]
    return [name for name in found if name.split(".")[0] == "meta_spliceai"]


def violations(source: Path) -> list[str]:
    wrong = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        here = room(module)
        if here in ("", "splice_engine"):
            continue
        for imported in imports_of(path, module):
            there = room(imported)
            if there in ("", here, "__version__"):
                continue
            same_floor_allowed = floor(here) == 0
            if floor(there) > floor(here) or (floor(there) == floor(here) and not same_floor_allowed):
                wrong.append(f"{module} imports {imported}")
    return wrong


def test_imports_only_go_down() -> None:
    assert violations(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("splice_engine/genome/up.py", "from meta_spliceai.splice_engine.variants import table"),
        ("datasets/sideways.py", "import meta_spliceai.splice_engine.base_layer.scores"),
        ("splice_engine/meta_layer/up.py", "def f():\n    from ...experiments import spec"),
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / "meta_spliceai" / file
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert len(violations(tmp_path / "meta_spliceai")) == 1
