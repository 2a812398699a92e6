#!/usr/bin/env python3
"""Fill what documents say from results and from the code itself.

    python tools/render_docs.py --take RUNS_DIR   store what the documents need from a folder of runs, then fill
    python tools/render_docs.py --take-pairs RUNS_DIR   compare the pairs of rows that differ in one thing, then fill
    python tools/render_docs.py                   fill the documents from stored results
    python tools/render_docs.py --check           write nothing; exit code 1 if a document is not current

A document holds blocks `<!-- rendered:NAME -->` … `<!-- /rendered -->`; only this command writes the text between the
marks. Stored results are in docs/results/*.json and in the ledger results/, the picture in docs/images/.
docs/reference/cli.md is rendered whole from the command line's own help, docs/reference/python.md from docstrings.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import evidence_results  # noqa: E402
import wishlist_results  # noqa: E402

from meta_spliceai.experiments.board.shown import Table, as_markdown, estimate, memory  # noqa: E402

RESULTS = Path("docs/results/quickstart.json")
PAIRS = Path("docs/results/pairs.json")
COMPARED = (("frozen-tiny-scratch", "frozen-tiny-pretrained"), ("windows-in-the-middle", "windows-moved"))
"""Rows that differ in one thing each, without it and with it."""
PICTURE = Path("docs/images/quickstart.svg")
CLI = Path("docs/reference/cli.md")
PYTHON = Path("docs/reference/python.md")
BLOCK = re.compile(r"(<!-- rendered:([a-z-]+) -->\n)(.*?)(<!-- /rendered -->)", re.DOTALL)
METRICS = (
    ("auprc", "AUPRC"),
    ("auroc", "AUROC"),
    ("spearman_effect", "Spearman r, measured effect"),
)


# ---------------------------------------------------------------------------------------------------- keeping results


def take(runs_dir: Path, root: Path, install_seconds: float | None = None, test_seconds: float | None = None) -> None:
    """Keep the quickstart's board, data account and machine, and draw its picture."""
    from meta_spliceai.cli.run import QUICKSTART_ROWS as ROWS
    from meta_spliceai.experiments.board.leaderboard import boards
    from meta_spliceai.experiments.report.figure import write_figure
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace(runs_dir)
    found = [board for board in boards(workspace) if {line.row for line in board.lines} >= set(ROWS)]
    if not found:
        sys.exit(
            f"{runs_dir}: no board with finished runs of {' and '.join(ROWS)}; run 'meta-spliceai quickstart' first"
        )
    board = found[0].to_json()
    names = {line["row"]: line["run"] for line in board["lines"] if line["row"] in ROWS}
    runs = {}
    for row in ROWS:
        run = workspace.find(names[row])
        record = run.record()
        keys = ("title", "seconds", "seconds_by_step", "peak_memory_bytes", "device", "seed", "parameters", "training")
        runs[row] = {"run": run.name, **{key: record.get(key) for key in keys}}
    first = workspace.find(names[ROWS[0]])
    predictions, data = first.read_predictions(), first.data()
    parts = {}
    for part in ("train", "validation", "test"):
        rows = predictions[predictions["part"] == part]
        classes = {str(name): int(count) for name, count in rows["classification"].value_counts().items()}
        parts[part] = {"variants": len(rows), "groups": int(rows["group"].nunique()), "classes": classes}
    kept = {
        "board": board,
        "runs": runs,
        "parts": parts,
        "coverage": {step: _account(data, step) for step in ("data", "target", "split")},
        "split": data["split"]["description"],
        "base": {key: data["base"][key] for key in ("name", "networks", "distance", "licence")},
        "window": data["window"]["length"],
        "environment": first.environment(),
        "install_seconds": install_seconds,
        "test_seconds": test_seconds,
    }
    text = json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (root / RESULTS).parent.mkdir(parents=True, exist_ok=True)
    (root / RESULTS).write_text(text, encoding="utf-8")
    write_figure(workspace, root / PICTURE)


