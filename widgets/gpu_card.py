"""One GPU at length: its numbers with their last two hours, what holds it back, who is on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text
from textual.widget import Widget

from ..engine import format as fmt
from ..engine.hosts import GpuProcess
from ..engine.machine import GpuReading
from ..engine.names import tail
from ..engine.series_view import SeriesView
from .gpu_words import FOREIGN, brakes, fraction, memory_fraction, short_name
from .meter import course, meter
from .palette import Palette

LABEL = 13
METER = 20
WORDS = 19
MOST_PROCESSES = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """What the card shows."""

    gpu: GpuReading
    processes: tuple[GpuProcess, ...]
    history: Mapping[str, SeriesView]
    stale: bool


class GpuCard(Widget):
    """Lines of facts about the selected GPU; what does not fit is left out from below."""

    DEFAULT_CSS = "GpuCard { height: 1fr; padding: 0 1; background: $surface; border-top: solid $panel; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._picture: Picture | None = None

    def show(self, picture: Picture | None) -> None:
        """Another GPU, or news of the same."""
        if picture != self._picture:
            self._picture = picture
            self.refresh()

    def notify_style_update(self) -> None:
        """The colours follow the theme."""
        super().notify_style_update()
        self.refresh()

    def render(self) -> Text:
        """All lines that fit."""
        if self._picture is None:
            return Text("")
        lines = card_lines(self._picture, Palette.of(self.app), max(1, self.content_size.width))
        lines = lines[: max(1, self.content_size.height)]
        for line in lines:
            line.truncate(max(1, self.content_size.width), overflow="ellipsis")
        return Text("\n").join(lines)


def card_lines(picture: Picture, palette: Palette, width: int) -> list[Text]:
    """Title, four measures, clocks, memory errors, owners."""
    gpu = picture.gpu
    title = Text(f"GPU {gpu.index}  ", style=Style(bold=True))
    title.append(short_name(gpu), style=Style(bold=True))
    title.append(f"   {fmt.plain(' · '.join(_identity(gpu)), 120)}", style=palette.muted)
    if gpu.lost:
        words = "It fell off the bus: what ran on it is dead, and only a reboot brings it back. Give the machine back, "
        return [title, Text(f"× {words}or resume its run elsewhere.", style=palette.bad), *_owners(picture, palette)]
    lines = [title, *_measures(picture, palette, width)]
    lines.append(_labelled("held back by", brakes(gpu, palette, explain=True), palette))
    if gpu.throttle == ():
        lines[-1].append("nothing", style=palette.muted)
    lines.append(_labelled("ECC errors", _errors(gpu, palette), palette))
    return lines + _owners(picture, palette)


def _identity(gpu: GpuReading) -> list[str]:
    words = [gpu.pstate or "", "" if gpu.clocks_sm_mhz is None else f"SM {gpu.clocks_sm_mhz:.0f} MHz"]
    words += ["" if gpu.fan_pct is None else f"fan {gpu.fan_pct:.0f}%", gpu.uuid or ""]
    return [word for word in words if word]


def _measures(picture: Picture, palette: Palette, width: int) -> list[Text]:
    gpu, name = picture.gpu, f"gpu{picture.gpu.index}"
    memory_gib = (gpu.memory_total_mib or 0) / 1024
    limit = gpu.power_limit_w or 0
    rows = (
        ("utilisation", fraction(gpu.utilization_pct, 100), _percent(gpu), f"{name} %", 100.0, palette.good),
        ("memory", memory_fraction(gpu), _memory(gpu), f"{name} memory GiB", memory_gib, palette.primary),
        ("temperature", fraction(gpu.temperature_c, 100), _celsius(gpu), f"{name} °C", 100.0, palette.warn),
        ("power", fraction(gpu.power_w, limit), _watts(gpu), f"{name} W", limit, palette.accent),
    )
    lines = []
    for label, part, words, key, top, style in rows:
        bright = palette.muted if picture.stale else style
        line = _labelled(label, meter(part, METER, bright, palette.muted), palette)
        line.append(f"  {words:<{WORDS}}", style=palette.muted if picture.stale else palette.text)
        view = picture.history.get(key)
        room = width - line.cell_len - 2
        if view is not None and room >= 10:
            line.append("  " + course(view.values, room, top), style=bright)
        lines.append(line)
    return lines


def _labelled(label: str, value: Text, palette: Palette) -> Text:
    return Text(f"{label:<{LABEL}}", style=palette.muted).append_text(value)


def _percent(gpu: GpuReading) -> str:
    return "not told (MIG?)" if gpu.utilization_pct is None else f"{gpu.utilization_pct:.0f}%"


def _memory(gpu: GpuReading) -> str:
    if gpu.memory_used_mib is None:
        return fmt.MISSING
    whole = f" of {gpu.memory_total_mib / 1024:.1f}" if gpu.memory_total_mib else ""
    return f"{gpu.memory_used_mib / 1024:.1f}{whole} GiB"


def _celsius(gpu: GpuReading) -> str:
    return fmt.MISSING if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} °C"


def _watts(gpu: GpuReading) -> str:
    if gpu.power_w is None:
        return fmt.MISSING
    return f"{gpu.power_w:.0f}{f' of {gpu.power_limit_w:.0f}' if gpu.power_limit_w else ''} W"


def _errors(gpu: GpuReading, palette: Palette) -> Text:
    if gpu.ecc_errors is None:
        return Text("not told", style=palette.muted)
    if not gpu.ecc_errors:
        return Text("none", style=palette.muted)
    return Text(f"⚠ {gpu.ecc_errors} uncorrected since the driver was loaded", style=palette.bad)


def _owners(picture: Picture, palette: Palette) -> list[Text]:
    here = [process for process in picture.processes if process.gpu == picture.gpu.index]
    if not here:
        words = "nobody that the driver names; inside a container it may hide them"
        return [_labelled("used by", Text(words, style=palette.muted), palette)]
    lines = []
    for number, process in enumerate(here[:MOST_PROCESSES]):
        lines.append(_labelled("" if number else "used by", process_text(process, palette), palette))
    return lines


def process_text(process: GpuProcess, palette: Palette) -> Text:
    """`brisk-heron  pid 4312  70.1 GiB  root  python train.py`."""
    text = Text()
    if process.run:
        text.append(fmt.plain(tail(process.run), 40), style=palette.accent)
    else:
        text.append(FOREIGN, style=palette.warn)
    memory = "" if process.memory_mib is None else f"  {process.memory_mib / 1024:.1f} GiB"
    rest = f"  pid {process.pid}{memory}  {process.user or ''}  {process.name or ''}"
    return text.append(fmt.plain(rest, 200), style=palette.muted)
