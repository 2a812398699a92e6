"""What a running command shows, on stderr so that stdout stays clean: bars in a terminal, plain lines elsewhere, JSON
lines for machines (those on stdout), or nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from meta_spliceai.cli.plain_console import PlainConsole
from meta_spliceai.cli.print_json import in_json
from meta_spliceai.errors import unknown_value
from meta_spliceai.experiments.execute.queue import Screen
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.run.runner import Outcome
from meta_spliceai.experiments.store.workspace import now

SECONDS_BETWEEN_LINES = 15

WAYS = ("auto", "lines", "json", "quiet")


class ConcludingScreen(Screen, Protocol):
    """A screen that also shows what came out."""

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """Show what came out."""


def make_screen(way: str, price_per_hour: float | None = None, several: bool = False) -> ConcludingScreen:
    """The screen for `--progress`.

    Args:
        way: auto (bars in a terminal, lines elsewhere), lines, json or quiet.
        price_per_hour: dollars an hour of this machine, where it is rented.
        several: rows run at the same time, so that each line has to say which row it is of.

    Raises:
        InputError: no such way.
    """
    if way not in WAYS:
        raise unknown_value("way", way, WAYS, where="--progress")
    if way == "json":
        return JsonLines(price_per_hour)
    if way == "quiet":
        return Quiet()
    console = PlainConsole(stderr=True) if way == "auto" else PlainConsole(stderr=True, force_terminal=False)
    return Terminal(console, price_per_hour, several)


class Terminal:
    """Draws bars where somebody can see them and prints a line now and then where not.

    It is a callback itself, for commands that work on one thing; `row` gives callbacks for several at a time, whose
    lines carry the row's name.
    """

    def __init__(
        self, console: PlainConsole | None = None, price_per_hour: float | None = None, several: bool = False
    ) -> None:
        self.several = several
        self.console = console or PlainConsole(stderr=True)
        self.price_per_hour = price_per_hour
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.shown = 0
        self.own = _Row(self, "")

    def say(self, line: str) -> None:
        """Print one line."""
        self.console.print(line, highlight=False, soft_wrap=True)

    def stage(self, name: str, total: int | None = None) -> Any:
        """Show one step; the callable takes the number of units done since its last call."""
        return self.own.stage(name, total)

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Show how training goes on."""
        self.own.tell(kind, facts)

    def row(self, label: str) -> Callback:
        """A callback of one row; where several run at a time, its lines and bars carry the row's name."""
        return _Row(self, label if self.several else "")

    @contextmanager
    def bar(self, description: str, total: float | None) -> Iterator[TaskID]:
        """A bar among those that are shown now."""
        task = self.bars.add_task(description, total=total, text="")
        self.shown += 1
        if self.shown == 1:
            self.bars.start()
        try:
            yield task
        finally:
            self.bars.remove_task(task)
            self.shown -= 1
            if not self.shown:
                self.bars.stop()

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """Print the rows that have a result, on stdout: where it is, and how it compares with the baselines."""
        conclude_in_words(outcomes)


class _Row:
    """What a terminal shows of one row."""

    def __init__(self, terminal: Terminal, label: str) -> None:
        self.terminal = terminal
        self.label = label
        self.began = time.perf_counter()
        self.last_line = self.began
        self.validation = "-"
        self.training: Any = None
        self.paced = ""
        self.training_began = 0.0
        self.share_before = 0.0

    def say(self, line: str) -> None:
        self.terminal.say(self._named(line))

    def _named(self, line: str) -> str:
        return f"{self.label}: {line}" if self.label else line

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self._end_training()
        started = time.perf_counter()
        done = 0
        if self.terminal.console.is_terminal:
            with self.terminal.bar(self._named(name), total) as task:

                def advance(units: int) -> None:
                    nonlocal done
                    done += units
                    text = f"{done:,} of {total:,}" if total else ""
                    self.terminal.bars.update(task, completed=done, text=text)

                yield advance
        else:

            def count(units: int) -> None:
                nonlocal done
                done += units
                if self._due():
                    self.say(f"{name}: {done:,}" + (f" of {total:,}" if total else ""))

            yield count
        self.say(f"{name}: {time.perf_counter() - started:.1f} s")

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "epoch":
            self.validation = f"{facts['val_loss']:.4f}"
        elif kind == "training":
            self._show_training(facts)
        elif kind == "end":
            self._end_training()

    def _show_training(self, facts: dict[str, Any]) -> None:
        what = "training" if facts["fold"] is None else f"training fold {facts['fold']}"
        text = (
            f"epoch {facts['epoch']}/{facts['epochs']}  loss {facts['loss']:.4f}  validation {self.validation}  "
            f"{facts['windows_per_second']:,.0f} windows/s  {facts['memory_bytes'] / 1e9:.1f} GB" + self._dollars("  ")
        )
        if self.terminal.console.is_terminal:
            # An early stop leaves its bar short of the end; the next step or fold takes it away.
            if self.training is not None and self.training[0] != what:
                self._end_training()
            if self.training is None:
                holder = self.terminal.bar(self._named(what), 1.0)
                self.training = (what, holder, holder.__enter__())
            self.terminal.bars.update(self.training[2], completed=facts["share"], text=text)
            if facts["share"] >= 1:
                self._end_training()
            return
        if self.paced != what:
            self.paced, self.training_began, self.share_before = what, time.perf_counter(), facts["share"]
        if self._due():
            self.say(f"{what}: {text}{self._time_left(facts['share'])}")

    def _time_left(self, share: float) -> str:
        """Time left at the pace since this training began; a resumed one began with a share done."""
        done = share - self.share_before
        if done <= 0:
            return ""
        left = (time.perf_counter() - self.training_began) * (1 - share) / done
        return f"  {left:,.0f} s left"

    def _dollars(self, before: str = "") -> str:
        price = self.terminal.price_per_hour
        return "" if price is None else f"{before}${(time.perf_counter() - self.began) / 3600 * price:.2f}"

    def _due(self) -> bool:
        if time.perf_counter() - self.last_line < SECONDS_BETWEEN_LINES:
            return False
        self.last_line = time.perf_counter()
        return True

    def _end_training(self) -> None:
        if self.training is not None:
            self.training[1].__exit__(None, None, None)
            self.training = None
        self.paced = ""


