"""Jobs for rented machines: what is in them, that SkyPilot's own parser takes them, and what is asked before."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from meta_spliceai.errors import InputError, MissingExtraError, RunError
from meta_spliceai.experiments.execute import on_cloud
from meta_spliceai.experiments.execute.on_cloud import (
    CLOUDS,
    IMAGE,
    Offer,
    Rental,
    choose_offer,
    cost_of,
    make_task,
    sky_command,
    task_as_yaml,
    wheel_name,
)
from meta_spliceai.experiments.plan import planner
from meta_spliceai.experiments.plan.choose import Offered, RowPlan
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from tests.conftest import RunCli

SKY_PYTHON = "SKY_PYTHON"
"""A Python that has SkyPilot, where this one does not: its dependencies may contradict those of other packages."""

ASK_SKY = """
import json, sys
import sky, yaml
task = sky.Task.from_yaml_config(yaml.safe_load(sys.stdin))
resources = next(iter(task.resources))
print("PARSED " + json.dumps({
    "name": task.name, "cloud": str(resources.cloud), "spot": resources.use_spot, "setup": task.setup, "run": task.run,
    "accelerators": resources.accelerators, "image": resources.image_id, "envs": task.envs,
    "mounts": {**(task.file_mounts or {}), **{k: v.source for k, v in task.storage_mounts.items()}},
    "volumes": {k: getattr(v, "name", v) for k, v in (task.volumes or {}).items()},
}))
"""


def offered(gpu: str, hours: float, price: float | None, fits: bool = True) -> Offered:
    """A row on a card, with made-up needs."""
    return Offered(
        gpu=gpu,
        fits=fits,
        peak_bytes=2 * 10**9,
        hours=hours,
        hours_most=hours * 2,
        dollars=None if price is None else hours * price,
        dollars_per_hour=price,
        as_of="2025-12",
        provider="somebody",
        source="made up",
        batch_size=64,
        accumulate=1,
        memory_basis="estimate",
        time_basis="estimate",
        phase="training",
        steps={},
        why="made up",
    )


def plan_of(spec: ExperimentSpec, *offers: Offered, state: Any = "planned", notes: tuple[str, ...] = ()) -> RowPlan:
    """A plan with these offers."""
    return RowPlan(spec, state, offers, notes)


@pytest.fixture
def offer() -> Offer:
    """Two rows on an RTX 4090."""
    return {"toy-row": offered("RTX 4090", 1.0, 0.44), "toy-43": offered("RTX 4090", 0.5, 0.44)}


def rental(**more: Any) -> Rental:
    """The two rows."""
    return Rental(**{"ids": ("toy-row", "toy-43"), "volume": "lab", "wheel": Path("dist") / wheel_name(), **more})


def test_the_job_installs_the_wheel_and_runs_the_rows_so_that_nothing_is_lost(offer: Offer) -> None:
    task = make_task(rental(spot=True, options=("--set", "training.epochs=5")), offer)
    assert task["resources"]["accelerators"] == "RTX4090:1"
    assert task["resources"]["use_spot"] is True
    assert task["resources"]["image_id"] == f"docker:{IMAGE}"
    assert task["volumes"] == {"/mnt/meta-spliceai": "lab"}
    *_, line = task["run"].strip().splitlines()
    words = shlex.split(line)
    assert words[:6] == ["meta-spliceai", "run", "toy-row", "toy-43", "--set", "training.epochs=5"]
    assert "--resume" in words
    assert words[words.index("--runs-dir") + 1].startswith("/mnt/meta-spliceai/")
    assert task["envs"]["META_SPLICEAI_PRICE_PER_HOUR"] == "0.44"
    assert task["envs"]["META_SPLICEAI_CACHE"].startswith("/mnt/meta-spliceai/")
    (wheel,) = [place for place in task["file_mounts"] if place.endswith(".whl")]
    assert shlex.split(task["setup"].splitlines()[1])[-1].startswith(wheel)
    assert yaml.safe_load(task_as_yaml(task)) == task
    assert "run: |\n" in task_as_yaml(task)


def test_what_a_user_types_is_never_read_by_a_shell(offer: Offer) -> None:
    evil = "data.options.path=$(touch /tmp/x); `reboot` 'quoted'"
    task = make_task(rental(options=("--set", evil)), offer)
    *_, line = task["run"].strip().splitlines()
    assert shlex.split(line)[4:6] == ["--set", evil]
    done = subprocess.run(
        ["bash", "-c", line.replace("meta-spliceai", "printf '%s\\n'", 1)], capture_output=True, text=True, check=True
    )
    assert evil in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"volume": None}, "would be lost"),
        ({"bucket": "s3://lab"}, "give one of them"),
        ({"volume": "lab; reboot"}, "letters, digits"),
        ({"volume": None, "bucket": "lab"}, "write s3://NAME"),
        ({"image": "pytorch"}, "an image with its tag or digest"),
        ({"image": "a b:latest"}, "an image with its tag or digest"),
    ],
)
def test_bad_places_and_images_are_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        rental(**more)


def test_the_cheapest_card_that_has_room_for_every_row_is_chosen(toy_row: ExperimentSpec) -> None:
    other = toy_row.model_copy(update={"id": "other"})
    plans = [
        plan_of(toy_row, offered("cheap", 1, 0.2), offered("middle", 1, 0.5), offered("dear", 0.1, 9.0)),
        plan_of(other, offered("cheap", 1, 0.2, fits=False), offered("middle", 1, 0.5), offered("dear", 0.1, 9.0)),
    ]
    best = choose_offer(plans, "runpod")
    assert list(best) == [toy_row.id, "other"]
    assert {(one.gpu, one.hours, one.hours_most, one.dollars_per_hour) for one in best.values()} == {
        ("middle", 1, 2, 0.5)
    }
    assert cost_of(best) == 1
    assert {one.gpu for one in choose_offer(plans, "runpod", "dear").values()} == {"dear"}
    with pytest.raises(RunError, match="no cheap with a price known at runpod has room for toy-row, other"):
        choose_offer(plans, "runpod", "cheap")
    with pytest.raises(RunError, match="no card"):
        choose_offer([plan_of(toy_row, offered("unpriced", 1, None))], "aws")
    with pytest.raises(RunError, match="'toy-row' cannot run: missing encoder"):
        choose_offer([plan_of(toy_row, state="cannot run", notes=("missing encoder",))], "runpod")


def test_runpods_cards_have_names_of_their_own() -> None:
    h100 = {"toy-row": offered("H100", 1.0, 2.0)}
    assert make_task(rental(), h100)["resources"]["accelerators"] == "H100-SXM:1"
    assert make_task(rental(cloud="aws"), h100)["resources"]["accelerators"] == "H100:1"


@pytest.fixture(scope="module")
def sky_python() -> str:
    """A Python with SkyPilot."""
    if find_spec("sky") is not None:
        return sys.executable
    if os.environ.get(SKY_PYTHON):
        return os.environ[SKY_PYTHON]
    pytest.skip(f"the extra 'cloud' is not installed (nor is {SKY_PYTHON} set to a Python that has it)")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{"spot": True}, {"cloud": "aws", "volume": None, "bucket": "s3://my-lab"}], ids=["volume", "bucket"]
)
def test_skypilots_own_parser_takes_the_job(
    offer: Offer, sky_python: str, tmp_path: Path, more: dict[str, Any]
) -> None:
    wheel = tmp_path / wheel_name()
    wheel.write_bytes(b"")
    (tmp_path / "wishlist").mkdir()
    asked = rental(wheel=wheel, wishlist=tmp_path / "wishlist", **more)
    done = subprocess.run(
        [sky_python, "-c", ASK_SKY],
        input=task_as_yaml(make_task(asked, offer)),
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("PARSED ")]
    parsed = json.loads(line.removeprefix("PARSED "))
    assert parsed["name"] == "meta-spliceai-toy-row"
    assert parsed["cloud"].lower() == asked.cloud
    assert parsed["spot"] is asked.spot
    assert parsed["accelerators"] == {"RTX4090": 1}
    assert "meta-spliceai run toy-row toy-43 --resume" in parsed["run"]
    assert str(wheel) in parsed["mounts"].values()
    if asked.bucket:
        assert asked.bucket in parsed["mounts"].values()
    else:
        assert list(parsed["volumes"]) == ["/mnt/meta-spliceai"]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that needs no data set."""

    class Planner:
        market = SimpleNamespace(find=lambda name, where: SimpleNamespace(name=name))

        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def rows(self, specs: list[ExperimentSpec], card: str | None) -> Any:
            plans = tuple(plan_of(spec, offered("RTX 4090", 0.5, 0.44)) for spec in specs)
            return SimpleNamespace(rows=plans, warnings=("prices are old",))

    monkeypatch.setattr(planner, "Planner", Planner)


