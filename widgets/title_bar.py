"""The top line of every screen: where we are, what is going on, how the machines are."""

from __future__ import annotations

import time

from rich.style import Style
from rich.text import Text
from textual.reactive import reactive
from textual.timer import Timer
from textual.widget import Widget

from ..engine import format as fmt
from ..engine.hosts import HostView, LinkState
from ..engine.machine import MachineReading
from .host_words import link_style
from .palette import Palette

GAUGE = "▁▂▃▄▅▆▇█"


class TitleBar(Widget):
    """One line: name and place on the left, the machines on the right; what does not fit is left out, never wrapped.

    Reactives
    ---------
    place: the screen's title. note: what matters most now. reading: newest machine reading, or None. hosts: the other
    machines; their links come before the gauges of this one. problems: how many are open, of all runs and hosts.
    """

    DEFAULT_CSS = """
    TitleBar { dock: top; height: 1; background: $panel; color: $foreground; padding: 0 1; }
    """

    place: reactive[str] = reactive("")
    note: reactive[str] = reactive("")
    reading: reactive[MachineReading | None] = reactive(None)

    hosts: reactive[tuple[HostView, ...]] = reactive(())
    problems: reactive[int] = reactive(0)

    def __init__(self, place: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.set_reactive(TitleBar.place, place)
        self._countdown: Timer | None = None

    def watch_hosts(self) -> None:
        """A second hand runs only while something is counted down."""
        waiting = any(view.link is LinkState.RECONNECTING for view in self.hosts)
        if waiting and self._countdown is None:
            self._countdown = self.set_interval(1.0, self.refresh)
        elif not waiting and self._countdown is not None:
            self._countdown.stop()
            self._countdown = None

    def render(self) -> Text:
        """Left and right part with the gap between them."""
        palette = Palette.of(self.app)
        width = self.size.width
        left = Text("▚ WAVEDECK ", style=palette.accent + Style(bold=True))
        left.append(f" {self.place}", style=Style(bold=True))
        if self.problems:
            left.append(f"  ⚑ {self.problems}", style=palette.bad + Style(bold=True))
        if self.note:
            left.append(f"  {self.note}", style=palette.muted)
        left.truncate(width, overflow="ellipsis")
        right = hosts_text(self.hosts, palette, width - left.cell_len - 2, time.time())
        machine = machine_text(self.reading, palette, width - left.cell_len - right.cell_len - (4 if right else 2))
        if right and machine:
            right.append("  ")
        right.append_text(machine)
        left.append(" " * max(0, width - left.cell_len - right.cell_len))
        return left + right


def hosts_text(views: tuple[HostView, ...], palette: Palette, width: int, now: float) -> Text:
    """`gpu1 ● gpu2 ↻4s`; where not all fit into `width`, those in trouble and how many more there are."""
    views = tuple(view for view in views if not view.is_local)
    whole = Text(" ").join(_link_part(view, palette, now) for view in views)
    if whole.cell_len <= width:
        return whole
    ranked = sorted(views, key=lambda view: (not view.link.needs_user, view.link is LinkState.CONNECTED))
    for kept in range(len(ranked) - 1, 0, -1):
        parts = [_link_part(view, palette, now) for view in ranked[:kept]]
        some = Text(" ").join([*parts, Text(f"+{len(ranked) - kept}", style=palette.muted)])
        if some.cell_len <= width:
            return some
    return Text()


def _link_part(view: HostView, palette: Palette, now: float) -> Text:
    part = Text().append(f"{fmt.plain(view.name, 16)} ", style=palette.muted)
    return part.append(_link_sign(view, now), style=link_style(view.link, palette))


def _link_sign(view: HostView, now: float) -> str:
    if view.link is LinkState.RECONNECTING and view.retry_at is not None:
        return f"{view.link.mark}{max(0, round(view.retry_at - now))}s"
    return view.link.mark


def machine_text(reading: MachineReading | None, palette: Palette, width: int) -> Text:
    """As many gauges as fit into `width`: CPU, memory, GPUs, disk."""
    text = Text()
    for part in _parts(reading, palette) if reading else []:
        if text.cell_len + part.cell_len + 2 > width:
            break
        if text:
            text.append("  ")
        text.append_text(part)
    return text


def _parts(reading: MachineReading, palette: Palette) -> list[Text]:
    parts = [_gauge("cpu", reading.host_cpu_pct, palette)]
    if reading.memory_used and reading.memory_total:
        part = _gauge("mem", 100 * reading.memory_used / reading.memory_total, palette)
        part.append(f" of {fmt.size(reading.memory_total)}", style=palette.muted)
        parts.append(part)
    for gpu in reading.gpus[:4]:
        parts.append(_gauge(f"gpu{gpu.index}", gpu.utilization_pct, palette))
    if reading.disk_free is not None:
        low = reading.disk_free < 2 * 1024**3
        parts.append(Text(f"disk {fmt.size(reading.disk_free)} free", style=palette.bad if low else palette.muted))
    return parts


def _gauge(label: str, percent: float | None, palette: Palette) -> Text:
    text = Text(f"{label} ", style=palette.muted)
    if percent is None:
        return text.append(fmt.MISSING)
    sign = GAUGE[min(7, max(0, int(percent / 12.5)))]
    return text.append(f"{sign} {percent:.0f}%", style=palette.warn if percent > 90 else palette.good)
