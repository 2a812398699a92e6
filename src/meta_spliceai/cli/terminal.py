"""What a running command shows, on stderr so that stdout stays clean: bars in a terminal, plain lines elsewhere, JSON
lines for machines (those on stdout), or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from meta_spliceai.cli.console import PlainConsole, as_json
from meta_spliceai.errors import unknown_value
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.run.runner import Outcome
from meta_spliceai.experiments.store.workspace import now

SECONDS_BETWEEN_LINES = 15

WAYS = ("auto", "lines", "json", "quiet")


def make_screen(way: str, price_per_hour: float | None = None, several: bool = False) -> Terminal | JsonLines | Quiet:
    """The screen for `--progress`.

    Args:
        way: auto (bars in a terminal, lines elsewhere), lines, json or quiet.
        price_per_hour: dollars an hour of this machine, where it is rented.
        several: rows run at the same time, so that each line has to say which row it is of.
    """
    if way not in WAYS:
        raise unknown_value("way", way, WAYS, where="--progress")
    if way == "json":
        return JsonLines(price_per_hour)
    if way == "quiet":
        return Quiet()
    console = PlainConsole(stderr=True, force_terminal=None if way == "auto" else False)
    return Terminal(console, price_per_hour, several)


class _Bars(Progress):
    """Bars that are on the screen while there is one."""

    def __init__(self, console: PlainConsole) -> None:
        words = (TextColumn("{task.description}", markup=False), TextColumn("{task.fields[text]}", markup=False))
        columns = (SpinnerColumn(), words[0], BarColumn(bar_width=24), words[1], TimeElapsedColumn())
        # What goes to stdout meanwhile is data, and stays there.
        super().__init__(*columns, TimeRemainingColumn(), console=console, transient=True, redirect_stdout=False)

    def begin(self, description: str, total: float | None) -> TaskID:
        task = self.add_task(description, total=total, text="")
        self.start()
        return task

    def end(self, task: TaskID) -> None:
        self.remove_task(task)
        if not self.tasks:
            self.stop()


def _counted(done: int, total: int | None) -> str:
    return f"{done:,}" + (f" of {total:,}" if total else "")


@contextmanager
def counting(what: str, hidden: bool = False) -> Iterator[Callable[..., None]]:
    """A bar, where standard error is a terminal; what is yielded is called with how many are done, of how many if that
    is known, and what else to say. `hidden`: no bar, because the terminal shows other lines."""
    console = PlainConsole(stderr=True)
    bars = _Bars(console)
    task = bars.begin(what, None) if console.is_terminal and not hidden else None

    def show(done: int, total: int | None = None, more: str = "") -> None:
        if task is not None:
            bars.update(task, completed=done, total=total, text=f"{_counted(done, total)}  {more}")

    try:
        yield show
    finally:
        if task is not None:
            bars.end(task)


class Quiet(Callback):
    """Shows nothing but errors and what came out."""

    def say(self, line: str) -> None:
        if line.startswith("error"):
            typer.echo(line, err=True)

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """Print the rows that have a result: where it is, and how it compares with the baselines.

        A single row that failed has said so; of several, those that failed or are left are named once more at the end,
        because what they said has scrolled away.
        """
        out = PlainConsole(highlight=False, soft_wrap=True)
        for outcome in sorted(outcomes, key=lambda outcome: outcome.failed):
            if outcome.error is not None or outcome.run is None:
                if len(outcomes) > 1:
                    out.print(f"{outcome.spec.id}: {outcome.state}: {outcome.error}")
                continue
            record = outcome.run.record()
            how = "finished before" if outcome.reused else "finished"
            out.print(
                f"{outcome.spec.id}: {how} in {record['seconds']:.0f} s on {record['device']}: {outcome.run.path}"
            )
            # A smoke run says nothing about its model.
            for verdict in [] if record.get("smoke") else record.get("verdicts", []):
                out.print(f"  {verdict}")


class Terminal(Quiet):
    """A callback that draws bars where somebody can see them and prints a line now and then where not.

    `row` gives callbacks for several rows at a time, whose lines and bars carry the row's name.
    """

    def __init__(
        self,
        console: PlainConsole | None = None,
        price_per_hour: float | None = None,
        several: bool = False,
        label: str = "",
        bars: _Bars | None = None,
    ) -> None:
        self.console = console or PlainConsole(stderr=True)
        self.price_per_hour, self.several, self.label = price_per_hour, several, label
        self.bars = bars or _Bars(self.console)
        self.began = self.last_line = time.perf_counter()
        self.validation = "-"
        self.shown: dict[str, TaskID] = {}
        self.pace = ("", 0.0, 0.0)  # what is trained, since when, and what share of it was done then

    def row(self, label: str) -> Callback:
        return Terminal(self.console, self.price_per_hour, label=label if self.several else "", bars=self.bars)

    def say(self, line: str) -> None:
        self.console.print(self._named(line), highlight=False, soft_wrap=True)

    def _named(self, line: str) -> str:
        return f"{self.label}: {line}" if self.label else line

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "step":
            self._show_step(**facts)
        elif kind == "step-end":
            self._end(facts["step"])
            if facts["seconds"] is not None:
                self.say(f"{facts['step']}: {facts['seconds']:.1f} s")
        elif kind == "epoch":
            self.validation = f"{facts['val_loss']:.4f}"
        elif kind == "training":
            self._show_training(facts)
        elif kind == "end":
            self._end("training")

    def _show_step(self, step: str, done: int, total: int | None) -> None:
        text = _counted(done, total) if done else ""
        if not done:
            self._end("training")
        if self.console.is_terminal:
            self._draw(step, total, done, text)
        elif done and self._due():
            self.say(f"{step}: {text}")

    def _draw(self, what: str, total: float | None, done: float, text: str) -> None:
        if what not in self.shown:
            self.shown[what] = self.bars.begin(self._named(what), total)
        self.bars.update(self.shown[what], completed=done, text=text)

    def _end(self, what: str) -> None:
        """Take a step's bar away, or that of a training, whichever fold it is of."""
        for name in [name for name in self.shown if name.startswith(what)]:
            self.bars.end(self.shown.pop(name))
        if what == "training":
            self.pace = ("", 0.0, 0.0)

    def _show_training(self, facts: dict[str, Any]) -> None:
        what = "training" if facts["fold"] is None else f"training fold {facts['fold']}"
        seconds, share = time.perf_counter() - self.began, facts["share"]
        text = (
            f"epoch {facts['epoch']}/{facts['epochs']}  loss {facts['loss']:.4f}  validation {self.validation}  "
            f"{facts['windows_per_second']:,.0f} windows/s  {facts['memory_bytes'] / 1e9:.1f} GB"
        )
        text += "" if self.price_per_hour is None else f"  ${seconds / 3600 * self.price_per_hour:.2f}"
        if self.pace[0] != what:
            self._end("training")  # an early stop leaves its bar short of the end
            self.pace = (what, time.perf_counter(), share)
        if self.console.is_terminal:
            self._draw(what, 1.0, share, text)
            if share >= 1:
                self._end("training")
        elif self._due():
            _, since, before = self.pace  # a resumed training begins with a share done
            left = (time.perf_counter() - since) * (1 - share) / (share - before) if share > before else None
            self.say(f"{what}: {text}" + ("" if left is None else f"  {left:,.0f} s left"))

    def _due(self) -> bool:
        if time.perf_counter() - self.last_line < SECONDS_BETWEEN_LINES:
            return False
        self.last_line = time.perf_counter()
        return True


