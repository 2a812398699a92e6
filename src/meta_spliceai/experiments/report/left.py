"""What is left of the wishlist, planned."""

from __future__ import annotations

from meta_spliceai.errors import MetaSpliceAIError
from meta_spliceai.experiments.plan.choose import Plan
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.document import state_of_rows


def what_is_left(workspace: Workspace) -> Plan:
    """Plan every row that is not completed and could run; where that fails, a plan without rows that warns of it."""
    catalogue = load_rows()
    runnable = [row.spec for row in state_of_rows(catalogue, workspace) if row.state == "runnable"]
    try:
        return Planner(workspace, catalogue).rows(runnable)
    except MetaSpliceAIError as error:
        return Plan((), {}, {}, (f"Nothing was planned: {error}",))
