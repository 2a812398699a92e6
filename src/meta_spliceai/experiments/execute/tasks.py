"""Which runs a list of rows comes to, and which of them has to wait for which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from meta_spliceai.experiments.execute.request import Request
from meta_spliceai.experiments.run.runner import Outcome, member_of


@dataclass
class Task:
    """One run, or one part of a run.

    Attributes:
        key: its name in the queue; equal for equal runs.
        request: the run.
        needs: keys of tasks that come before: members of an ensemble, parts of a cross-validation.
        asked_for: the user named the row; false for a member that only an ensemble needs.
        outcome: what became of it; None until then.
    """

    key: str
    request: Request
    needs: tuple[str, ...] = ()
    asked_for: bool = False
    outcome: Outcome | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """What the user sees: the row's id, and which of its folds (0: what they share)."""
        part = self.request.part
        return self.request.spec.id if part is None else f"{self.request.spec.id} fold {part}"

    def fold(self, number: int) -> Task:
        return Task(f"{self.key} part {number}", replace(self.request, part=number))


def make_tasks(requests: Sequence[Request], folds_apart: bool = False) -> dict[str, Task]:
    """Every run once, by key, members before the ensembles that need them; else in the order given.

    Args:
        requests: the rows.
        folds_apart: folds of a cross-validation are tasks; how many is known when part 0 is done (see `add_folds`).
    """
    tasks: dict[str, Task] = {}

    def add(request: Request) -> Task:
        spec = request.spec
        key = json.dumps(spec.identity(), sort_keys=True)
        if key in tasks:
            return tasks[key]
        needs = []
        for member in spec.ensemble.members if spec.ensemble is not None else ():
            inner = replace(request, spec=member_of(spec, member, request.rows), resume=True, fresh=False)
            needs.append(add(inner).key)
        task = Task(key, request)
        if folds_apart and spec.procedure == "cross-validation":
            shared = task.fold(0)
            tasks[shared.key] = shared
            needs.append(shared.key)
        task.needs = tuple(needs)
        tasks[key] = task
        return task

    for request in requests:
        add(request).asked_for = True
    return tasks


def add_folds(tasks: dict[str, Task], prepared: Task, folds: int) -> None:
    """Put in a task for each fold, before its row, which then waits for all of them.

    Args:
        tasks: the queue's, changed in place.
        prepared: part 0, which is done.
        folds: how many there are.
    """
    row = next(task for task in tasks.values() if prepared.key in task.needs)
    parts = [row.fold(number) for number in range(1, folds + 1)]
    row.needs += tuple(part.key for part in parts)
    for one in (*parts, *list(tasks.values())[list(tasks).index(row.key) :]):
        tasks.pop(one.key, None)
        tasks[one.key] = one


def next_task(tasks: dict[str, Task], begun: set[str]) -> Task | None:
    """The first task that has not begun and need not wait."""
    for key, task in tasks.items():
        if key not in begun and all(tasks[need].outcome is not None for need in task.needs):
            return task
    return None


def failed_need(tasks: dict[str, Task], task: Task) -> str:
    """Why a task cannot begin: a member has failed; empty where it can. A failed fold is tried again by its row."""
    for need in (tasks[key] for key in task.needs):
        if need.request.part is None and need.outcome is not None and need.outcome.error is not None:
            return f"its member '{need.label}' failed: {need.outcome.error}"
    return ""


def outcomes_of(tasks: dict[str, Task]) -> list[Outcome]:
    """Outcomes of all runs that have one: first what was not asked for by name, then the rows as given."""
    done = [task for task in tasks.values() if task.request.part is None]
    ordered = sorted(done, key=lambda task: task.asked_for)
    return [task.outcome for task in ordered if task.outcome is not None]
