"""Exact incremental scoring: compute for an alternative only what differs from the reference.

A variant changes one place. At depth r (positions seen so far to either side) only activations within r of the change
differ from the reference's, and of those only the ones within reach R of an output that is asked for matter. Between
the two lies a zone of half-width min(r, distance + R), which grows and shrinks again through the network. Left of the
zone an activation is the reference's at the same place, right of it the reference's shifted by the difference in
length, so substitutions, insertions and deletions are all the same case.

Everything here is in transcript coordinates (see `changes`). A network's two passes are in `compiled_network` and in
`torch_network`. The reference is computed in blocks that lie on a fixed grid, wherever its window begins, and an
alternative in blocks that are placed by the change itself. With compiled convolutions a variant's numbers therefore do
not depend on its neighbours in the file, on the batch, or on the number of threads; in PyTorch they do by no more than
`compiled_convolution.NOISE`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from meta_spliceai.splice_engine.base_layer.block_convolution import Precision
from meta_spliceai.splice_engine.base_layer.changes import Batch, Change, Shape, Window, Workspace, shape_of
from meta_spliceai.splice_engine.base_layer.compiled_network import CompiledNetwork
from meta_spliceai.splice_engine.base_layer.kernel_choice import chosen
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.torch_network import TorchNetwork

_MOST_A_JOB = 192
"""Changes that share one computation of their reference, which costs about as much as eight of them."""

_FEWEST_A_JOB = 16

Fetch = Callable[[int, int, int], UInt8[np.ndarray, " length"]]
"""(group, start, end) -> codes of the transcript coordinates [start, end)."""

Result = tuple[int, Float32[np.ndarray, "positions channels"], Float32[np.ndarray, "outputs channels"]]
"""(row, probabilities at `ref_outputs`, probabilities at `alt_outputs`)."""


@dataclass
class Tally:
    """Floating-point operations of products and convolutions (a multiplication and an addition are two) so far, and
    seconds spent on them with all that had to be done beside them."""

    operations: float = 0.0
    seconds: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


@dataclass(frozen=True)
class _Job:
    """Windows that every network computes together, and the batches of alternatives in them."""

    windows: list[Window]
    codes: list[UInt8[np.ndarray, " bases"]]
    batches: list[Batch]


Outputs = tuple[list[Float32[np.ndarray, "positions outputs"]], list[Float32[np.ndarray, "members positions outputs"]]]
"""One network's on a job: of each window's reference, and of each batch of alternatives."""


class IncrementalScorer:
    """Scores changes with every network of a model.

    Args:
        distance: positions to either side that are usually asked for (shapes are made for it; others work too).
        precision: of the products that alternatives take; references are always in float32.
    """

    def __init__(
        self,
        model: BaseModel,
        distance: int,
        batch_size: int,
        precision: Precision = "fp32",
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally or Tally()
        self._model = model
        self._distance = distance
        self._batch_size = batch_size
        self._networks: list[CompiledNetwork] | list[TorchNetwork]
        on_cpu = model.device.type == "cpu" and precision == "fp32"
        if on_cpu and all(map(CompiledNetwork.fits, model.networks)) and chosen().name == "compiled":
            self._networks = [CompiledNetwork(network) for network in model.networks]
        else:
            self._networks = [TorchNetwork(network, precision) for network in model.networks]
        self._stopped = threading.Event()

    def score(self, changes: Sequence[Change], fetch: Fetch) -> Iterator[list[Result]]:
        """Results of all changes, some at a time.

        Neighbours share a reference. On a CPU the networks run side by side on the jobs, one on each of PyTorch's
        threads: a product is too small to be worth sharing among threads, and threads that wait for each other at
        every product come to a halt on a busy machine.
        """
        threads = torch.get_num_threads()
        workers = threads if self._model.device.type == "cpu" else 1
        # Bases are fetched here: not every source of sequence may be read from several threads.
        jobs = [self._job(windows, fetch) for windows in self._shared(self._windows(changes), workers)]
        self._stopped.clear()
        if workers == 1:
            workspace = Workspace(self._model.device)
            for job in jobs:
                yield self._results(job, [self._run(network, job, workspace) for network in self._networks])
            self._tally.operations += workspace.operations
            return
        own = threading.local()
        workspaces: list[Workspace] = []

        def begin() -> None:
            torch.set_num_threads(1)  # PyTorch keeps this for each thread
            own.workspace = Workspace(self._model.device)
            workspaces.append(own.workspace)

        def run(network: CompiledNetwork | TorchNetwork, job: _Job) -> Outputs:
            return self._run(network, job, own.workspace)

        pool = ThreadPoolExecutor(workers, thread_name_prefix="score", initializer=begin)
        try:
            running = [[pool.submit(run, network, job) for network in self._networks] for job in jobs]
            for job, outputs in zip(jobs, running, strict=True):
                yield self._results(job, [one.result() for one in outputs])
                outputs.clear()
        finally:
            self._stopped.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
            self._tally.operations += sum(workspace.operations for workspace in workspaces)

    def _windows(self, changes: Sequence[Change]) -> list[Window]:
        """Cut the changes into neighbourhoods, no longer than memory allows."""
        flank, grid = self._model.flank, self._networks[0].grid
        windows: list[Window] = []
        current: list[Change] = []
        low = high = 0

        def close() -> None:
            if current:
                start, end = low // grid * grid, -(-high // grid) * grid
                windows.append(Window(current[0].group, start, end, tuple(current)))

        for change in sorted(changes, key=lambda change: (change.group, change.at)):
            start, end = self._outputs_needed(change)
            near = current and change.group == current[0].group and start - high <= flank
            if near and max(end, high) - min(start, low) <= 4 * flank:
                low, high = min(low, start), max(high, end)
                current.append(change)
            else:
                close()
                current, low, high = [change], start, end
        close()
        return windows

    def _outputs_needed(self, change: Change) -> tuple[int, int]:
        """Reference positions whose outputs, and whose surroundings, a change needs."""
        shape = shape_of(change, self._distance)
        behind = change.at + shape.core + shape.tail - change.shift
        return (
            min(change.ref_outputs[0], change.at - shape.lead),
            max(change.ref_outputs[1], change.at + 1, behind),
        )

    def _shared(self, windows: list[Window], threads: int) -> Iterator[list[Window]]:
        """Windows of one length, as many at a time as hold a batch of alternatives and fit in memory.

        Windows with many changes are cut into several with the same reference, which is computed once for each.
        """
        total = sum(len(window.changes) for window in windows)
        most = max(_FEWEST_A_JOB, min(_MOST_A_JOB, -(-total // threads)))
        by_length: dict[int, list[Window]] = {}
        for window in windows:
            parts = -(-len(window.changes) // most)
            size = -(-len(window.changes) // parts)
            by_length.setdefault(window.end - window.start, []).extend(
                replace(window, changes=window.changes[at : at + size]) for at in range(0, len(window.changes), size)
            )
        for length, group in by_length.items():
            fitting = 10 * self._model.flank // (length + 2 * self._model.flank)
            most_windows = self._networks[0].most_windows or self._batch_size
            at_once = max(1, min(most_windows, fitting, -(-len(group) // threads)))
            batch: list[Window] = []
            for window in group:
                if batch and (len(batch) == at_once or sum(len(one.changes) for one in [*batch, window]) > most):
                    yield batch
                    batch = []
                batch.append(window)
            yield batch

    def _job(self, windows: list[Window], fetch: Fetch) -> _Job:
        reach = [self._networks[0].bases(window.start, window.end) for window in windows]
        codes = [fetch(window.group, *bases) for window, bases in zip(windows, reach, strict=True)]
        by_shape: dict[Shape, list[tuple[int, Change]]] = {}
        for index, window in enumerate(windows):
            for change in window.changes:
                by_shape.setdefault(shape_of(change, self._distance), []).append((index, change))
        batches = [
            Batch.of(shape, members[at : at + self._batch_size], windows, codes, [first for first, _ in reach])
            for shape, members in by_shape.items()
            for at in range(0, len(members), self._batch_size)
        ]
        return _Job(windows, codes, batches)

    def _run(self, network: CompiledNetwork | TorchNetwork, job: _Job, workspace: Workspace) -> Outputs:
        """One network on a job; nothing more once the scorer was stopped."""
        alternatives = []
        with torch.inference_mode():
            reference = network.reference(job.windows, job.codes, workspace)
            for batch in job.batches:
                if self._stopped.is_set():
                    break
                alternatives.append(network.alternatives(reference, batch, workspace))  # type: ignore[arg-type]
        return reference.outputs, alternatives

    def _results(self, job: _Job, found: list[Outputs]) -> list[Result]:
        refs = [self._mean([one[0][index] for one in found]) for index in range(len(job.windows))]
        results: list[Result] = []
        for number, batch in enumerate(job.batches):
            alt = self._mean([one[1][number] for one in found])
            for member, (index, change) in enumerate(zip(batch.window, batch.changes, strict=True)):
                begin, end = (at - job.windows[index].start for at in change.ref_outputs)
                first, last = (at - change.at + batch.shape.lead for at in change.alt_outputs)
                results.append((change.row, refs[index][begin:end], alt[member, first:last]))
        return results

    def _mean(self, outputs: list[np.ndarray]) -> Float32[np.ndarray, "*places channels"]:
        """Each slot's networks averaged, slots side by side as channels."""
        model = self._model
        mean = np.zeros((*outputs[0].shape[:-1], len(model.channels)), np.float32)
        for slot, output in zip(model.slots, outputs, strict=True):
            share = np.float32(1.0 / model.slots.count(slot))
            mean[..., slot * model.outputs : (slot + 1) * model.outputs] += output * share
        return mean
