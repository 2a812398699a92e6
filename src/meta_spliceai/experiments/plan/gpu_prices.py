"""GPUs and their hourly prices as dated data: packaged, refreshed from SkyPilot's catalogue, or the user's own."""

from __future__ import annotations

import re
import tempfile
from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from meta_spliceai.errors import InputError, MissingResourceError, unknown_value
from meta_spliceai.experiments.spec.experiment import explain, first_problem
from meta_spliceai.experiments.spec.rows import OWN_PRICES, line_of, read_text, read_yaml
from meta_spliceai.files import atomic_write, cache_dir
from meta_spliceai.resources.resolve import download
from meta_spliceai.splice_engine.meta_layer.settings import Bounded

OLD_AFTER_DAYS = 60  # prices older than this are named as old in every plan


class Recommendation(Bounded):
    """What a GPU is good for."""

    gpu: str = Field(description="name of the card")
    vram_gb: float = Field(gt=0, description="its memory, GB")
    suitable: str = Field(description="rows it suits, in words")


class Price(Bounded):
    """What an hour of a GPU cost."""

    gpu: str = Field(description="name of the card")
    dollars_per_hour: float = Field(gt=0, description="US dollars for an hour, on demand")
    approximate: bool = Field(False, description="written with a ~ in its source")
    suitable: str = Field("", description="rows it is recommended for, in words")


class PriceTable(Bounded):
    """Recommendations and prices of one day."""

    as_of: str = Field(description="month or day of the prices, YYYY-MM or YYYY-MM-DD")
    provider: str = Field(description="who rents the cards out")
    source: str = Field(description="where the numbers are from")
    recommendations: tuple[Recommendation, ...] = Field((), description="what each card is good for")
    prices: tuple[Price, ...] = Field((), description="what each card costs")

    @field_validator("as_of", mode="before")
    @classmethod
    def _a_day(cls, value: object) -> str:
        try:
            _first_day(str(value))  # YAML reads an unquoted 2026-01-31 as a date
        except ValueError as error:
            raise ValueError("not a day of the calendar; YYYY-MM or YYYY-MM-DD") from error
        return str(value)


class Gpu(Bounded):
    """A card as its maker describes it; rates are dense, in 10¹² operations a second."""

    name: str = Field(description="what it is asked for by")
    aliases: tuple[str, ...] = Field((), description="other names: the driver's, providers'")
    vram_gb: float = Field(gt=0, description="its memory, 10⁹ bytes")
    bandwidth_gb_s: float = Field(gt=0, description="of its memory, 10⁹ bytes a second")
    fp32_tflops: float = Field(gt=0, description="float32")
    tf32_tflops: float = Field(gt=0, description="TF32 on matrix units")
    bf16_tflops: float = Field(gt=0, description="bfloat16 on matrix units")
    source: str = Field(description="where the numbers are from")


class PriceHistory(Bounded):
    """Cards, and all tables of prices."""

    gpus: tuple[Gpu, ...] = Field((), description="cards")
    history: tuple[PriceTable, ...] = Field((), description="tables by day")

    @model_validator(mode="after")
    def _something(self) -> PriceHistory:
        if not self.gpus and not self.history:
            raise ValueError("there are neither 'gpus' nor a 'history' of prices")
        return self


def _first_day(as_of: str) -> date:
    return datetime.strptime(as_of, "%Y-%m-%d" if as_of.count("-") > 1 else "%Y-%m").date()


@dataclass(frozen=True)
class Offer:
    """What an hour of a card costs, on which day (or in which month), and whose price it is."""

    gpu: str
    dollars_per_hour: float
    approximate: bool
    as_of: str
    provider: str
    source: str

    @property
    def day(self) -> date:
        """The day, or the month's last."""
        first = _first_day(self.as_of)
        return first if self.as_of.count("-") > 1 else first.replace(day=monthrange(first.year, first.month)[1])


