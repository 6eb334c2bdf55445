"""Could this machine be destroyed now? The verdict, and of each run what would be lost."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Static

from ..engine import format as fmt
from ..engine.backup.safety import HostSafety, RunSafety
from ..engine.names import tail
from .palette import BOLD, Palette

MOST_RUNS = 60
"""A page is read by a person: of more runs the worst are shown."""


class SafetyPage(VerticalScroll, can_focus=True):
    """A page that scrolls where it is longer than the screen.

    Messages
    --------
    Wanted: its user asks for a new look.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "check", "Check now", id="safety.check", tooltip="Ask the host again what would be lost"),
    ]
    DEFAULT_CSS = """
    SafetyPage { height: 1fr; padding: 0 1; background: $surface; }
    SafetyPage > Static { height: auto; }
    """

    class Wanted(Message):
        """Look again now."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: object = None
        self._args: tuple[str, HostSafety | None, bool] = ("", None, False)

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static("", markup=False)

    def show(self, host: str, safety: HostSafety | None, *, asking: bool) -> None:
        """What is known of a host; None while nobody has looked."""
        self._args = (host, safety, asking and safety is None)
        if self._args != self._shown:
            self._shown = self._args
            self._draw()

    def notify_style_update(self) -> None:
        """The colours follow the theme."""
        super().notify_style_update()
        if self._shown is not None:
            self._draw()

    def _draw(self) -> None:
        host, safety, asking = self._args
        palette = Palette.of(self.app)
        if safety is None:
            words = f"asking {fmt.plain(host, 40)} what would be lost …" if asking else "not looked at yet: c asks"
            self.query_one(Static).update(Text(words, style=palette.muted))
        else:
            self.query_one(Static).update(safety_text(safety, palette))

    def action_check(self) -> None:
        """Look again now."""
        self.post_message(self.Wanted())


def verdict(safety: HostSafety, palette: Palette) -> Text:
    """`✓ safe`, or what would be lost in a few characters: `✗ 14 min`, `✗ 1.2 GiB`, `✗ files`."""
    if safety.safe:
        return Text("✓ safe", style=palette.good)
    if safety.minutes >= 1:
        return Text(f"✗ {short_minutes(safety.minutes)}", style=palette.bad)
    if safety.bytes_outstanding:
        return Text(f"✗ {fmt.size(safety.bytes_outstanding)}", style=palette.bad)
    return Text("✗ files" if safety.uncovered else "✗ unsure", style=palette.bad)


def short_minutes(minutes: float) -> str:
    """`14 min`, `2 h 05`, `3 d`."""
    whole = round(minutes)
    if whole < 60:
        return f"{whole} min"
    return f"{whole // 60} h {whole % 60:02d}" if whole < 48 * 60 else f"{whole // 1440} d"


def safety_text(safety: HostSafety, palette: Palette) -> Text:
    """The whole page."""
    lines = [_headline(safety, palette), *_facts(safety, palette), Text()]
    ordered = sorted(safety.runs, key=lambda run: (run.safe, -run.minutes, -run.bytes_outstanding))
    for run in ordered[:MOST_RUNS]:
        lines += _run(run, palette)
    if len(ordered) > MOST_RUNS:
        safe = "safe runs" if ordered[MOST_RUNS].safe else "runs"
        lines.append(Text(f"and {len(ordered) - MOST_RUNS} more {safe}", style=palette.muted))
    if not ordered:
        lines.append(Text("no run that is known here is on it", style=palette.muted))
    lines += [Text(f"· {fmt.plain(note, 300)}", style=palette.muted) for note in safety.notes]
    return Text("\n").join(lines)


def _headline(safety: HostSafety, palette: Palette) -> Text:
    if safety.safe:
        return Text().append("✓ safe to destroy", style=palette.good + BOLD).append(": nothing would be lost")
    text = Text().append("✗ NOT safe to destroy", style=palette.bad + BOLD)
    lost = []
    if safety.minutes:
        lost.append(f"{short_minutes(safety.minutes)} of training")
    if safety.bytes_outstanding:
        lost.append(f"{fmt.size(safety.bytes_outstanding)} that are not here")
    if safety.uncovered:
        lost.append("1 file" if len(safety.uncovered) == 1 else f"{len(safety.uncovered)} files")
    return text.append(f": {', '.join(lost)} would be lost" if lost else ": see below")


def _facts(safety: HostSafety, palette: Palette) -> list[Text]:
    parts = []
    if safety.price_per_hour is not None:
        parts.append(f"{fmt.money(safety.price_per_hour)} per hour")
    if safety.spent is not None:
        parts.append(f"{fmt.money(safety.spent)} spent on its runs")
    if safety.idle_gpu_minutes is not None:
        idle = safety.idle_gpu_minutes
        parts.append("its GPUs are busy" if not idle else f"its GPUs are idle for {short_minutes(idle)}")
        if idle and safety.price_per_hour:
            parts.append(f"{fmt.money(idle / 60 * safety.price_per_hour)} for nothing")
    return [Text(" · ".join(parts), style=palette.muted)] if parts else []


def _run(run: RunSafety, palette: Palette) -> list[Text]:
    text = Text().append("✓ " if run.safe else "✗ ", style=palette.good if run.safe else palette.bad)
    text.append(fmt.plain(tail(run.id), 60), style=BOLD)
    if run.verified_step is None:
        held = "no verified checkpoint"
    else:
        age = "" if run.age_s is None else f", {short_minutes(run.age_s / 60)} old"
        held = f"verified to step {fmt.count(run.verified_step)}{age}"
    newest = "" if run.newest_step is None else f" · newest step {fmt.count(run.newest_step)}"
    size = f" · {fmt.size(run.bytes_outstanding)} not here" if run.bytes_outstanding else ""
    text.append(f"  {held}{newest}{size}", style=palette.muted)
    return [text, *(Text(f"    {fmt.plain(reason, 400)}") for reason in run.reasons)]
