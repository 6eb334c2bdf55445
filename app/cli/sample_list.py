"""The table of `wavedeck samples`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ...engine import format as fmt
from .common import out

if TYPE_CHECKING:
    from ...engine.samples import SampleItem, SampleSet
    from ..listen.listing import Listing

MOST_METRICS = 6


def print_samples(samples: SampleSet, listing: Listing, rows: Sequence[int]) -> None:
    """One line an item: id, step, the sorted metric first, classes, tracks, the beginning of its text."""
    names = sorted(listing.columns.metrics, key=lambda name: name != listing.sort)[:MOST_METRICS]
    classes = bool(len(listing.columns)) and bool((listing.columns.label_codes >= 0).any())
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True)
    table.add_column("step", justify="right")
    for name in names:
        table.add_column(Text(fmt.plain(name, 24)), justify="right")
    if classes:
        table.add_column("label → predicted")
    table.add_column("tracks")
    table.add_column("text", overflow="ellipsis", no_wrap=True)
    for row in rows:
        item = samples.item(int(row))
        cells = [fmt.plain(item.id, 24), fmt.MISSING if item.step is None else str(item.step)]
        cells += [fmt.number(item.metrics.get(name)) for name in names]
        if classes:
            cells.append(_classes(item))
        cells += [_tracks(item), fmt.plain(next(iter(item.text.values()), ""), 60)]
        table.add_row(*map(Text, cells))
    out().print(table)


def _classes(item: SampleItem) -> str:
    sides = [fmt.MISSING if side is None else fmt.plain(side, 24) for side in (item.label, item.predicted)]
    sign = "" if item.predicted is None or item.label is None or item.predicted == item.label else " ✗"
    return f"{sides[0]} → {sides[1]}{sign}"


def _tracks(item: SampleItem) -> str:
    if not item.tracks:
        return "no sound"
    seconds = item.seconds or 0.0
    return f"{', '.join(fmt.plain(name, 16) for name in item.tracks)} {seconds:.2f} s"