@dataclass(frozen=True)
class Market:
    """Cards by name, and the price that counts for each that has one: from the user's file, else the newest."""

    gpus: dict[str, Gpu]
    offers: dict[str, Offer]

    def known(self, name: str) -> Gpu | None:
        """The card of this name or alias, whatever its maker, case and punctuation; None for others."""
        for gpu in self.gpus.values():
            if _plain(name) in map(_plain, (gpu.name, *gpu.aliases)):
                return gpu
        return None

    def find(self, name: str, where: str = "") -> Gpu:
        """As `known`; InputError with the nearest names where there is no such card."""
        if (gpu := self.known(name)) is None:
            raise unknown_value("GPU", name, self.gpus, where=where)
        return gpu

    def name_of(self, device: str) -> str:
        """A card's name here by the driver's; the device's own where it is none that is described."""
        return gpu.name if (gpu := self.known(device)) else device

    def old_prices(self, today: date) -> str:
        """A warning that names the prices' day where some are old; empty where none is."""
        old = {one.gpu: one for one in self.offers.values() if (today - one.day).days > OLD_AFTER_DAYS}
        if not old:
            return ""
        days = max((today - offer.day).days for offer in old.values())
        return (
            f"prices are up to {days} days old (more than {OLD_AFTER_DAYS}): "
            f"{', '.join(f'{name} ({old[name].as_of})' for name in sorted(old))}; "
            "refresh with `meta-spliceai plan --refresh-prices`, or give your own with --prices FILE"
        )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]|nvidia|geforce", "", name.lower())


def refreshed_file() -> Path:
    """Where `meta-spliceai plan --refresh-prices` keeps what it found."""
    return cache_dir() / "prices" / "skypilot.yaml"


def load_prices() -> PriceTable:
    """The wishlist's own table: the newest packaged one that recommends cards. What cards cost now is in
    `load_market`."""
    return max((table for table in _packaged().history if table.recommendations), key=lambda table: table.as_of)


def load_market(own: Path | None = None, *, refreshed: bool = True, cloud: str = "") -> Market:
    """Cards and prices: the packaged ones, those refreshed since, and the user's own over both.

    Args:
        own: the user's file (`--prices`); `./wishlist/gpus.yaml` is read before it where there is one.
        refreshed: with what was refreshed on this machine; without it, all who share a catalogue see the same.
        cloud: only what this provider asks ("runpod": RunPod's clouds); the user's own prices count everywhere.

    MissingResourceError: the file is not there; InputError: it cannot be used; names file, line, field and what is
    allowed.
    """
    if own is not None and not own.is_file():
        raise MissingResourceError(f"no prices at {own}; write such a file (docs/how-to/plan-the-wishlist.md)")
    shared = [_packaged()]
    if refreshed and refreshed_file().is_file():
        shared.append(_read_file(refreshed_file()))
    user = {path: _read_file(path) for path in (OWN_PRICES, own) if path is not None and path.is_file()}
    market = Market({gpu.name: gpu for history in (*shared, *user.values()) for gpu in history.gpus}, {})
    market.offers.update(_newest_offers(shared, market, cloud))
    for path, history in user.items():
        _check_own(path, history, market)
        market.offers.update(_newest_offers([history], market))
    return market


def _check_own(path: Path, history: PriceHistory, market: Market) -> None:
    """A price in a user's own file is for a card that is described (elsewhere it waits until somebody describes it),
    and of a day that has been: one of next year would look new for more than a year."""
    tree, _ = read_yaml(str(path), read_text(path))

    def place(*field: object) -> str:
        line = f", line {line_of(tree, field)}" if tree is not None else ""
        return f"{path}{line}: field '{'.'.join(map(str, field))}'"

    for table, prices in enumerate(history.history):
        # One day of grace: it may be tomorrow already where the price was read.
        if (_first_day(prices.as_of) - date.today()).days > 1:
            raise InputError(
                f"{place('history', table, 'as_of')} = '{prices.as_of}': this day is still to come; the day on which "
                "the prices were read, YYYY-MM or YYYY-MM-DD"
            )
        for number, price in enumerate(prices.prices):
            if market.known(price.gpu) is None:
                where = f"{place('history', table, 'prices', number, 'gpu')} (describe a card of your own in 'gpus')"
                raise unknown_value("GPU", price.gpu, market.gpus, where=where)


def _newest_offers(histories: Sequence[PriceHistory], market: Market, cloud: str = "") -> dict[str, Offer]:
    """For each card that is known, the newest of its prices (of this provider); of two of one day the lower."""
    newest: dict[str, Offer] = {}
    for table in (table for history in histories for table in history.history):
        for price in table.prices if table.provider.lower().startswith(cloud) else ():
            if (gpu := market.known(price.gpu)) is not None:  # a card nobody described cannot be planned for
                origin = table.as_of, table.provider, table.source
                offer = Offer(gpu.name, price.dollars_per_hour, price.approximate, *origin)
                newest[gpu.name] = max(
                    newest.get(gpu.name, offer), offer, key=lambda one: (one.day, -one.dollars_per_hour)
                )
    return newest


