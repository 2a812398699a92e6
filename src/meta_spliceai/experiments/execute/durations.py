"""Durations as people write them."""

from __future__ import annotations

import re

from meta_spliceai.errors import InputError, shown

LONGEST = 366 * 24 * 3600.0  # seconds


def parse_duration(text: str, where: str) -> float:
    """Seconds of a duration such as "9m", "1h30m" or "540s".

    Args:
        text: whole or decimal numbers, each with h, m or s, in this order.
        where: the option, for the message.

    Raises:
        InputError: something else, or no time at all.
    """
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", text.strip().lower())
    parts = zip(match.groups(), (3600.0, 60.0, 1.0), strict=True) if match else ()
    seconds = sum(float(part) * unit for part, unit in parts if part is not None)
    if not 0 < seconds <= LONGEST:
        raise InputError(
            f"{where} {shown(text)}: write a duration above zero with its unit: 9m, 1h30m, 540s (at most a year)"
        )
    return seconds
