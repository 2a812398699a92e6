"""Rows on a rented machine: a SkyPilot managed job, which finds the machine, replaces it if preempted, and shuts it
down when the rows are done.

The job does what is done here: it installs this package's wheel and calls `meta-spliceai run ID... --resume`. Runs,
base scores and data lie on a volume or in a bucket, so that a machine that is taken away costs at most an epoch.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import meta_spliceai
from meta_spliceai.errors import InputError, MissingExtraError, RunError
from meta_spliceai.experiments.plan.choose import Offered, RowPlan

CLOUDS = ("runpod", "aws", "gcp", "azure", "lambda", "nebius", "vast", "kubernetes")

IMAGE = "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime"
"""PyTorch's own image, by a tag that does not move: Python 3.11, PyTorch 2.6, CUDA 12.4."""

MOUNT = "/mnt/meta-spliceai"
WHEELS = "/opt/meta-spliceai"
EXTRAS = "quickstart,cispliceai,hyena"
DISK_GB = 60

SKY_NAMES = {"A100 40GB": "A100", "A100 80GB": "A100-80GB"}
RUNPOD_NAMES = {"H100": "H100-SXM", "H200": "H200-SXM"}
"""SkyPilot's names for cards of `gpus.yaml`, where they are more than the name without its spaces."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,61}[A-Za-z0-9]")
_BUCKET = re.compile(r"(s3|gs|r2|nebius)://[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})")

Offer = dict[str, Offered]
"""By its id what each row comes to on one card, the same for all."""


def wheel_name() -> str:
    return f"meta_spliceai-{meta_spliceai.__version__}-py3-none-any.whl"


@dataclass(frozen=True)
class Rental:
    """What a job is made from.

    Attributes:
        ids: rows, in the order in which they run.
        options: further words for `meta-spliceai run`, such as `--set`, `training.epochs=5`.
        spot: a cheaper machine that may be taken away; the job then goes on on another.
        volume, bucket: where runs, caches and data lie: a SkyPilot volume, or `s3://name`, `gs://name` …
        image: container image with a pinned tag or digest.
        wheel: the package's wheel on this machine.
        wishlist: the user's own rows, if there are any.
    """

    ids: tuple[str, ...]
    options: tuple[str, ...] = ()
    cloud: str = "runpod"
    spot: bool = False
    volume: str | None = None
    bucket: str | None = None
    image: str = IMAGE
    wheel: Path = field(default_factory=lambda: Path("dist") / wheel_name())
    wishlist: Path | None = None

    def __post_init__(self) -> None:
        if self.volume is None and self.bucket is None:
            raise InputError("give --volume NAME or --bucket s3://NAME: runs on a rented machine would be lost with it")
        if self.volume is not None and self.bucket is not None:
            raise InputError("--volume and --bucket: runs lie in one place; give one of them")
        for option, value, allowed, words in (
            ("--volume", self.volume, _NAME, "letters, digits, dots, dashes and underscores"),
            ("--bucket", self.bucket, _BUCKET, "write s3://NAME, gs://NAME, r2://NAME or nebius://NAME"),
            ("--image", self.image, _IMAGE, f"an image with its tag or digest, such as {IMAGE}"),
        ):
            if value is not None and not allowed.fullmatch(value):
                raise InputError(f"{option} '{value}': {words}")


def choose_offer(plans: Sequence[RowPlan], cloud: str, gpu: str | None = None) -> Offer:
    """The GPU on which all rows together cost least, or the one named; RunError: a row that cannot run, or no GPU that
    has a price and fits every row."""
    by_card: dict[str, Offer] = {}
    for plan in plans:
        if plan.state == "cannot run":
            raise RunError(f"row '{plan.spec.id}' cannot run: {'; '.join(plan.notes)}")
        for offered in plan.for_sale:
            if offered.dollars_per_hour is not None and gpu in (None, offered.gpu):
                by_card.setdefault(offered.gpu, {})[plan.spec.id] = offered
    found = [rows for rows in by_card.values() if len(rows) == len({plan.spec.id for plan in plans})]
    if not found:
        which = f"no {gpu}" if gpu is not None else "no card"
        raise RunError(
            f"{which} with a price known at {cloud} has room for {', '.join(plan.spec.id for plan in plans)}; "
            "`meta-spliceai plan` shows which fit, `plan --refresh-prices` fetches prices, --prices FILE takes yours"
        )
    return min(found, key=lambda rows: (cost_of(rows), sum(one.hours for one in rows.values())))


def cost_of(offer: Offer) -> float:
    """Dollars of all rows."""
    return sum(one.dollars or 0.0 for one in offer.values())


def cost_in_words(offer: Offer, spot: bool) -> list[str]:
    """What every row takes, the card and its price, and what all rows cost."""
    first = next(iter(offer.values()))
    rate = first.dollars_per_hour or 0.0
    hours, most = (sum(getattr(one, name) for one in offer.values()) for name in ("hours", "hours_most"))
    dated = f"{first.provider}, {first.as_of}{'; spot costs less' if spot else ''}"
    return [
        *(
            f"{row_id}: {one.hours:.2f} h (at most {one.hours_most:.2f}), ${one.dollars or 0:.2f}; "
            f"{one.peak_bytes / 1e9:.1f} GB at batch {one.batch_size}; {one.why}"
            for row_id, one in offer.items()
        ),
        f"offer: {first.gpu} at ${rate:.2f} an hour on demand ({dated})",
        f"cost: ${cost_of(offer):.2f} for {hours:.2f} h, at most ${most * rate:.2f}, storage not counted",
    ]


def make_task(rental: Rental, offer: Offer) -> dict[str, Any]:
    """The job as SkyPilot's YAML has it."""
    card = next(iter(offer.values()))
    name = SKY_NAMES.get(card.gpu, card.gpu.replace(" ", ""))
    name = RUNPOD_NAMES.get(name, name) if rental.cloud == "runpod" else name
    wheel = f"{WHEELS}/{rental.wheel.name}"
    mounts: dict[str, Any] = {wheel: str(rental.wheel)}
    if rental.wishlist is not None:
        mounts["~/meta-spliceai/wishlist"] = str(rental.wishlist)
    if rental.bucket is not None:
        # Cached: the run directories rename files, which a bucket mounted plainly cannot.
        mounts[MOUNT] = {"source": rental.bucket, "mode": "MOUNT_CACHED"}
    run = ["meta-spliceai", "run", *rental.ids, *rental.options]
    run += ["--resume", "--device", "cuda", "--progress", "lines", "--runs-dir", f"{MOUNT}/runs"]
    return {
        "name": f"meta-spliceai-{rental.ids[0]}"[:60],
        "resources": {
            "infra": rental.cloud,
            "accelerators": f"{name}:1",
            "use_spot": rental.spot,
            "disk_size": DISK_GB,
            "image_id": f"docker:{rental.image}",
        },
        "envs": {
            "META_SPLICEAI_CACHE": f"{MOUNT}/cache",
            "META_SPLICEAI_MIRROR": f"{MOUNT}/mirror",
            "META_SPLICEAI_PRICE_PER_HOUR": f"{card.dollars_per_hour:g}",
        },
        "file_mounts": mounts,
        "setup": f"set -e\npython -m pip install --quiet {shlex.quote(f'{wheel}[{EXTRAS}]')}\n",
        "run": f"set -e\nmkdir -p {MOUNT}/runs {MOUNT}/cache ~/meta-spliceai\ncd ~/meta-spliceai\n{shlex.join(run)}\n",
        **({"volumes": {MOUNT: rental.volume}} if rental.volume is not None else {}),
    }