def _packaged() -> PriceHistory:
    text = files("meta_spliceai.experiments.plan").joinpath("gpus.yaml").read_text(encoding="utf-8")
    return read_history(text, "gpus.yaml")


def _read_file(path: Path) -> PriceHistory:
    return read_history(read_text(path), str(path))


def read_history(text: str, where: str) -> PriceHistory:
    """Cards and prices from YAML; InputError names `where`, the line, the field, the value and what is allowed."""
    tree, content = read_yaml(where, text)
    try:
        return PriceHistory.model_validate(content)
    except ValidationError as error:
        problem = first_problem(error)
        place = f"{where}, line {line_of(tree, problem['loc'])}" if tree is not None else where
        fields = {**PriceTable.model_fields, **Price.model_fields, **Gpu.model_fields}
        missing = fields.get(str(problem["loc"][-1])) if problem["type"] == "missing" else None
        allowed = f": {missing.description}" if missing is not None else ""
        raise InputError(f"{place}: {explain(error, PriceHistory)}{allowed}") from error


CATALOGUE = "https://raw.githubusercontent.com/skypilot-org/skypilot-catalog/master/catalogs/v8/{provider}/vms.csv"
"""A provider's prices in SkyPilot's catalogue, which that project renews several times a day. Columns read:
AcceleratorName, AcceleratorCount, Price (US dollars an hour on demand, empty where there is none)."""

PROVIDERS = ("runpod", "lambda", "vast", "nebius", "aws", "gcp", "azure", "fluidstack", "paperspace", "cudo")
"""Providers looked for; one without a catalogue is left out and named."""

NEEDED = ("AcceleratorName", "AcceleratorCount", "Price")


def refresh_prices(market: Market, providers: Iterable[str] = PROVIDERS) -> tuple[Path, list[str], list[str]]:
    """Ask SkyPilot for its catalogues and keep the lowest on-demand price of every card we know, a table per provider.

    Returns:
        the file written, what was found in words, and what was left out in words.

    Raises:
        MissingExtraError: SkyPilot is not installed.
        MissingResourceError: no catalogue can be had (no network and none on the disk).
        RunError: SkyPilot itself failed.
        InputError: a catalogue in another format.
    """
    tables, found, left_out = [], [], []
    today = datetime.now(UTC).date().isoformat()
    with tempfile.TemporaryDirectory() as folder:
        for provider in providers:
            file = Path(folder) / f"{provider}.csv"
            try:
                download(CATALOGUE.format(provider=provider), file, f"prices of {provider}")
            except MissingResourceError as error:
                left_out.append(f"{provider}: no catalogue ({error})")
                continue
            table = price_table(file, provider, market, today)
            if table["prices"]:
                tables.append(table)
                found.append(f"{provider}: {len(table['prices'])} cards, {today}")
            else:
                left_out.append(f"{provider}: no card we know, or no price")
    if not tables:
        why = "; ".join(left_out)
        raise MissingResourceError(f"SkyPilot's catalogue gave no price ({why}); give your own with --prices FILE")
    with atomic_write(refreshed_file()) as handle:
        handle.write("# Written by `meta-spliceai plan --refresh-prices`.\n")
        yaml.safe_dump({"history": tables}, handle, sort_keys=False)
    return refreshed_file(), found, left_out


def price_table(file: Path, provider: str, market: Market, day: str) -> dict[str, Any]:
    """One provider's lowest on-demand price of each card in the market, from a `vms.csv` in SkyPilot's format, as an
    entry of the history of prices; InputError where a column is missing, or a price is no number."""
    import pandas as pd  # slow, and only needed here

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
    lowest = price[single.index].groupby(single["AcceleratorName"].astype(str).map(market.name_of)).min()
    return {
        "as_of": day,
        "provider": provider,
        "source": f"SkyPilot's catalogue, {provider}/vms.csv",
        "prices": [
            {"gpu": name, "dollars_per_hour": round(float(dollars), 4)}
            for name, dollars in lowest.items()
            if name in market.gpus
        ],
    }