def take_pairs(runs_dir: Path, root: Path) -> None:
    """Keep what the paired comparison of each two rows says, seed by seed; what is kept of pairs without a finished run
    stays."""
    from meta_spliceai.experiments.board.compare import compare_on_shared_rows
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace(runs_dir)
    ran = {(entry["row"], entry["seed"]): entry["run"] for entry in workspace.finished() if not entry["smoke"]}
    found = [(pair, seed) for pair in COMPARED for seed in sorted({seed for row, seed in ran if row == pair[0]})]
    anew = {pair[0] for pair, _ in found}
    kept = [one for one in json.loads((root / PAIRS).read_text("utf-8")) if one["rows"][0]["row"] not in anew]
    for pair, seed in found:
        if (pair[1], seed) not in ran:
            print(f"{runs_dir}: no finished run of {pair[1]} with seed {seed}; left out", file=sys.stderr)
            continue
        without, with_it = (workspace.find(ran[row, seed]) for row in pair)
        evaluation = compare_on_shared_rows([without, with_it])
        kept.append(
            {
                "rows": [
                    {
                        "row": row,
                        "title": run.record()["title"],
                        "weights": run.record()["weights_origin"],
                        "auprc": _interval(evaluation.value(run.name, "auprc")),
                    }
                    for row, run in zip(pair, (without, with_it), strict=True)
                ],
                "difference": _interval(evaluation.difference(with_it.name, without.name, "auprc")),
                "split": with_it.data()["split"]["description"],
                "variants": int(evaluation.value(with_it.name, "auprc")["n"]),
            }
        )
    (root / PAIRS).write_text(json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _interval(found: Any) -> dict[str, float | None]:
    """Estimate and 95 % interval of a row of a evaluation; None where there is none."""
    return {key: float(found[key]) if found[key] == found[key] else None for key in ("estimate", "low", "high")}


def _account(data: dict[str, Any], step: str) -> dict[str, Any]:
    account = data["coverage"] if step == "data" else data[step]["coverage"]
    return {key: account[key] for key in ("read", "used", "left_out")}


# ------------------------------------------------------------------------------------------------------ the blocks


def leaderboard(kept: dict[str, Any]) -> str:
    """The board as a table, baselines first, in the order of the terminal's leaderboard."""
    rows = [
        (line["kind"], line["scorer"], *(estimate(line.get(metric)) for metric, _ in METRICS))
        for line in kept["board"]["lines"]
    ]
    return as_markdown(Table(("", "scorer", *(label for _, label in METRICS)), rows, 2))


def verdicts(kept: dict[str, Any]) -> str:
    """Each learned model against each baseline, in words."""
    lines = []
    for line in kept["board"]["lines"]:
        if line["kind"] == "learned":
            lines.append(f"- **{line['scorer']}**")
            lines += [f"  - {verdict}" for verdict in line["verdicts"]]
    return "\n".join(lines)


def test_size(kept: dict[str, Any]) -> str:
    """What the evaluation rests on, in one sentence."""
    board = kept["board"]
    text = (
        f"Evaluated on {board['rows']:,} test variants at {board['groups']} mutated positions, {board['positives']:,} "
        f"of them Splice-altering; their share among Splice-altering and Normal variants (prevalence) is "
        f"{board['prevalence']:.3f}."
    )
    notes = [note for note in board["notes"] if note]
    return text + "".join(f" {note[:1].upper()}{note[1:]}." for note in notes)


def parts(kept: dict[str, Any]) -> str:
    """Variants, positions and classes of each part."""
    rows = []
    for name, part in kept["parts"].items():
        classes = part["classes"]
        altering, normal = classes.get("Splice-altering", 0), classes.get("Normal", 0)
        other = part["variants"] - altering - normal
        counts = part["variants"], part["groups"], altering, normal, other
        rows.append((name, *(f"{count:,}" for count in counts)))
    columns = ("part", "variants", "mutated positions", "Splice-altering", "Normal", "other")
    return f"{as_markdown(Table(columns, rows))}\n\nThe split: {kept['split']}."


def account(kept: dict[str, Any]) -> str:
    """What became of every row, step by step."""
    titles = {"data": "the data set", "target": "targets to learn from", "split": "the split"}
    rows = []
    for step, title in titles.items():
        found = kept["coverage"][step]
        rows.append((title, "read", f"{found['read']:,}"))
        rows += [("", f"left out: {reason}", f"{count:,}") for reason, count in found["left_out"].items()]
        rows.append(("", "used", f"{found['used']:,}"))
    return as_markdown(Table(("step", "rows", "count"), rows, 2))


def machine(kept: dict[str, Any]) -> str:
    """Where and in what time the numbers came out."""
    environment = kept["environment"]
    packages, size = environment["packages"], environment.get("memory_bytes")
    text = f"{environment['cpu']}, {environment['cores']} cores"
    text += f", {size / 2**30:.0f} GiB of memory" if size else ""
    text += f"; Python {environment['python']}, PyTorch {packages['torch']}, meta-spliceai {packages['meta-spliceai']}."
    rows = []
    for row, run in kept["runs"].items():
        steps = run["seconds_by_step"]
        seconds = run["seconds"], steps.get("base scores", 0), steps.get("training", 0)
        rows.append((row, *(f"{one:.0f}" for one in seconds), memory(run["peak_memory_bytes"])))
    table = as_markdown(Table(("run", "seconds", "of which base scores", "training", "peak memory"), rows))
    return f"{text}\n\n{table}\n\nThe second run reuses the cached base scores of the first."


def question(kept: dict[str, Any]) -> str:
    """What the quickstart asks, with the size of its data."""
    used = kept["coverage"]["data"]["used"]
    return f"The quickstart asks this of {used:,} measured mutants of WT1 exon 5 and answers it on one page:"


def duration(kept: dict[str, Any]) -> str:
    """How long the quickstart takes and what it needs, in one or two sentences."""
    environment = kept["environment"]
    minutes = sum(run["seconds"] for run in kept["runs"].values()) / 60
    peak = max(run["peak_memory_bytes"] for run in kept["runs"].values()) / 2**30
    text = f"The quickstart takes {minutes:.1f} minutes and {peak:.1f} GiB of memory on {environment['cores']} cores"
    text += f" ({environment['cpu']})"
    if kept.get("install_seconds") is not None:
        text += f", after {kept['install_seconds'] / 60:.1f} minutes of installing"
    text += ". Run again, it shows the stored results at once."
    if kept.get("test_seconds") is not None:
        text += f" `make test` takes {kept['test_seconds'] / 60:.0f} minutes there, once it is installed."
    return text


def pairs(root: Path) -> str:
    """Does one thing alone help? Each pair of rows with its paired difference."""
    if not (root / PAIRS).exists():
        return "No pair of rows has been run yet."
    rows = []
    for pair in json.loads((root / PAIRS).read_text(encoding="utf-8")):
        for row in pair["rows"]:
            last = row is pair["rows"][-1]
            change = estimate(pair["difference"], sign=True) if last else ""
            test = f"{pair['variants']:,} variants; {pair['split']}" if last else ""
            rows.append((row["title"], row["weights"], test, estimate(row["auprc"]), change))
    return as_markdown(Table(("row", "weights", "test", "AUPRC", "with − without"), rows, 3))


BLOCKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "quickstart-leaderboard": leaderboard,
    "quickstart-verdicts": verdicts,
    "quickstart-test": test_size,
    "quickstart-parts": parts,
    "quickstart-account": account,
    "quickstart-machine": machine,
    "quickstart-question": question,
    "quickstart-time": duration,
}
FILES = {
    "results-losses": Path("docs/results/losses-before-the-fix.md"),  # of runs that are no longer kept
    "benchmark-base-layer": Path("benchmarks/results/base_layer_short.md"),
    "benchmark-construct-context": Path("benchmarks/results/construct_context.md"),
    "benchmark-learning": Path("benchmarks/results/learning.md"),
    "benchmark-precomputed": Path("benchmarks/results/precomputed.md"),
    "benchmark-screen": Path("benchmarks/results/screen.md"),
    "benchmark-whole-genome": Path("benchmarks/results/whole_genome.md"),
}
"""Blocks that hold a file another command wrote."""
LEDGER = Path("results")
DATA_SETS = {
    "results-mfass": "mfass",
    "results-open": "splicevardb-open",
    "results-observed-sites": "cispliceai-validated",
}
"""Blocks that hold the leaderboards and the evidence of one data set, from the runs kept in `results/`."""


