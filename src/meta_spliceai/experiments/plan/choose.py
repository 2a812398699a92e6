"""What to buy: which rows, on which cards, within a budget and a deadline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.plan.gpu_prices import Market
from meta_spliceai.experiments.plan.row_plan import PRIORITIES, Offered, RowPlan


@dataclass(frozen=True)
class Plan:
    """Several rows, and what is bought.

    Attributes:
        rows: every row asked for, in order.
        chosen: for each row that is bought, on which machine.
        left_out: for each other row, why.
        hours: of the chosen rows, one after the other.
        dollars: of the chosen rows that have a price; None where there are some and none has.
        unpriced: chosen rows without a price.
        warnings: what a reader must know (old prices).
        prices: the day, provider and source of every price used, in words.
    """

    rows: tuple[RowPlan, ...]
    chosen: dict[str, Offered]
    left_out: dict[str, str]
    hours: float
    dollars: float | None
    unpriced: tuple[str, ...]
    warnings: tuple[str, ...]
    prices: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        """The largest peak of a chosen row."""
        return max((offer.peak_bytes for offer in self.chosen.values()), default=0)

    def in_order(self) -> list[str]:
        """Ids of the chosen rows as they are best run: those that others wait for or share caches with first, then by
        priority, then the cheap ones; an ensemble after its members."""
        plans = {plan.spec.id: plan for plan in self.rows if plan.spec.id in self.chosen}
        users = Counter(plan.shared for plan in plans.values())
        first: dict[str, str] = {}
        for row_id in sorted(plans, key=lambda one: not self.chosen[one].steps.get("base scores")):
            first.setdefault(plans[row_id].shared, row_id)

        def rank(row_id: str) -> tuple[Any, ...]:
            plan = plans[row_id]
            opens = users[plan.shared] > 1 and first[plan.shared] == row_id
            ensemble = plan.spec.ensemble is not None
            return (ensemble, not opens, _priority(plan), self.chosen[row_id].hours)

        waits = {
            row: set(plan.spec.ensemble.members) & set(plans) if plan.spec.ensemble else set()
            for row, plan in plans.items()
        }
        left = sorted(plans, key=rank)
        ordered: list[str] = []
        while left:
            ready = next((row_id for row_id in left if waits[row_id] <= set(ordered)), left[0])
            left.remove(ready)
            ordered.append(ready)
        return ordered

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "rows": [plan.to_json() for plan in self.rows],
            "chosen": {row_id: offer.gpu for row_id, offer in self.chosen.items()},
            "order": self.in_order(),
            "left_out": self.left_out,
            "total": {
                "rows": len(self.chosen),
                "peak_bytes": self.peak_bytes,
                "hours": round(self.hours, 5),
                "dollars": None if self.dollars is None else round(self.dollars, 5),
                "unpriced": list(self.unpriced),
            },
            "prices": list(self.prices),
            "warnings": list(self.warnings),
        }


def choose(
    plans: Sequence[RowPlan],
    market: Market,
    today: date,
    budget: float | None = None,
    deadline: float | None = None,
) -> Plan:
    """The best plan within a budget and a deadline.

    Every row begins on its cheapest card. Where the hours are too many, the row that gains most hours a dollar moves to
    a faster card; where none can, and where the dollars are too many, the row of least priority is left out, of those
    the one that costs most. What is left out comes back where it still fits.

    Args:
        plans: the rows.
        market: where prices are from.
        today: the day they are compared with.
        budget: dollars; None for no limit.
        deadline: hours, the rows run one after the other; None for no limit.

    Raises:
        InputError: a budget or deadline that is not above zero.
    """
    for name, value, unit in (("--budget", budget, "dollars"), ("--deadline", deadline, "hours")):
        if value is not None and not value > 0:
            raise InputError(f"{name} {value:g} is not allowed; give {unit} above 0")
    limited = budget is not None or deadline is not None
    left_out: dict[str, str] = {}
    chosen: dict[str, Offered] = {}
    wanted: dict[str, RowPlan] = {}
    for plan in plans:
        row_id = plan.spec.id
        if plan.state == "completed":
            left_out[row_id] = "completed: its result is there"
        elif plan.state == "cannot run":
            left_out[row_id] = "; ".join(plan.notes)
        elif plan.best is None:
            left_out[row_id] = _too_large(plan)
        elif budget is not None and plan.best.dollars is None:
            left_out[row_id] = "no price for a card that it fits; give one with --prices FILE"
        else:
            wanted[row_id] = plan
            chosen[row_id] = plan.best
    if limited:
        _meet(wanted, chosen, left_out, budget, deadline)
    known = [offer.dollars for offer in chosen.values() if offer.dollars is not None]
    used = {(o.gpu, o.dollars_per_hour, o.as_of, o.provider, o.source) for o in chosen.values() if o.as_of}
    old = market.old_prices(today)
    return Plan(
        rows=tuple(plans),
        chosen=chosen,
        left_out=left_out,
        hours=_hours(chosen),
        dollars=sum(known) if known or not chosen else None,
        unpriced=tuple(row_id for row_id, offer in chosen.items() if offer.dollars is None),
        warnings=(old,) if old else (),
        prices=tuple(
            f"{gpu} ${in_short(rate or 0)}/h ({provider}, {day}; {source})"
            for gpu, rate, day, provider, source in sorted(used)
        ),
    )


def _too_large(plan: RowPlan) -> str:
    if not plan.offers:
        return "; ".join(plan.notes)
    least = min(plan.offers, key=lambda offer: offer.peak_bytes)
    return f"needs {least.peak_bytes / 1e9:.1f} GB at batch {least.batch_size}, more than any card asked for has"


def _hours(chosen: dict[str, Offered]) -> float:
    return sum(offer.hours for offer in chosen.values())


def _spent(chosen: dict[str, Offered]) -> float:
    return sum(offer.dollars or 0.0 for offer in chosen.values())


def _priority(plan: RowPlan) -> int:
    priority = plan.spec.wish.priority if plan.spec.wish else None
    return PRIORITIES.index(priority) if priority in PRIORITIES else len(PRIORITIES)


def _meet(
    wanted: dict[str, RowPlan],
    chosen: dict[str, Offered],
    left_out: dict[str, str],
    budget: float | None,
    deadline: float | None,
) -> None:
    """Change `chosen` until it keeps both limits; say in `left_out` why rows are not in it."""

    def too_long() -> bool:
        return deadline is not None and _hours(chosen) > deadline

    def too_dear() -> bool:
        return budget is not None and _spent(chosen) > budget

    while too_long() and _speed_up(wanted, chosen):
        pass
    dropped: list[str] = []
    while chosen and (too_long() or too_dear()):
        cost = "hours" if too_long() else "dollars"
        worst = max(chosen, key=lambda row_id: (_priority(wanted[row_id]), getattr(chosen[row_id], cost) or 0.0))
        dropped.append(worst)
        del chosen[worst]
    for row_id in sorted(dropped, key=lambda one: (_priority(wanted[one]), wanted[one].best.dollars or 0.0)):  # type: ignore[union-attr]
        for offer in sorted(_fitting(wanted[row_id]), key=lambda one: (one.dollars or 0.0, one.hours)):
            chosen[row_id] = offer
            if not too_long() and not too_dear():
                break
            del chosen[row_id]
        if row_id not in chosen:
            left_out[row_id] = _reason(wanted[row_id], chosen, budget, deadline)


def _fitting(plan: RowPlan) -> list[Offered]:
    return [offer for offer in plan.offers if offer.fits and offer.dollars is not None]


def _speed_up(wanted: dict[str, RowPlan], chosen: dict[str, Offered]) -> bool:
    """Move one row to a faster card, where an hour saved costs least; whether there was one to move."""
    best: tuple[float, str, Offered] | None = None
    for row_id, now in chosen.items():
        for offer in _fitting(wanted[row_id]):
            saved = now.hours - offer.hours
            if saved <= 0:
                continue
            cost = ((offer.dollars or 0.0) - (now.dollars or 0.0)) / saved
            if best is None or cost < best[0]:
                best = (cost, row_id, offer)
    if best is None:
        return False
    chosen[best[1]] = best[2]
    return True


def _reason(plan: RowPlan, chosen: dict[str, Offered], budget: float | None, deadline: float | None) -> str:
    offer = plan.best
    if offer is None:
        return _too_large(plan)
    words = []
    if budget is not None and _spent(chosen) + (offer.dollars or 0.0) > budget:
        left = budget - _spent(chosen)
        words.append(f"${in_short(offer.dollars or 0)} on {offer.gpu} with ${in_short(left)} of ${budget:g} left")
    if deadline is not None and _hours(chosen) + offer.hours > deadline:
        left = deadline - _hours(chosen)
        words.append(f"{in_short(offer.hours)} h on {offer.gpu} with {in_short(left)} of {deadline:g} h left")
    return "does not fit: " + (" and ".join(words) or "budget and deadline together leave no card")


def in_short(value: float) -> str:
    """Two decimals, or two digits that count where those would say little."""
    return "0" if value == 0 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
