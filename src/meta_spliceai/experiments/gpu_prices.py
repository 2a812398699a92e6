"""GPUs and their prices as dated data."""

from __future__ import annotations

from datetime import date
from importlib.resources import files

import yaml
from pydantic import Field, ValidationError, field_validator

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.spec import Block, explain


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


class PriceHistory(Block):
    """All tables, the newest first."""

    history: tuple[PriceTable, ...] = Field(min_length=1, description="tables by day")


def load_prices() -> PriceTable:
    """The newest table of the packaged `gpus.yaml`.

    Raises:
        InputError: an entry without its day, an unknown field, a price that is not above zero.
    """
    return newest(files("meta_spliceai.experiments").joinpath("gpus.yaml").read_text(encoding="utf-8"), "gpus.yaml")


def newest(text: str, where: str) -> PriceTable:
    """The newest table of a YAML text; `where` names it in messages."""
    try:
        history = PriceHistory.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from error
    return max(history.history, key=lambda table: table.as_of)