def results_of(name: str, root: Path) -> str:
    """What the kept runs of a data set say."""
    from meta_spliceai.experiments.store.workspace import Workspace

    return evidence_results.results_in_markdown(Workspace(root / "runs", (root / LEDGER,)), DATA_SETS[name])


def packaged_variants() -> str:
    """What the data set inside the package holds."""
    from meta_spliceai.datasets import load_dataset

    table = load_dataset("packaged-human").variants
    found = []
    for (source, context), rows in table.groupby(["source", "context"]):
        classes = rows["classification"].value_counts()
        numbers = (len(rows), classes["Splice-altering"], classes["Normal"], int(rows["effect"].notna().sum()))
        found.append((source, context, *(f"{count:,}" for count in numbers)))
    columns = ("source", "context", "variants", "Splice-altering", "Normal", "with a measured effect")
    return as_markdown(Table(columns, found, 2))


def fill(text: str, kept: dict[str, Any] | None, where: str, root: Path = ROOT) -> str:
    """A document with its blocks filled; a block whose source is not there yet stays as it is."""

    def block(found: re.Match[str]) -> str:
        name = found[2]
        if name in FILES:
            source = root / FILES[name]
            return (
                f"{found[1]}{source.read_text(encoding='utf-8').strip()}\n{found[4]}" if source.exists() else found[0]
            )
        if name == "packaged-variants":
            return f"{found[1]}{packaged_variants()}\n{found[4]}"
        if name == "results-pairs":
            return f"{found[1]}{pairs(root)}\n{found[4]}"
        if name in wishlist_results.BLOCKS:
            return f"{found[1]}{wishlist_results.BLOCKS[name](root)}\n{found[4]}"
        if name in DATA_SETS:
            return f"{found[1]}{results_of(name, root)}\n{found[4]}"
        if name not in BLOCKS:
            names = (
                *BLOCKS,
                *FILES,
                *DATA_SETS,
                *wishlist_results.BLOCKS,
                "results-pairs",
                "packaged-variants",
            )
            known = ", ".join(names)
            sys.exit(f"{where}: no block is named '{name}'; there are {known}")
        return found[0] if kept is None else f"{found[1]}{BLOCKS[name](kept)}\n{found[4]}"

    opened = text.count("<!-- rendered:")
    if opened != len(BLOCK.findall(text)):
        sys.exit(f"{where}: a rendered block is not closed by '<!-- /rendered -->'")
    return BLOCK.sub(block, text)


