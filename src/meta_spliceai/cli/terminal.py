"""What a running command shows: bars in a terminal, plain lines elsewhere; on stderr, so that stdout stays clean."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from meta_spliceai.experiments.runner import Outcome

SECONDS_BETWEEN_LINES = 15


class Terminal:
    """A watcher that draws bars where somebody can see them and prints a line now and then where not."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @property
    def shows_bars(self) -> bool:
        """Whether stderr is a terminal."""
        return self.console.is_terminal

    def say(self, line: str) -> None:
        """Print one line."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show one step; the callable takes the number of units done since its last call."""
        started = time.perf_counter()
        if self.shows_bars:
            with self._bar(counts=total is not None) as bar:
                task = bar.add_task(name, total=total)
                yield lambda done: bar.advance(task, done)
        else:
            yield self._lines(name, total)
        self.say(f"{name}: {time.perf_counter() - started:.1f} s")

    def _bar(self, counts: bool) -> Progress:
        columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
        if counts:
            columns += [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        else:
            columns.append(TimeElapsedColumn())
        return Progress(*columns, console=self.console, transient=True)

    def _lines(self, name: str, total: int | None) -> Callable[[int], None]:
        done = 0
        last = time.perf_counter()

        def advance(units: int) -> None:
            nonlocal done, last
            done += units
            if time.perf_counter() - last >= SECONDS_BETWEEN_LINES:
                last = time.perf_counter()
                self.say(f"{name}: {done:,}" + (f" of {total:,}" if total else ""))

        return advance

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """Print the rows that have a result, on stdout: where it is, and how it compares with the simple rivals."""
        out = Console()
        for outcome in outcomes:
            if outcome.error is not None or outcome.run is None:
                continue  # said when it happened
            record = outcome.run.record()
            how = "finished before" if outcome.reused else "finished"
            out.print(
                f"{outcome.spec.id}: {how} in {record['seconds']:.0f} s on {record['device']}: {outcome.run.path}",
                highlight=False,
                soft_wrap=True,
            )
            for verdict in record.get("verdicts", []):
                out.print(f"  {verdict}", highlight=False)
