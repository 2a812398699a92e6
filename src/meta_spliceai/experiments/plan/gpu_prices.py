"""GPUs and their prices as dated data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator

from meta_spliceai.errors import InputError, MissingResourceError, unknown_value
from meta_spliceai.experiments.spec.experiment import Block, explain, first_problem
from meta_spliceai.experiments.spec.read_yaml import line_of, read_text, read_yaml
from meta_spliceai.experiments.spec.rows import OWN_PRICES
from meta_spliceai.files import cache_dir

OLD_AFTER_DAYS = 60
"""Prices older than this are named as old in every plan."""


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

    as_of: str = Field(
        pattern=r"^\d{4}-\d{2}(-\d{2})?$", description="month or day of the prices, YYYY-MM or YYYY-MM-DD"
    )
    provider: str = Field(description="who rents the cards out")
    source: str = Field(description="where the numbers are from")
    recommendations: tuple[Recommendation, ...] = Field((), description="what each card is good for")
    prices: tuple[Price, ...] = Field((), description="what each card costs")

    @field_validator("as_of", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        # YAML reads an unquoted 2026-01-31 as a date.
        return value.isoformat() if isinstance(value, date) else value

    @field_validator("as_of")
    @classmethod
    def _a_day(cls, value: str) -> str:
        try:
            first_day(value)
        except ValueError as error:
            raise ValueError("not a day of the calendar; YYYY-MM or YYYY-MM-DD") from error
        return value


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
    """What an hour of a card costs, where and when.

    Attributes:
        gpu: the card's name as in `Market.gpus`.
        dollars_per_hour: US dollars.
        approximate: written with a ~ in its source.
        as_of: day or month of the price.
        provider, source: whose price, and where it is from.
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

    def find(self, name: str, where: str = "") -> Gpu:
        """The card of this name or alias.

        Raises:
            InputError: no such card; the nearest names are given.
        """
        wanted = plain_name(name)
        for gpu in self.gpus.values():
            if wanted in {plain_name(other) for other in (gpu.name, *gpu.aliases)}:
                return gpu
        raise unknown_value("GPU", name, self.gpus, where=where)

    def known(self, name: str) -> Gpu | None:
        """The card of this name or alias; None for others."""
        try:
            return self.find(name)
        except InputError:
            return None

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


def plain_name(name: str) -> str:
    """A card's name without maker, case and punctuation."""
    return re.sub(r"[^a-z0-9]|nvidia|geforce", "", name.lower())


def first_day(as_of: str) -> date:
    """The day, or the month's first."""
    return date.fromisoformat(as_of if len(as_of) > 7 else f"{as_of}-01")


