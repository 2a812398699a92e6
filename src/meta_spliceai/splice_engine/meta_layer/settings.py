"""What the settings of training and of pre-training share: checked values, and an error that names the bad one."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from meta_spliceai.errors import InputError


class Settings(BaseModel):
    """Settings whose fields are all there is: an unknown one, or a value out of bounds, is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: ClassVar[str] = "settings"
    """The settings in the user's words, for messages."""

    @classmethod
    def from_mapping(cls, values: dict[str, Any], where: str = "") -> Self:
        """Checked settings from plain values, as they stand in a spec.

        Args:
            values: by field.
            where: file or command in which they stand, for the message; `words` if empty.

        Raises:
            InputError: one line with the field, the value and what is allowed.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            place = where or cls.words
            if first["type"] == "extra_forbidden":
                raise InputError(f"{place}: no field '{field}'; fields: {', '.join(cls.model_fields)}") from error
            raise InputError(f"{place}: {field} = {first['input']!r}: {first['msg']}") from error
