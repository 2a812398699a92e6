"""Which runs a list of rows comes to, and which of them has to wait for which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from meta_spliceai.experiments.executors.request import Request
from meta_spliceai.experiments.runner import Outcome, member_of


@dataclass
class Task:
    """One run of the queue.

    Attributes:
        request: the run.
        needs: keys of the tasks that have to be finished before: members of an ensemble, parts of a cross-validation.
        asked_for: a row that the user named; false for a member that only an ensemble needs.
        outcome: what became of it; None until then.
    """

    request: Request
    needs: tuple[str, ...] = ()
    asked_for: bool = True
    outcome: Outcome | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """What the user sees: the row's id, and which of its folds (0: what they share)."""
        part = self.request.part
        return self.request.spec.id if part is None else f"{self.request.spec.id} fold {part}"


def make_tasks(requests: Sequence[Request], folds_apart: bool = False) -> dict[str, Task]:
    """Every run once, by key, members of ensembles before the ensembles that need them; else in the order given.

    Args:
        requests: the rows.
        folds_apart: let the folds of a cross-validation be tasks; how many there are is known once the task that
            prepares them is done (see `add_folds`).
    """
    tasks: dict[str, Task] = {}

    def add(request: Request, asked_for: bool) -> str:
        spec = request.spec
        key = json.dumps(spec.identity(), sort_keys=True)
        if key in tasks:
            tasks[key].asked_for |= asked_for
            return key
        members = spec.ensemble.members if spec.ensemble is not None else ()
        needs = []
        for member in members:
            inner = replace(request, spec=member_of(spec, member, request.rows), resume=True, fresh=False)
            needs.append(add(inner, False))
        if folds_apart and spec.procedure == "cross-validation":
            shared = _part_key(key, 0)
            tasks[shared] = Task(request.for_part(0), (), False)
            needs.append(shared)
        tasks[key] = Task(request, tuple(needs), asked_for)
        return key

    for request in requests:
        add(request, True)
    return tasks


def _part_key(key: str, part: int) -> str:
    return f"{key} part {part}"


def add_folds(tasks: dict[str, Task], done: Task, folds: int) -> None:
    """Put in a task for every fold of a row, now that what they share is there; the row waits for all of them.

    Args:
        tasks: the queue's, changed in place.
        done: the task that prepared the folds.
        folds: how many there are.
    """
    shared = next(key for key, task in tasks.items() if task is done)
    row = next(key for key, task in tasks.items() if shared in task.needs)
    parts = {_part_key(row, number): Task(done.request.for_part(number), (), False) for number in range(1, folds + 1)}
    tasks[row].needs += tuple(parts)
    # The folds come before their row; all else keeps its place.
    before = list(tasks.items())
    tasks.clear()
    for key, task in before:
        if key == row:
            tasks.update(parts)
        tasks[key] = task


def next_task(tasks: dict[str, Task], begun: set[str]) -> str | None:
    """The first task that has not begun and need not wait."""
    for key, task in tasks.items():
        if key not in begun and all(tasks[need].outcome is not None for need in task.needs):
            return key
    return None


def failed_need(tasks: dict[str, Task], key: str) -> str | None:
    """Why a task cannot begin: the member of it that failed, and why. A fold that failed is tried again by its row."""
    for need in tasks[key].needs:
        outcome = tasks[need].outcome
        if tasks[need].request.part is not None:
            continue
        if outcome is not None and outcome.error is not None:
            return f"its member '{tasks[need].label}' failed: {outcome.error}"
    return None


def outcomes_of(tasks: dict[str, Task]) -> list[Outcome]:
    """Outcomes of all runs that have one: first what was not asked for by name, then the rows as given."""
    done = [task for task in tasks.values() if task.outcome is not None and task.request.part is None]
    return [task.outcome for task in sorted(done, key=lambda task: task.asked_for) if task.outcome is not None]
