"""GPUs and their prices as dated data."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator

from meta_spliceai.errors import InputError, MissingResourceError, unknown_value
from meta_spliceai.experiments.spec.experiment import Block, explain, first_problem
from meta_spliceai.experiments.spec.read_yaml import line_of, read_text, read_yaml
from meta_spliceai.experiments.spec.rows import OWN_PRICES
from meta_spliceai.files import cache_dir

OLD_AFTER_DAYS = 60  # prices older than this are named as old in every plan


class Recommendation(Block):
    """What a GPU is good for."""

    gpu: str = Field(description="name of the card")
    vram_gb: float = Field(gt=0, description="its memory, GB")
    suitable: str = Field(description="rows it suits, in words")


class Price(Block):
    """What an hour of a GPU cost."""

    gpu: str = Field(description="name of the card")
    dollars_per_hour: float = Field(gt=0, description="US dollars for an hour, on demand")
    approximate: bool = Field(False, description="written with a ~ in its source")
    suitable: str = Field("", description="rows it is recommended for, in words")


class PriceTable(Block):
    """Recommendations and prices of one day."""

    as_of: str = Field(description="month or day of the prices, YYYY-MM or YYYY-MM-DD")
    provider: str = Field(description="who rents the cards out")
    source: str = Field(description="where the numbers are from")
    recommendations: tuple[Recommendation, ...] = Field((), description="what each card is good for")
    prices: tuple[Price, ...] = Field((), description="what each card costs")

    @field_validator("as_of", mode="before")
    @classmethod
    def _a_day(cls, value: object) -> str:
        text = str(value)  # YAML reads an unquoted 2026-01-31 as a date
        try:
            first_day(text)
        except ValueError as error:
            raise ValueError("not a day of the calendar; YYYY-MM or YYYY-MM-DD") from error
        return text


class Gpu(Block):
    """A card as its maker describes it; rates are dense, in 10¹² operations a second."""

    name: str = Field(description="what it is asked for by")
    aliases: tuple[str, ...] = Field((), description="other names: the driver's, providers'")
    vram_gb: float = Field(gt=0, description="its memory, 10⁹ bytes")
    bandwidth_gb_s: float = Field(gt=0, description="of its memory, 10⁹ bytes a second")
    fp32_tflops: float = Field(gt=0, description="float32")
    tf32_tflops: float = Field(gt=0, description="TF32 on matrix units")
    bf16_tflops: float = Field(gt=0, description="bfloat16 on matrix units")
    source: str = Field(description="where the numbers are from")


class PriceHistory(Block):
    """Cards, and all tables of prices."""

    gpus: tuple[Gpu, ...] = Field((), description="cards")
    history: tuple[PriceTable, ...] = Field((), description="tables by day")

    @model_validator(mode="after")
    def _something(self) -> PriceHistory:
        if not self.gpus and not self.history:
            raise ValueError("there are neither 'gpus' nor a 'history' of prices")
        return self


@dataclass(frozen=True)
class Offer:
    """What an hour of a card costs, on which day (or in which month), and whose price it is.

    Attributes:
        gpu: the card's name as in `Market.gpus`.
        approximate: written with a ~ in its source.
    """

    gpu: str
    dollars_per_hour: float
    approximate: bool
    as_of: str
    provider: str
    source: str

    def days_old(self, today: date) -> int:
        """Days since the price was written down; a month counts from its last day."""
        return max(0, (today - last_day(self.as_of)).days)


@dataclass(frozen=True)
class Market:
    """Cards and what they cost now, as far as is known.

    Attributes:
        gpus: by name.
        offers: the price that counts for each card that has one: from the user's file, else the newest.
    """

    gpus: dict[str, Gpu]
    offers: dict[str, Offer]

    def known(self, name: str) -> Gpu | None:
        """The card of this name or alias, whatever its maker, case and punctuation; None for others."""
        for gpu in self.gpus.values():
            if _plain(name) in map(_plain, (gpu.name, *gpu.aliases)):
                return gpu
        return None

    def find(self, name: str, where: str = "") -> Gpu:
        """The card of this name or alias.

        Raises:
            InputError: no such card; the nearest names are given.
        """
        if (gpu := self.known(name)) is None:
            raise unknown_value("GPU", name, self.gpus, where=where)
        return gpu

    def name_of(self, device: str) -> str:
        """A card's name here by the driver's; the device's own where it is none that is described."""
        return gpu.name if (gpu := self.known(device)) else device

    def old_prices(self, today: date) -> str:
        """A warning that names the prices' day where some are old; empty where none is."""
        old = [offer for offer in self.offers.values() if offer.days_old(today) > OLD_AFTER_DAYS]
        if not old:
            return ""
        days = max(offer.days_old(today) for offer in old)
        named = ", ".join(f"{offer.gpu} ({offer.as_of})" for offer in sorted(old, key=lambda offer: offer.gpu))
        return (
            f"prices are up to {days} days old (more than {OLD_AFTER_DAYS}): {named}; "
            "refresh with `meta-spliceai plan --refresh-prices`, or give your own with --prices FILE"
        )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]|nvidia|geforce", "", name.lower())


def first_day(as_of: str) -> date:
    """The day, or the month's first."""
    return datetime.strptime(as_of, "%Y-%m-%d" if as_of.count("-") > 1 else "%Y-%m").date()


def last_day(as_of: str) -> date:
    """The day, or the month's last."""
    first = first_day(as_of)
    return first if as_of.count("-") > 1 else first.replace(day=monthrange(first.year, first.month)[1])


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
        own: the user's file (`--prices`); by default `./wishlist/gpus.yaml` where there is one.
        refreshed: with what was refreshed on this machine; without it, all who share a catalogue see the same.
        cloud: only what this provider asks ("runpod": RunPod's clouds); the user's own prices count everywhere.

    Raises:
        MissingResourceError: the file named is not there.
        InputError: a file that cannot be used; names file, line, field and what is allowed.
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
        if (first_day(prices.as_of) - date.today()).days > 1:
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
    found: dict[str, list[Offer]] = {}
    for table in (table for history in histories for table in history.history):
        if not table.provider.lower().startswith(cloud):
            continue
        for price in table.prices:
            gpu = market.known(price.gpu)
            if gpu is not None:  # a card nobody described cannot be planned for
                told = (price.dollars_per_hour, price.approximate, table.as_of, table.provider, table.source)
                found.setdefault(gpu.name, []).append(Offer(gpu.name, *told))
    return {
        name: max(offers, key=lambda offer: (last_day(offer.as_of), -offer.dollars_per_hour))
        for name, offers in found.items()
    }


def _packaged() -> PriceHistory:
    text = files("meta_spliceai.experiments.plan").joinpath("gpus.yaml").read_text(encoding="utf-8")
    return read_history(text, "gpus.yaml")


def _read_file(path: Path) -> PriceHistory:
    return read_history(read_text(path), str(path))


def read_history(text: str, where: str) -> PriceHistory:
    """Cards and prices from YAML.

    Raises:
        InputError: names `where`, the line, the field, the value and what is allowed.
    """
    tree, content = read_yaml(where, text)
    try:
        return PriceHistory.model_validate(content)
    except ValidationError as error:
        problem = first_problem(error)
        place = f"{where}, line {line_of(tree, problem['loc'])}" if tree is not None else where
        allowed = ""
        if problem["type"] == "missing":
            fields = {**PriceTable.model_fields, **Price.model_fields, **Gpu.model_fields}
            allowed = f": {fields[name].description}" if (name := str(problem["loc"][-1])) in fields else ""
        raise InputError(f"{place}: {explain(error, PriceHistory)}{allowed}") from error
