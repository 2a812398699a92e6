"""Where rows run: this process, worker processes, Ray, Slurm, a rented machine. The executors are twins: one queue
(`queue.run_queue`) drives them all, and each does the same (`request.carry_out`)."""

from __future__ import annotations

EXECUTORS = ("local", "ray", "slurm")
"""Names for `run --executor`; rented machines have a command of their own, `launch`."""
