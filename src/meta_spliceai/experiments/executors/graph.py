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
        needs: keys of the tasks that have to be finished before.
        asked_for: a row that the user named; false for a member that only an ensemble needs.
        outcome: what became of it; None until then.
    """

    request: Request
    needs: tuple[str, ...] = ()
    asked_for: bool = True
    outcome: Outcome | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """What the user sees: the row's id."""
        return self.request.spec.id


def make_tasks(requests: Sequence[Request]) -> dict[str, Task]:
    """Every run once, by key, members of ensembles before the ensembles that need them; else in the order given."""
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
        tasks[key] = Task(request, tuple(needs), asked_for)
        return key

    for request in requests:
        add(request, True)
    return tasks


def next_task(tasks: dict[str, Task], begun: set[str]) -> str | None:
    """The first task that has not begun and need not wait."""
    for key, task in tasks.items():
        if key not in begun and all(tasks[need].outcome is not None for need in task.needs):
            return key
    return None


def failed_need(tasks: dict[str, Task], key: str) -> str | None:
    """Why a task cannot begin: the member of it that failed, and why."""
    for need in tasks[key].needs:
        outcome = tasks[need].outcome
        if outcome is not None and outcome.error is not None:
            return f"its member '{tasks[need].label}' failed: {outcome.error}"
    return None


def outcomes_of(tasks: dict[str, Task]) -> list[Outcome]:
    """Outcomes of all tasks that have one: first what was not asked for by name, then the rows as given."""
    done = [task for task in tasks.values() if task.outcome is not None]
    return [task.outcome for task in sorted(done, key=lambda task: task.asked_for) if task.outcome is not None]
