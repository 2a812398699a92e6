"""Where rows run: worker processes of this machine, a Ray cluster, Slurm, or a rented machine; the same entry point
each (`carry_out`), so that what is tested here is what runs there."""

from __future__ import annotations

EXECUTORS = ("local", "ray", "slurm")
"""Names for `run --executor`; rented machines have a command of their own, `launch`."""
