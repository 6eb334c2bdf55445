"""The table of `wavedeck samples`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ...engine import format as fmt
from .common import out

if TYPE_CHECKING:
    from ...engine.samples import SampleItem, SampleSet
    from ..listen.listing import Listing

MOST_METRICS = 6
ROOMY = 120
"""From this width on there is room for ids beside keys."""
MOST_FAULTS_LISTED = 5
TEXT_WIDTH = 60
_SAID_FIRST = ("prediction", "predicted", "hypothesis", "output")
_MEANT_FIRST = ("target", "reference", "text")


def print_samples(
    samples: SampleSet, listing: Listing, rows: Sequence[int], fault: Callable[[int], str | None] = lambda row: None
) -> None:
    """One line an item: its key or id, step, the sorted metric first, classes, tracks, what it should say and says.

    Where both texts are there and differ, they begin shortly before the first difference. What is wrong with an item
    stands below the table.
    """
    names = sorted(listing.columns.metrics, key=lambda name: name != listing.sort)[:MOST_METRICS]
    columns = listing.columns
    classes = bool(len(columns)) and bool((columns.label_codes >= 0).any())
    items = [samples.item(int(row)) for row in rows]
    texts = [_texts(item) for item in items]
    two = any(said for _, said in texts)
    keyed = any(item.key for item in items)
    table = Table(box=None, pad_edge=False, header_style="bold")
    console = out()
    ids = not keyed or console.width >= ROOMY
    if keyed:
        table.add_column("key", no_wrap=True)
    if ids:
        table.add_column("id", no_wrap=True)
    table.add_column("step", justify="right")
    for name in names:
        table.add_column(Text(fmt.plain(name, 24)), justify="right")
    if classes:
        table.add_column("label → predicted")
    table.add_column("tracks")
    for title in ("text", "prediction") if two else ("text",):
        table.add_column(title, overflow="ellipsis", no_wrap=True)
    faults = []
    for row, item, (meant, said) in zip(rows, items, texts, strict=True):
        cells = [fmt.plain(item.key or fmt.MISSING, 32)] if keyed else []
        broken = bool(columns.broken[row])
        if broken:
            faults.append(f"{fmt.plain(item.key or item.id, 40)}: {fault(int(row)) or 'something is wrong with it.'}")
        cells += [fmt.plain(item.id, 24)] if ids else []
        cells += [fmt.MISSING if item.step is None else str(item.step)]
        cells += [fmt.number(item.metrics.get(name)) for name in names]
        if classes:
            cells.append(_classes(item))
        cells += [f"{'! ' if broken else ''}{_tracks(item)}", *((meant, said) if two else (meant,))]
        table.add_row(*map(Text, cells))
    console.print(table)
    for text in faults[:MOST_FAULTS_LISTED]:
        console.print(Text(f"! {fmt.plain(text, 300)}"), soft_wrap=True)
    if len(faults) > MOST_FAULTS_LISTED:
        console.print(Text(f"! and {len(faults) - MOST_FAULTS_LISTED:,} more: --filter is:broken"))


def _texts(item: SampleItem) -> tuple[str, str]:
    """What an item should say and what it says, from the words before they part; the second may be empty."""
    said = next((item.text[name] for name in _SAID_FIRST if name in item.text), "")
    rest = {name: text for name, text in item.text.items() if name not in _SAID_FIRST}
    meant = next((rest[name] for name in _MEANT_FIRST if name in rest), next(iter(rest.values()), ""))
    start = _shortly_before_they_part(meant, said) if meant and said else 0
    cut = "…" if start else ""
    meant, said = (cut + text[start:] if text[start:] else text and cut for text in (meant, said))
    return fmt.plain(meant, TEXT_WIDTH), fmt.plain(said, TEXT_WIDTH)


def _shortly_before_they_part(meant: str, said: str) -> int:
    """Where to begin so that a narrow column shows a difference: two words before it, 0 when that is near anyway."""
    same = next((place for place, pair in enumerate(zip(meant, said, strict=False)) if pair[0] != pair[1]), None)
    if same is None:
        same = min(len(meant), len(said))
    if same < TEXT_WIDTH // 4 or meant == said:
        return 0
    before = meant[:same].rsplit(" ", 3)
    return len(before[0]) + 1 if len(before) == 4 else 0


def _classes(item: SampleItem) -> str:
    sides = [fmt.MISSING if side is None else fmt.plain(side, 24) for side in (item.label, item.predicted)]
    sign = "" if item.predicted is None or item.label is None or item.predicted == item.label else " ✗"
    return f"{sides[0]} → {sides[1]}{sign}"


def _tracks(item: SampleItem) -> str:
    if not item.tracks:
        return "no sound"
    seconds = item.seconds or 0.0
    return f"{', '.join(fmt.plain(name, 16) for name in item.tracks)} {seconds:.2f} s"