@pytest.fixture
def fake_sky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `sky` that writes down how it was called."""
    script = tmp_path / "bin" / "sky"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\n', encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(on_cloud, "sky_command", lambda: str(script))
    return tmp_path / "called"


@pytest.mark.usefixtures("planned")
def test_a_dry_run_shows_job_offer_and_cost_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(["launch", "simple-cnn-501", "--spot", "--dry-run"])
    assert code == 0
    assert "accelerators: RTX4090:1" in out
    assert "offer: RTX 4090 at $0.44 an hour on demand (somebody, 2025-12; spot costs less)" in out
    assert "cost: $0.22 for 0.50 h, at most $0.44" in out
    assert "warning: prices are old" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("planned")
def test_it_costs_money_and_is_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_sky: Path, run_cli: RunCli
) -> None:
    monkeypatch.chdir(tmp_path)
    wheel = tmp_path / wheel_name()
    wheel.write_bytes(b"")
    asked = ["launch", "simple-cnn-501", "--wheel", str(wheel)]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    code, _, err = run_cli(asked)
    assert code == 2
    assert "add --yes, or --dry-run" in err
    assert not fake_sky.exists()
    code, out, _ = run_cli([*asked, "--yes"])
    assert code == 0
    words = fake_sky.read_text(encoding="utf-8").split()
    assert words[:3] == ["jobs", "launch", "--yes"]
    job = yaml.safe_load(Path(words[-1]).read_text(encoding="utf-8"))
    assert job["name"] == "meta-spliceai-simple-cnn-501"
    assert "submitted as meta-spliceai-simple-cnn-501" in out


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simple-cnn-501", "--cloud", "moon"], "unknown cloud 'moon'"),
        (["simple-cnn-501; reboot"], "unknown row id"),
        (["simple-cnn-501", "--wheel", "none.whl"], "no wheel at none.whl (--wheel)"),
        (["simple-cnn-501", "--set", "training.epochs=-1"], "'training.epochs' = -1"),
    ],
)
def test_bad_input_is_named(arguments: list[str], words: str, run_cli: RunCli) -> None:
    code, _, err = run_cli(["launch", *arguments, "--dry-run"])
    assert code == 2
    assert words in err


def test_without_skypilot_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="needs the optional extra 'cloud'"):
        sky_command()
    assert "runpod" in CLOUDS
