"""The contents of a plan: every row on every machine, and which rows to run on which machine within a budget and a
deadline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.plan.calibrate import Basis
from meta_spliceai.experiments.spec.experiment import ExperimentSpec

State = Literal["planned", "completed", "out of memory", "cannot run"]


def priority_of(spec: ExperimentSpec) -> int:
    """0 for the highest."""
    return ("high", "medium", "low", None).index(spec.wish.priority if spec.wish else None)


@dataclass(frozen=True)
class Offered:
    """A row on one machine.

    Attributes:
        hours: expected, training stopped early as comparable runs were; `hours_most` with all epochs.
        dollars: for `hours`; None without a price (the processor at hand costs nothing).
        dollars_per_hour, as_of, provider, source: the price; None and empty where there is none.
        batch_size, accumulate: how it is trained there.
        phase: what holds the peak.
        steps: expected seconds by step.
        why: where the numbers are from, in words.
    """

    gpu: str
    fits: bool
    peak_bytes: int
    hours: float
    hours_most: float
    dollars: float | None
    dollars_per_hour: float | None
    as_of: str
    provider: str
    source: str
    batch_size: int
    accumulate: int
    memory_basis: Basis
    time_basis: Basis
    phase: str
    steps: dict[str, float]
    why: str

    def to_json(self) -> dict[str, Any]:
        rounded = {name: _rounded(getattr(self, name)) for name in ("hours", "hours_most", "dollars")}
        return {**vars(self), **rounded, "steps": {name: round(seconds, 3) for name, seconds in self.steps.items()}}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 5)


@dataclass(frozen=True)
class RowPlan:
    """A row on every machine.

    Attributes:
        state: completed: its result is there, and costs nothing again; out of memory: its latest run did not fit;
            cannot run: a part is missing.
        notes: what a reader must know.
        shared: what this row computes that later rows find done, as a key; empty for nothing.
        drawn: variants it draws.
    """

    spec: ExperimentSpec
    state: State
    offers: tuple[Offered, ...]
    notes: tuple[str, ...]
    shared: str = ""
    drawn: int = 0

    @property
    def best(self) -> Offered | None:
        """The cheapest that fits; the fastest of those that fit where none has a price; None where none fits."""
        fitting = [offer for offer in self.offers if offer.fits]
        return min(self.for_sale or fitting, key=lambda offer: (offer.dollars or 0.0, offer.hours), default=None)

    @property
    def for_sale(self) -> list[Offered]:
        """Machines that it fits and that have a price."""
        return [offer for offer in self.offers if offer.fits and offer.dollars is not None]

    def to_json(self) -> dict[str, Any]:
        best, offers = self.best, [offer.to_json() for offer in self.offers]
        own = {"state": self.state, "best": best and best.to_json(), "offers": offers, "notes": list(self.notes)}
        return {**self.spec.listed(), **own}


@dataclass(frozen=True)
class Plan:
    """Several rows: on which machine each one is bought, why others are left out, and old prices to warn of."""

    rows: tuple[RowPlan, ...]
    chosen: dict[str, Offered]
    left_out: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        return max((offer.peak_bytes for offer in self.chosen.values()), default=0)

    @property
    def hours(self) -> float:
        """Of the chosen rows, one after the other."""
        return sum(offer.hours for offer in self.chosen.values())

    @property
    def dollars(self) -> float | None:
        """Of the chosen rows that have a price; None where there are some and none has."""
        known = [offer.dollars for offer in self.chosen.values() if offer.dollars is not None]
        return sum(known) if known or not self.chosen else None

    @property
    def unpriced(self) -> tuple[str, ...]:
        return tuple(row_id for row_id, offer in self.chosen.items() if offer.dollars is None)

    @property
    def prices(self) -> tuple[str, ...]:
        """The day, provider and source of every price used, in words."""
        used = {(o.gpu, o.dollars_per_hour, o.provider, o.as_of, o.source) for o in self.chosen.values() if o.as_of}
        return tuple(
            f"{gpu} ${in_short(rate or 0)}/h ({provider}, {day}; {source})"
            for gpu, rate, provider, day, source in sorted(used)
        )

    def in_order(self) -> list[str]:
        """Ids of the chosen rows as they are best run: those that others wait for or share caches with first, then by
        priority, then the cheap ones; an ensemble after its members."""
        plans = {plan.spec.id: plan for plan in self.rows if plan.spec.id in self.chosen}
        users = Counter(plan.shared for plan in plans.values())
        first: dict[str, str] = {}
        for row_id in sorted(plans, key=lambda one: not self.chosen[one].steps.get("base scores")):
            first.setdefault(plans[row_id].shared, row_id)

        def depth(row_id: str) -> int:
            ensemble = plans[row_id].spec.ensemble
            return 1 + max((depth(one) for one in ensemble.members if one in plans), default=0) if ensemble else 0

        def rank(row_id: str) -> tuple[Any, ...]:
            plan = plans[row_id]
            opens = users[plan.shared] > 1 and first[plan.shared] == row_id
            return depth(row_id), not opens, priority_of(plan.spec), self.chosen[row_id].hours

        return sorted(plans, key=rank)

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": [plan.to_json() for plan in self.rows],
            "chosen": {row_id: offer.gpu for row_id, offer in self.chosen.items()},
            "order": self.in_order(),
            "left_out": self.left_out,
            "total": {
                "rows": len(self.chosen),
                "peak_bytes": self.peak_bytes,
                "hours": _rounded(self.hours),
                "dollars": _rounded(self.dollars),
                "unpriced": list(self.unpriced),
            },
            "prices": list(self.prices),
            "warnings": list(self.warnings),
        }


def choose(
    plans: Sequence[RowPlan], budget: float | None = None, deadline: float | None = None
) -> tuple[dict[str, Offered], dict[str, str]]:
    """On which card each row is bought within a budget (dollars) and a deadline (hours, the rows run one after the
    other), and why others are left out.

    Every row begins on its cheapest card. Where the hours are too many, the row that gains most hours a dollar moves to
    a faster card; where none can, and where the dollars are too many, the row of least priority is left out, of those
    the one that costs most. What is left out comes back where it still fits.
    """
    for name, value, unit in (("--budget", budget, "dollars"), ("--deadline", deadline, "hours")):
        if value is not None and not value > 0:
            raise InputError(f"{name} {value:g} is not allowed; give {unit} above 0")
    left_out: dict[str, str] = {}
    chosen: dict[str, Offered] = {}
    for plan in plans:
        best, row_id = plan.best, plan.spec.id
        if plan.state == "completed":
            left_out[row_id] = "completed: its result is there"
        elif plan.state == "cannot run":
            left_out[row_id] = "; ".join(plan.notes)
        elif best is None:
            least = min(plan.offers, key=lambda offer: offer.peak_bytes)
            need = f"{least.peak_bytes / 1e9:.1f} GB at batch {least.batch_size}"
            left_out[row_id] = f"needs {need}, more than any card asked for has"
        elif budget is not None and best.dollars is None:
            left_out[row_id] = "no price for a card that it fits; give one with --prices FILE"
        else:
            chosen[row_id] = best
    wanted = {plan.spec.id: plan for plan in plans if plan.spec.id in chosen}

    def left() -> tuple[float, float]:
        """Dollars and hours that are left; below zero for too many."""
        return (
            math.inf if budget is None else budget - sum(offer.dollars or 0.0 for offer in chosen.values()),
            math.inf if deadline is None else deadline - sum(offer.hours for offer in chosen.values()),
        )

    while left()[1] < 0 and _speed_up(wanted, chosen):
        pass
    dropped: dict[str, Offered] = {}
    while min(left()) < 0:
        cost = "hours" if left()[1] < 0 else "dollars"
        worst = max(chosen, key=lambda row_id: (priority_of(wanted[row_id].spec), getattr(chosen[row_id], cost) or 0.0))
        dropped[worst] = chosen.pop(worst)
    for row_id in sorted(dropped, key=lambda one: (priority_of(wanted[one].spec), dropped[one].dollars or 0.0)):
        for offer in sorted(wanted[row_id].for_sale, key=lambda one: (one.dollars or 0.0, one.hours)):
            chosen[row_id] = offer
            if min(left()) >= 0:
                break
            del chosen[row_id]
        if row_id not in chosen:
            offer, (dollars, hours) = wanted[row_id].best or dropped[row_id], left()
            words = (
                f"${in_short(offer.dollars or 0)} with ${in_short(dollars)} left",
                f"{in_short(offer.hours)} h with {in_short(hours)} h left",
            )
            limits = [one for one, limit in zip(words, (budget, deadline), strict=True) if limit is not None]
            left_out[row_id] = f"does not fit: {' and '.join(limits)} on {offer.gpu}"
    return chosen, left_out


def _speed_up(wanted: dict[str, RowPlan], chosen: dict[str, Offered]) -> bool:
    """Move one row to a faster card, where an hour saved costs least; whether there was one to move."""
    moves = [
        (((offer.dollars or 0.0) - (now.dollars or 0.0)) / (now.hours - offer.hours), row_id, offer)
        for row_id, now in chosen.items()
        for offer in wanted[row_id].for_sale
        if offer.hours < now.hours
    ]
    if moves:
        _, row_id, offer = min(moves, key=lambda move: move[0])
        chosen[row_id] = offer
    return bool(moves)


def in_short(value: float) -> str:
    """Two decimals, or two digits that count where those would say little."""
    return "0" if value == 0 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
