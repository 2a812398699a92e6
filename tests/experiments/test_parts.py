"""What a row misses is read off what the code offers, never a flag set by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from meta_spliceai.errors import InputError, LeakageError
from meta_spliceai.experiments.board.leaderboard import boards
from meta_spliceai.experiments.run.build import SPLITTERS, Wanted, build_predictor
from meta_spliceai.experiments.run.runner import PROCEDURES, run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.parts import missing_parts, needed_parts, offered_parts
from meta_spliceai.experiments.spec.rows import change, load_rows
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.variants.splits import Split, make_split
from meta_spliceai.splice_engine.variants.table import Coverage


def test_no_row_of_the_wishlist_misses_a_part() -> None:
    rows = load_rows(own=None)
    offered = offered_parts()
    assert {row.id: missing_parts(row, rows, offered) for row in rows.values()} == {row_id: [] for row_id in rows}


def test_every_way_to_a_result_is_offered() -> None:
    assert offered_parts()["procedure"] == tuple(PROCEDURES)


def test_a_part_that_is_taken_away_is_missed_by_the_rows_that_need_it() -> None:
    rows = load_rows(own=None)
    offered = offered_parts()
    fewer = {**offered, "encoder": tuple(name for name in offered["encoder"] if name != "hyenadna-small-32k")}
    without = {row.id for row in rows.values() if missing_parts(row, rows, fewer)}
    assert without == {
        "hyenadna-small-validated-delta",
        "hyenadna-small-quantile",
        "hyenadna-10k-context",
        "hyenadna-cv5",
        "cnn-hyenadna-ensemble",  # through its member
        "ladder-hyenadna",
    }
    missing = missing_parts(rows["hyenadna-cv5"], rows, {**fewer, "procedure": ("single",)})
    assert missing == ["procedure 'cross-validation'", "encoder 'hyenadna-small-32k'"]


def test_every_kind_of_part_is_offered_by_some_registry(toy_row: ExperimentSpec) -> None:
    offered = offered_parts()
    for kind, _ in needed_parts(toy_row, {}):
        assert offered[kind]


def test_parts_are_known_by_name_without_pytorch_and_are_those_of_the_registries() -> None:
    code = """if True:
        import sys
        from meta_spliceai.experiments.spec.parts import offered_parts
        named = offered_parts()
        assert "torch" not in sys.modules
        import meta_spliceai.experiments.run.build
        assert offered_parts() == named, (offered_parts(), named)
        """
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_a_part_is_offered_once_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPLITTERS, "careless", random_by_variant)
    assert "careless" in offered_parts()["split"]


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("encoder.settings.hiden_dim=8", "unknown setting 'hiden_dim'.*did you mean hidden_dim"),
        ("head.settings.quantiles=[0.5]", "unknown setting 'quantiles'"),
        ("encoder.settings.hidden_dim=0", "hidden_dim 0 is not positive"),
    ],
)
def test_a_bad_setting_names_itself(toy_row: ExperimentSpec, assignment: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_predictor(change(toy_row, [assignment]))


def test_the_seed_decides_the_initial_weights(toy_row: ExperimentSpec) -> None:
    first, again = (build_predictor(toy_row).state_dict() for _ in range(2))
    other = build_predictor(change(toy_row, ["training.seed=1"])).state_dict()
    name = next(name for name, tensor in first.items() if tensor.ndim > 2)
    assert (first[name] == again[name]).all()
    assert not (first[name] == other[name]).all()


def test_a_head_learns_its_own_target_only(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: dict[str, ExperimentSpec]
) -> None:
    with pytest.raises(InputError, match="head 'delta' learns target 'validated-delta', not 'altering'"):
        run_experiment(change(toy_row, ["target=altering"]), workspace, "cpu", rows=catalogue)


def random_by_variant(wanted: Wanted) -> Split:
    """What this field does too often: variants of one group in all parts."""
    parts = np.random.default_rng(0).choice(["train", "validation", "test"], len(wanted.table)).astype(object)
    return make_split(wanted.table, parts, "careless", "random by variant", Coverage(len(wanted.table)), unit="group")


def test_a_leak_stops_the_run_unless_allowed_and_then_brands_it(
    toy_row: ExperimentSpec,
    workspace: Workspace,
    catalogue: dict[str, ExperimentSpec],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SPLITTERS, "careless", random_by_variant)
    leaky = change(toy_row, ["split.name=careless", "training.epochs=1"])
    with pytest.raises(LeakageError, match="shared groups"):
        run_experiment(leaky, workspace, "cpu", rows=catalogue)
    assert workspace.runs()[0].state() == "failed"
    run = run_experiment(change(leaky, ["split.allow_leaks=true"]), workspace, "cpu", rows=catalogue).run
    assert run is not None
    assert run.record()["notes"][0].startswith("LEAKY SPLIT")
    assert run.data()["split"]["audit"]["clean"] is False
    assert any(note.startswith("LEAKY SPLIT") for board in boards(workspace) for note in board.notes)


@pytest.mark.parametrize(
    ("assignments", "columns"),
    [
        (["head.name=binary", "target=altering"], {"toy-row.score"}),
        (["head.name=quantile"], {"toy-row.score", "toy-row.signed", "toy-row.q90_donor"}),
        (["head.name=effect-type", "target=effect-type"], {"toy-row.effect_type", "toy-row.p_donor_loss"}),
        (["head.name=position", "target=position"], {"toy-row.offset"}),
        (["head.name=magnitude", "target=magnitude"], {"toy-row.effect", "toy-row.delta_magnitude"}),
        (["head.name=multitask", "target=multitask"], {"toy-row.score", "toy-row.effect-type.effect_type"}),
        (
            ["head.name=quantile-members", "head.settings.quantiles=[0.5, 0.9]"],
            {"toy-row.score", "toy-row.q90_acceptor"},
        ),
    ],
    ids=lambda value: value[0].split("=")[1] if isinstance(value, list) else "",
)
def test_every_head_runs_and_writes_what_it_answers(
    toy_row: ExperimentSpec,
    workspace: Workspace,
    catalogue: dict[str, ExperimentSpec],
    assignments: list[str],
    columns: set[str],
) -> None:
    spec = change(toy_row, [*assignments, "training.epochs=1"])
    run = run_experiment(spec, workspace, "cpu", rows=catalogue).run
    assert run is not None
    predictions = run.read_predictions()
    assert columns <= set(predictions.columns)
    assert predictions[list(columns)].notna().all(axis=None)
    scorers = {metric["scorer"] for metric in run.metrics()["metrics"]}
    assert ("toy-row" in scorers) == ("toy-row.score" in predictions)
    task = run.record()["task_metrics"]
    assert ("effect-type" in task) == (spec.target in ("effect-type", "multitask"))
    assert ("position" in task) == (spec.target in ("position", "multitask"))
    assert ("quantiles" in task) == spec.head.name.startswith("quantile")
    of_sites = [evaluated for name, evaluated in task.items() if name != "quantiles"]
    for evaluated in of_sites:
        assert evaluated["base"]["n"] > 0  # the toy has no observed sites: all labels are the base network's
        assert evaluated["gold"] == {"n": 0}
    sources = [part.get("labels") for part in run.data()["split"]["parts"].values()]
    said = [note for note in run.record()["notes"] if note.startswith("sites to learn: 0 observed (gold)")]
    if of_sites:
        assert all(source["gold"] == 0 < source["base"] for source in sources)
        assert len(said) == 1
    else:
        assert sources == [None, None, None]
        assert not said
