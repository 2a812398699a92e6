"""How far a stack of convolutions sees, and which dilations make it see a whole window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meta_spliceai.errors import InputError


def receptive_field(kernel: int, dilations: Sequence[int]) -> int:
    """Bases that one output position depends on, for stride-1 convolutions of one kernel size (it is odd)."""
    return 1 + (kernel - 1) * sum(dilations)


def plan_dilations(window: int, layers: int, kernel: int) -> tuple[int, ...]:
    """The gentlest geometric dilations with which the middle position sees every base of the window.

    The first layer has dilation 1. Each later dilation is the growth factor's power, rounded, and never so large that
    the layers before it leave a gap between its taps: then no base in the window is skipped.

    Args:
        window: bases in the window (odd).
        layers: number of convolutions.
        kernel: taps of each (odd).

    Raises:
        InputError: an even window or kernel; so few layers that no dilations without gaps cover the window.
    """
    if window < 1 or window % 2 == 0:
        raise InputError(f"window {window} is not an odd positive number of bases")
    if kernel < 3 or kernel % 2 == 0:
        raise InputError(f"kernel {kernel} is not an odd number of at least 3")
    if layers < 1:
        raise InputError(f"layers {layers} is not positive")
    # Largest field without gaps: every dilation equals the field of the layers before it.
    most = kernel**layers
    if most < window:
        enough = layers
        while kernel**enough < window:
            enough += 1
        raise InputError(
            f"{layers} layers of kernel {kernel} cannot see a window of {window} bases without gaps "
            f"(at most {most}); use at least {enough} layers or a smaller window"
        )
    growth = 1.0
    while growth <= kernel + 1:
        dilations: list[int] = []
        for layer in range(layers):
            dilations.append(min(round(growth**layer), receptive_field(kernel, dilations)))
        if receptive_field(kernel, dilations) >= window and not unseen(window, kernel, dilations):
            return tuple(dilations)
        growth += 0.05
    raise InputError(
        f"{layers} layers of kernel {kernel} cannot see all of a window of {window} bases; use more layers or a "
        "smaller window"
    )


def unseen(window: int, kernel: int, dilations: Sequence[int]) -> int:
    """Bases of the window that its middle does not depend on.

    A receptive field as wide as the window is not enough: beyond the window's edges every layer sees zeros, so what a
    base says must reach the middle without a step outside.
    """
    seen = np.zeros(window, dtype=bool)
    seen[window // 2] = True
    for dilation in reversed(dilations):
        before = seen.copy()
        for step in range(dilation, min(kernel // 2 * dilation, window - 1) + 1, dilation):
            seen[step:] |= before[:-step]
            seen[:-step] |= before[step:]
    return int((~seen).sum())
