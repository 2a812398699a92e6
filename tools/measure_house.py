"""Measure the house: how large the source is, how its functions are cut, and what the repository carries.

python tools/measure_house.py            print every figure beside its bar
python tools/measure_house.py --check    the same; exit 1 where a bar is broken
python tools/measure_house.py --list     also name every function and import that breaks a bar
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "meta_spliceai"

FUNCTION_LINES, ARGUMENTS = 80, 8

SLOW_OR_OPTIONAL = {
    "alembic", "altair", "fcntl", "filelock", "h5py", "huggingface_hub", "lightgbm", "lightning", "matplotlib",
    "mlflow", "openpyxl", "pandas", "plotly", "pooch", "pyarrow", "pyreadr", "pysam", "ray", "requests", "scipy",
    "seqleak", "sklearn", "sky", "sqlalchemy", "submitit", "torch", "tqdm",
}  # fmt: skip
"""Libraries that a function may import itself: extras, slow ones, fcntl, which Windows lacks, and what a machine that
only opened a bundle may lack."""


@dataclass(frozen=True)
class Figure:
    """One measurement and the bar it is held against ("at most" unless `at_least`)."""

    name: str
    value: float
    bar: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bar holds."""
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def __str__(self) -> str:
        value = f"{self.value:,.2f}" if isinstance(self.value, float) else f"{self.value:,}"
        sign = "≥" if self.at_least else "≤"
        return f"{'ok  ' if self.holds else 'over'}  {self.name:<70} {value:>10}  {sign} {self.bar:,}"


def python_files(folder: Path) -> list[Path]:
    """Every Python file below a folder, sorted."""
    return sorted(folder.rglob("*.py"))


def lines_of(files: list[Path]) -> int:
    """All lines of the files."""
    return sum(file.read_text(encoding="utf-8").count("\n") for file in files)


def kinds_of_lines(text: str) -> tuple[int, int, int]:
    """Lines with code, lines of docstrings, and lines that are comments alone."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        # Strings that stand alone: docstrings, and the notes below constants.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    comments: set[int] = set()
    blank = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in blank:
            code.update(range(token.start[0], token.end[0] + 1))
    code -= docstrings
    return len(code), len(docstrings), len(comments - code - docstrings)


def functions(files: list[Path]) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield file, node


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Where a function's lines are counted from: its own first line; of a command, the line behind its options and
    help."""
    if "typer." not in ast.unparse(node.args):
        return node.lineno
    documented = ast.get_docstring(node) is not None
    return node.body[documented and len(node.body) > 1].lineno


def arguments_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Arguments of a function, without `self` and `cls`; those of a command are its options and do not count."""
    if "typer." in ast.unparse(node.args):
        return 0
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def hidden_imports(files: list[Path]) -> list[str]:
    """Imports inside functions, other than those of slow or optional libraries, as "file:line: import"."""
    found = set()
    for file, function in functions(files):
        for node in ast.walk(function):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                if name.partition(".")[0] not in SLOW_OR_OPTIONAL and not _waits_for_a_command(file, name):
                    found.add(f"{file.relative_to(ROOT)}:{node.lineno}: {name}")
    return sorted(found)


def _waits_for_a_command(file: Path, name: str) -> bool:
    """A command of the command line imports what it calls when it is called: rooms below bring PyTorch."""
    return file.is_relative_to(SOURCE / "cli") and name.startswith("meta_spliceai")


def modules_of_the_runner() -> int:
    """Modules of the package that importing the runner loads."""
    code = (
        "import sys, meta_spliceai.experiments.run.runner; "
        "print(sum(name.startswith('meta_spliceai') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return int(done.stdout)


def tracked_bytes(folder: str) -> int:
    """Bytes of the files that git tracks below a folder of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z", folder], capture_output=True, text=True, check=True, cwd=ROOT)
    return sum((ROOT / name).stat().st_size for name in listed.stdout.split("\0") if name and (ROOT / name).exists())


def measure(everything: bool = False) -> tuple[list[Figure], list[str]]:
    """All figures, and by name what breaks the bars on functions and imports."""
    source, tests = python_files(SOURCE), python_files(ROOT / "tests")
    lines = lines_of(source)
    kinds = [kinds_of_lines(file.read_text(encoding="utf-8")) for file in source]
    code, docstrings, comments = (sum(kind[place] for kind in kinds) for place in range(3))
    long, wide = [], []
    for file, node in functions(source):
        where = f"{file.relative_to(ROOT)}:{node.lineno}: {node.name}"
        length = (node.end_lineno or node.lineno) - _first_line(node) + 1
        if length > FUNCTION_LINES:
            long.append(f"{where}: {length} lines")
        if arguments_of(node) > ARGUMENTS:
            wide.append(f"{where}: {arguments_of(node)} arguments")
    imports = hidden_imports(source)
    figures = [
        Figure("lines of Python in src/", lines, 22_000),
        Figure("of these, lines of code", code, 15_000),
        Figure("Python files in src/", len(source), 170),
        Figure(f"functions of more than {FUNCTION_LINES} lines (commands: without options and help)", len(long), 0),
        Figure(f"functions of more than {ARGUMENTS} arguments", len(wide), 0),
        Figure("imports hidden in functions", len(imports), 0),
        Figure("modules of the package loaded with the runner", modules_of_the_runner(), 80),
        Figure("lines of tests to a line of source", lines_of(tests) / lines, 0.8, at_least=True),
        Figure("MB of results/ in the repository", tracked_bytes("results") / 1e6, 6.0),
    ]
    notes = [f"      docstrings {docstrings:,} lines, comments {comments:,} lines"]
    return figures, [*notes, *(long + wide + imports if everything else [])]


def main() -> int:
    """Print the figures; 1 where a bar is broken and `--check` was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is broken")
    parser.add_argument("--list", action="store_true", help="name what breaks the bars on functions and imports")
    arguments = parser.parse_args()
    figures, notes = measure(arguments.list)
    print("\n".join([*map(str, figures), *notes]))
    return int(arguments.check and not all(figure.holds for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