class _Dumper(yaml.SafeDumper):
    """Scripts as blocks that can be read."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def task_as_yaml(task: dict[str, Any]) -> str:
    return yaml.dump(task, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def build_wheel(folder: Path) -> None:
    """Build the wheel from the checkout that this package is imported from; InputError without one, RunError where pip
    could not build it."""
    root = Path(meta_spliceai.__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        raise InputError(f"no source of meta-spliceai here to build {wheel_name()} from; give it with --wheel FILE")
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / wheel_name()).is_file():
        raise RunError(f"building {wheel_name()} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")


def sky_command() -> str:
    """SkyPilot's command, beside this Python or on the path; MissingExtraError where it is not installed."""
    beside = Path(sys.executable).with_name("sky")
    found = str(beside) if beside.is_file() else shutil.which("sky")
    if found is None:
        raise MissingExtraError("launch (without --dry-run)", "cloud")
    return found


def submit(command: str, task: Path, name: str) -> None:
    """Hand the job's YAML file to SkyPilot (`sky_command`), which prints what it does; RunError where it did not take
    it, of which it has said why."""
    done = subprocess.run([command, "jobs", "launch", "--yes", "--detach-run", "--name", name, str(task)], check=False)
    if done.returncode:
        raise RunError(
            f"SkyPilot did not take the job (exit code {done.returncode}); `sky check` shows which clouds work"
        )
