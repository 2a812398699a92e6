"""Prices from SkyPilot's catalogue: one CSV a provider, `vms.csv`, kept current by that project.

Columns read (schema of github.com/skypilot-org/skypilot-catalog): AcceleratorName, AcceleratorCount, Price (US dollars
an hour on demand; empty where there is none), Region.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.gpu_prices import Market, refreshed_file
from meta_spliceai.files import atomic_write

PROVIDERS = ("runpod", "lambda", "vast", "nebius", "aws", "gcp", "azure", "fluidstack", "paperspace", "cudo")
"""Providers looked for; one without a catalogue at hand is left out and named."""

FRESH_HOURS = 7
"""SkyPilot's catalogues are renewed every seven hours."""

NEEDED = ("AcceleratorName", "AcceleratorCount", "Price")


def refresh_prices(market: Market, providers: Iterable[str] = PROVIDERS) -> tuple[Path, list[str], list[str]]:
    """Ask SkyPilot for its catalogues and keep the lowest on-demand price of every card we know, a table a provider.

    Args:
        market: the cards.
        providers: as SkyPilot names clouds.

    Returns:
        the file written, what was found in words, and what was left out in words.

    Raises:
        MissingExtraError: SkyPilot is not installed.
        MissingResourceError: no catalogue can be had (no network and none on the disk).
    """
    tables, found, left_out = [], [], []
    for provider in providers:
        try:
            file = _catalogue(provider)
        except MissingResourceError as error:
            left_out.append(f"{provider}: {error}")
            continue
        table = price_table(file, provider, market)
        if table["prices"]:
            tables.append(table)
            found.append(f"{provider}: {len(table['prices'])} cards, {table['as_of']}")
        else:
            left_out.append(f"{provider}: no card we know, or no price")
    if not tables:
        raise MissingResourceError(
            f"SkyPilot's catalogue gave no price ({'; '.join(left_out)}); give your own with --prices FILE"
        )
    with atomic_write(refreshed_file()) as handle:
        handle.write("# Written by `meta-spliceai plan --refresh-prices`.\n")
        yaml.safe_dump({"history": tables}, handle, sort_keys=False)
    return refreshed_file(), found, left_out


def _catalogue(provider: str) -> Path:
    """SkyPilot's file of a provider, renewed by SkyPilot itself if it is old."""
    try:
        from sky.catalog import common
    except ImportError as error:
        raise MissingExtraError("refreshing prices from SkyPilot's catalogue", "cloud") from error
    import requests

    try:
        frame: Any = common.read_catalog(f"{provider}/vms.csv", pull_frequency_hours=FRESH_HOURS)
        len(frame)  # it is read, and renewed, when it is first looked at
        return Path(common.get_catalog_path(f"{provider}/vms.csv"))
    except (requests.RequestException, OSError, ValueError) as error:
        raise MissingResourceError(f"no catalogue ({' '.join(str(error).split())[:160]})") from error


def price_table(file: Path, provider: str, market: Market) -> dict[str, Any]:
    """One provider's lowest on-demand price of each card, as an entry of the history of prices.

    Args:
        file: a `vms.csv` in SkyPilot's format; the day of the prices is that of the file.
        provider: whose.
        market: the cards; others are left out.

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
    single = frame[(frame["AcceleratorCount"] == 1) & (price > 0)].assign(Price=price)
    lowest: dict[str, float] = {}
    for name, dollars in zip(single["AcceleratorName"].astype(str), single["Price"], strict=True):
        gpu = market.known(name)
        if gpu is not None:
            lowest[gpu.name] = min(float(dollars), lowest.get(gpu.name, float("inf")))
    day = datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat()
    return {
        "as_of": day,
        "provider": provider,
        "source": f"SkyPilot's catalogue, {provider}/vms.csv",
        "prices": [{"gpu": name, "dollars_per_hour": round(lowest[name], 4)} for name in sorted(lowest)],
    }
