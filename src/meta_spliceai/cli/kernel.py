"""`--kernel`, the same for every command that scores with base networks."""

from __future__ import annotations

from typing import Annotated

import typer


def _ask(kernel: str | None) -> str | None:
    from meta_spliceai.splice_engine.base_layer.kernel_choice import ask_for

    if kernel is not None:
        ask_for(kernel)
    return kernel


KernelOption = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        callback=_ask,
        help="Base networks on a CPU: compiled, pytorch, or auto: the faster one, measured once (default).",
    ),
]
