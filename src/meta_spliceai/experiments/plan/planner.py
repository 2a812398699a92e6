"""A row becomes a plan: memory, hours and dollars on every card, and which one to rent; and which of several rows are
bought on which card within a budget and a deadline."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.plan.calibrate import (
    Basis,
    Calibrated,
    Calibration,
    Kind,
    Measured,
    Point,
    device_key,
    measured_runs,
    out_of_memory,
)
from meta_spliceai.experiments.plan.data_facts import DataFacts, Parts, facts_of, parts_of
from meta_spliceai.experiments.plan.demand import Batch, Demand, ToCompute, batches_of, cache_keys, demand_of
from meta_spliceai.experiments.plan.gpu_prices import Market, load_market
from meta_spliceai.experiments.plan.run_work import CPU, Machine, card, processor, this_processor
from meta_spliceai.experiments.run.build import missing_encoder_weights
from meta_spliceai.experiments.spec.experiment import DataSpec, ExperimentSpec
from meta_spliceai.experiments.spec.parts import missing_parts
from meta_spliceai.experiments.spec.rows import member_of
from meta_spliceai.experiments.store.address import code_version, describe_environment
from meta_spliceai.experiments.store.workspace import Workspace

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
        return {
            "id": self.spec.id,
            "title": self.spec.title,
            "section": self.spec.section,
            "state": self.state,
            "best": None if self.best is None else self.best.to_json(),
            "offers": [offer.to_json() for offer in self.offers],
            "notes": list(self.notes),
            "wish": None if self.spec.wish is None else self.spec.wish.model_dump(mode="json"),
        }


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


@dataclass
class Planner:
    """Plans rows; traces, counts of data sets and measurements are made once.

    Args:
        workspace: whose finished runs, those of its ledgers too, calibrate the plan and are not paid for again.
        rows_by_id: the catalogue, in which members of ensembles are looked up.
        prices: the user's file of cards and prices.
        today: the day prices are compared with.
        cloud: see `load_market`.
    """

    workspace: Workspace
    rows_by_id: dict[str, ExperimentSpec]
    prices: Path | None = None
    today: date = field(default_factory=lambda: datetime.now(UTC).date())
    cloud: str = ""
    _facts: dict[str, DataFacts] = field(default_factory=dict)
    _calibrations: dict[bool, Calibration] = field(default_factory=dict)

    @cached_property
    def market(self) -> Market:
        return load_market(self.prices, cloud=self.cloud)

    @cached_property
    def runs(self) -> list[Measured]:
        return measured_runs(self.workspace)

    @cached_property
    def _failed(self) -> dict[str, str]:
        return out_of_memory(self.workspace)

    @cached_property
    def _here(self) -> str:
        """Name of the processor at hand among measurements."""
        return device_key(describe_environment(), CPU)

    @cached_property
    def _kept(self) -> frozenset[str]:
        """What runs of this folder left in the caches of this machine; ledgers from elsewhere left nothing here."""
        here = {run.name for run in self.workspace.own_runs()}
        kept: set[str] = set()
        for run in self.runs:
            if run.run in here:
                keys = cache_keys(run.spec, run.parts.rows)
                kept |= set(keys if run.code == code_version() else keys._replace(baselines=""))
        return frozenset(kept - {""})

    def calibration(self, cuda: bool) -> Calibration:
        """What runs say about the estimates for cards, or for processors: neither says anything about the other's
        speed or memory, only about when training stops."""
        if cuda not in self._calibrations:
            points = tuple(self.point(run, only_epochs=run.cuda != cuda) for run in self.runs)
            self._calibrations[cuda] = Calibration(points)
        return self._calibrations[cuda]

    def facts(self, data: DataSpec) -> DataFacts:
        """The data set in numbers, whatever a row draws from it."""
        key = data.model_dump_json(exclude={"rows", "labelled_only", "balanced"})
        if key not in self._facts:
            self._facts[key] = facts_of(data)
        return self._facts[key]

    def demand_of(self, run: Measured) -> Demand:
        """What would have been planned for a finished run, its rows known and all its epochs trained."""
        gpu = self.market.known(run.device) if run.cuda else None
        machine = processor(run.threads, run.memory_total or 8 * 10**9) if gpu is None else card(gpu)
        return demand_of(run.spec, run.parts, machine, Batch.of(run.spec), run.computed)

    def point(self, run: Measured, only_epochs: bool = False) -> Point:
        """A finished run beside what would have been planned for it, its rows and its epochs known.

        Args:
            run: the run; one on a card that nobody described says only how soon its training stopped.
            only_epochs: only how soon its training stopped.
        """
        kind = Kind.of(run.spec, self.market.name_of(run.device))
        stopping = run.epoch_share if run.spec.training.patience else None
        if only_epochs or (run.cuda and self.market.known(run.device) is None):
            return Point(run.run, kind, None, {}, stopping)
        demand = self.demand_of(run)
        estimated = demand.at_share(run.epoch_share or 1.0)
        steps = {
            step: (estimated[step], seconds)
            for step, seconds in run.seconds.items()
            if estimated.get(step) and step not in run.not_compared
        }
        memory = (demand.peak_bytes, float(run.peak_bytes)) if run.own_peak else None
        return Point(run.run, kind, memory, steps, stopping)

    def row(self, spec: ExperimentSpec, gpu: str | None = None, paid: frozenset[str] = frozenset()) -> RowPlan:
        """Plan one row.

        Args:
            spec: the row.
            gpu: only on this card, or on "cpu", the processor at hand.
            paid: what earlier rows of a plan have computed already (see `cache_keys`), and ids of rows planned
                beside it, whose runs an ensemble takes as they are.

        Raises:
            InputError: an unknown card or data set; settings that build no model.
        """
        missing = missing_parts(spec, self.rows_by_id)
        if missing:
            return RowPlan(spec, "cannot run", (), (f"missing: {', '.join(missing)}",))
        machines = [card(one) for one in self.market.gpus.values()]
        if gpu is not None:
            machines = [this_processor() if gpu.lower() == CPU else card(self.market.find(gpu, "--gpu"))]
        facts = self.facts(spec.data)
        parts = parts_of(spec, facts)
        keys, kept = cache_keys(spec, parts.rows), paid | self._kept
        work = ToCompute(
            scores=0 if keys.scores in kept else None,
            baselines=keys.baselines not in kept,
            features=0.0 if keys.features in kept else 1.0,
        )
        offers = tuple(self._offer(spec, parts, machine, work, paid) for machine in machines)
        members = self._members(spec)
        free = [member.id for member in members if self._is_free(member, paid)]
        encoders = [spec] if spec.ensemble is None else members
        failed = self._failed.get(spec.id, "")
        notes = [
            "" if facts.exact else facts.source,
            *(missing_encoder_weights(row) for row in encoders if not self._done(row)),
            "" if work.scores is None else "base scores: found in the cache of an earlier row or run",
            "" if work.features else "features of the frozen encoder: found in the cache of an earlier row or run",
            f"members that are finished or planned beside it cost nothing: {', '.join(free)}" if free else "",
            failed,
        ]
        state: State = "completed" if self._done(spec) else "out of memory" if failed else "planned"
        return RowPlan(spec, state, offers, tuple(dict.fromkeys(filter(None, notes))), keys.scores, parts.rows)

    def _offer(
        self, spec: ExperimentSpec, parts: Parts, machine: Machine, work: ToCompute, paid: frozenset[str]
    ) -> Offered:
        device = machine.name if machine.cuda else self._here
        kind, calibration = Kind.of(spec, device), self.calibration(machine.cuda)
        batch, demand, peak = self._at_a_batch_that_fits(spec, parts, machine, work, kind)
        share = calibration.epochs(kind).value if spec.training.patience else 1.0
        calibrated = {step: calibration.step(kind, step, took) for step, took in demand.at_share(share).items()}
        steps = {step: number.value for step, number in calibrated.items()}
        longest = sum(calibration.step(kind, step, seconds).value for step, seconds in demand.steps.items())
        # The step that takes longest decides what the hours are called.
        step = max(steps, key=lambda name: steps[name])
        time_basis, memory_basis, peak_bytes = calibrated[step].basis, peak.basis, int(peak.value)
        speed = f"{step}{_on(calibrated[step])}" if calibrated[step].sources else f"time {machine.assumed}"
        why = f"memory: dry trace (peak in {demand.phase}){_on(peak)}; {speed}"
        for member in self._members(spec):
            if not self._is_free(member, paid):
                own = self.row(member, machine.name, paid).offers[0]
                steps[f"member {member.id}"] = own.hours * 3600
                longest += own.hours_most * 3600
                if own.peak_bytes > peak_bytes:
                    peak_bytes, memory_basis = own.peak_bytes, own.memory_basis
        fits = peak_bytes <= machine.memory_bytes
        if same := [run for run in self._done(spec) if self.market.name_of(run.device) == device]:
            latest = max(same, key=lambda run: run.at)
            time_basis = memory_basis = "measured"
            steps, longest, peak_bytes, fits = dict(latest.seconds), latest.total_seconds, latest.peak_bytes, True
            why = f"measured in run {latest.run}"
        hours = sum(steps.values()) / 3600
        price = self.market.offers.get(machine.name) if machine.cuda else None
        return Offered(
            gpu=machine.name,
            fits=fits,
            peak_bytes=peak_bytes,
            hours=hours,
            hours_most=longest / 3600,
            dollars=hours * price.dollars_per_hour if price else None if machine.cuda else 0.0,
            dollars_per_hour=price.dollars_per_hour if price else None,
            as_of=price.as_of if price else "",
            provider=price.provider if price else "",
            source=price.source if price else "",
            batch_size=batch.size,
            accumulate=batch.accumulate,
            memory_basis=memory_basis,
            time_basis=time_basis,
            phase=demand.phase,
            steps=steps,
            why=why,
        )

    def _at_a_batch_that_fits(
        self, spec: ExperimentSpec, parts: Parts, machine: Machine, work: ToCompute, kind: Kind
    ) -> tuple[Batch, Demand, Calibrated]:
        """The row's own batch or the largest half of it that fits, else its own."""
        reading, tried = self.facts(spec.data).load_seconds, []
        for batch in batches_of(spec) if spec.ensemble is None else [Batch.of(spec)]:
            demand = demand_of(spec, parts, machine, batch, work, reading)
            peak = self.calibration(machine.cuda).memory(kind, demand.peak_bytes, machine.cuda)
            tried.append((batch, demand, peak))
            if peak.value <= machine.memory_bytes:
                return tried[-1]
        return tried[0]

    @cached_property
    def _by_identity(self) -> dict[str, list[Measured]]:
        found: dict[str, list[Measured]] = {}
        for run in self.runs:
            found.setdefault(_identity(run.spec), []).append(run)
        return found

    def _done(self, spec: ExperimentSpec) -> list[Measured]:
        return self._by_identity.get(_identity(spec), [])

    def _members(self, spec: ExperimentSpec) -> list[ExperimentSpec]:
        members = spec.ensemble.members if spec.ensemble is not None else ()
        return [member_of(spec, row, self.rows_by_id) for row in members]

    def _is_free(self, member: ExperimentSpec, paid: frozenset[str]) -> bool:
        return member.id in paid or bool(self._done(member))

    def rows(
        self,
        specs: Sequence[ExperimentSpec],
        gpu: str | None = None,
        budget: float | None = None,
        deadline: float | None = None,
    ) -> Plan:
        """Plan several rows, and choose among them (see `choose`).

        Raises:
            InputError: an unknown card or data set, a budget or deadline below zero.
        """
        paid: set[str] = {spec.id for spec in specs}
        plans = []
        for spec in specs:
            plan = self.row(spec, gpu, frozenset(paid))
            if plan.state != "cannot run":
                paid |= set(filter(None, cache_keys(spec, plan.drawn)))
            plans.append(plan)
        old = self.market.old_prices(self.today)
        return Plan(tuple(plans), *choose(plans, budget, deadline), (old,) if old else ())


def _identity(spec: ExperimentSpec) -> str:
    return json.dumps(spec.identity(), sort_keys=True)


def _on(number: Calibrated) -> str:
    return f", {number.basis} on {number.rests_on}" if number.sources else ""
