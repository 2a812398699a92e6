"""Ray for real, on this machine's cores: members, folds and rows are tasks in processes of their own."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.execute import on_ray
from meta_spliceai.experiments.execute.on_ray import Ray
from meta_spliceai.experiments.execute.queue import Answer, Request, run_queue
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import Workspace
from tests.experiments.execute import toys

Rows = dict[str, ExperimentSpec]

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is not installed")


@pytest.fixture
def tests_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's processes find the tests' own modules, and are not the last to get a core, as Ray has them by default."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]), prepend=os.pathsep)


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("tests_at_hand")
def test_rows_folds_and_members_fan_out_with_the_results_of_one_process_and_a_killed_task_is_an_interrupted_run(
    with_ensemble: Rows, workspace: Workspace, tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(toys.MISCHIEF, f"47:sigkill:{tmp_path / 'done'}")
    folded = change(with_ensemble["toy-45"], ["split.folds=3"]).model_copy(update={"id": "folded"})
    doomed = change(with_ensemble["toy-45"], ["window=47"]).model_copy(update={"id": "doomed"})
    rows = {**with_ensemble, "folded": folded, "doomed": doomed}
    alone = run_experiment(folded, Workspace(tmp_path / "alone"), "cpu", rows=rows).run
    requests = [Request(rows[name], rows, workspace.root, "cpu") for name in ("doomed", "folded", "both")]
    outcomes = run_queue(requests, Ray(requests, heard, entry=toys.on_ray), heard)
    assert {outcome.spec.id: outcome.failed for outcome in outcomes} == {
        "toy-row": False,
        "toy-43": False,
        "doomed": True,
        "folded": False,
        "both": False,
    }
    assert {entry["row"] for entry in workspace.ledger.finished()} == {"toy-row", "toy-43", "both", "folded"}
    run = next(run for run in workspace.runs() if run.row_id == "folded")
    assert alone is not None
    for made, expected in zip(run.metrics()["metrics"], alone.metrics()["metrics"], strict=True):
        assert made == expected
    # Each fold was a task of its own, and the row found all of them finished.
    for fold in (1, 2, 3):
        said = heard.rows[f"folded fold {fold}"]
        assert said.lines[0].startswith(f"part {fold} in process ")
        assert [kind for kind, _ in said.facts].count("epoch") == 3
        assert f"fold {fold} is finished already" in heard.rows["folded"].lines
    processes = {lines.lines[0].rpartition(" ")[2] for lines in heard.rows.values()}
    assert len(processes) > 1
    assert run.record()["seconds_by_step"]["training"] > 0
    lost = next(run for run in workspace.runs() if run.row_id == "doomed")
    assert lost.state() == "interrupted"
    assert lost.reason().startswith("its process, or its machine, is gone")


@pytest.fixture
def cluster(tests_at_hand: None) -> Iterator[Any]:
    """A cluster whose first machine takes no rows, and which notices within seconds that a machine is gone."""
    from ray.cluster_utils import Cluster

    health = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": health}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()


@needs_ray
@pytest.mark.slow
def test_a_machine_that_goes_down_costs_its_run_a_state_and_the_next_machine_goes_on(
    three_rows: Rows, workspace: Workspace, heard: Any, cluster: Any
) -> None:
    machines = [cluster.add_node(num_cpus=1) for _ in range(2)]

    def switch_off() -> None:
        while not (workspace.root / "hangs").exists():
            time.sleep(0.1)
        where = (workspace.root / "hangs").read_text(encoding="utf-8")
        [machine] = [machine for machine in machines if machine.node_id == where]
        cluster.remove_node(machine, allow_graceful=False)

    def run(*names: str) -> dict[str, str | None]:
        requests = [Request(three_rows[name], three_rows, workspace.root, "cpu", resume=True) for name in names]
        executor = Ray(requests, heard, cluster.address, entry=toys.hangs_once)
        outcomes = run_queue(requests, executor, heard)
        return {outcome.spec.id: str(outcome.error or "") for outcome in outcomes}

    switching = threading.Thread(target=switch_off)
    switching.start()
    ended = run("toy-row", "toy-43")
    switching.join()
    assert "machine, is gone" in ended["toy-row"]
    assert ended["toy-43"] == ""
    lost = workspace.run("toy-row-0123456789ab")
    assert (lost.state(), lost.reason()) == ("interrupted", ended["toy-row"])
    assert run("toy-row") == {"toy-row": ""}
    assert heard.rows["toy-row"].lines == ["beginning", "going on"]


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What stands in for Ray: a cluster without a GPU, where nothing is ever done."""
    ray = SimpleNamespace(
        wait=lambda references, timeout: ([], references),
        get=lambda reference, timeout: [],
        cancel=lambda reference, force: None,
        nodes=list,
        cluster_resources=lambda: {"CPU": 2.0},
        shutdown=lambda: None,
        exceptions=SimpleNamespace(GetTimeoutError=TimeoutError, RayActorError=ConnectionError),
    )
    mailbox = SimpleNamespace(take=SimpleNamespace(remote=lambda: None))
    monkeypatch.setattr(on_ray, "_remotes", lambda *_: (mailbox, None))
    monkeypatch.setattr(on_ray, "connect", lambda _: ray)
    return ray


