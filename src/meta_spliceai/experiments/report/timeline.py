"""The timeline: one lane a row of the catalogue, one bar a run, from its start to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from markupsafe import Markup

from meta_spliceai.experiments.report.svg import Scale, line, picture, tag, text

LANE, TOP, LABEL, WIDTH = 28, 16, 232, 1080
NARROWEST = 7
"""Pixels of the shortest bar, so that a run of seconds on a line of weeks can be seen and hit."""
STEPS = tuple(
    timedelta(seconds=s)
    for s in (60, 300, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000)
)


@dataclass(frozen=True)
class Lane:
    """One run on the timeline.

    Attributes:
        row: id of the catalogue's row; runs of one row share a lane.
        run: the run's name.
        state: finished, running, failed, interrupted, damaged; decides the colour.
        start, end: ISO 8601.
        words: what the bar says.
        link: where the bar leads; empty for nowhere.
    """

    row: str
    run: str
    state: str
    start: str
    end: str
    words: str
    link: str = ""


def moment(value: object) -> datetime | None:
    """A time as the bench writes it; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def timeline(lanes: Sequence[Lane]) -> Markup | None:
    """Draw the runs; None where no run says when it was.

    Args:
        lanes: runs; one without a readable start is left out.
    """
    known = [(lane, start, moment(lane.end) or start) for lane in lanes if (start := moment(lane.start))]
    if not known:
        return None
    first = min(start for _, start, _ in known)
    last = max(max(end for _, _, end in known), first + timedelta(seconds=60))
    span = (last - first).total_seconds()
    x = Scale(0, span * 1.02, LABEL, WIDTH - 12)
    rows = list(dict.fromkeys(lane.row for lane, _, _ in sorted(known, key=lambda item: item[1])))
    bottom = TOP + LANE * len(rows)
    parts = [
        tag("rect", x=0, y=TOP + LANE * i, width=WIDTH, height=LANE, class_="stripe") for i in range(0, len(rows), 2)
    ]
    for at, words in _ticks(first, last):
        place = x((at - first).total_seconds())
        parts.append(line(place, TOP, place, bottom, "grid"))
        parts.append(text(place, bottom + 17, words, "tick", "middle"))
    for i, row in enumerate(rows):
        parts.append(text(8, TOP + LANE * i + 18.5, row, "name"))
    for lane, start, end in known:
        left = x((start - first).total_seconds())
        width = max(x((max(end, start) - first).total_seconds()) - left, NARROWEST)
        left = min(left, WIDTH - 6 - width)
        bar = tag(
            "rect", x=left, y=float(TOP + LANE * rows.index(lane.row) + 6), width=width, height=LANE - 12, rx=4,
            class_=f"bar {lane.state}", data_tip=lane.words,
        )  # fmt: skip
        parts.append(tag("a", bar, href=lane.link, aria_label=lane.words) if lane.link else bar)
    said = "; ".join(lane.words for lane, _, _ in known)
    return picture(WIDTH, bottom + 26, "Timeline of runs", said, *parts, class_="plot timeline", tabindex=0)


def _ticks(first: datetime, last: datetime) -> list[tuple[datetime, str]]:
    span = last - first
    step = next((step for step in STEPS if span / step <= 7), STEPS[-1])
    seconds = step.total_seconds()
    at = datetime.fromtimestamp((first.timestamp() // seconds + 1) * seconds, UTC)
    ticks: list[tuple[datetime, str]] = []
    while at <= last and len(ticks) < 12:
        if step >= timedelta(days=1):
            words = f"{at:%d %b %Y}" if step >= timedelta(days=60) else f"{at:%d %b}"
        else:
            words = f"{at:%H:%M}" if span < timedelta(hours=20) else f"{at:%d %b %H:%M}"
        ticks.append((at, words))
        at += step
    if span < timedelta(hours=20):
        ticks = [(first, f"{first:%d %b %Y}"), *(t for t in ticks if (t[0] - first) / span > 0.09)]
    return ticks
