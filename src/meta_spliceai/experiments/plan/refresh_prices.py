"""Prices from SkyPilot's catalogue: one CSV a provider, `vms.csv`, kept current by that project.

Columns read (schema of github.com/skypilot-org/skypilot-catalog): AcceleratorName, AcceleratorCount, Price (US dollars
an hour on demand; empty where there is none), Region.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError, RunError
from meta_spliceai.experiments.plan.gpu_prices import Market, refreshed_file
from meta_spliceai.files import atomic_write

PROVIDERS = ("runpod", "lambda", "vast", "nebius", "aws", "gcp", "azure", "fluidstack", "paperspace", "cudo")
"""Providers looked for; one without a catalogue at hand is left out and named."""

FRESH_HOURS = 7  # SkyPilot's catalogues are renewed every seven hours

ASK = """
import json, os, sys
from datetime import UTC, datetime
import requests
from sky.catalog import common

def ask(provider, hours):
    name = f"{provider}/vms.csv"
    path = common.get_catalog_path(name)
    before = os.path.getmtime(path) if os.path.exists(path) else None
    try:
        common.read_catalog(name, pull_frequency_hours=hours).columns  # read, and renewed, when first looked at
    except (requests.RequestException, OSError, ValueError) as error:
        return {"error": " ".join(str(error).split())[:200]}
    # Where a renewal fails, SkyPilot goes on with its file and dates it today: ask what it wrote when it last fetched.
    fetched = os.path.join(os.path.dirname(os.path.dirname(path)), ".meta", f"{name}.md5")
    known = os.path.exists(fetched) and not common.is_catalog_modified(name)
    seconds = os.path.getmtime(fetched) if known else before or os.path.getmtime(path)
    return {"file": path, "day": datetime.fromtimestamp(seconds, UTC).date().isoformat()}

hours, *providers = sys.argv[1:]
print(json.dumps({provider: ask(provider, int(hours)) for provider in providers}))
"""
"""Run by the Python that has SkyPilot, which need not be ours: each provider's catalogue and the day it was fetched."""

NEEDED = ("AcceleratorName", "AcceleratorCount", "Price")


def refresh_prices(market: Market, providers: Iterable[str] = PROVIDERS) -> tuple[Path, list[str], list[str]]:
    """Ask SkyPilot for its catalogues and keep the lowest on-demand price of every card we know, a table a provider.

    Returns:
        the file written, what was found in words, and what was left out in words.

    Raises:
        MissingExtraError: SkyPilot is not installed.
        MissingResourceError: no catalogue can be had (no network and none on the disk).
        RunError: SkyPilot itself failed.
        InputError: a catalogue in another format.
    """
    tables, found, left_out = [], [], []
    for provider, answer in _catalogues(providers).items():
        if "error" in answer:
            left_out.append(f"{provider}: no catalogue ({answer['error']})")
            continue
        table = price_table(Path(answer["file"]), provider, market, answer["day"])
        if table["prices"]:
            tables.append(table)
            found.append(f"{provider}: {len(table['prices'])} cards, {table['as_of']}")
        else:
            left_out.append(f"{provider}: no card we know, or no price")
    if not tables:
        why = "; ".join(left_out)
        raise MissingResourceError(f"SkyPilot's catalogue gave no price ({why}); give your own with --prices FILE")
    with atomic_write(refreshed_file()) as handle:
        handle.write("# Written by `meta-spliceai plan --refresh-prices`.\n")
        yaml.safe_dump({"history": tables}, handle, sort_keys=False)
    return refreshed_file(), found, left_out


def sky_python() -> str:
    """The Python that has SkyPilot: this one, or that of the command `sky` on the path (SkyPilot's dependencies may
    contradict those of other packages, so that it is often installed apart).

    Raises:
        MissingExtraError: neither.
    """
    if find_spec("sky") is not None:
        return sys.executable
    command = shutil.which("sky")
    if command is not None:
        first = Path(command).read_bytes().partition(b"\n")[0].decode(errors="replace").strip()
        if first.startswith("#!") and Path(first[2:]).is_file():
            return first[2:]
    raise MissingExtraError("refreshing prices from SkyPilot's catalogue", "cloud")


def _catalogues(providers: Iterable[str]) -> dict[str, dict[str, str]]:
    """For each provider SkyPilot's file and the day of its prices, or what is wrong; renewed by SkyPilot if old."""
    command = [sky_python(), "-c", ASK, str(FRESH_HOURS), *providers]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        why = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise RunError(f"SkyPilot could not be asked for prices ({why[:200]}); give your own with --prices FILE")
    answers: dict[str, dict[str, str]] = json.loads(lines[-1])
    return answers


def price_table(file: Path, provider: str, market: Market, day: str) -> dict[str, Any]:
    """One provider's lowest on-demand price of each card, as an entry of the history of prices.

    Args:
        file: a `vms.csv` in SkyPilot's format.
        provider: whose.
        market: the cards; others are left out.
        day: of the prices, YYYY-MM-DD.

    Raises:
        InputError: a column is missing, or a price is no number.
    """
    frame = pd.read_csv(file)
    missing = [column for column in NEEDED if column not in frame]
    if missing:
        raise InputError(f"{file}: column {', '.join(missing)} missing; found {', '.join(frame.columns)}")
    price = pd.to_numeric(frame["Price"], errors="coerce")
    broken = price.isna() & frame["Price"].notna()
    if broken.any():
        line = int(broken.idxmax()) + 2
        raise InputError(f"{file}, line {line}: Price = {frame['Price'][line - 2]!r} is no number")
    single = frame[(frame["AcceleratorCount"] == 1) & (price > 0)]
    cards = single["AcceleratorName"].astype(str).map(lambda name: gpu.name if (gpu := market.known(name)) else None)
    lowest = price[single.index].groupby(cards).min()
    return {
        "as_of": day,
        "provider": provider,
        "source": f"SkyPilot's catalogue, {provider}/vms.csv",
        "prices": [{"gpu": name, "dollars_per_hour": round(float(dollars), 4)} for name, dollars in lowest.items()],
    }
