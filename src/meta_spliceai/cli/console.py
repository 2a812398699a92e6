"""What commands print: text as it is, with style given apart from it; and JSON that every reader takes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import pydantic_core
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from meta_spliceai.errors import printable


class PlainConsole(Console):
    """A console for text from outside (reasons, titles, notes, folders): square brackets are no markup and colons no
    emoji, and control characters are written out, so that none of them can end a command or move the cursor."""

    def render_str(self, text: str, **options: Any) -> Text:
        """What every text passes through on its way to the terminal, in tables, too."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def styled(*parts: str | tuple[str, str]) -> Text:
    """A text of parts, some with a style: ("finished", "green")."""
    return Text.assemble(*(printable(one) if isinstance(one, str) else (printable(one[0]), one[1]) for one in parts))


def table(*columns: str, title: str | None = None, right: Collection[str] = (), whole: Collection[str] = ()) -> Table:
    """An empty table: numbers stand at the `right` of their columns, and cells that are kept `whole` on one line."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        kept = column in whole
        made.add_column(column, justify=justify, no_wrap=kept, overflow="ellipsis" if kept else "fold")
    return made


def as_json(content: Any, indent: int | None = None) -> str:
    """JSON with null for numbers that are not finite, which JSON does not have."""
    return pydantic_core.to_json(content, indent=indent, inf_nan_mode="null").decode()


def print_json(content: Any) -> None:
    typer.echo(as_json(content, indent=2))
