"""The table of all machines: link, load, disk, GPUs, money, time left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.style import Style
from rich.text import Text

from ..engine import format as fmt
from ..engine.backup.safety import HostSafety
from ..engine.hosts import HostView
from .host_words import age_words, is_stale, left_text, link_text
from .live_table import Column, LiveTable, Row
from .meter import gpu_blocks
from .palette import Palette
from .safety_page import verdict

LOW_DISK = 5 * 1024**3
SAFE = 8
"""Which column says what would be lost."""


class HostTable(LiveTable):
    """Shows `HostView`s in the order given; the key of a row is the host's name."""

    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("HOST", 13),
        Column("LINK", 22),
        Column("PING", 7, rank=8, right=True),
        Column("CPU", 5, rank=2, right=True),
        Column("MEMORY", 15, rank=7, right=True),
        Column("DISK FREE", 10, rank=4, right=True),
        Column("GPUS", 9, rank=1),
        Column("RUNS", 4, rank=6, right=True),
        Column("SAFE", 9, rank=5),
        Column("$/H", 5, rank=9, right=True),
        Column("LEFT", 9, rank=3, right=True),
        Column("REACHED AS", 0, rank=10, least=24),
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.COLUMNS, id=id, empty="looking at this machine …")
        self._views: tuple[HostView, ...] = ()
        self._active: Mapping[str, int] = {}
        self._safety: Mapping[str, HostSafety] = {}

    def show(
        self, views: Sequence[HostView], active: Mapping[str, int], safety: Mapping[str, HostSafety] | None = None
    ) -> None:
        """Replace what is shown.

        Parameters
        ----------
        active: active runs by host. safety: what would be lost with it, where somebody has just looked.
        """
        self._views, self._active, self._safety = tuple(views), active, safety or {}
        self.tick()

    def tick(self) -> None:
        """Time went on: countdowns and ages follow."""
        palette, now = Palette.of(self.app), time.time()
        longest = max((len(view.name) for view in self._views), default=0)
        columns = [Column("HOST", min(24, max(8, longest))), *self.COLUMNS[1:]]
        rows = [
            _row(view, self._active.get(view.name, 0), self._safety.get(view.name), palette, now)
            for view in self._views
        ]
        if not self._safety:  # nobody has looked: no column
            del columns[SAFE]
            rows = [replace(row, cells=(*row.cells[:SAFE], *row.cells[SAFE + 1 :])) for row in rows]
        self.set_columns(columns)
        self.show_rows(rows)

    def notify_style_update(self) -> None:
        """The colours in the cells follow the theme."""
        super().notify_style_update()
        if self._views:
            self.tick()


def _row(view: HostView, active: int, safety: HostSafety | None, palette: Palette, now: float) -> Row:
    stale = is_stale(view)
    quiet = palette.muted if stale else Style()
    price = view.price_per_hour
    return Row(
        view.name,
        (
            Text(fmt.plain(view.name, 40), style=Style(bold=True)),
            link_text(view, palette, now),
            _ping(view, palette, now),
            Text(_cpu(view), style=quiet),
            Text(_memory(view), style=quiet),
            _disk(view, palette, quiet),
            _gpus(view, palette, stale),
            str(active) if active else "",
            verdict(safety, palette) if safety is not None else Text(""),
            f"{price:.2f}" if price is not None else "",
            left_text(view, palette, now),
            Text(fmt.plain(view.target, 80), style=palette.muted),
        ),
    )


def _ping(view: HostView, palette: Palette, now: float) -> Text:
    """The round trip, or since when there is none."""
    if is_stale(view):
        return Text(age_words(view, now), style=palette.warn)
    if view.latency_ms is None:
        return Text("")
    return Text(f"{view.latency_ms:.{1 if view.latency_ms < 10 else 0}f} ms")


def _cpu(view: HostView) -> str:
    percent = view.reading.host_cpu_pct if view.reading else None
    return fmt.MISSING if percent is None else f"{percent:.0f}%"


def _memory(view: HostView) -> str:
    reading = view.reading
    if reading is None or reading.memory_used is None:
        return fmt.MISSING
    if not reading.memory_total:
        return fmt.size(reading.memory_used)
    return f"{100 * reading.memory_used / reading.memory_total:.0f}% of {fmt.size(reading.memory_total)}"


def _disk(view: HostView, palette: Palette, quiet: Style) -> Text:
    free = view.reading.disk_free if view.reading else None
    if free is not None and free < LOW_DISK:
        return Text(f"⚠ {fmt.size(free)}", style=palette.bad)
    return Text(fmt.size(free), style=quiet)


def _gpus(view: HostView, palette: Palette, stale: bool) -> Text:
    if view.gpus:
        return gpu_blocks(view.gpus, palette, stale=stale)
    if view.reading is None:
        return Text(fmt.MISSING, style=palette.muted)
    return Text("no news" if view.reading.gpu_error else "none", style=palette.muted)
