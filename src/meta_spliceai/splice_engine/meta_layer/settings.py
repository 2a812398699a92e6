"""What the settings of training and of pre-training share: checked values, and an error that names the bad one."""

from __future__ import annotations

from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from meta_spliceai.errors import InputError, shown

LARGEST = 2**32 - 1
"""No number of a user's is further from 0: the largest seed that every library takes."""


class Bounded(BaseModel):
    """Fields that are all there is and never change; every number among them, in lists and blocks too, is finite and
    not beyond `LARGEST`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _in_bounds(cls, value: Any, info: ValidationInfo) -> Any:
        # Blocks check their own fields, so that the message names the field and not the block.
        if not _is_block(cls.model_fields[str(info.field_name)].annotation):
            _check_numbers(value)
        return value


def _is_block(annotation: Any) -> bool:
    kinds = (annotation, *get_args(annotation))
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def _check_numbers(value: Any) -> None:
    if isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise ValueError(f"a number from -{LARGEST:,} to {LARGEST:,}")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for one in inner:
        _check_numbers(one)


class Settings(Bounded):
    """Settings whose fields are all there is: an unknown one, or a value out of bounds, is refused by name."""

    words: ClassVar[str] = "settings"
    """The settings in the user's words, for messages."""

    @classmethod
    def from_mapping(cls, values: dict[str, Any], where: str = "") -> Self:
        """Checked settings from plain values, as they stand in a spec; InputError names field and value.

        `where`: file or command in which they stand, for the message; `words` if empty.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            place = where or cls.words
            if first["type"] == "extra_forbidden":
                raise InputError(f"{place}: no field '{field}'; fields: {', '.join(cls.model_fields)}") from error
            raise InputError(f"{place}: {field} = {shown(first['input'])}: {first['msg']}") from error
