"""A row becomes a plan: memory, hours and dollars on every card, and which one to rent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path

from meta_spliceai.experiments.plan.calibrate import Calibrated, Calibration, Kind, Point
from meta_spliceai.experiments.plan.choose import Plan, choose
from meta_spliceai.experiments.plan.data_facts import DataFacts, Parts, facts_of, parts_of
from meta_spliceai.experiments.plan.demand import (
    Batch,
    ToCompute,
    batches_of,
    cache_keys,
    demand_of,
    kind_of,
)
from meta_spliceai.experiments.plan.gpu_prices import Market, Offer, load_market
from meta_spliceai.experiments.plan.machines import CPU, Machine, card, processor, this_processor
from meta_spliceai.experiments.plan.records import (
    Measured,
    OutOfMemory,
    device_key,
    known_card,
    measured_runs,
    out_of_memory,
    workspaces_of,
)
from meta_spliceai.experiments.plan.row_plan import Offered, RowPlan, State, best_of
from meta_spliceai.experiments.run.encoder_weights import missing_encoder_weights
from meta_spliceai.experiments.spec.experiment import DataSpec, ExperimentSpec
from meta_spliceai.experiments.spec.parts import missing_parts
from meta_spliceai.experiments.store.address import code_version
from meta_spliceai.experiments.store.workspace import Workspace


@dataclass
class Planner:
    """Plans rows; traces, counts of data sets and measurements are made once.

    Args:
        workspace: whose finished runs calibrate the plan and are not paid for again.
        rows: the catalogue, in which members of ensembles are looked up.
        prices: the user's file of cards and prices.
        ledgers: further folders of runs that are only read.
        today: the day prices are compared with.
    """

    workspace: Workspace
    rows_by_id: dict[str, ExperimentSpec]
    prices: Path | None = None
    ledgers: Sequence[Path] = ()
    today: date = field(default_factory=lambda: datetime.now(UTC).date())
    _facts: dict[str, DataFacts] = field(default_factory=dict)
    _calibrations: dict[bool, Calibration] = field(default_factory=dict)

    @cached_property
    def folders(self) -> list[Workspace]:
        """The folder of runs and the further ones."""
        return workspaces_of(self.workspace, self.ledgers)

    @cached_property
    def market(self) -> Market:
        """Cards and prices."""
        return load_market(self.prices)

    @cached_property
    def runs(self) -> list[Measured]:
        """Finished runs."""
        return measured_runs(self.folders)

    @cached_property
    def failed(self) -> dict[str, OutOfMemory]:
        """Rows whose latest run ran out of memory."""
        return out_of_memory(self.folders)

    def calibration(self, cuda: bool) -> Calibration:
        """What runs say about the estimates.

        Args:
            cuda: for cards, or for processors: neither says anything about the other's speed or memory.
        """
        if cuda not in self._calibrations:
            points = [self.point(run) if run.cuda == cuda else self._stopping(run) for run in self.runs]
            self._calibrations[cuda] = Calibration(tuple(points))
        return self._calibrations[cuda]

    @cached_property
    def here(self) -> str:
        """Name of the processor at hand among measurements."""
        from meta_spliceai.experiments.store.environment import describe_environment

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

    def facts(self, data: DataSpec) -> DataFacts:
        """The data set in numbers."""
        whole = data.model_copy(update={"rows": None, "labelled_only": False, "balanced": False})
        key = whole.model_dump_json()
        if key not in self._facts:
            self._facts[key] = facts_of(whole)
        return self._facts[key]

    def machine_of(self, run: Measured) -> Machine:
        """What a run ran on; a card that nobody described counts as a processor (see `point`)."""
        gpu = self.market.known(run.device) if run.cuda else None
        return processor(run.threads, run.memory_total or 8 * 10**9) if gpu is None else card(gpu)

    def point(self, run: Measured) -> Point:
        """A finished run beside what would have been planned for it, its rows and its epochs known; without numbers
        for a card that nobody described."""
        if run.cuda and self.market.known(run.device) is None:
            return self._stopping(run)
        machine = self.machine_of(run)
        kind = kind_of(run.spec, known_card(self.market, run.device))
        demand = demand_of(run.spec, run.parts, machine, Batch.of(run.spec), run.computed)
        estimated = demand.at_share(run.epoch_share or 1.0)
        steps = {
            step: (estimated[step], seconds)
            for step, seconds in run.seconds.items()
            if estimated.get(step) and step not in run.not_compared
        }
        stopping = self._stopping(run).epoch_share
        memory = (demand.peak_bytes, float(run.peak_bytes)) if run.own_peak else None
        return Point(run.run, kind, memory, steps, stopping)

    def _stopping(self, run: Measured) -> Point:
        """Of a run only how soon its training stopped."""
        share = run.epoch_share if run.spec.training.patience else None
        return Point(run.run, kind_of(run.spec, run.device), None, {}, share)

    def machines(self, gpu: str | None = None) -> list[Machine]:
        """All cards, or the one named ("cpu" for the processor at hand).

        Raises:
            InputError: no such card.
        """
        if gpu is None:
            return [card(one) for one in self.market.gpus.values()]
        if gpu.lower() == CPU:
            return [this_processor()]
        return [card(self.market.find(gpu, "--gpu"))]

    def row(self, spec: ExperimentSpec, gpu: str | None = None, paid: frozenset[str] = frozenset()) -> RowPlan:
        """Plan one row.

        Args:
            spec: the row.
            gpu: only on this card, or on "cpu".
            paid: what earlier rows of a plan have computed already (see `cache_keys`), and ids of rows planned
                beside it, whose runs an ensemble takes as they are.

        Raises:
            InputError: an unknown card or data set; settings that build no model.
        """
        notes: list[str] = []
        missing = missing_parts(spec, self.rows_by_id)
        if missing:
            return RowPlan(spec, "cannot run", (), None, (f"missing: {', '.join(missing)}",), "")
        facts = self.facts(spec.data)
        parts = parts_of(spec, facts)
        if not facts.exact:
            notes.append(facts.source)
        notes += self._without_weights(spec)
        keys, kept = cache_keys(spec, parts.rows), paid | self._kept
        work = ToCompute(
            scores=0 if keys.scores in kept else None,
            baselines=keys.baselines not in kept,
            features=0.0 if keys.features in kept else 1.0,
        )
        if work.scores == 0:
            notes.append("base scores: found in the cache of an earlier row or run")
        if not work.features:
            notes.append("features of the frozen encoder: found in the cache of an earlier row or run")
        done = self._done(spec)
        failed = self.failed.get(spec.id)
        offers = [self._offer(spec, parts, machine, work, paid, done) for machine in self.machines(gpu)]
        if spec.ensemble is not None:
            free = [row for row in spec.ensemble.members if row in paid or self._member_done(spec, row)]
            if free:
                notes.append(f"members that are finished or planned beside it cost nothing: {', '.join(free)}")
        if failed is not None:
            notes.append(f"run {failed.run} at batch {failed.batch_size}: {failed.reason}")
        state: State = "completed" if done else "out of memory" if failed is not None else "planned"
        return RowPlan(spec, state, tuple(offers), best_of(offers), tuple(notes), keys.scores, parts.rows)

    def _offer(
        self,
        spec: ExperimentSpec,
        parts: Parts,
        machine: Machine,
        work: ToCompute,
        paid: frozenset[str],
        done: list[Measured],
    ) -> Offered:
        device = machine.name if machine.cuda else self.here
        kind = kind_of(spec, device)
        calibration, reading = self.calibration(machine.cuda), self.facts(spec.data).load_seconds
        tried = []
        for batch in batches_of(spec):
            demand = demand_of(spec, parts, machine, batch, work, reading)
            peak = calibration.memory(kind, demand.peak_bytes, machine.cuda)
            tried.append((batch, demand, peak))
            if peak.value <= machine.memory_bytes or spec.ensemble is not None:
                break
        batch, demand, peak = tried[-1]
        fits = peak.value <= machine.memory_bytes
        if not fits:
            batch, demand, peak = tried[0]
        share = calibration.epochs(kind) if spec.training.patience else None
        expected = demand.at_share(share.value if share else 1.0)
        calibrated = {step: calibration.step(kind, step, seconds) for step, seconds in expected.items()}
        most = {step: calibration.step(kind, step, seconds).value for step, seconds in demand.steps.items()}
        steps = {step: number.value for step, number in calibrated.items()}
        seconds, longest = sum(steps.values()), sum(most.values())
        if spec.ensemble is not None:
            for member in spec.ensemble.members:
                if member in paid or self._member_done(spec, member):
                    continue
                own = self.row(self._member(spec, member), machine.name if machine.cuda else CPU, paid)
                offer = own.offers[0]
                seconds += offer.hours * 3600
                longest += offer.hours_most * 3600
                steps[f"member {member}"] = offer.hours * 3600
                if offer.peak_bytes > peak.value:
                    peak = Calibrated(offer.peak_bytes, offer.memory_basis, peak.rests_on, peak.sources)
                    fits = offer.fits
        # The step that takes longest decides what the hours are called.
        longest_step = max(calibrated, key=lambda step: calibrated[step].value)
        time_basis, memory_basis = calibrated[longest_step].basis, peak.basis
        same = [run for run in done if known_card(self.market, run.device) == device]
        if same:
            latest = max(same, key=lambda run: run.at)
            time_basis = memory_basis = "measured"
            seconds = longest = latest.total_seconds
            steps, peak_bytes, fits = dict(latest.seconds), latest.peak_bytes, True
            why = f"measured in run {latest.run}"
        else:
            peak_bytes = int(peak.value)
            why = _why(machine, demand.phase, calibrated[longest_step], peak, longest_step)
        price = self.market.offers.get(machine.name) if machine.cuda else None
        return Offered(
            gpu=machine.name,
            fits=fits,
            peak_bytes=peak_bytes,
            hours=seconds / 3600,
            hours_most=longest / 3600,
            dollars=_dollars(price, seconds, machine),
            dollars_per_hour=None if price is None else price.dollars_per_hour,
            as_of="" if price is None else price.as_of,
            provider="" if price is None else price.provider,
            source="" if price is None else price.source,
            batch_size=batch.size,
            accumulate=batch.accumulate,
            largest_batch=self._largest(spec, parts, machine, kind),
            memory_basis=memory_basis,
            time_basis=time_basis,
            phase=demand.phase,
            steps=steps,
            why=why,
        )

    def _largest(self, spec: ExperimentSpec, parts: Parts, machine: Machine, kind: Kind) -> int:
        """The largest power of two whose training fits; no more than the rows there are."""
        if spec.ensemble is not None or spec.procedure == "fusion":
            return 0
        size, most = 1, max((train for train, _ in parts.folds), default=1)
        while size * 2 <= most:
            demand = demand_of(spec, parts, machine, Batch(size * 2, 1), ToCompute(scores=0))
            peak = self.calibration(machine.cuda).memory(kind, demand.peak_bytes, machine.cuda)
            if peak.value > machine.memory_bytes:
                break
            size *= 2
        return size

    def _done(self, spec: ExperimentSpec) -> list[Measured]:
        identity = spec.identity()
        return [run for run in self.runs if run.spec.identity() == identity]

    def _without_weights(self, spec: ExperimentSpec) -> list[str]:
        """What encoders of the row, or of an ensemble's members that are not finished, lack on this machine."""
        rows = [spec] if spec.ensemble is None else [self._member(spec, row) for row in spec.ensemble.members]
        missing = [missing_encoder_weights(row) for row in rows if not self._done(row)]
        return list(dict.fromkeys(filter(None, missing)))

    def _member(self, spec: ExperimentSpec, row: str) -> ExperimentSpec:
        from meta_spliceai.experiments.run.runner import member_of

        return member_of(spec, row, self.rows_by_id)

    def _member_done(self, spec: ExperimentSpec, row: str) -> bool:
        return bool(self._done(self._member(spec, row)))

    def rows(
        self,
        specs: Sequence[ExperimentSpec],
        gpu: str | None = None,
        budget: float | None = None,
        deadline: float | None = None,
    ) -> Plan:
        """Plan several rows: see `choose.choose`.

        Args:
            specs: the rows.
            gpu: only on this card, or on "cpu".
            budget: dollars that may be spent.
            deadline: hours that may pass, the rows run one after the other.

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
        return choose(plans, self.market, self.today, budget, deadline)


def _dollars(offer: Offer | None, seconds: float, machine: Machine) -> float | None:
    if not machine.cuda:
        return 0.0
    return None if offer is None else seconds / 3600 * offer.dollars_per_hour


def _why(machine: Machine, phase: str, time: Calibrated, memory: Calibrated, step: str) -> str:
    """Where memory and time are from.

    Args:
        machine: where.
        phase: what holds the peak.
        time: the step that takes longest.
        memory: the peak.
        step: the name of the step that takes longest.
    """
    peak = f"memory: dry trace (peak in {phase})" + (f", {memory.basis} on {memory.rests_on}" if memory.sources else "")
    return f"{peak}; " + (f"{step} {time.basis} on {time.rests_on}" if time.sources else f"time {machine.assumed}")
