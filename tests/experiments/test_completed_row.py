"""A row completes itself: the run that is made of it as it stands moves it to Completed, and no other run does."""

from __future__ import annotations

from meta_spliceai.experiments.plan.gpu_prices import load_market, load_prices
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, Wish
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.document import render_wishlist, split_row, state_of_rows


def rendered(rows: dict[str, ExperimentSpec], workspace: Workspace) -> str:
    return render_wishlist(
        state_of_rows(rows, workspace), workspace.finished(), load_prices(), load_market(refreshed=False)
    )


def test_a_finished_run_moves_its_row_to_completed(toy_row: ExperimentSpec, workspace: Workspace) -> None:
    row = toy_row.model_copy(update={"wish": Wish.model_validate({"vram_gb": 8, "hours": [1, 2], "priority": "high"})})
    rows = {row.id: row}
    before = rendered(rows, workspace)
    assert "| runnable | `meta-spliceai run toy-row` |" in before
    assert "*None yet*" in before
    assert run_experiment(change(row, ["training.epochs=1"]), workspace, "cpu", rows=rows).run is not None
    assert "*None yet*" in rendered(rows, workspace)  # another row than the one that was wished for

    run = run_experiment(row, workspace, "cpu", rows=rows).run
    assert run is not None
    record = run.record()
    after = rendered(rows, workspace)
    assert "| completed | `meta-spliceai run toy-row` |" in after
    completed = after.partition("## ✅ Completed")[2].partition("---\n")[0]
    [line] = [line for line in completed.splitlines() if line.startswith(f"| {row.title} |")]
    _, date, result, notes = split_row(line)
    assert date == record["finished"][:10]
    assert result.startswith("AUPRC 0.")
    assert f"{record['peak_memory_bytes'] / 1e9:.2f} GB of memory, {record['seconds'] / 60:.1f} min" in notes
    assert f"run {run.name}, seed {row.seed}, cpu" in notes
    assert rendered(rows, workspace) == after