def test_a_cluster_without_a_machine_for_a_row_says_so_instead_of_waiting_for_ever(
    no_ray: SimpleNamespace, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"Alive": True, "Resources": {"CPU": 1.0}}
    no_ray.nodes = lambda: [{"Alive": True, "Resources": {}}, machine]
    with socket.create_server(("127.0.0.1", 0)) as head:
        executor = Ray([], heard, f"127.0.0.1:{head.getsockname()[1]}")
        executor._pending = {object(): "a"}
        assert executor.collect(0.01) == []
        machine["Alive"] = False
        assert executor.collect(0.01) == []  # not at once: one may be on its way
        assert heard.lines == ["no machine of the cluster has a core; waiting for one"]
        monkeypatch.setattr(on_ray, "SECONDS_WITHOUT_A_MACHINE", 0.0)
        ((key, answer),) = executor.collect(0.01)
    assert isinstance(answer, Answer)
    assert (key, answer.error, answer.lost) == ("a", "no machine of the cluster is left that has a core", True)


def test_a_gpu_that_is_not_there_is_said(
    no_ray: SimpleNamespace, three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    ended = []
    no_ray.shutdown = lambda: ended.append(True)
    requests = [Request(three_rows["toy-row"], three_rows, workspace.root, "cpu")]
    with pytest.raises(InputError, match="--gpus-per-run 1000: the cluster has 0 GPUs"):
        Ray(requests, heard, gpus_per_run=1000)
    assert ended == [True]


@needs_ray
def test_a_cluster_that_is_not_there_is_said(heard: Any) -> None:
    with pytest.raises(MissingResourceError, match="no Ray cluster there"):
        Ray([], heard, "127.0.0.1:1")
    with pytest.raises(InputError, match="write auto, HOST:PORT"):
        Ray([], heard, "127.0.0.1")


def test_without_ray_the_extra_is_named(heard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"needs the optional extra 'ray'"):
        Ray([], heard)


def test_a_head_that_is_gone_ends_every_task_with_the_reason(
    no_ray: SimpleNamespace, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        head = f"127.0.0.1:{free.getsockname()[1]}"  # nobody listens there
    executor = Ray([], heard, head)
    executor._pending = {object(): "a", object(): "b"}
    assert executor.collect(0.01) == []  # not at once: it may come back
    assert executor.broken == ""
    monkeypatch.setattr(on_ray, "SECONDS_WITHOUT_A_HEAD", 0.0)
    lost = executor.collect(0.01)
    reason = f"the head of the Ray cluster at {head} is gone; start a cluster again, and the same command with"
    assert [key for key, _ in lost] == ["a", "b"]
    assert all(isinstance(answer, Answer) and answer.lost and reason in str(answer.error) for _, answer in lost)
    assert executor.broken.startswith(reason)


def test_a_token_is_looked_for_where_ray_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert on_ray.has_token() is False
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x", encoding="utf-8")
    assert on_ray.has_token() is True
    (tmp_path / ".ray" / "auth_token").unlink()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    assert on_ray.has_token() is True
