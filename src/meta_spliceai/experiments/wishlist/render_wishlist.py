"""The wishlist as Markdown, in the shape its owner uses, from catalogue and ledger. The same runs, the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meta_spliceai.experiments.plan.gpu_prices import Market, PriceTable
from meta_spliceai.experiments.wishlist.progress_of_rows import STATES, RowState
from meta_spliceai.experiments.wishlist.wishlist_document import (
    COMMAND,
    COMPLETED,
    EXPERIMENT,
    MIDDLE,
    NEWEST_PRICES,
    PRICED,
    PRIORITY,
    RECOMMENDED,
    STATE,
    TIME,
    VRAM,
    join_row,
    write_guess,
)

RESULT_METRICS = (("auprc", "AUPRC"), ("spearman_effect", "Spearman r with the measured effect"))


def render_wishlist(
    rows: Sequence[RowState], finished: Sequence[Mapping[str, Any]], prices: PriceTable, market: Market
) -> str:
    """The document.

    Args:
        rows: the wishlist's rows with their states, in the catalogue's order.
        finished: the ledger's `finished` entries, oldest first; those of rows run as wished stand under Completed.
        prices: the wishlist's own GPUs and prices, of one day.
        market: what cards cost since.
    """
    counts = ", ".join(f"{sum(row.state == state for row in rows)} {state}" for state in STATES)
    lines = [
        "# GPU Experiment Wishlist",
        "",
        "**Purpose**: Track expensive experiments that require GPU resources  ",
        f"**Status**: {counts}  ",
        "**Made by**: `meta-spliceai wishlist render`, from the catalogue and the ledger of runs; not edited by hand",
        "",
        "---",
        "",
        "## 🎯 Experiments Requiring GPU",
        "",
    ]
    sections: dict[str, list[RowState]] = {}
    for row in rows:
        sections.setdefault(row.spec.section, []).append(row)
    for number, (section, members) in enumerate(sections.items(), start=1):
        lines += _section(number, section, members)
    lines += _gpus(prices)
    lines += _newest_prices(market)
    lines += _completed(rows, finished)
    lines += _how_to_add()
    return "\n".join(lines).rstrip() + "\n"


def _section(number: int, section: str, members: Sequence[RowState]) -> list[str]:
    wishes = [row.spec.wish for row in members if row.spec.wish is not None]
    columns = list(dict.fromkeys(wish.column for wish in wishes))
    heading = columns[0] if len(columns) == 1 else MIDDLE
    lines = [f"### {number}. {section}", ""]
    lines += _table_head((EXPERIMENT, heading, VRAM, TIME, PRIORITY, STATE, COMMAND))
    for row in members:
        wish = row.spec.wish
        if wish is None:
            continue
        guess = write_guess(wish)
        state = f"{row.state}: {'; '.join(row.missing)}" if row.missing else row.state
        command = f"`meta-spliceai run {row.spec.id}`"
        cells = (row.spec.title, wish.what or "-", guess.vram, guess.time, guess.priority, state, command)
        lines.append(join_row(cells))
    purposes = dict.fromkeys(row.spec.purpose for row in members if row.spec.purpose)
    notes = dict.fromkeys(
        f"{row.spec.title}: {row.spec.wish.note}" for row in members if row.spec.wish and row.spec.wish.note
    )
    lines += ["", *(f"**Purpose**: {purpose}  " for purpose in purposes), *(f"**Note**: {note}  " for note in notes)]
    return [*lines, "", "---", ""]


def _gpus(prices: PriceTable) -> list[str]:
    lines = ["## 📊 GPU Recommendations", "", *_table_head(RECOMMENDED)]
    lines += [join_row((card.gpu, f"{card.vram_gb:g}GB", card.suitable)) for card in prices.recommendations]
    lines += ["", f"### {prices.provider} Pricing Reference (as of {prices.as_of})", "", *_table_head(PRICED)]
    lines += [
        join_row((card.gpu, f"{'~' if card.approximate else ''}${card.dollars_per_hour:.2f}", card.suitable or "-"))
        for card in prices.prices
    ]
    return [*lines, "", f"Source: {prices.source}.", ""]


def _newest_prices(market: Market) -> list[str]:
    """What `plan` counts with: the newest price of each card, the cheapest first."""
    offers = sorted(market.offers.values(), key=lambda offer: (offer.dollars_per_hour, offer.gpu))
    lines = ["### Newest Known Prices", "", *_table_head(NEWEST_PRICES)]
    lines += [
        join_row(
            (
                offer.gpu,
                f"{market.gpus[offer.gpu].vram_gb:g}GB",
                f"{'~' if offer.approximate else ''}${offer.dollars_per_hour:.2f}",
                offer.as_of,
                offer.provider,
            )
        )
        for offer in offers
    ]
    sources = sorted({f"{offer.provider}: {offer.source}" for offer in offers})
    return [*lines, "", f"Sources: {'; '.join(sources)}.", "", "---", ""]


def _completed(rows: Sequence[RowState], finished: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["## ✅ Completed Experiments", "", *_table_head(COMPLETED)]
    by_run = {str(entry.get("run")): entry for entry in finished}
    done = [(row, by_run[row.last_run]) for row in rows if row.last_run in by_run]
    for row, entry in done:
        lines.append(join_row((row.spec.title, str(entry.get("at", ""))[:10], _result(entry), _notes(entry))))
    if not done:
        lines.append(join_row(("*None yet*", "-", "-", "-")))
    return [*lines, "", "---", ""]


def _result(entry: Mapping[str, Any]) -> str:
    """The learned model's headline numbers with their intervals, against the base network's."""
    parts = []
    for metric, label in RESULT_METRICS:
        values = {
            record["kind"]: record
            for record in reversed(entry.get("metrics", []))
            if record.get("metric") == metric and record.get("estimate") is not None
        }
        if "learned" in values:
            text = f"{label} {_interval(values['learned'])}"
            if "base" in values:
                text += (
                    f" (base {values['base']['scorer'].removeprefix('base ')}: {_number(values['base']['estimate'])})"
                )
            parts.append(text)
    return "; ".join(parts) or "-"


def _interval(record: Mapping[str, Any]) -> str:
    text = _number(record["estimate"])
    if record.get("low") is None or record.get("high") is None:
        return text
    return f"{text} [{_number(record['low'])}, {_number(record['high'])}]"


def _number(value: float) -> str:
    text = f"{value:.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


def _notes(entry: Mapping[str, Any]) -> str:
    verdicts = [str(verdict) for verdict in entry.get("verdicts", ())]
    parts = []
    if verdicts:
        beaten = sum(verdict.startswith("beats ") for verdict in verdicts)
        parts.append(f"beats {beaten} of {len(verdicts)} baselines in AUPRC")
    parts += [str(note) for note in entry.get("notes", ())]
    measured = _measured(entry)
    if measured:
        parts.append(f"measured: {measured}")
    parts.append(f"run {entry.get('run')}, seed {entry.get('seed')}, {entry.get('device')}")
    return "; ".join(parts)


def _measured(entry: Mapping[str, Any]) -> str:
    """Memory and time of the run, and what it cost where that is known: the card's memory, or the process's."""
    parts = []
    on_card, in_all = entry.get("peak_gpu_memory_bytes"), entry.get("peak_memory_bytes")
    if isinstance(on_card, int):
        parts.append(f"{on_card / 1e9:.2f} GB of GPU memory")
    elif isinstance(in_all, int):
        parts.append(f"{in_all / 1e9:.2f} GB of memory")
    seconds, dollars = entry.get("seconds"), entry.get("dollars")
    if isinstance(seconds, int | float):
        parts.append(f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min")
    if isinstance(dollars, int | float):
        parts.append(f"${dollars:.2f}")
    return ", ".join(parts)


def _how_to_add() -> list[str]:
    return [
        "## 📝 How to Add New Experiments",
        "",
        "1. `meta-spliceai wishlist add` asks for model, data, VRAM, time estimate and priority, and writes the row to",
        "   `wishlist/*.yaml` of your own repository; or write it there, or read a line of a document like this one",
        "   with `meta-spliceai wishlist import FILE.md`",
        "2. `meta-spliceai plan ID` works out memory, hours and dollars",
        "3. Run it with `meta-spliceai run ID`; a finished run stands under Completed by itself at the next render",
    ]


def _table_head(headings: Sequence[str]) -> list[str]:
    return [join_row(tuple(headings)), "|" + "|".join("-" * (len(heading) + 2) for heading in headings) + "|"]