class JsonLines:
    """One JSON object a line on stdout for everything that happens: at (UTC), row, event and what belongs to it."""

    def __init__(self, price_per_hour: float | None = None, write: Callable[[str], None] = typer.echo) -> None:
        self.price_per_hour = price_per_hour
        self.write = write
        self.own = _JsonRow(self, "")

    def say(self, line: str) -> None:
        """An event `line`."""
        self.own.say(line)

    def stage(self, name: str, total: int | None = None) -> Any:
        """Events `step` and `step-end`."""
        return self.own.stage(name, total)

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """An event of this kind."""
        self.own.tell(kind, facts)

    def row(self, label: str) -> Callback:
        """A callback whose events carry the row's id."""
        return _JsonRow(self, label)

    def emit(self, row: str, event: str, facts: dict[str, Any]) -> None:
        """Write one event. Numbers that JSON does not know (NaN) are null."""
        content = {"at": now(), "row": row or None, "event": event, **facts}
        self.write(json.dumps(in_json(content), ensure_ascii=False, allow_nan=False))

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """An event `outcome` for every row."""
        for outcome in outcomes:
            self.emit(outcome.spec.id, "outcome", describe_outcome(outcome))


class _JsonRow:
    def __init__(self, lines: JsonLines, label: str) -> None:
        self.lines = lines
        self.label = label
        self.began = time.perf_counter()

    def say(self, line: str) -> None:
        self.lines.emit(self.label, "line", {"line": line})

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        started = last = time.perf_counter()
        done = 0
        self.lines.emit(self.label, "step", {"step": name, "done": 0, "total": total})

        def advance(units: int) -> None:
            nonlocal done, last
            done += units
            if time.perf_counter() - last >= 1:
                last = time.perf_counter()
                self.lines.emit(self.label, "step", {"step": name, "done": done, "total": total})

        yield advance
        self.lines.emit(self.label, "step-end", {"step": name, "seconds": round(time.perf_counter() - started, 3)})

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        price = self.lines.price_per_hour
        dollars = {} if price is None else {"dollars": round((time.perf_counter() - self.began) / 3600 * price, 4)}
        self.lines.emit(self.label, kind, {**facts, **dollars})


class Quiet:
    """Shows nothing but errors and what came out."""

    def say(self, line: str) -> None:
        """Errors only."""
        if line.startswith("error"):
            typer.echo(line, err=True)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Nothing."""
        yield lambda _: None

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Nothing."""

    def row(self, label: str) -> Callback:
        """As quiet."""
        return self

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """As a terminal does."""
        conclude_in_words(outcomes)


def describe_outcome(outcome: Outcome) -> dict[str, Any]:
    """What became of a row, as plain values."""
    record = outcome.run.record() if outcome.run is not None else {}
    return {
        "run": outcome.run.name if outcome.run is not None else None,
        "path": str(outcome.run.path) if outcome.run is not None else None,
        "state": "failed" if outcome.failed else "finished",
        "reused": outcome.reused,
        "error": None if outcome.error is None else str(outcome.error),
        "seconds": record.get("seconds"),
        "device": record.get("device"),
        "verdicts": record.get("verdicts", []),
    }


def conclude_in_words(outcomes: Sequence[Outcome]) -> None:
    """Print the rows that have a result, on stdout: where it is, and how it compares with the baselines.

    A single row that failed has said so; of several, those that failed are named once more at the end, because what
    they said has scrolled away.
    """
    out = PlainConsole()
    for outcome in sorted(outcomes, key=lambda outcome: outcome.failed):
        if outcome.error is not None or outcome.run is None:
            if len(outcomes) > 1:
                out.print(f"{outcome.spec.id}: failed: {outcome.error}", highlight=False, soft_wrap=True)
            continue
        record = outcome.run.record()
        how = "finished before" if outcome.reused else "finished"
        out.print(
            f"{outcome.spec.id}: {how} in {record['seconds']:.0f} s on {record['device']}: {outcome.run.path}",
            highlight=False,
            soft_wrap=True,
        )
        # A smoke run says nothing about its model.
        for verdict in [] if record.get("smoke") else record.get("verdicts", []):
            out.print(f"  {verdict}", highlight=False)