def last_day(as_of: str) -> date:
    """The day, or the month's last."""
    if len(as_of) > 7:
        return date.fromisoformat(as_of)
    year, month = (int(part) for part in as_of.split("-"))
    following = date(year + month // 12, month % 12 + 1, 1)
    return date.fromordinal(following.toordinal() - 1)


def refreshed_file() -> Path:
    """Where `meta-spliceai plan --refresh-prices` keeps what it found."""
    return cache_dir() / "prices" / "skypilot.yaml"


def load_prices() -> PriceTable:
    """The packaged table that recommends cards, the newest of those if there are several: the wishlist's.

    What cards cost now is in `load_market`.

    Raises:
        InputError: an entry without its day, an unknown field, a price that is not above zero.
    """
    history = read_history(_packaged(), "gpus.yaml").history
    return max((table for table in history if table.recommendations), key=lambda table: table.as_of)


def newest(text: str, where: str) -> PriceTable:
    """The newest table of a YAML text; `where` names it in messages."""
    history = read_history(text, where).history
    if not history:
        raise InputError(f"{where}: field 'history' is missing: tables of prices, each with its day")
    return max(history, key=lambda table: table.as_of)


def load_market(own: Path | None = None, *, refreshed: bool = True) -> Market:
    """Cards and prices: the packaged ones, those refreshed since, and the user's own over both.

    Args:
        own: the user's file (`--prices`); by default `./wishlist/gpus.yaml` where there is one.
        refreshed: with what was refreshed on this machine; without it, all who share a catalogue see the same.

    Raises:
        MissingResourceError: the file named is not there.
        InputError: a file that cannot be used; names file, line, field and what is allowed.
    """
    if own is not None and not own.is_file():
        raise MissingResourceError(f"no prices at {own}; write such a file (docs/how-to/plan-the-wishlist.md)")
    packaged = read_history(_packaged(), "gpus.yaml")
    shared = [packaged]
    if refreshed and refreshed_file().is_file():
        shared.append(_read_file(refreshed_file()))
    user = [(path, _read_file(path)) for path in (OWN_PRICES, own) if path is not None and path.is_file()]
    gpus = {gpu.name: gpu for history in (*shared, *(history for _, history in user)) for gpu in history.gpus}
    market = Market(gpus, {})
    offers = _newest_offers(shared, market)
    for path, history in user:
        _check_own(path, history, market)
        offers |= _newest_offers([history], market)
    return Market(gpus, offers)


def _check_own(path: Path, history: PriceHistory, market: Market) -> None:
    """A price in a user's own file is for a card that is described (elsewhere it waits until somebody describes it),
    and of a day that has been: one of next year would look new for more than a year."""
    for table, prices in enumerate(history.history):
        # One day of grace: it may be tomorrow already where the price was read.
        if (first_day(prices.as_of) - date.today()).days > 1:
            place = _place(path, ("history", table, "as_of"))
            raise InputError(
                f"{place}: field 'history.{table}.as_of' = '{prices.as_of}': this day is still to come; the day on "
                "which the prices were read, YYYY-MM or YYYY-MM-DD"
            )
        for number, price in enumerate(prices.prices):
            if market.known(price.gpu) is None:
                field = ("history", table, "prices", number, "gpu")
                where = f"{_place(path, field)}: field '{'.'.join(map(str, field))}'"
                raise unknown_value(
                    "GPU", price.gpu, market.gpus, where=f"{where} (describe a card of your own in 'gpus')"
                )


def _place(path: Path, field: Sequence[object]) -> str:
    """File and line of a field."""
    tree, _ = read_yaml(str(path), read_text(path))
    return f"{path}, line {line_of(tree, field)}" if tree is not None else str(path)


def _newest_offers(histories: Sequence[PriceHistory], market: Market) -> dict[str, Offer]:
    """For each card that is known, the newest of its prices; of two of one day the lower."""
    found: dict[str, Offer] = {}
    for history in histories:
        for table in history.history:
            for price in table.prices:
                gpu = market.known(price.gpu)
                if gpu is None:  # a card nobody described cannot be planned for
                    continue
                offer = Offer(
                    gpu.name,
                    price.dollars_per_hour,
                    price.approximate,
                    table.as_of,
                    table.provider,
                    table.source,
                )
                before = found.get(gpu.name)
                if before is None or _order(offer) > _order(before):
                    found[gpu.name] = offer
    return found


def _order(offer: Offer) -> tuple[date, float]:
    return last_day(offer.as_of), -offer.dollars_per_hour


def _packaged() -> str:
    return files("meta_spliceai.experiments.plan").joinpath("gpus.yaml").read_text(encoding="utf-8")


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
        field = first_problem(error)["loc"]
        place = f"{where}, line {line_of(tree, field)}" if tree is not None else where
        raise InputError(f"{place}: {explain(error, PriceHistory)}{_allowed(error)}") from error


def _allowed(error: ValidationError) -> str:
    """What a missing field, or one of another form, has to say."""
    first = first_problem(error)
    if first["type"] not in ("missing", "string_pattern_mismatch"):
        return ""
    name = str(first["loc"][-1])
    for model in (PriceTable, Price, Gpu, Recommendation):
        if name in model.model_fields:
            return f": {model.model_fields[name].description}"
    return ""
