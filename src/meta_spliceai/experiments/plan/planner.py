"""Turns a row into a plan: memory, hours and dollars on every GPU, and which one to rent."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from meta_spliceai.experiments.plan.calibrate import (
    Calibrated,
    Calibration,
    Kind,
    Measured,
    Point,
    device_key,
    measured_runs,
    out_of_memory,
)
from meta_spliceai.experiments.plan.choose import Offered, Plan, RowPlan, State, choose
from meta_spliceai.experiments.plan.demand import Batch, Demand, ToCompute, batches_of, cache_keys, demand_of
from meta_spliceai.experiments.plan.gpu_prices import Market, load_market
from meta_spliceai.experiments.plan.run_work import (
    CPU,
    DataFacts,
    Machine,
    Parts,
    card,
    facts_of,
    parts_of,
    processor,
    this_processor,
)
from meta_spliceai.experiments.run.build import missing_encoder_weights
from meta_spliceai.experiments.spec.experiment import DataSpec, ExperimentSpec
from meta_spliceai.experiments.spec.parts import missing_parts
from meta_spliceai.experiments.spec.rows import member_of
from meta_spliceai.experiments.store.address import code_version, describe_environment
from meta_spliceai.experiments.store.workspace import Workspace


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

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration of the estimates by finished runs."""
        return Calibration(tuple(map(self.point, self.runs)))

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

    def point(self, run: Measured) -> Point:
        """A finished run beside what would have been planned for it, its rows and its epochs known; one on a card that
        nobody described says only how soon its training stopped."""
        kind = Kind.of(run.spec, self.market.name_of(run.device))
        stopping = run.epoch_share if run.spec.training.patience else None
        if run.cuda and self.market.known(run.device) is None:
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
        kind, calibration = Kind.of(spec, device), self.calibration
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
            peak = self.calibration.memory(kind, demand.peak_bytes, machine.cuda)
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


MEMORY_BAR, TIME_BAR = 0.15, 0.25  # relative errors within which a calibrated prediction counts as good

COLUMNS = (
    *("run", "row", "family", "device", "memory_measured", "memory_estimate", "memory_calibrated"),
    *("seconds_measured", "seconds_estimate", "seconds_calibrated", "memory_error", "seconds_error"),
    *("calibrated_on", "memory_rests_on", "seconds_rest_on"),
)


def scatter(planner: Planner) -> pd.DataFrame:
    """Predicted and measured, one row per finished run that the planner looks at: predicted from data sheets and
    assumptions alone ("estimate"), and calibrated on all other runs, itself left out ("calibrated").

    Returns:
        memory_* in bytes of peak memory; seconds_* of all steps that can be compared; *_error relative to the measured
        value, NaN where no other run was there to calibrate from; calibrated_on: other runs on the device;
        memory_rests_on, seconds_rest_on: the nearest of them (for time, of the step that is to take longest).
    """
    return pd.DataFrame([_line(planner, run) for run in planner.runs], columns=list(COLUMNS))


def _line(planner: Planner, run: Measured) -> dict[str, Any]:
    point, others = planner.point(run), planner.calibration.without(run.run)
    kind = point.kind
    line: dict[str, Any] = {"run": run.run, "row": run.spec.id, "family": kind.family, "device": kind.device}
    line["calibrated_on"] = sum(other.kind.device == kind.device for other in others.points)
    if point.memory is not None:
        estimate, measured = point.memory
        memory = others.memory(kind, estimate, run.cuda)
        line |= {"memory_measured": measured, "memory_estimate": estimate, "memory_calibrated": memory.value}
        line |= {"memory_rests_on": memory.rests_on}
        line["memory_error"] = memory.value / measured - 1 if memory.sources else math.nan
    if not point.steps:
        return line  # a card that nobody described
    demand = planner.demand_of(run)
    expected = demand.at_share(others.epochs(kind).value if run.spec.training.patience else 1.0)
    found = {step: others.step(kind, step, expected[step]) for step in point.steps}
    seconds, total = sum(took for _, took in point.steps.values()), sum(one.value for one in found.values())
    longest = max(found, key=lambda step: found[step].value)
    # A step of less than 1 % may go without anything to calibrate it from.
    known = all(found[step].sources or took < 0.01 * run.total_seconds for step, (_, took) in point.steps.items())
    return line | {
        "seconds_measured": seconds,
        "seconds_estimate": sum(demand.steps[step] for step in found),
        "seconds_calibrated": total,
        "seconds_rest_on": f"{longest}: {found[longest].rests_on}",
        "seconds_error": total / seconds - 1 if known and seconds else math.nan,
    }


def verdicts(frame: pd.DataFrame) -> list[str]:
    """Whether the bar is met, in words, for memory and for time."""
    said = []
    for column, bar, what in (("memory_error", MEMORY_BAR, "peak memory"), ("seconds_error", TIME_BAR, "time")):
        errors = frame.set_index("run")[column].astype(float).dropna().abs()
        if errors.empty:
            said.append(f"{what}: not checked; it takes two finished runs on one device")
            continue
        outside = list(errors[errors > bar].sort_values(ascending=False).index)
        shared = int(frame["memory_measured"].isna().sum()) if column == "memory_error" else 0
        left = len(frame) - len(errors) - shared
        parts = (
            f"{what}: bar of {bar:.0%} {'not passed' if outside else 'passed'}: {len(errors) - len(outside)} of "
            f"{len(errors)} runs within {bar:.0%}, median error {errors.median():.0%}, largest {errors.max():.0%}",
            f"outside: {', '.join(outside)}" if outside else "",
            f"{shared} not compared, their process had run other rows before" if shared else "",
            f"{left} without anything to calibrate from" if left else "",
        )
        said.append("; ".join(filter(None, parts)))
    return said
