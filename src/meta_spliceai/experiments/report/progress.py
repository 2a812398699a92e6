"""How far a run is that is being worked on, in words and as a share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_spliceai.experiments.board.shown import dollars, memory

Progress = Mapping[str, Any]


def share_of(progress: Progress) -> float | None:
    """Between 0 and 1; None where it is not known."""
    share, done, total = progress.get("share"), progress.get("done"), progress.get("total")
    if not isinstance(share, int | float):
        share = done / total if isinstance(done, int | float) and isinstance(total, int | float) and total else None
    return None if share is None else max(0.0, min(1.0, float(share)))


def progress_words(progress: Progress) -> str:
    """What a run's progress says, as far as it says anything."""
    words = [str(progress["stage"])] if progress.get("stage") else []
    for name, of in (("fold", "folds"), ("epoch", "epochs")):
        if isinstance(progress.get(name), int):
            total = f" of {progress[of]}" if isinstance(progress.get(of), int) else ""
            words.append(f"{name} {progress[name]}{total}")
    if isinstance(progress.get("done"), int) and isinstance(progress.get("total"), int):
        words.append(f"{progress['done']:,} of {progress['total']:,}")
    for name, form in (("loss", "loss {:.4f}"), ("windows_per_second", "{:,.0f} windows/s")):
        if isinstance(progress.get(name), int | float):
            words.append(form.format(progress[name]))
    for name, said in (("memory_bytes", memory), ("dollars", dollars)):
        if isinstance(progress.get(name), int | float):
            words.append(said(progress[name]))
    return ", ".join(words)
