"""A callback for tests."""

from __future__ import annotations

from typing import Any

from meta_spliceai.experiments.run.callback import Callback


class Silent(Callback):
    """Keeps the lines, the names of steps and the facts, and says nothing."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.facts: list[tuple[str, dict[str, Any]]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "step" and not facts["done"]:
            self.lines.append(facts["step"])
        elif not kind.startswith("step"):
            self.facts.append((kind, facts))
