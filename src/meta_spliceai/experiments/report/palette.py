"""Colours of the page and of stand-alone pictures, in light and in dark, as CSS.

The qualitative colours are those of Okabe and Ito (2008), darkened or lightened for contrast; the diverging scale runs
from orange (loss) to blue (gain) through the surface's own colour. Both stay apart for the common colour blindnesses.
"""

from __future__ import annotations

from collections.abc import Sequence

from meta_spliceai.experiments.report.saturation_map import STEPS

LIGHT = {
    "page": "#f6f7f9",
    "card": "#ffffff",
    "ink": "#14202e",
    "soft": "#51606f",
    "faint": "#8593a1",
    "rule": "#dfe4ea",
    "grid": "#e9edf1",
    "stripe": "#f7f9fb",
    "link": "#0b5c96",
    "zero": "#6b7885",
    "base": "#0072b2",
    "learned": "#c2500a",
    "learned-2": "#00805c",
    "learned-3": "#a3468a",
    "learned-4": "#7a6a00",
    "altering": "#c2500a",
    "low": "#b9922a",
    "normal": "#2b7fb8",
    "good": "#0b6e4f",
    "good-bg": "#e5f4ee",
    "warn": "#8a5300",
    "warn-bg": "#fdf3e0",
    "bad": "#a3241c",
    "bad-bg": "#fcebe9",
    "calm-bg": "#eef2f6",
}
DARK = {
    "page": "#0f141a",
    "card": "#171d25",
    "ink": "#e8edf3",
    "soft": "#a6b2bf",
    "faint": "#77848f",
    "rule": "#2b343f",
    "grid": "#242c36",
    "stripe": "#1b222b",
    "link": "#7cc0f0",
    "zero": "#98a5b1",
    "base": "#56b4e9",
    "learned": "#f0924b",
    "learned-2": "#34c79a",
    "learned-3": "#dd93c6",
    "learned-4": "#d8c747",
    "altering": "#f0924b",
    "low": "#d8b75c",
    "normal": "#5fb2e6",
    "good": "#5fd3a8",
    "good-bg": "#12302a",
    "warn": "#f0bf6a",
    "warn-bg": "#33280f",
    "bad": "#ff9a90",
    "bad-bg": "#3a1a18",
    "calm-bg": "#1f2731",
}
DIVERGING_LIGHT = ("#7a3403", "#c4610d", "#efa964", "#efeeea", "#86b7df", "#2874b5", "#08366f")
DIVERGING_DARK = ("#ffd3a3", "#ee9440", "#8d4f19", "#262d36", "#245a8c", "#4ea3e0", "#bfe2ff")


def diverging(anchors: Sequence[str]) -> list[str]:
    """2 × STEPS + 1 colours along the anchors, evenly spaced."""
    channels = [[int(anchor[i : i + 2], 16) for i in (1, 3, 5)] for anchor in anchors]
    colours = []
    for step in range(2 * STEPS + 1):
        place = step / (2 * STEPS) * (len(anchors) - 1)
        i = min(int(place), len(anchors) - 2)
        share = place - i
        mixed = (round(a + (b - a) * share) for a, b in zip(channels[i], channels[i + 1], strict=True))
        colours.append("#" + "".join(f"{value:02x}" for value in mixed))
    return colours


def _declarations(colours: dict[str, str], anchors: Sequence[str]) -> str:
    plain = "".join(f"--{name}:{value};" for name, value in colours.items())
    return plain + "".join(f"--q{i}:{value};" for i, value in enumerate(diverging(anchors)))


def variables() -> str:
    """Custom properties: light by default, dark where the system or the page's own switch asks for it."""
    light, dark = _declarations(LIGHT, DIVERGING_LIGHT), _declarations(DARK, DIVERGING_DARK)
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f'@media (prefers-color-scheme:dark){{:root:not([data-theme="light"]){{color-scheme:dark;{dark}}}}}\n'
        f':root[data-theme="dark"]{{color-scheme:dark;{dark}}}\n'
    )


def cell_rules() -> str:
    """The fill of every colour step."""
    return "".join(f".q{i}{{fill:var(--q{i})}}" for i in range(2 * STEPS + 1)) + "\n"