class JsonLines(Callback):
    """One JSON object a line on stdout for everything that happens: at (UTC), row, event and what belongs to it."""

    def __init__(
        self, price_per_hour: float | None = None, write: Callable[[str], None] = typer.echo, label: str = ""
    ) -> None:
        self.price_per_hour, self.write, self.label = price_per_hour, write, label
        self.began = time.perf_counter()

    def row(self, label: str) -> Callback:
        return JsonLines(self.price_per_hour, self.write, label)

    def say(self, line: str) -> None:
        self._emit("line", {"line": line})

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        dollars: dict[str, float] = {}
        if self.price_per_hour is not None and not kind.startswith("step"):
            dollars["dollars"] = round((time.perf_counter() - self.began) / 3600 * self.price_per_hour, 4)
        self._emit(kind, {**facts, **dollars})

    def _emit(self, event: str, facts: dict[str, Any]) -> None:
        self.write(as_json({"at": now(), "row": self.label or None, "event": event, **facts}))

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            record = outcome.run.record() if outcome.run is not None else {}
            facts = {
                "run": outcome.run.name if outcome.run is not None else None,
                "path": str(outcome.run.path) if outcome.run is not None else None,
                "state": outcome.state,
                "reused": outcome.reused,
                "error": None if outcome.error is None else str(outcome.error),
                "seconds": record.get("seconds"),
                "device": record.get("device"),
                "verdicts": record.get("verdicts", []),
            }
            JsonLines(None, self.write, outcome.spec.id)._emit("outcome", facts)