# ---------------------------------------------------------------------------------------------- the command line


def cli_reference() -> str:
    """Every command with its usage, help, arguments and options, from the command line itself."""
    import typer

    from meta_spliceai.cli.app import app

    lines = [
        "# Command line",
        "",
        "Rendered by `python tools/render_docs.py` from what `meta-spliceai COMMAND --help` shows.",
        "Every error is one line that names the bad value and what to do, with exit code 2.",
        "",
    ]
    root = typer.main.get_command(app)
    for path, command in _commands(root, ("meta-spliceai",)):
        if len(path) > 1:
            lines += _command(path, command)
    return "\n".join(lines).rstrip() + "\n"


def _commands(command: Any, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


def _command(path: tuple[str, ...], command: Any) -> list[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    named = " ".join(argument.metavar or argument.name.upper() for argument in arguments)
    inner = " COMMAND" if getattr(command, "commands", None) else ""
    usage = " ".join(part for part in (" ".join(path), named, "[OPTIONS]" if options else "") if part) + inner
    lines = [f"{'#' * min(len(path), 4)} {' '.join(path[1:])}", "", "```", usage, "```", ""]
    help_text = re.sub(r"\[/?bold\]", "", (command.help or "").strip())
    prose, _, examples = help_text.partition("Examples")
    lines += [prose.strip(), ""]
    if examples.strip():
        # A bracket is escaped in the help, where it would be taken for markup.
        shown = textwrap.dedent(examples.strip("\n")).strip().replace("\\[", "[")
        lines += ["```sh", *(line for line in shown.splitlines() if line.strip()), "```", ""]
    if arguments or options:
        lines += ["| name | meaning |", "|---|---|"]
    for argument in arguments:
        lines.append(f"| `{argument.metavar or argument.name.upper()}` | {_cell(getattr(argument, 'help', None))} |")
    for option in options:
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        default = option.default
        told = default not in (None, False, (), "") and not callable(default) and "default" not in str(option.help)
        lines.append(f"| {names} | {_cell(option.help)}{f' Default: `{default}`.' if told else ''} |")
    return [*lines, ""]


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


# --------------------------------------------------------------------------------------------------- from Python


def python_reference() -> str:
    """What `meta_spliceai` offers to Python, and what it takes and gives, from signatures and docstrings."""
    import meta_spliceai
    from meta_spliceai.experiments.predict.predict_shipped import LoadedPredictor
    from meta_spliceai.splice_engine.base_layer.families import load_base_model
    from meta_spliceai.splice_engine.base_layer.scores import BaseScores
    from meta_spliceai.splice_engine.base_layer.vcf.score_file import Settings
    from meta_spliceai.splice_engine.base_layer.vcf.score_vcf import Options

    lines = [
        "# From Python",
        "",
        "Rendered by `python tools/render_docs.py` from signatures and docstrings. `load_predictor`, `load_dataset`, "
        "`score_vcf` and `score_variants` are exported by `meta_spliceai` itself; everything is typed.",
        "",
    ]
    offered = (meta_spliceai.load_predictor, LoadedPredictor.predict, meta_spliceai.load_dataset,
               meta_spliceai.score_vcf, Settings, Options,
               meta_spliceai.score_variants, load_base_model, BaseScores)  # fmt: skip
    for one in offered:
        signature, name = inspect.signature(one), one.__qualname__
        inner = [
            f"    {'**' if given.kind is given.VAR_KEYWORD else ''}{given.name}: {str(given.annotation).strip(chr(39))}"
            f"{'' if given.default is given.empty else f' = {given.default!r}'},"
            for given in signature.parameters.values()
            if given.name != "self"
        ]
        returned = signature.return_annotation
        back = "" if returned in (signature.empty, None, "None") else f" -> {returned}"
        origin = "meta_spliceai" if hasattr(meta_spliceai, name) else one.__module__
        lines += [f"## {name}", "", "```python", f"from {origin} import {name.partition('.')[0]}", "```", ""]
        lines += ["```text", f"{name}(", *inner, f"){back}", "", inspect.getdoc(one) or "", "```", ""]
    return "\n".join(lines).rstrip() + "\n"


# ------------------------------------------------------------------------------------------------------------- main


def documents(root: Path) -> list[Path]:
    """Every Markdown file that may hold blocks."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def stale(root: Path) -> dict[Path, str]:
    """Documents that are not current, with what they should say."""
    results = root / RESULTS
    kept = json.loads(results.read_text(encoding="utf-8")) if results.exists() else None
    wanted = {}
    for path in documents(root):
        if path in (root / CLI, root / PYTHON):
            continue
        text = path.read_text(encoding="utf-8")
        wanted[path] = fill(text, kept, str(path.relative_to(root)), root)
    wanted[root / CLI] = cli_reference()
    wanted[root / PYTHON] = python_reference()
    return {
        path: text for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", type=Path, metavar="RUNS_DIR", help="a folder of runs with a finished quickstart")
    parser.add_argument("--take-pairs", type=Path, metavar="RUNS_DIR", help="a folder of runs with pairs of rows")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a document is not current"
    )
    parser.add_argument("--install-seconds", type=float, help="with --take: how long `make install` took there")
    parser.add_argument("--test-seconds", type=float, help="with --take: how long `make test` took there")
    asked = parser.parse_args(arguments)
    if asked.take and not asked.check:
        take(asked.take, root, asked.install_seconds, asked.test_seconds)
    if asked.take_pairs and not asked.check:
        take_pairs(asked.take_pairs, root)
    changed = stale(root)
    for path, text in changed.items():
        print(f"{'not current' if asked.check else 'written'}: {path.relative_to(root)}")
        if not asked.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if asked.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
