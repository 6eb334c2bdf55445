"""What a GPU's numbers mean: which brakes are normal, who is on it, how full it is. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from ..engine import format as fmt
from ..engine.hosts import GpuProcess
from ..engine.machine import GpuReading
from ..engine.names import tail
from .palette import Palette

BAD_BRAKES = frozenset({"hardware slowdown", "software thermal", "hardware thermal", "power brake"})
"""Clocks held down by heat or by the power supply: training is slower than it should be."""
USUAL_BRAKES = {
    "idle": "nothing to do",
    "power cap": "usual at full load",
    "application clocks": "clocks were set by somebody",
    "sync boost": "waits for its neighbours",
    "display clocks": "clocks were set by somebody",
}
HOT_C = 85.0
FULL = 0.95
IDLE_PCT = 5.0
IDLE_MEMORY = 0.05
FOREIGN = "foreign"


def short_name(gpu: GpuReading) -> str:
    """`H100 80GB HBM3` of `NVIDIA H100 80GB HBM3`."""
    return fmt.plain((gpu.name or "GPU").removeprefix("NVIDIA ").strip(), 40)


def memory_fraction(gpu: GpuReading) -> float | None:
    """Used memory as part of all, None for not known."""
    return fraction(gpu.memory_used_mib, gpu.memory_total_mib)


def is_idle(gpu: GpuReading) -> bool:
    """Known to do nothing and to hold next to nothing."""
    if gpu.lost or gpu.utilization_pct is None or gpu.utilization_pct > IDLE_PCT:
        return False
    return (memory_fraction(gpu) or 0.0) < IDLE_MEMORY


def fraction(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, None where that makes no sense."""
    return None if part is None or not whole or whole < 0 else part / whole


def brakes(gpu: GpuReading, palette: Palette, *, explain: bool = False) -> Text:
    """Why its clocks are held down: bad reasons first and marked; the others beside them only to `explain`."""
    if gpu.throttle is None:
        return Text(fmt.MISSING, style=palette.muted)
    words = [fmt.plain(word, 30) for word in gpu.throttle[:8]]
    text = Text()
    bad = [word for word in words if word in BAD_BRAKES]
    others = [word for word in words if word not in BAD_BRAKES]
    for word in [*bad, *(others if explain or not bad else [])]:
        if text:
            text.append(", ", style=palette.muted)
        if word in BAD_BRAKES:
            text.append(f"⚠ {word}", style=palette.bad)
        else:
            text.append(word, style=palette.muted)
            if explain and word in USUAL_BRAKES:
                text.append(f" ({USUAL_BRAKES[word]})", style=palette.muted)
    return text


def owners(index: int, processes: Sequence[GpuProcess]) -> tuple[str, ...]:
    """Ids of the runs on a GPU, each once, then `foreign` when somebody else is on it too."""
    here = [process for process in processes if process.gpu == index]
    runs = dict.fromkeys(process.run for process in here if process.run)
    return (*runs, *([FOREIGN] if any(process.run is None for process in here) else []))


def owner_text(names: Sequence[str], palette: Palette) -> Text:
    """`brisk-heron`, or `brisk-heron +1` when others are on it too."""
    if not names:
        return Text("")
    first = names[0]
    words = first if first == FOREIGN else fmt.plain(tail(first), 40)
    text = Text().append(words, style=palette.warn if first == FOREIGN else palette.accent)
    return text.append(f" +{len(names) - 1}", style=palette.warn) if len(names) > 1 else text
