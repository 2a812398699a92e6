"""Runs whose inputs have changed since: marked, kept, and said to be so wherever they are shown."""

from __future__ import annotations

import os

from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace


def mark_stale_runs(
    workspace: Workspace, spec: ExperimentSpec, data_digest: str, code: str
) -> list[tuple[RunDirectory, str]]:
    """Mark every finished run of this very specification that was made from other data or by other code.

    A run whose inputs are the current ones again (a file was put back) loses its mark. In a folder that may only be
    read nothing is marked.

    Args:
        workspace: the runs.
        spec: the specification that is about to be run.
        data_digest: identity of the data set's content now.
        code: the code's version now.

    Returns:
        the runs that are stale, each with the reason in words.
    """
    identity = spec.identity()
    stale = []
    for run in workspace.own_runs():
        if run.row_id != spec.id or run.record().get("state") != "finished" or run.spec().identity() != identity:
            continue
        reasons = []
        if run.data()["digest"] != data_digest:
            reasons.append("the data set's content changed")
        if run.record()["code"] != code:
            reasons.append(f"the code changed from {run.record()['code']} to {code}")
        reason = " and ".join(reasons)
        if reason != run.stale() and os.access(run.path, os.W_OK):
            run.write_json("run.json", {**run.record(), "stale": reason})
        if reason:
            stale.append((run, reason))
    return stale
