"""One row per GPU: how busy, how full, how hot, what holds it back, whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rich.style import Style
from rich.text import Text

from ..engine import format as fmt
from ..engine.hosts import GpuProcess
from ..engine.machine import GpuReading
from .gpu_words import FULL, HOT_C, brakes, fraction, memory_fraction, owner_text, owners, short_name
from .live_table import Column, LiveTable, Row
from .meter import meter
from .palette import Palette

BAR = 8


class GpuTable(LiveTable):
    """Shows `GpuReading`s; the key of a row is the GPU's index."""

    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("GPU", 3, right=True),
        Column("NAME", 14, rank=6),
        Column("UTILISATION", BAR + 5, rank=0),
        Column("MEMORY", BAR + 11, rank=0),
        Column("TEMP", 7, rank=2, right=True),
        Column("POWER", 5 + 7, rank=4),
        Column("SM MHZ", 6, rank=8, right=True),
        Column("HELD BACK BY", 18, rank=5),
        Column("ECC", 3, rank=7, right=True),
        Column("WHOSE", 0, rank=1, least=13),
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.COLUMNS, id=id)

    def show(self, gpus: Sequence[GpuReading], processes: Sequence[GpuProcess], *, stale: bool) -> None:
        """Replace what is shown; `stale` greys it."""
        palette = Palette.of(self.app)
        longest = max((len(short_name(gpu)) for gpu in gpus), default=0)
        columns = list(self.COLUMNS)
        columns[1] = replace(columns[1], width=min(30, max(14, longest)))
        self.set_columns(columns)
        self.show_rows([_row(gpu, processes, palette, stale) for gpu in gpus])


def _row(gpu: GpuReading, processes: Sequence[GpuProcess], palette: Palette, stale: bool) -> Row:
    quiet = palette.muted if stale else Style()
    errors = gpu.ecc_errors
    return Row(
        gpu.index,
        (
            str(gpu.index),
            Text(short_name(gpu), style=quiet),
            _utilisation(gpu, palette, stale),
            _memory(gpu, palette, stale),
            temperature(gpu, palette, quiet),
            _power(gpu, palette, stale),
            Text("" if gpu.clocks_sm_mhz is None else f"{gpu.clocks_sm_mhz:.0f}", style=quiet),
            Text("reboot needed", style=palette.bad) if gpu.lost else brakes(gpu, palette),
            Text(fmt.MISSING if errors is None else str(errors), style=palette.bad if errors else palette.muted),
            owner_text(owners(gpu.index, processes), palette),
        ),
    )


def temperature(gpu: GpuReading, palette: Palette, quiet: Style) -> Text:
    """`67 °C`, marked when hot."""
    if gpu.temperature_c is None:
        return Text(fmt.MISSING, style=palette.muted)
    hot = gpu.temperature_c >= HOT_C
    return Text(f"{'▲' if hot else ''}{gpu.temperature_c:.0f} °C", style=palette.warn if hot else quiet)


def _utilisation(gpu: GpuReading, palette: Palette, stale: bool) -> Text:
    if gpu.lost:
        return Text("× LOST", style=palette.bad + Style(bold=True))
    percent = gpu.utilization_pct
    text = meter(fraction(percent, 100.0), BAR, palette.muted if stale else palette.good, palette.muted)
    words = f"{fmt.MISSING:>4}" if percent is None else f"{percent:4.0f}%"
    return text.append(words, style=palette.muted if stale else palette.text)


def _memory(gpu: GpuReading, palette: Palette, stale: bool) -> Text:
    if gpu.lost:
        return Text("fell off the bus", style=palette.bad)
    part = memory_fraction(gpu)
    bright = palette.warn if part is not None and part > FULL else palette.primary
    text = meter(part, BAR, palette.muted if stale else bright, palette.muted)
    words = fmt.MISSING
    if gpu.memory_used_mib is not None:
        whole = "" if not gpu.memory_total_mib else f"/{gpu.memory_total_mib / 1024:.0f}"
        words = f"{gpu.memory_used_mib / 1024:.1f}{whole} G"
    return text.append(f" {words}", style=palette.muted if stale else palette.text)


def _power(gpu: GpuReading, palette: Palette, stale: bool) -> Text:
    text = meter(fraction(gpu.power_w, gpu.power_limit_w), 5, palette.muted if stale else palette.accent, palette.muted)
    words = fmt.MISSING if gpu.power_w is None else f"{gpu.power_w:.0f} W"
    return text.append(f" {words}", style=palette.muted if stale else palette.text)
